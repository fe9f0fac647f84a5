"""group_aggregate against pandas, the same from every source, and a test for every row of the policy table."""
import warnings

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dlagg.agg.groups import group_aggregate
from dlagg.tables.datasets import make_shop

CLASSIC = ["count", "sum", "mean", "var", "std", "min", "max", "median", "nunique", "first", "last", "prod", "skew", "kurt"]
SIMPLE = [n for n in CLASSIC if n not in ("skew", "kurt", "prod")]
pytestmark = pytest.mark.filterwarnings("error")    # nothing may warn that is not expected to


def rows(n=4000, groups=97, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"k": rng.integers(0, groups, n), "s": rng.choice(["ann", "bob", "cy"], n), "x": 1e3 + rng.normal(size=n), "i": rng.integers(-50, 50, n)})
    frame.loc[::9, "x"] = np.nan
    return frame


def by_pandas(frame, by, columns, names, **options):
    grouped = frame.groupby(by, observed=True, **options)
    return grouped.agg(**{f"{n}_{c}": (c, n) for c in columns for n in names})


def same(ours, theirs, **options):
    pd.testing.assert_frame_equal(ours, theirs, check_exact=False, **({"rtol": 1e-11, "atol": 1e-9} | options))


@pytest.mark.parametrize("by", ["k", "s", ["k", "s"], ["s"]])
def test_like_pandas(by):
    frame = rows()
    names = SIMPLE + ["skew", "kurt"]
    ours = group_aggregate(frame, by, {"x": names, "i": names})
    theirs = by_pandas(frame, by if by != ["s"] else "s", ["x", "i"], names)
    same(ours, theirs)


def test_moments_to_twelve_digits():
    frame = rows(20_000)
    for column in "xi":
        exact = frame.groupby("k")[column].agg(lambda v: float(v.dropna().to_numpy(np.longdouble).var(ddof=1)))
        ours = group_aggregate(frame, "k", {column: ["sum", "mean", "var", "std"]})
        np.testing.assert_allclose(ours[f"var_{column}"], exact, rtol=1e-12)
        np.testing.assert_allclose(ours[f"std_{column}"], np.sqrt(exact), rtol=1e-12)
        theirs = by_pandas(frame, "k", [column], ["sum", "mean"])
        same(ours[theirs.columns], theirs, rtol=1e-12, atol=0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_like_pandas_on_anything(data):
    n = data.draw(st.integers(1, 30))
    keys = data.draw(hnp.arrays(np.int64, n, elements=st.integers(-3, 3) | st.sampled_from([10**17, -10**17])))
    x = data.draw(hnp.arrays(np.float64, n, elements=st.integers(-40, 40).map(lambda v: v / 4) | st.just(np.nan)))
    frame = pd.DataFrame({"k": keys, "x": x})
    theirs = by_pandas(frame, "k", "x", SIMPLE)
    same(group_aggregate(frame, "k", {"x": SIMPLE}), theirs)
    table = pa.Table.from_pandas(frame)
    size = data.draw(st.integers(1, 12))
    same(group_aggregate(pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=size)), "k", {"x": SIMPLE}, batch_size=size), theirs)


def sources(frame, folder):
    "The same table from everywhere."
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table.slice(0, 1500), folder / "1.parquet")
    pq.write_table(table.slice(1500), folder / "2.parquet")
    frame.to_csv(folder / "all.csv", index=False)
    yield "arrow", table
    yield "reader", pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=333))
    yield "polars", pl.from_pandas(frame)
    yield "polars query", pl.from_pandas(frame).lazy()
    yield "dataset", ds.dataset([folder / "1.parquet", folder / "2.parquet"])
    yield "csv", folder / "all.csv"
    yield "duckdb", duckdb.sql("select * from frame")
    pq.write_table(table, folder / "all.parquet")
    yield "path", folder / "all.parquet"
    yield "path as text", str(folder / "all.parquet")


@pytest.mark.parametrize("by", ["s", ["s", "k"]])
def test_the_same_from_every_source(by, tmp_path):
    frame = rows()
    exact = [n for n in SIMPLE if n not in ("median", "nunique") or by != "s"]    # over 1,024 rows a group: a stream has sketches, tested below
    wanted = {"x": exact, "i": ["sum", "min", "prod"], "*": "count"}
    ours = group_aggregate(frame, by, wanted)
    for name, source in sources(frame, tmp_path):
        got = group_aggregate(source, by, wanted, batch_size=700)
        pd.testing.assert_frame_equal(got, ours, check_exact=False, rtol=1e-11, atol=1e-9, check_index_type=False, obj=name)
        assert got.sum_i.dtype == np.int64


