"""A city as a graph of its junctions, each with a satellite tile and street views; and such pictures drawn onto real roads.

Street networks are real, pictures of them need a licence. So the ground is drawn as a mosaic of photographs. A satellite tile is a window
of it, north up. A street view is what one sees from the junction: a smaller window, unrolled around its centre, from a random heading,
in other colours and with noise.

T. Shore, O. Mendez, S. Hadfield, SpaGBOL: Spatial-Graph-Based Orientated Localisation, 2024, arXiv:2409.15514 (the form of the data).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample
from torch_geometric.data import Data
from torch_geometric.utils import coalesce

from ziggurat.data.datasets import Index, as_index
from ziggurat.data.graphs.roads import largest_component, merge_bends
from ziggurat.data.placed import cut_photograph
from ziggurat.data.seeds import derive, generator

DEGREE = 111_195.0
"""Metres of one degree of latitude."""
JUNCTION = 3
"""Roads that meet at least where there is a junction."""
TILE, ROWS, COLUMNS = 32, 16, 64
"""Pixels of a tile's side; rows (distances) and columns (directions) of a street view."""


# On the sphere: positions are (latitude, longitude) in degrees


def haversine(a: Float[Tensor, "N 2"], b: Float[Tensor, "M 2"]) -> Float[Tensor, "N M"]:
    """Angle between all pairs of positions, seen from the centre of the Earth, in radians: times 6,371 km, their distance."""
    (lat, lon), (other, beside) = a.deg2rad().T[..., None], b.deg2rad().T
    half = ((other - lat) / 2).sin().square() + lat.cos() * other.cos() * ((beside - lon) / 2).sin().square()
    return 2 * half.clamp(0, 1).sqrt().asin()


def azimuth(a: Float[Tensor, "N 2"], b: Float[Tensor, "N 2"]) -> Float[Tensor, " N"]:
    """Direction in which the shortest way from a to b sets out, in degrees clockwise from north, 0 … 360."""
    (lat, lon), (other, beside) = a.deg2rad().T, b.deg2rad().T
    east = (beside - lon).sin() * other.cos()
    north = lat.cos() * other.sin() - lat.sin() * other.cos() * (beside - lon).cos()
    return torch.atan2(east, north).rad2deg() % 360


@dataclass(frozen=True)
class CityGraph:
    """Junctions and the roads between them.

    Arguments:
        satellite: (N, 3, H, W) uint8, north up.
        street: (N, V, 3, h, w) uint8, V views of each junction.
        roads: (2, E), every road in both directions, sorted by its start.
        position: (N, 2) latitude and longitude.
        at, bearing: (R,) a junction and the direction, in degrees clockwise from north, of a road that leaves it, also of one that leads
            out of the graph.
        name: what people call the city.
    """

    satellite: UInt8[Tensor, "N C H W"]
    street: UInt8[Tensor, "N V C h w"]
    roads: Int64[Tensor, "2 E"]
    position: Float64[Tensor, "N 2"]
    at: Int64[Tensor, " R"]
    bearing: Float64[Tensor, " R"]
    name: str
    kind: str = "graph"
    task: str = "localisation"

    def __post_init__(self) -> None:
        n = len(self.position)
        if not len(self.satellite) == len(self.street) == n:
            raise ValueError(
                f"{self.name}: {n} positions, {len(self.satellite)} tiles and {len(self.street)} groups of street views; "
                "give one of each for every junction."
            )
        code = self.roads[0] * n + self.roads[1]
        if bool((code[1:] <= code[:-1]).any()):
            raise ValueError(
                f"{self.name}: roads must be sorted and each there once; torch_geometric's coalesce does it."
            )
        if not torch.equal((self.roads[1] * n + self.roads[0]).sort().values, code):
            raise ValueError(f"{self.name}: some road is there in one direction only; add the other one.")

    def __len__(self) -> int:
        return len(self.position)

    def subset(self, index: Index, name: str | None = None) -> CityGraph:
        """The named junctions and the roads between them; roads that lead to others still leave their junctions."""
        rows = as_index(index, len(self))
        place = torch.full((len(self),), -1).index_copy(0, rows, torch.arange(len(rows)))
        inside = (place[self.roads] >= 0).all(0)
        kept = place[self.at] >= 0
        return replace(
            self, satellite=self.satellite[rows], street=self.street[rows], position=self.position[rows],
            roads=coalesce(place[self.roads[:, inside]], num_nodes=len(rows)), at=place[self.at[kept]],
            bearing=self.bearing[kept], name=name or self.name,
        )  # fmt: skip

    def describe(self) -> str:
        """One line for people."""
        return f"{self.name}: {len(self):,} junctions, {self.roads.shape[1] // 2:,} roads, {self.street.shape[1]} street views each"


