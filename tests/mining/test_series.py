"""What surrounds ARIMA: reading a series, tests for differences, baselines, exponential smoothing, decomposition, and fair trials."""
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.tsa.api as tsa
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from dlagg.mining import ETS, Drift, MeanForecast, Naive, SeasonalNaive, acf, adf_test, compare, coverage, decompose, future_index, kpss_test, ljung_box, mase, ndiffs, nsdiffs, pacf, pinball, plot_acf, plot_decomposition, plot_forecast, plot_residuals, read_series, rolling_origin, scores, smape, stl, strength
from dlagg.mining.arima_ets import _cost
from dlagg.mining.arima_series import _index_back, _index_state, read_regressors
from dlagg.tables.datasets import fetch_series, load_co2, load_macrodata, load_sunspots

FREQUENCIES = ["YS", "YE-MAR", "QS", "QE-NOV", "MS", "ME", "W-WED", "B", "D", "h", "15min", "2D"]
BASELINES = [Naive(), SeasonalNaive(4), Drift(), MeanForecast()]
numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
series = st.lists(numbers, min_size=12, max_size=60)


@pytest.fixture(scope="module")
def classics(mirror):
    "The four series of the mirror."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLAGG_MIRROR", str(mirror))
        return {name: fetch_series(name).astype(float) for name in ("AirPassengers", "ausbeer", "souvenirs", "UKDriverDeaths")}


def wave(n=60, m=4, seed=0):
    "A positive series with level, slope and season, by quarter."
    rng, t = np.random.default_rng(seed), np.arange(n)
    return pd.Series(50 + 0.5 * t + 5 * np.sin(2 * np.pi * t / m) + rng.normal(0, 1, n), pd.date_range("2001-01-01", periods=n, freq="QS"))


# Reading


@given(st.sampled_from(FREQUENCIES), st.integers(8, 80), st.integers(0, 4000), st.data())
@settings(max_examples=80, deadline=None)
def test_a_lost_date_is_named_and_no_other(freq, n, start, data):
    dates = pd.date_range(pd.Timestamp("1999-01-01") + pd.Timedelta(days=start), periods=n, freq=freq)
    whole = read_series(pd.Series(1.0, pd.DatetimeIndex(dates.values)))
    assert whole.index.equals(dates) and whole.index.freq is not None
    assert future_index(whole.index, 3).equals(pd.date_range(dates[0], periods=n + 3, freq=freq)[-3:])
    i = data.draw(st.integers(2, n - 3))
    with pytest.raises(ValueError) as error:
        read_series(pd.Series(1.0, dates.delete(i)))
    lost = dates[i]
    assert f"1 of {n} observations are missing: {lost.date() if lost == lost.normalize() else lost};" in str(error.value)


@given(st.permutations(range(8)))
@settings(max_examples=30, deadline=None)
def test_only_sorted_dates_pass(order):
    dates = pd.date_range("2020-01-01", periods=8, freq="MS")
    y = pd.Series(range(8), dates).iloc[list(order)]
    if list(order) == sorted(order):
        assert read_series(y).values.tolist() == list(range(8))
    else:
        with pytest.raises(ValueError, match="must be sorted by date"):
            read_series(y)


@pytest.mark.parametrize(("y", "says"), [
    ([], "1 observations or more; got 0"), (5, "shape ()"), (None, "shape ()"), ("abc", "shape ()"), ([[1, 2], [3, 4]], "shape (2, 2)"),
    ([1, "x"], "at position 1 it holds 'x', of type str"), ([1, 2j], "must hold numbers"), ([1, [2]], "must hold numbers"), ([1, -np.inf], "1 infinite values, the first at 1: -inf"),
    ([np.nan, 1], "1 missing values, the first at 0"), (pd.Series(["a"], dtype="category"), "must hold numbers"), (pd.Series(pd.to_datetime(["2020-01-01"])), "must hold numbers"),
    (pd.Series([1.0, 2.0], [0.5, 1.5]), "must be indexed by dates, periods or whole numbers"), (pd.Series([1, 2], ["a", "b"]), "such as 'a'"),
    (pd.Series([1, 2, 3], [1990, 1991, 1993]), None), (pd.DataFrame({"a": [1], "b": [2]}), "got columns ['a', 'b']"),
    (pd.Series([1, 2, 3], pd.to_datetime(["2020-01-15", "2020-02-15", "2020-03-15"])), "no regular frequency"),
    (pd.Series([1, 2], pd.to_datetime(["2020-01-01", None])), "1 observations without a date"),
    (pd.Series([1, 2], pd.to_datetime(["2020-01-01"] * 2)), "more than one observation for 1 dates: 2020-01-01"),
])
def test_what_is_wrong_is_named(y, says):
    says = says or "1 of 4 observations are missing: 1992"
    with pytest.raises(ValueError) as error:
        read_series(y)
    assert says in str(error.value)