@pytest.mark.parametrize("key", ["datetime64[s]", "datetime64[ns]", "category", "str", "float64", "Int64", "bool", "uint8", "timedelta64[s]"])
def test_keys_of_every_type(key, tmp_path):
    frame = rows(500, 2 if key == "bool" else 12).drop(columns="s")
    frame["k"] = frame.k.astype(str).astype("category") if key == "category" else frame.k.astype(key)
    theirs = by_pandas(frame, "k", ["x"], ["sum", "count"])
    same(group_aggregate(frame, "k", {"x": ["sum", "count"]}), theirs)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    streamed = group_aggregate(tmp_path / "t.parquet", "k", {"x": ["sum", "count"]}, batch_size=60)
    if key == "category":
        streamed.index, theirs.index = streamed.index.astype(str), theirs.index.astype(str)
    same(streamed, theirs, check_index_type=False)


def test_categories_that_do_not_occur_are_left_out():
    frame = pd.DataFrame({"k": pd.Categorical(["b", "a", "b"], categories=["b", "a", "never"]), "x": [1.0, 2, 3]})
    ours = group_aggregate(frame, "k", {"x": "sum"})
    assert list(ours.index) == ["b", "a"] and ours.sum_x.tolist() == [4, 2]


# The policy table of the design, row by row.

def test_empty_group():
    frame = pd.DataFrame({"k": [1, 1, 2], "x": [1.0, 2, np.nan], "i": [1, 2, 3]})
    names = ["count", "sum", "mean", "var", "min", "max", "median", "nunique", "first", "quantile:0.1", "skew"]
    ours = group_aggregate(frame, "k", {"x": names, "i": names}, groups=[2, 7])
    for column in "xi":
        gone = ours.loc[7, [f"{n}_{column}" for n in names]].tolist()
        np.testing.assert_array_equal(gone, [0, 0, *[np.nan] * 5, 0, np.nan, np.nan, np.nan])
    assert ours.loc[2, "sum_i"] == 3 and ours.loc[2, "first_i"] == 3 and np.isnan(ours.loc[2, "mean_x"])
    filled = group_aggregate(frame, "k", {"i": names}, groups=[7], empty=-1).loc[7].tolist()
    np.testing.assert_array_equal(filled, [0, 0, *[-1] * 5, 0, -1, -1, -1])


def test_one_row():
    frame = pd.DataFrame({"k": [1, 2, 2], "x": [5.0, 1, 3]})
    assert np.isnan(group_aggregate(frame, "k", {"x": "var"}).loc[1, "var_x"])
    assert group_aggregate(frame, "k", {"x": "var"}, ddof=0).loc[1, "var_x"] == 0


def test_nan_is_skipped_or_propagated(tmp_path):
    frame = pd.DataFrame({"k": [1, 1, 2], "x": [1.0, np.nan, 3.0]})
    names = ["sum", "mean", "std", "min", "max", "median", "nunique", "prod"]
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.parquet"):
        assert group_aggregate(source, "k", {"x": names}).loc[1, "sum_x"] == 1
        strict = group_aggregate(source, "k", {"x": [*names, "count", "first", "last"]}, skipna=False)
        assert strict.loc[1, [f"{n}_x" for n in names]].isna().all()
        assert strict.loc[2, "sum_x"] == 3 and strict.loc[2, "nunique_x"] == 1
        assert strict.loc[1, "count_x"] == 2 and strict.loc[1, "first_x"] == 1 and np.isnan(strict.loc[1, "last_x"])


