import networkx as nx
import numpy as np
import pytest
import torch

from tests.typecheck import value_error
from ziggurat.data.graphs.complexes import batch_complexes, from_simplices
from ziggurat.graphs.complexes.cwcnn import CWCNN
from ziggurat.graphs.complexes.scrawl import CodedWalks, SCRaWl, WalkConv
from ziggurat.graphs.complexes.walks import SimplicialWalks, simplicial_walks, walk_codes

TRIANGLES = [(0, 1, 2), (1, 2, 3), (2, 3, 4), (0, 4), (4, 5), (5, 6, 7), (3, 5, 6)]


def complex_of(simplices=TRIANGLES, nodes=9, top=2, seed=0):
    """Node 8 stands alone."""
    cells, names = from_simplices(simplices, nodes, top)
    g = torch.Generator().manual_seed(seed)
    x = tuple(torch.randn(n, 3, generator=g, dtype=torch.float64) for n in cells.sizes)
    return cells._replace(x=x), names


def cycles(*sizes):
    edges, start = [], 0
    for size in sizes:
        edges += [(start + i, start + (i + 1) % size) for i in range(size)]
        start += size
    cells, _ = from_simplices(edges, start, 1)
    return cells._replace(x=tuple(x.double() for x in cells.x))


def small(**options):
    torch.manual_seed(0)
    options = {"width": 6, "depth": 2, "window": 2, "length": 9, **options}
    return SCRaWl(3, 2, **options).double().eval()


@pytest.mark.fact("scrawl", 1)
@pytest.mark.parametrize("sampling", ["connection", "neighbour"])
def test_over_nodes_the_walks_are_those_of_the_graph(sampling):
    graph = nx.star_graph(4)
    graph.add_edge(1, 2)
    cells, names = from_simplices(list(graph.edges), 5, 1)
    walks = simplicial_walks(cells, 0, 4000, 3, sampling=sampling)
    nodes = walks.simplices
    for walk, edges in zip(nodes[:50].tolist(), walks.cofaces[:50].tolist(), strict=True):
        for a, b, edge in zip(walk, walk[1:], edges[1:], strict=False):
            assert names[1][edge] == (min(a, b), max(a, b))
    assert (walks.faces == -1).all()
    steps = nodes[:, 1][nodes[:, 0] == 0]
    share = torch.bincount(steps, minlength=5)[1:] / len(steps)  # uniform over the neighbours
    assert len(steps) == 800 and (share - 0.25).abs().max() < 0.06
    bits = walk_codes(cells, 0, nodes, 2)
    near = torch.tensor(nx.to_numpy_array(graph, range(5))).bool()
    assert torch.equal(bits[:, 2, 1].bool(), nodes[:, 2] == nodes[:, 0])
    assert torch.equal(bits[:, 2, 3].bool(), near[nodes[:, 2], nodes[:, 0]]) and not bits[:, :, 2].any()


@pytest.mark.fact("scrawl", 2)
@pytest.mark.parametrize("sampling", ["connection", "neighbour"])
@pytest.mark.parametrize("k", [0, 1, 2])
def test_consecutive_simplices_share_what_is_recorded(k, sampling):
    cells, names = complex_of()
    walks = simplicial_walks(cells, k, None, 12, seed=3, sampling=sampling)
    assert walks.simplices[:, 0].tolist() == list(range(cells.sizes[k]))
    assert (walks.faces[:, 0] == -1).all() and (walks.cofaces[:, 0] == -1).all()
    for walk, faces, cofaces in zip(*(part.tolist() for part in walks), strict=True):
        for i in range(1, 12):
            if walk[i] < 0:
                assert k == 0 and walk[0] == 8 and faces[i] == cofaces[i] == -1
                continue
            a, b = set(names[k][walk[i - 1]]), set(names[k][walk[i]])
            assert a != b and (faces[i] < 0) != (cofaces[i] < 0)
            if faces[i] >= 0:
                assert set(names[k - 1][faces[i]]) <= a & b
            else:
                assert a | b <= set(names[k + 1][cofaces[i]])


