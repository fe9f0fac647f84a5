"""Write the exercise cells of the lessons from their TOML files: `make exercises`; `--check` only says which are out of date."""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))    # this checkout's dlagg, wherever the command is called from

from dlagg.course.exercises_cells import refresh_exercises    # noqa: E402
from dlagg.course.exercises_source import ExerciseError, exercise_files    # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="lessons (.ipynb or .exercises.toml); all of them where none is named")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a lesson is out of date")
    args = parser.parse_args()
    stale = []
    for path in args.paths or exercise_files(ROOT / "nbs"):
        try:
            if refresh_exercises(path, write=not args.check):
                stale.append(path)
                print(f"{path}: {'out of date' if args.check else 'exercise cells written'}")
        except ExerciseError as error:
            sys.exit(f"{path}: {error}")
    if args.check and stale:
        sys.exit("run `make exercises`, then `make notebooks`")


if __name__ == "__main__":
    main()
