"""Gradients of every pooling layer, against central differences, on odd groups, and in mixed precision."""
import numpy as np
import pytest

import dlagg.agg    # before Keras: it chooses the backend
import keras
from dlagg.agg.pooling import POOLINGS, SetTransformerPooling, pooling_layer

pytestmark = [pytest.mark.skipif(keras.config.backend() != "jax", reason="the gradients are taken with JAX"), pytest.mark.usefixtures("compiled_once")]
NAMES = [*POOLINGS, "isab"]
RNG = np.random.default_rng(0)


def make(name, **options):
    if name == "isab":
        return SetTransformerPooling(8, heads=2, inducing=2, **options)
    made = {"gated_attention": {"gated": True}, "lstm": {"units": 4}, "gru": {"units": 4}, "pma": {"units": 8}, "set_transformer": {"units": 8}}
    return POOLINGS[name](**made.get(name, {}), **options)


def in_float64(layer):
    "Keras 3.15 computes tanh and sigmoid of float64 in float32, too rough for differences."
    import jax
    if hasattr(layer, "hidden"):
        layer.hidden.activation = jax.numpy.tanh
    if getattr(layer, "gate", None) is not None:
        layer.gate.activation = jax.nn.sigmoid
    if hasattr(layer, "cell"):
        layer.cell.activation, layer.cell.recurrent_activation = jax.numpy.tanh, jax.nn.sigmoid
    return layer


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_central_difference(name):
    import jax
    with jax.enable_x64(True):
        layer = in_float64(make(name, dtype="float64"))
        rows, ids = np.random.default_rng(2).normal(size=(9, 3)), np.repeat(np.arange(3), [1, 5, 3]).astype("int32")
        weight = np.random.default_rng(3).normal(size=np.shape(layer(rows, ids, num_segments=3)))
        f = jax.jit(lambda x: (layer(x, ids, num_segments=3) * weight).sum())
        ours = np.asarray(jax.grad(f)(rows))
        for i, j in [(0, 0), (2, 1), (4, 2), (8, 0)]:
            if name in ("std", "pna") and i == 0:    # a group of one row: the slope of its deviation at zero is defined as 0
                assert np.isfinite(ours[0]).all()
                continue
            step = np.zeros_like(rows)
            step[i, j] = 1e-6
            there = (float(f(rows + step)) - float(f(rows - step))) / 2e-6
            assert abs(ours[i, j] - there) < 1e-6 * max(1, abs(there)), (i, j)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_weights_is_central_difference(name):
    import jax
    with jax.enable_x64(True):
        layer = in_float64(make(name, dtype="float64"))
        rows, ids = np.random.default_rng(4).normal(size=(9, 3)), np.repeat(np.arange(3), [1, 5, 3]).astype("int32")
        layer(rows, ids, num_segments=3)
        values = [v.value for v in layer.trainable_variables]
        if not values:
            assert name in ("sum", "mean", "vpa", "max", "min", "std", "logsumexp", "pna", "last")
            return
        fixed = [v.value for v in layer.non_trainable_variables]
        f = jax.jit(lambda values: (layer.stateless_call(values, fixed, rows, ids, num_segments=3)[0] ** 2).sum())
        for at, slope in enumerate(jax.grad(f)(values)):
            where = np.unravel_index(np.abs(slope).argmax(), slope.shape)
            up, down = ([v.at[where].add(e) if i == at else v for i, v in enumerate(values)] for e in (1e-6, -1e-6))
            there = (float(f(up)) - float(f(down))) / 2e-6
            assert abs(float(slope[where]) - there) < 1e-6 * max(1, abs(there)), layer.trainable_variables[at].path


@pytest.mark.parametrize("name", NAMES)
def test_gradient_survives_empty_and_equal_rows(name):
    import jax
    layer = make(name, empty=0.0)
    rows, ids = np.ones((4, 3), "float32"), np.array([0, 0, 0, 2], "int32")
    layer(rows, ids, num_segments=4)
    assert np.isfinite(np.asarray(jax.grad(lambda x: layer(x, ids, num_segments=4).sum())(rows))).all()
    box, mask = np.ones((2, 3, 3), "float32"), np.array([[1, 1, 0], [0, 0, 0]], bool)
    slope = np.asarray(jax.grad(lambda x: layer(x, mask=mask).sum())(box))
    assert np.isfinite(slope).all() and (slope[~mask] == 0).all()    # filling has no influence


def test_tied_maximum_shares_its_gradient():
    import jax
    layer = pooling_layer("max")
    slope = jax.grad(lambda x: layer(x, np.zeros(3, "int32"), num_segments=1).sum())(np.array([[2.0], [2.0], [1.0]], "float32"))
    np.testing.assert_allclose(np.asarray(slope)[:, 0], [0.5, 0.5, 0])
