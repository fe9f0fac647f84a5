"""`dlagg.nn` beside Keras on JAX and PyTorch, two threads each: dense training, convolution, LSTM; and a convolutional network on MNIST. `python -m bench.networks [--quick] [--only CASE ...]`.

Writes bench/results/networks.json: seconds of the fastest run, and the ratio theirs / ours (over 1: ours is faster). Each contestant runs in a process of its own, because their thread pools disturb each other;
three rounds, in turns. Keras' layers are jitted, outputs and all gradients together, without the time of compiling. BENCH_PYTHON may name a Python that has torch, if this one has not.

MNIST: 3 x 3 convolution with 32 kernels, max pooling, dense 128 and 10, Adam, batches of 128, the same number of epochs for ours and Keras; accuracy on the 10,000 test images.
"""
import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench._race import RESULTS, ratios, record, write

CASES = {"dense 784-128-10": 0.5, "conv 28x28x1 to 32": 0.5, "conv 26x26x32 to 64": 0.5, "lstm 32x30x8 to 50": 0.3}    # at least, beside the faster
CONV = {"conv 28x28x1 to 32": ((28, 28, 1), 32), "conv 26x26x32 to 64": ((26, 26, 32), 64)}
WHO, EPOCHS = ("ours", "keras", "torch"), 6
TUNED = "ours, OPENBLAS_CORETYPE=SkylakeX"    # OpenBLAS takes some processors with AVX-512 for ones without it; a user can tell it better


def table(rows=20_000):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 784)).astype("float32"), rng.integers(0, 10, rows)


def ours(case):
    "A call that does one forward and backward pass, or an epoch."
    from dlagg.nn import LSTM, Adam, Conv2D, Dense, Network
    if case.startswith("dense"):
        x, y = table()
        net = Network([Dense(128, "relu"), Dense(10, "softmax")], random_state=0).compile(Adam(), "sparse_categorical_crossentropy")
        return lambda: net.fit(x, y, batch_size=128, verbose=0)
    shape, layer = ((30, 8), LSTM(50)) if case.startswith("lstm") else (CONV[case][0], Conv2D(CONV[case][1], 3))
    x = np.random.default_rng(0).normal(size=(32 if case.startswith("lstm") else 128, *shape)).astype("float32")
    dy = np.ones_like(layer(x))

    def both():
        layer.forward(x)
        layer.backward(dy)
    return both


