"""Recurrent layers over units, steps and batches drawn by hypothesis; stepping, masks, directions; windows that do not see the future."""
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlagg.nn import (
    GRU, LSTM, BatchNormalization, Bidirectional, Dense, Flatten, LayerNormalization, Masking, Network, RepeatVector, SelfAttention, ShapeError, SimpleRNN, check_network, from_keras, gradient_lengths, to_keras, windows_of,
)
from dlagg.nn.backprop_contract import check_gradients, check_habits

KINDS = [SimpleRNN, LSTM, GRU]
kinds, seeds, sizes = st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(1, 5)
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def started(layer, shape, seed=0):
    "The layer with weights and biases that are not 0, in float64."
    rng = np.random.default_rng(seed)
    layer.start(shape, rng, np.float64)
    for value in layer.params.values():
        value += rng.normal(0, 0.3, value.shape)
    return layer


def filled(x, more, front=False):
    "The sequences with `more` empty steps at their end or in front."
    empty = np.zeros((len(x), more, x.shape[2]))
    return np.concatenate([empty, x] if front else [x, empty], axis=1)


@settings(max_examples=40, deadline=None)
@given(kinds, sizes, sizes, sizes, st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(), seeds)
def test_gradients_of_any_shape(kind, units, steps, features, rows, sequences, backwards, bias, seed):
    layer = kind(units, use_bias=bias, return_sequences=sequences, go_backwards=backwards)
    check_habits(layer, (steps, features))
    check_gradients(layer, (steps, features), rows=rows, seed=seed)


@settings(max_examples=25, deadline=None)
@given(kinds, st.integers(1, 3), sizes, st.integers(1, 3), st.booleans(), st.sampled_from(["concat", "sum", "ave", "mul"]), seeds)
def test_gradients_in_both_directions(kind, units, steps, features, sequences, merge_mode, seed):
    layer = Bidirectional(kind(units, return_sequences=sequences), merge_mode)
    check_habits(layer, (steps, features))
    check_gradients(layer, (steps, features), rows=2, seed=seed)


@settings(max_examples=40, deadline=None)
@given(kinds, sizes, st.integers(1, 8), sizes, st.integers(1, 4), seeds)
def test_steps_with_the_state_handed_on_are_the_whole_pass(kind, units, steps, features, rows, seed):
    layer, x = started(kind(units, return_sequences=True), (steps, features), seed), np.random.default_rng(seed).normal(size=(rows, steps, features))
    whole, state = layer.forward(x), None
    for t in range(steps):
        h, state = layer.step(x[:, t], state)
        np.testing.assert_allclose(h, whole[:, t], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(kinds, st.booleans(), st.integers(1, 6), st.integers(0, 7), seeds)
def test_how_far_a_sequence_is_filled_up_does_not_matter(kind, both, steps, more, seed):
    layer = kind(3)
    net = Network([Masking(), Bidirectional(layer) if both else layer], random_state=seed, dtype="float64").build((steps, 2))
    x = np.random.default_rng(seed).normal(size=(2, steps, 2))
    alone = net.forward(x)
    np.testing.assert_allclose(net.forward(filled(x, more)), alone, atol=1e-12)
    np.testing.assert_allclose(net.forward(filled(x, more, front=True)), alone, atol=1e-12)


@each
def test_empty_steps_give_no_gradient_and_change_none(kind):
    layer, x = started(kind(4), (5, 2)), np.random.default_rng(1).normal(size=(3, 5, 2))
    dy = np.random.default_rng(2).normal(size=(3, 4))
    layer.forward(x)
    dx, grads = layer.backward(dy), dict(layer.grads)
    longer = filled(x, 4)
    layer.forward(longer, mask=(longer != 0).any(axis=2))
    again = layer.backward(dy)
    np.testing.assert_allclose(again[:, :5], dx, atol=1e-12)
    assert not again[:, 5:].any()
    for name, value in grads.items():
        np.testing.assert_allclose(layer.grads[name], value, atol=1e-12)


@each
def test_masks_of_any_pattern_have_the_gradient_of_the_loss(kind):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 7, 2)) * (rng.random((6, 7, 1)) < 0.7)
    x[0] = 0    # a row in which no step counts
    net = Network([Masking(), Bidirectional(kind(3, return_sequences=True)), kind(2), Dense(1)], random_state=0, dtype="float64").compile("gradient_descent", "mse")
    assert check_network(net, x, rng.normal(size=(6, 1)), places=8) < 1e-6


