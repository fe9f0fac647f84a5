"""The analysis end to end: on the shop, on real data, on awkward tables."""
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import need

DLAGG = Path(sys.executable).with_name("dlagg")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "The report on the bundled shop, by the command line."
    folder = tmp_path_factory.mktemp("shop")
    done = subprocess.run([DLAGG, "run", "--out", "report"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "report", done


class Page(HTMLParser):
    "Tags, and what the page would load from elsewhere."
    def __init__(self, text):
        super().__init__()
        self.tags, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.loads += [attrs[a] for a in ("src", "href", "xlink:href") if a in attrs and not attrs[a].startswith(("#", "data:"))]


def test_shop_report_is_whole(shop):
    folder, done = shop
    assert sorted(p.name for p in folder.iterdir()) == ["groups.parquet", "model", "report.html"]
    page = Page((folder / "report.html").read_text())
    assert page.loads == [], "the report opens from disk and asks nobody"
    assert page.tags.count("svg") >= 4 and "script" not in page.tags
    for chapter in ("What was read", "What was cleaned", "Segments", "Prediction", "Which rows mattered"):
        assert chapter in (folder / "report.html").read_text()


def test_shop_groups(shop):
    groups = pd.read_parquet(shop[0] / "groups.parquet")
    assert groups.index.name == "customer_id" and groups.index.is_unique
    assert {"count", "segment", "map_x", "map_y"} <= set(groups.columns)
    assert any(c.startswith("attention_") for c in groups.columns)
    assert np.isfinite(groups[["map_x", "map_y"]]).all().all()


def test_model_needs_no_pickle(shop):
    names = [p.name for p in (shop[0] / "model").rglob("*") if p.is_file()]
    assert names and not [n for n in names if n.endswith((".pkl", ".pickle", ".joblib"))]


def test_model_can_be_used_again(shop):
    from dlagg.app import load_model
    from dlagg.tables.datasets import load_shop
    model = load_model(shop[0] / "model")
    rows = load_shop().orders
    chance = model.predict_proba(rows)
    assert len(chance) == rows.customer_id.nunique() and np.isfinite(chance.to_numpy(float)).all()


def test_learned_pooling_earns_its_place_on_the_shop(shop):
    line = next(line for line in shop[1].stdout.splitlines() if "AUC" in line)
    scores = {name: float(value) for name, value in re.findall(r"\b(learned|classic)(?: AUC)? (\d\.\d+)", line)}
    assert scores["learned"] > scores["classic"], line


def test_hostile_names_and_values_are_escaped(tmp_path):
    rng = np.random.default_rng(1)
    n = 300
    table = pd.DataFrame({"<script>": rng.integers(0, 30, n), "<img src=x onerror=alert(1)>": rng.normal(size=n),
                          "a&b \"quoted\" $x_1$": rng.choice(["<b>bold</b>", "</table><script>alert(2)</script>", "=1+1"], n)})
    table.to_csv(tmp_path / "rows.csv", index=False)
    done = subprocess.run([DLAGG, "run", "rows.csv", "--by", "<script>", "--quiet"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "dlagg-report" / "report.html").read_text())
    assert not {"script", "img"} & set(page.tags) and page.loads == []
    assert "&lt;script&gt;" in (tmp_path / "dlagg-report" / "report.html").read_text()


def test_same_seed_same_numbers_by_command_and_by_function(shop, tmp_path):
    from dlagg.app import analyze
    analysis = analyze(out=tmp_path / "report", progress=False)
    pd.testing.assert_frame_equal(analysis.groups, pd.read_parquet(shop[0] / "groups.parquet"), check_exact=True)


@pytest.mark.parametrize("kind", ["csv", "parquet", "xlsx"])
def test_formats_give_the_same_groups(kind, tmp_path):
    from dlagg.app import analyze
    rng = np.random.default_rng(2)
    table = pd.DataFrame({"shop": rng.choice(list("abcdefghijkl"), 600), "sales": rng.gamma(2, 10, 600).round(2), "open": rng.integers(1, 9, 600)})
    path = tmp_path / f"rows.{kind}"
    {"csv": table.to_csv, "parquet": table.to_parquet, "xlsx": table.to_excel}[kind](path, index=False)
    got = analyze([path], by="shop", out=None, progress=False).groups
    assert np.allclose(got["mean_sales"], table.drop_duplicates().groupby("shop").sales.mean().reindex(got.index))


def test_attributes_from_a_second_file(tmp_path):
    from dlagg.app import analyze
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"id": rng.integers(0, 200, 3000), "value": rng.normal(size=3000)})
    people = pd.DataFrame({"id": range(200), "good": (rows.groupby("id").value.max().reindex(range(200)).fillna(0) > 2).map({True: "yes", False: "no"})})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    people.to_csv(tmp_path / "people.csv", index=False)
    analysis = analyze([tmp_path / "rows.csv", tmp_path / "people.csv"], by="id", target="good", out=None, progress=False)
    assert analysis.contest.task == "classification" and analysis.contest.scores["classic"] > 0.9


def test_regression_target(tmp_path):
    from dlagg.app import analyze
    rng = np.random.default_rng(4)
    rows = pd.DataFrame({"id": rng.integers(0, 150, 2500), "value": rng.normal(size=2500)})
    rows["total"] = rows.groupby("id").value.transform("sum").round(3)
    analysis = analyze(rows, by="id", target="total", out=None, progress=False)
    assert analysis.contest.metric == "R²" and analysis.contest.scores["classic"] > 0.5
    assert "total" not in " ".join(analysis.classic.columns), "the target is never a feature"


def test_online_retail(mirror, tmp_path):
    """The report is right about a real file of half a million lines, in bounded memory."""
    path = mirror / "online-retail-dataset.csv"
    need(path.exists(), "online-retail-dataset.csv in the mirror")
    code = ("import resource, sys, subprocess\n"
            f"p = subprocess.run([{str(DLAGG)!r}, 'run', {str(path)!r}, '--by', 'CustomerID', '--out', 'report', '--quiet'])\n"
            "print('peak kB', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(p.returncode)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = re.sub(r"<[^>]+>", " ", (tmp_path / "report" / "report.html").read_text())
    for figure in ("541,909", "4,372", "135,080", "10,624"):
        assert figure in text, figure
    assert len(pd.read_parquet(tmp_path / "report" / "groups.parquet")) == 4372
    assert int(done.stdout.split("peak kB")[1]) < 4_000_000, "4 GB"
