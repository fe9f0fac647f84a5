"""MiniBatchKMeans as a tool: scikit-learn's conventions and numbers, batches of every kind, and its promises as properties."""
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from dlagg.mining import KMeans, MiniBatchKMeans
from dlagg.mining.kmeans_minibatch import batch_step


def blobs(n=600, d=4, k=5, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) + 4 * rng.normal(size=(k, d))[rng.integers(k, size=n)]).astype(dtype)


def test_scikit_learns_own_checks():
    why = {f"check_sample_weight_equivalence_on_{kind}_data": "other random draws" for kind in ("dense", "sparse")}    # scikit-learn's own fails them too
    check_estimator(MiniBatchKMeans(n_clusters=3, random_state=0), expected_failed_checks=why, on_skip=None)


@pytest.mark.parametrize("d", [3, 40])
@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_the_same_batches_give_scikit_learns_centres(d, kind):
    X, weight = blobs(1200, d), np.random.default_rng(1).uniform(0, 2, 1200)
    ours = MiniBatchKMeans(5, init=X[:5], reassignment_ratio=0)
    theirs = sklearn.cluster.MiniBatchKMeans(5, init=X[:5], n_init=1, reassignment_ratio=0)
    for lo in range(0, 1200, 100):
        for model in (ours, theirs):
            model.partial_fit(kind(X[lo:lo + 100]), sample_weight=weight[lo:lo + 100])
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-9, atol=1e-9)
    assert (ours.predict(kind(X)) == theirs.predict(X)).all() and ours.n_steps_ == 12


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 80), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10**6))
def test_a_centre_is_the_mean_of_all_rows_it_was_given(n, d, k, seed):
    rng = np.random.default_rng(seed)
    centers, counts = rng.normal(size=(k, d)), np.zeros(k)
    total, mass = np.zeros((k, d)), np.zeros(k)
    for _ in range(3):
        X, weight, before = rng.normal(size=(n, d)), rng.integers(0, 3, n).astype(float), centers
        centers, counts, labels = batch_step(X, weight, centers, counts)
        np.add.at(total, labels, weight[:, None] * X)
        np.add.at(mass, labels, weight)
        np.testing.assert_allclose(counts, mass)
        np.testing.assert_allclose(centers[mass > 0], (total / np.maximum(mass, 1)[:, None])[mass > 0], atol=1e-9)
        assert (centers[mass == 0] == before[mass == 0]).all()


def test_fit_comes_close_to_all_rows_at_once():
    X = blobs(20_000, 8, 10)
    whole, start = KMeans(10, n_init=3, random_state=0).fit(X), X[:10]
    for params, most in (({"random_state": 0}, 1.02), ({"random_state": 1, "n_init": 3}, 1.02), ({"init": whole.cluster_centers_, "random_state": 3}, 1.02), ({"init": "random", "random_state": 2}, 1.6)):
        model = MiniBatchKMeans(10, **params).fit(X)
        assert model.inertia_ < most * whole.inertia_ and model.labels_.shape == (20_000,)
        np.testing.assert_allclose(-model.score(X), model.inertia_, rtol=1e-9)
    assert MiniBatchKMeans(10, init=start, max_iter=1, max_no_improvement=None).fit(X).n_steps_ == 20
    a, b = (MiniBatchKMeans(10, random_state=5).fit(X) for _ in range(2))
    assert (a.cluster_centers_ == b.cluster_centers_).all()
    assert MiniBatchKMeans(10, random_state=0, tol=10.0).fit(X).n_steps_ < 20


def test_sparse_is_dense():
    X = scipy.sparse.random_array((500, 50), density=0.1, rng=np.random.default_rng(0), format="csr")
    sparse, dense = (MiniBatchKMeans(4, init=X[:4].toarray(), batch_size=100, random_state=0).fit(T) for T in (X, X.toarray()))
    np.testing.assert_allclose(sparse.cluster_centers_, dense.cluster_centers_, atol=1e-9)
    assert MiniBatchKMeans(4, random_state=0).fit(X.astype(np.float32)).cluster_centers_.dtype == np.float32


