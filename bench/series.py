"""What surrounds ARIMA, beside statsmodels and statsforecast, in turns: `python -m bench.series [--quick] [--cold]`. With `--cold` only the first call is measured again, and the faster one kept.

Writes bench/results/series.json. For the automatic choice of exponential smoothing: seconds of the fastest run, their seconds over ours (over 1: ours is faster), and AICc, theirs in our constants. For single models beside statsmodels:
the log-likelihood too (multiplicative seasons are a slightly different model there). For STL and the unit-root tests: the largest difference, relative to the series. Then how cost grows, the first call in a fresh process, and a trial of
forecasts from many origins on the four classic series, where every error is scaled by the seasonal naive forecast. Peers that are not installed are named as None.
"""
import argparse
import json
import warnings

import numpy as np
import pandas as pd
import statsmodels.tsa.api as tsa

from bench._race import RESULTS, cold, growth, race, ratios, record, write
from dlagg.mining import ETS, adf_test, auto_arima, compare, ndiffs, nsdiffs, stl
from dlagg.tables.datasets import fetch_series, load_co2, load_macrodata, load_sunspots

try:
    from statsforecast.arima import ndiffs as their_ndiffs, nsdiffs as their_nsdiffs
    from statsforecast.models import AutoETS
except ImportError:
    AutoETS = None

CLASSICS = ("AirPassengers", "ausbeer", "souvenirs", "UKDriverDeaths")
WORD = {"A": "add", "M": "mul", "N": None}
COLD = "import numpy as np, pandas as pd\nfrom dlagg.mining import ETS", "ETS().fit(pd.Series(np.exp(np.random.default_rng(0).normal(5, .1, 144)), pd.date_range('2000', periods=144, freq='MS'))).forecast(12)"
GROWTH = ("import numpy as np; from dlagg.mining import ETS; rng = np.random.default_rng(0); t = np.arange(n); make = lambda m: 100 + 10 * np.sin(t[:m] / 1.91) + rng.normal(size=m).cumsum() * 0.3; y = make(n); "
          "model = ETS('add', 'add', 'add', False, 12); model.fit(make(100))", "model.fit(y)")


def real(quick):
    "Real series by name, with their season."
    macro = load_macrodata()
    found = {name: (fetch_series(name).astype(float), 4 if name == "ausbeer" else 12) for name in CLASSICS[:2 if quick else 4]}
    if not quick:
        found.update({f"US {name}": (macro[name], 4) for name in ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "m1", "tbilrate", "unemp", "pop", "infl", "realint")})
        found.update({"sunspots + 1": (load_sunspots() + 1, 1), "CO2": (load_co2().interpolate().resample("MS").mean(), 12)})
    return found


def choice(series, turns):
    "Automatic exponential smoothing, one row a series."
    rows = {}
    for name, (y, m) in series.items():
        values = y.to_numpy()
        runs = {"ours": lambda: ETS(seasonal_periods=m if m > 1 else None).fit(y)}
        if AutoETS:
            runs["statsforecast"] = lambda: AutoETS(season_length=m).fit(values).model_
        seconds, answers = race(runs, turns)
        n, row = len(y), {"seconds": seconds, "model": answers["ours"].method_, "aicc": answers["ours"].aicc_}
        if AutoETS:    # their log-likelihood leaves n / 2 (log(2 pi / n) + 1) out
            row.update(times_faster=ratios(seconds), their_model=answers["statsforecast"]["components"], their_aicc=float(answers["statsforecast"]["aicc"] + n * np.log(2 * np.pi / n) + n))
        rows[name] = row
    return rows


def single(series, turns):
    "One model each, beside statsmodels."
    rows = {}
    for name, (y, m) in series.items():
        for code in ("AAN", *(("ANA", "AAA", "MAM") if m > 1 else ())):
            kind = {"error": WORD[code[0]], "trend": WORD[code[1]], "seasonal": WORD[code[2]], "seasonal_periods": m if code[2] != "N" else None}
            if "mul" in kind.values() and y.min() <= 0:
                continue
            seconds, answers = race({"ours": lambda: ETS(damped=False, **kind).fit(y), "statsmodels": lambda: tsa.ETSModel(y, **kind).fit(disp=False, maxiter=2000)}, turns)
            rows[f"{name} {code}"] = {"seconds": seconds, "times_faster": ratios(seconds), "loglik": answers["ours"].loglik_, "their_loglik": float(answers["statsmodels"].llf)}
    return rows


