"""Networks that train: seeds, histories, labels of the wrong kind, losses that are no number, early stopping, files that were tampered with."""
import io
import json
import os
import zipfile

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from dlagg.nn import (
    GRU, Adam, AdamW, BatchNormalization, Dense, Dropout, EarlyStopping, GradientDescent, History, LayerNormalization, Masking, Network, TrainingDiverged,
)
from dlagg.nn.backprop_fit import batches


def rows(n=120, d=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d)).astype(np.float32)
    return x, (x @ rng.normal(size=(d, classes))).argmax(axis=1)


def classifier(seed=0, rate=0.1, **options):
    layers = [Dense(8, "relu"), BatchNormalization(), Dropout(0.2), Dense(3, "softmax")]
    return Network(layers, random_state=seed).compile(GradientDescent(rate, **options), "sparse_categorical_crossentropy", ["accuracy"])


def test_it_learns_what_can_be_learnt():
    x, y = rows(600)
    net = classifier()
    history = net.fit(x[:500], y[:500], epochs=30, validation_data=(x[500:], y[500:]), verbose=0)
    assert isinstance(history, History) and set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert all(len(values) == 30 for values in history.history.values())
    assert history.history["val_accuracy"][-1] > 0.85 and history.history["loss"][-1] < history.history["loss"][0] / 2


def test_the_same_seed_is_the_same_network_and_another_is_not():
    x, y = rows()
    runs = [(net := classifier(seed)).fit(x, y, epochs=3, verbose=0).history | {"weights": net.get_weights()} for seed in (5, 5, 6)]
    assert runs[0]["loss"] == runs[1]["loss"] != runs[2]["loss"]
    assert all((a == b).all() for a, b in zip(runs[0]["weights"], runs[1]["weights"]))


def test_what_numpys_own_seed_is_does_not_matter():
    x, y = rows()
    np.random.seed(1)
    one = classifier().fit(x, y, epochs=2, verbose=0).history
    np.random.seed(2)
    assert classifier().fit(x, y, epochs=2, verbose=0).history == one


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(1, 70), st.booleans(), st.integers(0, 1000))
def test_each_row_is_in_one_batch(n, size, shuffled, seed):
    found = list(batches(n, size, np.random.default_rng(seed) if shuffled else None))
    assert sorted(np.concatenate(found)) == list(range(n)) and all(len(b) == size for b in found[:-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 60), st.integers(1, 300))
def test_answers_and_figures_do_not_depend_on_the_batches(n, size):
    x, y = rows(n)
    net = Network([Dense(5, "tanh"), LayerNormalization(), Dense(3, "softmax")], random_state=0, dtype="float64").compile("gradient_descent", "sparse_categorical_crossentropy", ["accuracy"]).build((4,))
    assert np.allclose(net.predict(x, batch_size=size), net.forward(x.astype(float)))
    assert np.allclose(net.evaluate(x, y, batch_size=size), net.evaluate(x, y, batch_size=n))


def test_tables_of_every_kind():
    x, y = rows()
    want = classifier().fit(x, y, epochs=2, verbose=0).history
    for some, truth in ((pd.DataFrame(x), pd.Series(y)), (x.tolist(), y.tolist()), (np.asfortranarray(x), y.astype(np.uint8)), (x[::-1][::-1], y)):
        assert np.allclose(classifier().fit(some, truth, epochs=2, verbose=0).history["loss"], want["loss"], rtol=1e-6)
    mixed = pd.DataFrame(x).assign(whole=y, yes=y > 0)
    assert mixed.to_numpy().dtype == object and np.isfinite(classifier().fit(mixed, pd.Series(y).astype("Int64"), epochs=1, verbose=0).history["loss"]).all()
    bytes_ = np.random.default_rng(0).integers(0, 255, (40, 4)).astype(np.uint8)
    assert np.isfinite(classifier(rate=1e-3).fit(bytes_, y[:40], epochs=1, verbose=0).history["loss"]).all()


def test_weights_of_rows_count_and_a_weight_of_0_is_as_good_as_absent():
    x, y = rows(60)
    weight = np.r_[np.ones(30), np.zeros(30)]
    fitted = []
    for truth in (y, np.r_[y[:30], (y[30:] + 1) % 3]):    # whatever the unweighted half says
        net = Network([Dense(3, "softmax")], random_state=0).compile(GradientDescent(0.5), "sparse_categorical_crossentropy")
        net.fit(x, truth, epochs=5, batch_size=60, sample_weight=weight, verbose=0)
        fitted.append(net.predict(x))
    assert (fitted[0] == fitted[1]).all()


