"""Explanations against brute force through the public model; the wishes of the Shapley value; every pooling; odd groups."""
import itertools
import re
import warnings
from math import factorial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from dlagg.agg.estimator import DeepAggregator
from dlagg.agg.explain import column_importance, contributions, explain_columns, explain_group, explain_vector, kinds_of_rows, plot_explanation, plot_waterfall
from dlagg.agg.explain_columns import shuffled
from dlagg.agg.explain_games import MergedGame, RerunGame, StandInGame, encoded, leave_one_out, nobody, reading_of
from dlagg.agg.explain_shapley import all_coalitions, block_shapley, exact_shapley, permutation_shapley, shapley
from dlagg.agg.explain_vector import TERMS, pooling_terms
from dlagg.agg.pooling import POOLINGS, pooling_layer
from dlagg.agg.states import Max, Softmax, Std
from dlagg.tables.datasets import load_shop

pytestmark = pytest.mark.usefixtures("compiled_once")
warnings.filterwarnings("ignore", category=UserWarning)


def table(n=30, seed=0, dates=False):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 8, n)
    sizes[:4] = (1, 4, 6, 7)
    rows = pd.DataFrame({"k": np.repeat(np.arange(n), sizes), "x": rng.normal(size=sizes.sum()), "y": rng.normal(size=sizes.sum()),
                         "kind": rng.choice(["tea", "pot"], sizes.sum())})
    if dates:
        rows["time"] = pd.Timestamp("2025-01-01") + pd.to_timedelta(rng.integers(0, 9000, len(rows)), "h")
    rows = rows.sample(frac=1, random_state=seed).reset_index(drop=True)
    return rows, rows.groupby("k").x.max().gt(0.7).map({True: "high", False: "low"})


def fit(rows, target, **options):
    return DeepAggregator("k", **{"hidden": (8,), "head": 8, "validation": 0, "epochs": 1} | options).fit(rows, target)


@pytest.fixture(scope="module")
def fitted():
    rows, target = table()
    return fit(rows, target, epochs=5), rows


@pytest.fixture(scope="module")
def dated():
    rows, target = table(dates=True)
    return fit(rows, target, epochs=3), rows


def chance(model, rows, outcome="high"):
    "The public model's answer for one group."
    return model.predict_proba(rows)[outcome].iloc[0]


def by_definition(worth, n):
    "Shapley values from the worth of every frozenset, in plain loops."
    shares = np.zeros(n)
    for i in range(n):
        for size in range(n):
            for S in itertools.combinations([j for j in range(n) if j != i], size):
                shares[i] += factorial(size) * factorial(n - 1 - size) / factorial(n) * (worth[frozenset(S) | {i}] - worth[frozenset(S)])
    return shares


# games

def test_exact_is_the_definition():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 7):
        worth = rng.normal(size=1 << n)
        shares = exact_shapley(lambda masks: worth[masks @ (1 << np.arange(n))], n)
        plain = by_definition({frozenset(np.flatnonzero(m)): w for m, w in zip(all_coalitions(n), worth)}, n)
        np.testing.assert_allclose(shares.values, plain, atol=1e-12)
        assert shares.gap < 1e-12 and (shares.std_error == 0).all()


@pytest.mark.parametrize("pairs", [1, 2, 7])
def test_sampled_orders_always_add_up(pairs):
    rng = np.random.default_rng(pairs)
    worth = rng.normal(size=1 << 8)
    shares = permutation_shapley(lambda masks: worth[masks @ (1 << np.arange(8))], 8, pairs, rng)
    assert shares.gap < 1e-12 and np.isnan(shares.std_error).all() == (pairs == 1)


def test_the_wishes():
    value = lambda masks: masks[:, 0] * masks[:, 1] * 1.0 + 2.0 * masks[:, 3]    # 0 and 1 only together, 2 never, 3 alone
    for shares in (exact_shapley(value, 4), permutation_shapley(value, 4, 50)):
        np.testing.assert_allclose(shares.values[[2, 3]], [0, 2], atol=1e-12)
    np.testing.assert_allclose(exact_shapley(value, 4).values, [0.5, 0.5, 0, 2])


def test_sampling_finds_the_exact_values():
    rng = np.random.default_rng(0)
    w, pull = rng.normal(size=9), rng.normal(size=(9, 9))
    value = lambda masks: np.tanh(masks @ w + np.einsum("ci,ij,cj->c", masks, pull, masks * 1.0))
    exact, guess = shapley(value, 9), shapley(value, 9, budget=500)
    assert exact.n_permutations == 0 and guess.n_permutations > 0
    assert (np.abs(exact.values - guess.values) < 5 * guess.std_error).all()


