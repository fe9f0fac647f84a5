"""Trees and forests as tools: scikit-learn's conventions and trees, brute force, gaps, categories, pruning, odd input, and files."""
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.ensemble
import sklearn.tree
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from dlagg.mining import DecisionTreeClassifier, DecisionTreeRegressor, RandomForestClassifier, RandomForestRegressor, export_text, plot_tree

TREES = [DecisionTreeClassifier(), DecisionTreeRegressor()]
FORESTS = [RandomForestClassifier(5, random_state=0), RandomForestRegressor(5, random_state=0)]
ALL = [*TREES, *FORESTS]
name = lambda model: type(model).__name__


def table(n=300, d=4, seed=0, classes=3):
    "Rows that float32 holds exactly, weights whose sums are exact, and a target of each kind."
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float32).astype(float)
    signal = X[:, 0] * X[:, -1] + X[:, 0] + rng.normal(size=n)
    return X, np.digitize(signal, np.quantile(signal, np.arange(1, classes) / classes)), signal, rng.integers(256, 1024, n) / 512


@pytest.mark.parametrize("model", ALL, ids=name)
def test_scikit_learns_own_checks(model):
    # scikit-learn's own forests are excused from this one too: a bootstrap sample of repeated rows is another sample than one of weighted rows.
    excused = {"check_sample_weight_equivalence_on_dense_data": "bootstrap"} if model in FORESTS else {}
    check_estimator(model, on_skip=None, expected_failed_checks=excused)


def gain_at(tree, node):
    "Fall of impurity times weight at a node, of either library's tree."
    left, right = tree.children_left[node], tree.children_right[node]
    mass = lambda t: tree.impurity[t] * tree.weighted_n_node_samples[t]
    return mass(node) - mass(left) - mass(right)


def agree(ours, theirs):
    "Walk both trees from the root. Where they ask differently, both questions must gain the same: a tie. Returns how many nodes agree, and how many differ by a tie."
    a, b, same, tied, todo = ours.tree_, theirs.tree_, 0, 0, [(0, 0)]
    while todo:
        i, j = todo.pop()
        assert a.n_node_samples[i] == b.n_node_samples[j]
        np.testing.assert_allclose([a.impurity[i], a.weighted_n_node_samples[i]], [b.impurity[j], b.weighted_n_node_samples[j]], atol=1e-9)
        np.testing.assert_allclose(a.value[i], b.value[j, 0], atol=1e-9)
        leaves = a.children_left[i] < 0, b.children_left[j] < 0
        assert leaves[0] == leaves[1]
        if leaves[0]:
            continue
        np.testing.assert_allclose(gain_at(a, i), gain_at(b, j), atol=1e-7 * a.weighted_n_node_samples[0])
        if a.feature[i] == b.feature[j] and np.isclose(a.threshold[i], b.threshold[j], rtol=0, atol=1e-9) and a.missing_go_to_left[i] == b.missing_go_to_left[j]:
            same += 1
            todo += [(a.children_left[i], b.children_left[j]), (a.children_right[i], b.children_right[j])]
        else:
            tied += 1
    return same, tied


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 250), st.integers(1, 6), st.sampled_from(["gini", "entropy", "squared_error"]), st.integers(1, 10), st.integers(1, 12), st.booleans(), st.integers(0, 10**6))
def test_the_same_tree_as_scikit_learn(n, d, criterion, depth, leaf, weighted, seed):
    X, y, signal, w = table(n, d, seed, classes=2 + seed % 2)
    w = w if weighted else None
    kinds = (DecisionTreeRegressor, sklearn.tree.DecisionTreeRegressor) if criterion == "squared_error" else (DecisionTreeClassifier, sklearn.tree.DecisionTreeClassifier)
    target = signal if criterion == "squared_error" else y
    ours, theirs = (kind(criterion=criterion, max_depth=depth, min_samples_leaf=leaf, random_state=0).fit(X, target, sample_weight=w) for kind in kinds)
    same, tied = agree(ours, theirs)
    if criterion == "squared_error" and leaf > 3:    # real numbers: only the same cut of rows by two columns ties
        assert tied <= 1 + same // 4
    if not tied:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-9)
        assert (ours.apply(X) == theirs.apply(X)).all()    # both number nodes in preorder