def keras(case):
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras
    if case.startswith("dense"):
        x, y = table()
        net = keras.Sequential([keras.Input((784,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10, "softmax")])
        net.compile("adam", "sparse_categorical_crossentropy")
        return lambda: net.fit(x, y, batch_size=128, verbose=0)
    shape, layer = ((30, 8), keras.layers.LSTM(50)) if case.startswith("lstm") else (CONV[case][0], keras.layers.Conv2D(CONV[case][1], 3))
    x = np.random.default_rng(0).normal(size=(32 if case.startswith("lstm") else 128, *shape)).astype("float32")
    layer.build(x.shape)
    weights, state = [v.value for v in layer.trainable_variables], [v.value for v in layer.non_trainable_variables]

    @jax.jit
    def both(weights, x):
        y, back = jax.vjp(lambda w, x: layer.stateless_call(w, state, x)[0], weights, x)
        return y, back(jax.numpy.ones_like(y))
    return lambda: jax.block_until_ready(both(weights, x))


def torch(case):
    import torch
    torch.set_num_threads(2)
    if case.startswith("dense"):
        x, y = (torch.tensor(a) for a in table())
        net = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
        adam, loss = torch.optim.Adam(net.parameters()), torch.nn.CrossEntropyLoss()

        def epoch():
            order = torch.randperm(len(x))
            for rows in order.split(128):
                adam.zero_grad()
                loss(net(x[rows]), y[rows]).backward()
                adam.step()
        return epoch
    if case.startswith("lstm"):
        x, layer = torch.randn(32, 30, 8, requires_grad=True), torch.nn.LSTM(8, 50, batch_first=True)
        return lambda: layer(x)[0][:, -1].sum().backward()
    (height, width, channels), filters = CONV[case]
    x, layer = torch.randn(128, channels, height, width, requires_grad=True), torch.nn.Conv2d(channels, filters, 3)
    return lambda: layer(x).sum().backward()


def one(who, case, turns):
    "Seconds of the fastest of a few turns, in this process."
    run, best = {"ours": ours, "keras": keras, "torch": torch}[who](case), np.inf
    for turn in range(turns + 1):
        start = time.perf_counter()
        run()
        if turn:    # the first compiles
            best = min(best, time.perf_counter() - start)
    print(best)


def apart(*args, **env):
    "A contestant in a process of its own: what it printed last, or None if its library is not there."
    python = os.environ.get("BENCH_PYTHON", sys.executable) if args[0] == "torch" else sys.executable
    done = subprocess.run([python, "-m", "bench.networks", "--one", *map(str, args)], capture_output=True, text=True, cwd=Path(__file__).parents[1],
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", **env})
    if done.returncode and "No module named" in done.stderr:
        return None
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def race(case, rounds):
    seconds, turns = {}, 8 if case.startswith("dense") else 40
    tuned = "avx512f" in Path("/proc/cpuinfo").read_text()
    for _ in range(rounds):
        for who in WHO:
            if (took := apart(who, case, turns)) is not None:
                seconds[who] = min(took, seconds.get(who, np.inf))
        if tuned:
            seconds[TUNED] = min(apart("ours", case, turns, OPENBLAS_CORETYPE="SkylakeX"), seconds.get(TUNED, np.inf))
    ratio = ratios({who: took for who, took in seconds.items() if who != TUNED})
    return {"case": case, "seconds": seconds, "ratio": ratio, "asked_beside_the_faster": CASES[case]}


def mnist(who, epochs):
    "Train on all of MNIST; prints accuracy and seconds."
    from dlagg.tables.datasets import fetch_mnist
    (x, y), (x_test, y_test) = fetch_mnist("train"), fetch_mnist("test")
    x, x_test = x[..., None] / np.float32(255), x_test[..., None] / np.float32(255)
    if who == "ours":
        from dlagg.nn import Adam, Conv2D, Dense, Flatten, MaxPooling2D, Network
        net = Network([Conv2D(32, 3, activation="relu"), MaxPooling2D(), Flatten(), Dense(128, "relu"), Dense(10, "softmax")], random_state=0).compile(Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    else:
        os.environ["KERAS_BACKEND"] = "jax"
        import keras
        keras.utils.set_random_seed(0)
        layers = keras.layers
        net = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(128, "relu"), layers.Dense(10, "softmax")])
        net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    start = time.perf_counter()
    net.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    took = time.perf_counter() - start
    print(json.dumps({"accuracy": float(net.evaluate(x_test, y_test, return_dict=True, **({} if who == "ours" else {"verbose": 0}))["accuracy"]), "seconds": took}))


def im2col_memory():
    "Bytes of all windows at once, and the most that a pass really took over what was there before."
    from dlagg.nn import Conv2D
    found = {}
    for name, (shape, filters) in CONV.items():
        x, layer = np.zeros((128, *shape), "float32"), Conv2D(filters, 3)
        y = layer(x)
        found[name] = {"input": x.nbytes, "outputs": y.nbytes, "all_windows": int(np.prod(y.shape[:3])) * 9 * shape[-1] * 4}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    x, layer = np.zeros((128, 26, 26, 32), "float32"), Conv2D(64, 3)
    layer.backward(np.ones_like(layer(x)))
    found["peak_over_import"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round, no MNIST, and nothing written")
    parser.add_argument("--only", nargs="+", choices=[*CASES, "mnist"], metavar="CASE", help="only these; the other results are kept")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        who, case, turns = args.one
        return mnist(who, int(turns)) if case == "mnist" else im2col_memory() if case == "memory" else one(who, case, int(turns))
    path = RESULTS / "networks.json"
    old = json.loads(path.read_text()) if args.only and path.exists() else {}
    cases = {c["case"]: c for c in old.get("cases", [])}
    for case in CASES:
        if not args.only or case in args.only:
            cases[case] = race(case, 1 if args.quick else 3)
            print(json.dumps(cases[case]), flush=True)
    result = record("keras", "jax", cases=list(cases.values()), im2col=apart("ours", "memory", 0), mnist=old.get("mnist"))
    if not args.quick and (not args.only or "mnist" in args.only):
        result["mnist"] = {"epochs": EPOCHS, **{who: apart(who, "mnist", EPOCHS) for who in ("ours", "keras")}}
    print(json.dumps({name: result[name] for name in ("im2col", "mnist")}))
    if not args.quick:
        write("networks", result)


if __name__ == "__main__":
    main()