def test_blocks_add_up_and_find_the_row():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(500, 2))
    points[123] = 5
    shares, block = block_shapley(lambda masks: masks[:, 123] + masks.mean(axis=1), points, most=24, budget=600)
    assert shares.gap < 1e-9 and shares.values.argmax() == 123 and (block == block[123]).sum() == 1


@pytest.mark.parametrize("value, match", [(lambda m: np.full(len(m), np.nan), "NaN or infinity"), (lambda m: np.zeros(2), "shape")])
def test_a_broken_game_is_refused(value, match):
    with pytest.raises(ValueError, match=match):
        exact_shapley(value, 3)


@pytest.mark.parametrize("state, heads", [(Max(), 0), (Std(ddof=0), 0), (Softmax(), 2)])
def test_leave_one_out_of_many_groups(state, heads):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, 40) * 3
    columns = (30 * rng.normal(size=(40, heads)), rng.normal(size=(40, heads, 3))) if heads else (rng.normal(size=(40, 3)),)
    fast = leave_one_out(state, *columns, groups=groups)
    for i in range(40):
        rest = (groups == groups[i]) & (np.arange(40) != i)
        np.testing.assert_allclose(fast[i], state.finish(state.init(np.zeros(rest.sum()), *[c[rest] for c in columns]), [0])[0], rtol=1e-10, atol=1e-12)


LAYERS = {}    # made once: a layer's weights must be the same for every example


def layer(name):
    LAYERS.setdefault(name, pooling_layer(name, empty=0.0))
    return LAYERS[name]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.sampled_from([1, 2, 5]), tied=st.booleans(), far=st.sampled_from([0.0, 30.0]))
@pytest.mark.parametrize("name", [name for name, kind in POOLINGS.items() if kind in TERMS])
def test_terms_add_up_to_the_vector(name, seed, n, tied, far):
    Z = (np.random.default_rng(seed).normal(size=(n, 3)) + far).astype(np.float32)
    Z[0] = Z[-1] if tied else Z[0]
    pooled = np.asarray(layer(name)(Z, np.zeros(n, np.int32), num_segments=1))[0]
    np.testing.assert_allclose(pooling_terms(layer(name), Z).sum(axis=0), pooled, rtol=1e-4, atol=1e-4)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.sampled_from([2, 5]))
@pytest.mark.parametrize("name", [name for name, kind in POOLINGS.items() if kind.mergeable])
def test_leaving_out_is_pooling_the_rest(name, seed, n):
    Z, pool = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32), layer(name)
    columns = pool.columns(Z)
    without = np.asarray(pool.close(leave_one_out(pool.twin(), *columns)))
    for i in range(n):
        rest = np.asarray(pool(np.delete(Z, i, axis=0), np.zeros(n - 1, np.int32), num_segments=1))[0]
        np.testing.assert_allclose(without[i], rest, rtol=1e-3, atol=1e-4)


# rows

def test_leave_one_out_is_deleting_the_row(fitted):
    model, rows = fitted
    why = explain_group(model, rows, 2, outcome="high")
    own = rows[rows.k == 2]
    full = chance(model, own)
    for i in why.index:
        assert abs(why.loc[i, "contribution"] - (full - chance(model, own.drop(index=i)))) < 1e-5
    assert why.attrs["method"] == "leave_one_out" and why.attrs["features"] == "kept" and abs(why.attrs["prediction"] - full) < 1e-5
    assert abs(why["attention"].sum() - 1) < 1e-9 and abs(why["max_share"].sum() - 1) < 1e-9
    assert (np.diff(why["contribution"].abs()) <= 0).all() and set(why.index) == set(own.index)


def test_shapley_is_brute_force(fitted):
    model, rows = fitted
    why = explain_group(model, rows, 1, outcome="high", method="shapley")
    own = rows.loc[sorted(why.index)]
    worth = {frozenset(S): chance(model, own.iloc[list(S)]) if S else why.attrs["baseline"] for size in range(5) for S in itertools.combinations(range(4), size)}
    np.testing.assert_allclose(why.loc[own.index, "contribution"], by_definition(worth, 4), atol=1e-5)
    assert why.attrs["gap"] < 1e-9 and why.attrs["n_coalitions"] == 16