@pytest.mark.parametrize("limits", [dict(max_leaf_nodes=9), dict(min_impurity_decrease=0.004), dict(class_weight="balanced"), dict(class_weight={0: 1, 1: 4, 2: 0.5}), dict(min_weight_fraction_leaf=0.05),
                                    dict(min_samples_leaf=0.04, min_samples_split=0.2), dict(ccp_alpha=0.006), dict(criterion="entropy", max_leaf_nodes=7, ccp_alpha=0.001)], ids=str)
def test_every_limit_means_what_it_means_there(limits):
    X, y, _, w = table(900, 3)
    limits = {"min_samples_leaf": 10, **limits}
    ours, theirs = (kind(random_state=0, **limits).fit(X, y, sample_weight=w) for kind in (DecisionTreeClassifier, sklearn.tree.DecisionTreeClassifier))
    assert ours.get_n_leaves() == theirs.get_n_leaves() > 3 and ours.get_depth() == theirs.get_depth()
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-9)
    np.testing.assert_allclose(ours.feature_importances_, theirs.feature_importances_, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["gini", "entropy", "squared_error"]))
def test_gaps_as_in_scikit_learn(seed, criterion):
    X, y, signal, w = table(250, 3, seed)
    X[np.random.default_rng(seed).random(X.shape) < 0.25] = np.nan
    kinds = (DecisionTreeRegressor, sklearn.tree.DecisionTreeRegressor) if criterion == "squared_error" else (DecisionTreeClassifier, sklearn.tree.DecisionTreeClassifier)
    ours, theirs = (kind(criterion=criterion, min_samples_leaf=12, random_state=0).fit(X, signal if criterion == "squared_error" else y, sample_weight=w) for kind in kinds)
    same, tied = agree(ours, theirs)
    assert same > 2
    if not tied:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-9)
        full = np.nan_to_num(X)    # and where the node has seen no gap, the larger side
        np.testing.assert_allclose(ours.predict(np.full_like(X, np.nan)), theirs.predict(np.full_like(X, np.nan)), atol=1e-9)
        np.testing.assert_allclose(ours.predict(full), theirs.predict(full), atol=1e-9)


def mass(y, w, criterion):
    "Impurity times weight."
    if not len(y):
        return 0.0
    if criterion == "squared_error":
        return (w * (y - np.average(y, weights=w)) ** 2).sum()
    p = np.bincount(y, w) / w.sum()
    return w.sum() * (1 - (p**2).sum() if criterion == "gini" else -(p[p > 0] * np.log2(p[p > 0])).sum())


def all_questions(X, y, w, criterion):
    "Every split of a table of numbers with gaps: (gain, column, threshold, gaps left), in the order of our tie rule."
    for j in range(X.shape[1]):
        x = X[:, j]
        values = np.unique(x[~np.isnan(x)])
        for gaps_left in (False, True) if np.isnan(x).any() else (False,):
            cuts = [*((values[1:] + values[:-1]) / 2), *([np.inf] if np.isnan(x).any() and len(values) and not gaps_left else [])]
            for t in cuts:
                go = (x <= t) | (np.isnan(x) & gaps_left)
                yield mass(y, w, criterion) - mass(y[go], w[go], criterion) - mass(y[~go], w[~go], criterion), j, t, gaps_left


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 25), st.integers(1, 3), st.integers(2, 5), st.booleans(), st.sampled_from(["gini", "entropy", "squared_error"]), st.integers(0, 10**6))
def test_every_node_asks_the_best_question_and_ties_go_to_the_lowest(n, d, values, gaps, criterion, seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, values, (n, d)).astype(float)
    if gaps:
        X[rng.random(X.shape) < 0.2] = np.nan
    y, w = rng.integers(0, 3, n), rng.integers(1, 4, n).astype(float)
    kind = DecisionTreeRegressor if criterion == "squared_error" else DecisionTreeClassifier
    tree, todo = kind(criterion=criterion).fit(X, y.astype(float) if criterion == "squared_error" else y, sample_weight=w).tree_, [(0, np.ones(n, bool))]
    while todo:
        node, here = todo.pop()
        questions = list(all_questions(X[here], y[here], w[here], criterion))
        if tree.children_left[node] < 0:
            assert not questions or mass(y[here], w[here], criterion) < 1e-9
            continue
        best = max(q[0] for q in questions)
        assert abs(tree.gain[node] - best) < 1e-9 * max(1, w.sum())
        first = next(q for q in questions if q[0] > best - 1e-9)
        assert (tree.feature[node], tree.threshold[node]) == first[1:3]
        x = X[:, tree.feature[node]]
        go = (x <= tree.threshold[node]) | (np.isnan(x) & tree.missing_go_to_left[node])
        todo += [(tree.children_left[node], here & go), (tree.children_right[node], here & ~go)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 2, 3]))