@each
@pytest.mark.parametrize("last", [False, True])
def test_what_a_mask_leaves_out_in_keras(kind, last):
    rng = np.random.default_rng(4)
    x = (rng.normal(size=(6, 5, 3)) * (rng.random((6, 5, 1)) < 0.7)).astype(np.float32)
    layers = [Masking(), kind(3, return_sequences=True, zero_output_for_mask=True), Bidirectional(kind(4, return_sequences=not last), "sum"), BatchNormalization(momentum=0.5), LayerNormalization()]
    net = Network([*layers, *([] if last else [Flatten()]), Dense(1)], random_state=0).build((5, 3)).compile("gradient_descent", "mse")    # Flatten sees what stands at steps that do not count
    model, y = to_keras(net), rng.normal(size=(6, 1)).astype(np.float32)
    np.testing.assert_allclose(model.predict(x, verbose=0), net.predict(x), atol=1e-5)
    model.compile("sgd", "mse")    # both have a rate of 0.01
    for _ in range(3):
        assert abs(float(model.train_on_batch(x, y)) - net.train_on_batch(x, y)[0]) < 1e-5
    for ours, theirs in zip(net.get_weights(), model.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    np.testing.assert_allclose(from_keras(model).predict(x), model.predict(x, verbose=0), atol=1e-5)


def test_masked_normalisation_has_the_gradient_of_the_loss():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(6, 4, 2)) * (rng.random((6, 4, 1)) < 0.6)
    net = Network([Masking(), Dense(3, "tanh"), BatchNormalization(epsilon=0.1), Flatten(), Dense(1)], random_state=0, dtype="float64").compile("gradient_descent", "mse")
    assert check_network(net, x, rng.normal(size=(6, 1))) < 1e-6


@pytest.mark.parametrize("n", [4, 6])
def test_a_mask_ends_where_the_steps_end(n):
    x, y = np.random.default_rng(0).normal(size=(n, 4, 2)), np.arange(n * 1.0)
    x[0, 2:] = 0
    nets = [Network([*first, Flatten(), Dense(1)], random_state=0).compile("gradient_descent", "mse") for first in ([], [Masking()])]
    plain, masked = (net.fit(x, y, epochs=2, batch_size=n, verbose=0).history["loss"] for net in nets)
    assert plain == masked    # with 4 rows of 4 steps, weights of steps would be broadcast over rows, unseen


@each
def test_sequences_of_any_length(kind, tmp_path):
    rng = np.random.default_rng(0)
    layers = [Masking(), Bidirectional(kind(3, return_sequences=True)), BatchNormalization(), SelfAttention(1, 2), kind(2), Dense(1)]
    net = Network(layers, random_state=0).build((None, 2)).compile("adam", "mse")
    for steps in (5, 3):
        net.fit(rng.normal(size=(8, steps, 2)), rng.normal(size=8), verbose=0)
    net.save(tmp_path / "net.npz")
    again, x = Network.load(tmp_path / "net.npz"), rng.normal(size=(3, 7, 2))
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    with pytest.raises(ShapeError, match=r"the network was built for rows of shape \(None, 2\); x has rows of shape \(7, 3\)"):
        net.predict(np.ones((1, 7, 3)))
    plain = Network([kind(3, return_sequences=True), Dense(2)], random_state=0).build((None, 2))
    model = to_keras(plain)
    assert model.input_shape == (None, None, 2)
    np.testing.assert_allclose(model.predict(x, verbose=0), plain.predict(x), atol=1e-5)
    assert from_keras(model).input_shape == (None, 2)


