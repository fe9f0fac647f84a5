"""The monoid laws of every state, on data that hypothesis thinks up."""
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlagg.agg.explain import leave_one_out
from dlagg.agg.states import (
    STATES, ArgMax, Distinct, First, Kurt, Last, PowerMean, Product, Quantile, Several, Skew, Softmax, StateTable, Std, Sum, TopK, Var, state_of,
)

NAMES = sorted(STATES)
STEEP = {"skew", "kurt"}    # ill-conditioned where a group is almost constant: they get whole numbers
values = st.one_of(st.floats(-1e6, 1e6, width=32), st.just(np.nan))


@st.composite
def grouped(draw):
    "Keys, a column of values with NaN, and a random tree of pieces: for each row the piece that it falls into."
    n = draw(st.integers(1, 40))
    keys = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 5)))
    Z = draw(hnp.arrays(np.float64, (n, 2), elements=values))
    piece = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))
    return keys, Z, piece, draw(st.randoms(use_true_random=False))


def tamed(name, Z):
    "Numbers for which the answer is well conditioned: whole ones for skewness and kurtosis, small ones for a product."
    return np.round(np.remainder(Z, 7)) if name in STEEP else np.clip(Z, -9, 9) if name == "prod" else Z


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
    Z = tamed(name, Z)
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
    Z = tamed(name, Z)
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


@pytest.mark.parametrize("name", ["count", "sum", "min", "max", "mean", "var", "std", "skew", "kurt", "median", "nunique"])
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
    np.testing.assert_allclose(ours.astype(float), wide.groupby("k").x.agg(name).to_numpy(float), rtol=1e-12, atol=1e-7 if name in STEEP else 0)


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


@pytest.mark.parametrize("name, empty", [("count", 0), ("sum", 0), ("mean", np.nan), ("min", np.nan), ("max", np.nan), ("var", np.nan), ("logsumexp", -np.inf),
                                         ("prod", 1), ("vpa", np.nan), ("skew", np.nan), ("kurt", np.nan), ("median", np.nan), ("nunique", 0),
                                         ("quantile:0.1", np.nan), ("power:2", np.nan)])
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
        Z = np.round(Z * 3) if name in STEEP else Z
        plainly = [state.finish(state.init(np.zeros(n - 1), np.delete(Z, i, axis=0)), [0])[0] for i in range(n)]
        np.testing.assert_allclose(leave_one_out(state, Z), plainly, rtol=1e-11, atol=1e-10 if name in STEEP else 1e-12)


