"""Linear models as tools: scikit-learn's conventions and numbers, statsmodels' tables, certified data, odd input, and files."""
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.linear_model
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits

from dlagg.mining import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge, diagnostics, lasso_path, plot_diagnostics
from dlagg.mining.linear_lasso_sparse import lasso_wide
from dlagg.mining.linear_qr import compress, solve

REGRESSORS = [LinearRegression(), Ridge(), Lasso(0.01), ElasticNet(0.01)]
ALL = [*REGRESSORS, LogisticRegression()]


def table(n=200, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(3, 2, (n, d))
    return X, X @ np.arange(1, d + 1) + rng.normal(size=n), rng.uniform(0.1, 2, n)


@pytest.mark.parametrize("model", ALL, ids=lambda m: type(m).__name__)
def test_scikit_learns_own_checks(model):
    check_estimator(model, on_skip=None)


def test_longley_by_certified_values():
    # NIST StRD, Longley: y, then six regressors; certified estimates and standard deviations.
    rows = """60323 83.0 234289 2356 1590 107608 1947|61122 88.5 259426 2325 1456 108632 1948|60171 88.2 258054 3682 1616 109773 1949|61187 89.5 284599 3351 1650 110929 1950
    63221 96.2 328975 2099 3099 112075 1951|63639 98.1 346999 1932 3594 113270 1952|64989 99.0 365385 1870 3547 115094 1953|63761 100.0 363112 3578 3350 116219 1954
    66019 101.2 397469 2904 3048 117388 1955|67857 104.6 419180 2822 2857 118734 1956|68169 108.4 442769 2936 2798 120445 1957|66513 110.8 444546 4681 2637 121950 1958
    68655 112.6 482704 3813 2552 123366 1959|69564 114.2 502601 3931 2514 125368 1960|69331 115.7 518173 4806 2572 127852 1961|70551 116.9 554894 4007 2827 130081 1962"""
    data = np.array([line.split() for line in rows.replace("\n", "|").split("|")], float)
    got = LinearRegression().fit(data[:, 1:], data[:, 0]).summary()
    coef = [-3482258.63459582, 15.0618722713733, -0.358191792925910e-1, -2.02022980381683, -1.03322686717359, -0.511041056535807e-1, 1829.15146461355]
    error = [890420.383607373, 84.9149257747669, 0.334910077722432e-1, 0.488399681651699, 0.214274163161675, 0.226073200069370, 455.478499142212]
    np.testing.assert_allclose(got["coef"], coef, rtol=1e-10)
    np.testing.assert_allclose(got["std err"], error, rtol=1e-10)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_statsmodels_whole_table(intercept, weighted):
    X, y, w = table()
    X = pd.DataFrame(X, columns=list("abcd"))
    theirs = sm.WLS(y, sm.add_constant(X) if intercept else X, weights=w if weighted else np.ones(len(X))).fit()
    ours = LinearRegression(fit_intercept=intercept).fit(X, y, sample_weight=w if weighted else None)
    got = ours.summary(0.9)
    assert list(got.index) == list(theirs.params.index)
    for name, values in {"coef": theirs.params, "std err": theirs.bse, "t": theirs.tvalues, "P>|t|": theirs.pvalues}.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(got[["lower", "upper"]], theirs.conf_int(0.1), rtol=1e-8)
    for name, other in {"r2_": "rsquared", "r2_adj_": "rsquared_adj", "fvalue_": "fvalue", "loglik_": "llf", "aic_": "aic", "bic_": "bic", "sigma2_": "scale", "df_resid_": "df_resid"}.items():
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, other), rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(ours.cov_, theirs.cov_params(), rtol=1e-7, atol=1e-12)


