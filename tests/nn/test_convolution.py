"""Windows on images: any shape, stride, padding and dilation by central differences, SciPy and Keras; pieces; types; moved images; what a network sees; faults."""
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import signal

from dlagg.course.ledger import check_gradient
from dlagg.nn import (
    AveragePooling2D, Conv2D, Conv2DTranspose, Dense, Flatten, GlobalAveragePooling2D, MaxPooling2D, Network, ShapeError, UpSampling2D, from_keras, to_keras,
)
from dlagg.nn import convolution_layers
from dlagg.nn.backprop_contract import check_against_keras, check_gradients, check_habits
from dlagg.nn.backprop_layers import set_weights
from dlagg.nn.convolution import convolve2d, correlate2d
from dlagg.nn.convolution_look import feature_maps, plot_channels, saliency
from dlagg.nn.convolution_windows import col2im, frame, im2col, pad, windows

shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3))
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
paddings = st.sampled_from(["valid", "same"])
seeds = st.integers(0, 10**6)


def fits(shape, kernel, padding, dilation=(1, 1)):
    return padding == "same" or all((k - 1) * r + 1 <= n for n, k, r in zip(shape, kernel, dilation))


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(1, 3), pairs, pairs, pairs, paddings, st.booleans(), seeds)
def test_convolution_of_any_shape(shape, filters, kernel, strides, dilation, padding, bias, seed):
    if max(strides) > 1:
        dilation = (1, 1)
    assume(fits(shape, kernel, padding, dilation))
    layer = Conv2D(filters, kernel, strides, padding, dilation, "tanh", bias)
    check_habits(layer, shape)
    check_gradients(layer, shape, rows=2, seed=seed)


@settings(max_examples=25, deadline=None)
@given(shapes, st.integers(1, 3), pairs, pairs, paddings, seeds)
def test_transposed_convolution_of_any_shape(shape, filters, kernel, strides, padding, seed):
    layer = Conv2DTranspose(filters, kernel, strides, padding, "tanh")
    check_habits(layer, shape)
    check_gradients(layer, shape, rows=2, seed=seed)


@settings(max_examples=30, deadline=None)
@given(shapes, pairs, pairs, paddings, st.sampled_from([MaxPooling2D, AveragePooling2D]), seeds)
def test_pooling_of_any_shape(shape, size, strides, padding, kind, seed):
    assume(fits(shape, size, padding))
    layer = kind(size, strides, padding)
    check_habits(layer, shape)
    check_gradients(layer, shape, rows=2, seed=seed)


@settings(max_examples=15, deadline=None)
@given(shapes, pairs, seeds)
def test_means_of_images_and_larger_images(shape, size, seed):
    for layer in (GlobalAveragePooling2D(), UpSampling2D(size)):
        check_habits(layer, shape)
        check_gradients(layer, shape, rows=2, seed=seed)


@pytest.mark.parametrize("layer, shape", [
    (Conv2D(3, (2, 3), (2, 3), "same", activation="relu"), (7, 8, 2)), (Conv2D(2, 3, dilation_rate=(2, 1), use_bias=False), (7, 5, 3)), (Conv2DTranspose(3, (4, 3), (2, 3), "same"), (3, 2, 2)),
    (MaxPooling2D((3, 2), (1, 2), "same"), (5, 6, 2)), (AveragePooling2D((3, 2), (2, 1), "same"), (5, 6, 2)),
], ids=lambda value: type(value).__name__ if not isinstance(value, tuple) else str(value))
def test_keras_says_the_same(layer, shape):
    check_against_keras(layer, shape, rows=4)


