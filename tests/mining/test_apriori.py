"""Apriori and FPGrowth as tools: brute force, rules from their definitions, every kind of baskets, limits, files, real data."""
import subprocess
import sys
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from conftest import need
from dlagg.mining import Apriori, FPGrowth, SearchTooLarge, plot_rules
from dlagg.mining.apriori import join, prune
from dlagg.mining.apriori_baskets import read_baskets
from dlagg.mining.apriori_rules import adjust, make_rules, upper_tail

BOTH = pytest.mark.parametrize("model", [Apriori, FPGrowth])
BASKETS = st.lists(st.frozensets(st.integers(0, 7), max_size=6), min_size=1, max_size=40).filter(any)


def brute(baskets, least):
    "Every subset of every basket, counted."
    tally = {}
    for basket in map(set, baskets):
        for k in range(1, len(basket) + 1):
            for items in combinations(sorted(basket), k):
                tally[frozenset(items)] = tally.get(frozenset(items), 0) + 1
    return {items: n for items, n in tally.items() if n >= least}


def as_dict(table):
    return dict(zip(table["items"], table["count"]))


@BOTH
@settings(max_examples=60, deadline=None)
@given(baskets=BASKETS, least=st.integers(1, 8), longest=st.one_of(st.none(), st.integers(1, 5)))
def test_the_sets_are_those_of_brute_force(model, baskets, least, longest):
    fitted = model(least, max_len=longest).fit(baskets)
    expected = {s: n for s, n in brute(baskets, least).items() if longest is None or len(s) <= longest}
    assert as_dict(fitted.itemsets_) == expected
    np.testing.assert_allclose(fitted.itemsets_.support, fitted.itemsets_["count"] / len(baskets))


@settings(max_examples=60, deadline=None)
@given(baskets=BASKETS, least=st.integers(1, 8))
def test_closed_and_maximal_by_their_definitions(baskets, least):
    fitted, sets = Apriori(least).fit(baskets), brute(baskets, least)
    assert as_dict(fitted.closed()) == {s: n for s, n in sets.items() if not any(s < t and n == m for t, m in sets.items())}
    assert as_dict(fitted.maximal()) == {s: n for s, n in sets.items() if not any(s < t for t in sets)}


def exact_tail(n, a, b, both):
    return Fraction(sum(comb(a, x) * comb(n - a, b - x) for x in range(both, min(a, b) + 1)), comb(n, b))


@BOTH
@settings(max_examples=40, deadline=None)
@given(baskets=BASKETS, least=st.integers(1, 5), confidence=st.sampled_from([0, 0.3, 0.5, 2 / 3, 1]))
def test_the_rules_are_those_of_the_definitions(model, baskets, least, confidence):
    rules, sets, n = model(least).fit(baskets).rules(confidence), brute(baskets, least), len(baskets)
    expected = {(frozenset(a), s - frozenset(a)): (sets[s], sets[frozenset(a)], sets[s - frozenset(a)])
                for s in sets for k in range(1, len(s)) for a in combinations(s, k)}
    assert rules.attrs["n_tests"] == len(expected)
    expected = {rule: c for rule, c in expected.items() if c[0] / c[1] >= confidence - 1e-12}
    assert set(zip(rules.antecedent, rules.consequent)) == set(expected) and len(rules) == len(expected)
    assert (rules.confidence.diff().dropna() <= 0).all()
    for row in rules.rename(columns={"count": "together"}).itertuples():
        both, a, b = expected[row.antecedent, row.consequent]
        assert row.together == both
        np.testing.assert_allclose([row.support, row.confidence, row.lift, row.leverage], [both / n, both / a, both * n / (a * b), both / n - a * b / n**2], atol=1e-12)
        np.testing.assert_allclose(row.conviction, np.inf if both == a else (1 - b / n) / (1 - both / a), atol=1e-12)
        assert np.isclose(row.p_value, float(exact_tail(n, a, b, both)), rtol=1e-9, atol=0)


