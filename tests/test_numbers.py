"""The page of numbers: every figure on it comes from a result file, and a new, missing or unknown file does not break it."""
import json
import re
from collections import Counter

import matplotlib.pyplot
import pytest

import dlagg.course.home
from conftest import ROOT

PAGE, RESULTS = ROOT / "nbs" / "numbers.ipynb", ROOT / "bench" / "results"


@pytest.fixture
def page(tmp_path, monkeypatch):
    "Run the page on a copy of the results, changed by `change(folder)`; the text that it shows."
    matplotlib.use("agg")
    folder = tmp_path / "bench" / "results"
    folder.mkdir(parents=True)
    for path in RESULTS.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(dlagg.course.home, "share_path", lambda name: tmp_path / name)
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda thing: shown.append(thing.data))

    def run(change=lambda folder: None):
        change(folder)
        shown.clear()
        names = {}
        for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
        matplotlib.pyplot.close("all")
        return "\n\n".join(shown)
    return run


def scaled(record, factor):
    "The record with every measured number times `factor`, whole numbers (sizes, seeds) left alone."
    if isinstance(record, dict):
        return {key: scaled(value, factor) for key, value in record.items()}
    if isinstance(record, list):
        return [scaled(value, factor) for value in record]
    return record * factor if isinstance(record, float) else record


@pytest.mark.parametrize("name", sorted(path.stem for path in RESULTS.glob("*.json")))
def test_other_results_make_other_figures(page, name):
    def change(folder):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(scaled(json.loads(path.read_text()), 0.37)))
    before, after = page(), page(change)
    figures = [Counter(re.findall(r"\d+\.\d+", text)) for text in (before, after)]    # how often each: on a long page many stand there by chance
    assert figures[1] - figures[0], f"the page does not notice other figures in {name}.json"


def test_no_figure_is_typed_by_hand():
    prose = "\n".join("".join(cell["source"]) for cell in json.loads(PAGE.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "markdown")
    assert set(re.findall(r"\d+\.\d+", prose)) <= {"0.99", "0.85", "0.8", "0.3", "0.001"}, "only what was asked may be typed"


def test_a_new_file_is_shown(page):
    record = {"machine": "a machine", "speed": 12.5, "cases": [{"case": "one", "seconds": 0.125, "deep": {"a": 1}}, {"case": "two", "seconds": 0.25}]}
    text = page(lambda folder: (folder / "brand_new.json").write_text(json.dumps(record)))
    assert "**brand_new**" in text and "speed 12.5" in text and "| one | 0.125 |" in text


def test_missing_files_are_said(page):
    text = page(lambda folder: [path.unlink() for path in folder.glob("*.json")])
    assert text.count("Not measured yet") >= 7 and "0 of 0 are met" in text


def test_a_shortfall_is_said(page):
    def change(folder):
        record = json.loads((folder / "pooling.json").read_text())
        record["ratio"]["torch_geometric"], record["machine"], record["earlier"] = 1.25, "x86_64, 2 cores, load 0.1", []
        (folder / "pooling.json").write_text(json.dumps(record))
    row, = [line for line in page(change).splitlines() if "beside torch_geometric" in line]
    assert "1.25 times, the quietest of 1 run(s) | **not yet**" in row