@pytest.mark.parametrize("baseline", ["nobody", "others"])
def test_equal_rows_have_equal_shares(fitted, baseline):
    model, rows = fitted
    own = rows[rows.k == 1]
    twice = pd.concat([rows, own.iloc[:1].rename(index={own.index[0]: -1})])
    for method, tol in [("leave_one_out", 1e-6), ("shapley", 1e-6)]:
        shares = explain_group(model, twice, 1, "high", method, baseline=baseline)["contribution"]
        assert abs(shares[-1] - shares[own.index[0]]) < tol


@pytest.mark.parametrize("baseline", ["nobody", "others"])
@pytest.mark.parametrize("features", ["kept", "again"])
def test_shares_add_up_from_every_baseline(fitted, baseline, features):
    model, rows = fitted
    why = explain_group(model, rows, 3, "high", "shapley", features, baseline)
    assert abs(why.attrs["baseline"] + why["contribution"].sum() - chance(model, rows[rows.k == 3])) < 1e-5


def test_merging_and_running_again_agree(fitted):
    model, rows = fitted
    own = rows[rows.k == 2]
    Z, strangers = encoded(model, own)[0], rows.sample(12, random_state=1)
    empty, n = nobody(model, Z), len(own)
    games = [MergedGame(model, Z), RerunGame(model, own, empty), StandInGame(model, Z, encoded(model, strangers.assign(k=0))[0].reshape(2, n, -1)), RerunGame(model, own, empty, strangers)]
    for game in games:
        game.read = lambda v, a: a()[:, 0].astype(np.float64)
    for a, b in (games[:2], games[2:]):
        np.testing.assert_allclose(a.value(all_coalitions(n)), b.value(all_coalitions(n)), atol=1e-5)


def test_sampled_shares_come_with_errors(fitted):
    model, rows = fitted
    exact, guess = (explain_group(model, rows, 3, "high", "shapley", budget=budget).sort_index() for budget in (1024, 120))
    assert "std_error" not in exact and (np.abs(exact["contribution"] - guess["contribution"]) < 6 * guess["std_error"] + 1e-9).all()
    assert guess.attrs["n_permutations"] == 20 and guess.attrs["gap"] < 1e-9


def test_dates_are_run_again(dated):
    model, rows = dated
    why = explain_group(model, rows, 2, "high")
    assert (why.attrs["method"], why.attrs["features"]) == ("shapley", "again") and why.attrs["gap"] < 1e-9
    one = explain_group(model, rows, 2, "high", "leave_one_out")
    own = rows[rows.k == 2]
    assert abs(one["contribution"].iloc[0] - (chance(model, own) - chance(model, own.drop(index=one.index[0])))) < 1e-5
    assert explain_group(model, rows, 2, "high", features="kept").attrs["method"] == "leave_one_out"


@pytest.mark.parametrize("name", sorted(POOLINGS))
def test_every_pooling_is_explained(name):
    rows, target = table()
    rows = rows.drop(columns="kind")
    model = fit(rows, target, pooling=name, encoder=None)    # the numbers themselves: nothing to compile but the pooling and the head
    why = explain_group(model, rows, 1)
    assert why.attrs["method"] == ("leave_one_out" if POOLINGS[name].mergeable else "shapley")
    shares = why if why.attrs["method"] == "shapley" else explain_group(model, rows, 1, method="shapley")
    predicted = model.predict_proba(rows[rows.k == 1])[shares.attrs["outcome"]].iloc[0]
    assert abs(shares.attrs["baseline"] + shares["contribution"].sum() - predicted) < 1e-5
    vector = explain_vector(model, rows, 1)
    own = model.transform(rows[rows.k == 1], classic=False).to_numpy()[0]
    np.testing.assert_allclose(vector.sum() + np.array(vector.attrs["baseline"]), own, rtol=2e-3, atol=1e-4)
    assert list(vector.attrs["how"].values()) == ["terms" if POOLINGS[name] in TERMS else "shapley"]


