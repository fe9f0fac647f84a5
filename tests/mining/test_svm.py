"""Support vector machines as tools: libsvm's support vectors and objectives, scikit-learn's conventions, odd input, files, first calls."""
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.svm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from dlagg.mining import SVC, SVR
from dlagg.mining.svm import plot_boundary, smo_steps
from dlagg.mining.svm_kernels import kernel_matrix, weighted_kernel, Kernel
from dlagg.mining.svm_probability import platt
from dlagg.tables.datasets import load_breast_cancer, load_digits, load_wine

KERNELS = [{"kernel": "linear"}, {"kernel": "poly", "degree": 3, "coef0": 1.0}, {"kernel": "rbf"}]
REASON = "a weight of 0 still counts in gamma='scale', and solutions agree to tol only; scikit-learn expects the same of its SVC and SVR"
UNEQUAL = {f"check_sample_weight_equivalence_on_{kind}_data": REASON for kind in ("dense", "sparse")}


def classes(n=200, d=5, K=2, seed=0, **options):
    X, y = make_classification(n, d, n_informative=d - 1, n_redundant=0, n_classes=K, n_clusters_per_class=1, flip_y=0.1, random_state=seed, **options)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def objective(model, X, y, ours):
    "Dual value of a two-class fit, from its own coefficients and an exact kernel matrix."
    beta, rows = model.dual_coef_[0], X[model.support_]
    K = kernel_matrix(rows, rows, model.kernel, ours.gamma_, model.coef0, model.degree)
    return beta @ K @ beta / 2 - np.abs(beta).sum()


@pytest.mark.parametrize("model", [SVC(), SVR(), SVC(kernel="precomputed")], ids=["SVC", "SVR", "precomputed"])
def test_scikit_learns_own_checks(model):
    check_estimator(model, on_skip=None, expected_failed_checks=UNEQUAL)


@pytest.mark.parametrize("options", KERNELS, ids=lambda o: o["kernel"])
@pytest.mark.parametrize("C", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("K", [2, 4])
def test_the_same_machine_as_libsvm(options, C, K):
    X, y = classes(K=K, seed=K)
    ours, theirs = (kind(C=C, tol=1e-6, **options).fit(X, y) for kind in (SVC, sklearn.svm.SVC))
    np.testing.assert_array_equal(ours.support_, theirs.support_)
    np.testing.assert_array_equal(ours.n_support_, theirs.n_support_)
    np.testing.assert_allclose(ours.support_vectors_, theirs.support_vectors_)
    np.testing.assert_allclose(ours.dual_coef_, theirs.dual_coef_, atol=1e-3 * C)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-3)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-3)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    if K == 2:
        np.testing.assert_allclose(ours.objective_[0], objective(theirs, X, y, ours), rtol=1e-8)
    else:
        for model in (ours, theirs):
            model.set_params(decision_function_shape="ovo")
        np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-3)
        for model in (ours, theirs):
            model.set_params(decision_function_shape="ovr", break_ties=True)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    if options["kernel"] == "linear":
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-3)


@pytest.mark.parametrize("name, load, target", [("cancer", load_breast_cancer, "diagnosis"), ("wine", load_wine, "cultivar"), ("digits", load_digits, "digit")])
def test_real_tables_at_the_default_tolerance(name, load, target):
    table = load()[:900]
    X, y = table.drop(columns=target).to_numpy(float), table[target].to_numpy()
    X = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    ours, theirs = (kind(decision_function_shape="ovo").fit(X, y) for kind in (SVC, sklearn.svm.SVC))
    assert len(set(ours.support_) ^ set(theirs.support_)) <= max(1, len(y) // 200)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-2)
    if len(ours.classes_) == 2:
        np.testing.assert_allclose(ours.objective_[0], objective(theirs, X, y, ours), atol=1e-3)


@pytest.mark.parametrize("options", KERNELS, ids=lambda o: o["kernel"])
@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_regression_as_libsvm(options, epsilon):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(150, 4))
    y = X[:, 0] * X[:, 1] + X[:, 2] + rng.normal(scale=0.3, size=150)
    w = rng.uniform(0.2, 2, 150)
    ours, theirs = (kind(C=2.0, epsilon=epsilon, tol=1e-6, **options).fit(X, y, w) for kind in (SVR, sklearn.svm.SVR))
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-3)
    if epsilon:
        np.testing.assert_array_equal(ours.support_, theirs.support_)
        np.testing.assert_allclose(ours.dual_coef_, theirs.dual_coef_, atol=3e-3)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-3)
    beta, K = theirs.dual_coef_[0], kernel_matrix(X[theirs.support_], X[theirs.support_], ours.kernel, ours.gamma_, ours.coef0, ours.degree)
    np.testing.assert_allclose(ours.objective_, beta @ K @ beta / 2 - y[theirs.support_] @ beta + epsilon * np.abs(beta).sum(), atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 60), st.integers(1, 6), st.sampled_from([0.05, 1.0, 50.0]), st.sampled_from(KERNELS), st.booleans())
