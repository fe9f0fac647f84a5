"""Attention pooling forward and backward beside PyTorch Geometric and padded Keras multi-head attention. `python -m bench.pooling [--quick]`.

One million rows of 64 columns in ragged groups. Each contestant runs in a process of its own (their thread pools disturb each other), in turns. Writes
bench/results/pooling.json: seconds of the fastest run, by the clock and of CPU time (which other programs on the
machine disturb less), the ratio theirs / ours (over 1: ours is faster), and whether the pooled values agree; the ratios of earlier runs are kept. Ours and torch_geometric run a second time with
memory in huge pages (GLIBC_TUNABLES, the same for both; Linux): arrays of 256 MB are made anew in every step.
BENCH_PYTHON may name a Python that has torch, torch_geometric, jax and keras, if this one has not.

- ours: `AttentionPooling(64)`, jitted, gradients for rows and weights;
- torch_geometric: `AttentionalAggregation` with the same score network, the same weights and the same sorted ids;
- keras_padded: `MultiHeadAttention(1 head, 64)` with one learned query a group, jitted too; batches of 1,000 groups, each padded to the longest of the
  batch (to the next power of two, which saves compilations);
- keras_buckets: the same over groups sorted into buckets by length first, so that filling never passes half: the best a padded layout can do.
"""
import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results" / "pooling.json"
NAMES = ("ours", "torch_geometric", "keras_padded", "keras_buckets")


def data(n, groups):
    "Rows, sorted ids of groups of very unequal size, and the weights of the score network."
    rng = np.random.default_rng(0)
    sizes = rng.multinomial(n, rng.dirichlet(np.ones(groups)))
    x, V = rng.normal(size=(n, 64)).astype("float32"), (rng.normal(size=(64, 64)) / 8).astype("float32")
    return x, np.repeat(np.arange(groups), sizes).astype("int32"), sizes, V, rng.normal(size=(64, 1)).astype("float32")


def ours(x, ids, sizes, V, w):
    "A call that does one step, and gives the sum of squares of the pooled values."
    import jax
    from dlagg.agg.pooling import AttentionPooling
    layer, n = AttentionPooling(64, empty=0.0), len(sizes)
    layer.build(x.shape)
    layer.set_weights([V, np.zeros(64, "float32"), w])
    step = jax.jit(jax.value_and_grad(lambda p, x, ids: (layer.stateless_call(p, [], x, ids, num_segments=n)[0] ** 2).sum(), argnums=(0, 1)))
    weights, x, ids = [v.value for v in layer.trainable_variables], jax.numpy.asarray(x), jax.numpy.asarray(ids)
    return lambda: float(jax.block_until_ready(step(weights, x, ids))[0])


def torch_geometric(x, ids, sizes, V, w):
    import torch
    from torch_geometric.nn.aggr import AttentionalAggregation
    hidden, score, n = torch.nn.Linear(64, 64), torch.nn.Linear(64, 1, bias=False), len(sizes)
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor(V.T)), hidden.bias.zero_(), score.weight.copy_(torch.tensor(w.T))
    layer = AttentionalAggregation(torch.nn.Sequential(hidden, torch.nn.Tanh(), score))
    x, ids = torch.tensor(x, requires_grad=True), torch.tensor(ids.astype("int64"))

    def step():
        x.grad = None
        layer.zero_grad()
        value = (layer(x, ids, dim_size=n) ** 2).sum()
        value.backward()
        return float(value.detach())
    return step


def keras_padded(x, ids, sizes, V, w):
    return _multi_head(x, sizes, np.array_split(np.arange(len(sizes)), max(1, len(sizes) // 1000)))


def keras_buckets(x, ids, sizes, V, w):
    lengths = np.ceil(np.log2(np.maximum(sizes, 1)))
    return _multi_head(x, sizes, [np.flatnonzero((lengths == length) & (sizes > 0)) for length in np.unique(lengths[sizes > 0])])


def _multi_head(x, sizes, batches):
    "One step over padded batches of groups."
    import jax
    import keras
    starts = np.cumsum(sizes) - sizes
    layer, query = keras.layers.MultiHeadAttention(1, 64), np.random.default_rng(1).normal(size=(1, 1, 64)).astype("float32")
    layer.build((None, 1, 64), (None, None, 64))
    boxes = []
    for which in batches:
        mask = np.arange(1 << int(np.ceil(np.log2(sizes[which].max())))) < sizes[which, None]
        box = np.zeros((*mask.shape, 64), "float32")
        box[mask] = x[(starts[which, None] + np.arange(mask.shape[1]))[mask]]
        boxes.append((jax.numpy.asarray(box), jax.numpy.asarray(mask[:, None])))
    weights = [v.value for v in layer.trainable_variables]

    def loss(weights, query, box, mask):
        wide = jax.numpy.broadcast_to(query, (len(box), 1, 64))
        return (layer.stateless_call(weights, [v.value for v in layer.non_trainable_variables], wide, box, attention_mask=mask)[0] ** 2).sum()
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))
    return lambda: sum(float(jax.block_until_ready(step(weights, query, *b))[0]) for b in boxes)


def contestant(name, n, groups, repeat):
    "Run one contestant in this process; prints its seconds and its value."
    step, seconds, cpu = globals()[name](*data(n, groups)), [], []
    for turn in range(repeat + 1):
        start, work = time.perf_counter(), time.process_time()
        value = step()
        if turn:    # the first compiles
            seconds.append(time.perf_counter() - start)
            cpu.append(time.process_time() - work)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "value": value}))


