"""group_aggregate against pandas, the same from every source, and a test for every row of the policy table."""
import datetime
import decimal
import tracemalloc
import warnings

import duckdb
import narwhals as nw
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
from dlagg.agg.states import Quantile
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


EVERY = [*CLASSIC, "quantile:0.3"]


def every_statistic(frame, by, columns, **options):
    "Pandas' answers for all statistics, as floats; its product of integers wraps around, so they are floats first."
    grouped = frame.astype({c: float for c in columns}).groupby(by, observed=True, **options)
    return pd.DataFrame({f"{n}_{c}": grouped[c].quantile(0.3) if ":" in n else grouped[c].agg(n) for c in columns for n in EVERY}).astype(float)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_statistic_like_pandas_on_anything(data):
    n = data.draw(st.integers(1, 30))
    key = hnp.arrays(np.int64, n, elements=st.integers(-3, 3) | st.sampled_from([10**17, -10**17]))
    word = st.lists(st.sampled_from(["a", "b", "c"]), min_size=n, max_size=n)
    number = st.integers(-40, 40).map(lambda v: v / 4)
    frame = pd.DataFrame({"k": data.draw(key), "w": data.draw(word), "x": data.draw(hnp.arrays(np.float64, n, elements=number | st.just(np.nan))),
                          "i": data.draw(hnp.arrays(np.int64, n, elements=st.integers(-9, 9)))})
    by = data.draw(st.sampled_from(["k", "w", ["k", "w"]]))
    theirs = every_statistic(frame, by, ["x", "i"])
    table, size = pa.Table.from_pandas(frame), data.draw(st.integers(1, 12))
    stream = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=size))
    for source in (frame, stream):
        ours = group_aggregate(source, by, {"x": EVERY, "i": EVERY}, batch_size=size).astype(float)
        for name in EVERY:
            columns = [f"{name}_x", f"{name}_i"]
            absolute = 1e-11 if name in ("skew", "kurt") else 0    # may be 0, and then a relative error means nothing
            same(ours[columns], theirs[columns], rtol=1e-12, atol=absolute, check_index_type=False)


def typed_rows():
    "A column of every type, with holes."
    frame = rows(3000)
    i = np.arange(len(frame))
    return frame.assign(
        hole=frame.i.astype("Int64").mask(i % 5 == 0), flag=pd.array(i % 3 == 0, "boolean"), when=pd.Timestamp("2026-03-28") + pd.to_timedelta(frame.i, "h").astype("timedelta64[us]"),
        cents=pa.array([decimal.Decimal(int(v)) / 100 for v in frame.i], pa.decimal128(10, 2)).to_pandas(types_mapper=pd.ArrowDtype), word=frame.s.where(i % 4 > 0, None),
    ).assign(flag=lambda f: f.flag.mask(i % 7 == 0), when=lambda f: f.when.where(i % 6 > 0, pd.NaT))


WANTED = {"x": SIMPLE, "i": ["sum", "min", "prod"], "hole": ["sum", "mean", "min", "nunique"], "flag": ["sum", "mean", "count"], "when": ["min", "max", "first", "nunique", "count"],
          "cents": ["sum", "mean", "max"], "word": ["nunique", "count", "first", "last"], "*": "count"}
SOURCES = {
    "arrow": lambda table, folder: table,
    "reader": lambda table, folder: pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=333)),
    "polars": lambda table, folder: pl.from_arrow(table),
    "polars query": lambda table, folder: pl.from_arrow(table).lazy().filter(pl.col("k") >= 0),
    "narwhals": lambda table, folder: nw.from_native(pl.from_arrow(table)),
    "duckdb": lambda table, folder: duckdb.sql("from t", connection=_database(table)),
    "duckdb reader": lambda table, folder: _database(table).sql("from t").to_arrow_reader(100),
    "path": lambda table, folder: folder / "whole/all.parquet",
    "path as text": lambda table, folder: str(folder / "whole/all.parquet"),
    "files": lambda table, folder: sorted((folder / "parts").glob("*.parquet")),
    "pattern": lambda table, folder: str(folder / "parts/*.parquet"),
    "folder": lambda table, folder: folder / "parts",
    "hive folder": lambda table, folder: folder / "hive",
    "dataset": lambda table, folder: ds.dataset(folder / "hive", partitioning="hive"),
    "csv": lambda table, folder: folder / "all.csv",
}
_KEEP = []


