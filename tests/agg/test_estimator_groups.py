"""DeepAggregator among scikit-learn's tools: folds, scorers, grids and pipelines over whole groups, compared with folds made by hand."""
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold, cross_val_predict, cross_val_score, cross_validate, learning_curve, train_test_split
from sklearn.pipeline import make_pipeline

from dlagg.agg import AttentionPooling, DeepAggregator, Groups, TabularEncoder
from dlagg.agg.estimator_groups import by_key

pytestmark = [pytest.mark.filterwarnings("ignore::UserWarning"), pytest.mark.usefixtures("compiled_once")]


def small(**options):
    return DeepAggregator("k", **{"hidden": (8,), "head": 4, "validation": 0, "epochs": 2, "batch_size": 32, "pooling": "mean", "learning_rate": 0.03} | options)


@pytest.fixture(scope="module")
def data():
    "Rows of 60 groups in no order; the keys are texts whose order is not that of the rows; the class shows in the mean of x."
    rng = np.random.default_rng(0)
    keys = np.array([f"c{i:02d}" for i in rng.permutation(60)])
    marked = rng.integers(0, 2, 60)
    rows = np.repeat(np.arange(60), rng.integers(1, 7, 60))
    rows = rng.permutation(rows)
    events = pd.DataFrame({"k": keys[rows], "x": rng.normal(size=len(rows)) + 2 * marked[rows], "kind": rng.choice(["a", "b"], len(rows))})
    return events, pd.Series(np.where(marked, "yes", "no"), index=keys).sample(frac=1, random_state=1)


def test_groups_are_positions(data):
    events, target = data
    groups = Groups(events, "k")
    assert len(groups) == 60 == groups.shape[0] and groups.keys.is_monotonic_increasing and groups.frame is events
    part = groups[[5, 2, 40]]
    assert list(part.keys) == [groups.keys[i] for i in (5, 2, 40)]
    pd.testing.assert_frame_equal(part.frame, events[events.k.isin(part.keys)])
    frame, codes, keys = part.rows()
    assert (keys[codes] == frame.k).all() and keys.is_monotonic_increasing and (keys[part.ranks] == part.keys).all()
    assert (groups.align(target).index == groups.keys).all()


def by_hand(events, target, folds, measure, **options):
    "The score of each fold with frames and Series only: nothing of Groups."
    keys = pd.Index(sorted(target.index))
    out = []
    for train, test in folds.split(keys, target[keys]):
        model = small(**options).fit(events[events.k.isin(keys[train])], target[keys[train]])
        out.append(measure(target[keys[test]], model.predict_proba(events[events.k.isin(keys[test])]).loc[keys[test]]))
    return np.array(out)


def test_scorers_equal_folds_made_by_hand(data):
    events, target = data
    groups = Groups(events, "k")
    y, folds = groups.align(target), StratifiedKFold(3, shuffle=True, random_state=0)
    got = cross_validate(small(), groups, y, cv=folds, scoring=["roc_auc", "neg_log_loss", "accuracy"], error_score="raise")
    np.testing.assert_allclose(got["test_roc_auc"], by_hand(events, target, folds, lambda t, p: roc_auc_score(t, p["yes"])), atol=1e-6)
    np.testing.assert_allclose(-got["test_neg_log_loss"], by_hand(events, target, folds, log_loss), rtol=1e-5)
    np.testing.assert_allclose(got["test_accuracy"], cross_val_score(small(), groups, y.to_numpy(), cv=folds, error_score="raise"))
    assert got["test_roc_auc"].mean() > 0.75


def test_cross_val_predict_is_in_the_order_of_the_groups(data):
    events, target = data
    groups = Groups(events, "k")
    y, folds = groups.align(target), KFold(3, shuffle=True, random_state=2)
    got = cross_val_predict(small(), groups, y, cv=folds, method="predict_proba")
    assert got.shape == (60, 2) and isinstance(got, np.ndarray)
    train, test = next(folds.split(groups))
    model = small().fit(groups[train], y.iloc[train])
    np.testing.assert_allclose(got[test], model.predict_proba(events).loc[groups.keys[test]], atol=1e-6)
    shuffled = groups[np.random.default_rng(0).permutation(60)]
    np.testing.assert_allclose(model.predict_proba(shuffled), model.predict_proba(events).loc[shuffled.keys], atol=1e-6)
    assert (model.predict(shuffled) == model.predict(events)[shuffled.keys]).all()
    assert (model.transform(shuffled).index == shuffled.keys).all()