def test_names_of_categories_do_not_matter(seed, classes):
    rng = np.random.default_rng(seed)
    n, kinds = 80, np.array(list("abcdefg"))
    town, x = rng.integers(0, 7, n), rng.normal(size=n)
    signal = np.sin(town * 2.0) + 0.3 * x + 0.3 * rng.normal(size=n)
    y = signal if classes == 0 else np.digitize(signal, [-0.5, 0.5][:classes - 1])
    model = DecisionTreeRegressor(min_samples_leaf=4) if classes == 0 else DecisionTreeClassifier(min_samples_leaf=4)
    answers = []
    for order in (np.arange(7), rng.permutation(7)):
        frame = pd.DataFrame({"town": pd.Categorical(kinds[order][town]), "x": x})
        answers.append(clone(model).fit(frame, y).tree_.gain[0])
    assert abs(answers[0] - answers[1]) < 1e-9 * n
    by_frame = clone(model).fit(pd.DataFrame({"town": pd.Categorical(kinds[town]), "x": x}), y)
    by_number = clone(model).set_params(categorical_features=[0]).fit(np.column_stack([town, x]), y)
    by_name = clone(model).set_params(categorical_features=["town"]).fit(pd.DataFrame({"town": kinds[town], "x": x}), y)
    assert (by_frame.tree_.threshold == by_number.tree_.threshold).all() and (by_frame.tree_.sets == by_name.tree_.sets).all()


def test_gaps_and_unknown_categories():
    frame = pd.DataFrame({"town": pd.Categorical(["a"] * 30 + ["b"] * 10 + [None] * 10)})
    y = np.array([0] * 30 + [1] * 20)
    model = DecisionTreeClassifier().fit(frame, y)
    assert (model.predict(frame) == y).all() and model.get_n_leaves() == 2
    with pytest.warns(UserWarning, match=r"column 'town' has 3 rows with categories that the fit has not seen \('x', 'y'\); they are treated as missing"):
        assert model.predict(pd.DataFrame({"town": ["x", "y", "x"]})).tolist() == [1, 1, 1]
    for wrapped in (frame.astype({"town": object}), frame.astype({"town": "str"})):
        assert (model.predict(wrapped) == y).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.predict(frame[:3].assign(town=pd.Categorical(["b", "a", None], categories=["c", "b", "a"]))).tolist() == [1, 0, 1]