def test_intervals_cover_as_often_as_they_say():
    rng, hits = np.random.default_rng(0), []
    for _ in range(400):
        x = rng.normal(size=(20, 1))
        y = 1 + 2 * x[:, 0] + rng.normal(size=20)
        model, new = LinearRegression().fit(x, y), rng.normal(size=(1, 1))
        at, value = model.predict_interval(new, 0.9).iloc[0], 1 + 2 * new[0, 0]
        low, high = model.summary(0.9).loc["x1", ["lower", "upper"]]
        hits.append((low <= 2 <= high, at.mean_ci_lower <= value <= at.mean_ci_upper, at.obs_ci_lower <= value + rng.normal() <= at.obs_ci_upper))
    assert (np.abs(np.mean(hits, axis=0) - 0.9) < 0.05).all(), np.mean(hits, axis=0)    # three standard errors and a bit


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 8), st.booleans(), st.integers(0, 10**6))
def test_least_squares_has_no_slope_left(n, d, intercept, seed):
    rng = np.random.default_rng(seed)
    X, y, w = rng.integers(-3, 4, (n, d)).astype(float), rng.normal(size=n), rng.integers(1, 4, n).astype(float)
    model = LinearRegression(fit_intercept=intercept).fit(X, y, sample_weight=w)
    left = w * (y - model.predict(X))
    assert np.abs(X.T @ left).max() < 1e-8 and (not intercept or abs(left.sum()) < 1e-8)
    centred = X - np.average(X, axis=0, weights=w) * intercept
    assert model.rank_ == np.linalg.matrix_rank(centred * np.sqrt(w)[:, None], tol=1e-9)
    shortest = np.linalg.lstsq(centred * np.sqrt(w)[:, None], (y - intercept * np.average(y, weights=w)) * np.sqrt(w), rcond=1e-10)[0]
    np.testing.assert_allclose(model.coef_, shortest, atol=1e-8)


@pytest.mark.parametrize("ours", REGRESSORS, ids=lambda m: type(m).__name__)
def test_a_weight_counts_rows(ours):
    X, y, _ = table(60)
    weight = np.random.default_rng(1).integers(0, 4, len(X))
    heavy, repeated = clone(ours).fit(X, y, sample_weight=weight), clone(ours).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    np.testing.assert_allclose(heavy.coef_, repeated.coef_, rtol=1e-8)


def test_rows_of_weight_zero_do_not_count():
    X, y, w = table(60)
    w[::3] = 0
    with_them, without = LinearRegression().fit(X, y, sample_weight=w), LinearRegression().fit(X[w > 0], y[w > 0], sample_weight=w[w > 0])
    np.testing.assert_allclose(with_them.summary(), without.summary(), rtol=1e-9)
    assert with_them.n_obs_ == without.n_obs_ == 40


def test_far_from_the_origin_nothing_cancels():
    X, y, _ = table()
    X = np.round(X, 3)
    for shift in (1e4, 1e8):
        moved = (X + shift) - shift    # what is left of X there
        np.testing.assert_allclose(LinearRegression().fit(X + shift, y).coef_, LinearRegression().fit(moved, y).coef_, rtol=1e-7)


def test_float32_is_computed_in_float64():
    X, y, _ = table()
    X32 = X.astype(np.float32)
    np.testing.assert_allclose(LinearRegression().fit(X32, y).coef_, LinearRegression().fit(X32.astype(float), y).coef_, rtol=1e-12)


@pytest.mark.parametrize("model", [LinearRegression(), Ridge(), Lasso(), LogisticRegression()], ids=lambda m: type(m).__name__)
def test_threads_do_not_change_a_bit(model):
    X, y, _ = table(60_000)
    y = y if model.__class__ is not LogisticRegression else y > y.mean()
    fits = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fits.append(clone(model).fit(X, y).coef_)
    assert (fits[0] == fits[1]).all()


def test_constant_target_and_constant_columns():
    X = np.column_stack([np.full(30, 0.1), np.arange(30.0)])
    model = LinearRegression().fit(X, np.arange(30.0) * 2 + 1)
    assert model.rank_ == 1 and model.coef_[0] == 0 and np.isnan(model.summary().loc["x1", "std err"])
    np.testing.assert_allclose([model.coef_[1], model.intercept_], [2, 1], rtol=1e-12)
    for model in REGRESSORS:
        flat = clone(model).fit(X, np.full(30, 7.0))
        np.testing.assert_allclose(flat.predict(X), 7)


def test_no_degree_of_freedom_left():
    model = LinearRegression().fit([[0.0], [1]], [1, 3])
    assert model.df_resid_ == 0 and model.summary()["std err"].isna().all() and model.predict_interval([[2.0]]).obs_ci_lower.isna().all()
    np.testing.assert_allclose(model.predict([[2.0]]), 5)


