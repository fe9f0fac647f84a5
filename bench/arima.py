"""ARIMA beside statsmodels and statsforecast, on the airline model and 20 real series. `python -m bench.arima [--quick]`.

Writes bench/results/arima.json. Every fit is from the raw series to a fitted model with its parameters. statsmodels' likelihood is taken with `simple_differencing`, which is the same function as ours; its time is the shorter of the
fits with and without, and with one thread of the matrix library: on matrices this small a second only costs it time. statsforecast fits by R's algorithm (CSS, then exact likelihood); its likelihood is R's. Seconds are those of the fastest of a few turns; ratios are theirs / ours (over 1, ours is faster).
A peer that is not installed is named and left out. AICc is compared at the peer's differences, because likelihoods of different differences answer different questions; once as the peer reports it, and once with the peer's orders fitted by exact likelihood.
"""
import argparse
import importlib.util
import warnings

import numpy as np
import pandas as pd

from bench._race import cold, growth, race, ratios, record, write
from dlagg.course.machine import one_blas_thread
from dlagg.mining import ARIMA, auto_arima
from dlagg.tables.datasets import fetch_online_retail, fetch_retail_prices, fetch_series, load_co2, load_macrodata, load_sunspots

warnings.simplefilter("ignore")


def shop_series():
    "Weekly sales by country and daily sales of the Online Retail data, and the products with the most months of the price data."
    lines = fetch_online_retail()
    lines = lines.assign(value=lines["Quantity"] * lines["UnitPrice"], date=pd.to_datetime(lines["InvoiceDate"]))
    lines = lines[(lines["value"] > 0)].set_index("date")
    found = {}
    for country in ("United Kingdom", "Germany", "France"):
        found[f"retail weekly, {country}"] = (np.log(lines.loc[lines["Country"] == country, "value"].resample("W").sum() + 1), 1)
    daily = lines["value"].resample("D").sum()
    found["retail daily"] = (np.log(daily[daily > 0]).reset_index(drop=True), 6)    # six working days: closed on Saturdays
    for code in lines["StockCode"].value_counts().index[:4]:
        found[f"retail weekly, product {code}"] = (np.log1p(lines.loc[lines["StockCode"] == code, "Quantity"].resample("W").sum()), 1)
    return found


def twenty():
    "Name -> (series, season): 20 real series."
    import statsmodels.api as sm
    macro = load_macrodata()
    found = {"AirPassengers (log)": (np.log(fetch_series("AirPassengers")), 12), "UKDriverDeaths": (fetch_series("UKDriverDeaths").astype(float), 12), "ausbeer": (fetch_series("ausbeer").astype(float), 4),
             "souvenirs (log)": (np.log(fetch_series("souvenirs")), 12), "sunspots": (load_sunspots(), 1), "co2 monthly": (load_co2().resample("MS").mean().interpolate(), 12),
             "nile": (sm.datasets.nile.load_pandas().data["volume"].astype(float), 1), "US inflation": (macro["infl"], 4), "US unemployment": (macro["unemp"], 4), "US GDP (log)": (np.log(macro["realgdp"]), 4),
             "US consumption (log)": (np.log(macro["realcons"]), 4), "elnino": (pd.Series(sm.datasets.elnino.load_pandas().data.iloc[:, 1:].to_numpy().ravel()), 12)}
    found |= shop_series()
    return dict(list(found.items())[:20])


def plain(y):
    return np.ascontiguousarray(np.asarray(y, float))


def statsmodels_fit(y, order, seasonal, trend, simple):
    from statsmodels.tsa.statespace.sarimax import SARIMAX
    differences = order[1] + seasonal[1]
    with one_blas_thread():
        return SARIMAX(plain(y), order=order, seasonal_order=seasonal, trend="c" if trend != "n" else "n", simple_differencing=simple and differences > 0).fit(disp=0)


def statsforecast_fit(y, order, seasonal, trend):
    from statsforecast.models import ARIMA as Peer
    P, D, Q, s = seasonal
    return Peer(order=order, seasonal_order=(P, D, Q), season_length=max(s, 1), include_mean=trend == "c", include_drift=trend == "t", method="CSS-ML").fit(plain(y))


def one_fit(y, order, seasonal, trend, turns):
    "Race of one model: seconds, likelihoods, ratios."
    runs = {"ours": lambda: ARIMA(order, seasonal, trend).fit(y), "statsmodels": lambda: statsmodels_fit(y, order, seasonal, trend, False), "statsmodels simple_differencing": lambda: statsmodels_fit(y, order, seasonal, trend, True)}
    if importlib.util.find_spec("statsforecast"):
        runs["statsforecast"] = lambda: statsforecast_fit(y, order, seasonal, trend)
    seconds, answers = race(runs, turns if len(y) > 300 else 3 * turns)    # a few milliseconds are easily disturbed
    loglik = {"ours": answers["ours"].loglik_, "statsmodels": answers["statsmodels simple_differencing"].llf}
    if "statsforecast" in answers:
        loglik["statsforecast"] = float(answers["statsforecast"].model_["loglik"])
    seconds["statsmodels"] = min(seconds["statsmodels"], seconds.pop("statsmodels simple_differencing"))
    return {"order": order, "seasonal_order": seasonal, "trend": trend, "n": len(y), "seconds": seconds, "ratio": ratios(seconds), "loglik": loglik}


