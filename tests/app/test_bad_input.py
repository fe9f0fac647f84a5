"""What `dlagg run` says when it is given something that it cannot analyse: one line, exit code 2, nothing half-written."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DLAGG = Path(sys.executable).with_name("dlagg")


def dlagg(*args, cwd, **kwargs):
    return subprocess.run([DLAGG, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=300, **kwargs)


def small(n=400, groups=40):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"who": rng.integers(0, groups, n), "price": rng.gamma(2, 10, n).round(2), "kind": rng.choice(["a", "b"], n)})


def wide(path):
    path.write_text(",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join("1" for _ in range(10_000)) + "\n")


def png(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20)


BAD = {
    "missing file": (lambda p: None, "no such file"),
    "empty file": (lambda p: p.write_text(""), "empty"),
    "header only": (lambda p: p.write_text("who,price\n"), "no rows"),
    "no such column": (lambda p: small().rename(columns={"who": "whom"}).to_csv(p, index=False), "whom"),
    "key all missing": (lambda p: small().assign(who=None).to_csv(p, index=False), "who"),
    "wrong encoding": (lambda p: p.write_bytes("who,city\n1,K\u00f6ln\n".encode("latin-1")), "encoding"),
    "binary file": (png, "PNG"),
    "ten thousand columns": (wide, "columns"),
    "a folder": (lambda p: p.mkdir(), "folder"),
    "one column": (lambda p: small()[["who"]].to_csv(p, index=False), "column"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_file(case, tmp_path):
    make, word = BAD[case]
    path = tmp_path / "rows.csv"
    make(path)
    done = dlagg("run", path, "--by", "who", "--out", "report", "--quiet", cwd=tmp_path)
    assert done.returncode == 2, done
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert word.lower() in done.stderr.lower() and "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name != "rows.csv"] == []


OPTIONS = {
    "no key": ([], "--by"),
    "no such target": (["--by", "who", "--target", "churn"], "churn"),
    "no such time": (["--by", "who", "--time", "when"], "when"),
    "target differs within a group": (["--by", "who", "--target", "price"], "differs"),
    "time that is no time": (["--by", "who", "--time", "kind"], "kind"),
    "key as target": (["--by", "who", "--target", "who"], "who"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_option(case, tmp_path):
    options, word = OPTIONS[case]
    small().to_csv(tmp_path / "rows.csv", index=False)
    done = dlagg("run", "rows.csv", *options, "--out", "report", "--quiet", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert word in done.stderr
    assert not (tmp_path / "report").exists()


def test_a_folder_that_is_not_a_report_is_left_alone(tmp_path):
    small().to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    done = dlagg("run", "rows.csv", "--by", "who", "--out", "thesis", "--quiet", cwd=tmp_path)
    assert done.returncode == 2 and "chapter1.txt" in done.stderr
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"


def test_killed_half_way_leaves_the_old_report(tmp_path):
    small(4000, 300).to_csv(tmp_path / "rows.csv", index=False)
    old = tmp_path / "report"
    old.mkdir()
    (old / "report.html").write_text("the old report")
    for number in (signal.SIGTERM, signal.SIGKILL):
        run = subprocess.Popen([DLAGG, "run", "rows.csv", "--by", "who", "--out", "report"], cwd=tmp_path,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in run.stderr:
            if "Learn" in line:
                break
        run.send_signal(number)
        run.stderr.read()
        assert run.wait(60) != 0
        assert (old / "report.html").read_text() == "the old report"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["report", "rows.csv"]


def test_unwritable_output(tmp_path):
    small().to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "file").write_text("")
    done = dlagg("run", "rows.csv", "--by", "who", "--out", "file/report", "--quiet", cwd=tmp_path)
    assert done.returncode == 2 and "file" in done.stderr and len(done.stderr.strip().splitlines()) == 1