@pytest.mark.parametrize("model", ALL, ids=lambda m: type(m).__name__)
def test_errors_name_what_is_wrong(model):
    X, y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 1, 0])
    for bad, says in ((np.where(X == 3, np.nan, X), "contains NaN"), (np.where(X == 3, np.inf, X), "contains infinity"), (X[:0], "0 sample"), (X[:, 0], "Expected 2D array")):
        with pytest.raises(ValueError, match=says):
            clone(model).fit(bad, y[:len(bad)])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        clone(model).fit(X, y[:3])
    with pytest.raises(ValueError, match="[Nn]egative"):
        clone(model).fit(X, y, sample_weight=[1, 1, -1, 1])
    with pytest.raises(ValueError, match="weight"):
        clone(model).fit(X, y, sample_weight=np.zeros(4))
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    with pytest.raises(ValueError, match="has 3 features"):
        clone(model).fit(X, y).predict(np.ones((1, 3)))


@pytest.mark.parametrize("model, says", [(Ridge(-1), "alpha must be a finite number, 0 or more; got -1"), (Lasso(np.nan), "alpha must be a finite number"), (Lasso(tol="x"), "tol must be"), (ElasticNet(l1_ratio=1.5), "l1_ratio must be between 0 and 1; got 1.5"),
                                         (LinearRegression(cov_type="HC4"), "cov_type must be one of 'nonrobust', 'HC0'"),
                                         (Lasso(max_iter=0), "max_iter must be an integer, 1 or more; got 0"), (LogisticRegression(C=0), "C must be a number, more than 0; got 0")])
def test_parameters_are_checked(model, says):
    with pytest.raises(ValueError, match=says):
        model.fit([[0.0], [1]], [0, 1])


@pytest.mark.parametrize("model", ALL, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e300])
def test_values_whose_squares_overflow_or_vanish_are_refused(model, scale):
    X, y, _ = table(30)
    with pytest.raises(ValueError, match="leave the range of float64"):
        clone(model).fit(X * scale, y > 30 if isinstance(model, LogisticRegression) else y)
    ordinary = clone(model).set_params(**({"alpha": 0} if hasattr(model, "alpha") else {}))
    if not isinstance(model, LogisticRegression):
        np.testing.assert_allclose(clone(ordinary).fit(X * 1e100, y).coef_ * 1e100, clone(ordinary).fit(X, y).coef_, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 50), st.floats(0.01, 2), st.integers(0, 10**6))
def test_the_lasso_is_optimal(n, d, alpha, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    model = Lasso(alpha, tol=1e-13, max_iter=100_000).fit(X, y)
    slope = X.T @ (y - model.predict(X)) / n    # at the optimum: alpha in the sign of a coefficient, within alpha where it is 0
    assert (np.abs(slope) <= alpha + 1e-5).all()
    np.testing.assert_allclose(slope[model.coef_ != 0], alpha * np.sign(model.coef_[model.coef_ != 0]), atol=1e-5)


def test_the_lasso_says_when_it_did_not_converge():
    X, y, _ = table(50, 6)
    with pytest.warns(ConvergenceWarning, match="max_iter=1 rounds"):
        Lasso(1e-6, max_iter=1).fit(X, y)


def test_lasso_path_by_single_fits():
    X, y, w = table(80, 5)
    alphas, coefs = lasso_path(X, y, n_alphas=7, sample_weight=w)
    assert coefs.shape == (5, 7) and not coefs[:, 0].any() and (np.diff(alphas) < 0).all()
    for alpha, coef in zip(alphas, coefs.T):
        np.testing.assert_allclose(coef, Lasso(alpha, tol=1e-12).fit(X, y, sample_weight=w).coef_, atol=1e-3)
    with pytest.raises(ValueError, match="alphas must be a finite number, 0 or more; got -1"):
        lasso_path(X, y, alphas=[1, -1])


@settings(max_examples=25, deadline=None)
@given(st.integers(10, 80), st.integers(1, 4), st.integers(2, 4), st.floats(0.01, 10), st.integers(0, 10**6))
def test_logistic_regression_by_scikit_learn(n, d, K, C, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(1, 2, (n, d)), np.append(np.arange(K), rng.integers(0, K, n - K))
    ours = LogisticRegression(C=C).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = sklearn.linear_model.LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, y)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X).sum(axis=1), 1)
    g = (ours.predict_proba(X) - np.eye(K)[y]).T @ X    # the gradient of the loss pulls against that of the penalty
    np.testing.assert_allclose(-g[1] if K == 2 else -g, ours.coef_[0] / C if K == 2 else ours.coef_ / C, atol=1e-5)


