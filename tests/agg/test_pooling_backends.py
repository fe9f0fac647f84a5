"""Every pooling layer on a second backend says the same: torch (with gradients) where it is installed, else Keras' NumPy backend (forward).

`make torch` makes an environment with torch, .venv-torch; DLAGG_TORCH_PYTHON may name another Python that has torch and what the package needs.
With torch there is also: the whole contract suite of the poolings on that backend, and a DeepAggregator that learns, is saved and is loaded.
"""
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT

import dlagg
import dlagg.agg    # before Keras: it chooses the backend
import keras

PROGRAM = """
import sys
import numpy as np
import dlagg.agg
import keras
from dlagg.agg.pooling import POOLINGS, SetTransformerPooling, SumPooling, pooling_layer

given, out, backend = np.load(sys.argv[1]), {}, keras.config.backend()
rows, ids = given["rows"], given["ids"]


def slope(layer, weight):
    "Gradient for the rows, by the backend's own means; None where it has none."
    if backend == "jax":
        import jax
        return jax.grad(lambda x: (layer(x, ids, num_segments=6)[:5] * weight).sum())(rows)
    if backend == "torch":
        import torch
        x = torch.tensor(rows, requires_grad=True)
        (layer(x, ids, num_segments=6)[:5] * torch.tensor(weight)).sum().backward()
        return x.grad.numpy()


for name in [*POOLINGS, "isab"]:
    layer = SetTransformerPooling(16, inducing=3) if name == "isab" else pooling_layer(name)
    layer(rows, ids, num_segments=6)
    rng = np.random.default_rng(5)
    layer.set_weights([abs(rng.normal(size=w.shape)) if w.ndim == 0 else rng.normal(size=w.shape) * 0.3 for w in layer.get_weights()])
    out[name] = keras.ops.convert_to_numpy(layer(rows, ids, num_segments=6))
    filled = type(layer).from_config(layer.get_config() | {"empty": -1.5})
    filled(rows, ids, num_segments=6)
    filled.set_weights(layer.get_weights())
    out[name + ".filled"] = keras.ops.convert_to_numpy(filled(rows, ids, num_segments=6))
    out[name + ".padded"] = keras.ops.convert_to_numpy(layer(given["box"], mask=given["mask"]))
    gradient = slope(layer, rng.normal(size=out[name][:5].shape).astype("float32"))
    if gradient is not None:
        out[name + ".gradient"] = np.asarray(gradient)
whole = np.array([[2 ** 24 + 1], [2], [-7]], "int32")    # 2 ** 24 + 1 is no float32
out["whole"] = keras.ops.convert_to_numpy(SumPooling()(whole, [0, 0, 1], num_segments=3))
out["whole.padded"] = keras.ops.convert_to_numpy(SumPooling()(whole[[[0, 1], [2, 0], [0, 1]]], mask=[[1, 1], [1, 0], [0, 0]]))
np.savez(sys.argv[2], **out)
"""

LEARNS = """
import sys
import numpy as np
import pandas as pd
from dlagg.agg import DeepAggregator
import keras

assert keras.config.backend() == "torch"
rng = np.random.default_rng(0)
key = np.repeat(np.arange(60), rng.poisson(5, 60) + 1)
rows = pd.DataFrame({"key": key, "price": rng.lognormal(size=len(key)), "kind": rng.choice(["tea", "pot"], len(key)),
                     "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, len(key)), "h")})
target = pd.Series(np.arange(60) % 2)
model = DeepAggregator("key", pooling=["mean", "max", "attention", "pma"], epochs=1, random_state=0).fit(rows, target)
found = model.predict_proba(rows)
assert found.shape == (60, 2) and np.allclose(found.sum(axis=1), 1, atol=1e-5) and set(model.predict(rows)) <= {0, 1}
assert np.isfinite(model.transform(rows).to_numpy()).all()
model.save(sys.argv[1])
pd.testing.assert_frame_equal(DeepAggregator.load(sys.argv[1]).predict_proba(rows), found)
assert len(model.explain(rows, 3)) == (key == 3).sum()
"""


