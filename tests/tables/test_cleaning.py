"""Cleaning: laws that hold for any table, and figures that are known for three real ones."""
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.base import clone

from dlagg.tables.cleaning import Cleaner
from dlagg.tables.datasets import make_shop
from dlagg.tables.sources import read_table

cells = st.one_of(st.none(), st.sampled_from(["", "n/a", "?", "web", "Web ", "WEB", "shop", "app", "1,5", "2,25", "yes", "no", "2024-03-05", "05.03.2024", "C1"]))
words = st.one_of(st.none(), st.sampled_from(["Email", "email ", "E-MAIL", "post", "phone", "-"]))
numbers = st.one_of(st.none(), st.integers(-5, 5), st.floats(-1e6, 1e6), st.sampled_from([np.inf, -np.inf, 1e9]))
keys = st.one_of(st.none(), st.sampled_from(["1", " 1", "1.0", "2", "a", "n/a"]))
tables = st.lists(st.tuples(keys, cells, words, numbers, numbers), min_size=2, max_size=25).map(
    lambda rows: pd.DataFrame(rows, columns=["k", "anything", "word", "x", "y"]).astype({"x": float, "y": float})).filter(
        lambda t: (~t["k"].isin([None, "n/a"]) & t["k"].notna()).any())
choices = st.fixed_dictionaries({"numeric": st.sampled_from(["median", "mean", "most_frequent", "flag"]), "outliers": st.sampled_from(["flag", "clip", "keep"]),
                                 "categorical": st.sampled_from(["missing", "most_frequent"]), "constant": st.sampled_from(["drop", "keep"])})


@settings(max_examples=400, deadline=None)
@given(tables, choices)
def test_laws(table, options):
    cleaner = Cleaner(key="k", **options)
    before = table.copy(deep=True)
    out = cleaner.fit_transform(table)
    pd.testing.assert_frame_equal(table, before)                                              # the input is left alone
    counts = cleaner.counts_
    assert counts["rows_in"] == len(table) and counts["rows_in"] - counts["no_key"] - counts["duplicates"] == counts["rows_out"] == len(out)
    dropped = sum(d.rows for d in cleaner.log_ if d.action == "rows dropped")
    assert len(table) == len(out) + dropped                                                   # nothing is dropped uncounted
    assert list(cleaner.get_feature_names_out()) == list(out.columns)
    pd.testing.assert_frame_equal(cleaner.transform(table), out)                              # fit_transform is fit, then transform
    pd.testing.assert_frame_equal(cleaner.transform(out), out)                                # clean is clean
    again = Cleaner.from_dict(json.loads(json.dumps(cleaner.to_dict(), allow_nan=False)))
    pd.testing.assert_frame_equal(again.transform(table), out)


@settings(max_examples=60, deadline=None)
@given(tables, choices, st.integers(0, 10 ** 6))
def test_the_order_of_rows_teaches_nothing(table, options, seed):
    shuffled = table.sample(frac=1, random_state=seed)
    assert Cleaner(key="k", **options).fit(table).columns_ == Cleaner(key="k", **options).fit(shuffled).columns_


def test_parameters_come_from_fit_only():
    train, new = pd.DataFrame({"x": [1., 2, 3, 4, None], "c": list("aabbb")}), pd.DataFrame({"x": [1000., None], "c": ["z", "a"]})
    cleaner = Cleaner().fit(train)
    out = cleaner.transform(new)
    assert out["x"].tolist() == [1000, 2.5] and out["c"].tolist() == ["other", "a"] and out["x_missing"].tolist() == [False, True]
    assert any(d.problem == "unseen category" for d in cleaner.last_log_) and not any(d.problem == "unseen category" for d in cleaner.log_)
    with pytest.raises(ValueError, match="'z'"):
        Cleaner(unseen="error").fit(train).transform(new)


def test_target_is_not_made_up():
    table = pd.DataFrame({"x": [1, 2, 3, 4], "y": ["1,5", "?", "2,5", "9999"], "label": ["yes", None, "no", "yes"]})
    assert Cleaner(target="y").fit_transform(table)["y"].tolist()[::2] == [1.5, 2.5]
    out = Cleaner(target="label").fit_transform(table)
    assert out["label"].isna().tolist() == [False, True, False, False] and not [c for c in out if c.startswith("label_")]
    zero_one = Cleaner(target="y").fit_transform(pd.DataFrame({"x": [1, 2, 3], "y": [0, 1, 1]}))
    assert zero_one["y"].tolist() == [0, 1, 1] and zero_one["y"].dtype == "int64"
    assert "y" not in Cleaner(target="y").fit(table).transform(table.drop(columns="y"))


def test_errors_name_what_is_wrong():
    table = pd.DataFrame({"k": ["a", "b"], "x": [1, 2], "t": ["soon", "later"]})
    for options, says in (({"key": "z"}, "key='z'"), ({"time": "t"}, "no dates, such as 'soon'"), ({"key": "k", "target": "k"}, "three different"),
                          ({"numeric": "magic"}, "'median'"), ({"reach": 0}, "reach")):
        with pytest.raises(ValueError, match=says):
            Cleaner(**options).fit(table)
    with pytest.raises(ValueError, match="empty in all 2 rows"):
        Cleaner(key="k").fit(pd.DataFrame({"k": [None, "n/a"], "x": [1, 2]}))
    with pytest.raises(ValueError, match="lacks 'x'"):
        Cleaner(key="k").fit(table).transform(table[["k", "t"]])
    with pytest.raises(ValueError, match="no rows"):
        Cleaner().fit(table.iloc[:0])
    with pytest.raises(TypeError, match="complex"):
        Cleaner().fit(pd.DataFrame({"x": [1j, 2]}))


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "int64[pyarrow]", "double[pyarrow]", "float32", "int16", "uint8"])
def test_number_types(dtype):
    table = pd.DataFrame({"x": pd.array([1, 2, 3, 4], dtype=dtype)})
    assert Cleaner().fit_transform(table)["x"].tolist() == [1, 2, 3, 4]


