"""Sum of digits, the text task of Deep Sets (Zaheer et al. 2017, figure 2): train on short sets, test on long ones. `python -m bench.published_digit_sum [--quick]`.

Protocol, after the authors' public notebook: 100,000 training sets of 1 to 9 digits from 1 to 9, 10 epochs of batches of 128, mean absolute error, Adam 1e-4.
Deep Sets: Embedding(11, 100), Dense 30 tanh, sum, Dense 1, the weights of the best epoch on 1235 held-out sets. The sum is `dlagg.agg.pooling.SumPooling`.
LSTM(50) and GRU(80) on the same embedding. Tested on 10,000 sets of each length 5, 10, ..., 95: an answer counts when it rounds to the right sum.
Differences: our padded digits are masked out of the sum, and LSTM and GRU are given 20 epochs.
"""
import time

import numpy as np

from bench._training import arguments, save, shuffled, train

import keras
from keras import layers, ops

from dlagg.agg.pooling import SumPooling

LENGTHS = range(5, 100, 5)


class DigitSum(keras.Model):
    "Embedding, then an aggregation of the digits, then one number."

    def __init__(self, kind):
        super().__init__()
        self.kind, self.embedding, self.answer = kind, layers.Embedding(11, 100), layers.Dense(1)
        self.phi = layers.Dense(30, activation="tanh") if kind == "Deep Sets" else None
        self.aggregate = {"Deep Sets": SumPooling, "LSTM": lambda: layers.LSTM(50), "GRU": lambda: layers.GRU(80)}[kind]()

    def call(self, digits):
        z = self.embedding(digits)
        return self.answer(self.aggregate(self.phi(z) if self.phi else z, mask=digits > 0))[:, 0]


def sets(rng, n, length=None):
    "`n` sets of digits, right-aligned in a table padded with 0, and their sums; 1 to 9 digits each if no length is given."
    lengths = rng.integers(1, 10, n) if length is None else np.full(n, length)
    width = lengths.max()
    digits = np.where(np.arange(width) >= width - lengths[:, None], rng.integers(1, 10, (n, width)), 0).astype("int32")
    return digits, digits.sum(axis=1).astype("float32")


def error(predict, digits, sums):
    return ops.mean(ops.abs(predict(digits) - sums))


def fit(kind, seed, rows, epochs):
    "A trained model of this kind: the weights of the best epoch on the held-out sets."
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    X, y = sets(rng, rows)
    held, (X, y) = (X[:1235], y[:1235]), (X[1235:], y[1235:])
    model = DigitSum(kind)
    model(X[:2])
    optimizer = keras.optimizers.Adam(1e-4, epsilon=1e-3 if kind == "Deep Sets" else 1e-7)
    losses, _ = train(model, (shuffled(rng, 128, X, y) for _ in range(epochs)), error, optimizer, held=held)
    return model, losses


def accuracy(model, seed, n):
    "Share of right answers at every test length."
    rng = np.random.default_rng(1000 + seed)
    shares = {}
    for length in LENGTHS:
        digits, sums = sets(rng, n, length)
        answer = np.concatenate([np.asarray(model(part)) for part in np.split(digits, max(1, n // 1000))])
        shares[length] = float(np.mean(np.round(answer) == sums))
    return shares


def measure(kind, seeds, rows, epochs, n):
    "Accuracies of a few seeds, as a record."
    runs = []
    for seed in seeds:
        start = time.perf_counter()
        model, losses = fit(kind, seed, rows, epochs)
        runs.append({"seed": seed, "accuracy": accuracy(model, seed, n), "last_losses": losses[-3:], "seconds": round(time.perf_counter() - start, 1)})
        print(f"{kind}, seed {seed}, loss {losses[-1]:.4f}, {runs[-1]['seconds']} s:", " ".join(f"{k}: {v:.3f}" for k, v in runs[-1]["accuracy"].items()), flush=True)
    return {"model": kind, "epochs": epochs, "runs": runs, "mean": {k: float(np.mean([r["accuracy"][k] for r in runs])) for k in LENGTHS}}


def main():
    start = time.perf_counter()
    if arguments(__doc__):
        ours = measure("Deep Sets", [0], 20_000, 40, 1000)["mean"]
        assert min(ours.values()) > 0.9, f"Deep Sets should add correctly at every length; accuracies are {ours}"
        return
    cases = [measure("Deep Sets", [0, 1, 2, 3, 4], 100_000, 10, 10_000), measure("LSTM", [0], 100_000, 20, 10_000), measure("GRU", [0], 100_000, 20, 10_000)]
    save("published_digit_sum", start, protocol=__doc__, training_sets=100_000, test_sets_of_each_length=10_000, reference="Deep Sets about 1.0 at every length, LSTM and GRU about 0 from 20 digits on (the paper's figure)", cases=cases)


if __name__ == "__main__":
    main()
