"""The maximum of a set, the first task of Set Transformer (Lee et al. 2019, table 1). `python -m bench.published_max_of_set [--quick]`.

Protocol: 1 to 10 numbers, each uniform in [0, 100]; one size a batch of 128, as in the authors' public notebook; mean absolute error, in the numbers' own units; Adam 1e-3,
20,000 steps. Encoder: Dense 64 ReLU three times, Dense 64. Pooling by a layer of `dlagg.agg.pooling`. Decoder: Dense 64 ReLU, Dense 1. SAB + PMA: two SAB(64, 4 heads), PMA,
Dense 1, no encoder before. Numbers enter as they are. Tested on 10,000 sets, as many of each size. Reference (the paper): mean 2.133, sum 1.902, max 0.1355, SAB + PMA 0.2085.

Additions of ours: attention pooling and PMA in the place of mean or max. A constant learning rate leaves noise in the last weights, as large for max pooling as what is to be
measured, so there are three figures, for every pooling alike: `last`, the last weights, as in the paper; `averaged`, from the same run, the weights averaged over the last steps
(0.999 of the average and 0.001 of the weights, every step); `falling`, another run whose learning rate falls to 0 along a cosine, last weights. The constant rate has one
seed, the falling rate two; errors are means over the seeds.
"""
import time

import numpy as np

from bench._training import arguments, save, train

import keras
from keras import layers, ops

from dlagg.agg.pooling import AttentionPooling, MaxPooling, MeanPooling, PMAPooling, SetTransformerPooling, SumPooling

POOLINGS = {
    "mean": MeanPooling, "max": MaxPooling, "attention": lambda: AttentionPooling(64, heads=4), "PMA": lambda: PMAPooling(64, heads=4),
    "SAB + PMA": lambda: SetTransformerPooling(64, heads=4, blocks=2), "sum": SumPooling,
}


PAPER = {"mean": 2.133, "sum": 1.902, "max": 0.1355, "SAB + PMA": 0.2085}


class MaxOfSet(keras.Model):
    "Encoder, pooling, decoder."

    def __init__(self, name):
        super().__init__()
        self.supports_masking = True    # only as an argument
        alone = name == "SAB + PMA"
        self.encoder = keras.Sequential([layers.Dense(64, activation="relu") for _ in range(3)] + [layers.Dense(64)]) if not alone else None
        self.pooling = POOLINGS[name]()
        self.decoder = keras.Sequential(([] if alone else [layers.Dense(64, activation="relu")]) + [layers.Dense(1)])

    def call(self, x, mask=None):
        return self.decoder(self.pooling(self.encoder(x) if self.encoder else x, mask=mask))[:, 0]


def batches(rng, steps, batch=128):
    "`steps` batches of sets (batch, 10, 1), the mask of their numbers and their maxima; every batch of one size."
    sizes = rng.integers(1, 11, steps)
    mask = np.broadcast_to((np.arange(10) < sizes[:, None])[:, None], (steps, batch, 10))
    x = np.where(mask, rng.uniform(0, 100, (steps, batch, 10)), 0).astype("float32")
    return x[..., None], mask, x.max(axis=2)


def error(predict, x, mask, top):
    return ops.mean(ops.abs(predict(x, mask=mask) - top))


def tested(model, n=1000):
    "Mean absolute error over `n` sets of every size."
    rng, errors = np.random.default_rng(99), []
    for size in range(1, 11):
        x = rng.uniform(0, 100, (n, size, 1)).astype("float32")
        errors.append(np.abs(np.asarray(model(x, mask=np.ones((n, size), bool))) - x.max(axis=(1, 2))))
    return float(np.mean(errors))


def measure(name, seed, steps, chunk=1000, falling=False):
    "Errors of one pooling, with the last and with the averaged weights; `chunk` steps are compiled into one scan."
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    rng, model = np.random.default_rng(seed), MaxOfSet(name)
    model(np.zeros((2, 10, 1), "float32"), mask=np.ones((2, 10), bool))
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps) if falling else 1e-3
    losses, last = train(model, (batches(rng, chunk) for _ in range(steps // chunk)), error, keras.optimizers.Adam(rate), average=0.999)
    averaged = tested(model)
    for variable, value in zip(model.trainable_variables, last):
        variable.assign(value)
    result = {"pooling": name, "seed": seed, "falling": falling, "last": tested(model), "averaged": averaged, "loss": losses, "seconds": round(time.perf_counter() - start, 1)}
    print(f"{name:>16}, seed {seed}: error {result['last']:.4f}, averaged weights {averaged:.4f}, {result['seconds']} s{', falling rate' * falling}", flush=True)
    return result


def summary(runs):
    "Every error, the mean over the seeds, and how many times better than that of mean pooling it is."
    kinds = {"last": ("last", False), "averaged": ("averaged", False), "falling": ("last", True)}
    errors = {}
    for kind, (which, falling) in kinds.items():
        own = {name: [r[which] for r in runs if r["pooling"] == name and r["falling"] == falling] for name in POOLINGS}
        errors[kind] = {name: float(np.mean(e)) for name, e in own.items() if e}
    return {"error": errors, "times_better_than_mean": {kind: {name: e["mean"] / value for name, value in e.items()} for kind, e in errors.items() if "mean" in e}}


def main():
    start = time.perf_counter()
    if arguments(__doc__):
        runs = [measure(name, 0, 2000, 500, falling=True) for name in ("mean", "max")]
        mean, top = (r["last"] for r in runs)
        assert top * 4 < mean, f"max pooling should beat mean pooling clearly on maxima; errors are {top:.3f} and {mean:.3f}"
        return
    runs = []
    for falling, seed in ((False, 0), (True, 0), (True, 1)):
        for name in POOLINGS:
            runs.append(measure(name, seed, 20_000, falling=falling))
            save("published_max_of_set", start, protocol=__doc__, steps=20_000, batch=128, reference=PAPER, **summary(runs), runs=runs)


if __name__ == "__main__":
    main()