def test_p_values_of_large_tables_and_far_tails():
    for n, a, b, both in [(88162, 50675, 42135, 29142), (88162, 900, 700, 90), (5000, 300, 200, 3), (5000, 4000, 4500, 3400), (10, 10, 10, 10), (10, 5, 5, 0)]:
        expected = exact_tail(n, a, b, both) if n < 10_000 else None
        if expected is None:
            from scipy.stats import hypergeom
            expected = hypergeom.sf(both - 1, n, a, b)
        np.testing.assert_allclose(upper_tail(n, [a], [b], [both]), [float(expected)], rtol=1e-8, atol=1e-300)


def test_corrections_equal_scipys_and_hidden_tests_count():
    from scipy.stats import false_discovery_control
    p = np.random.default_rng(0).uniform(size=200) ** 3
    np.testing.assert_allclose(adjust(p, 200, "bh"), false_discovery_control(p, method="bh"))
    np.testing.assert_allclose(adjust(p, 200, "by"), false_discovery_control(p, method="by"))
    padded = np.concatenate([p, np.ones(300)])
    for method in ("holm", "bonferroni", "bh", "by"):
        np.testing.assert_allclose(adjust(p, 500, method), adjust(padded, 500, method)[:200])
        assert (adjust(p, 500, method) >= p).all()
    np.testing.assert_allclose(adjust(p, 20_000, "by"), np.minimum(adjust(np.concatenate([p, np.ones(19_800)]), 20_000, "by")[:200], 1))
    with pytest.raises(ValueError, match="correction must be one of 'holm'"):
        adjust(p, 200, "sidak")


def test_noise_alone_gives_rules_and_the_correction_removes_them():
    accepted, naive = 0, 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rules = Apriori(5).fit(rng.random((400, 30)) < 0.15).rules(0.0)
        naive += (rules.p_value < 0.05).sum()
        accepted += (rules.p_adjusted < 0.05).any()
    assert naive > 100 and accepted <= 2    # Holm's bound: 0.5 of ten expected


LISTS = [["bread", "milk"], ["bread"], ["milk", "tea", "bread"], ["tea"]]
TABLE = pd.DataFrame({"bread": [1, 1, 1, 0], "milk": [1, 0, 1, 0], "tea": [0, 0, 1, 1]})
LONG = pd.DataFrame([(i, x) for i, row in enumerate(LISTS) for x in row], columns=["order", "item"])


@BOTH
@pytest.mark.parametrize("dress", [LISTS, tuple(map(set, LISTS)), (iter(b) for b in LISTS), pd.Series(LISTS), LONG, LONG[::-1], pl.from_pandas(LONG), pa.Table.from_pandas(LONG),
                                   TABLE, TABLE.astype(bool), pl.from_pandas(TABLE), TABLE.astype("Sparse[int8]")], ids=lambda d: type(d).__module__ + "." + type(d).__name__)
def test_every_kind_of_baskets(model, dress):
    dress = LISTS if type(dress).__name__ == "generator" else dress
    assert as_dict(model(2).fit(dress).itemsets_) == {frozenset(["bread"]): 3, frozenset(["milk"]): 2, frozenset(["tea"]): 2, frozenset(["bread", "milk"]): 2}


def test_a_generator_of_generators_and_arrays():
    assert as_dict(Apriori(2).fit(iter(x) for x in LISTS).itemsets_) == as_dict(Apriori(2).fit(LISTS).itemsets_)
    for matrix in (TABLE.to_numpy(), sparse.coo_matrix(TABLE.to_numpy()), sparse.csr_array(TABLE.to_numpy())):
        assert as_dict(Apriori(2).fit(matrix, items=list(TABLE)).itemsets_) == as_dict(Apriori(2).fit(LISTS).itemsets_)
    wide = LONG.assign(price=1.5)
    assert as_dict(Apriori(2).fit(wide, order="order", item="item").itemsets_) == as_dict(Apriori(2).fit(LISTS).itemsets_)


