"""Communities beside networkx, igraph and leidenalg: time, modularity, agreement with known groups. `python -m bench.communities [--quick | --cold]`.

Writes bench/results/communities.json. Graphs: planted partitions with communities of 100 nodes, about 10,000, 100,000 and 1,000,000 edges. Every peer gets its own graph built beforehand, outside the
clock; ours is timed in both ways, from a graph that was read beforehand and from an edge list in a DataFrame. Louvain is compared at the same work, `PASSES` passes of Leiden's algorithm
(`n_iterations` of igraph and leidenalg), and with its defaults. In turns, the fastest of a few runs; networkx, and leidenalg on the largest graph, run once, in a process that may take `LIMIT` seconds.
Ratios are theirs / ours: over 1, ours is faster. `below` is the modularity of the peer minus ours, worst over the seeds: at most 0.001 is asked for.
"""
import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd

from bench._race import RESULTS, cold, growth, race, ratios, record, write
from dlagg.mining import LabelPropagation, Louvain, SpectralCommunities, modularity, nmi, read_graph
from dlagg.tables.datasets import fetch_graph

SIZES, LIMIT, PASSES, SEEDS = (10_000, 100_000, 1_000_000), 200, 2, range(3)


def planted(n_edges, size=100, inside=6, outside=4, seed=0):
    "An edge list whose nodes have about 6 + 4 edges: some in their community, some anywhere."
    rng = np.random.default_rng(seed)
    n = max(2, round(n_edges / (inside / 2 + outside / 2) / 0.98 / 2 / size)) * size
    a = np.repeat(np.arange(n), inside)
    near = a // size * size + rng.integers(size, size=len(a))
    pairs = np.concatenate([np.stack([a, near]), rng.integers(n, size=(2, n * outside))], axis=1)
    pairs = np.unique(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0), axis=1)
    return pd.DataFrame({"source": pairs[0], "target": pairs[1]})


def installed(name):
    return importlib.util.find_spec(name) is not None


def igraph_of(edges):
    import igraph
    return igraph.Graph(n=int(edges.to_numpy().max()) + 1, edges=edges.to_numpy().tolist())


def by_igraph(graph, seed, passes=PASSES):
    import random
    random.seed(seed)    # igraph draws from Python's generator
    return graph.community_leiden("modularity", n_iterations=passes).membership


def by_leidenalg(graph, seed, passes=PASSES):
    import leidenalg
    return leidenalg.find_partition(graph, leidenalg.ModularityVertexPartition, n_iterations=passes, seed=seed).membership


def by_networkx(edges, seed):
    import networkx
    graph = networkx.from_pandas_edgelist(edges)
    start = time.perf_counter()
    groups = networkx.community.louvain_communities(graph, seed=seed)
    return time.perf_counter() - start, groups


def alone(call):
    "What `call`, an expression of (seconds, modularity), gives in a process of its own; None and why, where it took too long."
    code = f"import time; from bench.communities import *; print(*({call}))"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT, env=os.environ)
        return {"seconds": (found := [float(x) for x in done.stdout.split()])[0], "modularity": found[1]}
    except subprocess.TimeoutExpired:
        return {"seconds": None, "stopped_after": LIMIT}


def networkx_row(n_edges):
    edges = planted(n_edges)
    took, groups = by_networkx(edges, 0)
    return took, modularity(edges, groups)


def leidenalg_row(n_edges):
    edges = planted(n_edges)
    graph = igraph_of(edges)
    start = time.perf_counter()
    found = by_leidenalg(graph, 0)
    return time.perf_counter() - start, modularity(edges, np.array(found)[read_graph(edges).nodes])


