"""The contract of DeepAggregator: scikit-learn's own checks where a long table can obey them, and ours, for every task and encoder."""
import ast
import json
import warnings

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

from conftest import ROOT
from dlagg.agg import DeepAggregator
from dlagg.agg.encoders import _NAMES as ENCODERS

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("compiled_once")]
TASKS = ["binary", "three classes", "regression", None]
NAMES = [name for name in ("tabular", None, "sequence", "autoencoder") if name in ENCODERS]
CASES = [(task, "tabular") for task in TASKS] + [("binary", name) for name in NAMES[1:]] + [(None, "sequence")]


def table(n=40, seed=0):
    "Rows of `n` groups, mixed, with every plain type of column."
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 9, n)))
    m = len(rows)
    events = pd.DataFrame({"k": rows, "x": rng.normal(size=m), "n": rng.integers(0, 50, m), "kind": rng.choice(["tea", "pot", "cup"], m), "flag": rng.random(m) < 0.3,
                           "time": pd.Timestamp("2024-03-01") + pd.to_timedelta(rng.permutation(m) * 3671, "s"), "took": pd.to_timedelta(rng.integers(1, 90, m), "min")})
    events.loc[events.index % 11 == 3, ["x", "kind"]] = [np.nan, None]
    return events


def target_of(task, n=40, seed=0):
    rng = np.random.default_rng(seed + 1)
    if task == "binary":
        return pd.Series(np.arange(n) % 2)
    if task == "three classes":
        return pd.Series(np.array(["red", "green", "blue"])[np.arange(n) % 3])
    return pd.Series(rng.normal(50, 9, n)) if task == "regression" else None


def small(task="binary", **options):
    task = "classification" if task in ("binary", "three classes") else task
    return DeepAggregator("k", task=task, **{"hidden": (6,), "head": 4, "embedding": 2, "epochs": 1, "validation": 0, "batch_size": 16, "pooling": ["mean", "max"]} | options)


def answers(model, events):
    "What the model says of every group, whatever its task."
    return model.transform(events, classic=False) if model.task is None else model.predict_proba(events) if model.task == "classification" else model.predict(events).to_frame()


def same(a, b, **tolerance):
    assert list(a.index) == list(b.index)
    np.testing.assert_allclose(a, b, **({"atol": 2e-5, "rtol": 1e-5} | tolerance))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]} {case[1]}")
def case(request):
    task, encoder = request.param
    events, target = table(), target_of(task)
    model = small(task, encoder=encoder)
    assert model.fit(events, target) is model
    return model, events, target


# scikit-learn's own checks ---------------------------------------------------------------------------------------------------

OWN = ["check_estimator_cloneable", "check_estimator_tags_renamed", "check_valid_tag_types", "check_estimator_repr", "check_no_attributes_set_in_init",
       "check_do_not_raise_errors_in_init_or_set_params", "check_mixin_order", "check_parameters_default_constructible", "check_get_params_invariance",
       "check_set_params", "check_estimators_unfitted", "check_get_feature_names_out_error"]


@pytest.mark.parametrize("check", OWN)
@pytest.mark.parametrize("task", ["classification", "regression", None])
def test_scikit_learns_own_checks(check, task):
    "Those that need no data, or fail before reading it. All others hand in a matrix without keys, which is no long table; see the suite below."
    getattr(estimator_checks, check)("DeepAggregator", DeepAggregator("k", task=task))


def test_fit_sets_only_attributes_that_end_in_an_underscore(case):
    model, events, target = case
    assert all(name.endswith("_") for name in set(vars(model)) - set(model.get_params(deep=False)))
    before = {name: value for name, value in vars(model).items()}
    answers(model, events), model.transform(events)
    assert vars(model) == before or all(vars(model)[name] is before[name] for name in before)


def test_names_of_the_columns(case):
    model, events, _ = case
    assert list(model.get_feature_names_out()) == list(model.transform(events).columns)


# the same answer -------------------------------------------------------------------------------------------------------------

def test_rows_in_any_order(case):
    model, events, _ = case
    same(answers(model, events.sample(frac=1, random_state=1)), answers(model, events))


def test_company_does_not_matter(case):
    model, events, _ = case
    largest = events.k.value_counts().index[0]
    for part in ([3], [largest, 5], [k for k in range(40) if k != largest]):
        same(answers(model, events[events.k.isin(part)]), answers(model, events).loc[sorted(part)])


