"""Support vector machines beside scikit-learn (libsvm): the same objective, tolerance and cache, in turns. `python -m bench.svm [--quick]`.

Writes bench/results/svm.json: seconds of the fastest run (other programs can only slow a run down), the ratio theirs / ours (over 1: ours is faster), the dual objectives of both from their
own coefficients and exact kernel values, support vectors in one but not both, first calls in a fresh process, growth at n, 4n, 16n, and the load. libsvm uses one thread; ours may use two.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import sklearn.svm
from sklearn.datasets import make_classification
from threadpoolctl import threadpool_limits

from bench._race import RESULTS, cold, growth, race, ratios, record, write
from dlagg.mining import SVC, SVR
from dlagg.mining.svm_kernels import Kernel, weighted_kernel

CASES = {    # name: (rows, columns, classes, share of labels flipped, parameters)
    "rbf 10k x 20": (10_000, 20, 2, 0.05, {}),
    "rbf 10k x 20, noisy": (10_000, 20, 2, 0.3, {}),
    "rbf 10k x 20, C 30": (10_000, 20, 2, 0.05, {"C": 30.0}),
    "rbf 2k x 100": (2_000, 100, 2, 0.05, {}),
    "linear 5k x 20": (5_000, 20, 2, 0.05, {"kernel": "linear"}),
    "poly 5k x 20": (5_000, 20, 2, 0.05, {"kernel": "poly", "coef0": 1.0}),
    "rbf 6k x 20, 6 classes": (6_000, 20, 6, 0.05, {}),
    "regression 5k x 20": (5_000, 20, 0, 0.0, {"C": 10.0}),
}


def data(n, d, K, flip):
    "A scaled table and its classes, or a target for K = 0."
    X, y = make_classification(n, d, n_informative=d // 2, n_classes=max(K, 2), flip_y=flip, random_state=0)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    return (X, y) if K else (X, np.sin(X[:, 0]) + X[:, 1] * X[:, 2] + np.random.default_rng(0).normal(scale=0.3, size=n))


def dual(model, X, y, gamma):
    "The dual value of a fit of two classes or of a target, from exact kernel values."
    beta, rows = model.dual_coef_[0], X[model.support_]
    square = beta @ weighted_kernel(Kernel(model.kernel, gamma, model.coef0, model.degree), rows, rows, beta[:, None])[:, 0]
    gain = np.abs(beta).sum() if hasattr(model, "classes_") else y[model.support_] @ beta - model.epsilon * np.abs(beta).sum()
    return float(square / 2 - gain)


def case(name, n, d, K, flip, options, turns):
    X, y = data(n, d, K, flip)
    ours, theirs = (SVC, sklearn.svm.SVC) if K else (SVR, sklearn.svm.SVR)
    fits = {"ours": lambda: ours(**options).fit(X, y), "scikit-learn": lambda: theirs(**options).fit(X, y)}
    seconds, models = race(fits, turns)
    predict, answers = race({who: lambda model=model: model.predict(X) for who, model in models.items()}, 1)
    result = {"case": name, "seconds": seconds, "ratio": ratios(seconds)["scikit-learn"], "steps": {who: int(np.sum(m.n_iter_)) for who, m in models.items()},
              "support_vectors": {who: len(m.support_) for who, m in models.items()}, "only_in_one": len(set(models["ours"].support_) ^ set(models["scikit-learn"].support_)),
              "predict_seconds": predict, "predict_ratio": ratios(predict)["scikit-learn"], "predictions_that_differ": float(np.mean(np.abs(answers["ours"] - answers["scikit-learn"]) > 1e-2))}
    if K < 3:
        result["objective"] = {who: dual(m, X, y, models["ours"].gamma_) for who, m in models.items()}
    return result


def first_calls():
    "Seconds of a first fit and prediction in a fresh process; and seconds of the processor, compiling, which a busy machine stretches less."
    imports = "import numpy as np\nfrom dlagg.mining import SVC\nr = np.random.default_rng(0); X, y = r.normal(size=(200, 5)), np.arange(200) % 2"
    result = cold(imports, "SVC().fit(X, y).predict(X)")
    code = imports + "\nimport time; start = time.process_time(); SVC().fit(X, y).predict(X); print(time.process_time() - start)"
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder})
    return {**result, "processor_seconds_compiling": float(run.stdout), "load": os.getloadavg()[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the rows, one turn, and nothing written")
    parser.add_argument("--cold", action="store_true", help="only the first calls again, written into the last results")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.cold:
        return write("svm", {**json.loads((RESULTS / "svm.json").read_text()), "cold": first_calls()})
    cases = []
    with threadpool_limits(2):
        for name, (n, *rest) in CASES.items():
            r = case(name, n // 5 if args.quick else n, *rest, 1 if args.quick else 3)
            cases.append(r)
            print(f"{name:24s} fit: ours {r['seconds']['ours']:.3f} s, scikit-learn {r['seconds']['scikit-learn']:.3f} s, ratio {r['ratio']:.2f}; predict ratio {r['predict_ratio']:.1f}; "
                  f"support vectors {r['support_vectors']['ours']}, in one only {r['only_in_one']}; objectives {[round(v, 4) for v in r.get('objective', {}).values()]}", flush=True)
    first = first_calls()
    print("first fit and prediction in a fresh process:", {k: round(v, 2) for k, v in first.items()}, flush=True)
    setup = "from bench.svm import data; from dlagg.mining import SVC; X, y = data(100, 20, 2, 0.05); SVC().fit(X, y); X, y = data(n, 20, 2, 0.05)"
    grown = growth(setup, "SVC().fit(X, y)", (200, 800, 3200) if args.quick else (1000, 4000, 16_000))
    print("growth:", grown)
    if not args.quick:
        write("svm", record("scikit-learn", threads=2, cases=cases, cold=first, growth=grown))


if __name__ == "__main__":
    main()