@pytest.mark.parametrize("by", ["k", ["k", "j"]])
def test_missing_keys_are_counted_or_kept(by, tmp_path):
    frame = pd.DataFrame({"k": ["a", None, "b", None, "a"], "j": [1, 1, 1, 2, 1], "x": [1.0, 2, 3, 4, 5]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    for source in (frame, tmp_path / "t.parquet"):
        with pytest.warns(UserWarning, match="2 of 5 rows"):
            same(group_aggregate(source, by, {"x": ["sum", "count"]}), by_pandas(frame, by, ["x"], ["sum", "count"]), check_index_type=False)
        kept = group_aggregate(source, by, {"x": "sum"}, dropna=False)
        np.testing.assert_array_equal(kept.sum_x, by_pandas(frame, by, ["x"], ["sum"], dropna=False).sum_x)


@pytest.mark.parametrize("change, wanted, error, says", [
    (lambda f: f.assign(x=np.inf), {"x": "mean"}, ValueError, "column 'x' holds infinity in 10 rows"),
    (lambda f: f, {"s": "mean"}, TypeError, "column 's' has type"),
    (lambda f: f.assign(x=f.x + 1j), {"x": "sum"}, TypeError, "column 'x' has type complex"),
    (lambda f: f, {"nothing": "mean"}, ValueError, "no column 'nothing'; the table has k, s, x, i"),
    (lambda f: f, {"x": "mode"}, ValueError, "'mode' is unknown"),
    (lambda f: f, {}, ValueError, "empty"),
    (lambda f: f[:0], {"x": "mean"}, ValueError, "0 rows"),
    (lambda f: f.assign(k=[[1]] * 10), {"x": "mean"}, TypeError, "hashable"),
    (lambda f: f.drop(columns="k"), {"x": "mean"}, ValueError, "by: no column 'k'"),
    (lambda f: f, {"*": "sum"}, ValueError, "only 'count'"),
])
def test_refusals_say_what_came(change, wanted, error, says):
    with pytest.raises(error, match=says.replace("*", "\\*")):
        group_aggregate(change(rows(10)), "k", wanted)


def test_unsorted_keys_answer_as_sorted_ones():
    frame = rows()
    names = [n for n in SIMPLE if n not in ("first", "last")]
    pd.testing.assert_frame_equal(group_aggregate(frame.sort_values("k"), "k", {"x": names}), group_aggregate(frame, "k", {"x": names}), rtol=1e-13)


def test_integer_sums_are_exact(tmp_path):
    frame = pd.DataFrame({"k": [0, 0, 1], "i": [2**53, 1, 7], "small": np.array([200, 100, 1], np.uint8), "hole": pd.array([2**60 + 1, 2, None], "Int64")})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    for source in (frame, pa.Table.from_pandas(frame), tmp_path / "t.parquet"):
        ours = group_aggregate(source, "k", {"i": "sum", "small": ["sum", "max"], "hole": ["sum", "count", "min"]}, batch_size=1)
        assert ours.sum_i.tolist() == [2**53 + 1, 7] and ours.sum_small.tolist() == [300, 1] and ours.max_small.tolist() == [200, 1]
        assert ours.sum_hole.tolist() == [2**60 + 3, 0] and ours.count_hole.tolist() == [2, 0] and np.isnan(ours.min_hole[1])
    with pytest.raises(OverflowError, match="2\\*\\*63"):
        group_aggregate(pd.DataFrame({"k": [0, 0], "i": [2**62, 2**62]}), "k", {"i": "sum"})


def test_float32_far_from_zero():
    x = (1e4 + np.random.default_rng(0).normal(size=5000)).astype(np.float32)
    ours = group_aggregate(pd.DataFrame({"k": 0, "x": x}), "k", {"x": "var"})
    np.testing.assert_allclose(ours.var_x, x.astype(np.longdouble).var(ddof=1).astype(float), rtol=1e-12)


def test_constant_groups_have_no_variance():
    ours = group_aggregate(pd.DataFrame({"k": [0, 0, 0], "x": [0.1] * 3}), "k", {"x": ["mean", "std"]})
    assert ours.mean_x[0] == 0.1 and ours.std_x[0] == 0


def test_a_group_does_not_depend_on_the_others():
    frame = rows()
    whole = group_aggregate(frame, "k", {"x": SIMPLE})
    for key in (0, 13, 96):
        pd.testing.assert_frame_equal(group_aggregate(frame[frame.k == key], "k", {"x": SIMPLE}), whole.loc[[key]])


def test_runs_repeat_bit_for_bit(tmp_path):
    frame = rows(20_000)
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    first, second = (group_aggregate(tmp_path / "t.parquet", "k", {"x": SIMPLE}, batch_size=999) for _ in range(2))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_large_streamed_groups_are_within_the_sketches_bounds(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"k": rng.integers(0, 2, 60_000), "x": rng.permutation(60_000) / 60_000})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "t.parquet")
    ours = group_aggregate(tmp_path / "t.parquet", "k", {"x": ["median", "quantile:0.9", "nunique"]}, batch_size=7000)
    exact = group_aggregate(frame, "k", {"x": ["median", "quantile:0.9", "nunique"]})
    for key in (0, 1):
        ranks = [(frame.x[frame.k == key] <= ours.loc[key, c]).mean() for c in ("median_x", "quantile:0.9_x")]
        np.testing.assert_allclose(ranks, [0.5, 0.9], atol=0.006)
        assert abs(ours.loc[key, "nunique_x"] / exact.loc[key, "nunique_x"] - 1) < 0.065


def test_the_messy_shop_warns_of_nothing_but_its_keys():
    orders = make_shop(200, random_state=0).orders.copy()
    orders["rating"] = orders.rating.astype("Int64").mask(orders.rating < 2)
    orders.loc[::50, "customer_id"] = None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        ours = group_aggregate(orders, "customer_id", ["count", "sum", "mean", "std", "min", "max", "median", "first"])
        group_aggregate(pa.Table.from_pandas(orders), ["customer_id", "channel"], ["min", "max"], groups=pd.MultiIndex.from_tuples([("nobody", "web")]))
    assert [w.category for w in seen] == [UserWarning, UserWarning], [str(w.message) for w in seen]
    same(ours[["sum_price"]], orders.groupby("customer_id").agg(sum_price=("price", "sum")))