def junctions(roads: Data) -> Data:
    """The junctions of a road network: where three roads or more meet; bends are merged into their roads.

    Arguments:
        roads: `Data` with pos (longitude, latitude), edge_index and length, as of `load("roads_helsinki")`.

    Returns `Data` of the largest component: pos (latitude, longitude), edge_index with both directions, sorted, and `at`, `bearing` as of
    `CityGraph`. A road sets out straight to the junction or dead end where it ends.
    """
    merged = merge_bends(roads)
    nodes, _, ends = largest_component(merged.edge_index, int(merged.num_nodes))
    both, pos = torch.cat([ends, ends.flip(0)], 1), merged.pos[nodes].flip(1)
    kept = torch.bincount(both[0], minlength=len(nodes)) >= JUNCTION
    place = kept.cumsum(0) - 1
    leaving, inside = kept[both[0]], kept[both].all(0)
    return Data(
        pos=pos[kept], edge_index=coalesce(place[both[:, inside]], num_nodes=int(kept.sum())), at=place[both[0, leaving]],
        bearing=azimuth(pos[both[0, leaving]], pos[both[1, leaving]]), num_nodes=int(kept.sum()),
    )  # fmt: skip


# The drawn ground. Places on it are (x, y) in pixels, x to the east and y to the south


