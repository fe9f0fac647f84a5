"""DeepAggregator over rows read in batches: both plans give the answer in memory, from every kind of source."""
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from dlagg.agg import AttentionPooling, DeepAggregator
from dlagg.agg.estimator_stream import RowReader, choose, mergeable, number_of_groups, whole_groups

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("compiled_once")]
MERGEABLE = ["sum", "mean", "vpa", "max", "min", "std", "power_mean", "logsumexp", "softmax", "gated_attention", "deepsets", "pma", "netvlad", "pna", AttentionPooling(4, heads=2)]


def table(n_groups=150, seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.r_[1, 700, rng.geometric(0.1, n_groups - 2)]
    rows = rng.permutation(np.repeat(np.arange(n_groups), sizes))
    keys = np.array([f"key {i:03d}" for i in rng.permutation(n_groups)])
    events = pd.DataFrame({"k": keys[rows], "x": rng.normal(size=len(rows)), "n": rng.integers(0, 9, len(rows)), "kind": rng.choice(["a", "b", "c"], len(rows))})
    events.loc[events.index % 50 == 7, ["x", "kind"]] = [np.nan, None]
    return events, pd.Series(rng.integers(0, 2, n_groups), index=keys)


def small(**options):
    return DeepAggregator("k", **{"hidden": (8,), "head": 4, "validation": 0, "epochs": 1, "pooling": ["mean", "max", "attention"]} | options)


@pytest.fixture(scope="module")
def fitted():
    events, target = table()
    return small().fit(events, target), events, target


@pytest.fixture(scope="module")
def path(fitted, tmp_path_factory):
    "A Parquet file in many small row groups."
    path = tmp_path_factory.mktemp("stream") / "events.parquet"
    fitted[1].to_parquet(path, row_group_size=200, index=False)
    return path


def test_every_source_gives_the_answer_in_memory(fitted, path, tmp_path):
    model, events, _ = fitted
    truth = model.predict_proba(events)
    folder = tmp_path / "parts"
    folder.mkdir()
    for i in range(3):
        events.iloc[i::3].to_parquet(folder / f"{i}.parquet", index=False)
    events.to_csv(tmp_path / "events.csv", index=False)
    sources = {"parquet": path, "text": str(path), "folder": folder, "files": sorted(folder.iterdir()), "dataset": ds.dataset(path), "csv": tmp_path / "events.csv",
               "duckdb": duckdb.connect().sql(f"select * from '{path}'"), "reader": pq.ParquetFile(path).iter_batches(64), "arrow": pa.Table.from_pandas(events)}
    sources["reader"] = pa.RecordBatchReader.from_batches(pq.read_schema(path), sources["reader"])
    for name, source in sources.items():
        got = model.predict_proba(source)
        assert got.index.equals(truth.index), name
        np.testing.assert_allclose(got, truth, atol=1e-5, err_msg=name)
    assert (model.predict(path) == model.predict(events)).all() and model.score(path, fitted[2]) == model.score(events, fitted[2])


@pytest.mark.parametrize("plan", ["partial", "sorted"])
def test_both_plans_transform(fitted, path, plan, tmp_path):
    model, events, _ = fitted
    truth, got = model.transform(events), model.transform(path, plan=plan)
    assert list(got.columns) == list(truth.columns) and got.index.equals(truth.index)
    np.testing.assert_allclose(got, truth, atol=1e-5, rtol=1e-6)
    out = model.transform(path, plan=plan, to=tmp_path / "out" / "vectors.parquet")
    back = pd.read_parquet(out).sort_index()
    np.testing.assert_allclose(back, truth, atol=1e-5, rtol=1e-6)
    assert list(back.index) == list(truth.index) and [p.name for p in out.parent.iterdir()] == ["vectors.parquet"]


def test_every_mergeable_pooling(path):
    events, target = table()
    model = small(pooling=MERGEABLE).fit(events, target)
    assert mergeable(model) is None
    truth, got = model.transform(events, classic=False), model.transform(path, classic=False, plan="partial")
    scale = np.maximum(np.abs(truth).max(), 1)
    np.testing.assert_allclose(got / scale, truth / scale, atol=1e-5)


def test_what_cannot_be_merged_is_sorted(path, tmp_path):
    events, target = table()
    model = small(pooling=["gru", "mean"]).fit(events, target)    # depends on the order of rows
    assert "needs all rows" in mergeable(model) and choose(model, path, "auto", 2 ** 30) == "sorted"
    np.testing.assert_allclose(model.predict_proba(path), model.predict_proba(events), atol=1e-5)
    with pytest.raises(ValueError, match="GRUPooling needs all rows"):
        model.transform(path, plan="partial")
    dated = events.assign(time=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(events)), "h"))
    dated.to_parquet(tmp_path / "dated.parquet")
    model = small(columns=["x", "time"]).fit(dated, target)    # days since the previous row
    assert "beside the other rows" in mergeable(model)
    np.testing.assert_allclose(model.predict_proba(tmp_path / "dated.parquet"), model.predict_proba(dated), atol=1e-5)