def test_logistic_regression_with_repeated_and_constant_columns():
    X, y, _ = table()
    label = y > np.median(y) + np.random.default_rng(0).normal(scale=8, size=len(y))
    plain = LogisticRegression(C=np.inf).fit(X, label)
    wide = LogisticRegression(C=np.inf).fit(np.column_stack([X, X[:, 0], np.ones(len(X))]), label)
    np.testing.assert_allclose(wide.predict_proba(np.column_stack([X, X[:, 0], np.ones(len(X))])), plain.predict_proba(X), atol=1e-8)


@pytest.mark.parametrize("K", [2, 3])
def test_a_long_table_is_polished_to_the_same_end(K):
    rng = np.random.default_rng(0)
    X, w = rng.normal(2, 1, (120_000, 3)), rng.uniform(size=120_000)
    y = (X @ rng.normal(size=(3, K)) + rng.gumbel(size=(len(X), K))).argmax(axis=1)
    for C in (1e-3, np.inf):
        model = LogisticRegression(C=C).fit(X, y, sample_weight=w)
        slope = ((model.predict_proba(X) - np.eye(K)[y]) * w[:, None]).T @ X
        coef = np.vstack([-model.coef_, model.coef_]) / 2 if K == 2 else model.coef_
        np.testing.assert_allclose(-slope / len(X), (2 if K == 2 else 1) * coef / C / len(X), atol=1e-8)
        assert model.n_iter_ <= 6
    rare = LogisticRegression().fit(X, np.arange(len(X)) % 40_000 == 0)    # so rare that the first sample is left out
    np.testing.assert_allclose(rare.predict_proba(X)[:, 1].sum(), 3, rtol=1e-3)


def test_separated_classes_warn_and_rare_ones_do_not():
    with pytest.warns(ConvergenceWarning, match="separated"):
        LogisticRegression(C=np.inf).fit([[0.0], [1], [2], [3]], list("aabb"))
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogisticRegression(C=np.inf).fit(X, rng.uniform(size=len(X)) < 0.001)


@pytest.mark.parametrize("model", [Lasso(0.1, warm_start=True), LogisticRegression(warm_start=True)], ids=lambda m: type(m).__name__)
def test_a_warm_start_needs_fewer_rounds(model):
    X, y, _ = table(300, 8)
    y = y if isinstance(model, Lasso) else (y > np.median(y) + np.random.default_rng(0).normal(scale=5, size=len(y)))
    cold = model.fit(X, y).n_iter_
    before = model.coef_
    assert model.fit(X, y).n_iter_ < cold
    np.testing.assert_allclose(model.coef_, before, atol=1e-4)


@pytest.mark.parametrize("model", [*ALL, LogisticRegression(C=np.inf), Lasso(0.1, warm_start=True)], ids=repr)
@pytest.mark.parametrize("names", [True, False])
def test_a_file_holds_every_bit(model, names, tmp_path):
    X, y, _ = table()
    X = np.column_stack([X, X[:, 0]])
    X = pd.DataFrame(X, columns=list("abcde")) if names else X
    y = np.array(["no", "yes"])[(np.sin(y) > 0).astype(int)] if isinstance(model, LogisticRegression) else y
    fitted = clone(model).fit(X, y)
    fitted.save(tmp_path / "model.arrow")
    again = type(model).load(tmp_path / "model.arrow")
    assert (again.predict(X) == fitted.predict(X)).all() and again.get_params() == fitted.get_params() and list(vars(again)) != []
    assert set(vars(again)) == set(vars(fitted))
    if hasattr(fitted, "summary") and not isinstance(model, LogisticRegression):
        pd.testing.assert_frame_equal(again.summary(), fitted.summary())
    if names:
        with pytest.raises(ValueError, match="feature names"):
            again.predict(X.rename(columns={"a": "z"}))
    with pytest.raises(ValueError, match="is not a saved"):
        (Ridge if not isinstance(model, Ridge) else Lasso).load(tmp_path / "model.arrow")


