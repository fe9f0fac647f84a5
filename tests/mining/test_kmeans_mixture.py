"""GaussianMixture as a tool: scikit-learn's conventions and numbers, EM's promises as properties, odd input, and files."""
import json

import numpy as np
import pandas as pd
import pytest
import sklearn.mixture
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from dlagg.mining import GaussianMixture
from dlagg.mining.kmeans_mixture import KINDS, e_step, m_step, precision_factors


def blobs(n=400, d=3, k=4, seed=0):
    rng = np.random.default_rng(seed)
    shape = rng.normal(size=(k, d, d))
    label = rng.integers(k, size=n)
    return np.einsum("ij,ijk->ik", rng.normal(size=(n, d)), shape[label]) + 4 * rng.normal(size=(k, d))[label]


def dense(covariances, kind, K, d):
    "Covariances of any kind as (K, d, d)."
    return {"full": lambda c: c, "tied": lambda c: np.stack([c] * K), "diag": lambda c: np.stack([np.diag(v) for v in c]), "spherical": lambda c: np.stack([v * np.eye(d) for v in c])}[kind](covariances)


def test_scikit_learns_own_checks():
    why = {"check_sample_weight_equivalence_on_dense_data": "the K-means start draws other rows when rows are repeated; test_a_weight_counts_rows proves it from one start"}
    check_estimator(GaussianMixture(2, random_state=0), expected_failed_checks=why, on_skip=None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d, k", [(1, 2), (3, 4), (6, 3)])
def test_scikit_learns_numbers_from_the_same_start(kind, d, k):
    X = blobs(500, d, k)
    start = sklearn.mixture.GaussianMixture(k, covariance_type=kind, max_iter=2, tol=10, random_state=3).fit(X)
    given = {"weights_init": start.weights_, "means_init": start.means_, "precisions_init": start.precisions_, "tol": 1e-8, "max_iter": 400}
    ours, theirs = (maker(k, covariance_type=kind, **given).fit(X) for maker in (GaussianMixture, sklearn.mixture.GaussianMixture))
    assert ours.n_iter_ == theirs.n_iter_ and ours.converged_ == theirs.converged_
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_", "lower_bound_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-6)
    new = blobs(50, d, k, seed=9)
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new), atol=1e-6)
    np.testing.assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-6)
    np.testing.assert_allclose([ours.bic(new), ours.aic(new), ours.score(new)], [theirs.bic(new), theirs.aic(new), theirs.score(new)], rtol=1e-6)
    assert (ours.predict(new) == theirs.predict(new)).all()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(KINDS), st.integers(10, 80), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_the_likelihood_never_falls_and_memberships_add_up(kind, n, d, k, seed):
    X, rng = blobs(n, d, 2, seed), np.random.default_rng(seed)
    weight = rng.uniform(0.2, 2, n)
    r = rng.dirichlet(np.ones(k), size=n)
    climb = []
    for _ in range(12):
        chances, means, covariances = m_step(X, r * weight[:, None], kind, 1e-3)
        r, density = e_step(X, chances, means, precision_factors(covariances, kind), kind)
        climb.append(weight @ density)
        np.testing.assert_allclose(r.sum(axis=1), 1)
        np.testing.assert_allclose(chances.sum(), 1)
    # the ridge is not part of the likelihood: it can cost a little where a bell is about as narrow as it
    assert all(a <= b + 1e-2 * n for a, b in zip(climb, climb[1:]))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_ridge_the_climb_is_exact(kind):
    X = blobs(300)
    bounds = GaussianMixture(3, covariance_type=kind, reg_covar=0, tol=0, max_iter=60, random_state=0)
    with pytest.warns(ConvergenceWarning, match="EM did not settle in max_iter=60"):
        bounds.fit(X)
    assert (np.diff(bounds.lower_bounds_) > -1e-12).all() and bounds.lower_bound_ == bounds.lower_bounds_[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_scipys(kind):
    from scipy.stats import multivariate_normal
    X = blobs(200)
    model = GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    parts = [w * multivariate_normal(m, c).pdf(X) for w, m, c in zip(model.weights_, model.means_, dense(model.covariances_, kind, 3, 3))]
    np.testing.assert_allclose(model.score_samples(X), np.log(np.sum(parts, axis=0)), rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_mixtures_moments(kind):
    model = GaussianMixture(3, covariance_type=kind, random_state=0).fit(blobs(600))
    X, label = model.sample(60_000)
    assert (np.diff(label) >= 0).all() and X.shape == (60_000, 3)
    np.testing.assert_allclose(np.bincount(label) / 60_000, model.weights_, atol=0.01)
    for k, covariance in enumerate(dense(model.covariances_, kind, 3, 3)):
        scale = np.sqrt(np.trace(covariance))
        np.testing.assert_allclose(X[label == k].mean(axis=0), model.means_[k], atol=0.05 * scale)
        np.testing.assert_allclose(np.cov(X[label == k].T), covariance, atol=0.06 * scale**2)


def test_a_weight_counts_rows():
    X = blobs(200)
    weight = np.random.default_rng(0).integers(0, 4, 200)
    start = {"means_init": X[:2], "weights_init": [0.5, 0.5], "precisions_init": [np.eye(3)] * 2}
    a, b = GaussianMixture(2, **start).fit(X, sample_weight=weight), GaussianMixture(2, **start).fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(a.covariances_, b.covariances_, atol=1e-9)
    assert a.n_iter_ == b.n_iter_ and a.lower_bound_ == pytest.approx(b.lower_bound_)


@pytest.mark.parametrize("init", ["kmeans", "k-means++", "random"])
def test_starts(init):
    X = blobs(300)
    a, b = (GaussianMixture(3, init_params=init, random_state=1).fit(X) for _ in range(2))
    assert (a.means_ == b.means_).all() and np.isfinite(a.lower_bound_)
    assert GaussianMixture(3, init_params=init, n_init=5, random_state=1).fit(X).lower_bound_ >= a.lower_bound_
    part = GaussianMixture(3, init_params=init, means_init=X[:3], random_state=1).fit(X)
    assert part.lower_bound_ > GaussianMixture(1).fit(X).lower_bound_


def test_warm_start_goes_on():
    X = blobs(300)
    model = GaussianMixture(4, max_iter=3, tol=0, warm_start=True, random_state=0)
    whole = GaussianMixture(4, max_iter=12, tol=0, random_state=0)
    with pytest.warns(ConvergenceWarning):
        whole.fit(X)
        for _ in range(4):
            model.fit(X)
    np.testing.assert_allclose(model.means_, whole.means_, atol=1e-9)


def test_far_from_the_origin_and_in_frames():
    X = blobs(300)
    near, far = GaussianMixture(3, random_state=0).fit(X), GaussianMixture(3, random_state=0).fit(X + 1e6)
    np.testing.assert_allclose(near.predict_proba(X), far.predict_proba(X + 1e6), atol=1e-5)
    frame = pd.DataFrame(X, columns=list("abc"))
    search = GridSearchCV(GaussianMixture(random_state=0), {"n_components": [1, 4], "covariance_type": ["diag", "full"]}, cv=3).fit(frame)
    assert search.best_params_ == {"n_components": 4, "covariance_type": "full"} and clone(search.best_estimator_).n_components == 4


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(tmp_path, kind):
    X = pd.DataFrame(blobs(), columns=list("abc"))
    model = GaussianMixture(3, covariance_type=kind, means_init=X[:3].to_numpy(), random_state=0).fit(X)
    model.save(tmp_path / "m.arrow")
    again = GaussianMixture.load(tmp_path / "m.arrow")
    assert (again.predict_proba(X) == model.predict_proba(X)).all() and again.converged_ is model.converged_ and again.lower_bounds_ == model.lower_bounds_
    with pytest.raises(ValueError, match="feature names"):
        again.predict(X.rename(columns={"a": "z"}))
    content = (tmp_path / "m.arrow").read_bytes()
    (tmp_path / "m.arrow").write_bytes(content[:-40])
    with pytest.raises(ValueError, match="is not a saved GaussianMixture model, or it is damaged"):
        GaussianMixture.load(tmp_path / "m.arrow")


@pytest.mark.parametrize("params, message", [
    ({"n_components": 0}, "n_components must be an integer, 1 or more; got 0"), ({"n_components": 99}, "n_components=99 needs as many rows"), ({"tol": -1}, "tol must be"),
    ({"reg_covar": np.inf}, "reg_covar must be"), ({"max_iter": 0}, "max_iter must be"), ({"n_init": 1.5}, "n_init must be"), ({"init_params": "best"}, "init_params must be one of"),
    ({"covariance_type": "round"}, "covariance_type must be one of"), ({"n_components": 2, "means_init": np.zeros((2, 2))}, r"means_init must have the shape \(2, 3\)"),
    ({"n_components": 2, "weights_init": [2, -1]}, "weights_init must be 0 or more"), ({"n_components": 2, "weights_init": [1, 1]}, "add up to 1"),
    ({"n_components": 2, "precisions_init": -np.stack([np.eye(3)] * 2)}, "precisions_init must be symmetric and positive definite"),
    ({"n_components": 2, "covariance_type": "diag", "precisions_init": np.zeros((2, 3))}, "precisions_init must be symmetric and positive"),
    ({"n_components": 2, "means_init": np.full((2, 3), np.nan)}, "means_init contains NaN"),
])
def test_parameters_are_checked(params, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**params).fit(blobs(50))


@pytest.mark.parametrize("X, message", [
    ([1.0, 2.0], "Expected 2D array"), ([[1.0, np.nan]] * 9, "contains NaN"), ([[np.inf]] * 9, "contains infinity"), (np.empty((0, 2)), "0 sample"), ([[1e200], [0.0]] * 9, "squares overflow"),
])
def test_data_are_checked(X, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture().fit(X)


def test_singular_covariances_come_with_advice():
    line = np.column_stack([np.arange(20.0)] * 2)
    for kind in ("full", "tied"):
        with pytest.raises(ValueError, match=r"covariance is singular.*larger reg_covar \(now 0\), fewer components, or a simpler covariance_type"):
            GaussianMixture(2, covariance_type=kind, reg_covar=0, random_state=0).fit(line)
    same = np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0)
    for kind in ("diag", "spherical"):
        with pytest.raises(ValueError, match="covariance is singular"):
            GaussianMixture(2, covariance_type=kind, reg_covar=0, random_state=0).fit(same)
    model = GaussianMixture(2, random_state=0).fit(same)    # the ridge holds
    np.testing.assert_allclose(np.sort(model.means_[:, 0]), [0, 1], atol=1e-6)


def test_other_mistakes():
    X = blobs(50)
    with pytest.raises(NotFittedError):
        GaussianMixture().predict(X)
    with pytest.raises(NotFittedError):
        GaussianMixture().sample()
    with pytest.raises(ValueError, match="n_samples must be an integer, 1 or more"):
        GaussianMixture().fit(X).sample(0)
    for weight, words in ((np.zeros(50), "non-zero|sample_weight is 0 for every row"), (-np.ones(50), "[Nn]egative")):
        with pytest.raises(ValueError, match=words):
            GaussianMixture(2).fit(X, sample_weight=weight)


def test_the_notebooks_geyser_is_the_public_one(mirror, root):
    public = pd.read_csv(mirror / "faithful.csv")
    source = root / "nbs" / "2_mining" / "04_kmeans_mixture.ipynb"
    cell = next("".join(c["source"]) for c in json.loads(source.read_text())["cells"] if "eruptions = " in "".join(c["source"]))
    numbers = np.array([pair.split() for pair in cell.split('"""')[1].strip().split(",")], float)
    assert (numbers == public[["eruptions", "waiting"]].to_numpy()).all()