def second():
    "The other backend, and the Python that has it. A torch environment that was made whole but does not work is a failure, never a reason to take the other."
    made = ROOT / ".venv-torch"
    python = os.environ.get("DLAGG_TORCH_PYTHON") or (made / "bin" / "python" if (made / ".ready").exists() else None)
    python = python or (sys.executable if importlib.util.find_spec("torch") else None)
    return ("torch", python) if python else ("numpy", sys.executable)


def process(python, backend, *arguments):
    "Run that Python on that backend; its output."
    where = os.pathsep.join([str(Path(dlagg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": where, "PYTEST_ADDOPTS": ""}
    done = subprocess.run([python, *map(str, arguments)], env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"{backend}: {done.stdout[-6000:]}"
    return done.stdout


def run(python, backend, given, answer):
    process(python, backend, "-c", PROGRAM, given, answer)
    return dict(np.load(answer))


@pytest.fixture(scope="module")
def torch_python():
    backend, python = second()
    if backend != "torch":
        pytest.skip("no torch here; `make torch` gets it")
    return python


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    "What this backend and the other say."
    folder, rng, sizes = tmp_path_factory.mktemp("backends"), np.random.default_rng(0), [1, 7, 3, 20, 2]
    ids = np.repeat(np.arange(5), sizes).astype("int32")
    rows, order = rng.normal(size=(len(ids), 6)).astype("float32"), rng.permutation(len(ids))
    box, mask = np.zeros((6, 20, 6), "float32"), np.zeros((6, 20), bool)
    for g, size in enumerate(sizes):
        box[g, :size], mask[g, :size] = rows[ids == g], True
    np.savez(folder / "in.npz", rows=rows[order], ids=ids[order], box=box, mask=mask)
    backend, python = second()
    here = run(sys.executable, keras.config.backend(), folder / "in.npz", folder / "here.npz")
    return here, run(python, backend, folder / "in.npz", folder / "there.npz"), backend


def test_the_same_numbers_and_the_same_gaps(answers):
    here, there, backend = answers
    names = [name for name in here if not name.endswith("gradient")]
    assert len(names) >= 60
    for name in names:    # NaN in the same places
        np.testing.assert_allclose(here[name], there[name], rtol=1e-4, atol=1e-5 * max(1, np.nanmax(np.abs(here[name]))), err_msg=f"{name} on {backend}")


def test_the_same_gradients(answers):
    here, there, backend = answers
    if backend == "numpy":
        pytest.skip("Keras' NumPy backend has no gradients; install torch")
    names = [name for name in here if name.endswith("gradient")]
    assert len(names) >= 20
    for name in names:
        np.testing.assert_allclose(here[name], there[name], rtol=1e-3, atol=1e-5 * max(1, np.abs(here[name]).max()), err_msg=f"{name} on {backend}")


def test_whole_numbers_are_summed_exactly(answers):
    here, there, backend = answers
    for answer in (found[name] for found in (here, there) for name in ("whole", "whole.padded")):
        assert answer.dtype.kind == "i" and answer[:, 0].tolist() == [2 ** 24 + 3, -7, 0], (backend, answer)


def test_the_contract_on_torch(torch_python):
    "Permutations, pieces, empty groups, half precision, .keras files: the same tests, run again there."
    told = process(torch_python, "torch", "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", "tests/agg/test_pooling.py")
    assert int(re.search(r"(\d+) passed", told)[1]) > 200 and "skipped" not in told, told[-2000:]


def test_the_estimator_on_torch(torch_python, tmp_path):
    process(torch_python, "torch", "-c", LEARNS, tmp_path / "model")


def test_the_encoders_on_torch(torch_python):
    "A recurrent, an image, a Keras and an autoencoder's layer: alone as in company, saved and loaded, the same seed twice, an order learned."
    told = process(torch_python, "torch", "-m", "pytest", "-W", "ignore", "-p", "no:cacheprovider", "tests/agg/test_encoders.py", "-k", "company or saved or same_seed or learns")
    assert int(re.search(r"(\d+) passed", told)[1]) > 30, told[-2000:]