def test_a_damaged_file_is_refused(tmp_path):
    X, y, _ = table()
    Ridge().fit(X, y).save(tmp_path / "model.arrow")
    content = (tmp_path / "model.arrow").read_bytes()
    for bad in (b"", content[:100], content[: len(content) // 2], b"{}"):
        (tmp_path / "bad.arrow").write_bytes(bad)
        with pytest.raises(ValueError, match="is not a saved Ridge model"):
            Ridge.load(tmp_path / "bad.arrow")


def test_diagnostics_by_statsmodels_with_weights():
    X, y, w = table(40)
    rows = diagnostics(LinearRegression().fit(X, y, sample_weight=w), X, y, w)
    theirs = sm.OLS(np.sqrt(w) * y, sm.add_constant(X) * np.sqrt(w)[:, None]).fit().get_influence()
    np.testing.assert_allclose(rows.leverage, theirs.hat_matrix_diag, rtol=1e-8)
    np.testing.assert_allclose(rows.standardised, theirs.resid_studentized_internal, rtol=1e-8)
    np.testing.assert_allclose(rows.cooks, theirs.cooks_distance[0], rtol=1e-8)


def test_studentised_residuals_are_those_of_a_fit_without_the_row():
    X, y, _ = table(15, 2)
    rows = diagnostics(LinearRegression().fit(X, y), X, y)
    for i in range(len(X)):
        rest = np.arange(len(X)) != i
        at = LinearRegression().fit(X[rest], y[rest])
        interval = at.predict_interval(X[i:i + 1]).iloc[0]
        np.testing.assert_allclose(rows.studentised[i], (y[i] - interval["mean"]) / np.sqrt(at.sigma2_ + interval.mean_se**2), rtol=1e-8)


def test_diagnostics_of_a_row_that_fixes_its_own_prediction():
    X = np.column_stack([np.arange(8.0), [0, 0, 0, 0, 0, 0, 0, 1.0]])
    y = np.array([1.0, 2, 2, 4, 5, 5, 7, 90])
    model = LinearRegression().fit(X, y)
    rows = diagnostics(model, X, y)
    assert rows.leverage.iloc[7] > 1 - 1e-9 and rows.studentised.isna().tolist() == [False] * 7 + [True]
    import matplotlib
    matplotlib.use("Agg")
    assert len(plot_diagnostics(model, X, y).axes) == 4


def test_in_pipelines_and_searches():
    X, y, _ = table()
    search = GridSearchCV(make_pipeline(StandardScaler(), Lasso()), {"lasso__alpha": [0.01, 100]}, cv=3).fit(X, y)
    assert search.best_params_ == {"lasso__alpha": 0.01}


def test_the_triangle_keeps_every_length():
    X, y, w = table(5000, 3)
    t = compress(X, y, w)
    assert t.A.shape == (4, 3)
    np.testing.assert_allclose(t.rss(solve(t).coef), LinearRegression().fit(X, y, sample_weight=w).rss_)


def test_importing_does_not_load_the_heavy():
    code = "import sys; import dlagg.mining; from dlagg.mining import LinearRegression; print(sorted({'pandas', 'matplotlib', 'numba', 'pyarrow', 'keras'} & set(sys.modules)))"
    assert "matplotlib" not in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def thin(n=300, d=40, seed=0, density=0.1):
    rng = np.random.default_rng(seed)
    X = sparse.random_array((n, d), density=density, format="csr", rng=rng)
    return X, X @ rng.normal(size=d) + 0.1 * rng.normal(size=n), rng.integers(0, 3, n) * rng.uniform(0.5, 2, n)


@pytest.mark.parametrize("model", [*REGRESSORS, LinearRegression(fit_intercept=False, cov_type="HC3"), Ridge(0)], ids=repr)
@pytest.mark.parametrize("kind", ["csr", "csc", "twins", "wide", "far"])
def test_sparse_tables_give_the_answers_of_dense_ones(model, kind):
    X, y, w = thin(30, 60) if kind == "wide" else thin()
    if kind == "twins":    # a column twice, an empty one: the Cholesky factor gives up, and QR takes over
        X = sparse.hstack([X, X[:, [3]], sparse.csr_array((X.shape[0], 1))])
    if kind == "far":      # a column of ones plus a little: centred without being made dense
        X = sparse.hstack([X, sparse.csr_array(1e3 + np.random.default_rng(1).normal(size=(X.shape[0], 1)))])
    X = X.tocsc() if kind == "csc" else sparse.csr_array(X)
    ours, dense = clone(model).fit(X, y, sample_weight=w), clone(model).fit(X.toarray(), y, sample_weight=w)
    np.testing.assert_allclose(ours.predict(X), dense.predict(X.toarray()), atol=1e-3 if hasattr(model, "tol") else 1e-8)
    if hasattr(dense, "cov_"):
        np.testing.assert_allclose(ours.cov_, dense.cov_, rtol=1e-6, atol=1e-9)
        assert ours.rank_ == dense.rank_ and abs(ours.r2_ - dense.r2_) < 1e-9


def test_very_wide_sparse_tables_are_never_made_dense():
    rng = np.random.default_rng(0)
    X = sparse.random_array((1000, 200_000), density=5e-4, format="csr", rng=rng)    # 1.6 GB as a dense table
    y = X[:, :50] @ rng.normal(size=50) + 0.1 * rng.normal(size=1000)
    tracemalloc.start()
    ridge, lasso, classes = Ridge(0.1).fit(X, y), Lasso(1e-4).fit(X, y), LogisticRegression().fit(X, y > 0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2e8
    np.testing.assert_allclose(ridge.coef_, sklearn.linear_model.Ridge(0.1, tol=1e-12, solver="lsqr").fit(X, y).coef_, atol=1e-4)
    np.testing.assert_allclose(lasso.coef_, sklearn.linear_model.Lasso(1e-4, tol=1e-10).fit(X, y).coef_, atol=1e-4)
    np.testing.assert_allclose(classes.coef_, sklearn.linear_model.LogisticRegression(tol=1e-10, max_iter=10_000).fit(X, y > 0).coef_, atol=1e-4)
    with pytest.raises(ValueError, match="X is sparse with 200,000 columns; this model takes 2,000 at most"):
        LinearRegression().fit(X, y)
    with pytest.raises(ValueError, match="200,001 coefficients; without a penalty"):
        LogisticRegression(C=np.inf).fit(X, y > 0)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("C", [1.0, np.inf])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2, 1: 0.5, 2: 1}])