def test_grid_search_over_nested_options(data):
    events, target = data
    groups = Groups(events, "k")
    model = small(encoder=TabularEncoder(), epochs=1)
    search = GridSearchCV(model, {"pooling": ["max", ["mean", AttentionPooling(4)]], "encoder__max_categories": [10]}, cv=2, scoring="roc_auc", error_score="raise")
    search.fit(groups, groups.align(target))
    assert search.best_estimator_.encoder.max_categories == 10 and np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert model.encoder.max_categories == 1000 and not hasattr(model, "model_")
    assert len(search.predict(groups)) == 60 and len(search.predict(events)) == 60


def test_stratified_folds_by_default(data):
    "For a classifier `cv=5` keeps the classes in proportion; a fold without the rare class would raise."
    events, target = data
    rare = pd.Series(np.arange(60) < 5, index=target.index).map({True: "yes", False: "no"})
    groups = Groups(events, "k")
    assert np.isfinite(cross_val_score(small(epochs=1), groups, groups.align(rare), cv=5, scoring="roc_auc", error_score="raise")).all()


def test_one_value_a_row(data):
    "The other common way: a table, a target by row, and `groups=`."
    events, target = data
    y, folds = events.k.map(target).to_numpy(), GroupKFold(3)
    got = cross_val_score(small(), events, y, groups=events.k, cv=folds, error_score="raise")
    for score, (train, test) in zip(got, folds.split(events, groups=events.k)):
        known, new = events.iloc[train], events.iloc[test]
        assert not set(known.k) & set(new.k)
        model = small().fit(known, target[known.k.unique()])
        assert score == model.score(new, target[new.k.unique()]) == (model.predict(new) == target[sorted(new.k.unique())]).mean()
    wrong = np.where(np.arange(len(y)) == 7, "maybe", y)
    with pytest.raises(ValueError, match="differs between rows of the key"):
        small().fit(events, wrong)
    with pytest.raises(ValueError, match="index of the rows"):
        small().fit(events, pd.Series(y))


def test_missing_and_unequal_values_by_row():
    keys, codes = pd.Index([1, 2]), np.array([0, 1, 0, -1])
    assert by_key([np.nan, 3.0, np.nan, 9.0], codes, keys).isna().tolist() == [True, False]
    with pytest.raises(ValueError, match="key 1: nan and 2.0"):
        by_key([np.nan, 3.0, 2.0, 9.0], codes, keys)


def test_regression(data):
    events, _ = data
    target = events.groupby("k").x.mean() * 100 + 7
    groups = Groups(events, "k")
    options = dict(task="regression", epochs=15)
    got = cross_val_score(small(**options), groups, groups.align(target), cv=3, scoring="r2", error_score="raise")
    train, test = next(KFold(3).split(groups))
    model = small(**options).fit(groups[train], target.loc[groups.keys[train]])
    assert got[0] == pytest.approx(model.score(groups[test], target.loc[groups.keys[test]]), abs=1e-6)
    assert got.mean() > 0.5 and is_regressor(model) and not is_classifier(model)


def test_target_in_another_order_is_refused(data):
    events, target = data
    groups = Groups(events, "k")
    with pytest.raises(ValueError, match="groups.align"):
        cross_val_score(small(), groups, target, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="by='k'|made by"):
        small().fit(Groups(events, "kind"), [0, 1])


def test_pipeline_learning_curve_and_split(data):
    events, target = data
    groups = Groups(events, "k")
    y = groups.align(target)
    train, test, y_train, y_test = train_test_split(groups, y, test_size=0.25, random_state=0, stratify=y)
    pipe = make_pipeline(small(task=None, pooling=["mean", "max"]), SimpleImputer(), LogisticRegression(max_iter=500)).fit(train, y_train)    # one row has no std
    assert pipe.score(test, y_test) > 0.6
    sizes, train_scores, _ = learning_curve(small(epochs=1), groups, y, cv=2, train_sizes=[0.5, 1.0], error_score="raise")
    assert list(sizes) == [15, 30] and np.isfinite(train_scores).all()


def test_tags(data):
    assert is_classifier(small()) and not is_regressor(small()) and is_regressor(small(task="regression"))
    assert not is_classifier(small(task=None)) and not is_regressor(small(task=None))
    tags = small().__sklearn_tags__()
    assert tags.input_tags.allow_nan and not tags.input_tags.two_d_array and tags.target_tags.required
    assert not small(task=None).__sklearn_tags__().target_tags.required


def test_a_layer_is_an_option_not_a_part(data):
    "Fitting twice, or a clone, never shares or trains the layer that was handed in."
    events, target = data
    layer = AttentionPooling(4)
    model = small(pooling=["mean", layer], epochs=1)
    first = model.fit(events, target).predict_proba(events)
    assert not layer.built
    pd.testing.assert_frame_equal(model.fit(events, target).predict_proba(events), first, check_exact=True)
    pd.testing.assert_frame_equal(clone(model).fit(events, target).predict_proba(events), first, check_exact=True)
