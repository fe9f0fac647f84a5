"""Every exercise of every lesson: its stub fails, its solution passes, its wrong answers are named; the cells are in line with the source."""
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dlagg.course.exercises import check, hint
from dlagg.course.exercises_source import exercise_files, lesson_name, read_exercises

ROOT = Path(__file__).resolve().parents[2]
EXERCISES = [exercise for path in exercise_files(ROOT / "nbs") for exercise in read_exercises(path)]
WRONG = [pytest.param(e, w, id=f"{e.id}-{i}") for e in EXERCISES for i, w in enumerate(e.wrong, 1)]
each = pytest.mark.parametrize("exercise", EXERCISES, ids=[e.id for e in EXERCISES])


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def verdict(exercise, code, folder):
    "Run code as a learner would, in a file of its own, and check what it defines."
    space, file = {}, folder / "answer.py"
    exec(exercise.setup, space)
    file.write_text(code, encoding="utf-8")
    exec(compile(code, str(file), "exec"), space)
    return check(exercise.id, space[exercise.answer])


def test_there_are_exercises_and_each_lesson_has_one_file():
    names = Counter(lesson_name(path) for path in exercise_files(ROOT / "nbs"))
    assert names and max(names.values()) == 1, f"two lessons of one name make ids ambiguous: {names}"


@each
def test_the_stub_is_not_an_answer(exercise, tmp_path, home):
    result = verdict(exercise, exercise.stub, tmp_path)
    assert not result and result.status == "not started", result
    assert not (home / "progress.json").exists(), "an untouched stub is no attempt"


@each
def test_the_solution_passes(exercise, tmp_path):
    assert verdict(exercise, exercise.solution, tmp_path)


@pytest.mark.parametrize("exercise, wrong", WRONG)
def test_a_wrong_answer_is_named(exercise, wrong, tmp_path):
    result = verdict(exercise, wrong["code"], tmp_path)
    assert not result
    assert wrong["says"] in result.message, f"{wrong['says']!r} is not in: {result.message}"


@each
def test_hints_come_one_at_a_time(exercise):
    shown = [hint(exercise.id).text.count("**Hint ") for _ in range(len(exercise.hints) + 1)]
    assert shown == [*range(1, len(exercise.hints) + 1), len(exercise.hints)]


def test_the_cells_in_the_lessons_are_up_to_date():
    run = subprocess.run([sys.executable, ROOT / "docs" / "exercises.py", "--check"], capture_output=True, text=True, cwd="/")
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_command_writes_and_then_has_nothing_to_do(tmp_path):
    source = ROOT / "nbs" / "0_course"
    for suffix in (".ipynb", ".exercises.toml"):
        (tmp_path / f"03_exercises{suffix}").write_bytes((source / f"03_exercises{suffix}").read_bytes())
    toml, notebook = tmp_path / "03_exercises.exercises.toml", tmp_path / "03_exercises.ipynb"
    toml.write_text(toml.read_text().replace("The middle of a sample", "Half-way"))

    def command(*args):
        return subprocess.run([sys.executable, ROOT / "docs" / "exercises.py", str(notebook), *args], capture_output=True, text=True)

    before = notebook.read_bytes()
    assert command("--check").returncode == 1 and notebook.read_bytes() == before
    assert "written" in command().stdout and "Half-way" in notebook.read_text()
    after = notebook.read_bytes()
    assert command("--check").returncode == 0 and command().stdout == "" and notebook.read_bytes() == after
    clean = subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", notebook], cwd=ROOT, capture_output=True, text=True)
    assert clean.returncode == 0 and notebook.read_bytes() == after, "nbdev_clean must have nothing to do"
    toml.write_text(toml.read_text().replace('level = "easy"', 'level = "simple"'))
    run = command()
    assert run.returncode == 1 and "level must be one of" in run.stderr and "Traceback" not in run.stderr


def test_an_error_names_the_learners_line_and_not_the_librarys(tmp_path):
    midrange = next(e for e in EXERCISES if e.id == "exercises.midrange")
    code = "import numpy as np\n\ndef helper(x):\n    return np.linalg.inv(x)\n\ndef midrange(x):\n    return helper(x)\n"
    result = verdict(midrange, code, tmp_path)
    assert result.status == "error" and result.message.endswith("line 4: `return np.linalg.inv(x)`") and "LinAlgError" in result.message


def test_a_keyboard_interrupt_is_the_learners():
    def midrange(x):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        check("exercises.midrange", midrange)


def test_endless_recursion_is_one_message(tmp_path):
    midrange = next(e for e in EXERCISES if e.id == "exercises.midrange")
    result = verdict(midrange, "def midrange(x):\n    return midrange(x)\n", tmp_path)
    assert result.status == "error" and "RecursionError" in result.message and len(result.message) < 300