def test_any_small_table_has_libsvms_objective(seed, n, d, C, options, balanced):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), rng.integers(0, 2, n)
    y[:2] = 0, 1
    weight = "balanced" if balanced else None
    ours, theirs = (kind(C=C, class_weight=weight, **options).fit(X, y) for kind in (SVC, sklearn.svm.SVC))
    np.testing.assert_allclose(ours.objective_[0], objective(theirs, X, y, ours), rtol=1e-3, atol=1e-3)
    beta = ours.dual_coef_[0]
    assert abs(beta.sum()) < 1e-9 * C * n and (np.abs(beta) <= C * ours.class_weight_.max() * (1 + 1e-12)).all()
    assert ours.gap_[0] < ours.tol
    f = ours.decision_function(X) * np.where(y == 1, 1, -1)    # the optimality conditions, on exact scores
    full = np.zeros(n)
    full[ours.support_] = np.abs(beta)
    price = C * ours.class_weight_[y]
    slack = 2e-3 + 1e-5 * C
    assert (f[full == 0] > 1 - slack).all() and (f[full >= price] < 1 + slack).all()


def test_lesson_and_tool_are_one():
    X, y = classes()
    *_, (beta, b, gap) = smo_steps(kernel_matrix(X, X, gamma=0.2), np.where(y == 1, 1, -1), C=2.0, tol=1e-6)
    model = SVC(C=2.0, gamma=0.2, tol=1e-6).fit(X, y)
    np.testing.assert_allclose(beta[model.support_], model.dual_coef_[0], atol=1e-3)
    assert abs(b - model.intercept_[0]) < 1e-3


def test_shrinking_and_a_tiny_cache_change_nothing():
    X, y = classes(600, 4)
    rows = [SVC(C=300.0, gamma=0.5, cache_size=size).fit(X, y) for size in (200, 0.01)]
    assert rows[0].n_iter_[0] > 2 * 600    # long enough for shrinking
    np.testing.assert_allclose(rows[0].objective_, rows[1].objective_, rtol=1e-6)
    theirs = sklearn.svm.SVC(C=300.0, gamma=0.5).fit(X, y)
    np.testing.assert_allclose(rows[0].objective_[0], objective(theirs, X, y, rows[0]), rtol=1e-5)


def test_weights_are_prices():
    X, y = classes(120, K=3)
    w = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    ours, theirs = (kind(tol=1e-6, gamma=0.3).fit(X, y, w) for kind in (SVC, sklearn.svm.SVC))
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-3)
    np.testing.assert_array_equal(ours.support_vectors_, theirs.support_vectors_)    # not support_: theirs counts without the rows of weight 0
    assert not np.isin(ours.support_, np.flatnonzero(w == 0)).any()


@pytest.mark.parametrize("K", [2, 3])
def test_probabilities(K):
    X, y = classes(300, K=K, seed=5)
    model = SVC(probability=True, random_state=0).fit(X, y)
    P = model.predict_proba(X)
    assert P.shape == (300, K) and (P > 0).all()
    np.testing.assert_allclose(P.sum(axis=1), 1)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(P))
    np.testing.assert_array_equal(P, clone(model).fit(X, y).predict_proba(X))
    assert (model.classes_[P.argmax(axis=1)] == model.predict(X)).mean() > 0.95
    if K == 2:
        assert (np.diff(P[np.argsort(model.decision_function(X)), 1]) >= 0).all()
    assert not hasattr(SVC().fit(X, y), "predict_proba")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.booleans()), min_size=2, max_size=40))
