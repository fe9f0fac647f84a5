"""Every measurement against peers: `make bench`, or `python -m bench kmeans`. Each writes bench/results/NAME.json."""
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(p.stem for p in HERE.glob("[a-z]*.py"))

if __name__ == "__main__":
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")] or NAMES
    if unknown := set(wanted) - set(NAMES):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    for name in wanted:    # one process each: no benchmark warms another's caches
        subprocess.run([sys.executable, "-m", f"bench.{name}", *(a for a in sys.argv[1:] if a.startswith("-"))], check=True, cwd=HERE.parent)
    print("The page of numbers shows them after: make notebooks NB=nbs/numbers.ipynb")
