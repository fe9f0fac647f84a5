"""Layers by the contract, over shapes drawn by hypothesis; gradients of whole networks; the record of single numbers; what must not be imported."""
import importlib.util
import os
import subprocess
import sys
import threading

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import ROOT

from dlagg.nn import (
    GRU, LSTM, Activation, AveragePooling2D, BatchNormalization, Bidirectional, Conv2D, Conv2DTranspose, Dense, Dropout, Flatten, GradientDescent, Layer, LayerNormalization, Masking, MaxPooling2D, Network, Reshape, SelfAttention, ShapeError,
    check_network, from_keras, to_keras,
)
from dlagg.nn.backprop import gradient_sizes
from dlagg.nn.backprop_autograd import Value
from dlagg.nn.backprop_contract import check_against_keras, check_gradients, check_habits
from dlagg.nn.backprop_norm import normalised
from dlagg.nn.neurons import neuron_gradient
from dlagg.nn.neurons_activations import ACTIVATIONS
from dlagg.nn.neurons_losses import LOSSES, loss_of

SMOOTH = sorted(set(ACTIVATIONS) - {"relu", "leaky_relu"})    # a difference over a corner is no derivative
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 6), st.sampled_from(SMOOTH), st.booleans(), st.integers(0, 10**6))
def test_dense_of_any_shape(shape, units, name, bias, seed):
    layer = Dense(units, name, use_bias=bias)
    check_habits(layer, shape)
    check_gradients(layer, shape, rows=2, seed=seed)


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(3, 9), st.booleans(), st.integers(0, 10**6))
def test_batch_normalization_of_any_shape(shape, rows, training, seed):
    layer = BatchNormalization(0.9, 0.1)
    check_habits(layer, shape)
    check_gradients(layer, shape, training, rows=rows, seed=seed)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(2, 6), min_size=1, max_size=3).map(tuple), st.integers(0, 10**6))
def test_layer_normalization_of_any_shape(shape, seed):
    layer = LayerNormalization(0.1)
    check_habits(layer, shape)
    check_gradients(layer, shape, rows=2, seed=seed)


@pytest.mark.parametrize("layer, shape, training", [
    (Dense(3, "relu"), (1,), False), (Dense(2, "softmax"), (2, 3, 4), False), (BatchNormalization(), (2, 3), True), (BatchNormalization(0.5), (4,), False),
    (LayerNormalization(1e-5), (2, 5), False), (Activation("leaky_relu"), (3, 2), False), (Reshape((2, -1)), (4, 3), False), (Flatten(), (2, 2, 2), False),
], ids=lambda value: type(value).__name__ if isinstance(value, Layer) else str(value))
def test_keras_says_the_same(layer, shape, training):
    check_against_keras(layer, shape, training, rows=5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.integers(0, 10**6))
def test_what_is_normalised_has_mean_0_and_variance_1(n, d, mean, deviation, seed):
    x = np.random.default_rng(seed).normal(mean, deviation, (n, d))
    u, s, _, variance = normalised(x, 0, 1e-9)
    assert np.allclose(u.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(u.var(axis=0), (variance / (variance + 1e-9))[0], atol=1e-6)


def test_moving_means_come_to_the_data_and_predict_row_by_row():
    x = np.random.default_rng(0).normal(4, 3, (512, 3))
    layer = BatchNormalization(momentum=0.8)
    for rows in np.split(x, 16) * 4:
        layer(rows, training=True)
    assert np.allclose(layer.state["moving_mean"], x.mean(axis=0), atol=0.6) and np.allclose(layer.state["moving_variance"], x.var(axis=0), rtol=0.3)
    assert np.allclose(np.concatenate([layer(row[None]) for row in x[:9]]), layer(x[:9]))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.9])
def test_dropout_keeps_the_expectation_and_the_mask(rate):
    layer, x = Dropout(rate), np.full((400, 500), 2.0)
    layer.start((500,), np.random.default_rng(0), np.float64)
    y = layer.forward(x, training=True)
    assert abs(y.mean() - 2) < 0.02 and np.isclose(np.mean(y == 0), rate, atol=0.01)
    assert (layer.backward(x) == y).all()    # the same mask on the way back
    assert (layer.forward(x) == x).all()