def test_a_category_that_a_node_has_not_seen_goes_to_the_larger_side():
    frame = pd.DataFrame({"x": [0.0] * 20 + [1.0] * 20, "town": pd.Categorical(["a"] * 12 + ["b"] * 8 + ["c"] * 20)})
    y = np.array([0] * 12 + [1] * 8 + [2] * 20)
    model = DecisionTreeClassifier(max_depth=2).fit(frame, y)
    assert model.predict(pd.DataFrame({"x": [0.0], "town": ["c"]})).tolist() in ([0], [2])
    one = DecisionTreeClassifier().fit(frame[:20].assign(town=pd.Categorical(list("a" * 12 + "b" * 8), categories=["a", "b", "never"])), y[:20])
    assert one.predict(pd.DataFrame({"x": [0.0], "town": ["never"]})).tolist() == [0]


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 200), st.integers(0, 10**6))
def test_the_pruning_path(n, seed):
    X, y, _, w = table(n, 3, seed)
    ours, theirs = (kind(random_state=0, min_samples_leaf=5) for kind in (DecisionTreeClassifier, sklearn.tree.DecisionTreeClassifier))
    path = ours.cost_complexity_pruning_path(X, y, w)
    assert (np.diff(path.ccp_alphas) >= 0).all() and (np.diff(path.impurities) >= -1e-12).all()
    if not agree(clone(ours).fit(X, y, w), theirs.fit(X, y, w))[1]:
        other = theirs.cost_complexity_pruning_path(X, y, w)
        np.testing.assert_allclose(path.ccp_alphas, other.ccp_alphas, atol=1e-9)
        np.testing.assert_allclose(path.impurities, other.impurities, atol=1e-9)
    full, before = clone(ours).fit(X, y, w), np.inf
    R = lambda tree: (tree.impurity * tree.weighted_n_node_samples)[tree.children_left < 0].sum() / tree.weighted_n_node_samples[0]
    for alpha, impurity in zip(path.ccp_alphas, path.impurities):
        tree = clone(ours).set_params(ccp_alpha=alpha + 1e-9).fit(X, y, w).tree_
        assert tree.n_leaves <= before and R(tree) <= R(full.tree_) + impurity + 1e-9
        before = tree.n_leaves
        assert R(tree) + alpha * tree.n_leaves <= R(full.tree_) + alpha * full.get_n_leaves() + 1e-6
    assert before == 1


@pytest.mark.parametrize("model", TREES, ids=name)
def test_a_weight_counts_rows_and_zero_is_no_row(model):
    X, y, signal, _ = table(120)
    target = signal if isinstance(model, DecisionTreeRegressor) else y
    times = np.random.default_rng(1).integers(0, 4, len(X))
    heavy, repeated = clone(model).fit(X, target, sample_weight=times), clone(model).fit(X.repeat(times, axis=0), target.repeat(times))
    np.testing.assert_allclose(heavy.tree_.threshold, repeated.tree_.threshold)
    np.testing.assert_allclose(heavy.tree_.value, repeated.tree_.value, atol=1e-12)


def test_regression_far_from_zero_loses_nothing():
    X, _, signal, _ = table(300)
    signal = np.round(signal, 3)
    near = DecisionTreeRegressor(max_depth=6).fit(X, signal)
    for shift in (1e6, 1e9):
        far = DecisionTreeRegressor(max_depth=6).fit(X, (signal + shift))
        np.testing.assert_allclose(far.predict(X) - shift, near.predict(X), atol=1e-6)


def test_values_that_float32_cannot_tell_apart():
    X = np.array([[1.0], [1 + 1e-12], [1 + 2e-12]])
    model = DecisionTreeClassifier().fit(X, [0, 0, 1])
    assert model.predict(X).tolist() == [0, 0, 1] and X[1, 0] <= model.tree_.threshold[0] < X[2, 0]
    edge = np.array([[np.nextafter(1, 2)], [1.0], [-1e308], [1.7e308]])
    assert (DecisionTreeClassifier().fit(edge, [0, 1, 2, 3]).predict(edge) == [0, 1, 2, 3]).all()


def test_paths_and_leaves():
    X, y, _, _ = table(200)
    model = DecisionTreeClassifier(max_depth=4).fit(X, y)
    theirs = sklearn.tree.DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, y)
    way, leaves = model.decision_path(X), model.apply(X)
    assert (np.asarray(way.sum(axis=1)).ravel() == model.tree_.depth[leaves] + 1).all() and (way[np.arange(len(X)), leaves] == 1).all()
    if not agree(model, theirs)[1]:
        assert (way != theirs.decision_path(X)).nnz == 0
    assert (model.tree_.depth[model.tree_.children_left[model.tree_.children_left >= 0]] == model.tree_.depth[model.tree_.children_left >= 0] + 1).all()


# Forests


