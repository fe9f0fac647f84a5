"""The contract of aggregation, under every pooling layer."""
import numpy as np
import pytest

import dlagg.agg    # before Keras: it chooses the backend
import keras
from dlagg.agg.pooling import POOLINGS, AttentionPooling, PMAPooling, PNAPooling, SetTransformerPooling, SumPooling, pooling_layer

MORE = {"heads": lambda: AttentionPooling(16, heads=3, gated=True), "isab": lambda: SetTransformerPooling(8, heads=2, inducing=3, seeds=2),
        "seeds": lambda: PMAPooling(12, heads=3, seeds=4), "pna_sum": lambda: PNAPooling(["sum", "std"], ["amplification"], delta=2.0),
        "several": lambda: pooling_layer(["mean", "topk", "gated_attention"])}
NAMES = [*POOLINGS, *MORE]
RNG = np.random.default_rng(0)
SIZES = [1, 7, 3, 20, 2]
IDS = np.repeat(np.arange(5), SIZES).astype("int32")
ROWS = RNG.normal(size=(len(IDS), 6)).astype("float32")


def make(name, **options):
    return MORE[name]() if name in MORE else pooling_layer(name, **options)


@pytest.fixture(scope="module", params=NAMES)
def layer(request):
    layer = make(request.param)
    layer(ROWS, IDS, num_segments=5)    # makes the weights
    layer.called = request.param
    return layer


def array(x):
    return keras.ops.convert_to_numpy(x)


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
    shuffled, plain = array(layer(ROWS[order], IDS[order], num_segments=5)), array(layer(ROWS, IDS, num_segments=5))
    if layer.ordered:
        assert np.abs(shuffled[1:] - plain[1:]).max() > 1e-3, "marked as order-dependent, but it is not"
        close(shuffled[0], plain[0])
    else:
        close(shuffled, plain)


def test_unsorted_ids_in_the_same_order(layer):
    order = np.argsort(np.random.default_rng(3).random(len(IDS)) + 0.0)
    order = order[np.argsort(order % 2, kind="stable")]
    where = np.lexsort((np.arange(len(IDS)), IDS[order]))    # groups scattered; afterwards the same rows with sorted ids
    close(layer(ROWS[order], IDS[order], num_segments=5), layer(ROWS[order][where], IDS[order][where], num_segments=5))


def test_padded_is_ragged_is_one_at_a_time(layer):
    ragged = array(layer(ROWS, IDS, num_segments=5))
    box, mask = padded()
    close(layer(box, mask=mask), ragged)
    for g in (0, 3):
        close(layer(ROWS[IDS == g], np.zeros(SIZES[g], "int32"), num_segments=1)[0], ragged[g])


def test_batch_independence(layer):
    alone = array(layer(ROWS[IDS == 2], np.zeros(3, "int32"), num_segments=1))
    crowd = np.concatenate([ROWS[IDS == 2], 1e3 * RNG.normal(size=(60, 6)).astype("float32")])
    together = array(layer(crowd, np.r_[np.zeros(3), np.ones(60)].astype("int32"), num_segments=2))
    close(together[:1], alone)


def test_twin_agrees_also_in_two_pieces(layer):
    if not layer.mergeable:
        assert layer.called in ("set_transformer", "isab", "topk", "lstm", "gru", "last", "several")
        with pytest.raises(TypeError, match="no mergeable state"):
            layer.twin()
        return
    twin, half = layer.twin(), np.arange(len(IDS)) % 2 == 0
    expected = layer(ROWS, IDS, num_segments=5)
    close(layer.close(twin.finish(twin.init(IDS, *layer.columns(ROWS)))), expected, tol=1e-6)
    merged = twin.merge([twin.init(IDS[m], *layer.columns(ROWS[m])) for m in (half, ~half)])
    close(layer.close(twin.finish(merged)), expected, tol=1e-6)


def test_empty_group(layer):
    answer = array(layer(ROWS, IDS, num_segments=6))[5]
    assert (answer == 0).all() if layer.called == "sum" else np.isnan(answer).all()
    if layer.called == "several":    # each part has its own
        return
    chosen = type(layer).from_config(layer.get_config() | {"empty": -1.5})
    assert (array(chosen(ROWS, IDS, num_segments=6))[5] == -1.5).all()
    box, mask = padded()
    mask[2] = False
    assert (array(chosen(box, mask=mask))[2] == -1.5).all()


