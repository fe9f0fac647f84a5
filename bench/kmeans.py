"""K-means beside scikit-learn: Lloyd's rounds from the same start, one and two threads each, in turns. `python -m bench.kmeans [--quick]`.

Writes bench/results/kmeans.json: seconds of the fastest run (other programs can only slow a run down; on a busy machine, scikit-learn's two
threads wait for each other actively and suffer more), the ratio theirs / ours (over 1: ours is faster), how far the inertias differ, and the load.
"""
import argparse
import itertools
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
import sklearn.cluster
from threadpoolctl import threadpool_limits

from dlagg.course.home import writing
from dlagg.mining import KMeans

RESULTS = Path(__file__).parent / "results" / "kmeans.json"
CASES = [    # rows, columns, clusters, rounds, type
    (200_000, 16, 32, 20, "float64"), (200_000, 16, 32, 20, "float32"), (200_000, 2, 4, 20, "float64"), (2000, 9, 4, 20, "float64"),
    (20_000, 64, 10, 20, "float64"), (100_000, 32, 100, 20, "float64"), (5000, 784, 10, 20, "float64"),
]
COLD = """
import time; start = time.perf_counter()
import numpy as np
from dlagg.mining import KMeans
KMeans(3, random_state=0).fit(np.random.default_rng(0).normal(size=(100, 2)))
print(time.perf_counter() - start)
"""


def data(n, d, k, dtype):
    "Overlapping groups, so that the rounds do not end early."
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) + rng.normal(scale=1.5, size=(k, d))[rng.integers(k, size=n)]).astype(dtype)


def race(case, repeat, threads):
    "Time both on one case, in turns."
    n, d, k, rounds, dtype = case
    X = data(n, d, k, dtype)
    models = {"ours": KMeans(k, init=X[:k], max_iter=rounds, tol=0),
              "scikit-learn": sklearn.cluster.KMeans(k, init=X[:k], n_init=1, max_iter=rounds, tol=0, algorithm="lloyd")}
    seconds = {name: [] for name in models}
    with threadpool_limits(threads):
        for turn in range(repeat + 1):
            for name, model in models.items():
                start = time.perf_counter()
                model.fit(X)
                if turn:    # the first compiles and fills caches
                    seconds[name].append(time.perf_counter() - start)
    ours, theirs = models.values()
    best = {name: min(times) for name, times in seconds.items()}
    return {"rows": n, "columns": d, "clusters": k, "dtype": dtype, "threads": threads, "rounds": [ours.n_iter_, theirs.n_iter_], "seconds": best,
            "ratio": best["scikit-learn"] / best["ours"], "inertia_difference": abs(ours.inertia_ / theirs.inertia_ - 1)}


def cold():
    "Seconds of a first fit in a fresh process, imports included, the compiled code read from its cache."
    runs = [float(subprocess.run([sys.executable, "-c", COLD], check=True, capture_output=True, text=True).stdout) for _ in range(2)]
    return runs[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and nothing written")
    args = parser.parse_args()
    warnings.simplefilter("ignore")    # rounds are cut short on purpose
    cases = [(max(500, n // 10) if args.quick else n, *rest) for n, *rest in CASES]
    results = []
    for case, threads in itertools.product(cases, (1, 2)):
        results.append(race(case, 3 if args.quick else 10, threads))
        r = results[-1]
        print(f"{r['rows']:>7} x {r['columns']:<3} k {r['clusters']:<3} {r['dtype']} threads {r['threads']}: ours {r['seconds']['ours']:.4f} s, scikit-learn "
              f"{r['seconds']['scikit-learn']:.4f} s, ratio {r['ratio']:.2f}, inertia within {r['inertia_difference']:.0e}", flush=True)
    first = cold()
    print(f"first fit in a fresh process, imports included: {first:.2f} s")
    if not args.quick:
        record = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "numpy": np.__version__, "scikit-learn": sklearn.__version__,
                  "first_fit_seconds": first, "cases": results}
        with writing(RESULTS) as draft:
            draft.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
