"""K-means beside scikit-learn (Lloyd and Elkan) and faiss: the same rounds from the same start, one and two threads each, in turns. `python -m bench.kmeans [--quick]`.

Writes bench/results/kmeans.json: seconds of the fastest run (other programs can only slow a run down; on a busy machine, scikit-learn's two threads wait for each other
actively and suffer more), the ratios theirs / ours (over 1: ours is faster), how far the inertias differ, how time and memory grow, and the first call of a process.
faiss works in float32 only, and stands beside our float32. What is not installed is left out and named.
"""
import argparse
import time
import warnings

import numpy as np
import sklearn.cluster
import sklearn.mixture
from scipy.sparse import random_array
from threadpoolctl import threadpool_limits

from bench._race import cold, growth, race, ratios, record, write
from dlagg.mining import GaussianMixture, KMeans, MiniBatchKMeans

try:
    import faiss
except ImportError:
    faiss = None

CASES = [    # rows, columns, clusters, rounds, type, timed turns
    (200_000, 16, 32, 20, "float64", 8), (200_000, 2, 4, 20, "float64", 8), (2000, 9, 4, 20, "float64", 8), (1_000_000, 32, 100, 20, "float64", 3),
    (200_000, 16, 32, 20, "float32", 8), (20_000, 64, 10, 20, "float64", 8), (5000, 784, 10, 20, "float64", 8), (1_000_000, 32, 100, 20, "float32", 3),
]
SETUP = """
import warnings; warnings.simplefilter('ignore')
import numpy as np
from dlagg.mining import KMeans
rng = np.random.default_rng(0)
X = rng.normal(size=(n, 16)) + rng.normal(scale=1.5, size=(32, 16))[rng.integers(32, size=n)]
model = KMeans(32, init=X[:32], max_iter=20, tol=0, algorithm='{}').fit(X[:2000])
"""


def data(n, d, k, dtype):
    "Overlapping groups, so that the rounds do not end early."
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, d)) + rng.normal(scale=1.5, size=(k, d))[rng.integers(k, size=n)]).astype(dtype)


def with_faiss(X, k, rounds):
    "faiss from the first k rows, on all rows (it takes a sample unless told not to): a function that returns the fitted model."
    def run():
        model = faiss.Kmeans(X.shape[1], k, niter=rounds, nredo=1, max_points_per_centroid=len(X), min_points_per_centroid=1, gpu=False)
        model.train(X, init_centroids=X[:k])
        return model
    return run


def contestants(X, k, rounds):
    "Functions that run the rounds and return the fitted model."
    start = {"init": X[:k], "max_iter": rounds, "tol": 0}
    runs = {"ours": KMeans(k, **start), "ours, lloyd": KMeans(k, algorithm="lloyd", **start),
            "scikit-learn lloyd": sklearn.cluster.KMeans(k, n_init=1, algorithm="lloyd", **start), "scikit-learn elkan": sklearn.cluster.KMeans(k, n_init=1, algorithm="elkan", **start)}
    runs = {who: (lambda model=model: model.fit(X)) for who, model in runs.items()}
    if faiss and X.dtype == np.float32:
        runs["faiss"] = with_faiss(X, k, rounds)
    return runs


def clocked(run, spent):
    "`run`, which also keeps the least processor time that it took: what other programs do not change."
    def timed():
        begin = time.process_time()
        answer = run()
        spent.append(time.process_time() - begin)
        return answer
    return timed


def measure(case, threads, turns):
    "One case: seconds (by the clock, and of the processor), ratios, and how far the inertias are from ours."
    n, d, k, rounds, dtype = case
    X = data(n, d, k, dtype)
    with threadpool_limits(threads):
        if faiss:
            faiss.omp_set_num_threads(threads)
        runs = contestants(X, k, rounds)
        spent = {who: [] for who in runs}
        seconds, models = race({who: clocked(run, spent[who]) for who, run in runs.items()}, turns)
    J = {who: exact_inertia(X, m.centroids if hasattr(m, "centroids") else m.cluster_centers_) for who, m in models.items()}
    every = ratios(seconds)
    return {"rows": n, "columns": d, "clusters": k, "rounds": models["ours"].n_iter_, "dtype": dtype, "threads": threads, "seconds": seconds, "processor_seconds": {who: min(times) for who, times in spent.items()},
            "ratio": every["scikit-learn lloyd"], "ratios": every, "inertia_difference": max(abs(value / J["ours"] - 1) for value in J.values())}


def exact_inertia(X, centers):
    "Sum of squared distances to the nearest centre, in float64, in blocks."
    centers = np.asarray(centers, np.float64)
    total = 0.0
    for lo in range(0, len(X), 20_000):
        rows = X[lo:lo + 20_000].astype(np.float64)
        squared = (rows**2).sum(axis=1)[:, None] - 2 * rows @ centers.T + (centers**2).sum(axis=1)
        total += squared.min(axis=1).sum()
    return total


