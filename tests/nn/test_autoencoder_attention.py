"""Autoencoders and attention: files, seeds, errors; the linear one is PCA; KL and its gradient; what permutations and masks must not change."""
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from conftest import ROOT

from dlagg.nn import (
    LSTM, Adam, Autoencoder, Dense, GaussianNoise, Masking, Network, QueryPooling, RepeatVector, Sampling, SelfAttention, ShapeError, VariationalAutoencoder, check_network, decoded_grid, latent_map, lbfgs, plot_attention,
    principal_angles, to_keras,
)
from dlagg.nn.attention_layers import attend, attend_back
from dlagg.nn.backprop_contract import check_gradients, check_habits

seeds = st.integers(0, 10**6)


def table(n=60, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + rng.normal(0, 0.1, (n, d))


def plain(seed=0):
    return Autoencoder([GaussianNoise(0.1), Dense(6, "tanh"), Dense(2)], [Dense(6, "tanh"), Dense(5)], random_state=seed).compile(Adam(0.01))


def variational(seed=0):
    return VariationalAutoencoder([Dense(6, "tanh"), Dense(4)], [Dense(6, "tanh"), Dense(5)], beta=0.1, random_state=seed).compile(Adam(0.01))


@pytest.mark.parametrize("make", [plain, variational])
def test_a_file_gives_the_same_model_and_training_goes_on(make, tmp_path):
    model, x = make(), table()
    model.fit(x, epochs=2, verbose=0)
    model.save(tmp_path / "model.npz")
    again = type(model).load(tmp_path / "model.npz")
    assert np.array_equal(again.predict(x), model.predict(x)) and np.array_equal(again.encode(x), model.encode(x)) and np.array_equal(again.anomaly_score(x), model.anomaly_score(x))
    assert np.isfinite(again.fit(x, epochs=1, verbose=0).history["loss"]).all()
    assert getattr(again, "beta", None) == getattr(model, "beta", None)
    assert make is plain or again._sampling.weight == model._sampling.weight == 0.1 / 5
    other = Autoencoder if make is variational else VariationalAutoencoder
    with pytest.raises(ValueError, match="not a saved network"):
        other.load(tmp_path / "model.npz")


@pytest.mark.parametrize("make", [plain, variational])
def test_a_seed_repeats_noise_draws_and_training(make):
    x = table()
    runs = [make(seed) for seed in (3, 3, 4)]
    losses = [model.fit(x, epochs=3, verbose=0).history["loss"] for model in runs]
    assert losses[0] == losses[1] != losses[2]
    if make is variational:
        drawn = [model.draw(4) for model in runs]
        assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2]) and drawn[0].shape == (4, 5)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 2), st.integers(4, 6), st.integers(0, 100))
def test_linear_is_pca(k, d, seed):
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(d, d)))[0]
    x = rng.normal(size=(80, d)) * 3.0 ** -np.arange(d) @ rotation + rng.normal(size=d)
    model = Autoencoder([Dense(k)], [Dense(d)], random_state=seed, dtype="float64").compile()
    lbfgs(model, x, x, max_iter=6000, tol=1e-9)
    pca = PCA(k).fit(x)
    assert np.isclose(np.mean(model.anomaly_score(x)), np.mean(np.square(pca.inverse_transform(pca.transform(x)) - x)), rtol=1e-3, atol=1e-9)
    assert principal_angles(model.layers[1].params["kernel"], x).max() < 1
    assert np.allclose(principal_angles(pca.components_, x), 0, atol=1e-5)


def test_principal_angles_see_a_right_angle():
    x = np.diag([5.0, 3, 1, 0.5])
    x = np.concatenate([x, -x])
    assert np.allclose(principal_angles(np.eye(4)[[0, 2]], x), [90, 0], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), seeds, st.floats(0, 3))
