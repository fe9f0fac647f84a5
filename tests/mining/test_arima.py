"""ARIMA beside statsmodels, its contract, its properties, and what it refuses."""
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import toeplitz
from scipy.signal import lfilter
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from statsmodels.tsa.statespace.sarimax import SARIMAX

from dlagg.course.machine import one_blas_thread
from dlagg.mining import ARIMA, auto_arima
from dlagg.mining.arima_fit import airline_passengers, difference, errors, inverse, levels, observed, one_step, search, solve
from dlagg.mining.arima_likelihood import coefficients, free, from_partials, negative, polynomials, start, to_partials

AIR = np.log(airline_passengers())


@pytest.fixture(autouse=True)
def quiet_matrix_library(request):
    "statsmodels multiplies small matrices: more threads only cost time. Where threads of our own are tested, each must be free to run."
    if "threads" in request.node.name:
        yield
        return
    with one_blas_thread():
        yield


MODELS = [((0, 1, 1), (0, 1, 1, 12)), ((2, 1, 1), (0, 0, 0, 0)), ((1, 0, 2), (1, 1, 0, 12)), ((3, 0, 0), (0, 0, 0, 0)), ((0, 2, 2), (0, 0, 0, 0)), ((1, 1, 1), (1, 0, 1, 4)), ((0, 1, 0), (0, 1, 2, 6))]


def peer(y, model, simple=True, X=None):
    "statsmodels' model of the same orders, without trend."
    return SARIMAX(np.asarray(y), exog=X, order=model.order, seasonal_order=model.seasonal_order, simple_differencing=simple)


def test_the_airline_model_has_its_published_numbers():
    model = ARIMA((0, 1, 1), (0, 1, 1, 12)).fit(AIR)
    assert list(model.params_.index) == ["ma.L1", "ma.S.L12", "sigma2"]
    np.testing.assert_allclose(model.params_, [-0.4017, -0.5569, 0.001348], rtol=1e-3)
    assert model.loglik_ == pytest.approx(244.696, abs=1e-3)
    np.testing.assert_allclose(ARIMA((0, 1, 1), (0, 1, 1, 12), cov_type="approx").fit(AIR).bse_[:2], [0.0896, 0.0731], atol=2e-4)    # R's


@pytest.mark.parametrize(("order", "seasonal"), MODELS)
def test_likelihood_errors_and_forecasts_are_those_of_statsmodels(order, seasonal):
    model = ARIMA(order, seasonal, trend="n").fit(AIR.to_numpy())
    theirs = peer(AIR, model)
    assert theirs.loglike(model.params_.to_numpy()) == pytest.approx(model.loglik_, abs=1e-5)
    smoothed = theirs.smooth(model.params_.to_numpy())
    used = len(AIR) - len(smoothed.resid)
    np.testing.assert_allclose(model.resid_[used:], smoothed.resid, atol=1e-6)
    assert model.resid_[:used].isna().all()
    full = peer(AIR, model, simple=False).smooth(model.params_.to_numpy()).get_forecast(15)
    ours = model.forecast(15, level=0.8)
    np.testing.assert_allclose(ours["mean"], full.predicted_mean, atol=1e-5)
    np.testing.assert_allclose(ours["upper"], full.conf_int(alpha=0.2)[:, 1], atol=1e-4)