def test_a_table_whose_columns_are_numbers():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.random((50, 6)) < 0.4, columns=[10, 3, 0, 7, 1, 2])
    by_lists = Apriori(3).fit([[name for name in table if row[name]] for _, row in table.iterrows()])
    for dress in (table, table.astype(int), table.astype(float)):
        assert as_dict(Apriori(3).fit(dress).itemsets_) == as_dict(by_lists.itemsets_)
    assert as_dict(Apriori(3).fit(table.to_numpy(), items=list(table)).itemsets_) == as_dict(by_lists.itemsets_)
    lines = pd.DataFrame([(i, name) for i, row in table.iterrows() for name in table if row[name]], columns=[1, 0])
    assert as_dict(Apriori(3).fit(lines).itemsets_) == as_dict(by_lists.itemsets_)


def test_the_input_is_left_as_it_was():
    matrix = sparse.csr_matrix(([1, 0, 1], ([0, 0, 1], [1, 2, 0])), shape=(2, 3))
    before = matrix.copy()
    Apriori(1).fit(matrix)
    assert matrix.nnz == before.nnz and (matrix.indices == before.indices).all()


def test_labels_that_cannot_be_compared_and_repeats():
    fitted = Apriori(1).fit([[3, "tea", ("a", 1), 3], ["tea"]])
    assert fitted.repeated_ == 1 and len(fitted.itemsets_) == 7
    assert as_dict(fitted.itemsets_)[frozenset([3, "tea"])] == 1


@pytest.mark.parametrize(("baskets", "says"), [
    ([], "at least one basket"), ([[], []], "at least one item"), ("ab", "got 'ab'"), (["ab", "c"], "fall apart into letters"), ([1, 2], "must be a list of items; got 1"),
    (3, "got 3"), (None, "got None"), ([["a", None]], "missing items"), ([["a", float("nan")]], "missing items"), ([["a", pd.NA]], "missing items"), ([[["a"]]], "hashable"),
    (np.array([[0, 2]]), "0 and 1 only"), (np.array([[0.0, np.nan]]), "0 and 1 only"), (np.array([1, 0]), "two-dimensional"), (sparse.csr_matrix([[0, 2]]), "table > 0"),
    (pd.DataFrame({"a": [1, 2], "b": [1, 2], "c": [1, 2]}), "name them by order= and item="), (LONG.assign(item=None), "5 missing values|7 missing values"), (LONG[:0], "at least one basket"),
])
def test_baskets_that_make_no_sense(baskets, says):
    with pytest.raises(ValueError, match=says):
        Apriori(1).fit(baskets)


@BOTH
@pytest.mark.parametrize(("params", "says"), [
    ({"min_support": -0.1}, "min_support must be a share"), ({"min_support": 0}, "got 0"), ({"min_support": 1.1}, "got 1.1"), ({"min_support": "1%"}, "got '1%'"),
    ({"min_support": float("nan")}, "got nan"), ({"min_support": True}, "got True"), ({"max_len": 0}, "max_len must be an integer, 1 or more"), ({"max_len": 2.0}, "got 2.0"),
    ({"max_candidates": 0}, "max_candidates must"), ({"max_memory": -1}, "max_memory must"),
])
def test_parameters_that_make_no_sense(model, params, says):
    with pytest.raises(ValueError, match=says):
        model(**params).fit(LISTS)


def test_rules_arguments_that_make_no_sense():
    fitted = Apriori(1).fit(LISTS)
    for options, says in [({"min_confidence": 50}, "got 50"), ({"metric": "cosine"}, "metric must be one of"), ({"at_least": "1"}, "at_least must be a number"),
                          ({"n_tests": 1, "min_confidence": 0}, "no less than"), ({"correction": "x"}, "correction must be")]:
        with pytest.raises(ValueError, match=says):
            fitted.rules(**options)
    with pytest.raises(NotFittedError):
        Apriori().rules()
    with pytest.raises(NotFittedError):
        FPGrowth().recommend(["bread"])