def test_weights_may_be_a_column_and_count_in_validation():
    x, y = rows(60)
    weight = np.arange(60.0)
    found = []
    for given in (weight, weight[:, None]):
        net = Network([Dense(3, "softmax")], random_state=0).compile(GradientDescent(0.01), "sparse_categorical_crossentropy")
        found.append(net.fit(x, y, epochs=2, batch_size=60, sample_weight=given, validation_data=(x, y, given), verbose=0).history)
    assert found[0] == found[1]
    assert np.isclose(found[0]["val_loss"][0], found[0]["loss"][1])    # the second epoch begins where the first was judged
    with pytest.raises(ValueError, match="sample_weight must be one number for each row"):
        net.fit(x, y, sample_weight=np.ones((60, 2)), verbose=0)


def test_metrics_leave_out_the_steps_that_do_not_count():
    x, y = np.zeros((2, 3, 1)), np.zeros((2, 3, 1))
    x[0, 0], y[0, 0] = 1, 1
    x[1] = 1
    net = Network([Masking(), Dense(1)], random_state=0).compile("gradient_descent", "mse", ["mae"]).build((3, 1))
    net.set_weights([[[1.0]], [0.0]])    # right for the first row, wrong by 1 for the three steps of the second
    assert net.evaluate(x, y) == [0.75, 0.75]


def test_one_optimizer_serves_one_network():
    x, y = rows()
    adam = Adam(0.01)
    nets = [Network([Dense(3, "softmax")], random_state=0).compile(adam, "sparse_categorical_crossentropy") for _ in range(2)]
    nets[0].fit(x, y, epochs=1, verbose=0)
    with pytest.raises(ValueError, match="make a new Adam for each network"):
        nets[1].fit(x, y, epochs=1, verbose=0)
    nets[0].compile(adam, "sparse_categorical_crossentropy").fit(x, y, epochs=1, verbose=0)    # compiled anew, it goes on


def test_decay_leaves_biases_alone_however_many_axes_they_have():
    net = Network([GRU(3), Dense(1)], random_state=0).compile(AdamW(0.1, weight_decay=1.0), "mse").build((4, 2))
    net.layers[0].params["bias"][...] = 1
    net.fit(np.zeros((5, 4, 2)), np.zeros(5), sample_weight=np.zeros(5), epochs=3, verbose=0)    # no gradient, only decay
    assert (net.layers[0].params["bias"] == 1).all() and np.isclose(np.abs(net.layers[0].params["recurrent_kernel"]).sum(), 0.9**3 * np.abs(Network([GRU(3)], random_state=0).build((4, 2)).layers[0].params["recurrent_kernel"]).sum())


@pytest.mark.parametrize("loss, last, y, contains", [
    ("categorical_crossentropy", "softmax", np.array([0, 1, 2, 1]), "Either use 'sparse_categorical_crossentropy', or make rows of them: np.eye(n_classes)[y]"),
    ("categorical_crossentropy", "softmax", np.array([[1, 0, 1]] * 4), "Several classes at once need 'binary_crossentropy'"),
    ("sparse_categorical_crossentropy", "softmax", np.eye(3)[[0, 1, 2, 1]], "Either use 'categorical_crossentropy', or take the numbers"),
    ("sparse_categorical_crossentropy", "softmax", np.array([1, 2, 3, 1]), "class numbers must be integers from 0 to 2"),
    ("sparse_categorical_crossentropy", "softmax", np.array([0.5, 1, 2, 1]), "class numbers must be integers"),
    ("mse", None, np.array([1.0, 2, 3, 4]), "needs a number for each output"),
    ("mse", None, np.array([[1.0, 2, np.nan]] * 4), "y contains NaN or infinity, in 4 of 12 values"),
    ("mse", None, np.array(["a", "b", "c", "d"]), "y must hold numbers"),
    ("binary_crossentropy", "sigmoid", np.array([[0, 1, 2]] * 4), "0"),
])
def test_targets_of_the_wrong_kind_are_explained(loss, last, y, contains):
    net = Network([Dense(3, last)], random_state=0).compile("gradient_descent", loss)
    with pytest.raises(ValueError) as caught:
        net.fit(np.ones((4, 2)), y, verbose=0)
    assert contains in str(caught.value)


