"""Linear models beside scikit-learn: least squares, ridge, lasso, elastic net and logistic regression, dense and sparse, two threads each, in turns. `python -m bench.linear [--quick] [--again PART ...]`.

Writes bench/results/linear.json: seconds of the fastest run (other programs can only slow a run down), the ratio theirs / ours (over 1: ours is faster), the largest difference of
the coefficients (of logistic regression: of the probabilities), the load, time and memory at n, 4n, 16n rows, and first calls in fresh processes. Matrix
libraries whose threads wait for each other suffer most from a busy machine: `--again` measures cases once more and keeps the faster time of each side. scikit-learn runs with its defaults; where it has a faster solver that we know of, or stops at a rougher answer, that is a case of its own.
"""
import argparse
import json
import os
import warnings

import numpy as np
import sklearn.linear_model as theirs
from scipy import sparse
from threadpoolctl import threadpool_limits

from bench._race import RESULTS, cold, growth, race, ratios, record, write
from dlagg.mining import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge

CASES = {
    "least squares": (LinearRegression(), theirs.LinearRegression()),
    "ridge": (Ridge(), theirs.Ridge()),
    "lasso": (Lasso(0.1), theirs.Lasso(0.1)),
    "lasso, both tol 1e-8": (Lasso(0.1), theirs.Lasso(0.1, tol=1e-8)),
    "lasso, precomputed by theirs": (Lasso(0.1), theirs.Lasso(0.1, precompute=True)),
    "elastic net, both tol 1e-8": (ElasticNet(0.1), theirs.ElasticNet(0.1, tol=1e-8)),
    "logistic": (LogisticRegression(), theirs.LogisticRegression()),
    "logistic, newton-cholesky": (LogisticRegression(), theirs.LogisticRegression(solver="newton-cholesky")),
    "logistic, no penalty": (LogisticRegression(C=np.inf), theirs.LogisticRegression(C=np.inf)),
    "sparse least squares": (LinearRegression(), theirs.LinearRegression()),
    "sparse ridge": (Ridge(), theirs.Ridge()),
    "sparse ridge, both to 1e-10": (Ridge(), theirs.Ridge(tol=1e-10)),
    "sparse lasso, both tol 1e-8": (Lasso(1e-4), theirs.Lasso(1e-4, tol=1e-8)),
    "sparse logistic": (LogisticRegression(), theirs.LogisticRegression(max_iter=1000)),
    "sparse logistic, both to 1e-8": (LogisticRegression(), theirs.LogisticRegression(tol=1e-8, max_iter=10_000)),
    "very wide sparse ridge": (Ridge(), theirs.Ridge()),
    "very wide sparse ridge, both to 1e-10": (Ridge(), theirs.Ridge(tol=1e-10)),
    "very wide sparse lasso, both tol 1e-8": (Lasso(1e-4), theirs.Lasso(1e-4, tol=1e-8)),
    "very wide sparse logistic": (LogisticRegression(), theirs.LogisticRegression(max_iter=1000)),
    "very wide sparse logistic, both to 1e-8": (LogisticRegression(), theirs.LogisticRegression(tol=1e-8, max_iter=10_000)),
}
MODELS = ("LinearRegression", "Ridge", "Lasso", "ElasticNet", "LogisticRegression")
DATA = "import numpy as np; X = np.random.default_rng(0).normal(size=(100, 2)); y = np.arange(100) % 2"


def data(n, d):
    "A table with columns that correlate, a target with half its columns in it, and a class made of the same."
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + rng.normal(size=(n, 1))
    return X, *targets(X[:, ::2] @ rng.normal(size=len(range(0, d, 2))), rng)


def thin(n, d, each):
    "A sparse table with about `each` entries a row, and targets made of a tenth of its columns."
    rng = np.random.default_rng(0)
    X = sparse.random_array((n, d), density=each / d, format="csr", rng=rng)
    return X, *targets(X @ (rng.normal(size=d) * (rng.random(d) < 0.1)), rng)


def targets(score, rng):
    n = len(score)
    return score + rng.normal(scale=score.std(), size=n), (score / score.std() + rng.logistic(size=n) > 0).astype(int)