@pytest.mark.parametrize(("order", "seasonal"), MODELS[:4])
def test_no_worse_than_statsmodels_own_search(order, seasonal):
    model = ARIMA(order, seasonal, trend="n").fit(AIR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = peer(AIR, model).fit(disp=0)
    assert model.loglik_ > found.llf - 1e-3
    if abs(model.loglik_ - found.llf) < 1e-4:
        np.testing.assert_allclose(model.bse_, found.bse, rtol=0.02)


@pytest.mark.parametrize("cov_type", ["opg", "approx"])
def test_standard_errors_at_the_same_point_are_those_of_statsmodels(cov_type):
    model = ARIMA((1, 0, 1), trend="n", cov_type=cov_type).fit(AIR.diff().dropna())
    theirs = SARIMAX(AIR.diff().dropna().to_numpy(), order=(1, 0, 1))
    point = theirs.smooth(model.params_.to_numpy(), cov_type=cov_type)
    np.testing.assert_allclose(model.bse_, point.bse, rtol=2e-3)


@pytest.mark.parametrize(("order", "seasonal", "gone"), [((1, 0, 1), (0, 0, 0, 0), [0, 1, 50, 143]), ((0, 1, 1), (0, 0, 0, 0), [5, 6, 7, 142, 143]), ((1, 1, 0), (0, 1, 1, 12), [30, 42, 100])])
def test_missing_values_have_the_exact_likelihood(order, seasonal, gone):
    y = AIR - AIR.mean()
    y.iloc[gone] = np.nan
    model = ARIMA(order, seasonal, trend="n").fit(y)
    theirs = peer(y, model, simple=False)
    assert theirs.loglike(model.params_.to_numpy()) == pytest.approx(model.loglik_, abs=2e-4)
    smoothed = theirs.smooth(model.params_.to_numpy())
    there = model.resid_.notna().to_numpy()
    np.testing.assert_allclose(model.resid_[there], smoothed.resid[there], atol=1e-5)
    ahead, frame = model.forecast(6), smoothed.get_forecast(6)
    np.testing.assert_allclose(ahead["mean"], frame.predicted_mean, atol=1e-5)
    np.testing.assert_allclose(ahead["lower"], frame.conf_int()[:, 0], atol=1e-4)
    inside = [g for g in gone if g > 15]
    np.testing.assert_allclose(model.filled_.iloc[inside], smoothed.smoother_results.smoothed_forecasts[0][inside], atol=1e-5)


def test_constant_drift_and_regressors_are_those_of_statsmodels():
    from statsmodels.tsa.arima.model import ARIMA as Theirs
    rng = np.random.default_rng(1)
    X = pd.DataFrame({"price": rng.normal(size=144), "promotion": rng.integers(0, 2, 144)}, index=AIR.index)
    for trend, order in (("c", (1, 0, 1)), ("ct", (1, 0, 0)), ("t", (0, 1, 1)), ("n", (1, 1, 0))):
        model = ARIMA(order, trend=trend).fit(AIR, X)
        theirs = Theirs(AIR, X, order=order, trend=trend).smooth(model.params_.to_numpy())
        assert theirs.llf == pytest.approx(model.loglik_, abs=1e-3)
        assert list(model.params_.index[-len(theirs.params) + len(trend.strip("n")):]) == list(theirs.model.param_names[len(trend.strip("n")):])
        future = X.iloc[:4].set_axis(model.forecast(4, X.iloc[:4].to_numpy()).index)
        np.testing.assert_allclose(model.forecast(4, future)["mean"], theirs.forecast(4, exog=future), atol=1e-3)
    assert ARIMA((1, 0, 0)).fit(AIR).params_.index[0] == "const"
    assert "const" not in ARIMA((1, 1, 0)).fit(AIR).params_


# what must hold for every model and every series

partial = st.floats(-0.95, 0.95)


@settings(max_examples=40, deadline=None)
@given(st.lists(partial, min_size=1, max_size=6))
def test_partials_go_there_and_back(k):
    phi = np.array(k)
    from_partials(phi, 0, len(phi))
    assert np.abs(np.roots(np.r_[1, -phi])).max() < 1 + 1e-9
    back = phi.copy()
    assert to_partials(back, 0, len(back))
    np.testing.assert_allclose(back, k, atol=1e-7)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(-1.5, 1.5), max_size=2), min_size=4, max_size=4), st.integers(2, 5), st.integers(0, 10**6))
def test_the_likelihood_is_that_of_the_joint_density(blocks, s, seed):
    sizes, x = np.array([*map(len, blocks), s]), np.array(sum(blocks, []), float)
    n, both = 25, polynomials(coefficients(x, sizes), sizes)
    psi = lfilter(np.r_[1, both[1]], np.r_[1, -both[0]], np.r_[1, np.zeros(4000)])
    omega = toeplitz([psi[:len(psi) - k] @ psi[k:] for k in range(n)])
    w = np.random.default_rng(seed).normal(size=n)
    sigma2 = w @ np.linalg.solve(omega, w) / n
    direct = 0.5 * (np.log(2 * np.pi * sigma2) + 1 + np.linalg.slogdet(omega)[1] / n)
    assert negative(x, sizes, w[:, None]) == pytest.approx(direct, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(-100, 100), st.sampled_from(MODELS[:2]))
