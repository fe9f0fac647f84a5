"""KMeans as a tool: scikit-learn's conventions, its numbers, odd input, and files."""
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from threadpoolctl import threadpool_limits

from dlagg.mining import KMeans, silhouette_samples
from dlagg.mining.kmeans import assign, lloyd_steps, plusplus, squared_distances
from dlagg.mining.kmeans_bounds import chosen, hamerly
from dlagg.mining.kmeans_fast import _assign_block, _assign_product, _pad, lloyd, nearest


def blobs(n=600, d=4, k=5, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) + 4 * rng.normal(size=(k, d))[rng.integers(k, size=n)]).astype(dtype)


def same(ours, theirs, tol=1e-9):
    assert (ours.labels_ == theirs.labels_).all()
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=0, atol=tol * (1 + abs(theirs.cluster_centers_).max()))
    np.testing.assert_allclose(ours.inertia_, theirs.inertia_, rtol=tol, atol=1e-20)


def test_scikit_learns_own_checks():
    # The random draws differ when rows are repeated instead of weighted; scikit-learn's own KMeans fails this check for the same reason.
    # `test_a_weight_counts_rows` proves the equality from the same start.
    why = {f"check_sample_weight_equivalence_on_{kind}_data": "other random draws" for kind in ("dense", "sparse")}
    check_estimator(KMeans(n_clusters=3), expected_failed_checks=why, on_skip=None)


@pytest.mark.parametrize("shape", [(600, 4, 5), (50, 1, 3), (5000, 3, 8), (400, 40, 6), (3000, 33, 4), (20, 7, 20), (30, 2, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_scikit_learns_numbers_from_the_same_start(shape, weighted):
    n, d, k = shape
    X = blobs(n, d, 5)
    weight = np.random.default_rng(1).uniform(0, 3, n) if weighted else None
    for tol in (0, 1e-4):
        same(KMeans(k, init=X[:k], tol=tol).fit(X, sample_weight=weight),
             sklearn.cluster.KMeans(k, init=X[:k], n_init=1, tol=tol).fit(X, sample_weight=weight))


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_same_seed_gives_scikit_learns_fit(init, seed):
    X = blobs(800, 3, 9)
    weight = np.random.default_rng(2).integers(1, 4, len(X))
    same(KMeans(6, init=init, n_init=4, random_state=seed).fit(X, sample_weight=weight),
         sklearn.cluster.KMeans(6, init=init, n_init=4, random_state=seed).fit(X, sample_weight=weight))


def test_empty_clusters_are_relocated_as_in_scikit_learn():
    X = blobs(300, 2, 3)
    start = np.vstack([X[:3], [[1e3, 1e3], [-1e3, 1e3], [0, -1e3]]])
    for max_iter in (1, 2, 300):
        same(KMeans(6, init=start, max_iter=max_iter, tol=0).fit(X),
             sklearn.cluster.KMeans(6, init=start, n_init=1, max_iter=max_iter, tol=0).fit(X))
    assert len(np.unique(KMeans(6, init=start).fit(X).labels_)) == 6


def test_fewer_distinct_rows_than_clusters_warns():
    X = np.repeat([[0.0, 0], [1, 1]], 10, axis=0)
    with pytest.warns(ConvergenceWarning, match="only 2 distinct clusters found, n_clusters is 4"):
        model = KMeans(4, random_state=0).fit(X)
    assert model.inertia_ == 0 and np.isfinite(model.cluster_centers_).all()
    assert {tuple(c) for c in model.cluster_centers_} == {(0, 0), (1, 1)}


def test_a_weight_counts_rows():
    X = blobs(100, 3, 3)
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    heavy, repeated = KMeans(3, init=X[:3], tol=0).fit(X, sample_weight=weight), KMeans(3, init=X[:3], tol=0).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(heavy.cluster_centers_, repeated.cluster_centers_, rtol=1e-12)
    np.testing.assert_allclose(heavy.inertia_, repeated.inertia_, rtol=1e-12)


@pytest.mark.parametrize("d", [4, 40])
def test_float32_stays_float32(d):
    X = blobs(3000, d, 5, dtype=np.float32)
    model = KMeans(5, init=X[:5], tol=0).fit(X)
    assert model.cluster_centers_.dtype == np.float32 and model.transform(X).dtype == np.float32
    exact = KMeans(5, init=X[:5].astype(float), tol=0).fit(X.astype(float))
    np.testing.assert_allclose(model.inertia_, exact.inertia_, rtol=1e-5)
    assert (model.predict(X.astype(float)) == model.labels_).all()


@pytest.mark.parametrize("d", [3, 40])
@pytest.mark.parametrize("shift", [1e4, 1e7])
def test_far_from_the_origin_nothing_cancels(d, shift):
    X = np.round(blobs(2000, d, 4), 3)
    near, far = KMeans(4, init=X[:4], tol=0).fit(X), KMeans(4, init=X[:4] + shift, tol=0).fit(X + shift)
    assert (near.labels_ == far.labels_).all()
    np.testing.assert_allclose(far.inertia_, near.inertia_, rtol=1e-6)


def test_threads_do_not_change_a_bit():
    X = blobs(60_000, 8, 20)
    models = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            models.append(KMeans(20, max_iter=5, random_state=0).fit(X))
    assert (models[0].cluster_centers_ == models[1].cluster_centers_).all() and models[0].inertia_ == models[1].inertia_


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 45), st.integers(1, 9), st.integers(0, 10**6))
def test_both_kernels_find_the_nearest_centre(n, d, k, seed):
    rng = np.random.default_rng(seed)
    X, centers, weight = rng.normal(size=(n, d)), rng.normal(size=(k, d)), rng.uniform(size=n)
    expected = ((X[:, None] - centers) ** 2).sum(axis=2).argmin(axis=1)
    for kernel, given_centers in ((_assign_block, _pad(centers)), (_assign_product, centers)):
        labels, sums, mass = np.full(n, -1, np.int32), np.zeros((k, d)), np.zeros(k)
        assert kernel(X, weight, given_centers, labels, sums, mass, 0, n) == n
        assert (labels == expected).all()
        np.testing.assert_allclose(mass, np.bincount(expected, weight, k), atol=1e-9)
        np.testing.assert_allclose(sums, np.eye(k)[expected].T @ (weight[:, None] * X), atol=1e-9)
    assert (nearest(X, centers) == expected).all() and (assign(X, centers) == expected).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 200), st.integers(1, 6), st.integers(1, 5), st.integers(0, 10**6))