@pytest.mark.parametrize("model", FORESTS, ids=name)
def test_a_forest_does_not_depend_on_threads_or_steps(model):
    X, y, signal, w = table(400)
    target = signal if isinstance(model, RandomForestRegressor) else y
    whole = clone(model).set_params(n_estimators=12).fit(X, target, sample_weight=w)
    threads = clone(model).set_params(n_estimators=12, n_jobs=2).fit(X, target, sample_weight=w)
    steps = clone(model).set_params(n_estimators=5, warm_start=True).fit(X, target, sample_weight=w).set_params(n_estimators=12).fit(X, target, sample_weight=w)
    answer = lambda m: m.predict_proba(X) if hasattr(m, "predict_proba") else m.predict(X)
    assert (answer(whole) == answer(threads)).all() and (answer(whole) == answer(steps)).all()
    assert (answer(whole) != answer(clone(whole).set_params(random_state=1).fit(X, target, sample_weight=w))).any()
    with pytest.raises(ValueError, match="fewer than the 12 trees"):
        steps.set_params(n_estimators=3).fit(X, target)


def test_forests_predict_as_well_as_scikit_learns():
    rng, gaps = np.random.default_rng(0), []
    for seed in range(6):
        X, y, signal, _ = table(600, 8, seed, classes=2)
        train, test = np.arange(300), np.arange(300, 600)
        for ours, theirs, target in ((RandomForestClassifier, sklearn.ensemble.RandomForestClassifier, y), (RandomForestRegressor, sklearn.ensemble.RandomForestRegressor, signal)):
            scores = [kind(60, random_state=seed).fit(X[train], target[train]).score(X[test], target[test]) for kind in (ours, theirs)]
            gaps.append(scores[0] - scores[1])
    assert abs(np.mean(gaps)) < 0.02, gaps


def test_out_of_bag_is_honest():
    for model, which in ((RandomForestClassifier(80, oob_score=True, random_state=0), 1), (RandomForestRegressor(80, oob_score=True, random_state=0), 2)):
        data = table(1200, 5)
        X, target = data[0], data[which]
        model.fit(X[:600], target[:600])
        assert abs(model.oob_score_ - model.score(X[600:], target[600:])) < 0.06 < model.score(X[:600], target[:600]) - model.oob_score_
    with pytest.warns(UserWarning, match="rows were in the sample of every tree"):
        few = RandomForestClassifier(2, oob_score=True, random_state=0).fit(X, data[1])
    assert np.isnan(few.oob_decision_function_).any(axis=1).sum() > 0 and 0 < few.oob_score_ < 1


def test_bagging_without_samples_is_one_tree():
    X, y, _, _ = table(200)
    forest = RandomForestClassifier(3, bootstrap=False, max_features=None).fit(X, y)
    assert (forest.predict_proba(X) == DecisionTreeClassifier().fit(X, y).predict_proba(X)).all()
    assert RandomForestClassifier(4, max_samples=0.2, random_state=0).fit(X, y).trees_[0].weighted_n_node_samples[0] == 40


def test_class_weights_of_a_forest():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 3))
    y = (X[:, 0] + rng.normal(size=1000) > 2).astype(int)
    found = {weight: RandomForestClassifier(30, min_samples_leaf=20, class_weight=weight, random_state=0).fit(X, y).predict(X).mean() for weight in (None, "balanced", "balanced_subsample")}
    assert found[None] < y.mean() < min(found["balanced"], found["balanced_subsample"])


def test_chance_columns_in_the_importances():
    X, y, _, _ = table(500, 3, classes=2)
    X = np.column_stack([X[:, [0, 2]] > 0, np.random.default_rng(1).normal(size=500)])
    forest = RandomForestClassifier(50, random_state=0).fit(X[:250], y[:250])
    shuffled = permutation_importance(forest, X[250:], y[250:], random_state=0).importances_mean
    assert forest.feature_importances_[2] > 0.3 and shuffled[2] < shuffled[0] / 3
    np.testing.assert_allclose(forest.feature_importances_.sum(), 1)


def test_many_columns_and_few_rows():
    X = np.random.default_rng(0).normal(size=(40, 2000))
    y = (X[:, 7] > 0).astype(int)
    assert DecisionTreeClassifier().fit(X, y).tree_.feature[0] == 7
    assert RandomForestClassifier(20, random_state=0).fit(X, y).score(X, y) == 1


# Contract, files and faults