def mosaic(photographs: Sequence[Tensor], height: int, width: int, block: int, seed: int = 0) -> Float[Tensor, "3 h w"]:
    """Blocks of random parts of photographs, in [0, 1]; none is used twice before all are.

    Arguments:
        block: side of a block in pixels.
    """
    rng, rows, columns = np.random.default_rng(derive(seed, "mosaic")), -(-height // block), -(-width // block)
    order = np.concatenate([rng.permutation(len(photographs)) for _ in range(-(-rows * columns // len(photographs)))])
    blocks = [cut_photograph([photographs[i]], block, block, rng) for i in order[: rows * columns]]
    lines = [torch.cat(blocks[columns * r : columns * (r + 1)], 2) for r in range(rows)]
    return torch.cat(lines, 1)[:, :height, :width].float() / 255


def look(
    ground: Float[Tensor, "3 H W"], x: Float[Tensor, "N h w"], y: Float[Tensor, "N h w"]
) -> Float[Tensor, "N 3 h w"]:
    """The ground at places between its pixels; beyond its edge, what is at the edge."""
    n, h, w = x.shape
    scale = torch.tensor([ground.shape[2] - 1, ground.shape[1] - 1]) / 2
    grid = torch.stack([x, y], -1).float() / scale - 1
    seen = grid_sample(ground[None], grid.view(1, n * h, w, 2), padding_mode="border", align_corners=True)
    return seen.view(3, n, h, w).transpose(0, 1)


def satellite_tiles(
    ground: Float[Tensor, "3 H W"], place: Float[Tensor, "N 2"], side: float
) -> Float[Tensor, "N 3 t t"]:
    """Windows of the ground around places, north up, at `TILE` × `TILE` pixels.

    Arguments:
        side: of a window in pixels of the ground.
    """
    step = side * ((torch.arange(TILE) + 0.5) / TILE - 0.5)
    x = (place[:, 0, None, None] + step).expand(-1, TILE, -1)
    return look(ground, x, (place[:, 1, None, None] + step[:, None]).expand(-1, -1, TILE))


def street_views(
    ground: Float[Tensor, "3 H W"],
    place: Float[Tensor, "N 2"],
    heading: Float[Tensor, " N"],
    reach: Float[Tensor, " N"],
) -> Float[Tensor, "N 3 h w"]:
    """The ground around places, unrolled: columns are directions, clockwise from the heading, rows distances, the far ones on top.

    Arguments:
        heading: of the first column, in degrees clockwise from north.
        reach: distance of the top, in pixels of the ground.
    """
    turn = (heading[:, None] + 360 * torch.arange(COLUMNS) / COLUMNS).deg2rad()[:, None, :]
    away = (reach[:, None] * (1 - (torch.arange(ROWS) + 0.5) / ROWS))[:, :, None]
    return look(ground, place[:, 0, None, None] + away * turn.sin(), place[:, 1, None, None] - away * turn.cos())


def weathered(
    x: Float[Tensor, "N 3 h w"], tint: float, noise: float, draw: torch.Generator
) -> Float[Tensor, "N 3 h w"]:
    """Images as another camera on another day takes them.

    Arguments:
        tint: standard deviation, for each image, of what is added to each colour, and of how the colours mix; that of the logarithm of the
            contrast is three times this.
        noise: standard deviation of the noise of each pixel.
    """
    mix = torch.eye(3) + tint * torch.randn(len(x), 3, 3, generator=draw)
    contrast = (3 * tint * torch.randn(len(x), 1, 1, 1, generator=draw)).exp()
    added = tint * torch.randn(len(x), 3, 1, 1, generator=draw)
    mean = x.mean((2, 3), keepdim=True)
    mixed = torch.einsum("nij,njhw->nihw", mix, mean + contrast * (x - mean)) + added
    return (mixed + noise * torch.randn(mixed.shape, generator=draw)).clamp(0, 1)


def drawn_city(
    roads: Data,
    photographs: Sequence[Tensor],
    views: int = 5,
    tile: float = 48.0,
    reach: float = 0.7,
    tint: float = 0.03,
    noise: float = 0.05,
    resolution: float = 1.5,
    block: int = 120,
    seed: int = 0,
) -> CityGraph:
    """A city of real roads on a drawn ground.

    Arguments:
        roads: as of `load("roads_helsinki")`, with a `name`.
        photographs: (3, H, W) uint8 that the ground is made of.
        views: street views of each junction.
        tile: metres that a satellite tile is wide.
        reach: how far a street view looks at most, as a share of half a tile; it looks at least 0.7 of that.
        tint, noise: of the street views, as of `weathered`.
        resolution: metres of a pixel of the ground.
        block: pixels of the side of a photograph on the ground.
        seed: of the ground and the views.
    """
    if views < 1 or min(tile, reach, resolution, block) <= 0 or min(tint, noise) < 0:
        raise ValueError(
            f"views must be 1 or more, tile, reach, resolution and block positive, tint and noise 0 or more, got {views}, {tile}, "
            f"{reach}, {resolution}, {block}, {tint} and {noise}."
        )
    graph: Any = junctions(roads)
    place, margin = _metres(graph.pos) / resolution, tile * max(reach, 1) / resolution
    place = place - place.amin(0) + margin
    width, height = (int(n) + 1 for n in (place.amax(0) + margin).tolist())
    ground, draw = mosaic(photographs, height, width, block, seed), generator(seed, "views")
    many = place.repeat_interleave(views, 0)
    heading = 360 * torch.rand(len(many), generator=draw)
    far = reach * tile / 2 / resolution * (0.7 + 0.3 * torch.rand(len(many), generator=draw))
    seen = weathered(street_views(ground, many, heading, far), tint, noise, draw)
    return CityGraph(
        _bytes(satellite_tiles(ground, place, tile / resolution)), _bytes(seen).unflatten(0, (len(place), views)),
        graph.edge_index, graph.pos, graph.at, graph.bearing, str(roads.name),
    )  # fmt: skip


def _metres(position: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """Metres to the east and to the south; flat, which is right for a city."""
    lat, lon = position.T
    return DEGREE * torch.stack([lon * lat.mean().deg2rad().cos(), -lat], 1)


def _bytes(x: Tensor) -> Tensor:
    return (255 * x).round().to(torch.uint8)