@pytest.mark.parametrize("dtype, tol", [("float32", 1e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_conv2d_is_scipys_correlation(dtype, tol, strides):
    rng = np.random.default_rng(0)
    x, kernel, bias = rng.normal(size=(2, 9, 8, 3)), rng.normal(size=(3, 2, 3, 4)), rng.normal(size=4)
    layer = Conv2D(4, (3, 2), strides)
    layer.start(x.shape[1:], rng, dtype)
    set_weights(layer, [kernel, bias])
    got = layer.forward(x.astype(dtype))
    assert got.dtype == dtype
    for i in range(2):
        for f in range(4):
            whole = signal.correlate(x[i], kernel[..., f], "valid")[:, :, 0] + bias[f]
            np.testing.assert_allclose(got[i, :, :, f], whole[::strides[0], ::strides[1]], atol=tol * 10, rtol=tol)


planes = st.tuples(st.integers(1, 8), st.integers(1, 8))


@settings(max_examples=60, deadline=None)
@given(planes, pairs, pairs, pairs, st.sampled_from(["valid", "full"]), seeds)
def test_one_picture_is_scipys(shape, size, strides, dilation, padding, seed):
    assume(padding == "full" or fits(shape, size, padding, dilation))
    rng = np.random.default_rng(seed)
    image, kernel = rng.normal(size=shape), rng.normal(size=size)
    wide = np.zeros([(k - 1) * r + 1 for k, r in zip(size, dilation)])
    wide[::dilation[0], ::dilation[1]] = kernel
    for ours, theirs in ((correlate2d, signal.correlate), (convolve2d, signal.convolve)):
        wanted = theirs(np.pad(image, [(n - 1, n - 1) for n in wide.shape]) if padding == "full" else image, wide, "valid", method="direct")
        np.testing.assert_allclose(ours(image, kernel, strides, padding, dilation), wanted[::strides[0], ::strides[1]], atol=1e-12)


def test_same_keeps_the_size_and_a_symmetric_kernel_is_its_own_turn():
    image = np.random.default_rng(0).normal(size=(6, 5))
    assert correlate2d(image, np.ones((3, 3)), padding="same").shape == (6, 5)
    assert correlate2d(image, np.ones((3, 3)), 2, "same").shape == (3, 3)
    np.testing.assert_allclose(correlate2d(image, np.ones((3, 3))), convolve2d(image, np.ones((3, 3))), atol=1e-12)
    assert correlate2d([[1, 2], [3, 4]], [[1, 0], [0, 1]]).tolist() == [[5.0]]    # whole numbers come as lists, too
    np.testing.assert_allclose(convolve2d(image, [[0, 0, 0], [0, 0, 1], [0, 0, 0]], padding="same")[:, 1:], image[:, :-1])    # a convolution moves the image where its 1 stands


@pytest.mark.parametrize("piece", [1, 700, 5000, 1 << 30])
def test_pieces_change_nothing(monkeypatch, piece):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(7, 6, 6, 2)), rng.normal(size=(7, 4, 4, 3))

    def all_of_it():
        layer = Conv2D(3, 3, activation="tanh")
        layer.start((6, 6, 2), np.random.default_rng(1), np.float64)
        return [layer.forward(x), layer.backward(dy), *layer.grads.values()]

    wanted = all_of_it()
    monkeypatch.setattr(convolution_layers, "PIECE", piece)
    for got, again, want in zip(all_of_it(), all_of_it(), wanted):
        np.testing.assert_allclose(got, want, atol=1e-12)
        np.testing.assert_array_equal(got, again)    # on however many threads


@settings(max_examples=40, deadline=None)
@given(shapes, pairs, pairs, pairs, paddings, seeds)
def test_back_is_the_transpose_of_windows(shape, kernel, strides, dilation, padding, seed):
    assume(fits(shape, kernel, padding, dilation))
    f, rng = frame(shape[:2], kernel, strides, padding, dilation), np.random.default_rng(seed)
    x = rng.normal(size=(2, *shape))
    table = im2col(pad(x, f), f)
    assert table.shape == (2 * f.places[0] * f.places[1], kernel[0] * kernel[1] * shape[2])
    t = rng.normal(size=table.shape)
    np.testing.assert_allclose((table * t).sum(), (x * col2im(t, x.shape, f)).sum(), atol=1e-9)


def test_windows_are_a_view_that_cannot_be_written():
    x = np.zeros((1, 5, 5, 2))
    view = windows(x, frame((5, 5), (3, 3)))
    assert np.shares_memory(view, x) and view.shape == (1, 3, 3, 3, 3, 2)
    with pytest.raises(ValueError, match="read-only"):
        view[...] = 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(0, 2), st.integers(1, 2), seeds)
def test_the_output_moves_with_the_image(down, right, stride, seed):
    rng = np.random.default_rng(seed)
    net = Network([Conv2D(3, 3, strides=stride, activation="relu"), Conv2D(2, 2, activation="tanh")], random_state=seed, dtype="float64").build((16, 16, 1))
    x, moved = np.zeros((2, 1, 16, 16, 1))
    x[:, 5:9, 5:9], moved[:, 5 + down * stride:9 + down * stride, 5 + right * stride:9 + right * stride] = (rng.normal(size=(1, 4, 4, 1)),) * 2
    here, there = net.forward(x), net.forward(moved)
    np.testing.assert_allclose(there[:, down:, right:], here[:, :here.shape[1] - down, :here.shape[2] - right], atol=1e-12)


def small_net(dtype="float64"):
    return Network([Conv2D(4, 3, activation="tanh"), MaxPooling2D(), Conv2D(3, 2, padding="same", activation="gelu"), Flatten(), Dense(3, "softmax")], random_state=0, dtype=dtype).build((7, 8, 2))


def test_saliency_is_the_slope_of_the_sums():
    net, x = small_net(), np.random.default_rng(0).normal(size=(2, 7, 8, 2))

    def sums(x):
        net.forward(x)
        return net.layers[-1]._z[0, 2] + net.layers[-1]._z[1, 0]

    found = saliency(net, x, [2, 0])
    check_gradient(sums, found, x)
    np.testing.assert_array_equal(found[1], saliency(net, x[1:], 0)[0])


def test_feature_maps_are_the_layers_outputs():
    net, x = small_net("float32"), np.random.default_rng(0).normal(size=(3, 7, 8, 2))
    maps = feature_maps(net, x)
    assert {name: value.shape for name, value in maps.items()} == {"conv2d": (3, 5, 6, 4), "max_pooling2d": (3, 2, 3, 4), "conv2d_2": (3, 2, 3, 3)}
    np.testing.assert_allclose(Network(net.layers[3:]).forward(maps["conv2d_2"]), net.predict(x), atol=1e-6)


def test_pictures_lie_side_by_side():
    from matplotlib.figure import Figure
    images = np.arange(12.0).reshape(2, 2, 3)
    drawn = plot_channels(images, Figure().add_subplot(), columns=2).images[0]
    grid = np.ma.filled(drawn.get_array(), np.nan)
    assert grid.shape == (5, 5) and drawn.get_clim() == (-11, 11)
    np.testing.assert_array_equal(grid[3:, :2], images[:, :, 2])
    assert np.isnan(grid[2]).all() and np.isnan(grid[3:, 3:]).all()


def test_there_and_back_through_keras_and_a_file(tmp_path):
    net, x = small_net("float32"), np.random.default_rng(0).normal(size=(4, 7, 8, 2)).astype(np.float32)
    again = from_keras(to_keras(net))
    np.testing.assert_array_equal(again.predict(x), net.predict(x))
    net.compile("adam", "sparse_categorical_crossentropy").save(tmp_path / "net.npz")
    np.testing.assert_array_equal(Network.load(tmp_path / "net.npz").predict(x), net.predict(x))


@pytest.mark.parametrize("make, says", [
    (lambda: Conv2D(0, 3), "filters must be an integer, 1 or more; got 0"),
    (lambda: Conv2D(True, 3), "filters must be an integer"),
    (lambda: Conv2D(2, 0), "kernel_size must be an integer, 1 or more"),
    (lambda: Conv2D(2, (3, 3, 3)), "kernel_size must be an integer, 1 or more, or two of them"),
    (lambda: Conv2D(2, 3, 1.5), "strides must be an integer"),
    (lambda: Conv2D(2, 3, 2, dilation_rate=2), "cannot both be over 1"),
    (lambda: Conv2D(2, 3, padding="full"), "padding must be one of 'valid', 'same'; got 'full'"),
    (lambda: MaxPooling2D(2, padding="causal"), "padding must be one of 'valid', 'same'; got 'causal'"),
    (lambda: UpSampling2D(0), "size must be an integer, 1 or more"),
    (lambda: correlate2d(np.zeros((4, 4)), np.zeros(3)), "kernel must have two axes"),
    (lambda: convolve2d(np.zeros((4, 4)), np.zeros((0, 3))), "kernel must have two axes, rows and columns, and a number at least"),
    (lambda: correlate2d(np.zeros((4, 4)), np.zeros((2, 2)), dilation_rate=4), r"reaches over \(5, 5\) pixels does not fit into \(4, 4\)"),
    (lambda: correlate2d(np.zeros((4, 4)), np.zeros((2, 2)), padding=1), "padding must be 'valid', 'same' or 'full'; got 1"),
    (lambda: saliency(small_net(), np.zeros((1, 7, 8, 2)), 3), "output must be an integer from 0 to 2"),
    (lambda: saliency(small_net(), np.zeros((1, 7, 8, 2)), -1), "output must be an integer from 0 to 2"),
    (lambda: saliency(Network([Conv2D(2, 3)]).build((4, 4, 1)), np.zeros((1, 4, 4, 1)), 0), "one row of outputs a row"),
    (lambda: plot_channels(np.zeros((0, 3, 2))), "images must have the shape"),
])
def test_faults_say_what_is_wrong(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("shape, says", [
    ((784,), r"x.reshape\(-1, 28, 28, 1\)"), ((10,), r"x.reshape\(-1, height, width, channels\)"), ((28, 28), r"x\[..., None\]"), ((2, 2, 1), r"reaches over \(3, 3\) pixels does not fit into \(2, 2\)"),
])
def test_shapes_that_do_not_fit(shape, says):
    for layer in (Conv2D(2, 3, name="first"), MaxPooling2D(3, name="first")):
        with pytest.raises(ShapeError, match="first .*" + says):
            Network([layer]).build(shape)


def test_other_channels_than_those_learnt():
    layer = Conv2D(2, 3)
    layer(np.zeros((1, 5, 5, 3)))
    with pytest.raises(ShapeError, match=r"its kernels are for images \(height, width, 3\)"):
        layer(np.zeros((1, 5, 5, 1)))