def test_the_objective_never_rises(n, d, k, seed):
    X = np.random.default_rng(seed).integers(-3, 4, size=(n, d)).astype(float)
    start = X[:min(k, n)]
    history = [J for labels, centers, J in lloyd_steps(X, start)]
    assert all(a >= b - 1e-9 for a, b in zip(history, history[1:]))
    assert lloyd(X, np.ones(n), start)[1] <= history[0] + 1e-9


def test_ties_go_to_the_lowest_number():
    assert nearest(np.zeros((300, 2)), np.array([[1.0, 0], [0, 1], [-1, 0]])).max() == 0


def test_plusplus_draws_by_squared_distance():
    X = np.array([[0.0], [1.0], [3.0]])
    drawn = [plusplus(X, 2, seed)[:, 0] for seed in range(3000)]
    after_zero = [b for a, b in drawn if a == 0]
    assert len(after_zero) > 800
    assert abs(np.mean(np.equal(after_zero, 3)) - 0.9) < 0.04 and 0 not in after_zero
    assert plusplus(np.zeros((4, 2)), 3, 0).shape == (3, 2)


def test_silhouette_against_scikit_learn():
    from sklearn.metrics import silhouette_samples as theirs
    X = blobs(200, 3, 4)
    labels = np.random.default_rng(0).integers(4, size=200)
    labels[0] = 9    # alone in its group
    np.testing.assert_allclose(silhouette_samples(X, labels), theirs(X, labels), atol=1e-10)
    assert (silhouette_samples([[0.0], [0.0], [0.0]], ["a", "a", "b"]) == 0).all()
    for bad in (np.zeros(200), np.arange(200)):
        with pytest.raises(ValueError, match="2 to n - 1"):
            silhouette_samples(X, bad)