def test_errors_say_what_came():
    with pytest.raises(TypeError, match="dtype"):
        Sum().init([1], np.array(["x"]))
    with pytest.raises(ValueError, match="2 rows and keys has 3"):
        Sum().init([1, 2, 3], [1.0, 2.0])
    with pytest.raises(ValueError, match="NaN"):
        Softmax().init([1], [[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match="empty"):
        Sum().merge([])


def same(a, b):
    "Two state tables, part by part, bit for bit."
    np.testing.assert_array_equal(a.keys, b.keys)
    assert a.parts.keys() == b.parts.keys() and a.keys.dtype == b.keys.dtype
    for name, part in a.parts.items():
        assert part.dtype == b.parts[name].dtype and part.shape == b.parts[name].shape, name
        np.testing.assert_array_equal(part, b.parts[name])


@pytest.mark.parametrize("name", [*NAMES, "quantile:0.9", "power:3"])
@settings(max_examples=8, deadline=None)
@given(data=grouped())
def test_saved_and_loaded(name, data):
    keys, Z, _, _ = data
    state = state_of(name)
    for k in (keys, keys.astype(str), keys.astype("datetime64[D]"), keys / 2):
        table = state.init(k, np.abs(Z))
        same(StateTable.from_arrow(table.to_arrow()), table)
    same(StateTable.from_arrow(state.init(keys[:0], Z[:0]).to_arrow()), state.init(keys[:0], Z[:0]))


@pytest.mark.parametrize("name", [*NAMES, "quantile:0.9", "power:3"])
@settings(max_examples=8, deadline=None)
@given(data=grouped())
def test_a_group_does_not_depend_on_the_others(name, data):
    keys, Z, _, _ = data
    state, Z = state_of(name), np.abs(tamed(name, Z))
    whole = state.finish(state.init(keys, Z))
    alone = [state.finish(state.init(keys[keys == k], Z[keys == k]))[0] for k in np.unique(keys)]
    np.testing.assert_array_equal(whole, alone)


def test_update_leaves_the_old_state_alone():
    state = state_of("var")
    old = state.update(None, [1, 2], [1.0, 2.0])
    before = {p: v.copy() for p, v in old.parts.items()}
    new = state.update(old, [1, 3], [5.0, 6.0])
    same(old, StateTable(np.array([1, 2]), before))
    np.testing.assert_array_equal(state.finish(new)[:, 0], [8, np.nan, np.nan])


@settings(max_examples=25, deadline=None)
@given(data=grouped(), k=st.integers(1, 4), largest=st.booleans())
def test_top_k_in_any_tree_and_order(data, k, largest):
    keys, Z, piece, rnd = data
    score, row = np.round(np.remainder(Z[:, 0], 3)), np.arange(len(keys))    # many ties, some NaN
    state = TopK(k, largest)
    tables = [state.init(keys[piece == p], score[piece == p], row[piece == p], row[piece == p]) for p in np.unique(piece)]
    got = state.finish(merged_in_a_tree(state, tables, rnd), np.arange(6))[:, :, 0]
    for key in range(6):
        mine = [r for r in row if keys[r] == key and not np.isnan(score[r])]
        best = sorted(mine, key=lambda r: (-score[r] if largest else score[r], r))[:k]
        np.testing.assert_array_equal(got[key], best + [np.nan] * (k - len(best)))


@settings(max_examples=20, deadline=None)
@given(data=grouped())
def test_first_last_argmax_like_pandas(data):
    keys, Z, piece, rnd = data
    x, row = Z[:, 0], np.arange(len(keys))
    frame = pd.DataFrame({"k": keys, "x": x})
    for state, theirs in [(First(), frame.groupby("k").x.first()), (Last(), frame.groupby("k").x.last())]:
        tables = [state.init(keys[piece == p], row[piece == p], row[piece == p], x[piece == p]) for p in np.unique(piece)]
        np.testing.assert_array_equal(state.finish(merged_in_a_tree(state, tables, rnd), theirs.index)[:, 0], theirs)
    tables = [ArgMax().init(keys[piece == p], x[piece == p], row[piece == p]) for p in np.unique(piece)]
    theirs = frame.dropna().groupby("k").x.idxmax()
    np.testing.assert_array_equal(ArgMax().finish(merged_in_a_tree(ArgMax(), tables, rnd), theirs.index)[:, 0], theirs)


def test_top_k_of_extreme_integers():
    score = np.array([np.iinfo(np.int64).min, 0, np.iinfo(np.int64).max])
    assert ArgMax().finish(ArgMax().init([0, 0, 0], score, [0, 1, 2]))[0, 0] == 2
    assert ArgMax(largest=False).finish(ArgMax(largest=False).init([0, 0, 0], score, [0, 1, 2]))[0, 0] == 0
    assert ArgMax().finish(ArgMax().init([0, 0], np.array([0, 2**64 - 1], np.uint64), [0, 1]))[0, 0] == 1


@pytest.mark.parametrize("q", [0.01, 0.5, 0.99])
def test_quantile_of_a_large_group_is_within_its_bound(q):
    x = np.random.default_rng(1).permutation(100_000) / 100_000
    state = Quantile(q)
    table = state.merge([state.init(np.zeros(2500), x[i::40]) for i in range(40)])
    assert abs(state.finish(table)[0, 0] - q) < 2 * state.rank_error
    assert len(table.parts["sketch"][0, 0]) < 40_000


@pytest.mark.parametrize("n", [1024, 1025, 3000, 10_000, 100_000])
def test_distinct_counts_are_within_their_bound(n):
    state, values = Distinct(), np.random.default_rng(n).permutation(np.repeat(np.arange(n) * 7, 2))
    table = state.merge([state.init(np.zeros(len(part)), part) for part in np.array_split(values, 7)])
    assert abs(state.finish(table)[0, 0] / n - 1) <= (0 if n <= 1024 else 4 * 1.04 / 64)
    same(state.init(np.zeros(len(values)), values[::-1]), table)


@settings(max_examples=15, deadline=None)
@given(data=grouped())
def test_several_at_once(data):
    keys, Z, piece, rnd = data
    several = Several({n: state_of(n) for n in ("mean", "max", "median", "count")}, ("identity", "amplification", "attenuation"))
    whole = several.init(keys, Z)
    tree = merged_in_a_tree(several, [several.init(keys[piece == p], Z[piece == p]) for p in np.unique(piece)], rnd)
    one = several.fit(whole).finish(whole, [*range(6), 77])
    np.testing.assert_allclose(several.finish(tree, [*range(6), 77]), one, rtol=1e-9, atol=1e-4)
    n = np.array([(keys == k).sum() for k in range(6)])
    ratio = np.log1p(n[n > 0]) / np.log1p(n[n > 0]).mean()
    np.testing.assert_allclose(one[:6][n > 0][:, 8:16], one[:6][n > 0][:, :8] * ratio[:, None])
    np.testing.assert_allclose(one[:6][n > 0][:, 16:], one[:6][n > 0][:, :8] / ratio[:, None])
    assert np.isnan(one[6, 16:]).all() and one[6, 6] == 0


def test_moments_against_scipy_far_from_zero():
    from scipy import stats
    x = 1e4 + np.random.default_rng(0).gamma(2.0, size=5000)
    for state, theirs in [(Skew(bias=True), stats.skew), (Kurt(bias=True), stats.kurtosis)]:
        table = state.merge([state.init(np.zeros(len(p)), p) for p in np.array_split(x, 13)])
        np.testing.assert_allclose(state.finish(table)[0, 0], theirs(x), rtol=1e-8)


def test_product_like_pandas():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"k": rng.integers(0, 30, 600), "x": rng.integers(-3, 5, 600) * rng.choice([1.0, 0.5, np.nan], 600)})
    frame.loc[frame.k % 3 > 0, "x"] = frame.x.where(frame.x != 0, 0.25)
    np.testing.assert_allclose(Product().finish(Product().init(frame.k, frame.x))[:, 0], frame.groupby("k").x.prod(), rtol=1e-12)


def test_empty_takes_a_value_and_only_where_no_row_was():
    state = state_of("mean")
    table = state.init([1, 2], [np.nan, 3.0])
    np.testing.assert_array_equal(state.finish(table, [1, 2, 3], empty=-1)[:, 0], [np.nan, 3, -1])
    assert state_of("sum").finish(state_of("sum").init([1], [2.0]), [9], empty=-1)[0, 0] == 0


@pytest.mark.parametrize("wrong, says", [("mode", "unknown"), ("quantile:2", "between 0 and 1"), ("quantile:x", "no number"), ("power:0", "other than 0"), (3, "string")])
def test_names_that_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        state_of(wrong)


def test_power_mean_refuses_negative_numbers():
    with pytest.raises(ValueError, match="1 negative"):
        PowerMean(3).init([0, 0], [1.0, -1.0])
