from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Batch

from tests.typecheck import value_error
from ziggurat import catalogue
from ziggurat.architect.retrieval.encoder import (
    ArchitectureEncoder,
    ArchitectureIndex,
    class_contrast,
    random_starts,
    train_encoder,
)
from ziggurat.architect.retrieval.families import FAMILIES, draw_cells, draw_many, draw_network
from ziggurat.architect.retrieval.motifs import find_motifs, motif_graphs, motif_starts, wiring_types
from ziggurat.architect.retrieval.tracing import OPERATORS, computation_graph, operator_graph
from ziggurat.nn.mlp import MLP


def chain(n):
    return torch.stack([torch.arange(n - 1), torch.arange(1, n)])


def residual_chain(blocks, size=4):
    """Blocks of a few operators in a row whose last one also takes the block's input."""
    edges = chain(blocks * size + 1).T.tolist()
    edges += [[b * size, (b + 1) * size] for b in range(blocks)]
    return torch.tensor(sorted(edges)).T, blocks * size + 1


def kinds(graph):
    return [OPERATORS[i] for i in graph.x.argmax(1).tolist()]


@pytest.mark.fact("architecture_retrieval", 1)
@pytest.mark.parametrize("family", FAMILIES)
def test_motifs_in_a_row_are_the_topological_order(family):
    graph = draw_network(family, 3)
    motifs = find_motifs(graph.edge_index, graph.num_nodes)
    assert sum(motifs, []) == list(range(graph.num_nodes)) and all(motifs)


def test_motifs_against_a_walk():
    """The sequence of windows, walked one by one."""
    for seed in range(6):
        graph = draw_cells(seed, seed)
        edges, n = graph.edge_index, graph.num_nodes
        names = [tuple(sorted(i - int(p) for p in edges[0][edges[1] == i])) for i in range(n)]
        types = [sorted(set(names), key=names.index).index(name) for name in names]
        assert wiring_types(edges, n).tolist() == types
        windows = list(pairwise(types))
        counts = [windows.count(w) for w in windows]
        jumps = [abs(b - a) for a, b in pairwise(counts) if a != b]
        threshold = min(set(jumps), key=lambda j: (-jumps.count(j), j))
        segments, now = [], [0]
        for i in range(1, n):
            jump = counts[i] - counts[i - 1] if i < len(counts) else 0
            if jump > threshold:  # a rise: this operator begins anew
                segments, now = [*segments, now], [i]
            else:
                now.append(i)
                if jump < -threshold:  # a fall: it still belongs to the old motif
                    segments, now = [*segments, now], []
        assert find_motifs(edges, n) == [s for s in [*segments, now] if s]


@pytest.mark.fact("architecture_retrieval", 2)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 20])
def test_a_chain_is_one_motif(n):
    assert find_motifs(chain(n), n) == [list(range(n))]
    if n > 4:
        assert len(find_motifs(chain(n), n, threshold=n - 3.5)) == 2


@pytest.mark.fact("architecture_retrieval", 2)
def test_types_depend_on_wiring_alone():
    edges = [(0, 1), (1, 2), (0, 2)]
    graphs = [operator_graph(["input", kind, "add"], edges) for kind in ("conv3", "linear")]
    one, two = (wiring_types(g.edge_index, 3).tolist() for g in graphs)
    assert one == two == [0, 1, 2] and not torch.equal(graphs[0].x, graphs[1].x)


@pytest.mark.fact("architecture_retrieval", 3)
def test_repeated_blocks_have_repeated_types():
    edges, n = residual_chain(4)
    types = wiring_types(edges, n)
    assert np.array_equal(types[5:9], types[9:13]) and np.array_equal(types[5:9], types[13:17])