def test_unit_and_level_do_not_matter(scale, shift, orders):
    plain, other = (ARIMA(*orders, trend="n").fit(z) for z in (AIR.to_numpy(), scale * AIR.to_numpy() + shift))
    assert other.loglik_ == pytest.approx(plain.loglik_ - plain.nobs_ * np.log(scale), abs=1e-3)
    np.testing.assert_allclose(other.params_[:-1], plain.params_[:-1], atol=2e-3)
    np.testing.assert_allclose(other.forecast(5), scale * plain.forecast(5) + shift, rtol=1e-3, atol=1e-3 * scale)


@settings(max_examples=15, deadline=None)
@given(arrays(bool, 60, elements=st.sampled_from([False, False, False, True])), st.integers(0, 1))
def test_steps_and_columns_agree_where_values_are_missing(gone, d):
    y = np.cumsum(np.random.default_rng(3).normal(size=60))
    y[gone & (np.arange(60) > d)] = np.nan
    sizes, (columns, m) = np.array([1, 1, 0, 0, 1]), levels(y, np.empty((60, 0)))
    w = difference(columns, d, 0, 1)
    fit = solve(np.array([0.5, 0.3]), sizes, w, m)
    v, f, _ = errors(fit.both, fit.first, w)
    e, variance = one_step(v, f, m)
    there = np.isfinite(e)
    assert (~there).sum() == m
    steps = -0.5 * (np.log(2 * np.pi * fit.sigma2 * variance[there]) + e[there] ** 2 / (fit.sigma2 * variance[there])).sum()
    assert steps == pytest.approx(fit.loglik, abs=1e-6)


def test_missing_at_the_end_only_makes_the_horizon_longer():
    short = ARIMA((1, 1, 1)).fit(AIR[:-4])
    longer = ARIMA((1, 1, 1)).fit(AIR.where(AIR.index < AIR.index[-4]))
    np.testing.assert_allclose(longer.forecast(3), short.forecast(7)[4:], atol=1e-4)
    assert longer.loglik_ == pytest.approx(short.loglik_, abs=1e-6)


def test_simulated_series_give_their_parameters_back():
    rng = np.random.default_rng(0)
    e = rng.normal(size=4000)
    model = ARIMA((2, 0, 1)).fit(5 + lfilter([1, 0.5], [1, -0.6, 0.3], e))
    assert (np.abs(model.params_ - [5, 0.6, -0.3, 0.5, 1]) < 3.5 * model.bse_).all()
    path = ARIMA((1, 0, 0)).fit(lfilter([1], [1, -0.8], e)).simulate(3000, random_state=1)
    assert np.corrcoef(path[1:], path[:-1])[0, 1] == pytest.approx(0.8, abs=0.05)


def test_intervals_hold_what_they_promise():
    rng, inside = np.random.default_rng(0), []
    for _ in range(150):
        y = np.cumsum(lfilter([1, -0.5], [1], rng.normal(size=110)))
        ahead = ARIMA((0, 1, 1)).fit(y[:100]).forecast(10, level=0.8)
        inside.append(((ahead["lower"] < y[100:]) & (y[100:] < ahead["upper"])).mean())
    assert 0.72 < np.mean(inside) < 0.86


# contract

def test_dates_of_every_kind_go_in_and_come_out():
    model = ARIMA((0, 1, 1))
    assert model.fit(AIR).forecast(2).index.equals(pd.date_range("1961-01-01", periods=2, freq="MS"))
    assert model.fit(AIR.to_period()).forecast(2).index.equals(pd.period_range("1961-01", periods=2, freq="M"))
    assert model.fit(AIR.to_numpy()).forecast(2).index.tolist() == [144, 145]
    assert model.resid_.index.equals(pd.RangeIndex(144))
    assert list(model.fit(AIR).forecast(2).columns) == ["mean", "lower", "upper"]
    assert model.simulate(3, random_state=0, paths=2).shape == (3, 2)
    assert model.simulate(3, random_state=0).equals(model.simulate(3, random_state=0))