def race(n, groups, repeat, turns, names=NAMES, **environment):
    "Seconds and value of every contestant, in turns of `repeat` steps each."
    found = {name: {"seconds": [], "cpu": [], "value": None} for name in names}
    python, here = os.environ.get("BENCH_PYTHON", sys.executable), str(Path(__file__).parents[1])
    for _ in range(turns):
        for name in names:
            with tempfile.TemporaryFile("w+") as out:
                subprocess.run([python, "-m", "bench.pooling", "--contestant", name, str(n), str(groups), str(repeat)], check=True, stdout=out, cwd=here,
                               env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": here, **environment})
                out.seek(0)
                one = json.loads(out.read().splitlines()[-1])
            found[name] = {**{what: found[name][what] + one[what] for what in ("seconds", "cpu")}, "value": one["value"]}
    return found


def summary(found):
    "The fastest of each, and the ratios to ours."
    best, cpu = ({name: min(one[what]) for name, one in found.items()} for what in ("seconds", "cpu"))
    ratio, cpu_ratio = ({name: time[name] / time["ours"] for name in found if name != "ours"} for time in (best, cpu))
    return {"seconds": best, "cpu_seconds": cpu, "ratio": ratio, "cpu_ratio": cpu_ratio}


def earlier(path):
    "What earlier runs found, kept short: on a shared machine one run says little, and the page of numbers goes by the quietest."
    if not path.exists():
        return []
    last = json.loads(path.read_text())
    return [*last.get("earlier", []), {key: last[key] for key in ("date", "machine", "seconds", "ratio", "cpu_ratio") if key in last}]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, and nothing written")
    parser.add_argument("--contestant", nargs=4, metavar=("NAME", "ROWS", "GROUPS", "REPEAT"), help="run one in this process")
    args = parser.parse_args()
    if args.contestant:
        return contestant(args.contestant[0], *map(int, args.contestant[1:]))
    n, groups = (100_000, 2000) if args.quick else (1_000_000, 20_000)
    found = race(n, groups, 3, 1 if args.quick else 3)
    huge = summary(race(n, groups, 3, 1 if args.quick else 3, NAMES[:2], GLIBC_TUNABLES="glibc.malloc.hugetlb=1"))
    best, cpu, ratio, cpu_ratio = summary(found).values()
    gap = abs(found["ours"]["value"] / found["torch_geometric"]["value"] - 1)
    for name in NAMES:
        extra = f"   ratio {ratio[name]:.2f}, of CPU time {cpu_ratio[name]:.2f}" if name in ratio else ""
        print(f"{name:17} {best[name]:.3f} s, CPU {cpu[name]:.3f} s{extra}")
    print(f"in huge pages: torch_geometric ratio {huge['ratio']['torch_geometric']:.2f}, of CPU time {huge['cpu_ratio']['torch_geometric']:.2f}")
    print(f"the squared sums of ours and torch_geometric's pooled values differ by {gap:.1e}")
    if not args.quick:
        from dlagg.course.home import writing    # here: the contestants' Python may lack what the package needs
        record = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", "rows": n, "columns": 64, "groups": groups,
                  "seconds": best, "cpu_seconds": cpu, "ratio": ratio, "cpu_ratio": cpu_ratio, "value_difference": gap, "huge_pages": huge,
                  "all_seconds": {name: one["seconds"] for name, one in found.items()}}
        record["earlier"] = earlier(RESULTS)
        with writing(RESULTS) as draft:
            draft.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