@each
def test_a_row_in_which_no_step_counts_keeps_its_first_state(kind):
    layer = started(kind(4), (5, 2))
    assert not layer.forward(np.ones((1, 5, 2)), mask=np.zeros((1, 5), bool)).any()


@each
def test_backwards_is_forwards_of_the_sequence_turned_round(kind):
    layer, x = started(kind(4, return_sequences=True), (6, 3)), np.random.default_rng(0).normal(size=(2, 6, 3))
    there = layer.forward(x[:, ::-1])
    layer.go_backwards = True
    np.testing.assert_array_equal(layer.forward(x), there)
    layer.return_sequences = False
    np.testing.assert_array_equal(layer.forward(x), there[:, -1])


@each
def test_the_last_of_the_sequence_is_what_one_output_gives(kind):
    layer, x = started(kind(4), (6, 3)), np.random.default_rng(0).normal(size=(2, 6, 3))
    last = layer.forward(x)
    layer.return_sequences = True
    np.testing.assert_array_equal(layer.forward(x)[:, -1], last)


def test_networks_of_sequences_go_to_keras_and_back():
    net = Network([Masking(), Bidirectional(LSTM(4, return_sequences=True)), GRU(3), RepeatVector(2), SimpleRNN(2, return_sequences=True), Dense(1)], random_state=0).build((6, 2))
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype(np.float32)
    x[1, 4:] = 0
    model = to_keras(net)
    np.testing.assert_allclose(model.predict(x, verbose=0), net.predict(x), atol=1e-5)
    np.testing.assert_allclose(from_keras(model).predict(x), net.predict(x), atol=1e-6)


@each
def test_a_saved_network_goes_on_where_it_stopped(kind, tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 5, 2))
    y = x[:, 0, 0]
    net = Network([Bidirectional(kind(3)), Dense(1)], random_state=0).compile("adam", "mse")
    net.fit(x, y[:, None], epochs=2, verbose=0)
    net.save(tmp_path / "net")
    again = Network.load(tmp_path / "net")
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    for one in (net, again):
        one.train_on_batch(x.astype(np.float32), y[:, None])
    np.testing.assert_array_equal(again.predict(x), net.predict(x))


def test_the_forget_gate_starts_open():
    layer = LSTM(3)
    layer.start((4, 2), np.random.default_rng(0), np.float32)
    assert layer.params["bias"].tolist() == [0] * 3 + [1] * 3 + [0] * 6


@pytest.mark.parametrize("call, error, contains", [
    (lambda: LSTM(0), ValueError, "units must be an integer, 1 or more; got 0"),
    (lambda: GRU(2.5), ValueError, "units must be an integer"),
    (lambda: SimpleRNN(2, "swish"), ValueError, "activation must be one of"),
    (lambda: Network([LSTM(50)]).build((8,)), ShapeError, "a table of rows is no sequence: make windows"),
    (lambda: LSTM(2).output_shape((28, 28, 1)), ShapeError, "it needs sequences (steps, features)"),
    (lambda: Bidirectional(Dense(2)), ValueError, "Bidirectional needs a recurrent layer"),
    (lambda: Bidirectional(GRU(2, go_backwards=True)), ValueError, "reads forwards"),
    (lambda: Bidirectional(GRU(2), "max"), ValueError, "merge_mode must be 'concat', 'sum', 'ave' or 'mul'; got 'max'"),
    (lambda: LSTM(2).step(np.ones((1, 2))), ValueError, "lstm has no weights yet"),
    (lambda: Network([LSTM(2)]).build((4, None)), ValueError, "None only as the steps of sequences"),
    (lambda: RepeatVector(0), ValueError, "n must be an integer, 1 or more; got 0"),
    (lambda: gradient_lengths(LSTM(2), np.ones((3, 4))), ValueError, "x must be sequences, shape (n, steps, features); got the shape (3, 4)"),
])
def test_what_cannot_be(call, error, contains):
    with pytest.raises(error) as caught:
        call()
    assert contains in str(caught.value)


