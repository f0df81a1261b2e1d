import math
from dataclasses import replace

import networkx as nx
import pytest
import torch
from sklearn.metrics.pairwise import haversine_distances
from torch_geometric.data import Data

from tests.data import load_or_skip
from tests.typecheck import value_error
from ziggurat.data.graphs.city_graph import (
    COLUMNS,
    ROWS,
    TILE,
    azimuth,
    drawn_city,
    haversine,
    junctions,
    look,
    mosaic,
    satellite_tiles,
    street_views,
    weathered,
)


def positions(count=12, seed=0):
    u = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.stack([180 * u[:, 0] - 90, 360 * u[:, 1] - 180], 1)


def small_roads(seed=0):
    """A jittered grid of 5 × 5 junctions about 100 m apart near Helsinki, with a bend in the middle of every road and one dead end."""
    g = torch.Generator().manual_seed(seed)
    lines, columns = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    pos = torch.stack([columns.flatten() * 0.0018 + 24.94, lines.flatten() * 0.0009 + 60.17], 1).double()
    pos = pos + 1e-4 * torch.randn(25, 2, generator=g, dtype=torch.float64)
    pairs = [(a, b) for a in range(25) for b in (a + 1, a + 5) if b < 25 and (b == a + 5 or b % 5)]
    middle = torch.stack([(pos[a] + pos[b]) / 2 for a, b in pairs])
    edges = [e for i, (a, b) in enumerate(pairs) for e in ((a, 25 + i), (25 + i, b))]
    end = len(pairs) + 25
    pos = torch.cat([pos, middle, pos[12:13] + torch.tensor([[0.0004, 0.0]])])
    edges.append((12, end))
    return Data(
        pos=pos, edge_index=torch.tensor(edges).T, length=torch.ones(len(edges)), num_nodes=len(pos), name="grid"
    )


def photographs(count=3):
    g = torch.Generator().manual_seed(1)
    return [torch.randint(256, (3, 90, 110), generator=g, dtype=torch.uint8) for _ in range(count)]


@pytest.mark.fact("spagbol", 5)
def test_haversine():
    a, b = positions(), positions(7, 1)
    opposite = torch.stack([-a[:, 0], (a[:, 1] + 360) % 360 - 180], 1)
    torch.testing.assert_close(haversine(a, opposite).diagonal(), torch.full((12,), math.pi, dtype=torch.float64))
    assert not haversine(a, a).diagonal().any()
    want = haversine_distances(a.deg2rad().numpy(), b.deg2rad().numpy())
    torch.testing.assert_close(haversine(a, b), torch.from_numpy(want), atol=1e-9, rtol=0)
    for p, row in zip(a.tolist(), haversine(a, b).tolist(), strict=True):
        for q, got in zip(b.tolist(), row, strict=True):
            (lat, lon), (other, beside) = map(math.radians, p), map(math.radians, q)
            cos = math.sin(lat) * math.sin(other) + math.cos(lat) * math.cos(other) * math.cos(beside - lon)
            assert got == pytest.approx(math.acos(cos), abs=1e-7)


def test_azimuth():
    here = torch.tensor([[60.0, 25.0]], dtype=torch.float64).expand(4, 2)
    away = here + 1e-5 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(azimuth(here, away), torch.tensor([0.0, 90, 180, 270]).double(), atol=1e-3, rtol=0)
    # a degree of longitude is half a degree of latitude at 60°
    skew = here[:1] + torch.tensor([[1e-5, 2e-5]], dtype=torch.float64)
    assert float(azimuth(here[:1], skew)) == pytest.approx(45.0, abs=1e-3)
    # to a pole it is north, whatever the longitude; 360 and 0 are the same
    pole = float(azimuth(here[:1], torch.tensor([[90.0, -70.0]], dtype=torch.float64)))
    assert math.sin(math.radians(pole)) == pytest.approx(0, abs=1e-9) and math.cos(math.radians(pole)) > 0


def contracted(roads):
    """The same in a loop: take out one node with two neighbours after the other, and join them; then the largest component."""
    graph = nx.Graph()
    graph.add_nodes_from(range(roads.num_nodes))
    graph.add_edges_from((a, b) for a, b in roads.edge_index.T.tolist() if a != b)
    bends = [v for v in graph if graph.degree(v) == 2]
    for v in bends:
        a, b = graph.neighbors(v) if graph.degree(v) == 2 else (v, v)
        graph.remove_node(v)
        if a != b and a in graph and b in graph:
            graph.add_edge(a, b)
    return graph.subgraph(max(nx.connected_components(graph), key=len))


def check_junctions(roads):
    graph, found = contracted(roads), junctions(roads)
    kept = [v for v in sorted(graph) if graph.degree(v) >= 3]
    place = {v: i for i, v in enumerate(kept)}
    torch.testing.assert_close(found.pos, roads.pos[kept].flip(1))
    want = sorted(
        (place[a], place[b]) for edge in graph.edges for a, b in (edge, edge[::-1]) if a in place and b in place
    )
    assert found.edge_index.T.tolist() == [list(pair) for pair in want]
    for v in kept:
        others = roads.pos[list(graph.neighbors(v))].flip(1)
        bearings = azimuth(roads.pos[v].flip(0).expand_as(others), others).sort().values.tolist()
        assert found.bearing[found.at == place[v]].sort().values.tolist() == pytest.approx(bearings)
    return found