def test_estimator_contract_and_files(tmp_path):
    y = AIR.copy()
    y.iloc[[40, 41]] = np.nan
    before = y.copy()
    model = clone(ARIMA((1, 1, 1), (0, 1, 1, 12))).set_params(max_iter=150)
    assert model.fit(y) is model and y.equals(before)
    model.save(tmp_path / "m")
    again = ARIMA.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.forecast(7), model.forecast(7))
    pd.testing.assert_frame_equal(again.summary(), model.summary())
    pd.testing.assert_series_equal(again.filled_, model.filled_)
    assert again.get_params()["max_iter"] == 150
    again.fit(y)
    pd.testing.assert_series_equal(again.params_, model.params_)
    with pytest.raises(NotFittedError):
        ARIMA().forecast(3)
    with pytest.raises(ValueError, match="not a saved"):
        (tmp_path / "bad").write_bytes(b"nothing")
        ARIMA.load(tmp_path / "bad")


def test_warm_start_ends_at_the_same_place_sooner():
    model = ARIMA((2, 1, 1), (0, 1, 1, 12), warm_start=True).fit(AIR)
    loglik = model.loglik_
    model.fit(AIR)
    assert model.n_iter_ <= 5 and model.loglik_ == pytest.approx(loglik, abs=1e-6)


def test_conditional_sum_of_squares_is_near():
    css, exact = (ARIMA((1, 1, 1), method=method).fit(AIR) for method in ("css", "exact"))
    assert exact.loglik_ - 1 < css.loglik_ <= exact.loglik_ + 1e-9


def test_diagnose_tells_noise_from_what_is_left():
    rng = np.random.default_rng(2)
    fine, wrong = ARIMA((1, 0, 0)).fit(lfilter([1], [1, -0.7], rng.normal(size=400))).diagnose(), ARIMA((0, 0, 0)).fit(lfilter([1], [1, -0.7], rng.standard_t(3, size=400))).diagnose()
    assert fine["p_value"].iloc[0] > 0.01 and (wrong["p_value"].iloc[:2] < 1e-3).all()


def test_threads_do_not_disturb_each_other():
    alone = ARIMA((1, 1, 1)).fit(AIR).params_
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: ARIMA((1, 1, 1)).fit(AIR).params_, range(8)):
            pd.testing.assert_series_equal(found, alone)


def test_the_model_loads_no_peer():
    code = "import sys; from dlagg.mining import ARIMA, auto_arima; ARIMA, auto_arima; print([m for m in ('statsmodels', 'keras', 'matplotlib', 'jax') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# the search

def test_auto_arima_finds_the_airline_model_and_keeps_its_path(tmp_path):
    model = auto_arima(AIR)
    assert (model.order, model.seasonal_order) == ((0, 1, 1), (0, 1, 1, 12))
    assert model.path_["aicc"].min() == pytest.approx(model.aicc_, abs=1e-4)
    assert list(model.path_.columns) == ["order", "seasonal_order", "trend", "loglik", "aicc", "why"]
    assert not model.path_.duplicated(["order", "seasonal_order", "trend"]).any()
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(ARIMA.load(tmp_path / "m").path_, model.path_)


def test_auto_arima_on_white_noise_a_walk_and_a_memory():
    rng = np.random.default_rng(5)
    e = rng.normal(size=500)
    assert auto_arima(e).order[1] == 0
    assert auto_arima(np.cumsum(e)).order[1] == 1
    chosen = auto_arima(lfilter([1], [1, -1.2, 0.6], e))
    assert chosen.order[1] == 0 and chosen.aicc_ <= ARIMA((2, 0, 0)).fit(lfilter([1], [1, -1.2, 0.6], e)).aicc_ + 2
    assert auto_arima(np.cumsum(e), d=0, max_p=1, max_q=0).order[1:] == (0, 0)


def test_auto_arima_with_gaps_and_regressors():
    y = AIR.copy()
    y.iloc[[20, 90]] = np.nan
    X = np.random.default_rng(0).normal(size=(144, 1))
    model = auto_arima(y, 12, X=X)
    assert model.seasonal_order[1] == 1 and "x1" in model.params_ and len(model.forecast(3, X[:3])) == 3


# what is refused

