"""Every pooling layer on a second backend says the same: torch (with gradients) where it is installed, else Keras' NumPy backend (forward).

DLAGG_TORCH_PYTHON may name a Python that has torch and Keras, if this one has not.
"""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
    out[name + ".padded"] = keras.ops.convert_to_numpy(layer(given["box"], mask=given["mask"]))
    gradient = slope(layer, rng.normal(size=out[name][:5].shape).astype("float32"))
    if gradient is not None:
        out[name + ".gradient"] = np.asarray(gradient)
whole = keras.ops.convert_to_numpy(SumPooling()(np.array([[2 ** 24 + 1], [2], [7]], "int32"), [0, 0, 1], num_segments=3))
assert whole.dtype.kind == "i" and whole[:, 0].tolist() == [2 ** 24 + 3, 7, 0], whole
np.savez(sys.argv[2], **out)
"""


def second():
    "The other backend, and the Python that has it."
    python = os.environ.get("DLAGG_TORCH_PYTHON") or (sys.executable if importlib.util.find_spec("torch") else None)
    return ("torch", python) if python else ("numpy", sys.executable)


def run(python, backend, given, answer):
    where = os.pathsep.join([str(Path(dlagg.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    subprocess.run([python, "-c", PROGRAM, given, answer], check=True, env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": where})
    return dict(np.load(answer))


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
    assert len(names) >= 40
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
