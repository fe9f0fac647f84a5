"""The record of progress, where several processes, damage and a folder without permission come in."""
import json
import re
import subprocess
import sys
import warnings

import pytest

from dlagg.course.exercises import check, hint, progress
from dlagg.course.exercises_progress import read_progress, update_progress

WRITER = """
import sys
from dlagg.course.exercises_progress import update_progress
for i in range(25):
    update_progress(f"demo.e{i % 5}", attempts=1)
    update_progress(f"own.p{sys.argv[1]}_{i}", attempts=1, passed=True)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_processes_that_write_at_the_same_time_lose_nothing(home):
    processes = [subprocess.Popen([sys.executable, "-c", WRITER, str(p)]) for p in range(4)]
    assert [p.wait(60) for p in processes] == [0] * 4
    entries = read_progress()
    assert [entries[f"demo.e{i}"]["attempts"] for i in range(5)] == [20] * 5
    assert sum(id.startswith("own.") and entry["passed"] is not None for id, entry in entries.items()) == 100
    assert sorted(p.name for p in home.iterdir()) == ["progress.json", "progress.lock"], "no draft is left"


def test_a_killed_writer_does_not_lock_the_others_out(home):
    hold = "import time; from dlagg.course.exercises_progress import _locked, _path\nwith _locked(_path()):\n    print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert update_progress("demo.e", attempts=1)["attempts"] == 1
    assert (home / "progress.json").exists()


@pytest.mark.parametrize("content", [
    b"", b"{", b"null", b"[1, 2]", b"\xff\xfe\x00", b'{"version": 2, "exercises": {}}', b'{"version": 1}',
    b'{"version": 1, "exercises": {"a.b": 3}}', b'{"version": 1, "exercises": {"a.b": {"attempts": "x", "hints": 0}}}', b"[" * 100_000,
])
def test_a_damaged_file_is_set_aside_and_said(home, content):
    home.mkdir()
    (home / "progress.json").write_bytes(content)
    with pytest.warns(UserWarning, match="set aside as .*progress-damaged"):
        assert read_progress() == {}
    aside, = home.glob("progress-damaged-*.json")
    assert aside.read_bytes() == content
    update_progress("demo.e", attempts=1, passed=True)
    assert read_progress()["demo.e"]["passed"]


def test_fields_of_a_later_version_survive(home):
    update_progress("demo.e", attempts=1)
    data = json.loads((home / "progress.json").read_text())
    data["exercises"]["demo.e"]["stars"] = 5
    (home / "progress.json").write_text(json.dumps(data))
    assert update_progress("demo.e", attempts=1)["stars"] == 5


def test_a_home_that_cannot_be_written_warns_once_and_the_check_works(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "file" / "home"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert check("exercises.midrange", lambda x: (min(x) + max(x)) / 2)
        assert "Hint 1" in hint("exercises.midrange").text and "Hint 2" in hint("exercises.midrange").text
        assert progress().passed == 1
    assert len(caught) == 1 and "set DLAGG_HOME to a folder that you can write to" in str(caught[0].message)


def test_a_pass_stays_a_pass_and_an_attempt_counts():
    check("exercises.midrange", lambda x: (min(x) + max(x)) / 2)
    first = read_progress()["exercises.midrange"]["passed"]
    check("exercises.midrange", lambda x: 0)
    entry = read_progress()["exercises.midrange"]
    assert entry["passed"] == first and entry["attempts"] == 2
    text = str(progress())
    assert text.isascii() and re.search(r"^exercises +\[==========\.\.\.\.\.\.\.\.\.\.\]  1 of 2", text, re.M)    # the longest name of a lesson sets the column