def test_saved_and_loaded(case, tmp_path):
    model, events, _ = case
    model.save(tmp_path / "m")
    again = DeepAggregator.load(tmp_path / "m")
    same(answers(again, events), answers(model, events), atol=0, rtol=0)
    pd.testing.assert_frame_equal(again.transform(events), model.transform(events))
    assert again.get_params(deep=False).keys() == model.get_params(deep=False).keys() and again.notes_ == model.notes_
    for file in (tmp_path / "m").iterdir():
        assert file.suffix in (".json", ".npz") and b"pickle" not in file.read_bytes()
    with np.load(tmp_path / "m" / "weights.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_any_kind_of_table(case, tmp_path):
    model, events, _ = case
    truth = answers(model, events)
    events.to_parquet(tmp_path / "e.parquet")
    arrow = pa.Table.from_pandas(events, preserve_index=False)
    for source in (arrow, pl.from_arrow(arrow), tmp_path / "e.parquet"):
        same(answers(model, source), truth)
    plain = duckdb.connect().sql(f"select * from '{tmp_path}/e.parquet'")    # spans become whole numbers there: not silently
    if "took" in model.encoder_.schema_:
        with pytest.raises(ValueError, match="'took' held time spans when the model was fitted, and holds plain numbers"):
            answers(model, plain)


# odd rows --------------------------------------------------------------------------------------------------------------------

ODD = {"one row": lambda e: e[:1].assign(k=99), "unseen groups": lambda e: e.assign(k=e.k + 1000), "unknown category": lambda e: e.assign(kind="samovar"),
       "nothing but missing": lambda e: e.assign(x=np.nan, kind=None, time=pd.NaT), "all constant": lambda e: e.assign(x=1.0, n=2, kind="tea", flag=True),
       "more columns": lambda e: e.assign(more=1, yet="z"), "columns in another order": lambda e: e[e.columns[::-1]],
       "nullable types": lambda e: e.convert_dtypes(), "categories": lambda e: e.astype({"kind": "category"}), "half precision": lambda e: e.astype({"x": "float32", "n": "int8"})}


@pytest.mark.parametrize("how", ODD)
def test_odd_rows_are_answered(case, how):
    model, events, _ = case
    got, odd = answers(model, ODD[how](events)), ODD[how](events)
    assert np.isfinite(got.to_numpy()).all() and list(got.index) == sorted(odd.k.unique())
    if how in ("more columns", "columns in another order", "nullable types", "categories"):
        same(got, answers(model, events))


def test_wrong_rows_are_refused_by_name(case):
    model, events, _ = case
    for wrong, match in [(events.drop(columns="x"), "no column 'x'"), (events.rename(columns={"k": "q"}), "no column 'k'"), (events[:0], "0 rows"),
                         (events.assign(k=np.nan), "missing in all"), (events.assign(x=np.inf), "'x' holds infinity")]:
        with pytest.raises(ValueError, match=match):
            answers(model, wrong)


def test_a_group_of_100_000_rows():
    model = small(pooling=["mean", "max", "attention"]).fit(table(), target_of("binary"))
    rows = table().sample(100_000, replace=True, random_state=0).assign(k=-1)
    got = model.predict_proba(pd.concat([table(), rows]))
    assert np.isfinite(got.to_numpy()).all() and len(got) == 41
    same(got.loc[0:], model.predict_proba(table()))


# fitting ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("task", TASKS)
def test_repeats_bit_for_bit(task):
    events, target = table(), target_of(task)
    model = small(task, dropout=0.3, random_state=5)
    first = answers(model.fit(events, target), events)
    same(answers((model if task in ("binary", None) else clone(model)).fit(events, target), events), first, atol=0, rtol=0)    # a second fit forgets the first


def test_fit_does_not_depend_on_the_order_of_rows_or_on_strangers():
    events, target = table(), target_of("regression")
    first = small("regression").fit(events, target).predict(events)
    mixed = pd.concat([events, events.assign(k=events.k + 500, x=1e6)]).sample(frac=1, random_state=2)    # their keys have no target
    same(small("regression").fit(mixed, target).predict(events).to_frame(), first.to_frame(), atol=1e-3)


def test_nothing_is_learned_from_held_out_groups_or_strangers():
    "Means and vocabularies come from rows of training groups only."
    events, target = table(), target_of("binary")
    extra = events.assign(k=events.k + 500, x=1e6, kind="stranger")
    model = small().fit(pd.concat([events, extra]), target)
    assert abs(model.encoder_.mean_[model.encoder_.number_names_.index("x")]) < 1 and "stranger" not in model.encoder_.schema_["kind"]["values"]


def test_everything_left_out_is_counted():
    events = table().astype({"k": float})
    target = target_of("binary").astype(object)
    target.index = target.index.astype(float)
    events.loc[events.index[:3], "k"] = np.nan
    target.loc[[4.0, 5.0]] = None
    target = target.drop(index=6.0)
    target.loc[777.0] = 1
    with pytest.warns(UserWarning) as caught:
        model = small(validation=0.2, max_rows=5).fit(events.assign(same=1, number=np.arange(len(events)) * 7919), target)
    said = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert said[:len(model.notes_)] == model.notes_ or set(model.notes_) <= set(said)
    text = " | ".join(model.notes_)
    for part in (f"3 of {len(events):,} rows have no 'k'", "2 keys have no value in the target", "3 keys of the rows have no target", "column 'same' is left out", "groups have more than max_rows=5"):
        assert part in text, (part, text)
    assert "1 keys of the target have no rows" in text


def test_too_few_groups_to_hold_out_are_said():
    with pytest.warns(UserWarning, match="12 groups are too few to hold some out"):
        small(validation=0.2).fit(table(12), target_of("binary", 12))


def test_unsupervised_needs_two_rows_a_group():
    events = table()
    alone = int((events.k.value_counts() == 1).sum())
    with pytest.warns(UserWarning, match=f"{alone} groups of one row cannot be halved"):
        model = small(None).fit(events)
    assert len(model.transform(events)) == 40
    with pytest.raises(ValueError, match="fewer than two groups have two rows"):
        small(None).fit(events.drop_duplicates("k"))
    for ask in ("predict", "predict_proba"):
        with pytest.raises(ValueError, match="needs task"):
            getattr(model, ask)(events)


KEYS = {"texts": lambda k: "c" + k.astype(str).str.zfill(3), "floats": lambda k: k + 0.5, "dates": lambda k: pd.Timestamp("2024-01-01") + pd.to_timedelta(k, "D"),
        "categories": lambda k: pd.Categorical.from_codes(k, [f"c{i:03d}" for i in range(40)]), "nullable": lambda k: k.astype("Int64")}


def test_keys_of_any_type():
    events, target = table(), target_of("regression")
    truth = small("regression", columns=["x", "n"]).fit(events, target).predict(events).to_numpy()
    for name, to in KEYS.items():
        other = target.set_axis(pd.Index(to(target.index.to_series())))
        got = small("regression", columns=["x", "n"]).fit(events.assign(k=to(events.k)), other).predict(events.assign(k=to(events.k)))
        assert list(got.index) == list(other.index), name
        np.testing.assert_allclose(got, truth, atol=1e-5, err_msg=name)


def test_composite_keys():
    events = table().assign(half=lambda e: np.where(e.k % 2, "odd", "even"))
    by = ["half", "k"]
    index = pd.MultiIndex.from_frame(events[by].drop_duplicates())
    model = small(None, epochs=1).set_params(by=by, task="classification").fit(events, pd.Series(np.arange(40) % 2, index=index))
    got = model.predict_proba(events)
    assert got.index.names == by and len(got) == 40 and set(got.index) == set(index)


@pytest.mark.parametrize("target, error, match", [
    (pd.Series([1] * 40), ValueError, "single class, 1"), (pd.Series([np.nan] * 40), ValueError, "not missing"), (pd.Series(["a", 1] * 20), TypeError, "do not sort"),
    (pd.Series([0, 1] * 20, index=[0] * 40), ValueError, "more than one value for the key 0"), (None, TypeError, "target is NoneType"),
    (pd.Series([0, 1] * 20, index=[f"{i}" for i in range(40)]), ValueError, "keys like 0, the target has '0'")])
def test_wrong_targets(target, error, match):
    with pytest.raises(error, match=match):
        small().fit(table(), target)


@pytest.mark.parametrize("option", [dict(task="ranking"), dict(epochs=0), dict(epochs=2.5), dict(batch_size=True), dict(validation=1), dict(dropout=1.0), dict(learning_rate=0), dict(weight_decay=-1),
                                    dict(hidden=(0,)), dict(random_state="a"), dict(pooling="median"), dict(pooling=[]), dict(encoder="magic"), dict(columns=["q"]), dict(class_weight="heavy"),
                                    dict(class_weight={0: 1}), dict(class_weight={0: 0, 1: 0}), dict(by="q")], ids=str)
def test_wrong_options_are_named(option):
    name, value = next(iter(option.items()))
    with pytest.raises((ValueError, TypeError), match=name.split("_")[0]):
        DeepAggregator(**{"by": "k", "epochs": 1} | option).fit(table(), target_of("binary"))


def test_wrong_regression_targets():
    with pytest.raises(TypeError, match="takes numbers"):
        small("regression").fit(table(), target_of("three classes"))
    with pytest.raises(ValueError, match="holds infinity for 1 keys"):
        small("regression").fit(table(), target_of("regression").replace({target_of("regression")[3]: np.inf}))


def test_class_weights_move_the_answer():
    rare = pd.Series((np.arange(40) < 6).astype(int))
    mean = {w if isinstance(w, (str, type(None))) else "dict": small(class_weight=w, epochs=12, learning_rate=0.02).fit(table(), rare).predict_proba(table())[1].mean()
            for w in (None, "balanced", {0: 1, 1: 34 / 6})}
    assert mean["balanced"] > mean[None] + 0.1 and mean["dict"] == pytest.approx(mean["balanced"], abs=0.02)


def test_classes_keep_their_type():
    for values in ([True, False], pd.array([3, 0], "Int64"), pd.Categorical(["u", "v"])):
        target = pd.Series(values).take(np.arange(40) % 2).set_axis(range(40))
        model = small(columns=["n"]).fit(table(), target)
        assert model.classes_.tolist() == sorted(set(target.tolist())) and set(model.predict(table())) <= set(target.tolist())


def test_early_stopping_restores_the_best_weights():
    events, target = table(80), pd.Series(np.random.default_rng(0).integers(0, 2, 80))    # noise: the held-out loss soon rises
    options = dict(validation=0.25, learning_rate=0.05, random_state=3)
    stopped = small(epochs=40, patience=3, **options).fit(events, target)
    best = int(stopped.history_.val_loss.idxmin()) + 1
    assert best <= len(stopped.history_) - 3 < 37
    until = small(epochs=best, patience=40, **options).fit(events, target)
    same(stopped.predict_proba(events), until.predict_proba(events), atol=0, rtol=0)


def test_progress_goes_to_the_error_stream(capfd):
    small(verbose=True, epochs=2).fit(table(), target_of("binary"))
    out, err = capfd.readouterr()
    assert not out and "epoch" in err and "2/2" in err
    small().fit(table(), target_of("binary"))
    assert "epoch" not in capfd.readouterr().err


# files -----------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    small(class_weight={0: 1.0, 1: 2.0}).fit(table(), target_of("binary")).save(folder)
    return folder


@pytest.mark.parametrize("name, change, error, match", [
    ("weights.npz", lambda b: b[:-1] + b"!", ValueError, "changed or damaged"), ("model.json", lambda b: b.replace(b'"mean_"', b'"mean_" '), ValueError, "changed or damaged"),
    ("weights.npz", None, ValueError, "is missing"), ("model.json", None, ValueError, "is missing"), ("manifest.json", None, FileNotFoundError, "holds no saved model"),
    ("manifest.json", lambda b: b"{", ValueError, "is damaged"), ("manifest.json", lambda b: json.dumps(json.loads(b) | {"format": 99}).encode(), ValueError, "update it")])
def test_damaged_files_are_refused(saved, tmp_path, name, change, error, match):
    folder = tmp_path / "m"
    folder.mkdir()
    for file in saved.iterdir():
        content = file.read_bytes() if file.name != name else change and change(file.read_bytes())
        if content is not None:
            (folder / file.name).write_bytes(content)
    with pytest.raises(error, match=match):
        DeepAggregator.load(folder)


def test_unfitted_models_answer_nothing(tmp_path):
    for ask in (lambda m: m.predict(table()), lambda m: m.transform(table()), lambda m: m.save(tmp_path / "m"), lambda m: m.score(table(), target_of("binary")), lambda m: m.get_feature_names_out()):
        with pytest.raises(NotFittedError, match="call fit"):
            ask(small())
    assert not (tmp_path / "m").exists()


def test_no_pickle_anywhere():
    for path in (ROOT / "dlagg" / "agg").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "joblib", "dill", "cloudpickle"} & {str(n).split(".")[0] for n in names}, path.name


