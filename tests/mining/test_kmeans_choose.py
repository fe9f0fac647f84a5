"""choose_k and the silhouette as tools: the paper's formulas, scikit-learn's numbers, and mistakes."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples as theirs

from dlagg.mining import KMeans, choose_k, silhouette_samples
from dlagg.mining.kmeans_choose import _boxes, elbow, one_standard_error


def crowds(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + np.array([[0, 0], [8, 0], [0, 8]])[rng.integers(3, size=n)]


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(1, 5), st.integers(2, 5), st.integers(0, 10**6))
def test_silhouettes_are_scikit_learns(n, d, k, seed):
    rng = np.random.default_rng(seed)
    X, labels = rng.normal(size=(n, d)), rng.integers(k, size=n)
    labels[:2] = 0, 1
    if len(np.unique(labels)) < n:
        np.testing.assert_allclose(silhouette_samples(X, labels), theirs(X, labels), atol=1e-7)    # scikit-learn's distances lose digits


def test_the_table_is_what_it_says():
    X = crowds()
    found = choose_k(pd.DataFrame(X), range(1, 6), n_init=3, references=8, random_state=0)
    assert found.best == {"elbow": 3, "silhouette": 3, "gap": 3} and list(found.table.index) == [1, 2, 3, 4, 5]
    assert found.table.J[1] == pytest.approx(((X - X.mean(axis=0)) ** 2).sum()) and np.isnan(found.table.silhouette[1])
    best = KMeans(3, n_init=5, random_state=0).fit(X)
    assert found.table.J[3] == pytest.approx(best.inertia_, rel=1e-6) and found.table.silhouette[3] == pytest.approx(theirs(X, best.labels_).mean())
    assert (found.table.gap_error > 0).all()
    again = choose_k(X, range(1, 6), n_init=3, references=8, random_state=0)
    pd.testing.assert_frame_equal(found.table, again.table)
    assert choose_k(X, [2, 3, 4], references=0, silhouette_rows=50, random_state=0).best == {"elbow": 3, "silhouette": 3, "gap": None}


def test_pictures_and_words():
    import matplotlib
    matplotlib.use("agg")
    found = choose_k(crowds(), range(1, 7), n_init=2, references=3, random_state=0)
    axes = found.plot()
    assert [ax.get_title() for ax in axes] == [f"The {name} says {K}" for name, K in found.best.items()]
    assert str(found) == "choices of K: elbow 3, silhouette 3, gap 3" and "<table" in found._repr_html_()
    assert choose_k(crowds(), [2], references=0).plot()[0].get_title() == "The elbow needs more"


def test_the_references_fill_the_box_along_the_axes():
    rng = np.random.default_rng(0)
    slanted = rng.normal(size=(500, 1)) * [[3.0, 3.0]] + 0.1 * rng.normal(size=(500, 2)) + 7
    for box in _boxes(slanted, 3, np.random.RandomState(0)):
        assert box.shape == slanted.shape and np.corrcoef(box.T)[0, 1] > 0.98    # as narrow and as slanted as the data
        np.testing.assert_allclose(box.mean(axis=0), (slanted.max(axis=0) + slanted.min(axis=0)) / 2, atol=1.5)


def test_rules():
    assert elbow([1, 2, 3], [10, 1, 0]) == 2 and elbow([2, 4, 6, 8], [5, 5, 5, 5]) == 2
    assert one_standard_error([1, 2, 3], [0.5, 0.52, 0.4], [0.1, 0.1, 0.1]) == 1
    with pytest.raises(ValueError, match="three numbers of groups or more; got 2"):
        elbow([1, 2], [3, 1])


@pytest.mark.parametrize("arguments, message", [
    ({"sizes": []}, "sizes must be one or more"), ({"sizes": [2, 2]}, "growing"), ({"sizes": [0]}, "each of sizes must be an integer"), ({"sizes": [999]}, "needs as many rows"),
    ({"n_init": 0}, "n_init must be"), ({"references": -1}, "references must be an integer, 0 or more"), ({"silhouette_rows": 1}, "silhouette_rows must be"),
])
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        choose_k(crowds(), **arguments)


def test_odd_tables():
    with pytest.raises(ValueError, match="NaN"):
        choose_k([[np.nan], [1.0]])
    same = choose_k(np.zeros((20, 2)), [1], references=2)
    assert same.table.J[1] == 0 and same.best["silhouette"] is None
    with pytest.raises(ValueError, match="one for each of the 3 rows"):
        silhouette_samples(np.zeros((3, 1)), [0, 1])