@pytest.mark.parametrize("model", ALL, ids=name)
def test_files(model, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"town": pd.Categorical(rng.choice(["a", "b", "c"], 200)), "x": rng.normal(size=200)})
    frame.loc[:9, "x"] = np.nan
    frame.loc[5:20, "town"] = None
    y = (frame.x.fillna(0) + frame.town.isin(["b"]) > 0).map({True: "yes", False: "no"}) if "Classifier" in name(model) else frame.x.fillna(0) + frame.town.isin(["b"])
    model = clone(model).fit(frame, y)
    model.save(tmp_path / "m.arrow")
    again = type(model).load(tmp_path / "m.arrow")
    assert (again.predict(frame) == model.predict(frame)).all() and again.get_params() == model.get_params()
    assert (again.feature_importances_ == model.feature_importances_).all() and list(again.feature_names_in_) == ["town", "x"]
    again.save(tmp_path / "n.arrow")
    assert (tmp_path / "n.arrow").read_bytes() == (tmp_path / "m.arrow").read_bytes()
    (tmp_path / "m.arrow").write_bytes((tmp_path / "m.arrow").read_bytes()[:500])
    with pytest.raises(ValueError, match="is not a saved"):
        type(model).load(tmp_path / "m.arrow")
    with pytest.raises(ValueError, match=f"a {name(model)}; expected"):
        next(type(m) for m in ALL if type(m) is not type(model)).load(tmp_path / "n.arrow")


@pytest.mark.parametrize("model", ALL, ids=name)
@pytest.mark.parametrize("change, message", [
    (dict(max_depth=0), "max_depth must be an integer, 1 or more"), (dict(min_samples_split=1), "min_samples_split must be an integer, 2 or more, or a float"),
    (dict(min_samples_leaf=1.0), "min_samples_leaf .* below 1"), (dict(max_leaf_nodes=1), "max_leaf_nodes must be an integer, 2 or more"), (dict(max_features="all"), "max_features must be one of 'sqrt', 'log2'"),
    (dict(max_features=0), "max_features must be None"), (dict(min_impurity_decrease=-1.0), "min_impurity_decrease must be a finite number, 0 or more"), (dict(ccp_alpha=np.nan), "ccp_alpha"),
    (dict(criterion="mse"), "criterion must be one of"), (dict(categorical_features="town"), "categorical_features must be 'from_dtype'"), (dict(categorical_features=[9]), "names column 9; X has 2 columns"),
    (dict(min_weight_fraction_leaf=0.6), "at most 0.5"), (dict(random_state="x"), "cannot be used to seed")], ids=lambda v: str(v)[:30])
def test_bad_parameters(model, change, message):
    with pytest.raises(ValueError, match=message):
        clone(model).set_params(**change).fit(np.arange(20.0).reshape(10, 2), np.arange(10) % 2)


@pytest.mark.parametrize("change, message", [(dict(n_estimators=0), "n_estimators must be an integer, 1 or more"), (dict(n_jobs=0), "n_jobs must be None or an integer other than 0"),
                                             (dict(oob_score=True, bootstrap=False), "needs bootstrap=True"), (dict(max_samples=0.0), "max_samples must be None"), (dict(bootstrap="yes"), "bootstrap must be True or False")], ids=str)
def test_bad_parameters_of_forests(change, message):
    with pytest.raises(ValueError, match=message):
        RandomForestClassifier(3).set_params(**change).fit(np.arange(20.0).reshape(10, 2), np.arange(10) % 2)