def test_distances_are_never_negative():
    X = blobs(300, 3, 2) * 1e-8 + 5
    assert squared_distances(X, X).min() >= 0


def test_predict_transform_score():
    X = blobs(500, 3, 4)
    ours, theirs = KMeans(4, init=X[:4]).fit(X), sklearn.cluster.KMeans(4, init=X[:4], n_init=1).fit(X)
    new = blobs(100, 3, 4, seed=9)
    assert (ours.predict(new) == theirs.predict(new)).all()
    np.testing.assert_allclose(ours.transform(new), theirs.transform(new), atol=1e-9)
    np.testing.assert_allclose(ours.score(new), theirs.score(new), rtol=1e-9)
    assert list(ours.get_feature_names_out()) == ["kmeans0", "kmeans1", "kmeans2", "kmeans3"]


def test_frames_pipelines_and_searches():
    X = pd.DataFrame(blobs(300, 3, 3), columns=["a", "b", "c"])
    pipe = make_pipeline(StandardScaler(), KMeans(3, random_state=0)).fit(X)
    assert len(pipe.predict(X)) == 300
    frame = KMeans(3, random_state=0).set_output(transform="pandas").fit(X).transform(X)
    assert list(frame.columns) == ["kmeans0", "kmeans1", "kmeans2"] and frame.index.equals(X.index)
    search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 3]}, cv=3).fit(X)
    assert search.best_params_["n_clusters"] == 3
    with pytest.raises(ValueError, match="feature names"):
        KMeans(3).fit(X).predict(X.rename(columns={"a": "z"}))
    assert clone(KMeans(3, tol=0.5)).tol == 0.5


@pytest.mark.parametrize("params, message", [
    ({"n_clusters": 0}, "n_clusters must be an integer, 1 or more; got 0"),
    ({"n_clusters": 2.5}, "n_clusters must be an integer"), ({"n_clusters": True}, "n_clusters must be"),
    ({"n_clusters": 99}, "n_clusters=99 needs as many rows"), ({"max_iter": 0}, "max_iter must be"), ({"tol": -1}, "tol must be"),
    ({"tol": float("nan")}, "tol must be"), ({"n_init": 0}, "n_init .* must be"), ({"n_init": "many"}, "n_init .* must be"),
    ({"init": "best"}, "init must be 'k-means\\+\\+', 'random' or an array"), ({"init": [[1.0, 2.0]]}, r"shape \(n_clusters, columns\) = \(8, 4\); got \(1, 2\)"),
    ({"init": np.full((8, 4), np.nan)}, "init contains NaN"),
])
def test_parameters_are_checked(params, message):
    with pytest.raises(ValueError, match=message):
        KMeans(**params).fit(blobs(50))


@pytest.mark.parametrize("X, message", [
    ([1.0, 2.0], "Expected 2D array, got 1D array"), ([[1.0, np.nan]] * 9, "contains NaN"), ([[np.inf]] * 9, "contains infinity"),
    (np.empty((0, 2)), "0 sample"), ([["a"]] * 9, "could not convert"), ([[1e200], [0.0]] * 9, "squares overflow float64"),
    (np.full((9, 1), 1e30, np.float32), "squares overflow float32"),
])
def test_data_are_checked(X, message):
    with pytest.raises(ValueError, match=message):
        KMeans(2).fit(X)


def test_other_mistakes():
    X = blobs(50)
    with pytest.raises(NotFittedError):
        KMeans().predict(X)
    with pytest.raises(ValueError, match="5 features, but KMeans is expecting 4"):
        KMeans(2).fit(X).predict(np.zeros((3, 5)))
    with pytest.raises(ValueError, match="non-zero|sample_weight is 0 for every row"):
        KMeans(2).fit(X, sample_weight=np.zeros(50))
    with pytest.raises(ValueError, match="[Nn]egative"):
        KMeans(2).fit(X, sample_weight=-np.ones(50))


def test_huge_values_at_prediction_stay_in_range():
    model = KMeans(3, random_state=0).fit(blobs(50))
    with np.errstate(over="ignore"):
        assert set(model.predict(np.full((200, 4), 1e300))) <= {0, 1, 2}