def decompositions(turns, quick):
    "STL, at three lengths."
    rows, rng = {}, np.random.default_rng(0)
    for n in (144, 2000) if quick else (144, 2000, 20_000):
        y = 10 * np.sin(np.arange(n) / 1.91) + rng.normal(size=n).cumsum()
        for robust in (False, True):
            seconds, answers = race({"ours": lambda: stl(y, 12, robust=robust), "statsmodels": lambda: tsa.STL(y, period=12, robust=robust).fit()}, turns)
            rows[f"n {n}{', robust' if robust else ''}"] = {"seconds": seconds, "times_faster": ratios(seconds), "difference": float(np.abs(answers["ours"].trend - answers["statsmodels"].trend).max() / np.abs(y).max())}
    return rows


def differences(series, turns):
    "Unit roots and how often to difference."
    def of_all(test):
        return [test(y, m) for y, m in series.values()]
    runs = {"ours": lambda: of_all(lambda y, m: adf_test(y)[:2]), "statsmodels": lambda: of_all(lambda y, m: tsa.adfuller(y, result_object=False)[:2])}
    seconds, answers = race(runs, turns)
    rows = {"adf": {"seconds": seconds, "times_faster": ratios(seconds), "difference": float(np.abs(np.subtract(answers["ours"], answers["statsmodels"])).max())}}
    runs = {"ours": lambda: of_all(lambda y, m: (ndiffs(y), nsdiffs(y, m) if m > 1 else 0))}
    if AutoETS:
        runs["statsforecast"] = lambda: of_all(lambda y, m: (their_ndiffs(y.to_numpy().copy()), their_nsdiffs(y.to_numpy().copy(), period=m) if m > 1 else 0))
    seconds, answers = race(runs, turns)
    rows["ndiffs and nsdiffs"] = {"seconds": seconds, "times_faster": ratios(seconds), "same": [bool(a == tuple(map(int, b))) for a, b in zip(answers["ours"], answers["statsforecast"])] if AutoETS else None}
    return rows


def trials(quick):
    "Scores on the classics: the last third, a season ahead, an origin every third of a season."
    rows = {}
    for name in CLASSICS[:1 if quick else 4]:
        y, m = fetch_series(name).astype(float), 4 if name == "ausbeer" else 12
        table = compare({"ETS": ETS(), "auto_arima": lambda known, m=m: auto_arima(known, m)}, y, h=m, step=max(m // 3, 1) * (6 if quick else 1))
        rows[name] = {model: {column: float(row[column]) for column in ("mase", "smape", "pinball", "coverage", "n")} | {"beats": bool(row["beats"])} for model, row in table.iterrows()}
    return rows


def cold_again():
    "The first call once more: the faster of what the file says and what this run says."
    result, new = json.loads((RESULTS / "series.json").read_text()), cold(*COLD)
    result["cold"] = {name: min(value, result["cold"][name]) for name, value in new.items()}
    write("series", result)
    print(result["cold"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cold", action="store_true")
    quick, only_cold = vars(parser.parse_args()).values()
    if only_cold:
        cold_again()
        raise SystemExit
    warnings.simplefilter("ignore")    # statsmodels and statsforecast warn of searches that stopped early
    series, turns = real(quick), 1 if quick else 3
    result = record("statsmodels", "statsforecast", pandas=pd.__version__, what="seconds of the fastest of 3 runs in turns; times_faster: theirs / ours")
    result.update(choice=choice(series, turns), single=single(series, turns), stl=decompositions(turns, quick), differences=differences(series, turns))
    result.update(cold=cold(*COLD), growth=growth(*GROWTH, (1000, 4000, 16_000)), trials=trials(quick))
    write("series", result)
    if AutoETS:
        rows = list(result["choice"].values())
        print("choice: AICc no worse in", sum(r["aicc"] <= r["their_aicc"] + 1e-3 for r in rows), "of", len(rows), "; times faster, median", round(float(np.median([r["times_faster"]["statsforecast"] for r in rows])), 2))
    rows = [r for name, r in result["single"].items() if not name.endswith("M")]
    print("single: log-likelihood no lower in", sum(r["loglik"] >= r["their_loglik"] - 1e-3 for r in rows), "of", len(rows), "; times faster, median", round(float(np.median([r["times_faster"]["statsmodels"] for r in result["single"].values()])), 2))
    print("stl", {name: (round(r["times_faster"]["statsmodels"], 2), r["difference"]) for name, r in result["stl"].items()})
    print("differences", result["differences"], "\ncold", result["cold"], "\ngrowth", result["growth"], "\n", {name: {model: round(row["mase"], 3) for model, row in rows.items()} for name, rows in result["trials"].items()})