def _database(table):
    connection = duckdb.connect()
    _KEEP.append(connection)
    return connection.register("t", table)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    "The same rows as an Arrow table, and in files of every kind."
    folder, frame = tmp_path_factory.mktemp("sources"), typed_rows()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for part in ("whole", "parts"):
        (folder / part).mkdir()
    pq.write_table(table, folder / "whole/all.parquet")
    for i, start in enumerate(range(0, len(frame), 1100)):
        pq.write_table(table.slice(start, 1100), folder / f"parts/{i}.parquet")
    pq.write_to_dataset(table, folder / "hive", partition_cols=["s"])
    frame.assign(flag=frame.flag.astype("Int64")).to_csv(folder / "all.csv", index=False)
    return frame, table, folder


@pytest.mark.parametrize("by", ["s", ["s", "k"]], ids=["one key", "two keys"])
@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_from_every_source(kind, by, files):
    frame, table, folder = files
    wanted = {c: [n for n in names if n not in ("median", "nunique", "quantile:0.3") or by != "s" or c != "x"] for c, names in WANTED.items() if c != "*"} | {"*": "count"}
    if kind == "csv":
        del wanted["when"]    # a text file has no dates until somebody says so
    if "hive" in kind or kind == "dataset":
        wanted = {c: [n for n in ([names] if isinstance(names, str) else names) if n not in ("first", "last")] for c, names in wanted.items()}    # the folders are read one after the other
    ours = group_aggregate(frame, by, wanted)
    got = group_aggregate(SOURCES[kind](table, folder), by, wanted, batch_size=700)
    pd.testing.assert_frame_equal(got, ours, check_exact=False, rtol=1e-12, atol=1e-10, check_index_type=False, check_column_type=False)
    assert got.sum_i.dtype == got.sum_hole.dtype == np.int64


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


def streamed(frame, size, by, wanted, **options):
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    return group_aggregate(pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=size)), by, wanted, batch_size=size, **options)


def test_streamed_quantiles_are_exact_up_to_1024_values():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"k": rng.permutation(np.repeat(np.arange(8), 1024)), "x": rng.normal(size=8192), "w": rng.integers(0, 900, 8192).astype(str)})
    wanted = {"x": ["median", "quantile:0.05", "nunique"], "w": "nunique"}
    same(streamed(frame, 100, "k", wanted), group_aggregate(frame, "k", wanted), rtol=1e-14, atol=0)
    more = pd.concat([frame, frame.assign(x=lambda f: f.x + 0.1)])    # 2,048 values a group: sketched
    for q in (0.05, 0.5):
        answer = streamed(more, 100, "k", {"x": f"quantile:{q}"}).iloc[:, 0]
        ranks = (more.x <= more.k.map(answer)).groupby(more.k).mean()
        assert (abs(ranks - q) < 2 * Quantile().rank_error + 1 / 2048).all()


def test_streamed_median_without_skipping():
    frame = pd.DataFrame({"k": [1, 1, 2, 2], "x": [1.0, np.nan, 3, 5], "i": pd.array([1, 2, None, 4], "Int64")})
    ours = streamed(frame, 1, "k", {"x": ["median", "nunique"], "i": "median"}, skipna=False)
    np.testing.assert_array_equal(ours, [[np.nan, np.nan, 1.5], [4, 2, np.nan]])


@pytest.mark.parametrize("names, groups", [(["mean", "std", "min", "first", "skew"], 500), (["median", "nunique"], 20)])
def test_memory_does_not_grow_with_the_rows(names, groups):
    def batches(n):
        rng = np.random.default_rng(0)
        for _ in range(n):
            yield pa.record_batch({"k": rng.integers(0, groups, 100_000), "x": rng.normal(size=100_000)})

    def peak(n):
        tracemalloc.start()
        try:
            reader = pa.RecordBatchReader.from_batches(next(batches(1)).schema, batches(n))
            answer = group_aggregate(reader, "k", {"x": names}, batch_size=100_000)
            return tracemalloc.get_traced_memory()[1], len(answer)
        finally:
            tracemalloc.stop()

    peak(2)
    (few, g), (many, _) = peak(12), peak(48)    # 48 batches are 77 MB
    assert g == groups and many < few + 8e6, f"{few / 1e6:.0f} MB for 12 batches, {many / 1e6:.0f} MB for 48"


def test_sketches_only_where_a_group_is_large(monkeypatch):
    calls = []
    real = Quantile._sketch
    monkeypatch.setattr(Quantile, "_sketch", lambda self, values: calls.append(len(values)) or real(self, values))
    frame = pd.DataFrame({"k": np.arange(60_000) % 20_000, "x": np.arange(60_000.0)})
    streamed(frame, 5000, "k", {"x": "median"})
    assert not calls