def test_the_plan_follows_the_number_of_groups(fitted, path):
    model, events, _ = fitted
    assert abs(number_of_groups(path, "k") - events.k.nunique()) < 15
    assert choose(model, path, "auto", 2 ** 30) == "partial" and choose(model, path, "auto", 10_000) == "sorted"
    with pytest.raises(ValueError, match="plan='fast'"):
        model.transform(path, plan="fast")


def test_composite_dated_and_missing_keys(tmp_path):
    events, _ = table(40)
    events["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(events)) % 3, "D")
    events.loc[events.index[::40], "day"] = pd.NaT
    events.to_parquet(tmp_path / "e.parquet", row_group_size=100)
    known = events.dropna(subset="day")
    model = DeepAggregator(["k", "day"], task=None, columns=["x", "n"], hidden=(8,), head=4, epochs=1, validation=0, pooling=["mean", "attention"]).fit(known)
    with pytest.warns(UserWarning, match="of 1,0|rows have no"):
        truth = model.transform(events)
    for plan in ("partial", "sorted"):
        with pytest.warns(UserWarning, match="rows have no"):
            got = model.transform(tmp_path / "e.parquet", plan=plan)
        assert list(got.index) == list(truth.index) and got.index.names == ["k", "day"]
        np.testing.assert_allclose(got, truth, atol=1e-5, rtol=1e-6)


def test_an_arrow_reader_is_read_once(fitted, path):
    model, events, _ = fitted
    reader = lambda: pa.RecordBatchReader.from_batches(pq.read_schema(path), pq.ParquetFile(path).iter_batches(64))
    np.testing.assert_allclose(model.transform(reader()), model.transform(events), atol=1e-5, rtol=1e-6)    # takes the sorted plan
    with pytest.raises(ValueError, match="can be read once"):
        model.transform(reader(), plan="partial")


def test_errors_name_what_is_missing(fitted, path, tmp_path):
    model, events, _ = fitted
    events.drop(columns="x").to_parquet(tmp_path / "x.parquet")
    events.rename(columns={"k": "q"}).to_parquet(tmp_path / "k.parquet")
    events[:0].to_parquet(tmp_path / "none.parquet")
    for plan in ("partial", "sorted"):
        with pytest.raises(ValueError, match="no column 'x'"):
            model.transform(tmp_path / "x.parquet", plan=plan, classic=False)
        with pytest.raises(ValueError, match="no column 'k'"):
            model.transform(tmp_path / "k.parquet", plan=plan, classic=False)
        with pytest.raises(ValueError, match="0 rows"):
            model.transform(tmp_path / "none.parquet", plan=plan, classic=False)
    with pytest.raises(ValueError):
        model.transform(tmp_path / "x.parquet", to=tmp_path / "out.parquet")
    assert not list(tmp_path.glob("*out*"))


def test_training_from_disk(fitted, path):
    model, events, target = fitted
    part = target.iloc[:60]
    with pytest.warns(UserWarning, match="90 keys of the rows have no target"):
        again = small().fit(path, part)
    pd.testing.assert_frame_equal(again.predict_proba(events), small().fit(events, part).predict_proba(events), atol=1e-6)


def test_an_array_has_no_place_beside_a_stream(path, fitted):
    with pytest.raises(TypeError, match="rows are streamed"):
        small().fit(path, [0, 1])
    events = pd.DataFrame({"k": np.arange(30) % 10, "x": np.random.default_rng(0).normal(size=30)})
    events.to_parquet(path.with_name("thirty.parquet"))
    model = small(pooling="mean").fit(path.with_name("thirty.parquet"), pd.Series(np.arange(30) % 2))    # 30 keys, 10 of them have rows; 30 rows
    assert "20 keys of the target have no rows" in " ".join(model.notes_)


def test_few_shapes_are_compiled(path, fitted):
    "One shape for full batches and one for the last, whatever the number of rows."
    model, events, _ = fitted
    seen = set()
    original = RowReader.predict_on_batch
    try:
        RowReader.predict_on_batch = lambda self, batch: (seen.add(len(batch["numbers"])), original(self, batch))[1]
        from dlagg.agg.estimator_stream import partial
        list(partial(model, path, 300, lambda text: None))
    finally:
        RowReader.predict_on_batch = original
    assert seen <= {256, 512} and all(n & (n - 1) == 0 for n in seen)


def test_groups_cross_any_number_of_batches():
    rng = np.random.default_rng(0)
    for _ in range(20):
        keys = np.repeat(np.arange(8), rng.integers(1, 30, 8))
        cuts = np.sort(rng.integers(0, len(keys), 6))
        frames = [pd.DataFrame({"k": part}) for part in np.split(keys, cuts) if len(part)]
        pieces = list(whole_groups(frames, "k"))
        assert np.concatenate([p.k for p in pieces]).tolist() == keys.tolist()
        assert sum(p.k.nunique() for p in pieces) == 8