def test_logistic_regression_by_class_weight_dense_and_sparse(classes, C, class_weight):
    rng = np.random.default_rng(0)
    X = sparse.random_array((1000, 8), density=0.3, format="csr", rng=rng)
    y, w = rng.integers(0, classes, 1000), rng.uniform(0.5, 2, 1000)
    class_weight = {k: v for k, v in class_weight.items() if k < classes} if isinstance(class_weight, dict) else class_weight
    thin_fit, dense = (LogisticRegression(C=C, class_weight=class_weight).fit(table, y, sample_weight=w) for table in (X, X.toarray()))
    theirs = sklearn.linear_model.LogisticRegression(C=C, class_weight=class_weight, tol=1e-10, max_iter=10_000).fit(X.toarray(), y, sample_weight=w)
    for ours in (thin_fit, dense):
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-4)
        np.testing.assert_allclose(ours.predict_proba(X if ours is thin_fit else X.toarray()), theirs.predict_proba(X.toarray()), atol=1e-4)
    if C == np.inf:
        np.testing.assert_allclose(thin_fit.cov_, dense.cov_, rtol=1e-5, atol=1e-9)


def test_many_coefficients_take_the_way_without_a_hessian():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 400)
    X = rng.normal(100, 3, (400, 250)) + 2 * np.eye(5)[y] @ rng.normal(size=(5, 250))    # far from 0: the centring matters
    ours, theirs = LogisticRegression(0.01).fit(X, y), sklearn.linear_model.LogisticRegression(C=0.01, tol=1e-9, max_iter=10_000).fit(X - 100, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    assert ours.cov_ is None


@settings(max_examples=25, deadline=None)
@given(st.integers(12, 60), st.integers(1, 5), st.sampled_from(["HC0", "HC1", "HC2", "HC3"]), st.booleans(), st.integers(0, 10**6))
def test_robust_errors_by_statsmodels(n, d, kind, intercept, seed):
    rng = np.random.default_rng(seed)
    X, w = rng.normal(3, 2, (n, d)), rng.uniform(0.2, 2, n)
    y = X.sum(axis=1) + rng.normal(size=n) * (1 + np.abs(X[:, 0]))
    ours = LinearRegression(fit_intercept=intercept, cov_type=kind).fit(X, y, sample_weight=w)
    theirs = sm.WLS(y, sm.add_constant(X) if intercept else X, weights=w).fit(cov_type=kind, use_t=True)
    np.testing.assert_allclose(ours.cov_, theirs.cov_params(), rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(ours.summary().to_numpy()[:, 1:], np.column_stack([theirs.bse, theirs.tvalues, theirs.pvalues, theirs.conf_int()]), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose([ours.fvalue_, ours.f_pvalue_], [float(theirs.fvalue), float(theirs.f_pvalue)], rtol=1e-6, atol=1e-12)


def test_robust_errors_cover_where_usual_ones_do_not():
    rng, X = np.random.default_rng(0), np.linspace(0, 4, 60)[:, None] ** 2
    covered = {"nonrobust": 0, "HC3": 0}
    for _ in range(400):
        y = 2 * X[:, 0] + rng.normal(size=60) * (0.2 + X[:, 0])
        for kind in covered:
            row = LinearRegression(cov_type=kind).fit(X, y).summary().loc["x1"]
            covered[kind] += row.lower <= 2 <= row.upper
    assert covered["nonrobust"] < 0.92 * 400 < covered["HC3"] < 0.985 * 400, covered


@pytest.mark.parametrize("model", [LinearRegression(), LinearRegression(cov_type="HC2"), Ridge(2.0)], ids=repr)
@pytest.mark.parametrize("n", [3, 200])
def test_several_targets_are_as_many_fits(model, n, tmp_path):
    X, y, w = table(n)
    Y = np.column_stack([y, y**2, X[:, 0] - 1])
    model = clone(model).fit(X, Y, sample_weight=w)
    for t in range(3):
        one = clone(model).fit(X, Y[:, t], sample_weight=w)
        np.testing.assert_allclose(model.coef_[t], one.coef_, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(model.predict(X)[:, t], one.predict(X), rtol=1e-7, atol=1e-9)
        if n == 200 and isinstance(model, LinearRegression):
            np.testing.assert_allclose(model.cov_[t], one.cov_, rtol=1e-6, atol=1e-20)
            np.testing.assert_allclose([model.r2_[t], model.rss_[t]], [one.r2_, one.rss_], rtol=1e-6, atol=1e-15)
    model.save(tmp_path / "model.arrow")
    np.testing.assert_array_equal(type(model).load(tmp_path / "model.arrow").predict(X), model.predict(X))
    if isinstance(model, LinearRegression):
        with pytest.raises(ValueError, match="predict_interval needs one target"):
            model.predict_interval(X)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 50), st.floats(0.01, 2), st.floats(0.05, 1), st.booleans(), st.integers(0, 10**6))
def test_the_elastic_net_is_optimal(n, d, alpha, ratio, sparse_way, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    if sparse_way:    # the descent over entries, which very wide tables take
        b = np.zeros(d)
        lasso_wide(sparse.csr_array(X), y, None, True, b, alpha * ratio, alpha * (1 - ratio), 1e-12, 100_000)
    else:
        b = ElasticNet(alpha, l1_ratio=ratio, tol=1e-12, max_iter=100_000).fit(X, y).coef_
    left = y - y.mean() - (X - X.mean(0)) @ b
    slope = (X - X.mean(0)).T @ left / n - alpha * (1 - ratio) * b
    assert np.abs(slope).max() <= alpha * ratio * (1 + 1e-4) + 1e-6
    on = np.abs(b) > 1e-5
    np.testing.assert_allclose(slope[on], np.sign(b[on]) * alpha * ratio, atol=1e-4)


def test_a_first_fit_needs_no_compiler():
    code = "import sys; from dlagg.mining import LinearRegression, LogisticRegression, Ridge; [m().fit([[0.], [1.], [2.]], [0, 1, 1]) for m in (LinearRegression, Ridge, LogisticRegression)]; print('numba' in sys.modules, 'statsmodels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]