def case(name, X, y, turns):
    "Time both on one case."
    ours, other = CASES[name]
    seconds, fitted = race({"ours": lambda: ours.fit(X, y), "scikit-learn": lambda: other.fit(X, y)}, turns)
    got = [m.predict_proba(X[:10_000]) if hasattr(m, "predict_proba") else m.coef_ for m in fitted.values()]
    return {"case": name, "rows": X.shape[0], "columns": X.shape[1], "threads": 2, "measured": 1, "load": round(os.getloadavg()[0], 1), "seconds": seconds,
            "ratio": ratios(seconds)["scikit-learn"], "difference": float(np.abs(got[0] - got[1]).max())}


def keep_faster(results, more):
    "Merge new results into the file."
    kept = {**json.loads((RESULTS / "linear.json").read_text()), **more}
    for new in results:
        old = next((r for r in kept["cases"] if r["case"] == new["case"]), None)
        if old is None:
            kept["cases"].append(new)
            continue
        old["seconds"] = {who: min(seconds, new["seconds"][who]) for who, seconds in old["seconds"].items()}
        old["ratio"] = old["seconds"]["scikit-learn"] / old["seconds"]["ours"]
        old["measured"] += 1
    write("linear", kept)


def measured(names, quick):
    "All named cases, each table made once."
    makers = {"very wide": lambda: thin(2000 if quick else 20_000, 50_000, 50), "sparse": lambda: thin(10_000 if quick else 100_000, 500, 20), "": lambda: data(50_000 if quick else 1_000_000, 20)}
    tables = {}
    for name in names:
        kind = next(kind for kind in makers if name.startswith(kind))
        if kind not in tables:
            tables[kind] = makers[kind]()
        X, y, label = tables[kind]
        r = case(name, X, label if "logistic" in name else y, 3)
        print(f"{name:40s} {r['rows']:>8} x {r['columns']}: ours {r['seconds']['ours']:.3f} s, scikit-learn {r['seconds']['scikit-learn']:.3f} s, "
              f"ratio {r['ratio']:.2f}, difference {r['difference']:.0e}, load {r['load']}", flush=True)
        yield r


def grown(model, sizes):
    "Time and memory at n, 4n, 16n rows of 20 columns."
    setup = f"from bench.linear import data; from dlagg.mining import {model}; X, y, label = data(n, 20); model = {model}(); target = label if '{model}' == 'LogisticRegression' else y; model.fit(X[:1000], target[:1000])"
    return growth(setup, "model.fit(X, target)", sizes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, and nothing written")
    parser.add_argument("--again", nargs="+", choices=[*CASES, "cold", "growth"], metavar="PART", help="only these cases, first calls (cold) or growth, at full size; the faster of the old and new time of each side is kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    result, parts = record("scikit-learn"), args.again or [*CASES, "cold", "growth"]
    with threadpool_limits(2):
        cases = list(measured([name for name in CASES if name in parts], args.quick))
    more = first_calls() if "cold" in parts else {}
    if "growth" in parts:
        more["growth"] = {name: grown(name, (5000, 20_000, 80_000) if args.quick else (62_500, 250_000, 1_000_000)) for name in MODELS}
        more["growth"]["load"] = round(os.getloadavg()[0], 1)
    print(json.dumps(more, indent=1))
    if args.again:
        keep_faster(cases, more)
    elif not args.quick:
        write("linear", {**result, **more, "cases": cases})


def first_calls():
    "Import and first fit in fresh processes, beside what scikit-learn needs for itself."
    first = {name: cold(f"{DATA}; from dlagg.mining import {name}; {name}", f"{name}().fit(X, y)") for name in MODELS}
    seconds = {name: numbers["whole_cached"] for name, numbers in first.items()}
    first["import of scikit-learn's base classes"] = cold("import numpy, pandas, sklearn.base", "pass")
    first["scikit-learn's LinearRegression"] = cold(f"{DATA}; from sklearn.linear_model import LinearRegression", "LinearRegression().fit(X, y)")
    return {"first_fit_seconds": seconds, "cold": {**first, "load": round(os.getloadavg()[0], 1)}}


if __name__ == "__main__":
    main()
