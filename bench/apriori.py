"""Frequent item sets beside mlxtend and PyFIM, from lists of items to all sets with their counts. `python -m bench.apriori [--quick]`.

Writes bench/results/apriori.json: seconds of the fastest of a few runs (other programs can only slow a run down), and the ratio theirs / ours (over 1: ours
is faster). Every time includes the way from Python lists: for mlxtend its own TransactionEncoder (sparse where the dense table would be over a gigabyte); `search` is
without it, from its encoded table and from our `Baskets`. Ours and PyFIM run in turns in one process. mlxtend's two run in processes of their own that may take `LIMIT` seconds and `MEMORY` bytes, with ours before and after them in the same
process; a run that was stopped gives no ratio, but the least that it can be. Where mlxtend's apriori needs more memory, it is run again with its `low_memory=True`, and that time counts. A peer that is not installed is named as such; none is needed for ours.

Quest: baskets by the recipe of Agrawal and Srikant (1994), T10.I4 with 1000 items and 2000 patterns, made here from a seed. retail.dat: see fetch_retail_baskets.
"""
import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from itertools import chain, repeat

import numpy as np

from bench._race import cold, growth, race, ratios, record, write
from dlagg.mining import Apriori, FPGrowth
from dlagg.mining.apriori_baskets import read_baskets
from dlagg.tables.datasets import fetch_retail_baskets

SUPPORTS, LIMIT, MEMORY = (0.01, 0.005, 0.001), 40, 6 * 2**30
ASKED = {"mlxtend apriori": 100, "mlxtend fpgrowth": 10, "PyFIM apriori": 1}
FIRST = "{0}(2).fit([['a', 'b', 'c'], ['a', 'b', 'c'], ['b', 'c']]).rules()"


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


def encoded(baskets):
    "mlxtend's own table of lists."
    import pandas as pd
    from mlxtend.preprocessing import TransactionEncoder
    encoder = TransactionEncoder().fit(baskets)
    if len(baskets) * len(encoder.columns_) > 2**30:
        return pd.DataFrame.sparse.from_spmatrix(encoder.transform(baskets, sparse=True), columns=[str(c) for c in encoder.columns_])
    return pd.DataFrame(encoder.transform(baskets), columns=encoder.columns_)


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


def least(run, turns=3):
    return min(timed(run)[0] for _ in range(turns))


def one(function, name, support):
    "mlxtend in this process, with a limit on memory, and ours around it; prints what `apart` returns."
    from mlxtend import frequent_patterns
    baskets, search, options = baskets_of(name), getattr(frequent_patterns, function), {}
    read, ours, alone = read_baskets(baskets), [], []
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    search(encoded(baskets[:50]), 0.2), Apriori(support).fit(baskets)    # loads what they need
    for turn in range(2):
        ours.append(least(lambda: Apriori(support).fit(baskets)))
        alone.append(least(lambda: Apriori(support).fit(read)))
        if not turn:
            encoding, table = timed(lambda: encoded(baskets))
            try:
                searching, found = timed(lambda: len(search(table, support)))
            except MemoryError:
                if function != "apriori":
                    raise
                options["low_memory"] = True
                searching, found = timed(lambda: len(search(table, support, **options)))
    print(json.dumps({"seconds": encoding + searching, "sets": found, "ours": min(ours), "search": searching, "search_ours": min(alone), **options}))


def apart(function, name, support):
    "mlxtend in a process of its own: a dict, or a sentence saying why not."
    command = [sys.executable, "-W", "ignore", "-m", "bench.apriori", "--one", function, name, str(support)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT + 15)    # 15 s to start and to read
    except subprocess.TimeoutExpired:
        return f"stopped after {LIMIT} s"
    if done.returncode:
        return f"stopped at {MEMORY / 2**30:.0f} GiB of memory" if "MemoryError" in done.stderr or done.returncode < 0 else done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout.splitlines()[-1])


def case(name, support, turns):
    "All on one case."
    baskets, search, stopped = baskets_of(name), {}, {}
    seconds, sets = race(contestants(baskets, support), turns)
    ratio = {who: r for who, r in ratios(seconds, "Apriori").items() if who != "FPGrowth"}
    for function in ("apriori", "fpgrowth") if importlib.util.find_spec("mlxtend") else ():
        who, answer = f"mlxtend {function}", apart(function, name, support)
        if isinstance(answer, str):
            stopped[who] = answer
            continue
        seconds[who], sets[who], ratio[who] = answer["seconds"], answer["sets"], answer["seconds"] / answer["ours"]
        search[who] = {"seconds": answer["search"], "ours": answer["search_ours"], "ratio": answer["search"] / answer["search_ours"], "low_memory": answer.get("low_memory", False)}
    assert len(set(sets.values())) == 1, f"{name} at {support}: the numbers of sets differ: {sets}"
    return {"case": name, "baskets": len(baskets), "support": support, "sets": sets["Apriori"], "load": round(os.getloadavg()[0], 1), "seconds": seconds, "ratio": ratio, "search": search,
            "ratio_at_least": {who: LIMIT / seconds["Apriori"] for who, why in stopped.items() if why.endswith(" s")}, "stopped": stopped}


def grown(model, sizes, support=0.005):
    "Time and memory at n, 4n, 16n baskets."
    setup = f"from bench.apriori import quest; from dlagg.mining import {model}; baskets = quest(n); {model}(0.5).fit([[1, 2, 3]] * 2)"
    answer = growth(setup, f"{model}({support}).fit(baskets)", sizes)
    return {"baskets": answer["sizes"], "support": support, **answer}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small case, and nothing written")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one[0], args.one[1], float(args.one[2]))
    head = record("mlxtend", "pyfim")
    result = {**head, "peers": {name: head[name] for name in ("mlxtend", "pyfim")}, "asked": ASKED, "load": round(os.getloadavg()[0], 1), "cases": []}
    for key, model in (("cold", "Apriori"), ("cold_fpgrowth", "FPGrowth")):
        result[key] = cold(f"from dlagg.mining import {model}; {model}", FIRST.format(model))
        print(key, result[key], flush=True)
    for name in ("quest 2000",) if args.quick else ("quest 20000", "retail"):
        for support in SUPPORTS[:1] if args.quick else SUPPORTS:
            result["cases"].append(case(name, support, 1 if args.quick else 5))
            print(json.dumps(result["cases"][-1]), flush=True)
    for key, model in (("growth", "Apriori"), ("growth_fpgrowth", "FPGrowth")):
        result[key] = grown(model, (500, 2000, 8000) if args.quick else (5000, 20_000, 80_000))
        print(key, result[key], flush=True)
    if not args.quick:
        write("apriori", result)


if __name__ == "__main__":
    main()
