"""What every test shares: the checkout's path, the mirror of public data, and a home of its own."""
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CI = os.environ.get("CI") == "true"


@pytest.fixture(scope="session")
def root():
    "The checkout."
    return ROOT


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    "No test reads or writes the user's own downloads and progress."
    monkeypatch.setenv("DLAGG_HOME", str(tmp_path / "dlagg-home"))


@pytest.fixture(scope="session")
def mirror():
    "The folder of public data sets, where there is one."
    for folder in (os.environ.get("DLAGG_MIRROR"), ROOT.parent / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    need(False, "a mirror of the public data sets (set DLAGG_MIRROR to a folder that has them)")


def need(condition, what):
    "Skip a test whose requirement is missing; under CI a missing requirement is a failure."
    if not condition:
        (pytest.fail if CI else pytest.skip)(f"{what} is missing")
