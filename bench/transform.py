"""`DeepAggregator.transform` of a Parquet file that is read in batches: rows a second and peak memory. `python -m bench.transform [--quick]`.

Writes bench/results/transform.json. 1, 5 and 10 million rows x 16 float32 columns, 100,000 groups in random order, mean, max and attention pooling of
32-wide row vectors. Each measurement is a process of its own: it loads the saved model, transforms the file, and reports its seconds (with
compilation) and the most memory that the kernel ever counted for it (VmHWM), beside what it had before the first row (Python, Keras, JAX).
The plan "in memory" reads the file into a pandas frame first, for comparison, and only where it is at most 5 million rows.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = Path(__file__).parent / "results" / "transform.json"
COLUMNS = [f"x{i}" for i in range(16)]


def make(path, rows, groups, size=500_000):
    "Write a Parquet file of random rows, batch by batch."
    rng = np.random.default_rng(rows)
    schema = pa.schema([("k", pa.int64()), *((c, pa.float32()) for c in COLUMNS)])
    with pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=False) as writer:
        for begin in range(0, rows, size):
            n = min(size, rows - begin)
            values = rng.normal(size=(len(COLUMNS), n)).astype(np.float32)
            writer.write_table(pa.table([pa.array(rng.integers(0, groups, n)), *map(pa.array, values)], schema=schema), row_group_size=131_072)


def train(path):
    "A small trained model, saved."
    from dlagg.agg import DeepAggregator
    rng = np.random.default_rng(0)
    events = pd.DataFrame(rng.normal(size=(20_000, len(COLUMNS))).astype(np.float32), columns=COLUMNS).assign(k=np.repeat(np.arange(1000), 20))
    target = (events.groupby("k").x0.max() > 2).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        DeepAggregator("k", epochs=2).fit(events, target).save(path)


def memory(name):
    "A line of /proc/self/status in bytes."
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) * 1024


def one(plan, model, path):
    "Transform a file in this process; prints seconds, memory before and at most, groups, and a sum to compare by."
    from dlagg.agg import DeepAggregator
    model = DeepAggregator.load(model)
    before, begin = memory("VmRSS"), time.perf_counter()
    if plan == "in memory":
        table = model.transform(pd.read_parquet(path), classic=False)
    else:
        table = model.transform(path, classic=False, plan=plan)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "memory_before": before, "memory_peak": memory("VmHWM"), "groups": len(table), "sum": float(np.abs(table.to_numpy(np.float64)).sum())}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and nothing written")
    parser.add_argument("--one", nargs=3, metavar=("PLAN", "MODEL", "PATH"), help="measure one and leave")
    args = parser.parse_args()
    if args.one:
        one(*args.one)
        return
    results = []
    with tempfile.TemporaryDirectory(prefix="dlagg-bench-") as folder:
        model, path = f"{folder}/model", f"{folder}/events.parquet"
        train(model)
        for millions in (0.1, 0.5, 1) if args.quick else (1, 5, 10):
            rows = int(millions * 1e6)
            make(path, rows, 10_000 if args.quick else 100_000)
            for plan in ("partial", "sorted", *(["in memory"] if millions <= 5 else [])):
                text = subprocess.run([sys.executable, "-m", "bench.transform", "--one", plan, model, path], check=True, capture_output=True, text=True).stdout
                r = {"plan": plan, "rows": rows, "columns": len(COLUMNS), "file_bytes": os.path.getsize(path)} | json.loads(text.splitlines()[-1])
                r["rows_per_second"] = rows / r["seconds"]
                results.append(r)
                print(f"{plan:<9} {rows:>10,} rows: {r['seconds']:6.1f} s, {r['rows_per_second'] / 1e6:.2f} million rows/s, "
                      f"peak {r['memory_peak'] / 1e9:.2f} GB ({r['memory_before'] / 1e9:.2f} GB before the first row)", flush=True)
            sums = [r["sum"] for r in results if r["rows"] == rows]
            assert max(sums) / min(sums) - 1 < 1e-5, f"the plans differ: {sums}"
    if not args.quick:
        from dlagg.course.home import writing
        record = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "numpy": np.__version__, "pandas": pd.__version__,
                  "pyarrow": pa.__version__, "groups": 100_000, "pooling": ["mean", "max", "attention"], "cases": results}
        with writing(RESULTS) as draft:
            draft.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