def test_every_form_gives_the_same_values():
    dates = pd.date_range("2020-01-31", periods=4, freq="ME")
    values = [1.0, np.nan, 3.0, 4.0]
    forms = [values, tuple(values), np.array(values), np.array(values)[:, None], pd.Series([1, None, 3, 4], dtype="Int64"), pd.Series(values, dates), pd.Series(values, dates.to_period("M")),
             pd.DataFrame({"when": dates, "y": values}), pd.DataFrame({"y": values}, dates), np.array(values, dtype=np.float32), [1, None, 3, 4]]
    for form in forms:
        np.testing.assert_array_equal(read_series(form, missing=True).values, values)
    y = pd.Series(values, dates)
    read_series(y, missing=True).values[:] = 0
    assert y.iloc[0] == 1    # a copy was changed


def test_a_day_with_a_clock_change_is_a_day():
    days = pd.date_range("2024-03-25", periods=12, tz="Europe/Berlin")
    got = read_series(pd.Series(range(12), pd.DatetimeIndex(days.to_pydatetime()))).index
    assert got.equals(days) and future_index(got, 1)[0] == days[-1] + pd.DateOffset(days=1)


@given(st.sampled_from(FREQUENCIES), st.integers(1, 30), st.sampled_from([None, "UTC", "America/New_York"]))
@settings(max_examples=40, deadline=None)
def test_an_index_survives_its_file(freq, n, zone):
    index = pd.date_range("2021-03-10", periods=n, freq=freq, tz=zone, name="when")
    again = _index_back(_index_state(index))
    assert again.equals(index) and again.name == "when" and future_index(again, 5).equals(future_index(index, 5))


def test_regressors_must_fit_the_series():
    dates = pd.date_range("2020-01-01", periods=3, freq="MS")
    X = pd.DataFrame({"a": [1, 2, 3], "b": [4, 5, 6]}, dates)
    assert read_regressors(X[["b", "a"]], dates, ["a", "b"])[0].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert read_regressors(X, dates.to_period("M"))[1] == ["a", "b"]
    for wrong, says in [(X.shift(freq="MS"), "must have the dates"), (X[:2], "got 2"), (X.assign(a="x"), "X['a'] must hold numbers"), (X.assign(a=[1, np.inf, 2]), "must be finite"), (X.set_axis(["a", "a"], axis=1), "different names")]:
        with pytest.raises(ValueError) as error:
            read_regressors(wrong, dates)
        assert says in str(error.value)


# Correlation and unit roots


