"""The rules of the house: notebooks and modules match, dependencies point one way, the wheel is whole."""
import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from configparser import ConfigParser
from pathlib import Path

import pytest

from conftest import ROOT, need

NBS, LIB = ROOT / "nbs", ROOT / "dlagg"
PARTS = {re.sub(r"^\d+_", "", p.name): int(p.name.split("_")[0]) for p in NBS.glob("[0-9]*_*") if p.is_dir()}
NOTEBOOKS = sorted(p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def default_exp(path):
    "What the notebook says it exports, or None; a second word on it is an error."
    source = "\n".join("".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code")
    found = re.findall(r"^#\|\s*default_exp\s+(\S+)", source, re.M)
    assert len(found) <= 1, f"{path.relative_to(ROOT)} names {len(found)} modules: {found}"
    return found[0] if found else None


def module_of(path):
    "The module that a notebook's path stands for: the same path with the numbers dropped."
    return ".".join(re.sub(r"^\d+_", "", part) for part in path.relative_to(NBS).with_suffix("").parts)


def faults_of_layout(notebooks, modules):
    "Where notebooks and modules do not match one to one: a list of sentences."
    exports = {path: name for path in notebooks if (name := default_exp(path))}
    faults = [f"{p.name} exports {name}, its path says {module_of(p)}" for p, name in exports.items() if name != module_of(p)]
    names = list(exports.values())
    faults += [f"{name} is exported by two notebooks" for name in sorted(set(names)) if names.count(name) > 1]
    faults += [f"{m} has no notebook" for m in sorted(set(modules) - set(names))]
    return faults + [f"{m} was never exported" for m in sorted(set(names) - set(modules))]


def exported_modules():
    "Every module of the package but the `__init__` files and nbdev's index."
    files = [p for p in LIB.rglob("*.py") if p.name not in ("__init__.py", "_modidx.py")]
    return [".".join(p.relative_to(LIB).with_suffix("").parts) for p in files]


def imports_of(path):
    "`(level, module)` of every dlagg import in a file."
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "dlagg")
        elif isinstance(node, ast.ImportFrom):
            package = ["dlagg", *path.relative_to(LIB).parts[:-1]]
            base = package[:len(package) - node.level + 1] if node.level else []
            full = ".".join(base + ([node.module] if node.module else []))
            if full.split(".")[0] == "dlagg":
                yield from ([full] if full.count(".") else [f"dlagg.{a.name}" for a in node.names])


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and "__pycache__" not in p.parts and ".ipynb_checkpoints" not in p.parts}


def test_notebooks_and_modules_match():
    assert not faults_of_layout(NOTEBOOKS, exported_modules())


def test_the_layout_test_can_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "NBS", tmp_path)
    for name, exports in {"1_a/01_x.ipynb": "a.x", "1_a/02_x.ipynb": "a.x", "1_a/03_y.ipynb": "a.z"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"cells": [{"cell_type": "code", "source": [f"#| default_exp {exports}"]}]}))
    faults = faults_of_layout(sorted(tmp_path.rglob("*.ipynb")), ["a.x", "a.orphan"])
    assert faults == ["03_y.ipynb exports a.z, its path says a.y", "a.x is exported by two notebooks",
                      "a.orphan has no notebook", "a.z was never exported"]


@pytest.mark.parametrize("path", sorted(p for p in LIB.rglob("*.py") if p.parent != LIB), ids=lambda p: str(p.relative_to(LIB)))
def test_imports_point_to_lower_parts(path):
    part = path.relative_to(LIB).parts[0]
    for name in imports_of(path):
        if name == "dlagg":
            continue
        other = name.split(".")[1]
        assert other == part or PARTS[other] < PARTS[part], f"{path.relative_to(ROOT)} imports {name}"
        assert {part, other} != {"mining", "nn"}, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("path", sorted(p for p in LIB.rglob("*.py") if p.stem.count("_") and p.parent != LIB and p.name != "__init__.py"),
                         ids=lambda p: str(p.relative_to(LIB)))
def test_in_depth_modules_do_not_import_their_lesson(path):
    lesson = ".".join(["dlagg", *path.relative_to(LIB).parts[:-1], path.stem.split("_")[0]])
    assert lesson not in set(imports_of(path))


@pytest.mark.parametrize("path", sorted(LIB.rglob("*.py")), ids=lambda p: str(p.relative_to(LIB)))
def test_modules_are_small_and_explicit(path):
    source = path.read_text()
    if path.name != "_modidx.py":
        assert len(source.splitlines()) <= 480, "a module over 400 lines (nbdev's own cell comments allowed for) wants a second notebook"
    assert not re.search(r"^\s*from\s+\S+\s+import\s+\*", source, re.M)
    assert not re.search(r"import pickle|\bpickle\.(load|dump)|\bjoblib\.(load|dump)\b|allow_pickle\s*=\s*True", source)


FOLDED = r"^#\|\s*(hide\s*$|code-fold: true)"


def code_lines(source):
    "How many lines of code a cell has, without blank lines, comments and docstrings."
    kinds, doc = (ast.FunctionDef, ast.ClassDef), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            doc |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and i not in doc for i, line in lines)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: str(p.relative_to(NBS)))