@pytest.mark.parametrize("zone", [None, "Europe/Paris", "UTC"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_dates_have_an_order(zone, unit):
    when = pd.Series(pd.to_datetime(["2026-03-29 03:30:00", None, "2026-03-28 00:00:00", "1969-12-31 23:59:59", None])).dt.as_unit(unit)
    frame = pd.DataFrame({"k": [1, 1, 1, 2, 3], "when": when.dt.tz_localize(zone) if zone else when})
    names = ["min", "max", "first", "last", "count", "nunique"]
    theirs = by_pandas(frame, "k", ["when"], names)
    for ours in (group_aggregate(frame, "k", {"when": names}), group_aggregate(pa.Table.from_pandas(frame), "k", {"when": names}), streamed(frame, 2, "k", {"when": names})):
        pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, check_exact=True)
        assert str(getattr(ours.min_when.dt, "tz", None)) == str(zone)
    gone = group_aggregate(frame, "k", {"when": names}, groups=[9, 2])
    assert gone.min_when[9] is pd.NaT and gone.min_when[2] == frame.when[3] and gone.count_when[9] == 0


def test_dates_to_the_last_nanosecond():
    when = pd.to_datetime([1_700_000_000_000_000_001, 1_700_000_000_000_000_002])
    ours = group_aggregate(pd.DataFrame({"k": [1, 1], "t": when, "d": when - pd.Timestamp(0)}), "k", {"t": ["min", "max"], "d": "max"}, groups=[1, 2])
    assert [ours.min_t[1].value, ours.max_t[1].value, ours.max_d[1].value] == [when[0].value, when[1].value, when[1].value]


@pytest.mark.parametrize("holes", ["none", "later", "always"])
@pytest.mark.parametrize("kind", [pa.int64(), pa.bool_(), pa.string(), pa.date32(), pa.timestamp("us", "Europe/Paris"), pa.duration("ms"), pa.decimal128(9, 2), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_streamed_keys_of_every_type(kind, holes):
    of = {"int64": [3, 1], "bool": [True, False], "string": ["b", "a"], "date32[day]": [datetime.date(2026, 1, 2), datetime.date(2025, 1, 1)], "duration[ms]": [datetime.timedelta(2), datetime.timedelta(1)],
          "decimal128(9, 2)": [decimal.Decimal("2.50"), decimal.Decimal("1.25")]}.get(str(kind), ["b", "a"] if pa.types.is_dictionary(kind) else [datetime.datetime(2026, 1, 2), datetime.datetime(2026, 1, 1)])
    keys = of * 10
    for i in {"none": (), "later": (15,), "always": (0, 3, 15)}[holes]:
        keys[i] = None
    column = pa.array(keys, pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(keys, kind)
    table = pa.table({"k": column, "x": np.arange(20.0)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, whole = streamed(table, 4, "k", {"x": ["sum", "count"]}), group_aggregate(table, "k", {"x": ["sum", "count"]})
    here = np.array([k is not None for k in keys])
    first = np.array([k == of[0] for k in keys]) & here
    expected = [np.arange(20.0)[~first & here].sum(), np.arange(20.0)[first].sum()]
    assert ours.sum_x.tolist() == whole.sum_x.tolist() == expected
    kept = streamed(table, 4, ["k"], {"x": "count"}, dropna=False)
    assert kept.count_x.sum() == 20 and len(kept) == 2 + (holes != "none")


def test_polars_categories_are_their_words():
    for kind in (pl.Categorical, pl.Enum(["b", "a", "never"])):
        frame = pl.DataFrame({"k": pl.Series(["b", "a", None, "b"], dtype=kind), "x": [1, 2, 3, 4]})
        with pytest.warns(UserWarning, match="1 of 4"):
            ours = group_aggregate(frame, "k", {"x": "sum", "k": ["count", "nunique"]})
        assert ours.sum_x.to_dict() == {"a": 2, "b": 5}


@pytest.mark.parametrize("by", ["size", ["size", "shop"], ["size", "day"], ["shop", "size"]])
def test_categories_that_do_not_occur_by_wish(by):
    frame = pd.DataFrame({"size": pd.Categorical(list("LSLS"), ["S", "M", "L"]), "shop": pd.Categorical(list("aabb"), ["b", "a", "c"]), "day": [1, 2, 1, 1], "x": [1.0, 2, 3, 4]})
    theirs = frame.groupby(by, observed=False).x.agg(["sum", "count", "mean"]).add_suffix("_x")
    ours = group_aggregate(frame, by, {"x": ["sum", "count", "mean"]}, observed=False)
    same(ours, theirs, check_index_type=False)
    same(group_aggregate(frame, by, {"x": "sum"}), frame.groupby(by, observed=True).x.agg(["sum"]).add_suffix("_x"), check_index_type=False)


def test_counting_takes_anything():
    frame = pd.DataFrame({"k": [1, 1, 2, 2], "word": ["a", "b", "b", None], "thing": pd.Series([datetime.date(2026, 1, 1), (1, 2), 1, "1"], dtype=object), "cat": pd.Categorical(["x", "x", None, "y"])})
    columns = ["word", "thing", "cat"]
    theirs = by_pandas(frame, "k", columns, ["count", "nunique"])
    same(group_aggregate(frame, "k", {c: ["count", "nunique"] for c in columns}), theirs)
    same(streamed(frame.drop(columns="thing"), 1, "k", {c: ["count", "nunique"] for c in ["word", "cat"]}), theirs[[f"{n}_{c}" for c in ["word", "cat"] for n in ["count", "nunique"]]])


def test_large_integers_overflow_only_where_they_are_added():
    frame = pd.DataFrame({"k": [1, 1], "i": [2**62, 2**62 + 8], "u": np.array([2**63 + 5, 7], np.uint64)})
    ours = group_aggregate(frame, "k", {"i": ["max", "count", "mean"], "u": ["min", "max", "median"]})
    assert ours.max_i[1] == 2**62 + 8 and ours.mean_i[1] == 2.0**62 and ours.max_u[1] == 2**63 + 5
    with pytest.raises(OverflowError):
        group_aggregate(frame, "k", {"i": "sum"})


def test_pandas_arrow_types():
    frame = pd.DataFrame({"k": pd.array([1, 1, None, 2], pd.ArrowDtype(pa.int64())), "b": pd.array([True, None, True, False], pd.ArrowDtype(pa.bool_())),
                          "d": pd.array([decimal.Decimal("0.10"), decimal.Decimal("0.20"), None, None], pd.ArrowDtype(pa.decimal128(5, 2)))})
    with pytest.warns(UserWarning, match="1 of 4"):
        ours = group_aggregate(frame, "k", {"b": ["sum", "mean"], "d": ["sum", "count"]})
    assert ours.sum_b.tolist() == [1, 0] and ours.mean_b.tolist() == [1, 0] and ours.sum_d.round(12).tolist() == [0.3, 0] and ours.count_d.tolist() == [2, 0]


@pytest.mark.parametrize("source, by, wanted, error, says", [
    (lambda: pd.DataFrame([[1, 2.0, 3.0]], columns=["k", "x", "x"]), "k", {"x": "mean"}, ValueError, "several columns called 'x'"),
    (lambda: pa.Table.from_arrays([pa.array([1]), pa.array([1.0]), pa.array([1.0])], names=["k", "x", "x"]), "k", ["mean"], ValueError, "several columns called 'x'"),
    (lambda: rows(5), ["k", "k"], {"x": "mean"}, ValueError, "different ones"),
    (lambda: rows(5), [], {"x": "mean"}, ValueError, "must name one key column"),
    (lambda: rows(5).assign(k=[1, "a", 2, "b", 3]), "k", {"x": "mean"}, TypeError, "sort among themselves"),
    (lambda: rows(5).x, "k", {"x": "mean"}, TypeError, "got Series"),
    (lambda: {"k": [1]}, "k", {"x": "mean"}, TypeError, "got dict"),
    (lambda: rows(5).assign(t=pd.Timestamp("2026-01-01")), "k", {"t": "mean"}, TypeError, "mean takes numbers"),
    (lambda: rows(5).assign(t=[pd.NaT] * 4 + [pd.Timestamp("2026-01-01")]), "k", {"t": "max"}, ValueError, "no numbers"),
    (lambda: rows(5).assign(x=[[1]] * 5), "k", {"x": "nunique"}, TypeError, "cannot be hashed"),
    (lambda: pa.table({"k": pa.nulls(3), "x": [1, 2, 3]}), "k", {"x": "sum"}, ValueError, "no row has a key"),
])
def test_more_refusals(source, by, wanted, error, says):
    with pytest.raises(error, match=says):
        group_aggregate(source(), by, wanted, skipna=says != "no numbers")


@pytest.mark.parametrize("first, second, expected", [
    (pa.array([1, 2]), pa.array([1.5, 2.5]), {1: 2.5, 2: 4.5}),
    (pa.array([1.5, 2.5]), pa.array([1, 2], pa.int8()), {1: 2.5, 2: 4.5}),
    (pa.array([1, 2]), None, "b.parquet: it lacks x"),
    (None, pa.array([1, 2]), "a.parquet: it lacks x"),
    (pa.array([1, 2]), pa.array(["1", "2"]), "b.parquet: its types do not fit"),
])
def test_files_that_differ(first, second, expected, tmp_path):
    for name, x in (("a", first), ("b", second)):
        pq.write_table(pa.table({"k": [1, 2], "unused": pa.array([1, 2] if name == "a" else ["1", "2"])} | ({} if x is None else {"x": x})), tmp_path / f"{name}.parquet")
    for source in (tmp_path, [tmp_path / "a.parquet", tmp_path / "b.parquet"]):
        if isinstance(expected, dict):
            assert group_aggregate(source, "k", {"x": "sum"}).sum_x.to_dict() == expected
        else:
            with pytest.raises(ValueError, match=expected):
                group_aggregate(source, "k", {"x": "sum"})


@pytest.mark.parametrize("kind", ["words", "things", "categories"])
def test_the_first_and_last_of_anything(kind):
    values = {"words": ["b", None, "a", "c", None], "things": [(1, 2), None, datetime.date(2026, 1, 1), "x", None], "categories": pd.Categorical(["b", None, "a", "c", None])}[kind]
    frame = pd.DataFrame({"k": [1, 2, 1, 2, 3], "w": pd.Series(values, dtype=object if kind == "things" else None)})
    names = ["first", "last", "count", "nunique"]
    theirs = by_pandas(frame, "k", ["w"], names)
    ours = group_aggregate(frame, "k", {"w": names})
    plain = [frame.astype(object).where(frame.notna(), None) for frame in (ours, theirs)]
    pd.testing.assert_frame_equal(*plain)
    if kind != "things":
        again = streamed(frame, 2, "k", {"w": names})
        pd.testing.assert_frame_equal(again.astype(object).where(again.notna(), None), plain[0])
    gone = group_aggregate(frame, "k", {"w": names}, groups=[9, 1])
    assert pd.isna(gone.first_w[9]) and gone.count_w[9] == 0 and gone.first_w[1] == frame.w[0]


def test_a_stream_without_a_single_value():
    frame = pd.DataFrame({"k": [0, 0, 1], "x": [np.nan] * 3})
    same(streamed(frame, 1, "k", {"x": EVERY}).astype(float), every_statistic(frame, "k", ["x"]))


def column_of(values, n):
    return st.lists(values | st.none(), min_size=n, max_size=n)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_pieces_give_the_answer_of_the_whole_for_every_type(data):
    n = data.draw(st.integers(1, 20))
    table = pa.table({
        "k": pa.array(data.draw(column_of(st.integers(-2, 2), n)), pa.int64()), "w": pa.array(data.draw(column_of(st.sampled_from(["a", "b"]), n)), pa.string()),
        "f": pa.array(data.draw(column_of(st.booleans(), n)), pa.bool_()), "i": pa.array(data.draw(column_of(st.integers(-2**40, 2**40), n)), pa.int64()),
        "t": pa.array(data.draw(column_of(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1)), n)), pa.timestamp("us", "UTC")),
        "c": pa.array(data.draw(column_of(st.decimals(-99, 99, places=2), n)), pa.decimal128(6, 2)), "d": pa.array(data.draw(column_of(st.sampled_from(["x", "y"]), n)), pa.string()).dictionary_encode()})
    by = data.draw(st.sampled_from(["k", "w", "f", "d", "t", ["k", "w"], ["d", "f"]]))
    ends = ["min", "max", "first", "last", "count", "nunique"]
    wanted = {"i": [*ends, "sum", "mean", "std"], "f": ["sum", "mean"], "c": ["sum", "max"], "t": ends, "w": ["first", "last", "count", "nunique"], "d": ["last", "nunique"], "*": "count"}
    dropna = data.draw(st.booleans())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* rows have no")
        try:
            whole = group_aggregate(table, by, wanted, dropna=dropna)
        except ValueError as error:    # not a single key
            assert "no row has a key" in str(error) and dropna
            return
        pieces = streamed(table, data.draw(st.integers(1, 6)), by, wanted, dropna=dropna)
    pd.testing.assert_frame_equal(pieces, whole, check_exact=False, rtol=1e-12, atol=1e-9, check_index_type=False, check_column_type=False, check_dtype=False)


def test_a_piece_without_a_single_key():
    table = pa.table({"k": [1, None, None, 1], "x": [1.0, 2, 3, 4]})
    with pytest.warns(UserWarning, match="2 of 4"):
        ours = streamed(table, 1, "k", {"x": ["median", "nunique", "sum", "first", "last"]})
    assert ours.iloc[0].tolist() == [2.5, 2, 5, 1, 4]
