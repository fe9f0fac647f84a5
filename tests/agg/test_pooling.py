"""The contract of aggregation, under every pooling layer."""
import os
import subprocess
import sys

import numpy as np
import pytest

import dlagg.agg    # before Keras: it chooses the backend
import keras
from dlagg.agg.pooling import POOLINGS, AttentionPooling, pooling_layer

NAMES = sorted(POOLINGS)
RNG = np.random.default_rng(0)
SIZES = [1, 7, 3, 20, 2]
IDS = np.repeat(np.arange(5), SIZES).astype("int32")
ROWS = RNG.normal(size=(len(IDS), 6)).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


@pytest.fixture(params=NAMES + ["heads"])
def layer(request):
    return AttentionPooling(16, heads=3, gated=True) if request.param == "heads" else pooling_layer(request.param)


def close(a, b, tol=2e-6):
    a, b = array(a), array(b)
    np.testing.assert_allclose(a, b, rtol=tol, atol=tol * max(1.0, np.abs(np.nan_to_num(b)).max()))


def padded():
    box, mask = np.full((5, 32, 6), np.nan, "float32"), np.zeros((5, 32), bool)
    for g, size in enumerate(SIZES):
        box[g, :size], mask[g, :size] = ROWS[IDS == g], True
    return box, mask


def test_permuted_rows(layer):
    order = RNG.permutation(len(IDS))
    close(layer(ROWS[order], IDS[order], num_segments=5), layer(ROWS, IDS, num_segments=5))


def test_padded_is_ragged_is_one_at_a_time(layer):
    ragged = array(layer(ROWS, IDS, num_segments=5))
    box, mask = padded()
    close(layer(box, mask=mask), ragged)
    for g in (0, 3):
        close(layer(ROWS[IDS == g], np.zeros(SIZES[g], "int32"), num_segments=1)[0], ragged[g])


def test_batch_independence(layer):
    alone = array(layer(ROWS[IDS == 2], np.zeros(3, "int32"), num_segments=1))
    crowd = np.concatenate([ROWS[IDS == 2], 1e3 * RNG.normal(size=(500, 6)).astype("float32")])
    together = array(layer(crowd, np.r_[np.zeros(3), np.ones(500)].astype("int32"), num_segments=2))
    close(together[:1], alone)


def test_twin_agrees(layer):
    ours = layer.close(layer.twin().finish(layer.twin().init(IDS, *layer.columns(ROWS))))
    layer_says = layer(ROWS, IDS, num_segments=5)
    close(ours, layer_says)


def test_twin_in_two_pieces(layer):
    twin, half = layer.twin(), np.arange(len(IDS)) % 2 == 0
    merged = twin.merge([twin.init(IDS[m], *layer.columns(ROWS[m])) for m in (half, ~half)])
    close(layer.close(twin.finish(merged)), layer(ROWS, IDS, num_segments=5))


def test_empty_group(layer):
    answer = array(layer(ROWS, IDS, num_segments=6))[5]
    assert (answer == 0).all() if layer.name == "sum" else np.isnan(answer).all()
    chosen = type(layer).from_config(layer.get_config() | {"empty": -1.5})
    assert (array(chosen(ROWS, IDS, num_segments=6))[5] == -1.5).all()


@pytest.mark.parametrize("name", ["mean", "max", "min", "std", "attention", "gated_attention"])
def test_stable_far_from_zero(name):
    x = (1e4 + np.random.default_rng(1).normal(size=(1000, 2))).astype("float32")
    layer, ids = pooling_layer(name), (np.arange(1000) % 4).astype("int32")
    ours = array(layer(x, ids, num_segments=4))
    twin = layer.close(layer.twin().finish(layer.twin().init(ids, *layer.columns(x))))
    np.testing.assert_allclose(ours, twin, rtol=2e-3 if name == "std" else 2e-6)


def test_saved_and_loaded(layer, tmp_path):
    inputs = [keras.Input(batch_shape=(None, 32, 6)), keras.Input(batch_shape=(None, 32), dtype="bool")]
    layer.name = "pool"
    model = keras.Model(inputs, layer(inputs[0], mask=inputs[1]))
    box, mask = padded()
    model.save(tmp_path / "pool.keras")
    again = keras.saving.load_model(tmp_path / "pool.keras")    # safe mode
    box = np.nan_to_num(box)
    np.testing.assert_array_equal(array(again([box, mask])), array(model([box, mask])))