@pytest.mark.parametrize("encoder, pooling, method", [("sequence", "last", "shapley"), ("image", ["mean", "max"], "leave_one_out")])
def test_other_encoders(encoder, pooling, method):
    rows, target = table(dates=True)
    if encoder == "image":
        rows = rows[["k"]].assign(picture=list(np.random.default_rng(0).normal(size=(len(rows), 8, 8)).astype("float32")))
    model = fit(rows, target, encoder=encoder, pooling=pooling)
    own = rows[rows.k == 2]
    assert explain_group(model, rows, 2).attrs["method"] == method
    for baseline in ("nobody", "others"):
        why = explain_group(model, rows, 2, "high", "shapley", baseline=baseline)
        assert abs(why.attrs["baseline"] + why["contribution"].sum() - chance(model, own)) < 1e-5
    vector = explain_vector(model, rows, 2)
    np.testing.assert_allclose(vector.sum(), model.transform(own, classic=False).to_numpy()[0], rtol=1e-3, atol=1e-5)
    if encoder == "sequence":
        assert vector.abs().sum(axis=1).idxmax() == own.time.idxmax()    # the last in time, wherever it stands in the table
    assert explain_columns(model, rows, 2).attrs["gap"] < 1e-9


def test_regression_and_vectors_without_target():
    rows, _ = table()
    value = rows.groupby("k").x.max() * 10
    model = fit(rows, value, task="regression", epochs=3)
    why = explain_group(model, rows, 2, method="shapley")
    assert abs(why.attrs["baseline"] + why["contribution"].sum() - model.predict(rows[rows.k == 2]).iloc[0]) < 1e-3
    alone = fit(rows, None, task=None)
    moved = explain_group(alone, rows, 2)
    own = rows[rows.k == 2]
    full, without = (alone.transform(r, classic=False).to_numpy()[0] for r in (own, own.drop(index=moved.index[0])))
    assert abs(moved["contribution"].iloc[0] - np.linalg.norm(full - without)) < 1e-4
    shares = explain_group(alone, rows, 2, method="shapley")
    assert shares.attrs["baseline"] == 0 and abs(shares["contribution"].sum() - np.linalg.norm(full)) < 1e-3
    with pytest.raises(ValueError, match="has no classes"):
        explain_group(model, rows, 2, outcome=1)


# odd groups and wrong options

def test_a_group_of_one_row(fitted, dated):
    for model, rows in (fitted, dated):
        for method in ("leave_one_out", "shapley"):
            why = explain_group(model, rows, 0, "high", method)
            assert len(why) == 1 and abs(why.attrs["baseline"] + why["contribution"].iloc[0] - why.attrs["prediction"]) < 1e-5
    assert plot_waterfall(why) is not None and plot_explanation(why) is not None


def test_a_large_group_plays_in_blocks(dated, fitted):
    model, rows = dated
    large = rows.sample(300, replace=True, random_state=0).assign(k=-1)
    why = explain_group(model, large, -1, "high")
    assert why["block"].nunique() == 32 and why.attrs["gap"] < 1e-9
    model, rows = fitted
    assert len(explain_group(model, rows.sample(20_000, replace=True, random_state=0).assign(k=-1), -1)) == 20_000


def test_a_constant_column_matters_to_nobody():
    rows, target = table()
    with pytest.warns(UserWarning, match="'same' is left out"):
        model = fit(rows.assign(same=1.0), target)
    assert "same" not in explain_columns(model, rows.assign(same=1.0), 1).index
    still = fit(rows, target)
    frozen = rows.assign(y=0.5)
    assert explain_columns(still, frozen, 1).loc["y", "contribution"] == 0
    assert column_importance(still, frozen, target, columns=["y"]).loc["y", "drop"] == 0


def test_two_key_columns_and_names_taken():
    rows, _ = table()
    rows = rows.assign(shop=np.where(rows.k % 2, "a", "b"), contribution=rows.y, block=1)
    target = rows.groupby(["k", "shop"]).x.max()
    model = DeepAggregator(["k", "shop"], task="regression", hidden=(8,), head=8, validation=0, epochs=1).fit(rows, target)
    why = explain_group(model, rows, (3, "a"))
    assert len(why) == 7 and {"contribution", "row_contribution"} <= set(why) and len(explain_group(model, rows, (3, "a"), method="shapley")) == 7
    with pytest.raises(ValueError, match="has 2 parts"):
        explain_group(model, rows, 3)
    with pytest.raises(KeyError, match="no row has the key"):
        explain_group(model, rows, (3, "b"))


@pytest.mark.parametrize("change, error, match", [
    (dict(key=99), KeyError, "99"), (dict(outcome="maybe"), ValueError, "no class of this model"), (dict(method="magic"), ValueError, "method='magic'"),
    (dict(features="new"), ValueError, "features='new'"), (dict(baseline="zero"), ValueError, "baseline='zero'"), (dict(method="shapley", budget=2), ValueError, "budget=2")])