def test_inputs_are_left_alone():
    X, start = blobs(200), blobs(200)[:3].copy()
    X.flags.writeable = start.flags.writeable = False
    KMeans(3, init=start).fit(X)
    KMeans(3, random_state=0).fit(np.asfortranarray(X))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_save_and_load(tmp_path, dtype):
    X = pd.DataFrame(blobs(200, dtype=dtype), columns=list("abcd"))
    model = KMeans(np.int64(3), random_state=np.random.RandomState(0)).fit(X)
    model.save(tmp_path / "model.arrow")
    again = KMeans.load(tmp_path / "model.arrow")
    assert (again.cluster_centers_ == model.cluster_centers_).all() and again.cluster_centers_.dtype == dtype
    assert (again.predict(X) == model.labels_).all() and again.inertia_ == model.inertia_ and again.n_clusters == 3
    assert not hasattr(again, "labels_")
    with pytest.raises(ValueError, match="feature names"):
        again.predict(X.rename(columns={"a": "z"}))
    given = KMeans(2, init=np.asarray(X)[:2]).fit(X)
    given.save(tmp_path / "given.arrow")
    assert (KMeans.load(tmp_path / "given.arrow").fit(X).cluster_centers_ == given.cluster_centers_).all()


def test_files_that_are_no_models(tmp_path):
    path = tmp_path / "model.arrow"
    with pytest.raises(NotFittedError):
        KMeans().save(path)
    assert not path.exists()
    KMeans(2, random_state=0).fit(blobs(20)).save(path)
    good = path.read_bytes()
    for content in (b"", b"{}", good[:-20], good[:100], good.replace(b"dlagg.mining/1", b"dlagg.mining/9"), good.replace(b'"KMeans"', b'"KMoans"')):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a saved KMeans model, or it is damaged"):
            KMeans.load(path)


def sparse(n=400, d=30, seed=0, dtype=float, k=4):
    rng = np.random.default_rng(seed)
    X = rng.poisson(0.1 + 1.5 * (rng.random((k, d)) < 0.15)[rng.integers(k, size=n)]).astype(dtype)
    return scipy.sparse.csr_matrix(X)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 4, 9])
def test_sparse_rows_give_scikit_learns_numbers(k, weighted):
    X = sparse()
    weight = np.random.default_rng(1).integers(0, 4, X.shape[0]) if weighted else None
    start = X[:k].toarray()
    same(KMeans(k, init=start, tol=1e-4).fit(X, sample_weight=weight),
         sklearn.cluster.KMeans(k, init=start, n_init=1, tol=1e-4, algorithm="lloyd").fit(X, sample_weight=weight))


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
def test_every_sparse_format_is_the_dense_table(kind):
    X = sparse()
    ours, dense = KMeans(4, random_state=0).fit(kind(X)), KMeans(4, random_state=0).fit(X.toarray())
    same(ours, dense)
    assert (ours.predict(kind(X)) == dense.predict(X.toarray())).all()
    np.testing.assert_allclose(ours.transform(kind(X)), dense.transform(X.toarray()), atol=1e-7)
    np.testing.assert_allclose(ours.score(kind(X)), dense.score(X.toarray()), rtol=1e-10)


def test_sparse_empty_clusters_types_and_bad_values():
    X = sparse()
    start = np.vstack([X[:3].toarray(), np.full((3, 30), 50.0)])
    model = KMeans(6, init=start, tol=0).fit(X)
    assert len(np.unique(model.labels_)) == 6
    same(model, sklearn.cluster.KMeans(6, init=start, n_init=1, tol=0, algorithm="lloyd").fit(X))
    single = KMeans(4, random_state=0).fit(X.astype(np.float32))
    assert single.cluster_centers_.dtype == np.float32
    np.testing.assert_allclose(single.inertia_, -KMeans(4, init=single.cluster_centers_).fit(X).score(X), rtol=0.05)
    double = scipy.sparse.csr_matrix((np.ones(4), [1, 1, 0, 2], [0, 2, 4]), shape=(2, 3))    # column 1 twice in a row
    assert KMeans(2, random_state=0).fit(double).inertia_ == 0 and double.nnz == 4
    bad = X.copy()
    bad.data[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        KMeans(2).fit(bad)
    bad.data[3] = 1e200
    with pytest.raises(ValueError, match="squares overflow"):
        KMeans(2).fit(bad)
    wide = X.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    same(KMeans(4, random_state=0).fit(wide), KMeans(4, random_state=0).fit(X))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**6), st.sampled_from([1.0, 1e-20, 1e20]), st.sampled_from([0.0, 1e3]))