@BOTH
def test_limits_stop_with_advice(model):
    with pytest.raises(SearchTooLarge, match="max_candidates=1,000 .*or a larger max_candidates"):
        model(1, max_candidates=1000).fit([range(25)] * 3)
    with pytest.raises(SearchTooLarge, match="max_memory=1,000 bytes"):
        model(1, max_memory=1000).fit([[i, i + 1] for i in range(300)])
    assert len(model(1, max_len=2).fit([range(25)] * 3).itemsets_) == 25 + 300
    with pytest.raises(SearchTooLarge, match="more than max_rules=100"):
        model(1).fit([range(8)]).rules(max_rules=100)


def test_the_advised_support_fits():
    rng = np.random.default_rng(0)
    baskets = [(rng.zipf(1.3, 8) % 500).tolist() for _ in range(500)]
    with pytest.raises(SearchTooLarge) as stopped:
        Apriori(1, max_memory=5000).fit(baskets)
    least = int(str(stopped.value).split("(")[1].split(" baskets")[0])
    Apriori(least, max_memory=5000).fit(baskets)


def test_exactly_as_many_candidates_as_allowed_is_fine():
    fitted = Apriori(1).fit([range(6)])
    assert fitted.n_candidates_ == [6, 15, 20, 15, 6, 1]
    Apriori(1, max_candidates=42).fit([range(6)])
    with pytest.raises(SearchTooLarge):
        Apriori(1, max_candidates=41).fit([range(6)])


@BOTH
def test_nothing_frequent_is_an_answer(model):
    fitted = model(1.0).fit([["a"], ["b"]])
    for table in (fitted.itemsets_, fitted.closed(), fitted.maximal(), fitted.rules(), fitted.recommend(["a"])):
        assert len(table) == 0
    assert list(fitted.rules().columns) == ["antecedent", "consequent", "support", "confidence", "lift", "leverage", "conviction", "p_value", "p_adjusted", "count"]


def test_more_than_64_baskets_and_the_borders_of_words():
    for n in (63, 64, 65, 128, 129):
        fitted = Apriori(1).fit([["a", "b", "c"] if i in (0, n - 1) else ["a"] for i in range(n)])
        assert as_dict(fitted.itemsets_)[frozenset("abc")] == 2 and as_dict(fitted.itemsets_)[frozenset("a")] == n


NUMBERS = st.one_of(st.integers(0, 9), st.integers(-2**31, 2**31 - 1), st.integers(2**31 - 3, 2**40), st.sampled_from([10**6, 10**6 + 1]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(NUMBERS, max_size=5), min_size=1, max_size=12).filter(any), st.sampled_from([list, tuple, set, frozenset]))
def test_numbers_are_read_as_they_are(baskets, kind):
    fast, slow = read_baskets([kind(b) for b in baskets]), read_baskets([list(map(str, kind(b))) for b in baskets])    # texts take the general way
    for read, back in ((fast, int), (slow, int)):
        labels = [back(label) for label in read.items]
        assert [sorted(labels[c] for c in read.codes[a:b]) for a, b in zip(read.starts, read.starts[1:])] == [sorted(set(b)) for b in baskets]
        assert {labels[i]: n for i, n in enumerate(read.counts.tolist())} == {x: sum(x in b for b in baskets) for b in baskets for x in b}
    assert fast.repeated == slow.repeated and fast.items == sorted(fast.items)


def test_where_candidates_are_pruned_before_they_are_counted():
    rng = np.random.default_rng(0)    # enough baskets that looking up subsets is shorter than counting
    groups = rng.random((8000, 4)) < 0.4
    table = (rng.random((8000, 24)) < 0.1) | np.repeat(groups, 6, axis=1) & (rng.random((8000, 24)) < 0.8)
    ours, other = Apriori(0.05).fit(table), FPGrowth(0.05).fit(table)
    assert as_dict(ours.itemsets_) == as_dict(other.itemsets_) and len(ours.itemsets_) > 300
    triples = {tuple(sorted(s)) for s in ours.itemsets_["items"] if len(s) == 3}
    assert ours.n_candidates_[3] == len(prune(join(triples), triples))