def test_wrong_options(fitted, change, error, match):
    model, rows = fitted
    with pytest.raises(error, match=match):
        explain_group(model, rows, **{"key": 3} | change)


def test_what_cannot_be_explained(fitted):
    model, rows = fitted
    with pytest.raises(NotFittedError, match="call fit"):
        explain_group(DeepAggregator("k"), rows, 3)
    with pytest.raises(ValueError, match="there are none"):
        explain_group(model, rows[rows.k == 3], 3, baseline="others")
    with pytest.raises(ValueError, match="background has no rows"):
        explain_columns(model, rows[rows.k == 3], 3)
    with pytest.raises(ValueError, match="method='shapley'"):
        plot_waterfall(explain_group(model, rows, 3, "high", "leave_one_out"))


def test_a_model_that_answers_differently_is_caught(fitted, monkeypatch):
    model, rows = fitted
    import dlagg.agg.explain_rows as module
    honest = module.apply_rows
    monkeypatch.setattr(module, "apply_rows", lambda *a: (lambda v, y: (v, y + [[0.5, -0.5]]))(*honest(*a)))
    with pytest.raises(ArithmeticError, match="away from the prediction"):
        explain_group(model, rows, 3, "high", "shapley")


# columns and kinds of rows

def test_columns_add_up(fitted, dated):
    for model, rows in (fitted, dated):
        table = explain_columns(model, rows, 2, outcome="high")
        assert set(table.index) == set(model.encoder_.schema_) and table.attrs["gap"] < 1e-9
        assert abs(table.attrs["prediction"] - chance(model, rows[rows.k == 2])) < 1e-5
        same = explain_columns(model, rows, 2, outcome="high", background=rows[rows.k == 2].iloc[:1].assign(x=0.0), method="leave_one_out", n_draws=1)
        assert len(same) == len(table)


def test_shuffled_within_groups_keeps_the_groups():
    rng, groups = np.random.default_rng(0), np.array([2, 0, 2, 2, 0, 1])
    values = pd.array([1, 2, 3, 4, 5, 6])
    seen = {tuple(shuffled(values, groups, rng)) for _ in range(200)}
    assert len(seen) == 12 and all(sorted(np.array(v)[groups == g]) == sorted(np.array(values)[groups == g]) for v in seen for g in range(3))


def test_contributions_of_all_groups_at_once(fitted):
    model, rows = fitted
    table = contributions(model, rows, "high")
    for k in (0, 2, 3):
        one = explain_group(model, rows, k, "high")["contribution"]
        np.testing.assert_allclose(table.loc[one.index, "contribution"], one, atol=1e-6)
    assert contributions(model, rows, n_groups=3).k.nunique() == 3
    with pytest.raises(ValueError, match="no column"):
        kinds_of_rows(table.assign(contribution=0.0), columns=[])


def test_the_planted_kind_of_row_is_found_in_the_shop():
    shop = load_shop()
    lines = shop.orders[["customer_id", "price", "discount", "delivery_days", "complaint", "rating"]]
    churned = shop.customers.set_index("customer_id")["churned"]
    held = churned.index[1400:]
    new = lines[lines.customer_id.isin(held)]
    model = DeepAggregator("customer_id", hidden=(32, 16), epochs=25, random_state=0).fit(lines[~lines.customer_id.isin(held)], churned[:1400])
    found = contributions(model, new, 1)
    kinds = kinds_of_rows(found)
    late = re.search(r"([\d.]+) < delivery_days|delivery_days > ([\d.]+)", kinds.kind[0])    # without the upper end of a range
    assert late and 6.5 <= float(late[1] or late[2]) <= 8.5 and "complaint = 1" in kinds.kind[0] and kinds.beyond[0] > 0.2
    truth = shop.truth["customers"].set_index("customer_id").loc[found.customer_id.unique()]
    best = found.loc[found.groupby("customer_id").contribution.idxmax()]
    line = pd.Series((shop.orders.order_id + shop.orders.product_id)[best.index].to_numpy(), index=best.customer_id)
    hurt = truth.index[truth.hurt == 1]
    assert (line[hurt] == (truth.cause_order + truth.cause_product)[hurt]).mean() > 0.9
    within = column_importance(model, new, churned, shuffle="within", metric="auc", n_repeats=2)
    assert set(within.index[:2]) == {"delivery_days", "complaint"}