def test_platt_is_finite_for_any_scores(rows):
    scores, positive = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    assert np.isfinite(platt(scores, positive)).all()


def test_sparse_rows():
    X, y = classes(150, K=3)
    X[np.abs(X) < 0.5] = 0
    for options in KERNELS:
        dense, sparse = SVC(tol=1e-5, **options).fit(X, y), SVC(tol=1e-5, **options).fit(csr_array(X), y)
        np.testing.assert_allclose(sparse.decision_function(csr_array(X)), dense.decision_function(X), atol=1e-4)
        np.testing.assert_allclose(sparse.decision_function(X), dense.decision_function(csr_array(X)), atol=1e-4)
    with pytest.raises(ValueError, match="Raise cache_size"):
        SVC(cache_size=0.1).fit(csr_array(X), y)
    with pytest.raises(TypeError, match="Sparse data needs"):
        SVC(kernel=lambda A, B: A @ B.T).fit(csr_array(X), y)


@pytest.mark.parametrize("model", [SVC(probability=True, random_state=0), SVR()], ids=lambda m: type(m).__name__)
def test_files(model, tmp_path):
    X, y = classes(100, K=3)
    model.fit(pd.DataFrame(X, columns=list("abcde")), y)
    model.save(tmp_path / "model.arrow")
    back = type(model).load(tmp_path / "model.arrow")
    new = pd.DataFrame(X[:7], columns=list("abcde"))
    np.testing.assert_array_equal(back.predict(new), model.predict(new))
    assert back.get_params() == model.get_params()
    with pytest.raises(ValueError, match="feature names"):
        back.predict(new[["b", "a", "c", "d", "e"]])
    with pytest.raises(ValueError, match="not a saved"):
        (SVR if isinstance(model, SVC) else SVC).load(tmp_path / "model.arrow")
    (tmp_path / "model.arrow").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged"):
        type(model).load(tmp_path / "model.arrow")


def test_a_sparse_model_and_a_kernel_of_ones_own_in_files(tmp_path):
    X, y = classes(60)
    model = SVC(kernel="linear").fit(csr_array(X), y)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(SVC.load(tmp_path / "m").decision_function(X), model.decision_function(X))
    with pytest.raises(ValueError, match="cannot be written"):
        SVC(kernel=lambda A, B: A @ B.T).fit(X, y).save(tmp_path / "m2")
    assert not (tmp_path / "m2").exists()


def test_warm_start():
    X, y = classes(400, K=3)
    model = SVC(warm_start=True).fit(X, y)
    first = model.n_iter_.sum()
    for C in (1.0, 2.0, 0.3):
        model.set_params(C=C).fit(X, y)
        np.testing.assert_allclose(model.objective_, SVC(C=C).fit(X, y).objective_, rtol=1e-4)
        if C == 1.0:
            assert model.n_iter_.sum() <= first // 20
    model.fit(X[::2], y[::2])    # other rows: from the start
    np.testing.assert_allclose(model.objective_, SVC(C=0.3).fit(X[::2], y[::2]).objective_)


@pytest.mark.parametrize("options, message", [
    ({"C": 0}, "C must be a finite number, more than 0; got 0"), ({"C": np.nan}, "C must be"), ({"C": np.inf}, "C must be"), ({"kernel": "gauss"}, "kernel must be one of"),
    ({"gamma": "big"}, "gamma must be one of"), ({"gamma": -1.0}, "gamma must be"), ({"degree": -1}, "degree must be"), ({"degree": 2.5}, "degree must be"), ({"tol": 0}, "tol must be"),
    ({"max_iter": -2}, "max_iter must be"), ({"cache_size": 0}, "cache_size must be"), ({"coef0": np.inf}, "coef0 must be"), ({"kernel": lambda A, B: A}, "must return a matrix of shape"),
    ({"kernel": lambda A, B: np.full((len(A), len(B)), np.nan)}, "not finite")])
@pytest.mark.parametrize("kind", [SVC, SVR])
def test_wrong_parameters_are_named(kind, options, message):
    X, y = classes(40)
    with pytest.raises(ValueError, match=message):
        kind(**options).fit(X, y)


