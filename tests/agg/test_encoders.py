"""The contract of encoders, one suite under all of them."""
import copy
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.base import clone

import dlagg.agg    # before Keras: it chooses the backend
import keras
from dlagg.agg import AutoEncoder, DeepAggregator, ImageEncoder, KerasEncoder, NumbersEncoder, SequenceEncoder, TabularEncoder, encoder_of, row_errors
from dlagg.agg.encoders_base import encoder_from, encoder_state
from dlagg.agg.encoders_image import stacked
from dlagg.agg.estimator_batches import GroupedRows, batch_of, cut, sampled
from dlagg.agg.estimator_fit import build
from dlagg.agg.estimator_target import hold_out
from dlagg.agg.estimator_training import Trainer, build_model
from dlagg.agg.pooling import pooling_layer

pytestmark = pytest.mark.usefixtures("compiled_once")
warnings.filterwarnings("ignore", category=UserWarning)
PIXELS = [f"p{i}" for i in range(4)]
TABLE = {"tabular": TabularEncoder, "none": NumbersEncoder, "lstm": lambda: SequenceEncoder(units=6), "autoencoder": lambda: AutoEncoder(pretrain_epochs=2),
         "gru": lambda: SequenceEncoder("gru", units=5, bidirectional=True),
         "keras": lambda: KerasEncoder(keras.Sequential([keras.layers.Dense(6, activation="tanh"), keras.layers.BatchNormalization()]))}
ARRAYS = {"image": lambda: ImageEncoder("photo", filters=(3, 3)), "pixels": lambda: ImageEncoder(columns=PIXELS, shape=(2, 2), filters=(3,)),
          "keras_array": lambda: KerasEncoder(keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5)]), column="photo")}
ALL = TABLE | ARRAYS
READS = {"image": ["photo"], "pixels": PIXELS, "keras_array": ["photo"]}    # the others read the rest


