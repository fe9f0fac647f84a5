"""Communities as a tool: networkx's numbers, known groups, graphs of every kind, odd input, and files."""
import itertools
import subprocess
import sys
import threading
import warnings

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import normalized_mutual_info_score

from dlagg.mining import GraphWarning, LabelPropagation, Louvain, SpectralCommunities, modularity, nmi, plot_graph, read_graph, spring_layout
from dlagg.mining.communities_louvain import aggregate, numbered
from dlagg.mining.communities_quality import modularity_of
from dlagg.tables.datasets import fetch_graph

MODELS = [Louvain(random_state=0), Louvain(refine=False, random_state=0), LabelPropagation(random_state=0), SpectralCommunities(3, random_state=0),
          SpectralCommunities(3, matrix="modularity", random_state=0)]


def name_of(model):
    return repr(model)


def blurred(groups=8, size=25, inside=5, outside=2, seed=0):
    "A connected edge list with planted groups, and the group of each node."
    rng = np.random.default_rng(seed)
    n = groups * size
    a = np.repeat(np.arange(n), inside)
    pairs = np.concatenate([np.stack([a, a // size * size + rng.integers(size, size=len(a))]), rng.integers(n, size=(2, n * outside)), np.stack([np.arange(n), (np.arange(n) + 1) % n])], axis=1)
    pairs = np.unique(np.sort(pairs[:, pairs[0] != pairs[1]], axis=0), axis=1)
    return pd.DataFrame({"source": pairs[0], "target": pairs[1]}), np.arange(n) // size


def weighted(seed, n=30, loops=True):
    "A networkx graph with weights, some loops, and a node alone."
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(n, 0.15, seed=seed)
    graph.add_node("alone")
    graph.add_edges_from([(i, i) for i in range(0, n, 7)] if loops else [])
    for a, b in graph.edges:
        graph[a][b]["weight"] = float(rng.uniform(0.1, 5))
    return graph


def groups_of(model):
    "The communities as a set of sets of names."
    return {frozenset(group) for group in model.communities_.groupby("community").node.agg(list)}


@pytest.fixture
def karate(mirror, monkeypatch):
    monkeypatch.setenv("DLAGG_MIRROR", str(mirror))
    club = nx.karate_club_graph()
    return fetch_graph("karate"), np.array([club.nodes[v]["club"] for v in club])


@pytest.fixture
def football(mirror, monkeypatch):
    monkeypatch.setenv("DLAGG_MIRROR", str(mirror))
    graph = fetch_graph("football")
    return graph, graph.nodes.value.sort_index().to_numpy()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("resolution", [0.5, 1, 2.7])
def test_modularity_is_networkxs(seed, resolution):
    graph = weighted(seed)
    rng = np.random.default_rng(seed)
    label = {v: int(rng.integers(4)) for v in graph}
    groups = [{v for v in graph if label[v] == k} for k in set(label.values())]
    theirs = nx.community.modularity(graph, groups, resolution=resolution)
    for labels in (label, groups, pd.Series(label), [label[v] for v in read_graph(graph).nodes.tolist()]):
        assert abs(modularity(graph, labels, resolution) - theirs) < 1e-12


def test_a_model_reports_the_modularity_of_its_labels():
    edges, _ = blurred()
    for model in MODELS:
        model = clone(model).fit(edges)
        assert abs(model.modularity_ - nx.community.modularity(nx.from_pandas_edgelist(edges), groups_of(model))) < 1e-12
    model = Louvain(2.5, random_state=0).fit(edges)
    assert abs(model.modularity_ - nx.community.modularity(nx.from_pandas_edgelist(edges), groups_of(model), resolution=2.5)) < 1e-12


def test_karate_reaches_the_known_best_and_respects_the_split(karate):
    graph, club = karate
    peers = [nx.community.modularity(nx.from_pandas_edgelist(graph.edges), nx.community.louvain_communities(nx.from_pandas_edgelist(graph.edges), seed=s)) for s in range(20)]
    for seed in range(20):
        for refine in (True, False):
            model = Louvain(refine=refine, random_state=seed).fit(graph)
            assert abs(model.modularity_ - 0.4197896120973044) < 1e-12 and model.modularity_ > max(peers) - 1e-12    # the optimum (Brandes et al. 2008)
            assert model.labels_.max() == 3 and nmi(model.labels_, club) > 0.58
    mixed = pd.crosstab(model.labels_, club).min(axis=1).sum()
    assert mixed == 1    # member 9 sat among the officer's friends, and went with the instructor
    assert nmi(SpectralCommunities(2, matrix="modularity", random_state=0).fit(graph).labels_, club) > 0.83


def test_football_conferences(football):
    graph, conference = football
    for seed in range(20):
        model = Louvain(random_state=seed).fit(graph)
        assert model.modularity_ > 0.6045 and nmi(model.labels_, conference) > 0.88
    finer = Louvain(2, random_state=0).fit(graph)
    assert nmi(finer.labels_, conference) > 0.92
    assert nmi(SpectralCommunities(12, random_state=0).fit(graph).labels_, conference) > 0.9
    assert np.median([nmi(LabelPropagation(random_state=s).fit(graph).labels_, conference) for s in range(20)]) > 0.85


@pytest.mark.parametrize("seed", range(3))
def test_no_worse_than_networkxs_louvain(seed):
    for graph in (weighted(seed, 80, loops=False), nx.from_pandas_edgelist(blurred(seed=seed)[0])):
        theirs = nx.community.modularity(graph, nx.community.louvain_communities(graph, seed=seed))
        assert Louvain(random_state=seed, n_init=1).fit(graph).modularity_ > theirs - 1e-2
        assert Louvain(random_state=seed).fit(graph).modularity_ > theirs - 1e-3


@pytest.mark.parametrize("model", [*MODELS[:3], SpectralCommunities(8, random_state=0), SpectralCommunities(8, matrix="modularity", random_state=0)], ids=name_of)
def test_planted_groups_are_found(model):
    edges, truth = blurred(outside=1)
    assert nmi(clone(model).fit(edges).labels_, truth) > 0.95


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_one_answer_for_one_graph(model):
    edges, _ = blurred()
    first = clone(model).fit(edges)
    rng = np.random.default_rng(0)
    turned = edges.sample(frac=1, random_state=1).reset_index(drop=True)
    swap = rng.random(len(turned)) < 0.5
    turned.loc[swap, ["source", "target"]] = turned.loc[swap, ["target", "source"]].to_numpy()
    graph = read_graph(edges)
    kinds = [pa.Table.from_pandas(edges), turned, edges.astype(str).assign(source=edges.source, target=edges.target), nx.from_pandas_edgelist(edges), graph.matrix, sparse.csc_matrix(graph.matrix), graph.matrix.toarray(), graph]
    for kind in kinds:
        again = clone(model).fit(kind)
        assert (again.labels_ == first.labels_).all() and (again.nodes_ == first.nodes_).all() and again.modularity_ == pytest.approx(first.modularity_, abs=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_names_change_nothing_but_the_draws(model):
    edges, _ = blurred(outside=1)
    first = clone(model).fit(edges)
    shuffled = np.random.default_rng(3).permutation(edges.max().max() + 1)
    other = clone(model).fit(pd.DataFrame({c: [f"node {shuffled[i]:04d}" for i in edges[c]] for c in edges}))
    back = dict(zip(other.nodes_, other.labels_))
    assert nmi([back[f"node {shuffled[i]:04d}"] for i in first.nodes_], first.labels_) > 0.9
    assert abs(other.modularity_ - first.modularity_) < 0.02


@pytest.mark.parametrize("model", MODELS[:3], ids=name_of)
def test_weights_count_as_edges_and_their_unit_does_not_matter(model):
    edges, _ = blurred()
    heavy = edges.assign(weight=np.random.default_rng(0).integers(1, 4, len(edges)))
    repeated = heavy.loc[heavy.index.repeat(heavy.weight), ["source", "target"]]
    first = clone(model).fit(heavy)
    with pytest.warns(GraphWarning, match=f"{len(repeated) - len(edges)} of {len(repeated)} edges join nodes that another edge joins already"):
        again = clone(model).fit(repeated)
    assert (first.labels_ == again.labels_).all() and again.notes_ and not first.notes_
    assert (clone(model).fit(heavy.assign(weight=heavy.weight * 2.0**-40)).labels_ == first.labels_).all()


def test_frames_of_every_type():
    edges, _ = blurred(4, 10)
    first = Louvain(random_state=0).fit(edges)
    for kind in ("int8", "uint16", "Int64", "int64[pyarrow]", "float64"):
        assert (Louvain(random_state=0).fit(edges.astype(kind)).labels_ == first.labels_).all()
    names = edges.map(lambda i: f"n{i:03d}")
    for kind in (object, "str", "category", "string[pyarrow]"):
        model = Louvain(random_state=0).fit(names.astype(kind))
        assert (model.labels_ == first.labels_).all() and model.nodes_[0] == "n000" and isinstance(model.nodes_[0], str)
    mixed = Louvain(random_state=0).fit(pd.DataFrame({"source": [1, "a", (2, 3)], "target": ["a", (2, 3), 1]}))
    assert set(mixed.nodes_) == {1, "a", (2, 3)}


def test_multigraphs_directed_graphs_and_isolated_nodes():
    double = nx.MultiGraph([(0, 1), (0, 1), (1, 2)])
    with pytest.warns(GraphWarning, match="1 of 3 edges"):
        assert read_graph(double).degree.tolist() == [2, 3, 1]
    arrows = nx.DiGraph([(0, 1), (1, 0), (1, 2)])
    with pytest.raises(ValueError, match='directed="sum" adds up'):
        Louvain().fit(arrows)
    with pytest.warns(GraphWarning, match="3 directed edges made undirected") as heard:
        model = Louvain(directed="sum", random_state=0).fit(arrows)
    assert len(heard) == 1 and len(model.notes_) == 1
    graph = nx.Graph([(0, 1), (1, 2), (2, 0)])
    graph.add_nodes_from([7, 8])
    for model in (Louvain(random_state=0), LabelPropagation(random_state=0)):
        assert model.fit(graph).labels_.tolist() == [0, 0, 0, 1, 2]


def test_loops_hold_a_node_back():
    pull = pd.DataFrame({"source": [0, 0, 1], "target": [1, 0, 1], "weight": [1.0, 5, 5]})
    assert Louvain(random_state=0).fit(pull).labels_.tolist() == [0, 1]
    assert Louvain(random_state=0).fit(pull.assign(weight=[5.0, 0, 0])).labels_.tolist() == [0, 0]


graphs = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.floats(0.01, 100)), min_size=1, max_size=40)


def read_quietly(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        return read_graph(pd.DataFrame(rows, columns=["source", "target", "weight"]))


@given(graphs, st.booleans(), st.sampled_from([0.3, 1.0, 3.0]))
@settings(max_examples=150, deadline=None)
def test_what_holds_for_every_graph(rows, refine, resolution):
    graph = read_quietly(rows)
    model = Louvain(resolution, refine=refine, random_state=0, n_init=2, max_iter=50).fit(graph)
    count = np.bincount(model.labels_)
    assert (count > 0).all() and (np.diff(count) <= 0).all()    # numbered from 0, largest first
    alone, together = np.arange(len(graph.nodes)), np.zeros(len(graph.nodes), int)
    assert model.modularity_ >= modularity_of(graph, alone, resolution) - 1e-9
    for v, c in itertools.product(range(len(graph.nodes)), range(len(count) + 1)):    # no single move gains
        moved = model.labels_.copy()
        moved[v] = c
        assert modularity_of(graph, moved, resolution) <= model.modularity_ + 1e-8
    A = graph.matrix.toarray()
    if refine:
        inner = A * (model.labels_[:, None] == model.labels_)
        assert connected_components(inner, directed=False)[0] == len(count)    # every community hangs together
    assert LabelPropagation(random_state=0).fit(graph).modularity_ <= 1 and modularity_of(graph, together) == pytest.approx(0, abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11), st.sampled_from([1e-200, 1e-9, 0.1, 0.2, 0.3, 1e9, 1e200])), min_size=1, max_size=60), st.sampled_from([1e-9, 1.0, 1e9]))
@settings(max_examples=60, deadline=None)
def test_weights_of_every_size_come_to_an_end(rows, resolution):
    graph = read_quietly(rows)
    for model in (Louvain(resolution, random_state=0), Louvain(resolution, refine=False, random_state=0), LabelPropagation(random_state=0)):
        assert np.isfinite(model.fit(graph).modularity_)


@given(graphs, st.lists(st.integers(0, 11), min_size=12, max_size=12))
@settings(max_examples=100, deadline=None)
def test_the_graph_of_groups_keeps_modularity(rows, labels):
    graph = read_quietly(rows)
    groups, count = numbered(np.array(labels[:len(graph.nodes)], np.int32) % np.int32(len(graph.nodes)))
    indptr, indices, weights, loops, degree = aggregate(*graph[1:6], groups, count)
    coarse = graph._replace(nodes=np.arange(count), indptr=indptr, indices=indices[:indptr[-1]], weights=weights[:indptr[-1]], loops=loops, degree=degree)
    assert modularity_of(coarse, np.arange(count)) == pytest.approx(modularity_of(graph, groups), abs=1e-12)
    onehot = np.eye(count)[groups]
    np.testing.assert_allclose(coarse.matrix.toarray(), onehot.T @ graph.matrix @ onehot, rtol=1e-12, atol=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from("abc")), min_size=1, max_size=30))