def test_idle_centres_are_woken_and_nothing_else_is():
    X = blobs(3000, 2, 3)
    start = np.vstack([X[:3], np.full((4, 2), 1e3)])
    model = MiniBatchKMeans(7, init=start, batch_size=200, random_state=0).fit(X)
    assert (model.counts_ > 0).all() and len(np.unique(model.labels_)) == 7
    assert not MiniBatchKMeans(7, init=start, batch_size=200, reassignment_ratio=0, random_state=0).fit(X).counts_[3:].any()
    same = np.repeat([[0.0, 0], [1, 1]], 40, axis=0)    # fewer distinct rows than centres: nothing to wake on, and no error
    assert MiniBatchKMeans(5, random_state=0).fit(same).inertia_ < 1e-12


def test_partial_fit_goes_on_after_fit_and_after_a_file(tmp_path):
    X = pd.DataFrame(blobs(900), columns=list("abcd"))
    model = MiniBatchKMeans(3, random_state=0).fit(X[:600])
    steps, counts = model.n_steps_, model.counts_.sum()
    model.save(tmp_path / "model.arrow")
    again = MiniBatchKMeans.load(tmp_path / "model.arrow")
    for m in (model, again):
        m.partial_fit(X[600:601]).partial_fit(X[601:])
        assert m.n_steps_ == steps + 2 and m.counts_.sum() == counts + 300
    np.testing.assert_allclose(again.cluster_centers_, model.cluster_centers_)
    with pytest.raises(ValueError, match="feature names"):
        again.partial_fit(X.rename(columns={"a": "z"}))
    single = MiniBatchKMeans(3, random_state=0).partial_fit(blobs(50, dtype=np.float32))
    assert single.partial_fit(blobs(50)).cluster_centers_.dtype == np.float32


def test_rows_without_weight_do_not_count():
    X = blobs(400)
    weight = np.r_[np.ones(200), np.zeros(200)]
    X[200:] = 1e4
    model = MiniBatchKMeans(3, batch_size=50, random_state=0).fit(X, sample_weight=weight)
    assert abs(model.cluster_centers_).max() < 100


@pytest.mark.parametrize("params, message", [
    ({"n_clusters": 0}, "n_clusters must be an integer, 1 or more; got 0"), ({"n_clusters": 99}, "n_clusters=99 needs as many rows"), ({"batch_size": 0}, "batch_size must be"),
    ({"max_no_improvement": 0}, "max_no_improvement must be"), ({"init_size": 0}, "init_size must be"), ({"reassignment_ratio": -1}, "reassignment_ratio must be"),
    ({"tol": np.nan}, "tol must be"), ({"max_iter": 0}, "max_iter must be"), ({"init": np.zeros((2, 2))}, "shape"), ({"n_init": 0}, "n_init"),
])
def test_parameters_are_checked(params, message):
    for fit in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(MiniBatchKMeans(**params), fit)(blobs(50))


@pytest.mark.parametrize("X, message", [([[1.0, np.nan]] * 9, "contains NaN"), ([[np.inf]] * 9, "contains infinity"), (np.empty((0, 2)), "0 sample"), ([[1e200], [0.0]] * 9, "squares overflow")])
def test_data_are_checked(X, message):
    for fit in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=message):
            getattr(MiniBatchKMeans(2), fit)(X)
    with pytest.raises(ValueError, match="squares overflow"):
        MiniBatchKMeans(2, random_state=0).partial_fit(blobs(20)).partial_fit(np.full((2, 4), 1e200))
    for weight, words in ((np.zeros(50), "non-zero|sample_weight is 0 for every row"), (-np.ones(50), "[Nn]egative")):
        with pytest.raises(ValueError, match=words):
            MiniBatchKMeans(2).fit(blobs(50), sample_weight=weight)
    with pytest.raises(NotFittedError):
        MiniBatchKMeans().predict(blobs(5))