def test_kl_is_never_negative_and_its_gradient_is_right(k, n, seed, weight):
    rng = np.random.default_rng(seed)
    layer, x, c = Sampling(), rng.normal(size=(n, 2 * k)), rng.normal(size=(n, k))
    layer.start((2 * k,), rng, np.float64)
    layer.weight = weight

    def loss(x):
        layer._rng = np.random.default_rng(1)
        return (layer.forward(x, training=True) * c).sum() + weight * layer.divergence().mean()

    loss(x)
    assert (layer.divergence() >= 0).all()
    grad, place = layer.backward(c), tuple(rng.integers(x.shape))
    up, down = x.copy(), x.copy()
    up[place] += 1e-6
    down[place] -= 1e-6
    assert np.isclose((loss(up) - loss(down)) / 2e-6, grad[place], rtol=1e-6, atol=1e-6)


def test_the_gradient_of_the_whole_variational_loss():
    model = VariationalAutoencoder([Dense(4, "tanh"), Dense(4)], [Dense(3, "tanh"), Dense(5)], beta=0.8, random_state=0, dtype="float64").compile()
    check_network(model, table(6), table(6))


def test_the_divergence_of_known_clouds():
    layer = Sampling()
    layer.forward(np.array([[0.0, 0.0], [2.0, 0.0], [0.0, np.log(4.0)]]))
    assert np.allclose(layer.divergence(), [0, 2, (3 - np.log(4)) / 2])


@pytest.mark.parametrize("call, says", [
    (lambda: Autoencoder([Dense(2)], [Dense(4)]).fit(table()), "give"),
    (lambda: VariationalAutoencoder([Dense(4)], [Dense(5)], beta=np.inf), "beta must be a finite number"),
    (lambda: VariationalAutoencoder([Dense(3)], [Dense(5)]).fit(table()), "Dense\\(2 \\* k\\) before it"),
    (lambda: GaussianNoise(-1), "stddev must be a finite number"),
    (lambda: plain().fit(np.where(table() > 0, table(), np.nan)), "NaN or infinity"),
    (lambda: plain().build((5,)).encode(np.ones((3, 4))), "rows of shape"),
    (lambda: principal_angles(np.ones((6, 5)), table(d=4)), "directions must have the shape"),
    (lambda: latent_map(plain().build((5,)), table(), np.zeros(7)), "labels has 7"),
    (lambda: plot_attention(np.ones(3)), "weights must have the shape"),
    (lambda: QueryPooling(True), "key_dim must be an integer"),
    (lambda: SelfAttention(1, 0), "key_dim must be an integer"),
    (lambda: to_keras(Network([QueryPooling(2)]).build((3, 2))), "Keras has no layer 'QueryPooling'"),
])
def test_errors_teach(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_shapes_that_are_no_sequence():
    for layer in (SelfAttention(1, 2), QueryPooling(2)):
        with pytest.raises(ShapeError, match="it needs sequences"):
            Network([layer]).build((4,))


def test_the_pictures():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    model, x = plain().build((5,)), table()
    ax = latent_map(model, x, np.repeat([0, 1, 2], 20))
    assert len(ax.collections) == 3 and sum(len(c.get_offsets()) for c in ax.collections) == 60
    grid = decoded_grid(model, (-1, 1), (-2, 2), many=2, shape=(1, 5))
    assert grid.shape == (4, 12) and np.allclose(grid[0, :5], model.decode(np.array([[-0.5, 1.0]]))[0], atol=1e-6)    # the top row has the largest second number
    ax = plot_attention(np.eye(3), queries=["a", "b", "c"])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b", "c"]
    plt.close("all")


def test_no_heavy_import():
    code = "import sys, dlagg.nn; print([m for m in ('keras', 'matplotlib.pyplot', 'pandas') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip() == "[]"


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), seeds)
def test_self_attention_is_permutation_equivariant_and_a_query_invariant(steps, d, heads, k, seed):
    rng = np.random.default_rng(seed)
    x, order = rng.normal(size=(2, steps, d)), rng.permutation(steps)
    layer, pooling = SelfAttention(heads, k), QueryPooling(k)
    assert np.allclose(layer(x)[:, order], layer(x[:, order]))
    assert np.allclose(pooling(x), x.mean(axis=1))    # it begins as the mean
    pooling.params["query"][:] = rng.normal(size=(1, k))
    assert np.allclose(pooling(x), pooling(x[:, order]))
    assert np.allclose(layer.weights.sum(axis=-1), 1) and np.allclose(pooling.weights.sum(axis=-1), 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.booleans(), seeds, st.data())
