"""Linear models beside scikit-learn: least squares, ridge, lasso and logistic regression, two threads each, in turns. `python -m bench.linear [--quick] [--again CASE ...]`.

Writes bench/results/linear.json: seconds of the fastest run (other programs can only slow a run down), the ratio theirs / ours (over 1: ours is faster), the largest difference of
the coefficients (of logistic regression: of the probabilities), and the load. Matrix
libraries whose threads wait for each other suffer most from a busy machine: `--again` measures cases once more and keeps the faster time of each side. scikit-learn runs with its defaults; where it has a faster solver that we know of, that is a case of its own.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn
import sklearn.linear_model as theirs
from threadpoolctl import threadpool_limits

from dlagg.course.home import writing
from dlagg.mining import Lasso, LinearRegression, LogisticRegression, Ridge

RESULTS = Path(__file__).parent / "results" / "linear.json"
CASES = {
    "least squares": (LinearRegression(), theirs.LinearRegression()),
    "ridge": (Ridge(), theirs.Ridge()),
    "lasso": (Lasso(0.1), theirs.Lasso(0.1)),
    "lasso, both tol 1e-8": (Lasso(0.1), theirs.Lasso(0.1, tol=1e-8)),
    "lasso, precomputed by theirs": (Lasso(0.1), theirs.Lasso(0.1, precompute=True)),
    "logistic": (LogisticRegression(), theirs.LogisticRegression()),
    "logistic, newton-cholesky": (LogisticRegression(), theirs.LogisticRegression(solver="newton-cholesky")),
    "logistic, no penalty": (LogisticRegression(C=np.inf), theirs.LogisticRegression(C=np.inf)),
}
COLD = """
import time; start = time.perf_counter()
import numpy as np
from dlagg.mining import {0}
{0}().fit(np.random.default_rng(0).normal(size=(100, 2)), np.arange(100) % 2)
print(time.perf_counter() - start)
"""


def data(n, d):
    "A table with columns that correlate, a target with half its columns in it, and a class made of the same."
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + rng.normal(size=(n, 1))
    score = X[:, ::2] @ rng.normal(size=len(range(0, d, 2)))
    return X, score + rng.normal(scale=score.std(), size=n), (score / score.std() + rng.logistic(size=n) > 0).astype(int)


def race(name, X, y, repeat):
    "Time both on one case, in turns."
    models, seconds = dict(zip(("ours", "scikit-learn"), CASES[name])), {"ours": [], "scikit-learn": []}
    for turn in range(repeat + 1):
        for who, model in models.items():
            start = time.perf_counter()
            model.fit(X, y)
            if turn:    # the first compiles and fills caches
                seconds[who].append(time.perf_counter() - start)
    ours, other = models.values()
    got = [m.predict_proba(X[:10_000]) if hasattr(m, "predict_proba") else m.coef_ for m in (ours, other)]
    best = {who: min(times) for who, times in seconds.items()}
    return {"case": name, "rows": X.shape[0], "columns": X.shape[1], "threads": 2, "measured": 1, "seconds": best, "ratio": best["scikit-learn"] / best["ours"],
            "difference": float(np.abs(got[0] - got[1]).max())}


def cold(name):
    "Seconds of a first fit in a fresh process, imports included, compiled code read from its cache."
    runs = [float(subprocess.run([sys.executable, "-c", COLD.format(name)], check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    return min(runs[1:])


def keep_faster(results):
    "Merge new results of some cases into the file."
    record = json.loads(RESULTS.read_text())
    for new in results:
        old = next(r for r in record["cases"] if r["case"] == new["case"])
        old["seconds"] = {who: min(seconds, new["seconds"][who]) for who, seconds in old["seconds"].items()}
        old["ratio"] = old["seconds"]["scikit-learn"] / old["seconds"]["ours"]
        old["measured"] += 1
    with writing(RESULTS) as draft:
        draft.write_text(json.dumps(record, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, and nothing written")
    parser.add_argument("--again", nargs="+", choices=CASES, metavar="CASE", help="only these cases, at full size; the faster of the old and new time of each side is kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    X, y, label = data(50_000 if args.quick else 1_000_000, 20)
    results = []
    with threadpool_limits(2):
        for name in args.again or CASES:
            r = race(name, X, label if "logistic" in name else y, 3)
            results.append(r)
            print(f"{name:30s} {r['rows']:>8} x {r['columns']}: ours {r['seconds']['ours']:.3f} s, scikit-learn {r['seconds']['scikit-learn']:.3f} s, "
                  f"ratio {r['ratio']:.2f}, difference {r['difference']:.0e}", flush=True)
    if args.again:
        return keep_faster(results)
    first = {name: cold(name) for name in ("LinearRegression", "Ridge", "Lasso", "LogisticRegression")}
    print("first fit in a fresh process, imports included:", {name: round(seconds, 2) for name, seconds in first.items()})
    if not args.quick:
        record = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
                  "numpy": np.__version__, "scikit-learn": sklearn.__version__, "first_fit_seconds": first, "cases": results}
        with writing(RESULTS) as draft:
            draft.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
