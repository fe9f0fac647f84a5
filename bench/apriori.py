"""Frequent item sets beside mlxtend and PyFIM, from lists of items to all sets with their counts. `python -m bench.apriori [--quick]`.

Writes bench/results/apriori.json: seconds of the fastest of a few runs (other programs can only slow a run down), and the ratio theirs / ours (over 1: ours
is faster). Every time includes the way from Python lists: for mlxtend its own TransactionEncoder (sparse where the dense table would be over a gigabyte).
Ours and PyFIM run in turns in one process, mlxtend's two in processes of their own that may take `LIMIT` seconds and `MEMORY` bytes; a run that was stopped gives no
ratio, but the least that it can be. Where mlxtend's apriori needs more memory, it is run again with its `low_memory=True`, and that time counts. A peer that is not installed is named as such; none is needed for ours.

Quest: baskets by the recipe of Agrawal and Srikant (1994), T10.I4 with 1000 items and 2000 patterns, made here from a seed. retail.dat: see fetch_retail_baskets.
"""
import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from dlagg.course.home import writing
from dlagg.mining import Apriori, FPGrowth
from dlagg.tables.datasets import fetch_retail_baskets

RESULTS = Path(__file__).parent / "results" / "apriori.json"
SUPPORTS, LIMIT, MEMORY = (0.01, 0.005, 0.001), 40, 6 * 2**30
ASKED = {"mlxtend apriori": 100, "mlxtend fpgrowth": 10, "PyFIM apriori": 1}
COLD = """
import time; start = time.perf_counter()
from dlagg.mining import Apriori
Apriori; imported = time.perf_counter()
Apriori(2).fit([["a", "b", "c"], ["a", "b", "c"], ["b", "c"]]).rules()
print(imported - start, time.perf_counter() - imported)
"""


def quest(n=20_000, length=10, pattern=4, n_items=1000, n_patterns=2000, seed=0):
    "Baskets of about `length` items, filled with patterns of about `pattern` items, some of them incomplete; a pattern shares items with the one before."
    rng = np.random.default_rng(seed)
    patterns, last = [], np.zeros(0, int)
    for size in np.maximum(1, rng.poisson(pattern, n_patterns)):
        shared = min(len(last), size, int(round(min(1, rng.exponential(0.5)) * size)))
        fresh = rng.choice(n_items, size, replace=False)
        last = np.unique(np.concatenate([rng.choice(last, shared, replace=False), fresh[:size - shared]]).astype(int))
        patterns.append(last)
    weight = rng.exponential(size=n_patterns)
    drop = np.clip(rng.normal(0.5, np.sqrt(0.1), n_patterns), 0, 1)
    drawn = chain.from_iterable(rng.choice(n_patterns, n, p=weight / weight.sum()).tolist() for _ in repeat(None))
    baskets = []
    for size in np.maximum(1, rng.poisson(length, n)):
        basket = set()
        while len(basket) < size:
            which = next(drawn)
            items = rng.permutation(patterns[which])
            while len(items) and rng.random() < drop[which]:
                items = items[:-1]
            if basket and len(basket) + len(items) > size and rng.random() < 0.5:    # too much: half of the time it waits for another basket
                break
            basket.update(items.tolist())
        baskets.append(sorted(basket))
    return baskets


def baskets_of(name):
    return fetch_retail_baskets() if name == "retail" else quest(int(name.split()[1]))


def mlxtend_run(function, baskets, support, **options):
    "mlxtend on lists: its encoder, then its search."
    import pandas as pd
    from mlxtend import frequent_patterns
    from mlxtend.preprocessing import TransactionEncoder
    encoder = TransactionEncoder().fit(baskets)
    if len(baskets) * len(encoder.columns_) > 2**30:
        table = pd.DataFrame.sparse.from_spmatrix(encoder.transform(baskets, sparse=True), columns=[str(c) for c in encoder.columns_])
    else:
        table = pd.DataFrame(encoder.transform(baskets), columns=encoder.columns_)
    return len(getattr(frequent_patterns, function)(table, min_support=support, **options))


def contestants(baskets, support):
    "A function for each that runs in this process; each returns the number of sets."
    runs = {"Apriori": lambda: len(Apriori(support).fit(baskets).itemsets_), "FPGrowth": lambda: len(FPGrowth(support).fit(baskets).itemsets_)}
    if importlib.util.find_spec("fim"):
        import fim
        least = -int(np.ceil(support * len(baskets) * (1 - 1e-12)))    # negative: a number of baskets
        runs["PyFIM apriori"] = lambda: len(fim.apriori(baskets, target="s", supp=least, zmin=1, report="a"))
    return runs