def test_motifs_share_edges_and_contexts_are_wider():
    edges, n = residual_chain(4)
    graph = operator_graph(["input"] + ["conv3"] * (n - 1), [tuple(edge) for edge in edges.T.tolist()])
    cut = motif_graphs([graph], lambda e, n: np.arange(0, n, 4))
    source, target = edges
    segment = torch.arange(n) // 4
    for part in range(5):
        touched = (segment[source] == part) | (segment[target] == part)
        own = set(edges[:, touched].flatten().tolist()) | set((segment == part).nonzero().flatten().tolist())
        rows = cut.motif.owner == part
        assert set(cut.motif.nodes[rows].tolist()) == own
        named = cut.motif.nodes[cut.motif.edge_index]
        mine = cut.motif.owner[cut.motif.edge_index[0]] == part
        assert set(map(tuple, named[:, mine].T.tolist())) == set(map(tuple, edges[:, touched].T.tolist()))
        wider = set(cut.context.nodes[cut.context.owner == part].tolist())
        reach = [e for e in edges.T.tolist() if e[0] in own or e[1] in own]
        assert wider == own | {v for e in reach for v in e}
    pairs = {(int(segment[a]), int(segment[b])) for a, b in edges.T if segment[a] != segment[b]}
    assert set(map(tuple, cut.macro_edges.T.tolist())) == pairs


class Renamed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return x + self.second(x)


class Other(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 8)})
        self.act, self.dropout = nn.ReLU(), nn.Dropout()

    def forward(self, x):
        x = self.dropout(self.act(self.body["a"](x)))
        return x + self.body["b"](x)


@pytest.mark.fact("architecture_retrieval", 4)
def test_names_and_traces_leave_no_trace():
    x, encoder = torch.randn(2, 4), ArchitectureEncoder(3, 8).eval()
    graphs = [computation_graph(m, x) for m in (Renamed(), Renamed(), Other())]
    assert kinds(graphs[0]) == ["input", "linear", "relu", "linear", "add"]
    assert graphs[0].edge_index.T.tolist() == [[0, 1], [1, 2], [2, 3], [2, 4], [3, 4]]
    with torch.no_grad():
        vectors = encoder(graphs)
    cosine = nn.functional.cosine_similarity(vectors[:1], vectors)
    torch.testing.assert_close(cosine, torch.ones(3))


@pytest.mark.fact("architecture_retrieval", 4)
def test_embeddings_do_not_depend_on_the_batch():
    graphs = [draw_network(family, 1) for family in FAMILIES[:4]] + [draw_cells(0, 0)]
    encoder = ArchitectureEncoder(3, 8).double().eval()
    for graph in graphs:
        graph.x = graph.x.double()
    together = encoder(graphs)
    torch.testing.assert_close(together, torch.cat([encoder([graph]) for graph in graphs]))
    torch.testing.assert_close(together, encoder(Batch.from_data_list(graphs)))


def test_networks_of_the_library_can_be_traced():
    images = torch.randn(1, 3, 32, 32)
    graph = computation_graph(catalogue.tiny("ziggurat.vision.backbones.resnet.ResNet"), images)
    assert kinds(graph).count("input") == 1 and kinds(graph).count("add") >= 2 and "conv3" in kinds(graph)
    table = computation_graph(MLP(8, 3, (4,)), torch.randn(2, 8))
    assert kinds(table)[-3:] == ["linear", "relu", "linear"]


def test_kinds_of_convolutions():
    layers = [nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 3, groups=4)]
    graph = computation_graph(nn.Sequential(*layers, nn.BatchNorm2d(4), nn.Softmax(1)), torch.randn(1, 4, 16, 16))
    assert kinds(graph) == ["input", "conv1", "conv3", "conv5", "depthwise", "batch_norm", "softmax"]


def test_contrast_of_classes_against_a_loop():
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 2])
    same = every = 0.0
    for i in range(5):
        for j in range(i):
            e = float(torch.exp(torch.cosine_similarity(x[i], x[j], 0)))
            every, same = every + e, same + e * bool(y[i] == y[j])
    assert abs(float(class_contrast(x, y)) + np.log(same / every)) < 1e-9
    assert float(class_contrast(x[:2], y[:2])) == 0


def test_the_wrong_context_is_half_the_list_away():
    encoder, graphs = ArchitectureEncoder(2, 8).double(), [draw_network("residual", s) for s in range(2)]
    for graph in graphs:
        graph.x = graph.x.double()
    given = encoder.prepare(graphs)
    own = encoder.embed_motifs(given)
    around = encoder.contexts(given.x[given.context.nodes], given.context.edge_index, given.context.owner, len(own))
    half, expected = len(own) // 2, 0.0
    for i in range(len(own)):
        right = encoder.match(torch.cat([own[i], around[i]])).sigmoid()
        wrong = encoder.match(torch.cat([own[i], around[i - half]])).sigmoid()
        expected = expected - (right.log() + (1 - wrong).log()) / len(own)
    torch.testing.assert_close(encoder.motif_loss(given), expected[0])