def make(n=40, seed=0):
    rng = np.random.default_rng(seed)
    k = np.repeat(np.arange(n), rng.integers(1, 9, n))
    m = len(k)
    rows = pd.DataFrame({"k": k, "price": rng.lognormal(size=m), "kind": rng.choice(["tea", "pot", "toy"], m), "photo": list(rng.normal(size=(m, 4, 4))),
                         "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.permutation(m), "h"), **{p: rng.normal(size=m) for p in PIXELS}})
    rows.loc[rows.index % 11 == 3, ["price", "kind"]] = [np.nan, None]
    return rows, pd.Series(np.where(rng.random(n) < 0.5, "yes", "no"), index=range(n))


def read_by(name):
    return READS.get(name, ["price", "kind", "time"])


def model_of(name, **options):
    return DeepAggregator("k", **{"encoder": ALL[name](), "columns": read_by(name), "hidden": (8, 6), "head": 4, "epochs": 2, "validation": 0.2, "weight_decay": 0.0,
                                  "pooling": ("mean", "max"), "random_state": 3} | options)


@pytest.fixture(scope="module", params=ALL)
def fitted(request):
    rows, target = make()
    return request.param, model_of(request.param).fit(rows, target), rows, target


@pytest.fixture(scope="module", params=ALL)
def encoded(request):
    "A fitted encoder, its frame, the groups, and what it makes of them."
    rows, _ = make(30, 1)
    frame, groups = rows[read_by(request.param)], rows["k"].to_numpy()
    encoder = ALL[request.param]().fit(frame, groups)
    return encoder, frame, groups, encoder.transform(frame, groups)


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_arrays_are_as_promised(encoded):
    encoder, frame, _, arrays = encoded
    assert {name: [list(a.shape[1:]), str(a.dtype)] for name, a in arrays.items()} == encoder.signature_
    assert all(len(a) == len(frame) and np.isfinite(a).all() for a in arrays.values())


def test_permuted_rows_same_arrays(encoded):
    encoder, frame, groups, arrays = encoded
    mixed = np.random.default_rng(2).permutation(len(frame))
    same(encoder.transform(frame.iloc[mixed], groups[mixed]), {name: a[mixed] for name, a in arrays.items()})


def test_a_group_is_encoded_alone_as_in_company(encoded):
    encoder, frame, groups, arrays = encoded
    mine = groups == 4
    same(encoder.transform(frame[mine], groups[mine]), {name: a[mine] for name, a in arrays.items()})
    if encoder.rowwise:
        same(encoder.transform(frame[:1], groups[:1]), {name: a[:1] for name, a in arrays.items()})


def test_json_round_trip(encoded):
    encoder, frame, groups, arrays = encoded
    again = encoder_from(json.loads(json.dumps(encoder_state(encoder))))
    same(again.transform(frame, groups), arrays)
    assert again.signature_ == encoder.signature_ and type(again) is type(encoder)


def test_clone_is_unfitted(encoded):
    other = clone(encoded[0])
    assert type(other) is type(encoded[0]) and not hasattr(other, "schema_")
    assert isinstance(encoder_of(encoded[0]), type(encoded[0]))


def untrained(monkeypatch):
    "Estimators fit their encoder and stop there, which takes no compiler."
    monkeypatch.setattr(Trainer, "fit", lambda self, *args: self)


def test_nothing_but_training_rows_is_learned(monkeypatch):
    untrained(monkeypatch)
    rows, target = make(60)
    strata = (target == "yes").to_numpy().astype(int)
    _, held = hold_out(60, 0.2, strata, np.random.default_rng(3))
    assert len(held) == 12
    strange = rows.copy()
    mine = strange["k"].isin(held)
    strange.loc[mine, ["price", "kind", "time"]] = [1e6, "samovar", pd.Timestamp("1999-01-01")]
    for name in TABLE:
        a, b = (encoder_state(model_of(name, epochs=1).fit(r, target).encoder_)["fitted"] for r in (rows, strange))
        assert json.dumps(a) == json.dumps(b)


def test_company_and_order_do_not_matter(fitted):
    _, model, rows, _ = fitted
    whole = model.predict_proba(rows)
    np.testing.assert_allclose(model.predict_proba(rows.sample(frac=1, random_state=3)), whole, atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(rows[rows.k.isin([2, 17])]), whole.loc[[2, 17]], atol=1e-5)
    large = rows.sample(3000, replace=True, random_state=0).assign(k=-1)
    np.testing.assert_allclose(model.predict_proba(pd.concat([rows, large])).loc[whole.index], whole, atol=1e-5)


def test_strange_rows_are_answered(fitted):
    _, model, rows, _ = fitted
    empty = rows.assign(price=np.nan, kind=None, time=pd.NaT, photo=None, **{p: np.nan for p in PIXELS})
    one = rows.iloc[[0]].assign(k=-5)
    for strange in (rows.assign(kind="samovar", more=1), empty, one, rows.assign(price=2.0, kind="tea")):
        assert np.isfinite(model.predict_proba(strange).to_numpy()).all()


def test_a_missing_column_is_named(fitted):
    name, model, rows, _ = fitted
    column = read_by(name)[0]
    with pytest.raises(ValueError, match=f"no column '{column}'"):
        model.predict_proba(rows.drop(columns=column))


def test_saved_and_loaded(fitted, tmp_path):
    _, model, rows, _ = fitted
    model.save(tmp_path / "m")
    again = DeepAggregator.load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.predict_proba(rows), model.predict_proba(rows), check_exact=True)
    assert not any(p.suffix in (".pkl", ".keras") for p in (tmp_path / "m").iterdir())


def test_every_weight_of_the_encoder_moved(fitted):
    name, model, rows, _ = fitted
    start = copy.copy(model)
    build(start)
    for before, after in zip(start.model_.encoder.trainable_variables, model.model_.encoder.trainable_variables):
        assert np.abs(np.asarray(before) - np.asarray(after)).max() > 0, after.path
    assert name == "none" or model.model_.encoder.trainable_variables


@pytest.mark.parametrize("name", ["lstm", "autoencoder", "image", "keras"])
def test_same_seed_same_bits(name):
    rows, target = make()
    a, b = (model_of(name, epochs=1).fit(rows, target) for _ in range(2))
    pd.testing.assert_frame_equal(a.predict_proba(rows), b.predict_proba(rows), check_exact=True)


def test_constant_columns_are_left_out_and_said():
    rows, target = make()
    model = model_of("lstm", columns=None, epochs=1).fit(rows[["k", "price", "time"]].assign(same=1), target)
    assert any("'same' is left out" in note for note in model.notes_)


SIZES = {"heavy tail": lambda rng: np.maximum(rng.pareto(1.1, 400) * 5, 1).astype(int), "two kinds": lambda rng: np.where(rng.random(400) < 0.05, 256, 1),
         "one giant": lambda rng: np.r_[20_000, rng.integers(1, 4, 399)], "all alike": lambda rng: np.full(400, 7), "steps": lambda rng: 2 ** rng.integers(0, 9, 400)}


@pytest.mark.parametrize("task", ["regression", None])
@pytest.mark.parametrize("name", ["lstm", "tabular"])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_compiles_a_handful_of_times(sizes, name, task):
    rng = np.random.default_rng(0)
    n = SIZES[sizes](rng)
    rows, _ = make(30)
    encoder = ALL[name]().fit(rows[["price", "kind"]], rows["k"].to_numpy())
    arrays = {a: np.zeros((n.sum(), *shape), dtype) for a, (shape, dtype) in encoder.signature_.items()}
    grouped = GroupedRows(arrays, np.r_[0, np.cumsum(n)], np.arange(n.sum()), encoder.contextual)
    options = DeepAggregator("k", hidden=(4,)).get_params(deep=False)
    model, *_ = build_model(encoder, options, 1, pooling_layer(["mean"], empty=0.0))
    trainer, chosen = Trainer(model, task, options, rng), np.flatnonzero(n > (task is None))
    y, weight = np.zeros(400, np.float32), np.ones(400, np.float32)
    for _ in range(6 if len(chosen) else 0):
        for batch, *_ in trainer.batches(grouped, rng.permutation(chosen), y, weight, rng):
            assert batch["numbers"].shape[0] <= 32_768
    assert len(trainer.shapes) < 10, trainer.shapes


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 20))
def test_boxes_hold_every_row_once(sizes, most):
    sizes = np.array(sizes)
    rows = GroupedRows({"x": np.arange(sizes.sum())[:, None].astype(np.float32)}, np.r_[0, np.cumsum(sizes)], np.arange(sizes.sum()), contextual=True)
    at, ids = sampled(rows, np.arange(len(sizes)), most, None)
    assert (np.bincount(ids, minlength=len(sizes)) == np.minimum(sizes, most)).all()
    for g in range(len(sizes)):
        assert at[ids == g].tolist() == list(range(rows.starts[g + 1] - min(sizes[g], most), rows.starts[g + 1]))    # the last ones, in order
    batch = batch_of(rows, at, ids, len(sizes), least=8)
    lines, length = batch["line"].shape
    place = batch["place"][:len(at)]
    assert len(set(place)) == len(place) and (place // length == ids).all() and (batch["place"][len(at):] == lines * length).all()
    assert np.array_equal(np.sort(place), np.flatnonzero(batch["line"].ravel()))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60))