def test_the_two_samplings_have_their_own_probabilities():
    """From the edge 01 of a triangle and three more edges at node 1: ways are node 0, node 1 and the triangle."""
    cells, names = from_simplices([(0, 1, 2), (1, 3), (1, 4), (1, 5)], 6, 2)
    start = names[1].index((0, 1))

    def share(sampling):
        walks = simplicial_walks(cells, 1, 9000 * cells.sizes[1], 2, sampling=sampling)
        step = walks.simplices[walks.simplices[:, 0] == start, 1]
        return {names[1][e]: float((step == e).double().mean()) for e in step.unique().tolist()}

    connection, neighbour = share("connection"), share("neighbour")
    assert connection == pytest.approx({(0, 2): 1 / 3 + 1 / 6, (1, 2): 1 / 6 + 1 / 12, (1, 3): 1 / 12, (1, 4): 1 / 12,
                                        (1, 5): 1 / 12}, abs=0.02)  # fmt: skip
    assert neighbour == pytest.approx(dict.fromkeys([(0, 2), (1, 2), (1, 3), (1, 4), (1, 5)], 0.2), abs=0.02)


def test_walks_forward_go_back_only_at_dead_ends():
    cells, _ = from_simplices([(0, 1), (1, 2), (2, 3)], 4, 1)
    walks = simplicial_walks(cells, 0, None, 7, non_backtracking=True).simplices
    assert walks[0].tolist() == [0, 1, 2, 3, 2, 1, 0]
    ring = simplicial_walks(cycles(5), 0, None, 6, non_backtracking=True).simplices
    assert all(len(set(walk)) == 5 and walk[5] == walk[0] for walk in ring.tolist())


@pytest.mark.fact("scrawl", 3)
def test_codes_against_a_loop_and_without_names():
    cells, names = complex_of()
    window = 4
    for k in (0, 1, 2):
        walks = simplicial_walks(cells, k, 30, 10, seed=1).simplices
        bits = walk_codes(cells, k, walks, window)
        assert bits.shape == (30, 10, 3 * window - 2)
        filled = set(map(frozenset, names[k + 1])) if k < 2 else set()
        for w, walk in enumerate(walks.tolist()):
            for i in range(10):
                if walk[i] < 0:
                    continue
                expected = [0] * (3 * window - 2)
                for j in range(1, min(window, i) + 1):
                    a, b = (set(names[k][walk[p]]) for p in (i, i - j))
                    expected[j - 1] = int(a == b)
                    if j > 1 and a != b:
                        expected[window + j - 2] = int(k > 0 and len(a & b) == k)
                        expected[2 * window + j - 3] = int(frozenset(a | b) in filled)
                assert bits[w, i].tolist() == expected
        order = torch.randperm(9, generator=torch.Generator().manual_seed(k))
        renamed, other = from_simplices([[int(order[v]) for v in s] for s in TRIANGLES], 9, 2)
        place = torch.tensor([other[k].index(tuple(sorted(int(order[v]) for v in s))) for s in names[k]] + [-1])
        assert torch.equal(walk_codes(renamed, k, place[walks], window), bits)
        alone = walk_codes(cells, k, walks[:, 9 - window :].contiguous(), window)
        assert torch.equal(alone[:, -1], bits[:, -1])  # the rows before do not matter


@pytest.mark.fact("scrawl", 4)
def test_two_triangles_and_a_hexagon():
    two, one = cycles(3, 3), cycles(6)
    network = CWCNN(1, 0, 8, 4, dimension=1, signed=False).double()
    for a, b in zip(network.forward_cells(two.unsigned()), network.forward_cells(one.unsigned()), strict=True):
        for p, q in zip(a, b, strict=True):  # every node and edge has the same state, at every depth
            torch.testing.assert_close(p, p[:1].expand_as(p))
            torch.testing.assert_close(p, q)
    for k in (0, 1):
        returns = []
        for cells in (two, one):
            walks = simplicial_walks(cells, k, None, 4, non_backtracking=True)
            returns.append(walk_codes(cells, k, walks.simplices, 3)[:, 3, 2])
        assert returns[0].all() and not returns[1].any()
        plain = [simplicial_walks(cells, k, 400, 3, non_backtracking=True).simplices for cells in (two, one)]
        assert not any((walk_codes(cells, k, w, 2)[:, :, :2]).any() for cells, w in zip((two, one), plain, strict=True))


@pytest.mark.fact("scrawl", 5)
def test_more_walks_shrink_the_spread_as_a_root():
    cells, _ = complex_of()
    counts, spreads = (20, 80, 320, 1280), []
    network = small(depth=1)
    for m in counts:
        network.count = (m,) * 3
        with torch.no_grad():
            found = [network.forward_cells(cells, network.sample(cells, seed))[-1][1] for seed in range(24)]
        spreads.append(float(torch.stack(found).var(0).mean().sqrt()))
    slope = np.polyfit(np.log(counts), np.log(spreads), 1)[0]
    assert -0.65 < slope < -0.35