def size_row(n_edges, turns):
    "Times and modularities at one size."
    edges = planted(n_edges)
    graph = read_graph(edges)
    Q = lambda found: modularity(graph, np.array(found)[graph.nodes])
    runs = {"ours": lambda: Louvain(n_init=1, max_iter=PASSES, random_state=0).fit(graph), "ours from a DataFrame": lambda: Louvain(n_init=1, max_iter=PASSES, random_state=0).fit(edges),
            "ours, defaults": lambda: Louvain(random_state=0).fit(graph), "ours, refine=False": lambda: Louvain(n_init=1, max_iter=PASSES, refine=False, random_state=0).fit(graph),
            "LabelPropagation": lambda: LabelPropagation(random_state=0).fit(graph)}
    peers = {}
    if installed("igraph"):
        peers = {"igraph leiden": by_igraph}
        if installed("leidenalg") and n_edges < 1_000_000:
            peers["leidenalg"] = by_leidenalg
        own = igraph_of(edges)
        runs |= {who: lambda peer=peer: peer(own, 0) for who, peer in peers.items()}
        runs["igraph label propagation"] = lambda: own.community_label_propagation().membership
    seconds, answers = race(runs, turns)
    found = {who: a.modularity_ if hasattr(a, "modularity_") else Q(a) for who, a in answers.items()}
    row = {"edges": len(edges), "nodes": len(graph.nodes), "planted": modularity(graph, graph.nodes // 100), "seconds": seconds, "modularity": found, "ratios": {k: v for k, v in ratios(seconds).items() if k in peers}}
    if "igraph label propagation" in seconds:
        row["ratio of label propagation"] = seconds["igraph label propagation"] / seconds["LabelPropagation"]
    mine = [Louvain(n_init=1, max_iter=PASSES, random_state=s).fit(graph).modularity_ for s in SEEDS]
    row["ours over the seeds"] = mine
    row["peers over the seeds"] = {who: [Q(peer(own, s)) for s in SEEDS] for who, peer in peers.items()}
    once = {"networkx louvain": f"networkx_row({n_edges})"} if installed("networkx") else {}
    if n_edges >= 1_000_000 and installed("leidenalg"):
        once["leidenalg"] = f"leidenalg_row({n_edges})"
    for who, call in once.items():
        row[who] = alone(call)
        row["ratios"][who] = (row[who]["seconds"] or LIMIT) / seconds["ours"]
        if row[who]["seconds"]:
            row["peers over the seeds"][who] = [row[who]["modularity"]]
    row["below"] = {who: max(values) - min(mine) for who, values in row["peers over the seeds"].items()}
    return row


def known_groups(name, truth, count):
    "Modularity and NMI over 20 seeds: [least, median, most]."
    graph = fetch_graph(name)
    read = read_graph(graph)
    searches = {"Louvain": lambda s: Louvain(random_state=s).fit(read).labels_, "Louvain, one start": lambda s: Louvain(n_init=1, random_state=s).fit(read).labels_,
                "Louvain, one start, refine=False": lambda s: Louvain(n_init=1, refine=False, random_state=s).fit(read).labels_, "LabelPropagation": lambda s: LabelPropagation(random_state=s).fit(read).labels_,
                "SpectralCommunities, laplacian": lambda s: SpectralCommunities(count, random_state=s).fit(read).labels_,
                "SpectralCommunities, modularity": lambda s: SpectralCommunities(count, matrix="modularity", random_state=s).fit(read).labels_}
    number = {node: i for i, node in enumerate(read.nodes.tolist())}
    edges = graph.edges.map(number.get)
    if installed("networkx"):
        searches["networkx louvain"] = lambda s: np.array([k for _, k in sorted((v, k) for k, group in enumerate(by_networkx(edges, s)[1]) for v in group)])
    if installed("igraph"):
        searches["igraph leiden"] = lambda s: by_igraph(igraph_of(edges), s)
    if installed("leidenalg"):
        searches["leidenalg"] = lambda s: by_leidenalg(igraph_of(edges), s)
    result = {}
    for who, search in searches.items():
        found = [np.asarray(search(s)) for s in range(20)]
        result[who] = {what: np.quantile(values, [0, 0.5, 1]).tolist() for what, values in
                       (("modularity", [modularity(read, f) for f in found]), ("nmi", [nmi(f, truth) for f in found]), ("communities", [len(np.unique(f)) for f in found]))}
    return result


def first_call():
    "Cold start, with the load of the machine while it was measured."
    found = cold("import numpy as np; from dlagg.mining import Louvain; Louvain", "Louvain(random_state=0).fit(np.ones((4, 4)) - np.eye(4))")
    return found | {"load": round(os.getloadavg()[0], 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cold", action="store_true", help="measure only the first call again, and put it into the file")
    parser.add_argument("--quick", action="store_true", help="the two smaller graphs, fewer runs")
    args = parser.parse_args()
    if args.cold:
        write("communities", json.loads((RESULTS / "communities.json").read_text()) | {"cold": (found := first_call())})
        return print(found)
    sizes, turns = (SIZES[:2], 1) if args.quick else (SIZES, 3)
    football = fetch_graph("football").nodes.value.sort_index().to_numpy()
    karate = np.array([v in (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 17, 18, 20, 22) for v in range(1, 35)])
    setup = "from bench.communities import planted, read_graph, Louvain, LabelPropagation; small = planted(2000)\nfor model in (Louvain(), LabelPropagation()): model.fit(small)\nedges = planted(n)"
    steps = [s // (4 if args.quick else 1) for s in (60_000, 240_000, 960_000)]
    result = record("networkx", "igraph", "leidenalg", passes=PASSES, quick=args.quick)
    result["not installed"] = [name for name in ("networkx", "igraph", "leidenalg") if not installed(name)]
    result["planted"] = [size_row(n, turns * min(10, max(1, 500_000 // n))) for n in sizes]    # a short run is disturbed by more, so it gets more turns
    result["karate"], result["football"] = known_groups("karate", karate, 2), known_groups("football", football, 12)
    result["growth"] = {name: growth(setup, call, steps) for name, call in
                        (("Louvain", f"Louvain(n_init=1, max_iter={PASSES}, random_state=0).fit(edges)"), ("LabelPropagation", "LabelPropagation(random_state=0).fit(edges)"))}
    result["cold"] = first_call()
    for row in result["planted"]:
        print(f"{row['edges']:>9,} edges  " + "  ".join(f"{who} {ratio:.1f}x" for who, ratio in row["ratios"].items()), " below:", {k: round(v, 4) for k, v in row["below"].items()})
    print({k: round(v["exponent_of_time"], 2) for k, v in result["growth"].items()}, {k: v["exponent_of_memory"] for k, v in result["growth"].items()}, {k: round(v, 2) for k, v in result["cold"].items()})
    if not args.quick:
        write("communities", result)


if __name__ == "__main__":
    main()
