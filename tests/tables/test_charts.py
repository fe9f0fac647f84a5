"""Charts: whatever the table holds, they draw it or say why not, and their SVG can stand in a page beside others."""
import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")
from dlagg.tables.charts import bar, box, histogram, line, missing_map, scatter, svg, vector_map    # noqa: E402

STRANGE = ["<script>alert(1)</script>", "$x$", r"\$ $\frac{", "a" * 300, "中文 名", "two\nlines\x00", "", '"quoted" & \'more\'', "_hidden"]


def table(name="x"):
    rng = np.random.default_rng(0)
    return pd.DataFrame({name: rng.normal(size=90), "y": rng.normal(size=90), "when": pd.date_range("2024-01-01", periods=90), "group": rng.choice(STRANGE, 90)})


DRAW = {"bar": lambda t, n: bar(t, "group", n), "line": lambda t, n: line(t, "when", n, by="group"), "scatter": lambda t, n: scatter(t, n, "y", by="group"),
        "histogram": lambda t, n: histogram(t, n), "box": lambda t, n: box(t, n, "group"), "missing": lambda t, n: missing_map(t.mask(t["y"] > 0)),
        "map": lambda t, n: vector_map(t[[n, "y"]], t["group"])}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("chart", DRAW)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_strange_names_do_no_harm(chart, name):
    page = svg(DRAW[chart](table(name), name), name)
    root = ET.fromstring(page)
    assert root.tag.endswith("svg") and not [e for e in root.iter() if e.tag.endswith("script")]
    assert not re.findall(r'(?:href|src)="(?!#|data:image/png)', page) and len(page) < 300_000


def test_ids_differ_between_figures():
    first, second = (set(re.findall(r'\bid="([^"]+)"', svg(histogram(table(), name), name))) for name in ("x", "y"))
    assert first and second and not first & second
    page = svg(scatter(table(), "x", "y"), "points")
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page)) <= ids


def test_same_figure_same_bytes():
    assert svg(bar(table(), "group"), "a") == svg(bar(table(), "group"), "a")


def test_long_label_is_kept_in_full():
    assert f"<title>{'a' * 300}</title>" in svg(bar(table(), "group"), "groups")


def test_settings_of_the_caller_stay():
    before = matplotlib.rcParams["axes.grid"], matplotlib.rcParams["font.size"]
    histogram(table(), "x")
    assert (matplotlib.rcParams["axes.grid"], matplotlib.rcParams["font.size"]) == before


def test_bars_have_the_lengths_of_the_counts():
    ax = bar(pd.DataFrame({"c": list("aaabbc") + [None]}), "c", top=2)
    assert [round(p.get_width()) for p in ax.patches] == [3, 2, 2] and ax.get_yticklabels()[-1].get_text() == "2 others"


def test_line_sums_by_period_and_shows_gaps_as_zero():
    times = pd.to_datetime(["2024-01-01", "2024-01-01", "2024-01-04"])
    ax = line(pd.DataFrame({"t": times, "v": [1.0, 2.0, 5.0]}), "t", "v")
    assert sum(np.nansum(l.get_ydata()) for l in ax.lines if l.get_linestyle() == "-") == 8


@pytest.mark.parametrize("draw, says", [
    (lambda t: bar(t, "z"), "no column 'z'"), (lambda t: histogram(t, "group"), "must hold numbers"), (lambda t: line(t, "x"), "must hold dates"),
    (lambda t: histogram(t.assign(x=np.nan), "x"), "no values"), (lambda t: vector_map([[np.nan, 1]]), "finite"), (lambda t: line(t, "when", "x", how="total"), "'sum'"),
    (lambda t: vector_map(t[["x", "y"]], ["a"]), "as many")])
def test_errors_name_the_column(draw, says):
    with pytest.raises(ValueError, match=says):
        draw(table())


def test_extremes_draw():
    histogram(pd.DataFrame({"x": [5.0]}), "x")
    histogram(pd.DataFrame({"x": [1e300, -1e300, np.inf, 3]}), "x")
    scatter(pd.DataFrame({"x": [1], "y": [True]}), "x", "y")
    missing_map(pd.DataFrame({"x": [1]}))
    vector_map([[1.0], [2.0]])
    vector_map(np.zeros((5, 3)))
    line(pd.DataFrame({"t": pd.to_datetime(["2024-01-01", None])}), "t")
    box(pd.DataFrame({"x": [1, 2, None], "g": ["a", "b", None]}, index=[0, 0, 0]), "x", "g")
