"""What every test shares: the checkout's path, the mirror of public data, and a home of its own."""
import gc
import os
import sys
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


@pytest.fixture(autouse=True)
def own_style():
    "A test that sets the house style leaves it to no other."
    yield
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].rcdefaults()    # all but the backend


@pytest.fixture(scope="session")
def mirror():
    "The folder of public data sets, where there is one."
    for folder in (os.environ.get("DLAGG_MIRROR"), ROOT.parent / "shared" / "data"):
        if folder and Path(folder).is_dir():
            return Path(folder)
    need(False, "a mirror of the public data sets (set DLAGG_MIRROR to a folder that has them)")


@pytest.fixture(scope="session")
def compiled_once(tmp_path_factory):
    "JAX keeps what it has compiled during this run, so that many small fits of one shape compile once. Other backends have no such cache."
    if os.environ.get("KERAS_BACKEND", "jax") != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache
    options = {"jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")), "jax_persistent_cache_min_compile_time_secs": 0, "jax_persistent_cache_min_entry_size_bytes": -1}
    before = {name: getattr(jax.config, name) for name in options}
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is options:
            yield


@pytest.fixture(autouse=True, scope="module")
def forget_compiled():
    "What JAX compiled for one file of tests is of no use to the next; kept, the programs of the whole suite take gigabytes."
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


def need(condition, what):
    "Skip a test whose requirement is missing; under CI a missing requirement is a failure."
    if not condition:
        (pytest.fail if CI else pytest.skip)(f"{what} is missing")