def timed(run):
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def one(function, name, support):
    "mlxtend in this process, with a limit on memory; prints seconds and sets."
    baskets = baskets_of(name)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    mlxtend_run(function, baskets[:50], 0.2)    # loads what it needs
    try:
        answer = timed(lambda: mlxtend_run(function, baskets, support))
    except MemoryError:
        if function != "apriori":
            raise
        answer = timed(lambda: mlxtend_run(function, baskets, support, low_memory=True))
    print(json.dumps(answer))


def apart(function, name, support):
    "mlxtend in a process of its own: (seconds, sets), or a sentence saying why not."
    command = [sys.executable, "-m", "bench.apriori", "--one", function, name, str(support)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT + 15)    # 15 s to start and to read
    except subprocess.TimeoutExpired:
        return f"stopped after {LIMIT} s"
    if done.returncode:
        return f"stopped at {MEMORY / 2**30:.0f} GiB of memory" if "MemoryError" in done.stderr or done.returncode < 0 else done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def race(name, support, turns):
    "All on one case."
    baskets = baskets_of(name)
    seconds, sets, stopped, runs = {}, {}, {}, contestants(baskets, support)
    for turn in range(turns):
        for who, run in runs.items():
            took, sets[who] = timed(run)
            seconds[who] = min(took, seconds.get(who, np.inf))
    if importlib.util.find_spec("mlxtend"):
        for function in ("apriori", "fpgrowth"):
            answer = apart(function, name, support)
            if isinstance(answer, str):
                stopped[f"mlxtend {function}"] = answer
            else:
                seconds[f"mlxtend {function}"], sets[f"mlxtend {function}"] = answer
    assert len(set(sets.values())) == 1, f"{name} at {support}: the numbers of sets differ: {sets}"
    ratio = {who: took / seconds["Apriori"] for who, took in seconds.items() if who not in ("Apriori", "FPGrowth")}
    least = {who: LIMIT / seconds["Apriori"] for who, why in stopped.items() if why.endswith(" s")}
    return {"case": name, "baskets": len(baskets), "support": support, "sets": sets["Apriori"], "seconds": seconds, "ratio": ratio, "ratio_at_least": least, "stopped": stopped}


def growth(sizes, support=0.005):
    "Seconds and the most resident bytes at n, 4n, 16n baskets, each in a process of its own, and the exponent between the ends."
    code = ("import re, sys, time; from bench.apriori import quest; from dlagg.mining import Apriori; b = quest(int(sys.argv[1])); Apriori(0.5).fit([[1, 2, 3]] * 2);"
            "held = lambda what: int(re.search(what + r':\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024\n"
            "open('/proc/self/clear_refs', 'w').write('5'); before = held('VmRSS'); times = []\n"    # 5: the most so far begins again
            "for _ in range(3):\n t = time.perf_counter(); Apriori(float(sys.argv[2])).fit(b); times.append(time.perf_counter() - t)\n"
            "print(min(times), held('VmHWM') - before)")
    rows = [[float(x) for x in subprocess.run([sys.executable, "-c", code, str(n), str(support)], capture_output=True, text=True, check=True).stdout.split()] for n in sizes]
    exponent = float(np.log(rows[-1][0] / rows[0][0]) / np.log(sizes[-1] / sizes[0]))
    return {"baskets": list(sizes), "support": support, "seconds": [r[0] for r in rows], "extra_bytes": [r[1] for r in rows], "exponent_of_time": exponent}


def cold():
    "Seconds to import and to make the first call in a fresh process: with an empty cache, and with a warm one."
    with tempfile.TemporaryDirectory() as folder:
        runs = [[float(x) for x in subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=True, env={**os.environ, "NUMBA_CACHE_DIR": folder}).stdout.split()] for _ in range(4)]
    best = min(runs[1:], key=sum)
    return {"import": best[0], "first_call_compiling": runs[0][1], "first_call_cached": best[1], "whole_compiling": sum(runs[0]), "whole_cached": sum(best)}


def installed():
    "Version of each peer, or None."
    out = {}
    for name in ("mlxtend", "pyfim"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small case, and nothing written")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one[0], args.one[1], float(args.one[2]))
    record = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": f"{platform.machine()}, {os.cpu_count()} cores", "numpy": np.__version__, "peers": installed(), "asked": ASKED,
              "load": round(os.getloadavg()[0], 1), "cases": [], "cold": cold()}
    print("cold start", record["cold"], flush=True)
    Apriori(2).fit([["a", "b", "c"]] * 3), FPGrowth(2).fit([["a", "b", "c"]] * 3)
    for name in ("quest 2000",) if args.quick else ("quest 20000", "retail"):
        for support in SUPPORTS[:1] if args.quick else SUPPORTS:
            record["cases"].append(race(name, support, 1 if args.quick else 5))
            print(json.dumps(record["cases"][-1]), flush=True)
    record["growth"] = growth((500, 2000, 8000) if args.quick else (5000, 20_000, 80_000))
    print(record["growth"])
    if not args.quick:
        with writing(RESULTS) as draft:
            draft.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