def test_no_rows_at_all(layer):
    answer = array(layer(np.zeros((1, 2, 6), "float32"), mask=np.zeros((1, 2), bool)))
    assert answer.shape[0] == 1 and ((answer == 0).all() if layer.called == "sum" else np.isnan(answer).all())


@pytest.mark.parametrize("ddof_like", ["std"])
def test_one_row_has_no_deviation(ddof_like):
    assert (array(pooling_layer(ddof_like)(ROWS[:1], IDS[:1], num_segments=1)) == 0).all()


def test_stable_far_from_zero(layer):
    x = (1e4 + np.random.default_rng(1).normal(size=(400, 6))).astype("float32")
    ids = (np.arange(400) % 4).astype("int32")
    if layer.called in ("lstm", "gru"):
        x, ids = x[:40], ids[:40]
    ours = array(layer(x, ids, num_segments=4))
    assert np.isfinite(ours).all()
    if layer.mergeable:
        twin = layer.close(layer.twin().finish(layer.twin().init(ids, *layer.columns(x))))
        tol = 2e-6 * (1e3 if "std" in layer.called or "pna" in layer.called else 1)    # a deviation of 1 at 10,000 has four digits left
        np.testing.assert_allclose(ours, twin, rtol=tol, atol=2e-6 * np.abs(twin).max())
    else:
        half = array(layer(x[ids % 2 == 1], ids[ids % 2 == 1], num_segments=4))
        np.testing.assert_allclose(ours[[1, 3]], half[[1, 3]], rtol=1e-5, atol=1e-5 * np.abs(ours).max())


def test_saved_and_loaded(layer, tmp_path):
    inputs = [keras.Input(batch_shape=(None, 32, 6)), keras.Input(batch_shape=(None, 32), dtype="bool")]
    again = type(layer).from_config({**layer.get_config(), "name": "pool"})
    model = keras.Model(inputs, again(inputs[0], mask=inputs[1]))
    again.set_weights(layer.get_weights())
    box, mask = padded()
    model.save(tmp_path / "pool.keras")
    loaded = keras.saving.load_model(tmp_path / "pool.keras")    # safe mode
    box = np.nan_to_num(box)
    np.testing.assert_array_equal(array(loaded([box, mask])), array(model([box, mask])))
    close(loaded([box, mask]), layer(ROWS, IDS, num_segments=5))


def test_ragged_in_a_functional_model():
    rows, ids = keras.Input(batch_shape=(None, 6)), keras.Input(batch_shape=(None,), dtype="int32")
    model = keras.Model([rows, ids], pooling_layer(["mean", "pma", "topk"])(rows, segment_ids=ids, num_segments=5))
    assert array(model([ROWS, IDS])).shape == (5, 6 + 64 + 18)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = make(name)
    finally:
        keras.config.set_dtype_policy(before)
    x = np.concatenate([100 * ROWS, np.full((80, 6), 300, "float32")])    # the sum of squares passes 65504, the largest 16-bit number
    ids = np.concatenate([IDS, np.full(80, 5, "int32")])
    half = array(layer(x, ids, num_segments=6))
    assert half.dtype == np.float16 and np.isfinite(half).all()
    full = make(name)
    full(x, ids, num_segments=6)
    full.set_weights(layer.get_weights())
    full = array(full(x, ids, num_segments=6))
    if not layer.ordered:    # a recurrent net and a softmax of large scores amplify what 16 bits round away
        gap = np.abs(half - full) / np.maximum(np.abs(full).max(), 1)
        assert np.median(gap) < 5e-3


def test_whole_numbers_are_summed_exactly():
    x = np.array([[2 ** 24 + 1], [2], [7]], "int32")
    for answer in (SumPooling()(x, [0, 0, 1], num_segments=3), SumPooling()(np.stack([x[:2], x[1:] * 0]), mask=[[1, 1], [0, 0]])):
        answer = array(answer)
        assert answer.dtype.kind == "i" and answer[0, 0] == 2 ** 24 + 3 and answer[-1, 0] == 0


@pytest.mark.parametrize("arguments", [{}, {"segment_ids": IDS}, {"num_segments": 5}])
def test_incomplete_call_says_what_is_missing(arguments):
    with pytest.raises(ValueError, match="segment_ids and num_segments"):
        pooling_layer("mean")(ROWS, **arguments)