def statsforecast_auto(y, s):
    from statsforecast.models import AutoARIMA
    return AutoARIMA(season_length=s).fit(plain(y)).model_


def one_search(y, s, turns):
    "Race of the automatic choice."
    runs = {"ours": lambda: auto_arima(y, s)}
    if importlib.util.find_spec("statsforecast"):
        runs["statsforecast"] = lambda: statsforecast_auto(y, s)
    seconds, answers = race(runs, turns)
    model = answers["ours"]
    row = {"season": s, "n": len(y), "seconds": seconds, "ratio": ratios(seconds), "ours": repr(model), "aicc": {"ours": model.aicc_}, "models_tried": len(model.path_)}
    if "statsforecast" in answers:
        p, q, P, Q, m, d, D = (int(v) for v in answers["statsforecast"]["arma"])
        row["statsforecast"] = f"({p},{d},{q})({P},{D},{Q}){m}"
        row["aicc"]["statsforecast"] = float(answers["statsforecast"]["aicc"])
        row["same_differences"] = (d, D) == (model.order[1], model.seasonal_order[1])
        row["aicc"]["ours_at_their_differences"] = model.aicc_ if row["same_differences"] else auto_arima(y, s, d=d, D=D).aicc_
        drift = any(name in answers["statsforecast"]["coef"] for name in ("intercept", "drift"))
        trend = ("c" if d + D == 0 else "t") if drift else "n"
        row["aicc"]["their_orders_by_exact_likelihood"] = ARIMA((p, d, q), (P, D, Q, m if P + D + Q else 0), trend).fit(y).aicc_
    return row, model


def fit_for_all(path, s):
    "The best model of a search that statsmodels accepts too: it refuses a lag that is in a polynomial and in its seasonal one."
    fine = [s == 1 or max(o[0], o[2]) < s or sum(so[:3]) == 0 for o, so in zip(path["order"], path["seasonal_order"])]
    return path[fine].sort_values("aicc").iloc[0]


def main(quick=False):
    turns = 1 if quick else 2
    airline = fetch_series("AirPassengers")
    result = record("statsmodels", "statsforecast", "scipy", "numba", quick=quick, fits={}, searches={})
    result["fits"]["airline model"] = one_fit(np.log(airline), (0, 1, 1), (0, 1, 1, 12), "n", 2 * turns)
    series = dict(list(twenty().items())[::5 if quick else 1])
    for name, (y, s) in series.items():
        result["searches"][name], model = one_search(y, s, 1)
        best = fit_for_all(model.path_, s)
        result["fits"][name] = one_fit(y, best.order, best.seasonal_order, best.trend, turns)
        print(name, {k: round(v, 1) for k, v in result["fits"][name]["ratio"].items()}, {k: round(v, 3) for k, v in result["fits"][name]["loglik"].items()}, result["searches"][name], flush=True)
        result["summary"] = summary(result)
        if not quick:
            write("arima", result)    # what there is so far
    result["cold"] = cold("from dlagg.mining import ARIMA\nimport numpy as np; from dlagg.mining.arima_fit import airline_passengers; y = np.log(airline_passengers().to_numpy())",
                          "ARIMA((0, 1, 1), (0, 1, 1, 12)).fit(y).forecast(12)")
    sizes = (1_000, 4_000, 16_000)
    setup = ("import numpy as np; from dlagg.mining import ARIMA\nfrom scipy.signal import lfilter\n"
             "make = lambda n: np.cumsum(lfilter([1, -0.4], [1, -0.3], np.random.default_rng(0).normal(size=n)))\nARIMA((1, 1, 1)).fit(make(200)); y = make(n)")
    result["growth"] = {"ARIMA(1,1,1)": growth(setup, "ARIMA((1, 1, 1)).fit(y)", sizes), "ARIMA(1,1,1), forecast of 24": growth(setup + "\nmodel = ARIMA((1, 1, 1)).fit(y)", "model.forecast(24)", sizes)}
    result["summary"] = summary(result)
    print(result["cold"], result["growth"], result["summary"])
    if not quick:
        write("arima", result)


def summary(result):
    "The figures asked for."
    fits, searches = result["fits"].values(), result["searches"].values()
    found = {"loglik_lower_than_statsmodels_by_more_than_1e-3": [name for name, f in result["fits"].items() if f["loglik"]["ours"] < f["loglik"]["statsmodels"] - 1e-3]}
    for peer in ("statsmodels", "statsforecast"):
        got = [f["ratio"][peer] for f in fits if peer in f["ratio"]]
        found[f"fit_ratio_{peer}"] = {"least": min(got), "median": float(np.median(got)), "most": max(got)} if got else "not installed"
    got = [f["ratio"]["statsforecast"] for f in searches if "statsforecast" in f["ratio"]]
    found["search_ratio_statsforecast"] = {"least": min(got), "median": float(np.median(got)), "most": max(got)} if got else "not installed"
    if got:
        found["aicc_no_worse"] = sum(f["aicc"]["ours_at_their_differences"] <= f["aicc"]["statsforecast"] + 1e-2 for f in searches)
        found["aicc_no_worse_than_their_orders_by_exact_likelihood"] = sum(f["aicc"]["ours_at_their_differences"] <= f["aicc"]["their_orders_by_exact_likelihood"] + 1e-2 for f in searches)
        found["of"], found["same_differences"] = len(got), sum(f["same_differences"] for f in searches)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four of the series, and no file")
    main(parser.parse_args().quick)