def test_nmi_is_scikit_learns(pairs):
    a, b = zip(*pairs)
    assert nmi(a, b) == pytest.approx(normalized_mutual_info_score(a, b), abs=1e-12)


@pytest.mark.parametrize("model", MODELS, ids=name_of)
def test_contract(model, tmp_path):
    edges, _ = blurred()
    before = edges.copy()
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        fresh.save(tmp_path / "no.arrow")
    assert fresh.fit(edges) is fresh and edges.equals(before)
    assert (fresh.fit_predict(edges) == fresh.labels_).all() and fresh.labels_.dtype == np.int32
    assert list(fresh.communities_.columns) == ["node", "community"] and len(fresh.communities_) == len(fresh.nodes_)
    fresh.save(tmp_path / "model.arrow")
    again = type(model).load(tmp_path / "model.arrow")
    assert again.get_params() == fresh.get_params() and again.modularity_ == fresh.modularity_
    assert (again.labels_ == fresh.labels_).all() and again.labels_.dtype == np.int32 and (again.nodes_ == fresh.nodes_).all()
    named = clone(model).fit(edges.map(lambda i: f"n{i:03d}"))
    named.save(tmp_path / "named.arrow")
    assert type(model).load(tmp_path / "named.arrow").communities_.equals(named.communities_)
    with pytest.raises(ValueError, match="is not a saved"):
        (Louvain if not isinstance(model, Louvain) else LabelPropagation).load(tmp_path / "model.arrow")


