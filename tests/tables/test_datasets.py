"""The shop: its files, its truth, its mess; and what it costs to ask for it."""
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from dlagg.course.home import share_path
from dlagg.tables.datasets import load_shop, make_shop, write_shop

TABLES = ("customers", "products", "orders", "visits")


@pytest.fixture(scope="module")
def shop():
    return make_shop()


@pytest.fixture(scope="module")
def messy():
    "The shipped files as text."
    folder = share_path("data") / "shop"
    return {name: pd.read_csv(folder / f"{name}.csv", dtype=str, keep_default_na=False) for name in TABLES}


def test_files_are_the_generators_output_byte_for_byte(tmp_path):
    made = write_shop(tmp_path)
    shipped = share_path("data") / "shop"
    assert sorted(path.name for path in made) == sorted(path.name for path in shipped.iterdir())
    for path in made:
        assert path.read_bytes() == (shipped / path.name).read_bytes(), path.name
    assert sum(path.stat().st_size for path in made) < 4_000_000


def test_command_writes_the_files(tmp_path):
    subprocess.run([sys.executable, "-m", "dlagg.tables.datasets_shop", str(tmp_path / "shop")], check=True, capture_output=True)
    shipped = share_path("data") / "shop" / "orders.csv"
    assert (tmp_path / "shop" / "orders.csv").read_bytes() == shipped.read_bytes()
    wrong = subprocess.run([sys.executable, "-m", "dlagg.tables.datasets_shop"], capture_output=True, text=True)
    assert wrong.returncode != 0 and "usage" in wrong.stderr and "Traceback" not in wrong.stderr


def test_importing_loads_nothing_heavy():
    code = ("import sys, dlagg.tables.datasets; "
            "sys.exit(', '.join(m for m in ('pandas', 'matplotlib', 'keras', 'sklearn', 'scipy', 'requests') if m in sys.modules) or 0)")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("n, error", [(9, ValueError), (-1, ValueError), (2.5, TypeError), ("20", TypeError), (True, TypeError), (None, TypeError)])
def test_wrong_size(n, error):
    with pytest.raises(error, match="n_customers is .*10 or more"):
        make_shop(n)


@pytest.mark.parametrize("seed, error", [(-1, ValueError), (0.5, TypeError), (None, TypeError)])
def test_wrong_seed(seed, error):
    with pytest.raises(error, match="random_state is"):
        make_shop(10, seed)


def test_numpy_integers_are_integers():
    assert make_shop(np.int64(30), np.int32(2)).orders.equals(make_shop(30, 2).orders)


@pytest.mark.parametrize("n, seed", [(10, 0), (10, 5), (57, 1), (12_000, 0)])
def test_any_size_fits_together(n, seed):
    shop = make_shop(n, seed)
    customers = set(shop.customers["customer_id"])
    assert len(customers) == n
    assert set(shop.orders["customer_id"]) <= customers and set(shop.visits["customer_id"]) <= customers
    assert set(shop.orders["product_id"]) <= set(shop.products["product_id"])
    assert not shop.orders.duplicated(["order_id", "product_id"]).any() and not any(getattr(shop, name).isna().any(axis=None) for name in TABLES)
    assert shop.orders["time"].is_monotonic_increasing and shop.orders["time"].between("2024-01-01", "2026-01-01").all()
    assert shop.orders.groupby("order_id")["customer_id"].nunique().max() == 1
    assert shop.orders["quantity"].min() >= 1 and shop.orders["price"].min() > 0


def test_clean_and_messy_shop_are_the_same_shop(shop):
    messy = make_shop(messy=True)
    assert messy.truth["customers"].equals(shop.truth["customers"]) and messy.products.equals(shop.products)


def test_load_shop(shop):
    clean, messy = load_shop(), load_shop(messy=True)
    drawn = make_shop(messy=True)
    for name in TABLES:
        assert getattr(clean, name).equals(getattr(shop, name))
        assert getattr(messy, name).equals(getattr(drawn, name))
    for name in ("customers", "elasticities", "rules", "mess"):
        assert messy.truth[name].equals(drawn.truth[name])
    assert messy.truth["seasons"] == drawn.truth["seasons"] and list(clean.truth) == ["customers", "rules", "elasticities", "seasons"]


def test_events(shop):
    events = shop.events("will_buy")
    assert len(events) == len(shop.orders) and events.groupby("customer_id")["will_buy"].nunique().max() == 1
    with pytest.raises(ValueError, match="target is 'left'"):
        shop.events("left")


def test_the_cause_of_churn_is_one_row(shop):
    both = shop.orders[(shop.orders["complaint"] == 1) & (shop.orders["delivery_days"] > 7)].set_index("customer_id")
    truth = shop.truth["customers"].set_index("customer_id")
    hurt = truth[truth["hurt"] == 1]
    assert both.index.is_unique and set(both.index) == set(hurt.index)
    assert (both.loc[hurt.index, "order_id"] == hurt["cause_order"]).all() and (both.loc[hurt.index, "product_id"] == hurt["cause_product"]).all()
    assert (truth.loc[truth["hurt"] == 0, "cause_order"] == "").all()