def test_notebook_hygiene(path):
    assert path.stat().st_size < 1_000_000
    ids = set()
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        assert cell["id"] not in ids, "two cells with one id"
        ids.add(cell["id"])
        if cell["cell_type"] == "code":
            assert not re.search(r"^#\|\s*export", source, re.M) or code_lines(source) <= 45, f"an export cell of {code_lines(source)} lines of code"
            shown = json.dumps(cell["outputs"])
            assert not re.search(r"Warning:|\.venv/|site-packages|ipykernel_", shown), "an output shows a warning or a path of the machine it was made on"
            folded = cell["metadata"].get("jupyter", {}).get("source_hidden", False)
            assert folded == bool(re.search(FOLDED, source, re.M)), "folded on the site is folded in JupyterLab: run `make notebooks`"
            errors = [o["ename"] for o in cell["outputs"] if o["output_type"] == "error"]
            assert not errors or "raises-exception" in cell["metadata"].get("tags", []), errors


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the tracked files, so that the tools may write."
    folder = tmp_path_factory.mktemp("house") / "dlagg"
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize("command", ["nbdev_export", "nbdev_clean"])
def test_nbdev_changes_nothing(copy, command):
    before = tree(copy)
    env = {**os.environ, "PYTHONPATH": str(copy)}
    subprocess.run([Path(sys.executable).with_name(command)], cwd=copy, env=env, check=True, capture_output=True)
    changed = [str(name) for name, data in tree(copy).items() if before.get(name) != data]
    assert not changed, f"{command} changes {changed}"


def test_import_is_light():
    code = ("import sys, time; t = time.perf_counter(); import dlagg; dt = time.perf_counter() - t;"
            "print(dt, sorted({'keras', 'pandas', 'matplotlib', 'numpy', 'jax'} & set(sys.modules)))")
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(" ", 1) for _ in range(3)]
    assert all(loaded.strip() == "[]" for _, loaded in runs), runs
    assert min(float(seconds) for seconds, _ in runs) < 0.2, runs


def test_every_public_name_can_be_had():
    import importlib
    for part in PARTS:
        if (LIB / part).exists():
            module = importlib.import_module(f"dlagg.{part}")
            assert module.__all__
            for name in module.__all__:
                assert getattr(module, name).__doc__ or not callable(getattr(module, name)), f"dlagg.{part}.{name} has no docstring"


def test_every_import_is_declared():
    text = " ".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]).lower().replace("_", "-")
    declared = set(re.findall(r"[a-z][a-z0-9-]*(?=>)", text))
    packages = {"sklearn": "scikit-learn"}
    for path in LIB.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"dlagg"}:
                assert packages.get(top, top).lower().replace("_", "-") in declared, f"{path.relative_to(ROOT)} imports {top}, which pyproject.toml does not name"


def test_one_version():
    ini = ConfigParser()
    ini.read(ROOT / "settings.ini")
    import dlagg
    assert ini["DEFAULT"]["version"] == dlagg.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


def test_the_lock_names_no_host():
    for name in ("requirements.lock", "pyproject.toml", "Makefile", "settings.ini"):
        text = (ROOT / name).read_text()
        assert not re.search(r"(?<!no-emit-)index-url|--find-links|https?://", text), name
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and not line.startswith("#")]
    assert all("==" in line for line in pins)


@pytest.fixture(scope="module")
def installed(tmp_path_factory, copy):
    "Python of an empty environment that got the built wheel and what the wheel says it needs, and nothing else."
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=copy, check=True, capture_output=True)
    wheel, = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=True, symlinks=True)
    python = folder / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", str(ROOT / "requirements.lock"), str(wheel)]
    uv = shutil.which("uv") and ["uv", "pip", "install", "-q", "--python", str(python), *pip[6:]]
    for command in filter(None, (uv, pip)):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
    need(done.returncode == 0, f"a package index ({done.stderr[-300:]})")
    return python


def outside(python, *args, cwd, **kwargs):
    "Run the installed package far from the checkout."
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DLAGG_MIRROR")}
    return subprocess.run([str(python), *args], cwd=cwd, env=env, capture_output=True, text=True, **kwargs)


def test_wheel_finds_its_files(installed, tmp_path):
    code = ("import dlagg, pathlib; from dlagg.course import share_path; from dlagg.tables import load_shop;"
            "print(dlagg.__file__); print(len(load_shop().orders)); print(len(list(share_path('nbs').rglob('*.ipynb'))));"
            "print(len(list((share_path('bench') / 'results').glob('*.json'))))")
    done = outside(installed, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    where, rows, notebooks, results = done.stdout.split()
    assert str(ROOT) not in where and "site-packages" in where
    assert int(rows) > 1000 and int(notebooks) == len(NOTEBOOKS)
    assert int(results) == len(list((ROOT / "bench" / "results").glob("*.json"))) > 0


def test_wheel_runs_the_analysis(installed, tmp_path):
    done = outside(installed.with_name("dlagg"), "run", "--out", "report", cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report" / "report.html").stat().st_size > 20_000