@pytest.mark.parametrize("model", ALL, ids=name)
def test_bad_data(model):
    X, y = np.arange(20.0).reshape(10, 2), (np.arange(10) % 2).astype(float)
    for bad_X, bad_y, weight, message in [(np.empty((0, 2)), [], None, "minimum of 1 is required|0 sample"), (X, np.where(y, y, np.nan), None, "NaN"), (np.where(X == 3, np.inf, X), y, None, "infinity"),
                                          (X, y, -np.ones(10), "[Nn]egative"), (X, y, np.zeros(10), "0 for every row|at least one non-zero"), (X, y, np.full(10, np.nan), "NaN"), (X, y[:9], None, "inconsistent numbers"),
                                          (X, y, np.ones(9), "sample_weight"), (X[0], y, None, "2D")]:
        with pytest.raises(ValueError, match=message):
            clone(model).fit(bad_X, bad_y, sample_weight=weight)
    with pytest.raises(ValueError, match="column 'town' holds names"):
        clone(model).fit(pd.DataFrame({"town": list("abcdefghij"), "x": 1.0}), y)
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    fitted = clone(model).fit(X, y)
    with pytest.raises(ValueError, match="infinity"):
        fitted.predict(np.full((1, 2), np.inf))
    assert fitted.predict(np.full((1, 2), np.nan)).shape == (1,)
    one = clone(model).fit(X[:1], y[:1])    # one row, one class: a leaf
    assert one.predict(X).tolist() == [0.0] * 10


def test_regression_refuses_what_its_squares_cannot_hold():
    with pytest.raises(ValueError, match="rescale"):
        DecisionTreeRegressor().fit([[0.0], [1.0]], [0, 1e200])


def test_inside_scikit_learns_tools():
    X, y, _, _ = table(300)
    search = GridSearchCV(make_pipeline(StandardScaler(), DecisionTreeClassifier()), {"decisiontreeclassifier__max_depth": [1, 3, 5]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.5
    assert cross_val_score(RandomForestClassifier(20, random_state=0), X, y, cv=3).mean() > 0.5


# Text and picture


def test_text_and_picture():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    X, y, signal, _ = table(200, 2)
    frame = pd.DataFrame(X, columns=["one", "two"]).assign(town=pd.Categorical(np.where(y == 0, "a", "b")))
    model = DecisionTreeClassifier(max_depth=3).fit(frame, y)
    assert "town in {a}" in export_text(model) and export_text(model).count("class:") == model.get_n_leaves()
    ax = plot_tree(model)
    assert len(ax.texts) == model.tree_.node_count + 2    # and the words yes and no
    assert len(plot_tree(DecisionTreeRegressor().fit(X, signal), max_depth=2).texts) <= 9
    plot_tree(DecisionTreeClassifier().fit(X, np.zeros(200)))    # a lonely leaf
    plt.close("all")
    with pytest.raises(ValueError, match="is not one tree"):
        plot_tree(RandomForestClassifier(2).fit(X, y))
    with pytest.raises(NotFittedError):
        export_text(DecisionTreeClassifier())
    gap = DecisionTreeClassifier().fit([[1.0], [2.0], [np.nan], [np.nan]], [0, 0, 1, 1])
    assert "x0 is missing" in export_text(gap)


# Real data


def test_titanic_with_gaps_and_names(mirror, monkeypatch):
    monkeypatch.setenv("DLAGG_MIRROR", str(mirror))
    from dlagg.tables.datasets import fetch_titanic
    ship = fetch_titanic().astype({"sex": "category", "embarked": "category"})
    X, folds = ship[["sex", "age", "pclass", "fare", "embarked", "sibsp", "parch"]], StratifiedKFold(10, shuffle=True, random_state=0)
    full, few, many = (cross_val_score(model, X, ship.survived, cv=folds).mean() for model in (DecisionTreeClassifier(), DecisionTreeClassifier(max_leaf_nodes=10), RandomForestClassifier(100, min_samples_leaf=2, random_state=0)))
    assert full < few < many + 0.015 and many > 0.81


def test_german_credit_as_well_as_scikit_learn(mirror, monkeypatch):
    monkeypatch.setenv("DLAGG_MIRROR", str(mirror))
    from dlagg.tables.datasets import fetch_german_credit
    credit = fetch_german_credit()
    X, y = credit.drop(columns="default"), credit.default
    names = X.select_dtypes(exclude="number").columns
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    ours = cross_val_score(RandomForestClassifier(200, random_state=0), X.astype(dict.fromkeys(names, "category")), y, cv=folds, scoring="roc_auc").mean()
    theirs = cross_val_score(sklearn.ensemble.RandomForestClassifier(200, random_state=0), pd.get_dummies(X), y, cv=folds, scoring="roc_auc").mean()
    assert ours > theirs - 0.015 and ours > 0.77