def test_boxes_stay_small(sizes):
    sizes = np.array(sizes)
    parts = cut(sizes, np.argsort(sizes, kind="stable"), 1023, 4096, boxed=True)
    assert np.concatenate(parts).tolist() == np.argsort(sizes, kind="stable").tolist()
    for part in parts:
        assert len(part) == 1 or 2 ** np.ceil(np.log2(len(part))) * 2 ** np.ceil(np.log2(sizes[part].max())) <= 4 * 4096


def test_ties_in_time_keep_the_order_of_the_table():
    rows, target = make()
    rows["time"] = rows["time"].dt.floor("5D")
    model = model_of("lstm", epochs=1).fit(rows, target)
    backwards = rows.iloc[::-1]
    assert np.abs(model.predict_proba(backwards) - model.predict_proba(rows)).to_numpy().max() > 1e-6
    by_time = rows.sort_values("time", kind="stable")
    np.testing.assert_allclose(model.predict_proba(by_time), model.predict_proba(rows), atol=1e-6)


def test_a_long_sequence_gives_its_last_rows():
    rows, target = make()
    model = model_of("lstm", max_rows=4, epochs=1).fit(rows, target)
    assert any("max_rows=4 rows; training reads the last of them" in note for note in model.notes_)


def test_the_sequence_encoder_learns_an_order():
    "Two groups of one content: `a` comes before `b`, or after."
    rng = np.random.default_rng(0)
    n = 240
    rows = pd.DataFrame({"k": np.repeat(np.arange(n), 4), "step": np.tile(np.arange(4), n)})
    first = rng.random(n) < 0.5
    rows["what"] = np.concatenate([["a", "b"] if f else ["b", "a"] for f in np.c_[first, first].ravel()])
    target = pd.Series(first.astype(int), index=range(n))
    auc = {}
    for name in ("lstm", "tabular"):
        encoder = SequenceEncoder(time="step", units=8) if name == "lstm" else "tabular"
        columns = ["what", "step"] if name == "lstm" else ["what"]
        auc[name] = model_of(name, encoder=encoder, columns=columns, epochs=15, patience=15, learning_rate=1e-2).fit(rows[rows.k < 180], target[:180]).score(rows[rows.k >= 180], target[180:])
    assert auc["lstm"] > 0.95 and auc["tabular"] < 0.7