def test_a_built_layer_names_the_features_it_is_for():
    layer = started(GRU(3, name="reader"), (5, 2))
    with pytest.raises(ShapeError, match=r"reader \(GRU\) got rows of shape \(5, 4\); its weights are for sequences \(steps, 2\)"):
        layer.forward(np.ones((1, 5, 4)))


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 1.5), st.integers(1, 30), st.booleans(), seeds)
def test_the_gradient_fades_by_the_stretch(stretch, steps, sequences, seed):
    layer = SimpleRNN(3, None, return_sequences=sequences)
    layer.start((steps, 3), np.random.default_rng(seed), np.float64)
    layer.params["recurrent_kernel"] *= stretch    # orthogonal: turns, and stretches by 1
    layer.params["kernel"][...] = np.eye(3)
    lengths = gradient_lengths(layer, np.ones((2, steps, 3)), seed)
    np.testing.assert_allclose(lengths / lengths[-1], stretch ** np.arange(steps - 1, -1, -1.0), rtol=1e-8)


@each
def test_the_gauge_leaves_the_layer_as_it_was(kind):
    layer = started(kind(3), (4, 2))
    layer.owes_input = False
    before = {name: value.copy() for name, value in layer.params.items()}
    assert gradient_lengths(layer, np.ones((1, 4, 2))).shape == (4,)
    assert not layer.owes_input and all((before[name] == value).all() for name, value in layer.params.items())


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 5), st.integers(0, 40))
def test_windows_are_whole_and_cut_in_time(n, length, ahead, cut):
    series = np.arange(float(n))
    try:
        x, y = windows_of(series, length, ahead)
    except ValueError:
        assert n < length + ahead
        return
    assert x.shape == (n - length - ahead + 1, length, 1) and y.shape == (len(x), ahead)
    assert (np.diff(np.concatenate([x[:, :, 0], y], axis=1), axis=1) == 1).all()    # no gap, no overlap
    parts = []
    for bounds in ({"last": cut}, {"first": cut}):
        try:
            parts.append(windows_of(series, length, ahead, **bounds)[1])
        except ValueError:
            parts.append(np.empty((0, ahead)))
    before, after = parts
    assert (before < cut).all() and (after >= cut).all()    # no target on both sides
    assert len(before) + len(after) >= len(y) - (ahead - 1)    # only windows over the cut are left out


def test_windows_of_several_columns_forecast_the_first():
    table = pd.DataFrame({"sales": [1.0, 2, 3, 4], "price": [9.0, 8, 7, 6]}, index=pd.date_range("2024-01-01", periods=4))
    x, y = windows_of(table, 2)
    assert x.tolist() == [[[1, 9], [2, 8]], [[2, 8], [3, 7]]] and y.tolist() == [[3], [4]]


@pytest.mark.parametrize("series, length, options, contains", [
    ([1, 2, np.nan, 4], 2, {}, "series"),
    ([], 2, {}, "series must have one row at least"),
    (["a", "b", "c"], 1, {}, "series must hold numbers"),
    ([1, 2, 3], 0, {}, "length must be an integer, 1 or more; got 0"),
    ([1, 2, 3], 1, {"ahead": 1.5}, "ahead must be an integer, 1 or more; got 1.5"),
    ([1, 2, 3], 1, {"first": -1}, "first must be an integer, 0 or more; got -1"),
    ([1, 2, 3], 3, {}, "no window fits: 3 steps and 1 ahead"),
    (np.zeros((3, 2, 2)), 1, {}, "series must have the shape (T,) or (T, features); got (3, 2, 2)"),
    (pd.Series([1.0, 2, 3], index=[2, 1, 3]), 1, {}, "series is not sorted by time; call series.sort_index() first"),
])
def test_series_that_cannot_be_windows(series, length, options, contains):
    with pytest.raises(ValueError) as caught:
        windows_of(series, length, **options)
    assert contains in str(caught.value)