# compilation -----------------------------------------------------------------------------------------------------------------

SIZES = {"all 1": lambda rng: np.ones(300, int), "geometric": lambda rng: rng.geometric(0.1, 300), "one of 100,000": lambda rng: np.r_[100_000, rng.integers(1, 9, 200)],
         "powers": lambda rng: 2 ** rng.integers(0, 11, 150), "uniform": lambda rng: rng.integers(1, 2001, 150)}


def compiled(function):
    "How many versions of Keras' jitted step exist."
    return sum(cell.cell_contents._cache_size() for cell in function.__closure__ if hasattr(cell.cell_contents, "_cache_size"))


@pytest.mark.parametrize("how", SIZES)
def test_few_compilations_for_any_group_sizes(how):
    rng = np.random.default_rng(0)
    sizes = SIZES[how](rng)
    events = pd.DataFrame({"k": np.repeat(np.arange(len(sizes)), sizes), "x": rng.normal(size=sizes.sum())})
    model = small(validation=0.2, epochs=2, batch_size=32, pooling="mean").fit(events, pd.Series(np.arange(len(sizes)) % 2))
    train, test = compiled(model.model_.train_function), compiled(model.model_.test_function)
    assert 1 <= train < 10 and 1 <= test < 10 and train + test < 10, (train, test)
    model.predict(events)
    assert compiled(model.reader_.predict_function) < 10