@pytest.mark.parametrize("change, contains", [
    ({"x": np.array([[1.0, np.nan]] * 4)}, "x contains NaN or infinity, in 4 of 4 rows (the first: row 0)"),
    ({"x": np.ones((0, 2)), "y": np.ones(0)}, "x must have one row at least"),
    ({"x": np.array([["a", "b"]] * 4)}, "x must hold numbers"),
    ({"x": [[1.0, 2.0], [3.0]]}, "x has rows of different lengths"),
    ({"x": np.ma.masked_array(np.ones((4, 2)), mask=np.eye(4, 2))}, "x contains NaN or infinity, in 2 of 4 rows"),
    ({"x": pd.DataFrame({"a": [1, None, 3, 4], "b": [True, False, True, None]})}, "x contains NaN or infinity, in 2 of 4 rows"),
    ({"x": csr_matrix(np.eye(4))}, "x is a sparse matrix of shape (4, 4); x.toarray() makes it an array"),
    ({"y": np.ones(3)}, "x has 4, y has 3"),
    ({"y": None}, "y must have a row for each row of x"),
    ({"validation_data": np.ones((4, 2))}, "validation_data must be (x, y) or (x, y, sample_weight)"),
    ({"batch_size": 0}, "batch_size must be an integer, 1 or more; got 0"),
    ({"epochs": 1.5}, "epochs must be an integer, 1 or more; got 1.5"),
    ({"validation_split": 1.0}, "validation_split must be a number from 0 to below 1; got 1.0"),
    ({"sample_weight": np.array([1, 1, 1, -1.0])}, "sample_weight must be 0 or more; got -1"),
    ({"callbacks": [EarlyStopping()]}, "EarlyStopping watches 'val_loss', but there are only loss"),
])
def test_arguments_of_fit_that_cannot_be(change, contains):
    net = Network([Dense(1)], random_state=0).compile("gradient_descent", "mse")
    with pytest.raises(ValueError) as caught:
        net.fit(**{"x": np.ones((4, 2)), "y": np.ones(4), "verbose": 0} | change)
    assert contains in str(caught.value)


def test_steps_in_the_wrong_order():
    with pytest.raises(RuntimeError, match="has no loss yet; call compile"):
        Network([Dense(1)]).fit(np.ones((2, 2)), np.ones(2))
    with pytest.raises(ValueError, match="not built yet"):
        Network([Dense(1)]).save("nowhere.npz")
    net = classifier()
    net.fit(*rows(), epochs=1, verbose=0)
    with pytest.raises(RuntimeError, match="comes too late: the network is built"):
        net.add(Dense(3))


@pytest.mark.parametrize("rate, why", [(1e6, r"the loss itself overflowed: the outputs of the last layer, last \(Dense\), are as large as \d\S*e\+\d\d"), (1e38, r"the (kernel|bias) of (first|last) \(Dense\) holds \d+ numbers that are not finite: the step before was too long")])
def test_a_loss_that_is_no_number_stops_and_says_where(rate, why):
    x, y = rows()
    net = Network([Dense(8, name="first"), Dense(1, name="last")], random_state=0).compile(GradientDescent(rate), "mse")
    with pytest.raises(TrainingDiverged, match=rf"the loss became (inf|nan) in epoch \d+, batch \d+: .*{why}.*Try a smaller learning rate \(it is 1e\+\d\d\)"):
        net.fit(1e3 * x, y, epochs=50, verbose=0)


def test_what_the_message_advises_helps():
    x, y = rows()
    held = Network([Dense(8), Dense(1)], random_state=0).compile(GradientDescent(1e-3, global_clipnorm=1.0), "mse")
    assert np.isfinite(held.fit(1e3 * x, y, epochs=5, verbose=0).history["loss"]).all()    # what the message advises


def test_early_stopping_goes_back_to_the_best_epoch():
    x, y = rows(90, seed=3)
    noise = np.random.default_rng(0).permutation(y)    # nothing to be learnt: the validation loss soon rises
    net, stop = classifier(rate=0.5), EarlyStopping(patience=3, restore_best_weights=True)
    history = net.fit(x, noise, epochs=200, validation_split=0.3, callbacks=[stop], verbose=0).history["val_loss"]
    assert len(history) < 200 and stop.best_epoch == int(np.argmin(history)) == len(history) - 4
    assert np.isclose(net.evaluate(x[63:], noise[63:])[0], min(history))


def test_a_decayed_weight_is_smaller():
    x, y = rows()
    sizes = []
    for decay in (None, 0.5):
        net = classifier(weight_decay=decay)
        net.fit(x, y, epochs=5, verbose=0)
        sizes.append(sum(float((p**2).sum()) for p in net.parameters if p.ndim > 1))
    assert sizes[1] < 0.9 * sizes[0]


# Files


