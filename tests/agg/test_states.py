"""The monoid laws of every state, on data that hypothesis thinks up."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlagg.agg.explain import leave_one_out
from dlagg.agg.states import STATES, Softmax, Std, Sum, Var, state_of

NAMES = sorted(STATES)
values = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(np.nan))


@st.composite
def grouped(draw):
    "Keys, a column of values with NaN, and a random tree of pieces: for each row the piece that it falls into."
    n = draw(st.integers(1, 40))
    keys = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 5)))
    Z = draw(hnp.arrays(np.float64, (n, 2), elements=values))
    piece = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))
    return keys, Z, piece, draw(st.randoms(use_true_random=False))


def merged_in_a_tree(state, tables, rnd):
    "Merge random pairs until one table is left."
    tables = list(tables)
    while len(tables) > 1:
        a = tables.pop(rnd.randrange(len(tables)))
        b = tables.pop(rnd.randrange(len(tables)))
        tables.append(state.merge([a, b]))
    return tables[0]


@pytest.mark.parametrize("skipna", [True, False])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(data=grouped())
def test_split_and_merged_in_any_tree(name, skipna, data):
    keys, Z, piece, rnd = data
    state = state_of(name, skipna)
    whole = state.finish(state.init(keys, Z))
    parts = [state.init(keys[piece == p], Z[piece == p]) for p in np.unique(piece)]
    # Sums may cancel, so the tolerance is relative to the largest number that took part.
    scale = max(1.0, np.nanmax(np.abs(Z), initial=0)) ** (2 if name in ("var",) else 1)
    np.testing.assert_allclose(state.finish(merged_in_a_tree(state, parts, rnd)), whole, rtol=1e-9, atol=1e-7 * scale if name == "std" else 1e-11 * scale)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None)
@given(data=grouped())
def test_order_of_rows_does_not_matter(name, data):
    keys, Z, _, rnd = data
    order = np.array(rnd.sample(range(len(keys)), len(keys)))
    state = state_of(name)
    scale = max(1.0, np.nanmax(np.abs(Z), initial=0)) ** (2 if name == "var" else 1)
    np.testing.assert_allclose(state.finish(state.init(keys[order], Z[order])), state.finish(state.init(keys, Z)), rtol=1e-9,
                               atol=1e-7 * scale if name == "std" else 1e-11 * scale)


@settings(max_examples=40, deadline=None)
@given(data=grouped())
def test_softmax_in_any_tree_with_steep_scores(data):
    keys, Z, piece, rnd = data
    Z = np.nan_to_num(Z)
    scores, values_ = Z[:, :1] / 1e3, np.sin(Z)    # scores up to 1000: the naive exponential overflows
    state = Softmax()
    whole = state.finish(state.init(keys, scores, values_))
    parts = [state.init(keys[piece == p], scores[piece == p], values_[piece == p]) for p in np.unique(piece)]
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(state.finish(merged_in_a_tree(state, parts, rnd)), whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["count", "sum", "min", "max", "mean", "var", "std"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "int64", "uint8", "bool"])
def test_equal_to_pandas(name, dtype):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"k": rng.integers(0, 97, 5000), "x": (rng.normal(3, 40, 5000)).astype("int64" if dtype != "bool" else bool).astype(dtype)})
    if dtype == "float64":
        frame["x"] = rng.normal(1e3, 1, 5000)
        frame.loc[::9, "x"] = np.nan
    state = state_of(name)
    ours = state.finish(state.init(frame["k"], frame["x"]))[:, 0]
    wide = frame.astype({"x": "float64" if dtype.startswith("f") else "int64"}) if dtype not in ("uint8",) else frame.astype({"x": "int64"})
    np.testing.assert_allclose(ours.astype(float), wide.groupby("k").x.agg(name).to_numpy(float), rtol=1e-12)


def test_integers_are_exact():
    state = Sum()
    answer = state.finish(state.merge([state.init([0, 0], [2**53, 1]), state.init([0], [1])]))
    assert answer.dtype == np.int64 and answer[0, 0] == 2**53 + 2
    with pytest.raises(OverflowError, match="2\\*\\*63"):
        state.merge([state.init([0], [2**62]), state.init([0], [2**62])])


def test_far_from_zero():
    x = (1e4 + np.random.default_rng(0).normal(size=20_000)).astype(np.float32)
    keys = np.arange(20_000) % 3
    ours = Var(ddof=0).finish(Var().init(keys, x))[:, 0]
    np.testing.assert_allclose(ours, [x[keys == k].astype(float).var() for k in range(3)], rtol=1e-10)


@pytest.mark.parametrize("name, empty", [("count", 0), ("sum", 0), ("mean", np.nan), ("min", np.nan), ("max", np.nan), ("var", np.nan), ("logsumexp", -np.inf)])
@pytest.mark.parametrize("dtype", [float, int])
def test_empty_groups_stay(name, empty, dtype):
    state = state_of(name)
    np.testing.assert_array_equal(state.finish(state.init([5], np.array([1], dtype)), [4, 6])[:, 0], [empty, empty])
    np.testing.assert_array_equal(state.finish(state.init(np.zeros(0, int), np.zeros((0, 1), dtype)), [4])[:, 0], [empty])


def test_one_row():
    assert Std(ddof=0).finish(Std().init([1], [7.0]))[0, 0] == 0
    assert np.isnan(Std(ddof=1).finish(Std().init([1], [7.0]))[0, 0])


@pytest.mark.parametrize("n", [1, 2, 3, 8, 33])
def test_leave_one_out(n):
    Z = np.random.default_rng(n).normal(size=(n, 2))
    for name in NAMES:
        state = state_of(name)
        plainly = [state.finish(state.init(np.zeros(n - 1), np.delete(Z, i, axis=0)), [0])[0] for i in range(n)]
        np.testing.assert_allclose(leave_one_out(state, Z), plainly, rtol=1e-11, atol=1e-12)


def test_errors_say_what_came():
    with pytest.raises(TypeError, match="dtype"):
        Sum().init([1], np.array(["x"]))
    with pytest.raises(ValueError, match="2 rows and keys has 3"):
        Sum().init([1, 2, 3], [1.0, 2.0])
    with pytest.raises(ValueError, match="NaN"):
        Softmax().init([1], [[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match="empty"):
        Sum().merge([])