@pytest.mark.skipif(keras.config.backend() != "jax", reason="the gradients are taken with JAX")
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_central_difference(name):
    import jax
    with jax.enable_x64(True):
        layer = POOLINGS[name](dtype="float64", **({"gated": True} if name.startswith("gated") else {}))
        if "attention" in name:
            layer.hidden.activation = jax.numpy.tanh    # Keras 3.15 computes tanh of float64 in float32, too rough for differences
        rows, ids = RNG.normal(size=(9, 3)), np.repeat(np.arange(3), [1, 5, 3]).astype("int32")
        layer(rows, ids, num_segments=3)    # makes the weights
        weight = RNG.normal(size=np.shape(layer(rows, ids, num_segments=3)))
        f = lambda x: (layer(x, ids, num_segments=3) * weight).sum()
        ours = np.asarray(jax.grad(f)(rows))
        for i, j in [(0, 0), (2, 1), (4, 2), (8, 0)]:
            if name == "std" and i == 0:
                assert (ours[0] == 0).all()    # a group of one row: the slope at zero is defined as 0
                continue
            step = np.zeros_like(rows)
            step[i, j] = 1e-6
            there = (float(f(rows + step)) - float(f(rows - step))) / 2e-6
            assert abs(ours[i, j] - there) < 1e-6 * max(1, abs(there)), (i, j)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="the gradients are taken with JAX")
@pytest.mark.parametrize("name", NAMES)
def test_gradient_survives_empty_and_equal_rows(name):
    import jax
    layer = pooling_layer(name, empty=0.0)
    rows, ids = np.ones((4, 3), "float32"), np.array([0, 0, 0, 2], "int32")
    layer(rows, ids, num_segments=4)
    assert np.isfinite(np.asarray(jax.grad(lambda x: layer(x, ids, num_segments=4).sum())(rows))).all()


def test_tied_maximum_shares_its_gradient():
    jax = pytest.importorskip("jax")
    layer = pooling_layer("max")
    slope = jax.grad(lambda x: layer(x, np.zeros(3, "int32"), num_segments=1).sum())(np.array([[2.0], [2.0], [1.0]], "float32"))
    np.testing.assert_allclose(np.asarray(slope)[:, 0], [0.5, 0.5, 0])


def test_another_backend_says_the_same(tmp_path):
    "Keras' NumPy backend is always there; it computes forward only, which is what this compares."
    program = """
import sys, numpy as np
from dlagg.agg.pooling import POOLINGS, pooling_layer
rows, ids = np.load(sys.argv[1])["rows"], np.load(sys.argv[1])["ids"]
out = {}
for name in POOLINGS:
    layer = pooling_layer(name)
    layer(rows, ids, num_segments=6)
    rng = np.random.default_rng(5)
    layer.set_weights([rng.normal(size=w.shape) * 0.3 for w in layer.get_weights()])
    out[name] = np.asarray(layer(rows, ids, num_segments=6))
np.savez(sys.argv[2], **out)
"""
    np.savez(tmp_path / "in.npz", rows=ROWS, ids=IDS)
    subprocess.run([sys.executable, "-c", program, tmp_path / "in.npz", tmp_path / "out.npz"], check=True, env={**os.environ, "KERAS_BACKEND": "numpy"})
    there = np.load(tmp_path / "out.npz")
    for name in POOLINGS:
        layer = pooling_layer(name)
        layer(ROWS, IDS, num_segments=6)
        rng = np.random.default_rng(5)
        layer.set_weights([rng.normal(size=w.shape) * 0.3 for w in layer.get_weights()])
        np.testing.assert_allclose(array(layer(ROWS, IDS, num_segments=6)), there[name], rtol=1e-4, atol=1e-5)    # NaN in the same places


@pytest.mark.parametrize("arguments", [{}, {"segment_ids": IDS}, {"num_segments": 5}])
def test_incomplete_call_says_what_is_missing(arguments):
    with pytest.raises(ValueError, match="segment_ids and num_segments"):
        pooling_layer("mean")(ROWS, **arguments)