def test_bends_are_contracted_as_in_a_loop():
    found = check_junctions(small_roads())
    # the four corners of the grid are bends, too: 40 − 8 + 4 roads; the dead end is no junction, but its road leaves one
    assert found.num_nodes == 21 and found.edge_index.shape[1] == 2 * 36 and len(found.at) == 2 * 36 + 1


def test_junctions_of_a_street_map():
    roads = load_or_skip("roads_test_area")
    assert check_junctions(roads).num_nodes == 331


def test_a_subset_keeps_the_roads_that_leave_it():
    city = drawn_city(small_roads(), photographs(), views=2, resolution=4.0, block=80)
    assert len(city) == 21 and city.satellite.shape == (21, 3, TILE, TILE)
    assert city.street.shape == (21, 2, 3, ROWS, COLUMNS)
    rows = torch.tensor([7, 3, 8, 12])
    part = city.subset(rows, "part")
    place = {int(v): i for i, v in enumerate(rows)}
    want = sorted([place[a], place[b]] for a, b in city.roads.T.tolist() if a in place and b in place)
    assert part.roads.T.tolist() == want and want
    for i, v in enumerate(rows.tolist()):
        assert part.bearing[part.at == i].tolist() == city.bearing[city.at == v].tolist()
    assert torch.equal(part.street, city.street[rows]) and torch.equal(part.position, city.position[rows])
    assert part.describe() == f"part: 4 junctions, {len(want) // 2} roads, 2 street views each"


def ramp():
    """A ground whose channels are x, y and 0."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    return torch.stack([x, y, 0 * x])


def test_tiles_are_windows_north_up():
    place = torch.tensor([[30.0, 25.0], [41.5, 33.25]])
    tiles = satellite_tiles(ramp(), place, 16.0)
    for n, (x, y) in enumerate(place.tolist()):
        for i, j in ((0, 0), (0, 31), (13, 7), (31, 31)):
            want = [x + 16 * ((j + 0.5) / 32 - 0.5), y + 16 * ((i + 0.5) / 32 - 0.5), 0]
            torch.testing.assert_close(tiles[n, :, i, j], torch.tensor(want), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        look(ramp(), *torch.tensor([[[[79.0, 200.0]]], [[[59.0, 10.0]]]]))[0, 0, 0], torch.tensor([79.0, 79.0])
    )


def test_street_views_are_unrolled():
    place, heading, reach = (
        torch.tensor([[30.0, 25.0], [41.5, 33.25]]),
        torch.tensor([0.0, 57.0]),
        torch.tensor([8.0, 20.0]),
    )
    views = street_views(ramp(), place, heading, reach)
    for n in range(2):
        for i, j in ((0, 0), (0, 16), (5, 40), (15, 63)):
            angle = math.radians(float(heading[n]) + 360 * j / COLUMNS)
            far = float(reach[n]) * (1 - (i + 0.5) / ROWS)
            want = torch.tensor([place[n, 0] + far * math.sin(angle), place[n, 1] - far * math.cos(angle), 0])
            torch.testing.assert_close(views[n, :, i, j], want, atol=1e-4, rtol=0)
    turned = street_views(ramp(), place, heading + 3 * 360 / COLUMNS, reach)
    torch.testing.assert_close(turned, views.roll(-3, 3), atol=1e-4, rtol=0)


def test_mosaic_and_weather():
    photos = [torch.full((3, 50, 50), v, dtype=torch.uint8) for v in (0, 51, 102, 255)]
    ground = mosaic(photos, 70, 90, 45, seed=3)
    assert ground.shape == (3, 70, 90)
    corners = [float(ground[0, y, x]) for y, x in ((0, 0), (0, 89), (69, 0), (69, 89))]
    assert sorted(corners) == pytest.approx([0, 0.2, 0.4, 1])  # each photograph once
    assert torch.equal(ground, mosaic(photos, 70, 90, 45, seed=3)) and not torch.equal(
        ground, mosaic(photos, 70, 90, 45, seed=4)
    )
    x = torch.full((200, 3, 8, 8), 0.5)
    plain = weathered(x, 0.1, 0.0, torch.Generator().manual_seed(0))
    assert float(plain.std((2, 3)).max()) < 1e-6 and float(plain.mean((2, 3)).std()) > 0.05
    assert torch.equal(weathered(x, 0.0, 0.0, torch.Generator()), x)
    noisy = weathered(x, 0.1, 0.05, torch.Generator().manual_seed(0))
    inside = (plain[..., 0, 0] > 0.3) & (plain[..., 0, 0] < 0.7)
    assert float((noisy - plain).std((2, 3))[inside].mean()) == pytest.approx(0.05, rel=0.05)


def test_a_seed_draws_the_same_city():
    a, b, c = (drawn_city(small_roads(), photographs(), views=1, resolution=4.0, block=80, seed=s) for s in (0, 0, 1))
    assert torch.equal(a.street, b.street) and torch.equal(a.satellite, b.satellite)
    assert not torch.equal(a.satellite, c.satellite) and torch.equal(a.roads, c.roads)


def test_mistakes_are_named():
    city = drawn_city(small_roads(), photographs(), views=1, resolution=4.0, block=80)
    with value_error("one of each for every junction"):
        replace(city, satellite=city.satellite[1:])
    with value_error("sorted and each there once"):
        replace(city, roads=city.roads.flip(1))
    with value_error("one direction only"):
        replace(city, roads=city.roads[:, 1:])
    with value_error("views must be 1 or more"):
        drawn_city(small_roads(), photographs(), views=0)