def test_column_aggregates_do_not_show_who_was_hurt(shop):
    lines = shop.orders.assign(late=shop.orders["delivery_days"] > 7).groupby("customer_id")
    hurt = shop.truth["customers"].set_index("customer_id")["hurt"]
    for column in ("late", "complaint"):
        for how in ("sum", "mean", "max", "std"):
            table = lines[column].agg(how).to_frame("x").join(hurt).dropna()
            a, b = table.loc[table["hurt"] == 1, "x"].astype(float), table.loc[table["hurt"] == 0, "x"].astype(float)
            standard_error = np.sqrt(a.var() / len(a) + b.var() / len(b))
            assert abs(a.mean() - b.mean()) < 4 * standard_error + 1e-12, (column, how)


def test_intent_is_an_order_of_events(shop):
    stories = shop.visits.groupby("visit_id").agg(story=("event", " > ".join), who=("customer_id", "first"))
    keen = shop.truth["customers"].set_index("customer_id")["keen"]
    means_it = set(stories.loc[stories["story"] == "view > price > add", "who"])
    shied = set(stories.loc[stories["story"] == "view > add > price", "who"])
    assert means_it == set(keen.index[keen == 1]) and shied == set(keen.index[keen == 0])


def test_visits_agree_with_orders(shop):
    bought = shop.visits[shop.visits["event"] == "checkout"]
    first = shop.visits.groupby("visit_id")["time"].min()
    online = shop.orders[shop.orders["channel"].isin(["web", "app"]) & (shop.orders["time"] >= "2025-11-02")].drop_duplicates("order_id")
    assert sorted(zip(bought["customer_id"], first[bought["visit_id"]])) == sorted(zip(online["customer_id"], online["time"]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_elasticities_come_back(seed):
    shop = make_shop(2000, seed)
    lines = shop.orders.merge(shop.products[["product_id", "list_price"]], on="product_id")
    lines["week"] = (lines["time"] - pd.Timestamp("2024-01-01")).dt.days // 7
    lines["x"] = np.log(lines["price"] / lines["list_price"])
    weekly = lines[lines["week"] < 104].groupby(["category", "week"]).agg(q=("quantity", "sum"), x=("x", "mean")).reset_index()
    for category, truth in shop.truth["elasticities"].set_index("category")["elasticity"].items():
        table = weekly[weekly["category"] == category]
        year = (table["week"] * 7 + 3.5) / 365.25
        design = np.column_stack([table["x"], np.ones(len(table)), year, np.cos(2 * np.pi * year), np.sin(2 * np.pi * year)])
        fit, rest = np.linalg.lstsq(design, np.log(table["q"]), rcond=None)[:2]
        standard_error = np.sqrt(np.linalg.inv(design.T @ design)[0, 0] * rest[0] / (len(table) - 5))
        assert abs(fit[0] - truth) < 4 * standard_error and standard_error < 0.25, (category, fit[0], truth)


@pytest.mark.parametrize("seed", [0, 1])
def test_rules_stand_out(seed):
    shop = make_shop(2000, seed)
    basket = pd.crosstab(shop.orders["order_id"], shop.orders["product_id"]).to_numpy().astype(float)
    share = basket.mean(0)
    lift = basket.T @ basket / len(basket) / np.outer(share, share)
    number = {name: k for k, name in enumerate(sorted(shop.products["product_id"]))}
    single = [(number[rule.left], number[rule.right]) for rule in shop.truth["rules"].itertuples() if "+" not in rule.left]
    planted = {frozenset(pair) for pair in single}
    spoon, pair = [(number[rule.right], [number[x] for x in rule.left.split(" + ")]) for rule in shop.truth["rules"].itertuples() if "+" in rule.left][0]
    planted |= {frozenset((spoon, left)) for left in pair}        # the rule with two products on its left raises these two as well
    a, b = np.triu_indices(48, 1)
    best = {frozenset((int(a[k]), int(b[k]))) for k in np.argsort(-lift[a, b])[:9]}
    assert best == planted


@pytest.mark.parametrize("seed", [0, 1])
def test_segments_can_be_found_but_not_easily(seed):
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score
    from sklearn.preprocessing import StandardScaler
    orders = (shop := make_shop(2000, seed)).orders
    about = orders.assign(hour=orders["time"].dt.hour, sale=orders["discount"] > 0).groupby("customer_id").agg(
        hour=("hour", "mean"), sale=("sale", "mean"), pieces=("quantity", "mean"), orders=("order_id", "nunique"))
    for column in ("category", "channel"):
        about = about.join(pd.crosstab(orders["customer_id"], orders[column], normalize="index"))
    segment = shop.truth["customers"].set_index("customer_id").loc[about.index, "segment"]
    found = KMeans(4, n_init=5, random_state=0).fit_predict(StandardScaler().fit_transform(about))
    assert 0.6 < adjusted_rand_score(segment, found) < 0.95
    assert adjusted_rand_score(segment, about["sale"] > 0.4) < 0.6


def auc(features, target):
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    model = HistGradientBoostingClassifier(max_iter=40, max_leaf_nodes=8, random_state=0)
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    return roc_auc_score(target, cross_val_predict(model, features, target, cv=folds, method="predict_proba")[:, 1])


@pytest.mark.parametrize("seed", [0, 1])
def test_classic_aggregates_miss_what_rows_show(seed):
    shop = make_shop(2000, seed)
    lines = shop.orders.assign(paid=shop.orders["price"] * shop.orders["quantity"] * (1 - shop.orders["discount"]))
    columns = ["quantity", "price", "discount", "delivery_days", "complaint", "rating", "paid"]
    classic = lines.groupby("customer_id")[columns].agg(["count", "sum", "mean", "std", "min", "max"])
    classic.columns = ["_".join(pair) for pair in classic.columns]
    churned = shop.customers.set_index("customer_id").loc[classic.index, "churned"]
    meets = (lines["complaint"] * (lines["delivery_days"] > 7)).groupby(lines["customer_id"]).max()
    assert 0.6 < auc(classic, churned) < 0.75
    assert auc(classic.assign(meets=meets), churned) > 0.9
    assert 0.2 < churned.mean() < 0.4


def test_the_mess_is_counted_right(messy):
    truth = json.loads((share_path("data") / "shop" / "truth.json").read_text(encoding="utf-8"))["mess"]
    orders, customers, visits = messy["orders"], messy["customers"], messy["visits"]
    found = {
        ("customers", "joined", "dotted date"): customers["joined"].str.fullmatch(r"\d\d\.\d\d\.\d{4}"),
        ("customers", "birth_year", "missing"): customers["birth_year"] == "",
        ("customers", "birth_year", "impossible year"): customers["birth_year"] == "1880",
        ("customers", "region", "missing"): customers["region"] == "",
        ("customers", "region", "upper case"): customers["region"].str.isupper(),
        ("customers", "region", "stray spaces"): customers["region"] != customers["region"].str.strip(),
        ("orders", "quantity", "return"): orders["quantity"].str.startswith("-"),
        ("orders", "customer_id", "missing"): orders["customer_id"] == "",
        ("orders", "time", "dotted date"): orders["time"].str.fullmatch(r"\d\d\.\d\d\.\d{4} \d\d:\d\d"),
        ("orders", "time", "date with month name"): orders["time"].str.fullmatch(r"[A-Z][a-z]{2} \d\d \d{4} \d\d:\d\d"),
        ("orders", "category", "missing"): orders["category"] == "",
        ("orders", "category", "upper case"): orders["category"].str.isupper(),
        ("orders", "category", "stray spaces"): orders["category"] != orders["category"].str.strip(),
        ("orders", "category", "misspelt"): ~orders["category"].str.strip().str.lower().isin([*messy["products"]["category"], ""]),
        ("orders", "price", "currency"): orders["price"].str.startswith("EUR "),
        ("orders", "price", "decimal comma"): orders["price"].str.contains(","),
        ("orders", "price", "missing"): orders["price"] == "",
        ("orders", "discount", "missing"): orders["discount"] == "",
        ("orders", "channel", "missing"): orders["channel"] == "",
        ("orders", "channel", "upper case"): orders["channel"].str.isupper(),
        ("orders", "delivery_days", "missing"): orders["delivery_days"] == "",
        ("orders", "delivery_days", "question mark"): orders["delivery_days"] == "?",
        ("orders", "rating", "missing"): orders["rating"] == "",
        ("orders", "", "duplicate"): orders.duplicated(),
        ("visits", "device", "missing"): visits["device"] == "",
        ("visits", "device", "upper case"): visits["device"].str.isupper(),
        ("visits", "seconds", "missing"): visits["seconds"] == "",
        ("visits", "", "duplicate"): visits.duplicated(),
    }
    listed = orders.merge(messy["products"], on="product_id")
    plain = pd.to_numeric(listed["price"], errors="coerce")
    found["orders", "price", "outlier x100"] = plain > 10 * listed["list_price"].astype(float)
    said = {(row["table"], row["column"], row["problem"]): row["rows"] for row in truth}
    assert {key: int(mark.sum()) for key, mark in found.items()} == said


def test_datasheet_says_the_right_numbers(messy):
    sheet = (share_path("data") / "README.md").read_text(encoding="utf-8")
    for name in TABLES:
        line = next(line for line in sheet.splitlines() if f"`shop/{name}.csv`" in line)
        assert f"| {len(messy[name]):,} |" in line, line
        assert all(f"`{column}`" in sheet for column in messy[name].columns)


def test_a_failed_write_leaves_the_old_files(tmp_path, monkeypatch):
    write_shop(tmp_path, 10)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    from dlagg.tables import datasets_shop
    monkeypatch.setattr(datasets_shop.Path, "write_bytes", lambda self, data: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError):
        write_shop(tmp_path, 20)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