@pytest.mark.parametrize("call, contains", [
    (lambda: Dense("4"), "units must be an integer, 1 or more; got '4'"),
    (lambda: Dense(True), "units must be an integer"),
    (lambda: Dense(4, "swish"), "activation must be one of 'linear', 'sigmoid'"),
    (lambda: Dense(4, kernel_initializer="xavier"), "an initializer must be one of"),
    (lambda: Dropout(-0.1), "rate must be a number from 0 to below 1; got -0.1"),
    (lambda: BatchNormalization(epsilon=-1), "epsilon must be a finite number, 0 or more; got -1"),
    (lambda: LayerNormalization(epsilon=float("nan")), "epsilon must be a finite number"),
    (lambda: Reshape((3, 3)).output_shape((8,)), "its 8 numbers cannot be arranged as (3, 3)"),
])
def test_arguments_that_cannot_be(call, contains):
    with pytest.raises(ValueError) as caught:
        call()
    assert contains in str(caught.value)


def test_a_wrong_shape_names_the_layer_the_shape_and_the_rule():
    net = Network([Dense(4, name="first"), Dense(3, name="second")]).build((5,))
    with pytest.raises(ShapeError, match=r"first \(Dense\) got rows of shape \(6,\); its weights are for 5 inputs"):
        net.forward(np.ones((2, 6), np.float32))
    with pytest.raises(ShapeError, match=r"the network was built for rows of shape \(5,\); x has rows of shape \(1, 5\), which x.reshape\(-1, 5\) would mend"):
        net.predict(np.ones((2, 1, 5)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["linear", "sigmoid", "tanh", "gelu", "softplus"])), max_size=3), st.booleans(), st.integers(0, 10**6))
def test_any_network_has_the_gradient_of_its_loss(hidden, normal, seed):
    layers = [Dense(units, f) for units, f in hidden] + [BatchNormalization(epsilon=0.1)] * normal + [Dropout(0.25), Dense(3, "softmax")]
    net = Network(layers, random_state=seed, dtype="float64").compile("gradient_descent", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(seed)
    check_network(net, rng.normal(size=(7, 4)), rng.integers(0, 3, 7), places=4, seed=seed)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_at_the_end_of_a_network(name):
    last, rng = {"binary_crossentropy": "sigmoid"}.get(name, "softmax" if "categorical" in name else None), np.random.default_rng(0)
    y = {"sparse_categorical_crossentropy": rng.integers(0, 3, 8), "categorical_crossentropy": np.eye(3)[rng.integers(0, 3, 8)]}.get(name, rng.random((8, 3)))
    net = Network([Dense(4, "tanh"), Dense(3, last)], random_state=1, dtype="float64").compile("gradient_descent", loss_of(name))
    assert check_network(net, rng.normal(size=(8, 2)), y) < 1e-6


def test_checking_leaves_the_network_as_it_was():
    net = Network([Dense(3, "tanh"), BatchNormalization(), Dropout(0.5), Dense(1, "sigmoid")], random_state=0, dtype="float64").compile("gradient_descent", "binary_crossentropy").build((2,))
    before, draws = net.get_weights(), net.rng.bit_generator.state
    check_network(net, np.random.default_rng(0).normal(size=(6, 2)), [0, 1, 1, 0, 1, 0])
    assert all((a == b).all() for a, b in zip(before, net.get_weights())) and net.rng.bit_generator.state == draws


def test_a_gradient_that_is_no_number_is_found():
    class Lost(Dense):
        def backward_sums(self, dz):
            before = super().backward_sums(dz)
            self.grads["bias"] = self.grads["bias"] * np.nan
            return before
    try:
        net = Network([Lost(2), Dense(1)], dtype="float64", random_state=0).compile("gradient_descent", "mse")
        with pytest.raises(AssertionError, match=r"bias\[\d\] of lost: backward says nan"):
            check_network(net, np.ones((3, 2)), np.ones(3))
    finally:
        del Layer.kinds["Lost"]


def test_sizes_are_those_of_the_gradient():
    net = Network([Flatten(), Dense(3, "relu"), Dropout(0.5), Dense(1)], random_state=0).compile("gradient_descent", "mse")
    sizes = gradient_sizes(net, np.ones((4, 2, 2)), np.ones(4))
    assert list(sizes) == ["dense", "dense_2"] and np.isclose(sizes["dense_2"], np.sqrt(np.mean(np.concatenate([g.ravel() for g in net.gradients[2:]]) ** 2)))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from(["tanh", "sigmoid", "relu"]), st.integers(0, 10**6))