@pytest.fixture
def saved(tmp_path):
    x, y = rows()
    net = classifier()
    net.fit(x, y, epochs=2, verbose=0)
    net.save(tmp_path / "net.npz")
    return net, tmp_path / "net.npz", x, y


def test_a_file_is_the_network(saved):
    net, path, x, y = saved
    read = Network.load(path)
    assert (read.predict(x) == net.predict(x)).all() and read.evaluate(x, y) == net.evaluate(x, y)
    assert [layer.get_config() for layer in read.layers] == [layer.get_config() for layer in net.layers]
    assert read.optimizer.steps == net.optimizer.steps
    assert read.fit(x, y, epochs=1, shuffle=False, verbose=0).history.keys() == {"loss", "accuracy"}


def rewritten(path, change):
    "The file with its header changed by `change(head)`, or an array by name where it returns a dict of arrays."
    with np.load(path) as held:
        arrays = dict(held)
    head = json.loads(str(arrays["head"]))
    extra = change(head) or {}
    arrays |= {"head": np.array(json.dumps(head))} | extra
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize("change", [
    lambda head: head.update(format="dlagg.nn/99"),
    lambda head: head.pop("layers") and None,
    lambda head: head["layers"][0].update({"class": "os.system"}),
    lambda head: head["layers"][0]["config"].update(units=9),
    lambda head: head["layers"][0]["config"].update(units="many"),
    lambda head: head["layers"][0]["config"].update(command="rm"),
    lambda head: head.update(input_shape=[5]),
    lambda head: head.update(input_shape=[10**13]),
    lambda head: head.update(dtype="object"),
    lambda head: head["loss"].__setitem__(0, "Pickle"),
    lambda head: head["optimizer"].__setitem__(0, "Layer"),
    lambda head: {"weight.0": np.ones((1, 1))},
    lambda head: {"weight.0": None},
    lambda head: {"head": np.array("no JSON")},
    lambda head: {"head": np.array("[]")},
    lambda head: {"head": np.array("[" * 100_000)},
    lambda head: {"weight.0": np.full((4, 8), "a")},
    lambda head: {"weight.0": np.ones((4, 8)) * 1j},
    lambda head: head["optimizer"].__setitem__(2, -5),
    lambda head: head["optimizer"].__setitem__(3, {"v": 1}),
    lambda head: head["layers"][0].update(name=5),
], ids=range(21))
def test_a_file_that_was_tampered_with_is_refused(saved, change):
    _, path, _, _ = saved
    rewritten(path, change)
    with pytest.raises(ValueError, match="is not a saved network, or it is damaged"):
        Network.load(path)


def test_a_file_with_an_object_in_it_runs_no_code(saved, tmp_path):
    _, path, _, _ = saved

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))
    rewritten(path, lambda head: {"weight.0": np.array([Bomb()], dtype=object)})
    with pytest.raises(ValueError, match="is not a saved network"):
        Network.load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("place, byte", [("method", 99), ("flag", 32), ("version", 200)])
def test_an_archive_of_another_kind_is_refused(saved, place, byte):
    _, path, _, _ = saved
    torn = bytearray(path.read_bytes())
    torn[torn.index(b"PK\x01\x02") + {"version": 6, "flag": 8, "method": 10}[place]] = byte    # in the first entry of the directory
    path.write_bytes(torn)
    with pytest.raises(ValueError, match="is not a saved network"):
        Network.load(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_file_is_refused(saved, share):
    _, path, _, _ = saved
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(ValueError, match="is not a saved network"):
        Network.load(path)


def test_flipped_bytes_are_found(saved):
    _, path, x, _ = saved
    whole, good = bytearray(path.read_bytes()), Network.load(path).predict(x)
    rng, refused = np.random.default_rng(0), 0
    for place in rng.integers(0, len(whole), 60):
        torn = bytearray(whole)
        torn[place] ^= 0xFF
        path.write_bytes(torn)
        try:
            assert (Network.load(path).predict(x) == good).all()    # a byte that means nothing, such as a date of the archive
        except ValueError as error:
            assert "is not a saved network" in str(error)
            refused += 1
    assert refused > 30


def test_files_are_plain_and_missing_ones_say_so(saved, tmp_path):
    _, path, _, _ = saved
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        head = np.load(io.BytesIO(archive.read("head.npy")))
    assert all(name.endswith(".npy") for name in names) and json.loads(str(head))["format"] == "dlagg.nn/1"
    with pytest.raises(FileNotFoundError):
        Network.load(tmp_path / "nothing.npz")
    assert not [p for p in tmp_path.iterdir() if p.suffix not in (".npz",) and p.name != "dlagg-home"]