def relatives(n, turns):
    "Sparse rows, small batches, mixtures: seconds of ours and scikit-learn's from the same start, one thread each."
    found = {}
    words = random_array((n, 5000), density=0.005, rng=np.random.default_rng(0), format="csr")
    words.indices, words.indptr = words.indices.astype(np.int32), words.indptr.astype(np.int32)    # scikit-learn takes no others
    start = {"init": words[:20].toarray(), "n_init": 1, "max_iter": 10, "tol": 0}
    found["sparse rows, n x 5000, k 20"] = {"ours": KMeans(20, **start), "scikit-learn": sklearn.cluster.KMeans(20, algorithm="lloyd", **start)}, words
    X = data(5 * n, 16, 32, "float64")
    batch = {"init": X[:32], "n_init": 1, "max_iter": 3, "max_no_improvement": None, "random_state": 0}
    found["mini-batches, 5n x 16, k 32, 3 passes"] = {"ours": MiniBatchKMeans(32, **batch), "scikit-learn": sklearn.cluster.MiniBatchKMeans(32, **batch)}, X
    given = {"means_init": X[:8], "weights_init": np.full(8, 1 / 8), "precisions_init": np.stack([np.eye(16)] * 8), "max_iter": 10, "tol": 0}
    found["Gaussian mixture, 5n x 16, 8 full components, 10 rounds"] = {"ours": GaussianMixture(8, **given), "scikit-learn": sklearn.mixture.GaussianMixture(8, **given)}, X
    result = {}
    for name, (models, table) in found.items():
        with threadpool_limits(1):
            seconds, _ = race({who: (lambda model=model, table=table: model.fit(table)) for who, model in models.items()}, turns)
        result[name] = {"n": n, "threads": 1, "seconds": seconds, "ratio": ratios(seconds)}
    return result


def say(r):
    "One case in two lines."
    def line(numbers, form):
        return ", ".join(f"{who} {x:{form}}" for who, x in numbers.items())
    print(f"{r['rows']:>7} x {r['columns']:<3} k {r['clusters']:<3} {r['dtype']}, threads {r['threads']}: {line(r['seconds'], '.4f')} s; of the processor {line(r['processor_seconds'], '.4f')} s\n"
          f"{'':12}ratios {line(r['ratios'], '.2f')}; inertia within {r['inertia_difference']:.0e}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, and nothing written")
    parser.add_argument("--turns", type=int, help="timed runs of each case, instead of each case's own number")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no further case after so many; what is left out is named in the result")
    args, begin = parser.parse_args(), time.perf_counter()
    warnings.simplefilter("ignore")    # rounds are cut short on purpose
    result = record("scikit-learn", "faiss-cpu")
    result["cases"], result["left_out"] = [], []
    for n, *rest, turns in CASES:
        if time.perf_counter() - begin > 60 * args.minutes:
            result["left_out"].append([n, *rest])
            continue
        for threads in (1, 2):
            result["cases"].append(measure((max(500, n // 20) if args.quick else n, *rest), threads, 1 if args.quick else args.turns or turns))
            say(result["cases"][-1])
    result["relatives"] = relatives(2000 if args.quick else 20_000, 1 if args.quick else args.turns or 5)
    for name, r in result["relatives"].items():
        print(f"{name}: " + ", ".join(f"{who} {s:.4f} s" for who, s in r["seconds"].items()) + f", ratio {r['ratio']['scikit-learn']:.2f}", flush=True)
    sizes = [2500, 10_000, 40_000] if args.quick else [25_000, 100_000, 400_000]
    result["growth"] = {name: growth(SETUP.format(name), "model.fit(X)", sizes) for name in ("lloyd", "hamerly")}
    for name, r in result["growth"].items():
        print(f"growth of {name}: time n^{r['exponent_of_time']:.2f}, memory n^{r['exponent_of_memory'] or 0:.2f}", flush=True)
    result["cold"] = {name: cold("import numpy as np\nfrom dlagg.mining import KMeans\nX = np.random.default_rng(0).normal(size=(6000, 16))", f"KMeans(40, random_state=0, max_iter=5, algorithm='{name}').fit(X)")
                      for name in ("lloyd", "hamerly")}
    result["first_fit_seconds"] = result["cold"]["lloyd"]["whole_cached"]
    for name, r in result["cold"].items():
        print(f"first call of a process, {name}: {r['whole_compiling']:.2f} s compiling, {r['whole_cached']:.2f} s with its cache")
    if not args.quick:
        write("kmeans", result)


if __name__ == "__main__":
    main()
