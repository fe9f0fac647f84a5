"""A learner's copy of the course, through an upgrade of the package."""
import json
from pathlib import Path

import pytest

from dlagg.course import exercises_copy
from dlagg.course.exercises_copy import MANIFEST, CourseError, copy_course


def notebook(text, outputs=()):
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": None, "outputs": list(outputs), "source": [text]}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def course(tmp_path, monkeypatch):
    "A small course in place of the shipped one."
    folder = tmp_path / "package" / "nbs"
    (folder / "part").mkdir(parents=True)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "a-checkpoint.ipynb").write_text("{}")
    for name in "abcd":
        (folder / "part" / f"{name}.ipynb").write_text(notebook(f"{name} = 1"))
    (folder / "part" / "a.exercises.toml").write_text("x = 1")
    monkeypatch.setattr(exercises_copy, "share_path", lambda name: folder)
    return folder / "part"


def test_an_upgrade_refreshes_adds_and_keeps(course, tmp_path):
    mine = tmp_path / "mine"
    assert copy_course(mine).added == [f"part/{n}" for n in ("a.exercises.toml", "a.ipynb", "b.ipynb", "c.ipynb", "d.ipynb")]
    (mine / "part" / "b.ipynb").write_text(notebook("b = 'my answer'"))                  # the learner edits b and c,
    (mine / "part" / "c.ipynb").write_text(notebook("c = 'my answer'"))
    (mine / "part" / "d.ipynb").write_text(notebook("d = 1", [{"output_type": "stream", "name": "stdout", "text": "ran"}]))    # only runs d,
    (mine / "part" / "notes.ipynb").write_text(notebook("notes"))                        # and adds a notebook of their own
    for name in "acd":
        (course / f"{name}.ipynb").write_text(notebook(f"{name} = 2"))                   # the package has new a, c, d
    (course / "e.ipynb").write_text(notebook("e = 1"))                                   # and a new lesson
    copy = copy_course(mine)
    assert copy.added == ["part/e.ipynb"]
    assert copy.refreshed == ["part/a.ipynb", "part/d.ipynb"]
    assert copy.kept == ["part/b.ipynb", "part/c.ipynb"]
    assert copy.unchanged == ["part/a.exercises.toml"]
    assert "my answer" in (mine / "part" / "c.ipynb").read_text() and "a = 2" in (mine / "part" / "a.ipynb").read_text()
    assert (mine / "part" / "notes.ipynb").exists()
    assert "1 added, 2 refreshed, 2 kept because you changed them, 1 already up to date" in str(copy)
    again = copy_course(mine)
    assert again.kept == copy.kept and not again.added and not again.refreshed


def test_an_edit_that_is_undone_lets_the_lesson_be_refreshed_again(course, tmp_path):
    mine = tmp_path / "mine"
    copy_course(mine)
    (mine / "part" / "a.ipynb").write_text(notebook("a = 'mine'"))
    assert copy_course(mine).kept == ["part/a.ipynb"]
    (mine / "part" / "a.ipynb").write_text(notebook("a = 1"))
    (course / "a.ipynb").write_text(notebook("a = 2"))
    assert copy_course(mine).refreshed == ["part/a.ipynb"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": 3}', '{"files": {"a": 3}}', '{"version": 1}'])
def test_a_damaged_manifest_overwrites_nothing(course, tmp_path, damage):
    mine = tmp_path / "mine"
    copy_course(mine)
    (mine / "part" / "b.ipynb").write_text("half a noteb")
    (course / "a.ipynb").write_text(notebook("a = 2"))
    (mine / MANIFEST).write_text(damage)
    copy = copy_course(mine)
    assert copy.kept == ["part/a.ipynb", "part/b.ipynb"] and not copy.refreshed
    assert (mine / "part" / "b.ipynb").read_text() == "half a noteb"


def test_a_copy_that_was_interrupted_is_completed(course, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    real, calls = exercises_copy.shutil.copyfile, []

    def full_disk(source, target):
        calls.append(source)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    monkeypatch.setattr(exercises_copy.shutil, "copyfile", full_disk)
    with pytest.raises(CourseError, match="No space left on device"):
        copy_course(mine)
    monkeypatch.setattr(exercises_copy.shutil, "copyfile", real)
    copy = copy_course(mine)
    assert len(copy.unchanged) == 2 and len(copy.added) == 3 and not copy.kept
    assert not [p for p in mine.rglob(".*") if p.name != MANIFEST], "no draft is left"


def test_folders_that_are_refused(course, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    for target, words in [("file", "is a file"), ("file/deeper", "below one"), ("full", "not a copy of the course"),
                          ("package/nbs", "where the course itself lives"), ("package/nbs/part/x", "itself lives"), ("package", "itself lives")]:
        with pytest.raises(CourseError, match=words):
            copy_course(tmp_path / target)
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(CourseError, match="cannot be written"):
        copy_course(Path("/proc/dlagg-course"))


def test_a_folder_in_the_place_of_a_lesson_is_a_clear_error(course, tmp_path):
    mine = tmp_path / "mine"
    (mine / "part" / "a.ipynb").mkdir(parents=True)
    (mine / MANIFEST).write_text('{"version": 1, "files": {}}')
    with pytest.raises(CourseError, match="a.ipynb"):
        copy_course(mine)