@pytest.mark.parametrize(("make", "y", "says"), [
    (lambda: ARIMA((2, 1, 2), (1, 1, 1, 12)), AIR[:20], "observations or more"),
    (lambda: ARIMA((0, 1, 1)), AIR.where(AIR < 6, np.inf), "infinite"),
    (lambda: ARIMA((0, -1, 1)), AIR, "d in order must be an integer, 0 or more; got -1"),
    (lambda: ARIMA((0, 1)), AIR, r"order must be \(p, d, q\)"),
    (lambda: ARIMA((0, 1, 1), (0, 1, 1, 1)), AIR, "s in seasonal_order must be 2 or more"),
    (lambda: ARIMA((1, 0, 0)), np.ones(40), "y is constant"),
    (lambda: ARIMA((0, 1, 0)), np.arange(40.0), "y is constant"),
    (lambda: ARIMA((0, 1, 0), trend="c"), AIR, 'use trend="t"'),
    (lambda: ARIMA((0, 2, 0), trend="t"), AIR, "take away"),
    (lambda: ARIMA(method="ols"), AIR, "method must be one of"),
    (lambda: ARIMA(cov_type="opg"), AIR.where(AIR.index != AIR.index[7]), "needs every observation"),
    (lambda: ARIMA(), AIR.sample(frac=1, random_state=0), "sorted by date"),
    (lambda: ARIMA(), AIR.drop(AIR.index[5]), "gaps"),
    (lambda: ARIMA(), pd.concat([AIR, AIR[-1:]]), "more than one observation"),
    (lambda: ARIMA(), [1.0, "two", 3.0], "must hold numbers"),
    (lambda: ARIMA((0, 1, 1), (0, 1, 1, 12)), AIR.where(AIR.index.month != 3), "every value of their season"),
    (lambda: ARIMA(), np.full(30, np.nan), "observations"),
])
def test_what_is_refused(make, y, says):
    with pytest.raises(ValueError, match=says):
        make().fit(y)


def test_what_is_refused_of_regressors():
    X = np.column_stack([np.arange(144.0) ** 2, np.ones(144)])
    with pytest.raises(ValueError, match="depends on other columns"):
        ARIMA((0, 1, 1)).fit(AIR, X)
    with pytest.raises(ValueError, match="X must be finite"):
        ARIMA((0, 1, 1)).fit(AIR, np.full((144, 1), np.nan))
    with pytest.raises(ValueError, match="a row for each of 144"):
        ARIMA((0, 1, 1)).fit(AIR, X[:100, :1])
    model = ARIMA((0, 1, 1)).fit(AIR, X[:, :1])
    for X_new, says in ((None, "X must be given"), (np.ones((2, 1)), "a row for each of 3")):
        with pytest.raises(ValueError, match=says):
            model.forecast(3, X_new)
        with pytest.raises(ValueError, match=says):
            model.simulate(3, X=X_new)
    for bad in (dict(h=0), dict(h=2.5), dict(h=2, level=1.0)):
        with pytest.raises(ValueError):
            ARIMA((0, 1, 1)).fit(AIR).forecast(**bad)


def test_what_auto_arima_refuses():
    for arguments, says in ((dict(y=np.ones(50)), "constant"), (dict(y=AIR[:3]), "4 observations"), (dict(y=AIR, s=0), "s must be"), (dict(y=AIR, criterion="r2"), "criterion must be"), (dict(y=AIR, max_p=-1), "max_p must be"), (dict(y=AIR, d=-1), "d must be")):
        with pytest.raises(ValueError, match=says):
            auto_arima(**arguments)


def test_information_that_says_nothing_gives_no_standard_error():
    assert np.isnan(inverse(np.array([[1.0, 0.0], [0.0, 0.0]]))).all()
    model = ARIMA((1, 0, 1)).fit(np.random.default_rng(0).normal(size=60))
    assert ((model.bse_ > 0) | model.bse_.isna()).all()


def test_numbers_of_every_size_and_a_search_that_was_cut_short():
    for scale in (1e-8, 1e8):
        assert np.isfinite(ARIMA((1, 1, 1)).fit(scale * AIR.to_numpy()).loglik_)
    with pytest.warns(UserWarning, match="has not ended"):
        ARIMA((3, 1, 3), max_iter=1).fit(AIR)
    x = free(np.array([1.5]), np.array([1, 0, 0, 0, 1]))
    assert x.tolist() == [0.0] and not np.isfinite(start(polynomials(np.array([1.5]), np.array([1, 0, 0, 0, 1])))).all()
    sizes = np.array([0, 1, 0, 1, 12])
    columns, m = levels(AIR.to_numpy(), np.empty((144, 0)))
    w = difference(columns, 1, 1, 12)
    fit = solve(coefficients(search(w, sizes, m)[0], sizes), sizes, w, m)
    assert (np.linalg.eigvalsh(observed(fit, sizes, w, m)) > 0).all()