@settings(max_examples=40, deadline=None)
@given(baskets=BASKETS, basket=st.sets(st.integers(0, 9), max_size=4))
def test_recommendations_are_the_best_rules(baskets, basket):
    fitted = Apriori(1).fit(baskets)
    got, sets, n = fitted.recommend(basket, n=100), brute(baskets, 1), len(baskets)
    assert not set(got.item) & basket
    best = {}
    for s, count in sets.items():
        for item in s - basket:
            if s - {item} <= basket:
                left = sets.get(s - {item}, n)
                best[item] = max(best.get(item, 0), count / left)
    assert dict(zip(got.item, got.confidence)) == pytest.approx(best)
    assert (got.confidence.diff().dropna() <= 1e-15).all()
    assert all(because <= basket for because in got.because)


@BOTH
def test_files_and_clones(model, tmp_path):
    fitted = model(1, max_len=3).fit([["a", 1, 2.5], ["a", True], ["b"]])
    fitted.save(tmp_path / "sets.arrow")
    again = model.load(tmp_path / "sets.arrow")
    pd.testing.assert_frame_equal(again.itemsets_, fitted.itemsets_)
    pd.testing.assert_frame_equal(again.rules(0.1), fitted.rules(0.1))
    assert again.get_params() == fitted.get_params() == clone(fitted).get_params()
    model(1.0).fit([["a"], ["b"]]).save(tmp_path / "none.arrow")
    assert len(model.load(tmp_path / "none.arrow").itemsets_) == 0
    other = FPGrowth if model is Apriori else Apriori
    with pytest.raises(ValueError, match=f"not a saved {other.__name__}"):
        other.load(tmp_path / "sets.arrow")
    for content in (b"", b"ARROW1", (tmp_path / "sets.arrow").read_bytes()[:300]):
        (tmp_path / "bad.arrow").write_bytes(content)
        with pytest.raises(ValueError, match="not a saved"):
            model.load(tmp_path / "bad.arrow")
    with pytest.raises(TypeError, match="texts or numbers"):
        model(1).fit([[("a", "b")]]).save(tmp_path / "odd.arrow")
    assert not (tmp_path / "odd.arrow").exists()


def test_the_order_of_baskets_and_items_does_not_matter():
    rng = np.random.default_rng(0)
    baskets = [rng.choice(list("abcdefgh"), 4).tolist() for _ in range(100)]
    shuffled = [list(reversed(baskets[i])) for i in rng.permutation(100)]
    pd.testing.assert_frame_equal(Apriori(3).fit(baskets).itemsets_, Apriori(3).fit(shuffled).itemsets_)


def test_the_picture_has_an_arrow_for_each_edge():
    import matplotlib
    matplotlib.use("Agg")
    rules = Apriori(2).fit(LISTS).rules(0.1)
    ax = plot_rules(rules)
    assert sum(t.arrow_patch is not None for t in ax.texts if hasattr(t, "arrow_patch")) == len(rules) == 2
    assert "2 rules among 2 items" in ax.get_title(loc="left") + ax.get_title()


def test_importing_loads_no_pictures():
    code = "import sys, dlagg.mining; dlagg.mining.Apriori; print('matplotlib.pyplot' in sys.modules, 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == ["False", "False"]


def test_groceries_at_one_per_cent():
    from dlagg.tables.datasets import fetch_groceries
    try:
        data = fetch_groceries()
    except Exception as error:    # no network and no mirror
        need(False, f"the Groceries data ({error})")
    for model in (Apriori, FPGrowth):
        fitted = model(0.01).fit(data)
        assert fitted.n_baskets_ == 9835 and len(fitted.items_) == 169
        assert len(fitted.itemsets_) == 333 and len(fitted.rules(0.5)) == 15
