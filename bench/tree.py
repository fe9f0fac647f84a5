"""Decision trees and random forests beside scikit-learn, two threads each, in turns. `python -m bench.tree [--quick] [--again CASE ...]`.

Writes bench/results/tree.json: seconds of the faster of two runs (of forests: one run; other programs can only slow a run down) and the ratio theirs / ours (over 1: ours is faster) of one full tree on 100,000 rows x 20 columns
(Gini, entropy, three classes, regression, with gaps), of a forest of 100, and of predictions; whether the trees are the same; how time and memory grow at n, 4n, 16n; and a first fit in a fresh process.

The same tree: every row has a random weight, a multiple of 1/8, and a leaf holds 20 rows or more, so that questions do not tie (scikit-learn breaks ties by chance). Then thresholds, columns and predictions are compared, node by node. The timed trees are the full ones, without weights;
there the number of leaves and the accuracy on 20,000 new rows are given for both. Forests draw different samples; their accuracies are given.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
import sklearn.ensemble
import sklearn.tree

from bench._race import RESULTS, cold, growth, race, ratios, record, write
from dlagg.mining import DecisionTreeClassifier, DecisionTreeRegressor, RandomForestClassifier, RandomForestRegressor

PAIRS = {DecisionTreeClassifier: sklearn.tree.DecisionTreeClassifier, DecisionTreeRegressor: sklearn.tree.DecisionTreeRegressor,
         RandomForestClassifier: sklearn.ensemble.RandomForestClassifier, RandomForestRegressor: sklearn.ensemble.RandomForestRegressor}
SETUP = """
import numpy as np
from dlagg.mining import DecisionTreeClassifier
rng = np.random.default_rng(0)
DecisionTreeClassifier().fit(rng.normal(size=(50, 3)), np.arange(50) % 2)
X = rng.normal(size=(n, 20))
y = (X[:, 0] * X[:, 1] + X[:, 2] + rng.logistic(size=n) / 2 > 0).astype(int)
"""
COLD = {"DecisionTreeClassifier": "DecisionTreeClassifier().fit(X, y)", "entropy": "DecisionTreeClassifier(criterion='entropy').fit(X, y)", "DecisionTreeRegressor": "DecisionTreeRegressor().fit(X, y * 1.5)",
        "RandomForestClassifier, with prediction": "RandomForestClassifier(10).fit(X, y).predict(X)"}


IMPORTS = """import numpy as np
from dlagg.mining import DecisionTreeClassifier, DecisionTreeRegressor, RandomForestClassifier
X = np.random.default_rng(0).normal(size=(200, 5)); y = (X[:, 0] > 0).astype(int)"""


def data(n, d=20):
    "A table that float32 holds exactly, and targets: two classes, three, and a number."
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype(np.float32)
    signal = X[:, 0] * X[:, 1] + X[:, 2] + np.sin(3 * X[:, 3])
    noisy = signal + rng.logistic(size=n) / 2
    return X, {"two": (noisy > 0).astype(int), "three": np.digitize(noisy, [-1, 1]), "number": noisy}


def same(X, y, kind):
    "Largest differences of two trees whose questions do not tie."
    weight = np.random.default_rng(1).integers(4, 13, len(X)) / 8
    ours, theirs = (k(min_samples_leaf=20, random_state=0).fit(X, y, sample_weight=weight) for k in (kind, PAIRS[kind]))
    a, b = ours.tree_, theirs.tree_
    if a.node_count != b.node_count:
        return {"nodes": [a.node_count, b.node_count]}
    return {"nodes": [a.node_count, b.node_count], "questions_that_differ": int((a.feature != b.feature).sum()), "threshold": float(np.abs(a.threshold - b.threshold).max()),
            "prediction": float(np.abs(ours.predict(X) - theirs.predict(X)).max())}


def once(runs):
    "As `race`, but one run each, for what takes a minute; compiled code is there from smaller fits."
    seconds, answers = {}, {}
    for who, run in runs.items():
        start = time.perf_counter()
        answers[who] = run()
        seconds[who] = time.perf_counter() - start
    return seconds, answers


def case(name, kind, X, y, new, truth, turns=3, **options):
    "Fit times of both, leaves and scores on new rows."
    runs = {"ours": lambda: kind(**options).fit(X, y), "scikit-learn": lambda: PAIRS[kind](**options).fit(X, y)}
    kind(**options).set_params(**({"n_estimators": 2} if "n_estimators" in kind().get_params() else {})).fit(X[:500], y[:500]).predict(X[:500])    # compiles
    seconds, models = race(runs, turns) if turns > 1 else once(runs)
    result = {"case": name, "rows": X.shape[0], "columns": X.shape[1], "threads": 2, "seconds": seconds, "ratio": ratios(seconds)["scikit-learn"], "score_on_new_rows": {who: float(m.score(new, truth)) for who, m in models.items()}}
    if hasattr(models["ours"], "tree_"):
        result["leaves"] = {who: int(m.get_n_leaves()) for who, m in models.items()}
    took, _ = race({who: (lambda m=m: m.predict(new)) for who, m in models.items()}, 3)
    result["prediction_ratio"] = ratios(took)["scikit-learn"]
    print(f"{name:28s} ours {seconds['ours']:.3f} s, scikit-learn {seconds['scikit-learn']:.3f} s, ratio {result['ratio']:.2f}, prediction {result['prediction_ratio']:.2f}, scores {result['score_on_new_rows']}", flush=True)
    return result


def cold_processor(imports, call):
    "Processor seconds of a first call in a fresh process, compiling and from the cache: they do not grow with the load of the machine."
    code = f"import time\n{imports}\nstart = time.process_time()\n{call}\nprint(time.process_time() - start)"
    with tempfile.TemporaryDirectory() as folder:
        runs = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder}).stdout) for _ in range(2)]
    return {"compiling": runs[0], "cached": runs[1]}


def faster(old, new):
    "Of two measurements of a case, the faster time of each side."
    seconds = {who: min(took, new["seconds"][who]) for who, took in old["seconds"].items()}
    return {**new, "seconds": seconds, "ratio": ratios(seconds)["scikit-learn"], "measured": old.get("measured", 1) + 1}


def colds():
    "First calls in fresh processes."
    return {name: {**cold(IMPORTS, call), "processor": cold_processor(IMPORTS, call)} for name, call in COLD.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and nothing written")
    parser.add_argument("--again", nargs="+", metavar="CASE", help="only these cases (or cold: processor time alone) at full size; of the old and new time of each side the faster is kept")
    args = parser.parse_args()
    quick, again = args.quick, args.again
    warnings.simplefilter("ignore")
    n = 10_000 if quick else 100_000
    X, targets = data(n + n // 5)
    new, X = X[n:], X[:n]
    truth, targets = {k: y[n:] for k, y in targets.items()}, {k: y[:n] for k, y in targets.items()}
    holes, forest = np.where(np.random.default_rng(2).random(X.shape) < 0.1, np.float32(np.nan), X), dict(n_jobs=2, random_state=0)
    plan = [("tree, gini", DecisionTreeClassifier, X, "two", {}), ("tree, entropy", DecisionTreeClassifier, X, "two", {"criterion": "entropy"}), ("tree, three classes", DecisionTreeClassifier, X, "three", {}),
            ("tree, a tenth missing", DecisionTreeClassifier, holes, "two", {}), ("tree, regression", DecisionTreeRegressor, X, "number", {}), ("forest of 100", RandomForestClassifier, X, "two", forest),
            ("regression forest of 10", RandomForestRegressor, X, "number", {"n_estimators": 10, **forest})]
    if again:
        record_now = json.loads((RESULTS / "tree.json").read_text())
        for name, kind, table, key, options in plan:
            if name in again:
                at = next(i for i, old in enumerate(record_now["cases"]) if old["case"] == name)
                record_now["cases"][at] = faster(record_now["cases"][at], case(name, kind, table, targets[key], new, truth[key], 1 if "forest" in name else 2, **options))
        if "cold" in again:
            for name, call in COLD.items():
                record_now["cold"][name]["processor"] = cold_processor(IMPORTS, call)
                print(name, record_now["cold"][name]["processor"], flush=True)
        return write("tree", record_now)
    results = {"same_tree": {}, "cases": []}
    for name, kind, key in (("gini", DecisionTreeClassifier, "two"), ("three classes", DecisionTreeClassifier, "three"), ("regression", DecisionTreeRegressor, "number")):
        results["same_tree"][name] = same(X, targets[key], kind)
        print(name, results["same_tree"][name], flush=True)
    for name, kind, table, key, options in plan:
        results["cases"].append(case(name, kind, table, targets[key], new, truth[key], 1 if "forest" in name else 2, **options))
    wide = np.random.default_rng(3).normal(size=(2000, 1000)).astype(np.float32)
    answer = (wide[:, 0] + wide[:, 1] > 0).astype(int)
    results["cases"].append(case("forest of 100, 1000 columns", RandomForestClassifier, wide[:1500], answer[:1500], wide[1500:], answer[1500:], 1, **forest))
    results["growth"] = growth(SETUP, "DecisionTreeClassifier().fit(X, y)", [n // 4, n, 4 * n] if not quick else [2000, 8000, 32000])
    results["cold"] = colds()
    print(results["growth"], results["cold"], sep="\n")
    if not quick:
        write("tree", {**record("scikit-learn", "numba"), **results})


if __name__ == "__main__":
    main()