@given(st.integers(24, 200), st.integers(0, 10**6), st.floats(-1, 1))
@settings(max_examples=25, deadline=None)
def test_the_tests_give_statsmodels_numbers(n, seed, memory):
    e = np.random.default_rng(seed).normal(size=n)
    y = e + memory * e.cumsum()
    np.testing.assert_allclose(acf(y), tsa.acf(y, nlags=min(int(10 * np.log10(n)), n - 1)), atol=1e-10)
    np.testing.assert_allclose(pacf(y, 8), tsa.pacf(y, nlags=8, method="ldb"), atol=1e-10)
    theirs = sm.stats.acorr_ljungbox(y, lags=6, model_df=1)
    np.testing.assert_allclose(ljung_box(y, 6, fitted=1), theirs, rtol=1e-7, atol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for trend in ("n", "c", "ct", "ctt"):
            np.testing.assert_allclose(adf_test(y, trend)[:4], tsa.adfuller(y, regression=trend)[:4], rtol=1e-6, atol=1e-8)
        for trend in ("c", "ct"):
            np.testing.assert_allclose(kpss_test(y, trend)[:3], tsa.kpss(y, regression=trend)[:3], atol=1e-8)


@given(series, st.floats(0.01, 100), st.floats(-1000, 1000))
@settings(max_examples=40, deadline=None)
def test_correlations_and_differences_ignore_unit_and_origin(y, unit, origin):
    y = np.array(y)
    assume(np.ptp(y) > 1)
    moved = unit * y + origin
    np.testing.assert_allclose(acf(moved), acf(y), atol=1e-7)
    assert (np.abs(acf(y)) <= 1 + 1e-12).all() and (np.abs(pacf(y, 5)) <= 1 + 1e-9).all()
    assert 0 <= ndiffs(y) <= 2 and nsdiffs(y, 4) in (0, 1)


def test_differences_of_what_is_known():
    rng = np.random.default_rng(0)
    e = rng.normal(size=300)
    assert [ndiffs(y) for y in (e, e.cumsum(), e.cumsum().cumsum())] == [0, 1, 2]
    assert ndiffs(e.cumsum(), test="adf") == 1 and ndiffs(e, test="adf") == 0
    season = np.tile(rng.normal(size=12) * 4, 25)
    assert nsdiffs(e + season, 12) == 1 and nsdiffs(e, 12) == 0
    holes = pd.Series(e + season).where(rng.random(300) > 0.1)
    assert nsdiffs(holes, 12) == 1 and ndiffs(holes) == 0


@pytest.mark.parametrize("call", [lambda y: acf(y), lambda y: pacf(y), lambda y: ljung_box(y), lambda y: adf_test(y), lambda y: kpss_test(y)])
@pytest.mark.parametrize("y", [[1, 1, 1, 1, 1, 1], [1.0], [1, np.inf, 2, 3]])
def test_constant_short_and_infinite_are_refused(call, y):
    with pytest.raises(ValueError, match="constant|observations or more|infinite"):
        call(y)


# Decomposition


@given(st.integers(2, 6), st.integers(0, 10**6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_parts_add_up_and_follow_the_unit(m, seed, robust):
    y = np.random.default_rng(seed).normal(size=8 * m + 3).cumsum()
    for cut in (lambda v: stl(v, m, robust=robust), lambda v: decompose(v, m)):
        parts = cut(y)
        total = parts.trend + parts.seasonal + parts.remainder
        np.testing.assert_allclose(total.dropna(), y[total.notna()], atol=1e-9)
        origin = 0 if robust else 100    # the robust weights of a short series may turn on the last digit; a unit of 4 changes none
        moved = cut(4 * y + origin)
        np.testing.assert_allclose(moved.seasonal, 4 * parts.seasonal, atol=1e-6)
        np.testing.assert_allclose(moved.trend, 4 * parts.trend + origin, atol=1e-6)
    np.testing.assert_allclose(stl(y, m).trend, tsa.STL(y, period=m).fit().trend, atol=1e-8)
    np.testing.assert_allclose(decompose(y, m).seasonal, tsa.seasonal_decompose(y, period=m).seasonal, atol=1e-10)


def test_decomposition_on_the_classics(classics):
    for name, y in classics.items():
        m = 4 if name == "ausbeer" else 12
        for options in ({}, {"robust": True}, {"seasonal": 11}):
            ours, theirs = stl(y, **options), tsa.STL(y, period=m, **options).fit()
            scale = y.abs().max()
            for column, values in (("trend", theirs.trend), ("seasonal", theirs.seasonal), ("remainder", theirs.resid)):
                np.testing.assert_allclose(ours[column] / scale, values / scale, atol=1e-8)
        theirs = tsa.seasonal_decompose(y, model="multiplicative", period=m)
        np.testing.assert_allclose(decompose(y, model="multiplicative").remainder, theirs.resid, rtol=1e-10)
        assert strength(y).seasonal > 0.5


# Forecasters


@pytest.mark.parametrize("model", [*BASELINES, ETS("add", "add", "add", False, 4), ETS("add", None, None), ETS(seasonal_periods=4)], ids=lambda m: f"{type(m).__name__}-{getattr(m, 'error', '')}-{getattr(m, 'trend', '')}")
def test_what_every_forecaster_owes(model, tmp_path):
    y = wave()
    with pytest.raises(NotFittedError):
        model.forecast(1)
    fitted = clone(model).fit(y)
    ahead = fitted.forecast(6)
    assert list(ahead.columns) == ["mean", "lower", "upper"] and ahead.index.equals(pd.date_range("2016-01-01", periods=6, freq="QS"))
    assert ((ahead["lower"] < ahead["mean"]) & (ahead["mean"] < ahead["upper"])).all()
    narrow = fitted.forecast(6, level=0.5)
    assert ((narrow["upper"] - narrow["lower"]) < (ahead["upper"] - ahead["lower"])).all()
    np.testing.assert_allclose(fitted.forecast(3)["mean"], ahead["mean"][:3])
    fitted.save(tmp_path / "m.arrow")
    again = type(model).load(tmp_path / "m.arrow")
    pd.testing.assert_frame_equal(again.forecast(6), ahead)
    pd.testing.assert_series_equal(again.resid_, fitted.resid_)
    assert again.get_params() == fitted.get_params()
    np.testing.assert_allclose(fitted.fitted_ + (fitted.resid_ if getattr(fitted, "error_", "add") == "add" else fitted.resid_ * fitted.fitted_), y.where(fitted.fitted_.notna()))
    for bad, says in [({"h": 0}, "h must be"), ({"h": -3}, "h must be"), ({"h": 1.5}, "h must be"), ({"h": 1, "level": 0}, "level must be"), ({"h": 1, "level": 1}, "level must be"), ({"h": 1, "X": [[1]]}, "X must be None")]:
        with pytest.raises(ValueError, match=says):
            fitted.forecast(**bad)
    for bad in ([1.0], [1, 2, np.inf] * 9, ["a"] * 30):
        with pytest.raises(ValueError):
            clone(model).fit(bad)
    with pytest.raises(ValueError, match="uses no regressors"):
        clone(model).fit(y, X=np.ones(len(y)))
    (tmp_path / "m.arrow").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="is not a saved"):
        type(model).load(tmp_path / "m.arrow")


def test_a_fit_that_fails_leaves_no_model():
    model = SeasonalNaive(4).fit(wave())
    with pytest.raises(ValueError, match="needs 5 observations"):
        model.fit([1, 2, 3])
    with pytest.raises(NotFittedError):
        model.forecast(1)
    with pytest.raises(NotFittedError):
        ETS().simulate(3)


@given(series, st.sampled_from([0.25, 2.0, 64.0]), st.integers(-1000, 1000))
@settings(max_examples=40, deadline=None)
def test_baselines_follow_unit_and_origin(y, unit, origin):
    y = np.array(y)
    for model in BASELINES:
        plain, moved = clone(model).fit(y).forecast(7), clone(model).fit(unit * y + origin).forecast(7)
        np.testing.assert_allclose(moved, unit * plain + origin, rtol=1e-7, atol=1e-5 * (1 + np.abs(y).max() * unit))


@given(st.floats(-1e6, 1e6), st.integers(16, 40))
@settings(max_examples=20, deadline=None)
def test_a_constant_is_forecast_by_itself(value, n):
    for model in [*BASELINES, ETS("add", "add", None, False), ETS(seasonal_periods=4)]:
        ahead = clone(model).fit(np.full(n, value)).forecast(5)
        np.testing.assert_allclose(ahead, value, rtol=1e-6, atol=1e-6)


def test_missing_observations_in_the_baselines():
    y = wave()
    holes = y.copy()
    holes.iloc[[5, 17, 18, 40]] = np.nan
    for model in BASELINES:
        full, part = clone(model).fit(y), clone(model).fit(holes)
        np.testing.assert_allclose(part.forecast(4)["mean"], full.forecast(4)["mean"], rtol=0.01)
        assert 0.8 < part.sigma_ / full.sigma_ < 1.25
    late = pd.concat([y[:-3], y[-3:] * np.nan])
    for model in (Naive(), SeasonalNaive(4), Drift()):
        short = clone(model).fit(y[:-3]).forecast(6)
        np.testing.assert_allclose(clone(model).fit(late).forecast(3), short[3:], rtol=1e-9)    # three steps late is three steps further


# Exponential smoothing


WORD = {"A": "add", "M": "mul", "N": None}


def ets(code, m):
    return ETS(WORD[code[0]], WORD[code[1]], WORD[code[-1]], "d" in code, m if code[-1] != "N" else None)


@pytest.mark.parametrize("code", ["ANN", "AAN", "AAdN", "MAN", "ANA", "AAA", "MNA", "MAM"])
def test_likelihood_not_below_statsmodels(classics, code):
    for name in ("AirPassengers", "UKDriverDeaths", "souvenirs"):
        y = classics[name]
        ours = ets(code, 12).fit(y)
        model = tsa.ETSModel(y, error=WORD[code[0]], trend=WORD[code[1]], damped_trend="d" in code, seasonal=WORD[code[-1]], seasonal_periods=12 if code[-1] != "N" else None)
        if code[-1] != "M":    # statsmodels updates a multiplicative season by the new level, the book by its forecast
            np.testing.assert_allclose(ours.loglik_, model.loglike(ours.params_.to_numpy()), atol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ours.loglik_ > model.fit(disp=False).llf - 1e-3


@pytest.mark.parametrize("code", ["AAdA", "AAM", "MMM", "MAdM", "MNN"])
def test_ets_follows_the_unit(code):
    y = wave()
    for unit in (0.125, 1024.0):    # powers of two change no digit
        plain, moved = ets(code, 4).fit(y), ets(code, 4).fit(unit * y)
        np.testing.assert_allclose(moved.forecast(8), unit * plain.forecast(8), rtol=1e-9)
        np.testing.assert_allclose(moved.loglik_, plain.loglik_ - len(y) * np.log(unit), rtol=1e-9)


def test_ets_moves_with_the_origin_where_it_adds():
    y = wave()
    plain, moved = ets("AAA", 4).fit(y), ets("AAA", 4).fit(y - 1000)
    np.testing.assert_allclose(moved.loglik_, plain.loglik_, atol=1e-4)
    np.testing.assert_allclose(moved.forecast(8) + 1000, plain.forecast(8), atol=0.05)


def test_ets_gradient_where_the_season_is_long():
    rng = np.random.default_rng(3)
    y = np.exp(rng.normal(0, 0.1, 60))
    x = np.r_[0.3, 0.2, 0.4, 0.9, 1.0, 1.01, np.exp(rng.normal(0, 0.1, 12))]
    value, gradient = _cost(x, y, 2, 2, 2, 12)
    for i in range(len(x)):
        step = np.zeros(len(x))
        step[i] = 1e-6
        np.testing.assert_allclose(gradient[i], (_cost(x + step, y, 2, 2, 2, 12)[0] - _cost(x - step, y, 2, 2, 2, 12)[0]) / 2e-6, rtol=1e-4, atol=1e-4)


def test_automatic_choice_is_the_smallest_aicc(classics):
    y = classics["AirPassengers"]
    found = ETS().fit(y)
    assert found.aicc_ == found.candidates_.min() and found.candidates_.index[0] == found.method_ == "ETS(M,A,M)"
    for name in ("ETS(A,N,N)", "ETS(M,Ad,A)"):
        code = name[4:-1].replace(",", "")
        np.testing.assert_allclose(ets(code, 12).fit(y).aicc_, found.candidates_[name])
    assert "mul" not in (ETS().fit(y - 300).error_, ETS().fit(y - 300).seasonal_)
    assert ETS().fit(y.to_numpy()).seasonal_ is None    # no dates, no period: no season is tried


def test_simulated_paths_repeat_with_their_seed_and_spread_as_they_should():
    y = wave()
    model = ets("MAM", 4).fit(y)
    np.testing.assert_array_equal(model.simulate(5, 200), model.simulate(5, 200))
    assert not np.array_equal(model.simulate(5, 200), model.simulate(5, 200, random_state=1))
    paths = model.simulate(12, 20_000, random_state=2)
    ahead = model.forecast(12, level=0.8)
    share = ((paths > ahead["lower"].to_numpy()) & (paths < ahead["upper"].to_numpy())).mean(axis=0)
    assert (abs(share - 0.8) < 0.02).all()


def test_intervals_hold_what_they_promise():
    rng, inside = np.random.default_rng(5), []
    for _ in range(60):
        y = 10 + rng.normal(size=120).cumsum() * 0.5 + rng.normal(size=120)
        ahead = ETS("add", None, None).fit(y[:114]).forecast(6, level=0.9)
        inside.append(coverage(y[114:], ahead["lower"], ahead["upper"]))
    assert 0.84 < np.mean(inside) < 0.96


@pytest.mark.parametrize(("options", "y", "says"), [
    ({"error": "mul"}, [1, 2, 0, 4] * 9, "not positive"), ({"seasonal": "mul", "seasonal_periods": 4}, [1, 2, -1, 4] * 9, "not positive"), ({"error": "A"}, [1] * 30, "error must be one of"),
    ({"damped": 1}, [1] * 30, "damped must be one of"), ({"trend": None, "damped": True}, [1] * 30, "needs a trend"), ({"seasonal": "add", "seasonal_periods": 1}, [1] * 30, "2 or more; got 1"),
    ({"seasonal": "add", "seasonal_periods": 12}, list(range(20)), "observations or more; y has 20"), ({"seasonal": "add"}, [1] * 30, "seasonal_periods must be given"),
    ({"trend": "mul", "seasonal": "add"}, [1] * 30, "not a model of this family"), ({"n_paths": 3}, [1] * 30, "n_paths must be an integer, 100 or more"), ({}, [1, 2, np.nan] * 9, "missing values"), ({}, [1, 2], "observations or more; y has 2"),
])
def test_ets_says_what_it_cannot_do(options, y, says):
    with pytest.raises(ValueError) as error:
        ETS(**options).fit(y)
    assert says in str(error.value)


# Trials


@given(st.lists(numbers, min_size=3, max_size=40), st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_naive_has_a_mase_of_one_within_the_series(y, m):
    y = np.array(y)
    assume(np.abs(y[m:] - y[:-m]).max() > 1e-3)
    np.testing.assert_allclose(mase(y[m:], y[:-m], y, m), 1)
    assert 0 <= smape(y[m:], y[:-m]) <= 200
    np.testing.assert_allclose(pinball(y[m:], y[:-m], 0.5), np.abs(y[m:] - y[:-m]).mean() / 2)


def test_a_trial_sees_no_future_and_loses_nothing(classics):
    y = classics["ausbeer"]
    rolled = rolling_origin({"drift": Drift(), "mean": MeanForecast()}, y, h=4, initial=180, step=7)
    assert (rolled.label > rolled.origin).all()
    assert len(rolled) == 2 * 4 * len(range(180, len(y) - 3, 7))
    np.testing.assert_array_equal(rolled.actual, y[rolled.label])
    for origin, part in rolled[rolled.model == "drift"].groupby("origin"):
        np.testing.assert_allclose(part["mean"], Drift().fit(y[:origin]).forecast(4)["mean"])
    table = scores(rolled)
    assert table.n.tolist() == [len(rolled) // 2] * 2
    np.testing.assert_allclose(table.loc["mean", "rmse"], np.sqrt((rolled[rolled.model == "mean"].error**2).mean()))
    holes = y.where(np.arange(len(y)) % 13 != 5)
    part = scores(rolling_origin({"drift": Drift()}, holes, h=4, initial=180, step=7))
    assert part.n.iloc[0] < len(rolled) // 2 and np.isfinite(part.mase.iloc[0])


def test_pictures_take_periods_and_gaps():
    import matplotlib.pyplot as plt
    y = wave().to_period("Q")
    y.iloc[7] = np.nan
    ahead = MeanForecast().fit(y).forecast(4)
    axes = [plot_forecast(y, ahead, later=[50, 60], last=20), plot_acf(y), *plot_residuals(y), *plot_decomposition(stl(wave().to_period("Q")))]
    assert axes[0].get_ylabel() == "value (unit of the series)" and len(axes[0].lines[0].get_xdata()) == 20
    with pytest.raises(ValueError, match="last must be an integer, 1 or more; got 0"):
        plot_forecast(y, ahead, last=0)
    plt.close("all")


def test_smoothing_beats_the_baselines_on_the_classics(classics):
    for name, y in classics.items():
        m = 4 if name == "ausbeer" else 12
        table = compare({"ETS": ETS()}, y, h=m, initial=len(y) - 4 * m, step=m)
        if name == "UKDriverDeaths":    # the seat-belt law of 1983 moves the level in the middle of the trial: here last year is as good a guess
            assert table.loc["ETS", "mase"] < 1.2 * table.mase.min()
        else:
            assert table.loc["ETS", "beats"] and table.loc["ETS", "mase"] == table.mase.min(), name
        assert not table.loc[["Naive", "SeasonalNaive", "Drift", "MeanForecast"], "beats"].any()
        assert table.n.eq(4 * m).all()


@pytest.mark.parametrize(("options", "says"), [
    ({"models": {}}, "models is empty"), ({"models": {"a": 1}}, "must have fit and forecast"), ({"models": Naive(), "h": 0}, "h must be"), ({"models": Naive(), "step": 0}, "step must be"),
    ({"models": Naive(), "initial": 60}, "initial + h must be at most"), ({"models": Naive(), "level": 95}, "level must be"), ({"models": {"mine": SeasonalNaive()}, "initial": 2}, "mine failed after 2 observations, at 2001-04-01"),
])
def test_a_trial_says_what_is_wrong(options, says):
    with pytest.raises(ValueError) as error:
        rolling_origin(y=wave(), **options)
    assert says in str(error.value)


def test_a_light_import_stays_light():
    code = "import sys, dlagg.mining; assert not {'pandas', 'matplotlib', 'keras', 'statsmodels'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; from dlagg.mining import ETS, compare, ndiffs, stl; assert not {'matplotlib', 'keras', 'statsmodels'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