def test_bounds_give_lloyds_answer(n, d, k, seed, unit, shift):
    rng = np.random.default_rng(seed)
    X, k = (blobs(n, d, 6, seed) + shift) * unit, min(k, n)
    weight, start = rng.uniform(0.1, 2, n), X[rng.integers(n, size=k)] + rng.normal(size=(k, d)) * unit    # no exact ties
    for max_iter in (1, 3, 300):
        ours, plain = hamerly(X, weight, start, max_iter), lloyd(X, weight, start, max_iter)
        assert (ours[0] == plain[0]).all() and abs(ours[3] - plain[3]) <= 1    # a centre that moves by a rounding error, or not at all, may cost a round
        np.testing.assert_allclose(ours[2], plain[2], rtol=1e-9, atol=1e-9 * unit * (1 + shift))
        np.testing.assert_allclose(ours[1], plain[1], rtol=1e-9)


@pytest.mark.parametrize("d", [3, 40])
def test_bounds_with_ties_empty_clusters_outliers_and_zero_weights(d):
    grid = np.random.default_rng(0).integers(0, 3, size=(500, d)).astype(float)    # many rows are equally far from two centres
    weight = np.random.default_rng(1).integers(0, 3, size=500).astype(float)
    start = np.vstack([grid[:6], np.full((3, d), 50.0)])
    ours, plain = hamerly(grid, weight, start), lloyd(grid, weight, start)
    assert ours[1] <= plain[1] * 1.05 and len(np.unique(ours[0])) == 9 and ours[3] < 300
    same_start = np.repeat(grid[:1], 4, axis=0)
    assert np.isfinite(hamerly(grid, weight, same_start)[2]).all()
    far = blobs(500, d)
    far[7] = 1e5    # so far that float32 products cannot tell the others apart
    assert (hamerly(far, weight + 1, far[:9])[0] == lloyd(far, weight + 1, far[:9])[0]).all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_algorithm_gives_the_same_fit(weighted, dtype):
    X = blobs(6000, 12, 30, dtype=dtype)
    weight = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    fits = [KMeans(45, init=X[:45], algorithm=name, tol=0).fit(X, sample_weight=weight) for name in ("lloyd", "hamerly", "auto")]
    assert chosen("auto", np.zeros((20_000, 16)), 45) is hamerly and fits[2].cluster_centers_.dtype == dtype
    for model in fits[1:]:
        if dtype is np.float64:
            same(model, fits[0])
        else:
            np.testing.assert_allclose(model.inertia_, fits[0].inertia_, rtol=1e-4)
    if dtype is np.float64:
        same(fits[1], sklearn.cluster.KMeans(45, init=X[:45], n_init=1, tol=0, algorithm="elkan").fit(X, sample_weight=weight))
    with pytest.raises(ValueError, match="algorithm must be one of 'auto', 'lloyd', 'hamerly'; got 'elkan'"):
        KMeans(algorithm="elkan").fit(X)


def test_bounds_do_not_mind_threads():
    X = blobs(40_000, 16, 40)
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            answers.append(hamerly(X, np.ones(len(X)), X[:40], 8))
    assert (answers[0][2] == answers[1][2]).all() and answers[0][1] == answers[1][1]


def test_importing_the_part_is_light():
    code = "import sys, dlagg.mining; sys.exit(any(m in sys.modules for m in ('keras', 'matplotlib', 'numba', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys; from dlagg.mining import KMeans; sys.exit(any(m in sys.modules for m in ('keras', 'matplotlib')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