def test_threads_do_not_disturb_each_other():
    edges, _ = blurred()
    graph, found = read_graph(edges), {}
    alone = {s: Louvain(random_state=s, n_init=3).fit(graph).labels_ for s in range(8)}
    threads = [threading.Thread(target=lambda s=s: found.update({s: Louvain(random_state=s, n_init=3).fit(graph).labels_})) for s in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((found[s] == alone[s]).all() for s in range(8))


TWO = pd.DataFrame({"source": ["a", "b"], "target": ["b", "c"]})


@pytest.mark.parametrize("model, graph, message", [
    (Louvain(), TWO[:0], "0 nodes and no edge of positive weight"),
    (Louvain(), np.zeros((3, 3)), "3 nodes and no edge of positive weight"),
    (Louvain(), nx.empty_graph(4), "4 nodes and no edge of positive weight"),
    (Louvain(), TWO.assign(weight=[1, -1]), "1 of 2 are negative, the first at edge 1"),
    (Louvain(), TWO.assign(weight=[np.nan, 1]), "1 of 2 are not finite"),
    (Louvain(), TWO.assign(weight=[1, np.inf]), "1 of 2 are not finite"),
    (Louvain(), TWO.assign(weight=pd.array([1, None], dtype="Int64")), "1 of 2 are not finite"),
    (Louvain(), TWO.assign(weight=["1", "much"]), "must be numbers"),
    (Louvain(), TWO.assign(target=["b", None]), "1 of 2 edges lack their source or target"),
    (Louvain(), TWO.rename(columns={"source": "from"}), "no column 'source'"),
    (Louvain(), np.ones((2, 3)), r"must be square; got the shape \(2, 3\)"),
    (Louvain(), np.array([[0, 1.0], [0, 0]]), "is directed"),
    (Louvain(), -np.ones((2, 2)), "negative"),
    (Louvain(resolution=0), TWO, "resolution must be a finite number, more than 0; got 0"),
    (Louvain(resolution=np.nan), TWO, "resolution must be a finite number"),
    (Louvain(n_init="many"), TWO, "n_init must be one of 'auto'; got 'many'"),
    (Louvain(max_iter=0), TWO, "max_iter must be an integer, 1 or more"),
    (Louvain(directed="yes"), TWO, "directed must be one of 'error', 'sum'"),
    (LabelPropagation(max_iter=1.5), TWO, "max_iter must be an integer"),
    (SpectralCommunities(4), TWO, "n_communities=4 needs as many nodes at least; the graph has 3"),
    (SpectralCommunities(0), TWO, "n_communities must be an integer, 1 or more"),
    (SpectralCommunities(2, matrix="B"), TWO, "matrix must be one of"),
])
def test_faults_say_what_came_and_what_is_accepted(model, graph, message):
    with pytest.raises(ValueError, match=message):
        model.fit(graph)


def test_other_faults():
    with pytest.raises(TypeError, match="got dict"):
        Louvain().fit({"a": ["b"]})
    with pytest.raises(ValueError, match="labels lack 1 of the 3 nodes, the first is 'c'"):
        modularity(TWO, {"a": 0, "b": 0})
    with pytest.raises(ValueError, match="same number of labels"):
        nmi([1], [])
    with pytest.warns(ConvergenceWarning, match="after max_iter=1 rounds"):
        LabelPropagation(max_iter=1, random_state=0).fit(blurred()[0])


def test_edges_without_weight_leave_but_their_nodes_stay():
    graph = read_graph(TWO.assign(weight=[1, 0]))
    assert graph.notes == ("1 edges of weight 0 left out",) and graph.degree.tolist() == [1, 1, 0]


def test_pictures():
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    edges, truth = blurred(40, 5, 3, 1)
    place = spring_layout(edges)
    assert place.shape == (200, 2) and np.isfinite(place).all() and (place == spring_layout(edges)).all()
    assert len(np.unique(place.round(9), axis=0)) == 200
    assert "40 communities" in plot_graph(edges, truth, place=place).get_title()
    assert plot_graph(TWO.assign(source=["a", "a"], target=["a", "a"])[:1]).get_title() == "1 nodes, 1 edges"
    assert len(plot_graph(TWO, names={"a": "A"}).texts) == 1
    plt.close("all")


def test_networkx_is_not_needed():
    code = "import sys; sys.modules['networkx'] = None\nimport numpy as np; from dlagg.mining import Louvain; print(Louvain(random_state=0).fit(np.ones((3, 3)) - np.eye(3)).labels_)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[0 0 0]\n"