def test_what_is_masked_is_not_there(steps, d, causal, seed, data):
    rng, there = np.random.default_rng(seed), data.draw(st.integers(1, steps - 1))
    x, mask = rng.normal(size=(2, steps, d)), np.arange(steps)[None] < np.array([[there], [there]])
    noisy = np.where(mask[..., None], x, 1e3)
    layer, pooling = SelfAttention(2, 3, causal), QueryPooling(3)
    layer(x), pooling(x)
    pooling.params["query"][:] = rng.normal(size=(1, 3))
    assert np.allclose(layer.forward(noisy, mask=mask)[:, :there], layer(x[:, :there]))
    assert np.allclose(pooling.forward(noisy, mask=mask), pooling(x[:, :there]))
    pooling.forward(noisy, mask=mask)
    dx = pooling.backward(np.ones((2, d)))
    assert np.abs(dx[:, there:]).max() == 0    # nor does it get a gradient
    pooling.forward(x, mask=np.zeros_like(mask))
    assert np.isfinite(pooling.forward(x, mask=np.zeros_like(mask))).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), seeds)
def test_causal_attention_does_not_hear_the_future(steps, d, seed):
    rng = np.random.default_rng(seed)
    x, layer, at = rng.normal(size=(2, steps, d)), SelfAttention(2, 3, causal=True), int(rng.integers(steps))
    changed = x.copy()
    changed[:, at:] += 5
    assert np.allclose(layer(x)[:, :at], layer(changed)[:, :at])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), seeds)
def test_a_query_has_the_gradient_of_differences(steps, d, k, seed):
    check_habits(QueryPooling(k), (steps, d))
    check_gradients(QueryPooling(k), (steps, d), rows=2, seed=seed)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e4, 1e4), seeds)
def test_scores_however_large_stay_finite(scale, seed):
    rng = np.random.default_rng(seed)
    q, k, v, do = rng.normal(size=(2, 3)) * scale, rng.normal(size=(4, 3)), rng.normal(size=(4, 2)), rng.normal(size=(2, 2))
    out, weights = attend(q, k, v)
    assert np.isfinite(out).all() and np.allclose(weights.sum(axis=1), 1)
    assert all(np.isfinite(g).all() for g in attend_back(do, q, k, v, weights))


def test_a_network_with_a_query_learns_what_a_mean_cannot_see(tmp_path):
    rng = np.random.default_rng(0)
    x, marked = rng.normal(size=(800, 6, 2)), rng.integers(6, size=800)
    x = np.concatenate([x, (np.arange(6) == marked[:, None])[..., None]], axis=-1)
    x[:400, 5] = np.where(marked[:400, None] == 5, x[:400, 5], 0)    # smaller bags
    y = (x[np.arange(800), marked, 0] > 0).astype(int)[:, None]
    net = Network([Masking(), QueryPooling(4), Dense(1, "sigmoid")], random_state=0).compile(Adam(0.05), "binary_crossentropy", ["accuracy"])
    net.fit(x[::2], y[::2], epochs=15, verbose=0)
    assert net.evaluate(x[1::2], y[1::2])[1] > 0.95
    net.forward(x.astype(np.float32))
    assert net.layers[1].weights[np.arange(800), marked].mean() > 0.8    # it looks at the mark
    net.save(tmp_path / "net.npz")
    assert np.array_equal(Network.load(tmp_path / "net.npz").predict(x), net.predict(x))


def test_codes_of_sequences_are_those_that_training_saw():
    x = np.random.default_rng(0).normal(size=(6, 5, 2))
    x[:, 3:] = 0
    model = Autoencoder([Masking(), LSTM(3)], [RepeatVector(5), LSTM(2, return_sequences=True)], random_state=0).compile("adam")
    model.fit(x, epochs=1, verbose=0)
    assert np.allclose(model.decode(model.encode(x)), model.predict(x), atol=1e-6)
    assert np.allclose(model.encode(x), model.layers[1].forward(x[:, :3].astype(np.float32)), atol=1e-6)    # steps that do not count are passed over