def test_other_types():
    table = pd.DataFrame({"when": pd.to_datetime(["2024-01-01", None, "2024-01-03"]).tz_localize("Europe/Paris"), "cat": pd.Categorical(["a", None, "b"]),
                          "flag": pd.array([True, None, False], dtype="boolean"), "took": pd.to_timedelta([1, 2, None], unit="min"),
                          "lists": [[1], [2], [1]], "mixed": [1, "2", 3.0], "arrow": pd.array(["p", "q", None], dtype="string[pyarrow]"), "nothing": None})
    out = Cleaner().fit_transform(table)
    assert str(out["when"].iloc[0]) == "2023-12-31 23:00:00" and out["cat"].tolist() == ["a", "missing", "b"]
    assert out["flag"].dtype == bool and out["took"].tolist() == [60, 120, 90] and out["mixed"].tolist() == [1, 2, 3]
    assert "nothing" not in out and out["arrow"].tolist() == ["p", "q", "missing"]


def test_frames_of_other_libraries_and_pipelines():
    table = pd.DataFrame({"x": [1., None, 3.], "c": ["a", "b", "a"]})
    expected = Cleaner().fit_transform(table)
    for other in (pl.from_pandas(table), pa.Table.from_pandas(table)):
        pd.testing.assert_frame_equal(Cleaner().fit_transform(other), expected)
    assert clone(Cleaner(reach=2)).get_params()["reach"] == 2
    assert isinstance(Cleaner().set_output(transform="polars").fit_transform(table), pl.DataFrame)


def test_row_labels_and_odd_names():
    table = pd.DataFrame([[1, "a", 5.0], [1, "a", 5.0], [2, "b", None]], columns=[" <script> ", "$x$", 7], index=[7, 7, 3])
    out = Cleaner().fit_transform(table)
    assert out.index.tolist() == [7, 3] and list(out.columns)[:2] == ["<script>", "$x$"]
    assert Cleaner(key="<script>").fit(table).key_ == "<script>" == Cleaner(key=" <script> ").fit(table).key_


def test_model_beats_median_where_columns_depend():
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=1500), rng.choice(["p", "q"], 1500)
    truth = 3 * a + 5 * (c == "p")
    table = pd.DataFrame({"a": a, "c": c, "x": np.where(rng.random(1500) < 0.2, np.nan, truth)})
    gaps = table["x"].isna()
    errors = {how: np.abs(Cleaner(numeric=how).fit_transform(table)["x"] - truth)[gaps].mean() for how in ("mean", "median", "model")}
    assert errors["model"] < 0.2 * errors["median"]
    cleaner = Cleaner(numeric="model").fit(table)
    again = Cleaner.from_dict(json.loads(json.dumps(cleaner.to_dict(), allow_nan=False)))
    pd.testing.assert_frame_equal(again.transform(table), cleaner.transform(table))


def test_the_log_agrees_with_the_dirt_that_was_planted():
    shop = make_shop(n_customers=300, random_state=3, messy=True)
    planted = shop.truth["mess"].query("table == 'orders'").set_index(["column", "problem"])["rows"]
    cleaner = Cleaner(key="customer_id", time="time", duplicates="keep", dropna=False)
    cleaner.fit(shop.orders)
    rows = {(d.column, d.problem): d.rows for d in cleaner.log_}
    assert rows["customer_id", "missing key"] == planted["customer_id", "missing"]
    assert rows["(rows)", "exact duplicates"] == planted["", "duplicate"]
    assert rows["quantity", "negative values"] == planted["quantity", "return"]
    assert rows["price", "missing values"] == planted["price", "missing"]
    assert rows["category", "spelling variants"] == planted["category", "upper case"] + planted["category", "misspelt"]
    assert rows["category", "stray blanks"] == planted["category", "stray spaces"]
    assert rows["delivery_days", "missing spelled as text"] == planted["delivery_days", "question mark"]


def test_online_retail_is_right(mirror):
    table = read_table(mirror / "online-retail-dataset.csv")
    cleaner = Cleaner(key="CustomerID", time="InvoiceDate")
    out = cleaner.fit_transform(table)
    assert cleaner.counts_ == {"rows_in": 541_909, "no_key": 135_080, "duplicates": 5_225, "rows_out": 401_604}
    assert out["CustomerID"].nunique() == 4_372 and out["CustomerID"].iloc[0] == "17850"
    negative = next(d for d in cleaner.log_ if (d.column, d.problem) == ("Quantity", "negative values"))
    assert negative.rows == 10_624 and "8,872 in the rows that stay" in negative.why and (out["Quantity"] < 0).sum() == 8_872
    assert out["InvoiceDate"].min() == pd.Timestamp("2010-12-01 08:26") and out["InvoiceDate"].max() == pd.Timestamp("2011-12-09 12:50")


@pytest.mark.parametrize("name", ["titanic_raw.csv", "penguins_raw.csv", "german_credit.csv", "online_shoppers_intention.csv", "retail_price.csv"])
def test_other_public_tables(mirror, name):
    table = read_table(mirror / name)
    cleaner = Cleaner()
    out = cleaner.fit_transform(table)
    assert len(table) == len(out) + sum(d.rows for d in cleaner.log_ if d.action == "rows dropped")
    pd.testing.assert_frame_equal(cleaner.transform(out), out)