def test_autoencoder_without_a_target():
    rows, _ = make(60)
    model = model_of("autoencoder", task=None, encoder="autoencoder", epochs=6).fit(rows)
    assert list(model.history_.columns) == ["epoch", "reconstruction", "val_reconstruction"]
    assert model.history_.reconstruction.iloc[-1] < model.history_.reconstruction.iloc[0]
    errors = row_errors(model, rows)
    assert errors.index.equals(rows.index) and (errors > 0).all()
    assert model.transform(rows, classic=False).shape == (60, 12)


def test_keras_models_are_options():
    rows, target = make()
    network = keras.Sequential([keras.Input((16,)), keras.layers.Dense(4)])
    network.layers[0].trainable = False
    rows["photo"] = [p.ravel() for p in rows["photo"]]
    before = [w.copy() for w in network.get_weights()]
    model = model_of("keras", encoder=KerasEncoder(network, column="photo"), columns=["photo"]).fit(rows, target)
    for a, b, c in zip(before, network.get_weights(), model.model_.encoder.get_weights()):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)    # frozen
    with pytest.raises(ValueError, match="cannot read rows of shape"):
        model_of("keras", encoder=keras.Sequential([keras.Input((7,)), keras.layers.Dense(4)])).fit(rows, target)
    with pytest.raises(ValueError, match="Lambda layers"):
        model_of("keras", encoder=keras.Sequential([keras.layers.Lambda(lambda x: x)])).fit(rows, target)


@pytest.mark.parametrize("cells, error, match", [
    ([np.ones((2, 2)), np.ones((2, 3))], ValueError, "row 1: the array has shape"), ([np.ones(2), "x"], TypeError, "row 1: the cell holds"),
    ([None, None], ValueError, "all of its 2 cells are missing"), ([[[1], [1, 2]]], ValueError, "different lengths"), ([np.array([np.inf])], ValueError, "NaN or infinity")])
def test_wrong_cells_are_named(cells, error, match):
    with pytest.raises(error, match=match):
        stacked(pd.Series(cells, name="photo", dtype=object))


def test_list_columns_of_arrow_and_polars(monkeypatch):
    untrained(monkeypatch)
    pa = pytest.importorskip("pyarrow")
    rows, target = make()
    nested = pa.table({"k": rows["k"].to_numpy(), "photo": [p.tolist() for p in rows["photo"]]})
    want = model_of("image").fit(rows, target)
    tables = [nested]
    try:
        import polars
        tables.append(polars.from_arrow(nested))
    except ImportError:
        pass    # an optional kind of table
    for table in tables:
        np.testing.assert_allclose(model_of("image").fit(table, target).predict_proba(table), want.predict_proba(rows), atol=1e-5)


def test_names():
    for what, kind in [("tabular", TabularEncoder), ("sequence", SequenceEncoder), ("image", ImageEncoder), ("autoencoder", AutoEncoder), (None, NumbersEncoder),
                       (keras.layers.Dense(3), KerasEncoder)]:
        assert type(encoder_of(what)) is kind
    with pytest.raises(ValueError, match="'tabular', 'sequence', 'image', 'autoencoder', None, an Encoder, or a Keras model or layer"):
        encoder_of("lstm")