def test_the_record_of_single_numbers_agrees_with_the_layers(d, units, name, seed):
    net = Network([Dense(units, name), Dense(1)], random_state=seed, dtype="float64").compile("gradient_descent", "mse").build((d,))
    x, y = np.random.default_rng(seed).normal(size=(1, d)), np.ones(1)
    net.gradient(x, y)
    values = [[Value(float(w)) for w in array.ravel()] for array in net.get_weights()]
    kernel, bias, last, end = values
    a = [getattr(sum((float(x[0, p]) * kernel[p * units + q] for p in range(d)), start=bias[q]), name)() for q in range(units)]
    error = sum((aq * v for aq, v in zip(a, last)), start=end[0]) - 1.0
    (error * error).backward()
    for held, grad in zip(values, net.gradients):
        assert np.allclose([w.grad for w in held], grad.ravel(), atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.floats(0, 1e4), st.integers(0, 10**6))
def test_a_neuron_is_a_dense_layer_with_a_sigmoid(n, d, scale, seed):
    rng = np.random.default_rng(seed)
    X, y, w, b = scale * rng.normal(size=(n, d)), rng.integers(0, 2, n), rng.normal(size=d), rng.normal()
    net = Network([Dense(1, "sigmoid")], dtype="float64").compile("gradient_descent", "binary_crossentropy").build((d,))
    net.set_weights([w[:, None], [b]])
    loss, dw, db = neuron_gradient(X, y, w, b)
    assert np.isclose(loss, net.gradient(X, y)[0]) and np.isfinite(loss)
    assert np.allclose(dw, net.gradients[0][:, 0]) and np.isclose(db, net.gradients[1][0])


def test_there_and_back_to_keras_after_training():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 6)).astype(np.float32), rng.integers(0, 3, 64)
    net = Network([Dense(8, "gelu"), BatchNormalization(), Dropout(0.2), LayerNormalization(), Dense(3, "softmax")], random_state=0).compile(GradientDescent(0.1), "sparse_categorical_crossentropy")
    net.fit(x, y, epochs=3, verbose=0)
    model = to_keras(net)
    import keras
    theirs = keras.ops.convert_to_numpy(model(x, training=False))
    assert np.abs(theirs - net.predict(x)).max() < 1e-5
    assert (from_keras(model).predict(x) == net.predict(x)).all()


def test_what_keras_computes_otherwise_is_named_and_not_moved():
    import keras
    made = keras.layers
    for shape, layer, says in [((3, 2), made.LSTM(2, return_state=True), "return_state"), ((3, 2), made.GRU(2, reset_after=False), "reset_after"), ((3, 2), made.LSTM(2, dropout=0.1), "dropout"),
                               ((3, 2), made.BatchNormalization(axis=1), "axis"), ((2,), made.BatchNormalization(scale=False), "scale"), ((8, 8, 4), made.Conv2D(4, 3, groups=2), "groups"),
                               ((2,), made.Dense(2, activation="silu"), "activation must be one of"), ((3, 2), made.Bidirectional(made.LSTM(2), backward_layer=made.LSTM(2, activation="relu", go_backwards=True)), "backward_layer")]:
        with pytest.raises(ValueError, match=says):
            from_keras(keras.Sequential([keras.Input(shape), layer]))


def test_a_trained_layer_in_another_network_keeps_its_weights_and_serves_both():
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40.0) % 2
    first = Network([Dense(4, "tanh"), BatchNormalization(), Dense(1)], random_state=0).compile("adam", "mse")
    first.fit(x, y, epochs=2, verbose=0)
    answers, learnt = first.predict(x), first.layers[0].params["kernel"].copy()
    second = Network([*first.layers[:2], Dense(2)], random_state=1).build((3,))
    assert (second.layers[0].params["kernel"] == learnt).all() and (first.predict(x) == answers).all()
    second.compile("adam", "mse").fit(x, np.stack([y, y], axis=1), epochs=1, verbose=0)
    assert not (first.predict(x) == answers).all()    # one layer, as in Keras
    first.fit(x, y, epochs=1, verbose=0)
    with pytest.raises(ShapeError, match=r"dense \(Dense\) got rows of shape \(5,\); it has weights for rows of shape \(3,\) already"):
        Network([first.layers[0]]).build((5,))
    assert first.predict(x).shape == (40, 1)


