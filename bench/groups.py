"""Grouped statistics beside pandas, Polars and DuckDB: 8 statistics of 4 columns, in turns. `python -m bench.groups [--quick | --streamed]`.

Writes bench/results/groups.json: seconds of the fastest run, the ratio theirs / ours (over 1: ours is faster), the largest relative difference
from pandas, and the most memory that a run of ours took beyond what was there before, as a multiple of the table (which counts as 1). Ours, Polars
and DuckDB use all cores, pandas has one. All read the same pandas or Polars frame in memory; DuckDB reads Polars' columns through Arrow.

`--streamed` measures ours alone, on Parquet files of 1 and 8 million rows of a key and two columns: seconds, and the most memory over what the process had after a first
small call. Statistics with states of a few numbers should stay flat; medians and distinct counts keep up to 1,024 values a group.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dlagg.agg.groups import group_aggregate
from dlagg.course.home import writing

RESULTS = Path(__file__).parent / "results" / "groups.json"
COLUMNS = ["a", "b", "c", "d"]
CASES = {
    "moments": ["count", "sum", "mean", "var", "std", "min", "max", "skew"],
    "everyday": ["count", "sum", "mean", "std", "min", "max", "first", "last"],
    "quantiles": ["count", "sum", "mean", "std", "min", "max", "median", "nunique"],
}
POLARS = {"var": lambda c: c.var(), "std": lambda c: c.std(), "skew": lambda c: c.skew(bias=False), "nunique": lambda c: c.n_unique()}
DUCKDB = {"mean": "avg", "var": "var_samp", "std": "stddev_samp", "skew": "skewness", "nunique": "count(distinct "}


def data(rows, groups):
    "A key and four float columns, one of them far from zero."
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"k": rng.integers(0, groups, rows)})
    for i, column in enumerate(COLUMNS):
        frame[column] = rng.normal(10.0 ** i, 1, rows)
    return frame


def contestants(frame, names):
    "A function without arguments for each library."
    polars = pl.from_pandas(frame)
    exprs = [POLARS.get(n, lambda c, n=n: getattr(c, n)())(pl.col(c)).alias(f"{n}_{c}") for c in COLUMNS for n in names]
    terms = ", ".join(f"{DUCKDB.get(n, n) if '(' in DUCKDB.get(n, n) else DUCKDB.get(n, n) + '('}{c}) as {n}_{c}" for c in COLUMNS for n in names)
    database = duckdb.connect()
    database.register("t", polars.to_arrow())
    return {"ours": lambda: group_aggregate(frame, "k", {c: names for c in COLUMNS}), "pandas": lambda: frame.groupby("k").agg({c: names for c in COLUMNS}),
            "polars": lambda: polars.group_by("k").agg(exprs).sort("k"), "duckdb": lambda: database.sql(f"select k, {terms} from t group by k order by k").to_arrow_table()}


def race(case, rows, groups, repeat):
    "Time all on one case, in turns."
    names = CASES[case]
    runs = contestants(data(rows, groups), names)
    seconds, answers = {name: [] for name in runs}, {}
    group_aggregate(data(1000, 10), "k", {c: names for c in COLUMNS})    # loads the compiled kernels
    for _ in range(repeat):
        for name, run in runs.items():
            start = time.perf_counter()
            answers[name] = run()
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(times) for name, times in seconds.items()}
    ours, theirs = answers["ours"].to_numpy(float), answers["pandas"].to_numpy(float)
    exact = [i for i, c in enumerate(answers["ours"].columns) if not c.startswith("skew")]    # a skewness may be 0: its difference is absolute
    away = np.abs(ours - theirs)
    return {"case": case, "statistics": names, "rows": rows, "columns": len(COLUMNS), "groups": groups, "seconds": best,
            "ratio": {name: best[name] / best["ours"] for name in best if name != "ours"},
            "largest_relative_difference": float(np.nanmax(away[:, exact] / np.abs(theirs[:, exact]))), "largest_difference_of_skewness": float(np.nanmax(away, initial=0)) if "skew" in names else None}


def peak_of(run):
    "Bytes that the process had before `run`, and the most that it had during it."
    page, peak, done = os.sysconf("SC_PAGE_SIZE"), [0], threading.Event()

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return before, max(peak[0], resident())


def memory(case, rows, groups):
    "Most memory during one run, input included, as a multiple of the input."
    frame = data(rows, groups)
    group_aggregate(frame[:1000], "k", {c: CASES[case] for c in COLUMNS})
    size = int(frame.memory_usage(index=False).sum())
    before, peak = peak_of(lambda: group_aggregate(frame, "k", {c: CASES[case] for c in COLUMNS}))
    return (peak - before + size) / size


def apart(*words):
    "The number that this module prints for these words, in a process of its own."
    return float(subprocess.run([sys.executable, "-m", "bench.groups", *map(str, words)], check=True, capture_output=True, text=True).stdout.split()[-1])


STREAMED = {"moments": ["count", "sum", "mean", "std", "min", "max", "skew", "first"], "median": ["median"], "nunique": ["nunique"]}


def write_file(path, rows, groups):
    "A Parquet file of a key and two columns, written in pieces."
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema([("k", pa.int64()), ("a", pa.float64()), ("b", pa.float64())])) as file:
        for start in range(0, rows, 500_000):
            n = min(500_000, rows - start)
            file.write_table(pa.table({"k": rng.integers(0, groups, n), "a": rng.normal(size=n), "b": rng.normal(size=n)}), row_group_size=125_000)


def stream_memory(path, case):
    "Megabytes over what the process had before, for one streamed run."
    wanted = {c: STREAMED[case] for c in "ab"}
    group_aggregate(pa.table({"k": [1, 2, 1], "a": [1.0, 2, 3], "b": [1.0, 2, 4]}).to_reader(), "k", wanted)
    before, peak = peak_of(lambda: group_aggregate(path, "k", wanted))
    return (peak - before) / 1e6


def streamed():
    "Seconds and peak memory of files of 1 and 8 million rows."
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in (1_000_000, 8_000_000):
            for groups in (1000, 100_000):
                path = f"{folder}/t.parquet"
                write_file(path, rows, groups)
                for case in STREAMED:
                    start = time.perf_counter()
                    group_aggregate(path, "k", {c: STREAMED[case] for c in "ab"})
                    seconds = time.perf_counter() - start
                    results.append({"case": case, "rows": rows, "groups": groups, "seconds": seconds, "peak_megabytes": apart("--stream-memory", path, case)})
                    print(f"{case:<9}{rows:>10,} rows of a file, {groups:>7,} groups: {seconds:5.2f} s, {results[-1]['peak_megabytes']:4.0f} MB over import", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and nothing written")
    parser.add_argument("--memory", nargs=3, metavar=("CASE", "ROWS", "GROUPS"), help="print the peak memory of one case and leave")
    parser.add_argument("--streamed", action="store_true", help="only the files; the other results stay as they are")
    parser.add_argument("--stream-memory", nargs=2, metavar=("FILE", "CASE"), help="print the peak memory of one streamed case and leave")
    args = parser.parse_args()
    if args.memory or args.stream_memory:
        print(memory(args.memory[0], *map(int, args.memory[1:])) if args.memory else stream_memory(*args.stream_memory))
        return
    if args.streamed:
        save(json.loads(RESULTS.read_text()) | {"streamed": streamed()})
        return
    rows, groups = (1_000_000, 10_000) if args.quick else (10_000_000, 100_000)
    results = []
    for case in CASES:
        r = race(case, rows, groups, 2 if args.quick else 3) | {"peak_memory_of_input": apart("--memory", case, rows, groups)}
        results.append(r)
        ratios = ", ".join(f"{name} {r['seconds'][name]:.2f} s (ratio {ratio:.2f})" for name, ratio in r["ratio"].items())
        print(f"{case:<9} {rows:,} x {len(COLUMNS)}, {groups:,} groups: ours {r['seconds']['ours']:.2f} s, {ratios}, "
              f"within {r['largest_relative_difference']:.0e} of pandas, peak memory {r['peak_memory_of_input']:.2f} of the input", flush=True)
    if not args.quick:
        record = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "numpy": np.__version__, "pandas": pd.__version__,
                  "polars": pl.__version__, "duckdb": duckdb.__version__, "cases": results, "streamed": streamed()}
        save(record)


def save(record):
    "Write the results, whole or not at all."
    with writing(RESULTS) as draft:
        draft.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
