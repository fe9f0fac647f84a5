"""What the measurements of `dlagg.mining` share: contestants in turns, first calls in fresh processes, growth at n, 4n, 16n, and one form of result file."""
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from dlagg.course.home import writing

RESULTS = Path(__file__).parent / "results"


def race(runs, turns=3):
    """Run contestants in turns: `({who: seconds}, {who: what its last run returned})`.

    `runs` maps a name to a function without arguments. The first round compiles and fills caches, and is not timed; of the others the fastest counts, because other
    programs can only slow a run down.
    """
    seconds, answers = {}, {}
    for turn in range(turns + 1):
        for who, run in runs.items():
            start = time.perf_counter()
            answers[who] = run()
            took = time.perf_counter() - start
            if turn:
                seconds[who] = min(took, seconds.get(who, np.inf))
    return seconds, answers


def ratios(seconds, ours="ours"):
    "Theirs / ours of every other contestant: over 1, ours is faster."
    return {who: took / seconds[ours] for who, took in seconds.items() if who != ours}


def cold(imports, call):
    """Seconds of a first import and a first call in a fresh process: with an empty cache of compiled code, and with a warm one."""
    code = f"import time; start = time.perf_counter()\n{imports}\nready = time.perf_counter()\n{call}\nprint(ready - start, time.perf_counter() - ready)"
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "NUMBA_CACHE_DIR": folder}
        runs = [[float(x) for x in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.split()[-2:]] for _ in range(4)]
    best = min(runs[1:], key=sum)
    return {"import": best[0], "first_call_compiling": runs[0][1], "first_call_cached": best[1], "whole_compiling": sum(runs[0]), "whole_cached": sum(best)}


def held(what):
    "Bytes of this process now (`VmRSS`) or at most so far (`VmHWM`)."
    return int(re.search(what + r":\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def growth(setup, call, sizes):
    """Seconds and extra resident bytes of `call` at each size (n, 4n, 16n), each in a fresh process, and the exponents between the ends.

    `setup` is code that may use `n`, and should make one small call, so that compiling is not measured; `call` is the code that is.
    """
    code = (f"import sys, time; from pathlib import Path; from bench._race import held; n = int(sys.argv[1])\n{setup}\n"
            "Path('/proc/self/clear_refs').write_text('5'); before = held('VmRSS'); times = []\n"    # 5: the most so far begins again
            f"for _ in range(3):\n    start = time.perf_counter()\n    {call}\n    times.append(time.perf_counter() - start)\n"
            "print(min(times), held('VmHWM') - before)")
    rows = [[float(x) for x in subprocess.run([sys.executable, "-c", code, str(n)], capture_output=True, text=True, check=True).stdout.split()[-2:]] for n in sizes]
    steps = np.log(sizes[-1] / sizes[0])
    exponents = [float(np.log(max(last, 1e-12) / max(first, 1e-12)) / steps) for first, last in zip(rows[0], rows[-1])]
    return {"sizes": list(sizes), "seconds": [r[0] for r in rows], "extra_bytes": [r[1] for r in rows], "exponent_of_time": exponents[0], "exponent_of_memory": exponents[1] if rows[0][1] > 0 else None}


def record(*peers, **more):
    "The head of a result file: date, machine, load, versions of the peers (None: not installed)."
    found = {}
    for name in peers:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "numpy": np.__version__, **found, **more}


def write(name, result):
    "bench/results/NAME.json, whole or not at all."
    with writing(RESULTS / f"{name}.json") as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n")