def test_level_two_leaves_the_motifs_alone():
    encoder, graphs = ArchitectureEncoder(2, 8), [draw_network(f, 0) for f in ("plain", "residual")]
    encoder.macro_loss(encoder(graphs), torch.tensor([0, 1])).backward()
    assert all(p.grad is None for p in encoder.motifs.parameters())
    assert all(p.grad is not None for p in encoder.macro.parameters())


def test_trained_it_finds_its_own_kind():
    graphs, labels = draw_many(lambda c, s: draw_network(("plain", "inception", "transformer")[c], s), range(3), 8, 0)
    torch.manual_seed(0)
    seen = [i for i in range(24) if i % 8 < 4]
    encoder = train_encoder(ArchitectureEncoder(3, 16), [graphs[i] for i in seen], labels[seen], 2, 40, lr=1e-2)
    index = ArchitectureIndex(encoder, 16)
    index.add([f"{i}" for i in range(24)], graphs)
    ids, cosine = index.search(graphs[6], 24)
    assert sorted(ids, key=int) == [f"{i}" for i in range(24)] and abs(cosine[0] - 1) < 1e-5
    assert (np.diff(cosine) <= 1e-6).all() and abs(cosine[ids.index("6")] - 1) < 1e-5  # plain networks are much alike
    held = [i for i in range(24) if i % 8 >= 4]
    right = [int(labels[int(index.search(graphs[i], 2)[0][1])]) == int(labels[i]) for i in held]
    assert np.mean(right) > 0.7


def test_random_motifs_stay_what_they_are():
    starts, graph = random_starts(1), draw_cells(2, 0)
    one, two = (starts(graph.edge_index, graph.num_nodes) for _ in range(2))
    assert np.array_equal(one, two) and one[0] == 0
    assert set(np.diff(one).tolist()) <= set(range(5, 11))
    assert not np.array_equal(one, motif_starts(graph.edge_index, graph.num_nodes))


def test_mistakes_are_named():
    with value_error("topological order"):
        operator_graph(["input", "add"], [(1, 0)])
    with value_error("topological order"):
        find_motifs(torch.tensor([[1], [0]]), 2)
    with value_error("no kind of operator"):
        operator_graph(["convolution"], [])
    with value_error("no architectures"):
        ArchitectureEncoder(2, 4)([])
    with value_error("must be 1 or more"):
        ArchitectureEncoder(0)
    with value_error("no family"):
        draw_network("lenet", 0)
    with value_error("cannot be traced"):
        computation_graph(nn.Linear(3, 2), torch.randn(1, 4))
    index = ArchitectureIndex(ArchitectureEncoder(2, 4), 4)
    index.add(["a"], [draw_network("plain", 0)])
    with value_error("in the index already"):
        index.add(["a"], [draw_network("plain", 1)])
    with value_error("give one each"):
        index.add(["b", "c"], [draw_network("plain", 1)])


def test_architecture_retrieval_claim_at_a_tiny_size(monkeypatch, tmp_path):
    from ziggurat.claims.graph_embeddings import architecture_retrieval as claim
    from ziggurat.claims.run import Run

    for name, value in (
        ("EACH", 5),
        ("CELLS", 5),
        ("GENOTYPES", 3),
        ("WIDTH", 4),
        ("FLAT_WIDTH", 8),
    ):
        monkeypatch.setattr(claim, name, value)
    monkeypatch.setattr(claim.arms, "__defaults__", ((1, 1),))
    monkeypatch.setenv("ZIGGURAT_RUNS", str(tmp_path))
    finding = claim.measure(Run("architecture_retrieval", seeds=(100,), quiet=True))
    assert len(finding.clauses) == 2 and 0 <= finding.measurements["cells_map_motifs"][0] <= 1
    assert "nets_unseen_map_flat" in finding.measurements