def test_a_shape_that_did_not_fit_leaves_nothing_behind():
    net = Network([Dense(3), LSTM(2), Dense(1)], random_state=0).compile("adam", "mse")
    with pytest.raises(ShapeError, match="a table of rows is no sequence"):
        net.fit(np.ones((4, 5)), np.ones(4), verbose=0)
    assert net.fit(np.ones((4, 5, 1)), np.ones(4), verbose=0).history["loss"]


@pytest.mark.parametrize("layers, shape", [
    ([Dense(64, "gelu"), BatchNormalization(), LayerNormalization(), Activation("tanh"), Dense(3, "softmax")], (30,)),
    ([Conv2D(4, 3, activation="relu"), MaxPooling2D(), AveragePooling2D(), Conv2DTranspose(2, 2, 2), Flatten(), Dense(3)], (12, 12, 1)),
    ([Masking(), Bidirectional(LSTM(6, return_sequences=True)), SelfAttention(2, 3), GRU(5), Dense(3)], (6, 3)),
], ids=["rows", "images", "sequences"])
def test_threads_that_predict_at_once_get_their_own_answers(layers, shape):
    net, rng = Network(layers, random_state=0).build(shape), np.random.default_rng(0)
    tables = [rng.normal(size=(20, *shape)).astype(np.float32) for _ in range(6)]
    wanted, wrong = [net.predict(x) for x in tables], []

    def ask(x, want):
        for _ in range(25):
            if not np.allclose(net.predict(x), want, atol=1e-5):
                wrong.append(1)
    threads = [threading.Thread(target=ask, args=pair) for pair in zip(tables, wanted)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_importing_networks_is_light():
    code = "import sys, dlagg.nn; print(sorted({'keras', 'pandas', 'matplotlib', 'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


PROGRAM = """
import numpy as np, keras
from dlagg.nn import BatchNormalization, Dense, Network, from_keras, to_keras
from dlagg.nn.backprop_contract import check_layer
x = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
net = Network([Dense(5, "relu"), BatchNormalization(), Dense(2, "softmax")], random_state=0).build((4,))
model = to_keras(net)
assert np.abs(np.asarray(model.predict(x, verbose=0)) - net.predict(x)).max() < 1e-5
assert (from_keras(model).predict(x) == net.predict(x)).all()
check_layer(Dense(3, "tanh"), (4,))
if keras.config.backend() != "jax":    # which makes float32 of it unless told otherwise
    assert from_keras(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype="float64")])).dtype == "float64"
print(keras.config.backend())
"""


def python_of(backend):
    "A Python in which Keras runs on this backend, or None: `make torch` makes .venv-torch, DLAGG_TORCH_PYTHON may name another."
    made = ROOT / ".venv-torch"
    if backend == "numpy" or importlib.util.find_spec(backend):
        return sys.executable
    return os.environ.get("DLAGG_TORCH_PYTHON") or (made / "bin" / "python" if (made / ".ready").exists() else None)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_on_another_backend_weights_and_outputs_are_the_same(backend):
    python = python_of(backend)
    if python is None:
        pytest.skip("no torch here; `make torch` gets it")
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run([str(python), "-c", PROGRAM], capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path})
    assert done.returncode == 0 and done.stdout.split()[-1] == backend, done.stderr[-1500:]


def test_a_class_of_a_notebook_takes_no_name_from_a_module():
    def made(name):
        return type(name, (Layer,), {"__module__": "__main__"})
    try:
        made("Dense")
        assert Layer.kinds["Dense"] is Dense
        made("Mine")
        again = made("Mine")    # a cell that ran twice
        assert Layer.kinds["Mine"] is again
    finally:
        Layer.kinds.pop("Mine", None)
