"""DeepAggregator: odd input, repetition, files, and that it learns what sums cannot."""
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from dlagg.agg.estimator import DeepAggregator

warnings.filterwarnings("ignore", category=UserWarning)
pytestmark = pytest.mark.usefixtures("compiled_once")


def shop(n=300, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.poisson(8, n) + 2
    k = np.repeat(np.arange(n), sizes)
    rows = pd.DataFrame({"k": k, "late": rng.random(len(k)) < 0.2, "complaint": rng.random(len(k)) < 0.2, "price": rng.lognormal(size=len(k)),
                         "kind": rng.choice(["tea", "pot"], len(k)), "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, len(k)), "h")})
    rows.loc[rows.late & rows.complaint, "late"] = False
    marked = rng.random(n) < 0.5
    one = rows.groupby("k").sample(1, random_state=seed).index[marked]
    rows.loc[one, ["late", "complaint"]] = True
    return rows, pd.Series(np.where(marked, "gone", "here"), index=pd.RangeIndex(n))


def small(by="k", **options):
    "A model that compiles fast: nothing held out, narrow layers."
    return DeepAggregator(by, **{"hidden": (16, 8), "head": 8, "validation": 0, "epochs": 1, "pooling": ("mean", "max", "attention")} | options)


@pytest.fixture(scope="module")
def fitted():
    rows, target = shop()
    return DeepAggregator("k", epochs=15, patience=15, random_state=1).fit(rows, target), rows, target


def test_it_learns_a_conjunction(fitted):
    model, *_ = fitted
    new, truth = shop(seed=9)
    assert model.score(new, truth) > 0.8


def test_shapes_and_names(fitted):
    model, rows, target = fitted
    proba, table = model.predict_proba(rows), model.transform(rows)
    assert list(proba.columns) == ["gone", "here"] and np.allclose(proba.sum(axis=1), 1)
    assert list(table.index) == list(target.index) and {"mean_0", "max_0", "attention_0", "mean_price", "count"} <= set(table.columns)
    assert set(model.predict(rows)) <= {"gone", "here"}


def test_order_and_company_do_not_matter(fitted):
    model, rows, _ = fitted
    all_, mixed = model.predict_proba(rows), model.predict_proba(rows.sample(frac=1, random_state=3))
    np.testing.assert_allclose(mixed, all_, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(rows[rows.k.isin([3, 250])]), all_.loc[[3, 250]], atol=1e-5)


def test_same_seed_same_bits(fitted):
    rows, target = shop(120)
    rows = rows.drop(columns="time")
    a, b = (small(epochs=2, random_state=4).fit(rows, target) for _ in range(2))
    pd.testing.assert_frame_equal(a.predict_proba(rows), b.predict_proba(rows), check_exact=True)
    assert a.history_.equals(b.history_)


def test_saved_and_loaded(fitted, tmp_path):
    model, rows, _ = fitted
    model.save(tmp_path / "m")
    again = DeepAggregator.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict_proba(rows), model.predict_proba(rows), check_exact=True)
    pd.testing.assert_frame_equal(again.explain(rows, 5), model.explain(rows, 5), check_exact=True)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["manifest.json", "model.json", "weights.npz"]
    weights = tmp_path / "m" / "weights.npz"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ValueError, match="weights.npz was changed or damaged"):
        DeepAggregator.load(tmp_path / "m")


def test_explanation_is_leaving_out(fitted):
    model, rows, _ = fitted
    rows = rows.drop(columns="time")    # gaps between rows would change with the row
    model = small(epochs=3).fit(rows, fitted[2])
    why = model.explain(rows, 7, outcome="gone")
    full = model.predict_proba(rows[rows.k == 7])["gone"].iloc[0]
    for label in why.index[:3]:
        without = model.predict_proba(rows[rows.k == 7].drop(index=label))["gone"].iloc[0]
        assert abs(full - without - why.loc[label, "contribution"]) < 1e-5
    assert abs(why["attention"].sum() - 1) < 1e-9 and abs(why["max_share"].sum() - 1) < 1e-9


def test_one_row_and_a_very_large_group(fitted):
    model, rows, _ = fitted
    one = rows.iloc[[0]].assign(k=-1)
    large = rows.sample(100_000, replace=True, random_state=0).assign(k=-2)
    proba = model.predict_proba(pd.concat([rows, one, large]))
    assert np.isfinite(proba.to_numpy()).all() and len(proba) == 302
    assert len(model.explain(one, -1)) == 1


@pytest.mark.parametrize("how", ["unknown category", "new type of category", "missing values", "extra column"])
def test_strange_rows_are_answered(fitted, how):
    model, rows, _ = fitted
    strange = {"unknown category": lambda: rows.assign(kind="samovar"), "new type of category": lambda: rows.assign(kind=5),
               "missing values": lambda: rows.assign(price=np.nan, kind=None, time=pd.NaT), "extra column": lambda: rows.assign(more=1)}[how]()
    assert np.isfinite(model.predict_proba(strange).to_numpy()).all()


def test_notes_count_what_is_left_out():
    rows, target = shop(60)
    rows = rows.astype({"k": float})
    rows.loc[rows.index[:4], "k"] = np.nan
    target.index = target.index.astype(float)
    target = pd.concat([target[5:], pd.Series(["here"], index=[999.0])]).where(lambda t: t.index != 50)
    model = small(max_rows=12).fit(rows.assign(id=np.arange(len(rows)), same=1), target)
    notes = " | ".join(model.notes_)
    for said in ("4 of ", "5 keys of the rows have no target", "1 keys have no value", "1 keys of the target have no rows", "'id' is left out", "'same' is left out",
                 "more than max_rows=12"):
        assert said in notes or (said.startswith("5 keys") and "6 keys of the rows have no target" in notes), (said, notes)


@pytest.mark.parametrize("change, error, match", [
    (dict(task="ranking"), ValueError, "task='ranking'"), (dict(epochs=0), ValueError, "epochs=0"), (dict(pooling="median"), ValueError, "'median' is unknown"),
    (dict(by="q"), ValueError, "no column 'q'"), (dict(columns=["nope"]), ValueError, "no column 'nope'"), (dict(class_weight="heavy"), ValueError, "class_weight"),
    (dict(encoder="cnn"), ValueError, "encoder='cnn'")])
def test_wrong_options(change, error, match):
    rows, target = shop(30)
    with pytest.raises(error, match=match):
        DeepAggregator(**{"by": "k", "epochs": 1} | change).fit(rows, target)


@pytest.mark.parametrize("target, error, match", [
    (lambda t: t.to_numpy(), ValueError, "one value a row"), (lambda t: t.to_dict(), TypeError, "pandas Series"), (lambda t: t.where(t == "no"), ValueError, "not missing"),
    (lambda t: t.where(t == "gone"), ValueError, "single class"), (lambda t: pd.concat([t, t]), ValueError, "more than one value"),
    (lambda t: t.rename(index=str), ValueError, "keys like 0, the target has '0'")])
def test_wrong_targets(target, error, match):
    rows, right = shop(30)
    with pytest.raises(error, match=match):
        DeepAggregator("k", epochs=1).fit(rows, target(right))


def test_wrong_rows(fitted):
    model, rows, target = fitted
    with pytest.raises(ValueError, match="no column 'price'"):
        model.predict(rows.drop(columns="price"))
    with pytest.raises(ValueError, match="'price' holds infinity in 1 rows"):
        model.predict(rows.assign(price=rows.price.where(rows.index != 3, np.inf)))
    with pytest.raises(ValueError, match="0 rows"):
        model.predict(rows[:0])
    with pytest.raises(ValueError, match="no column is left"):
        DeepAggregator("k").fit(rows[["k"]].assign(c=1), target)
    with pytest.raises(KeyError, match="12345"):
        model.explain(rows, 12345)
    with pytest.raises(NotFittedError, match="call fit"):
        DeepAggregator("k").predict(rows)


def test_regression_and_composite_key():
    rows, _ = shop(200)
    rows["shop"] = np.where(rows.k % 2, "a", "b")
    target = rows.groupby(["k", "shop"]).price.max()
    model = small(["k", "shop"], task="regression", epochs=25, hidden=(32, 16)).fit(rows, target)
    assert model.score(rows, target) > 0.5 and isinstance(model.predict(rows).index, pd.MultiIndex)
    assert len(model.explain(rows, (3, "a"))) == (rows.k == 3).sum()


def test_unsupervised_halves_find_each_other():
    rng = np.random.default_rng(0)
    taste = rng.normal(size=(150, 3)).repeat(10, axis=0)
    rows = pd.DataFrame(taste + 0.5 * rng.normal(size=taste.shape), columns=list("abc")).assign(k=np.repeat(np.arange(150), 10))
    model = small(task=None, epochs=8, hidden=(32, 16)).fit(rows)
    half = np.arange(1500) % 2 == 0
    a, b = (model.transform(rows[m], classic=False) for m in (half, ~half))
    a, b = ((t - t.mean()) / (t.std() + 1e-9) for t in (a, b))
    nearest = ((a.to_numpy()[:, None] - b.to_numpy()[None]) ** 2).sum(-1).argmin(1)
    assert (nearest == np.arange(150)).mean() > 0.2    # by chance 1 in 150
    with pytest.raises(ValueError, match="task='classification'"):
        model.predict_proba(rows)


def test_scikit_learn_habits():
    model = DeepAggregator("k", pooling=["mean"], epochs=2)
    assert clone(model).get_params() == model.get_params()
    assert "pooling" in repr(model)


def test_no_encoder():
    rows, target = shop(60)
    model = small(pooling=["mean", "max"], encoder=None).fit(rows, target)
    n = len(model.encoder_.number_names_)
    table = model.transform(rows, classic=False)
    assert table.shape == (60, 2 * n)


def test_rows_compared_in_pairs_stay_few_at_a_time():
    rows, target = shop(40)
    rows = rows.drop(columns="time")
    model = small(pooling="set_transformer").fit(rows, target)
    crowd = rows.sample(9000, replace=True, random_state=0).assign(k=-2)
    with pytest.warns(UserWarning, match="1 groups have more than 4,096 rows, too many to compare in pairs"):
        proba = model.predict_proba(pd.concat([rows, crowd]))
    assert np.isfinite(proba.to_numpy()).all()
    np.testing.assert_allclose(proba.loc[target.index], model.predict_proba(rows), atol=1e-5)