def test_a_convolution_against_a_loop():
    torch.manual_seed(0)
    cells, _ = complex_of()
    conv, k, window = WalkConv(3, 2, 0.0).double().eval(), 1, 2
    walks = simplicial_walks(cells, k, 7, 8, seed=2)
    given = CodedWalks(walks, walk_codes(cells, k, walks.simplices, window))
    h, faces, cofaces = cells.x[1], cells.x[0], cells.x[2]
    first, bn1, _, second, bn2, _ = conv.conv
    total, count = torch.zeros_like(h), torch.zeros(len(h)).double()
    for w in range(7):
        rows = []
        for i in range(8):
            s, f, c = (int(part[w, i]) for part in walks)
            zero = torch.zeros(3).double()
            rows.append(torch.cat([h[s], faces[f] if f >= 0 else zero, cofaces[c] if c >= 0 else zero,
                                   given.codes[w, i].double()]))  # fmt: skip
        one = [sum(first.weight[:, :, j] @ rows[i + j] for j in range(3)) for i in range(6)]
        one = [(r / (1 + bn1.eps) ** 0.5).relu() for r in one]
        for i in range(4):
            two = (sum(second.weight[:, :, j] @ one[i + j] for j in range(3)) / (1 + bn2.eps) ** 0.5).relu()
            centre = int(walks.simplices[w, i + 2])
            total[centre] += two
            count[centre] += 1
    pooled = total / count.clamp_min(1)[:, None]
    torch.testing.assert_close(conv(h, faces, cofaces, given), h + conv.mlp(torch.cat([h, pooled], 1)))
    assert (count == 0).any() and not pooled[count == 0].any()


def test_walks_do_not_mix_and_a_simplex_that_no_walk_visits_keeps_its_own():
    cells, _ = complex_of()
    network = small(depth=1)
    walks = network.sample(cells)
    first = [CodedWalks(SimplicialWalks(*(part[:1] for part in w)), c[:1]) for w, c in walks]
    conv = network.stages[0].convs[0]
    h = network.stem(cells)
    alone = conv.pooled(h[0], None, h[1], first[0])
    both = conv.pooled(h[0], None, h[1], walks[0])
    seen = set(first[0].walks.simplices[0, 2:7].tolist())
    assert all(bool(alone[v].any()) == (v in seen) for v in range(9)) and not both[8].any()


def test_all_dimensions_move_from_the_same_states():
    cells, _ = complex_of()
    network = small(depth=1)
    walks, z = network.sample(cells), network.stem(cells)
    got = network.forward_cells(cells, walks)[-1]
    layer = network.stages[0].convs
    for k, (low, high) in enumerate(((None, z[1]), (z[0], z[2]), (z[1], None))):
        torch.testing.assert_close(got[k], layer[k](z[k], low, high, walks[k]))
    moved = cells._replace(x=(cells.x[0], cells.x[1], cells.x[2] + 1))
    assert not torch.allclose(network.forward_cells(moved, walks)[-1][1], got[1])  # triangles reach edges


def test_new_seeds_are_new_walks_and_a_complex_of_a_batch_keeps_its_own():
    cells, _ = complex_of()
    network = small()
    a, b, again = (network.sample(cells, seed)[1].walks.simplices for seed in (0, 1, 0))
    assert torch.equal(a, again) and not torch.equal(a, b)
    both = batch_complexes([cells, complex_of(seed=1)[0]])
    torch.testing.assert_close(network(both)[:1], network(cells))
    edges = cells.skeleton(1)
    empty = edges._replace(x=(*edges.x, torch.zeros(0, 3).double()), faces=(*edges.faces, torch.zeros(2, 0).long()),
                           signs=(*edges.signs, torch.zeros(0)))  # fmt: skip
    assert torch.isfinite(network.train()(empty)).all()  # no triangle at all


def test_mistakes_with_walks_are_named():
    cells, _ = complex_of()
    with value_error("dimension 0 to 2, got 3"):
        simplicial_walks(cells, 3)
    with value_error("sampling must be"):
        simplicial_walks(cells, 1, sampling="uniform")
    with value_error("length must be 1 or more"):
        simplicial_walks(cells, 1, length=0)
    with value_error("window must be 1 step or more"):
        walk_codes(cells, 1, simplicial_walks(cells, 1, length=3).simplices, 0)
    with value_error("length must be above twice the window"):
        SCRaWl(3, 2, window=8, length=16)
    with value_error("count needs a number for each dimension"):
        SCRaWl(3, 2, count=(5, 5))
    network, short = small(), small(length=5)
    with value_error("walks must be longer than twice the window"):
        small(window=4).stages[0](cells._replace(x=network.stem(cells)), short.sample(cells))
