"""One training loop for the published tasks: a whole epoch is one compiled `scan`, so that small batches cost no Python.

Keras models without state beside their weights (no dropout, no batch normalisation), on JAX.
The underscore keeps this file out of `make bench`: it measures nothing itself.
"""
import argparse
import json
import os
import platform
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "jax"    # the compiled scan below is JAX's

import jax
import keras

from dlagg.course.home import writing

RESULTS = Path(__file__).parent / "results"


def train(model, epochs, loss, optimizer, average=0.0, held=None, decay=0.0):
    """Fit a built Keras model.

    Parameters
    ----------
    model : keras.Model
        Built (called once).
    epochs : iterable of tuples of ndarray
        An epoch each: arrays (steps, batch, ...), of one shape throughout.
    loss : callable
        `loss(predict, *batch)`, with `predict` the model under the weights of the moment.
    optimizer : keras.optimizers.Optimizer
    average : float, default 0
        The model ends with `a * (average so far) + (1 - a) * (weights)`, step by step, in place of the last weights; `a` is `average`,
        and lower in the first steps, `(1 + step) / (10 + step)`.
    held : tuple of ndarray, optional
        A batch apart: the model ends with the weights of the epoch whose loss on it was lowest, in place of the last epoch's.
    decay : float, default 0
        Adds `decay / 2` times the squares of the weights to the loss: what other libraries call weight decay of Adam.

    Returns
    -------
    history : list of float
        The mean loss of every epoch.
    last : list of arrays
        The weights after the last step, as `model.trainable_variables` are ordered.
    """
    optimizer.build(model.trainable_variables)
    fixed = [v.value for v in model.non_trainable_variables]

    def step(state, batch):
        weights, slots, mean, n = state
        def cost(weights):
            return loss(lambda *args, **options: model.stateless_call(weights, fixed, *args, **options)[0], *batch) + decay / 2 * sum((w * w).sum() for w in weights)
        value, gradient = jax.value_and_grad(cost)(weights)
        weights, slots = optimizer.stateless_apply(slots, gradient, weights)
        a = jax.numpy.minimum(average, (1 + n) / (10 + n))
        return (weights, slots, [a * m + (1 - a) * w for m, w in zip(mean, weights)], n + 1), value

    weights = [v.value for v in model.trainable_variables]
    state, history, best = (weights, [v.value for v in optimizer.variables], weights, 0), [], (float("inf"), weights)
    run = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches))
    check = jax.jit(lambda mean: loss(lambda *args, **options: model.stateless_call(mean, fixed, *args, **options)[0], *held))
    for batches in epochs:
        state, values = run(state, batches)
        history.append(float(values.mean()))
        score = float(check(state[2])) if held else -len(history)    # without a held batch, the last is the best
        best = min(best, (score, state[2]), key=lambda pair: pair[0])
    for variable, value in zip(model.trainable_variables, best[1]):
        variable.assign(value)
    return history, state[0]


def shuffled(rng, batch, *arrays):
    "The arrays in a new order, as (steps, batch, ...); the last rows that fill no batch wait for another epoch."
    order = rng.permutation(len(arrays[0]))
    order = order[:len(order) // batch * batch].reshape(-1, batch)
    return tuple(a[order] for a in arrays)


def arguments(text):
    "Whether the short version was asked for."
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small version, checked coarsely, and nothing written")
    return parser.parse_args().quick


def save(name, start, **record):
    "Write results/NAME.json: what was measured, the seconds since `start`, and on what kind of machine."
    device = {"cpu": f"{os.cpu_count()} processor cores", "gpu": "one GPU"}[jax.default_backend()]
    record = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "device": f"{device}, {platform.machine()}", "keras": keras.__version__, "jax": jax.__version__, "seconds": round(time.perf_counter() - start, 1), **record}
    RESULTS.mkdir(exist_ok=True)
    with writing(RESULTS / f"{name}.json") as draft:
        draft.write_text(json.dumps(record, indent=1) + "\n")