def test_wrong_data_is_named():
    X, y = classes(40)
    hole = X.copy()
    hole[3, 1] = np.nan
    cases = [(hole, y, None, "NaN"), (np.where(hole == hole, X, np.inf), y, None, "infinity"), (X[:0], y[:0], None, "0 sample"), (X, np.zeros(40), None, "one class only: 0"),
             (X, y, -np.ones(40), "Negative values"), (X, y, np.zeros(40), "non-zero"), (X, y, (y == 1).astype(float), "class 0 has none"), (X, y[:30], None, "inconsistent"),
             (X * 1e200, y, None, "rescale"), (X, np.linspace(0, 1, 40), None, "continuous")]
    for rows, target, weight, message in cases:
        with pytest.raises(ValueError, match=message):
            SVC().fit(rows, target, weight)
    with pytest.raises(ValueError, match="rescale"):
        SVR(kernel="linear").fit(X * 1e200, y)
    with pytest.raises(ValueError, match="epsilon must be"):
        SVR(epsilon=-1).fit(X, y)
    with pytest.raises(ValueError, match="ovr"):
        SVC(decision_function_shape="all").fit(X, y)
    with pytest.raises(ValueError, match="break_ties must be False"):
        SVC(decision_function_shape="ovo", break_ties=True).fit(X, y).predict(X)
    with pytest.raises(ValueError, match="square kernel matrix"):
        SVC(kernel="precomputed").fit(X, y)
    with pytest.raises(NotFittedError):
        SVC().predict(X)
    with pytest.raises(AttributeError, match="coef_ is only there"):
        SVC().fit(X, y).coef_
    with pytest.raises(ValueError, match="5 features"):
        SVC().fit(X, y).predict(X[:, :3])


@pytest.mark.parametrize("kind", [SVC, SVR])
def test_steps_that_run_out_name_the_gap(kind):
    X, y = classes(100)
    with pytest.warns(ConvergenceWarning, match="no minimum after 5 steps.*the gap is [0-9.]+, tol is 0.001"):
        model = kind(max_iter=5).fit(X, y)
    assert np.max(model.gap_) > 1e-3 and np.max(model.n_iter_) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind().fit(X, y)


def test_degenerate_tables():
    for X in (np.zeros((6, 2)), np.repeat(np.eye(2), 3, axis=0), np.full((6, 1), 1e6)):
        y = np.array([0, 1, 0, 1, 0, 1])
        for model in (SVC(), SVC(kernel="linear"), SVR()):
            scores = model.fit(X, y).predict(X)
            assert np.isfinite(scores).all()
    two = SVC(kernel="linear", C=10).fit([[-1.0], [1.0]], ["no", "yes"])
    np.testing.assert_allclose(two.coef_, [[1.0]])
    assert two.predict([[-0.1], [0.1]]).tolist() == ["no", "yes"]


def test_rows_far_from_the_origin():
    X, y = classes(200)
    near, far = SVC(gamma=0.2).fit(X, y), SVC(gamma=0.2).fit(X + 1e6, y)
    np.testing.assert_allclose(near.decision_function(X), far.decision_function(X + 1e6), atol=1e-3)


def test_kernel_sums_in_blocks():
    rng = np.random.default_rng(0)
    X, V, coef = rng.normal(size=(3000, 5)), rng.normal(size=(700, 5)), rng.normal(size=(700, 3))
    np.testing.assert_allclose(weighted_kernel(Kernel("rbf", 0.2), X, V, coef), kernel_matrix(X, V, gamma=0.2) @ coef, atol=1e-10)
    assert kernel_matrix([[0.0]], [[40.0]], gamma=1.0)[0, 0] == 0


def test_in_a_pipeline_and_a_search():
    X, y = classes(120)
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1.0], "svc__gamma": [0.01, 0.2]}, cv=3).fit(X, y)
    assert search.best_score_ > 0.7


def test_plot_boundary():
    import matplotlib
    matplotlib.use("agg")
    X, y = classes(60, 3)
    model = SVC().fit(X[:, :2], y)
    ax = plot_boundary(model, X[:, :2], y, names=("height", "width"))
    assert ax.get_xlabel() == "height" and len(ax.collections) >= 4
    with pytest.raises(ValueError, match="2 columns"):
        plot_boundary(SVC().fit(X, y), X, y)


def test_a_first_import_is_light():
    code = "import sys; from dlagg.mining import SVC, SVR; assert not {'matplotlib', 'keras', 'seaborn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
