"""SpaGBOL: a place is embedded together with a short walk around it, and the directions of its roads sort wrong places out.

A junction is looked for by its street view among satellite tiles. Two networks with weights of their own look at the two pictures of every
junction of a walk; one GraphSAGE, which both share, lets the junctions of the walk speak with each other. For every junction i

    L_i = [ ‖s_i − t_i‖ − ‖s_i − t_n‖ + 0.1 ]₊,   ‖s‖ = ‖t‖ = 1

s is the street's and t the satellite's embedding, n a junction of another walk of the batch. A curriculum says of which: first of the walk
that starts farthest away, every few epochs of the next nearer one. What is found is compared by its bearing vector, a circle of bins, set
where a road leaves in their direction: bin by bin where the heading is known, else up to a rotation.

T. Shore, O. Mendez, S. Hadfield, SpaGBOL: Spatial-Graph-Based Orientated Localisation, 2024, arXiv:2409.15514. Widths, margin, bins and the
curriculum are those of the authors' code. Its negatives are all among the first few junctions of a batch; here n is the junction at the
same step of the other walk, and never the anchor's own place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import normalize

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import ClassMembers
from ziggurat.data.graphs.city_graph import CityGraph, haversine
from ziggurat.graphs.convolutions.graphsage import GraphSAGE
from ziggurat.learning.metric.distances import euclidean
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.tuplets import mean_of_active, triplet_margin
from ziggurat.nn.recipe import Recipe

View = Literal["satellite", "street"]
BINS = 8
MOST_BINS = 62  # of a vector that is read as an int64


# Walks


def all_walks(
    roads: Int64[Tensor, "2 E"], num_nodes: int, starts: Int64[Tensor, " S"], length: int
) -> tuple[Int64[Tensor, "W L"], Int64[Tensor, " W"]]:
    """(every walk from the starts that never turns straight back, the number of its start); −1 behind a dead end.

    Arguments:
        roads: both directions, sorted by their first row.
        length: junctions of a walk.
    """
    if length < 1:
        raise ValueError(f"length must be 1 or more, got {length}.")
    degree = torch.bincount(roads[0], minlength=num_nodes)
    first = degree.cumsum(0) - degree
    walks, owner = starts[:, None], torch.arange(len(starts))
    for step in range(1, length):
        here = walks[:, -1]
        count = torch.where(here >= 0, degree[here], 0)
        row = torch.arange(len(walks)).repeat_interleave(count)
        road = first[here[row]] + torch.arange(len(row)) - (count.cumsum(0) - count)[row]
        onward = roads[1, road]
        if step > 1:
            ahead = onward != walks[row, -2]
            row, onward = row[ahead], onward[ahead]
        ended = torch.bincount(row, minlength=len(walks)) == 0
        longer = torch.cat([walks[row], onward[:, None]], 1)
        over = torch.cat([walks[ended], walks.new_full((int(ended.sum()), 1), -1)], 1)
        walks, owner = torch.cat([longer, over]), torch.cat([owner[row], owner[ended]])
    order = owner.argsort(stable=True)
    return walks[order], owner[order]


class WalkGraph(NamedTuple):
    """Walks as one graph: node (M,) in the city, walk (M,) and step (M,) of each row, edge_index (2, E), first row (W,) of each walk."""

    node: Tensor
    walk: Tensor
    step: Tensor
    edge_index: Tensor
    first: Tensor


def walk_graph(walks: Int64[Tensor, "W L"]) -> WalkGraph:
    """The junctions of each walk, each once, in the order of the walk, with the roads that were walked, in both directions."""
    length, rows = walks.shape[1], torch.arange(len(walks))[:, None]
    equal = walks[:, :, None] == walks[:, None, :]
    earliest = equal.int().argmax(2)  # where a junction was visited first
    new = (earliest == torch.arange(length)) & (walks >= 0)
    number = (new.flatten().cumsum(0) - 1).view_as(walks)[rows, earliest]
    walked = walks[:, 1:] >= 0
    ends = torch.stack([number[:, :-1][walked], number[:, 1:][walked]])
    edges = torch.cat([ends, ends.flip(0)], 1)
    step = (new.cumsum(1) - 1)[new]
    return WalkGraph(walks[new], rows.expand_as(walks)[new], step, torch.unique(edges, dim=1), number[:, 0])


@dataclass
class WalkBatch(Batch):
    """Walks of a city: `inputs` are (street views (M, 3, h, w), edge_index); index (W,) are their starts, target the same.

    Arguments:
        satellite: (M, 3, H, W) tile of each junction.
        node, walk, step, first: as of `WalkGraph`.
        position: (W, 2) latitude and longitude of the starts.
    """

    satellite: Tensor | None = None
    node: Tensor | None = None
    walk: Tensor | None = None
    step: Tensor | None = None
    first: Tensor | None = None
    position: Tensor | None = None

    def pick(self, output: Tensor) -> Tensor:
        """The rows of the starts."""
        return output[self.first]


@dataclass(frozen=True)
class Walks:
    """One random walk from each junction of a `CityGraph` an epoch, with a random street view of every junction: `WalkBatch`.

    Where one walk would be left alone at the end, which has no negative, the first start comes again beside it.

    Arguments:
        length: junctions of a walk.
    """

    length: int = 4

    def order(
        self, dataset: CityGraph, batch_size: int, generator: torch.Generator, order: Tensor | None
    ) -> Iterator[Tensor]:
        starts = torch.randperm(len(dataset), generator=generator) if order is None else order
        if min(batch_size, len(starts)) < 2:
            raise ValueError(
                f"a batch needs 2 walks or more, so that there are negatives, got {min(batch_size, len(starts))}."
            )
        if len(starts) % batch_size == 1:
            starts = torch.cat([starts, starts[:1]])
        return iter(starts.split(batch_size))

    def draw(self, city: CityGraph, starts: Int64[Tensor, " S"], generator: torch.Generator) -> Int64[Tensor, "S L"]:
        """One of all walks from each start, all of them equally likely."""
        walks, owner = all_walks(city.roads, len(city), starts, self.length)
        return walks[ClassMembers(owner).draw(torch.arange(len(starts)), generator)]

    def batch(self, dataset: CityGraph, index: Tensor, generator: torch.Generator) -> WalkBatch:
        graph = walk_graph(self.draw(dataset, index, generator))
        view = torch.randint(dataset.street.shape[1], graph.node.shape, generator=generator)
        street = dataset.street[graph.node, view].float() / 255
        return WalkBatch(
            (street, graph.edge_index), index, index, satellite=dataset.satellite[graph.node].float() / 255,
            node=graph.node, walk=graph.walk, step=graph.step, first=graph.first, position=dataset.position[index],
        )  # fmt: skip


# Negatives: of every walk another one of the batch, from positions (W, 2) and how far the curriculum is

Negatives = Callable[[Tensor, int], Tensor]


def geographic_negatives(position: Float[Tensor, "W 2"], level: int) -> Int64[Tensor, " W"]:
    """The walk that starts farthest away at level 0, the next nearer one at level 1, and so on to the nearest."""
    if len(position) < 2:
        raise ValueError("a negative needs a second walk in the batch.")
    away = haversine(position, position).fill_diagonal_(-1)
    return away.argsort(dim=1, descending=True, stable=True)[:, min(level, len(position) - 2)]


def random_negatives(position: Float[Tensor, "W 2"], level: int) -> Int64[Tensor, " W"]:
    """A uniform other walk, from torch's own generator, which a learner seeds at every step."""
    if len(position) < 2:
        raise ValueError("a negative needs a second walk in the batch.")
    drawn = torch.randint(len(position) - 1, (len(position),), device=position.device)
    return drawn + (drawn >= torch.arange(len(position), device=position.device))


class SpaGBOL(Learner):
    """Two networks of images, a graph network behind both, and triplets across the views.

    Arguments:
        network: of street views, to vectors (paper: ConvNeXt-T); a `Staged` one loses its classifier.
        satellite: of tiles, to vectors of the same width, with weights of its own.
        widths: of the graph network's two layers; the last is that of the embedding.
        walk: junctions of a walk; 1 compares single images.
        negatives: chooses a walk of the batch for each from the positions of the starts and the level of the curriculum.
        every: epochs of a level.
        margin: of the triplets.
        patience: epochs without a lower loss that the rate outlasts before it is halved.
        lr: of AdamW (paper: 1e-4).
    """

    score = "knn"

    def __init__(
        self,
        network: nn.Module,
        satellite: nn.Module,
        widths: tuple[int, int] = (256, 64),
        walk: int = 4,
        negatives: Negatives = geographic_negatives,
        every: int = 10,
        margin: float = 0.1,
        patience: int = 4,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if network is satellite:
            raise ValueError("the two networks must have weights of their own; give two modules.")
        if not margin > 0 or every < 1 or walk < 1:
            raise ValueError(f"margin must be positive, every and walk 1 or more, got {margin}, {every} and {walk}.")
        for part in (network, satellite):
            if hasattr(part, "reset_classifier"):
                part.reset_classifier(0)  # type: ignore[operator]
        wide: list[Any] = [getattr(part, "num_features", None) for part in (network, satellite)]
        if wide[0] is None or wide[0] != wide[1]:
            raise ValueError(f"both networks must say the same num_features, the width of what they give, got {wide}.")
        self.satellite = satellite
        self.graph = GraphSAGE(wide[0], widths[1], widths[0], dropout=0.0)
        self.walk, self.negatives, self.every, self.margin, self.patience = walk, negatives, every, margin, patience

    @property
    def feed(self) -> Walks:
        return Walks(self.walk)

    def features(self, images: Float[Tensor, "M 3 H W"], view: View) -> Float[Tensor, "M F"]:
        """What the network of a view says of each image alone."""
        return self.satellite(images) if view == "satellite" else self.network(images)

    def encode(
        self, images: Float[Tensor, "M 3 H W"], edge_index: Int64[Tensor, "2 E"], view: View
    ) -> Float[Tensor, "M D"]:
        """Embeddings of length one of the junctions of walks."""
        return normalize(self.graph(self.features(images, view), edge_index), dim=1)

    def represent(self, *inputs: Tensor) -> Float[Tensor, "M D"]:
        """Embeddings of (street views, edge_index)."""
        return self.encode(inputs[0], inputs[1], "street")

    def level(self) -> int:
        """How far the curriculum is."""
        return self.current_epoch // self.every

    def triplets(self, batch: WalkBatch) -> Int64[Tensor, "T 3"]:
        """Street junctions 0 … M − 1, satellite junctions M … 2 M − 1: (i, M + i, M + n), where n is not the place of i."""
        assert batch.node is not None and batch.walk is not None and batch.step is not None and batch.first is not None
        other = self.negatives(batch.position, self.level())[batch.walk]  # type: ignore[arg-type]
        n = batch.first[other] + batch.step % torch.bincount(batch.walk)[other]
        i = torch.arange(len(n), device=n.device)
        return torch.stack([i, i + len(n), n + len(n)], 1)[batch.node[n] != batch.node]

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over the triplets that cost something."""
        assert isinstance(batch, WalkBatch) and batch.satellite is not None
        street = self.represent(*batch.inputs)
        both = torch.cat([street, self.encode(batch.satellite, batch.inputs[1], "satellite")])
        loss = triplet_margin(euclidean(both, both), self.triplets(batch), self.margin)
        return {"triplet": mean_of_active(loss) + 0 * both.sum()}  # what is not a number must not pass for 0

    def report(self, terms: Any, total: Tensor, batch: Batch) -> None:
        super().report(terms, total, batch)
        self.log("loss/epoch", total.detach(), on_step=False, on_epoch=True, batch_size=len(batch))

    def recipe(self) -> Recipe:
        """AdamW; see `configure_optimizers` for its rate."""
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or 1e-4))

    def configure_optimizers(self) -> Any:
        """The rate is halved when the loss of an epoch has not fallen for more than `patience` epochs."""
        optimizer = self.recipe().optimizer
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=self.patience)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "interval": "epoch", "monitor": "loss/epoch", "strict": False},
        }

    @torch.no_grad()
    def embed(
        self, city: CityGraph, walks: Int64[Tensor, "W L"], view: View, image: int = 0, block: int = 512
    ) -> Float[Tensor, "W D"]:
        """Embeddings of the first junctions of walks through a city; each image is looked at once.

        Arguments:
            image: which street view of each junction.
            block: images and walks at once.
        """
        images: UInt8[Tensor, "N 3 H W"] = city.satellite if view == "satellite" else city.street[:, image]
        mode = self.training
        self.eval()
        x = torch.cat([self.features(part.to(self.device).float() / 255, view) for part in images.split(block)])
        found = []
        for part in walks.split(block):
            graph = walk_graph(part)
            z = self.graph(x[graph.node.to(x.device)], graph.edge_index.to(x.device))
            found.append(normalize(z[graph.first.to(x.device)], dim=1))
        self.train(mode)
        return torch.cat(found)


def place_distances(
    queries: Float[Tensor, "Q D"], gallery: Float[Tensor, "G D"], place: Int64[Tensor, " G"], places: int
) -> Float[Tensor, "Q P"]:
    """Distance of each query to each place: that to the nearest of its walks; any walk of a place is right."""
    away = queries.new_full((len(queries), places), torch.inf)
    return away.scatter_reduce(1, place.expand(len(queries), -1), euclidean(queries, gallery), "amin")


# Bearing vectors


def bearing_vectors(
    at: Int64[Tensor, " R"], bearing: Float[Tensor, " R"], num_nodes: int, bins: int = BINS
) -> Bool[Tensor, "N B"]:
    """Circles of bins, set where a road leaves: bin b is that of the directions within half a bin of b · 360 / bins degrees.

    Arguments:
        at, bearing: a junction, and the direction of a road that leaves it.
    """
    if not 2 <= bins <= MOST_BINS:
        raise ValueError(f"bins must be 2 to {MOST_BINS}, got {bins}.")
    vectors = torch.zeros(num_nodes, bins, dtype=torch.bool)
    vectors[at, (bearing * bins / 360).round().long() % bins] = True
    return vectors


def rotations(vectors: Bool[Tensor, "N B"]) -> Bool[Tensor, "N B B"]:
    """All rotations of each vector; row r begins with its bin r."""
    bins = torch.arange(vectors.shape[1], device=vectors.device)
    return vectors[:, (bins[:, None] + bins) % len(bins)]


def canonical(vectors: Bool[Tensor, "N B"]) -> Bool[Tensor, "N B"]:
    """Of each vector the rotation that is the largest binary number; equal for two vectors only if one is a rotation of the other."""
    turned = rotations(vectors)
    power = 2 ** torch.arange(vectors.shape[1] - 1, -1, -1, device=vectors.device)
    best = (turned * power).sum(2).argmax(1)
    return turned[torch.arange(len(vectors), device=vectors.device), best]


def hamming(a: Bool[Tensor, "Q B"], b: Bool[Tensor, "G B"]) -> Float[Tensor, "Q G"]:
    """How many bins differ, for all pairs."""
    x, y = a.float(), b.float()
    return x.sum(1, keepdim=True) + y.sum(1) - 2 * x @ y.T


class BearingVectorMatching:
    """Keeps of a ranking the places whose roads leave in the directions that the query saw.

    Arguments:
        bearings: bearing vectors (P, B) of the places, north up.
        tolerance: bins that may differ, for estimated bearings; with an unknown heading, in the rotation where they are fewest.
    """

    def __init__(self, bearings: Bool[Tensor, "P B"], tolerance: int = 0) -> None:
        if not 2 <= bearings.shape[1] <= MOST_BINS:
            raise ValueError(f"vectors must have 2 to {MOST_BINS} bins, got {bearings.shape[1]}.")
        if tolerance < 0:
            raise ValueError(f"tolerance must be 0 or more, got {tolerance}.")
        self.bearings, self.tolerance = bearings, tolerance

    def matches(self, query: Bool[Tensor, "Q B"], known_heading: bool = False) -> Bool[Tensor, "Q P"]:
        """Which places stay for each query.

        Arguments:
            query: bearing vectors, north up where the heading is known, else from whatever the camera looked at.
        """
        if query.shape[1] != self.bearings.shape[1]:
            raise ValueError(
                f"the query has {query.shape[1]} bins, the places have {self.bearings.shape[1]}; give equally many."
            )
        if known_heading:
            return hamming(query, self.bearings) <= self.tolerance
        if not self.tolerance:
            return hamming(canonical(query), canonical(self.bearings)) == 0
        turned = rotations(query)
        differ = hamming(turned.flatten(0, 1), self.bearings).view(*turned.shape[:2], -1)
        return differ.amin(1) <= self.tolerance

    def rank(
        self, distance: Float[Tensor, "Q P"], query: Bool[Tensor, "Q B"] | None = None, known_heading: bool = False
    ) -> Int64[Tensor, "Q P"]:
        """Places in ascending order of distance, without those that do not match; −1 behind the last. Without `query` all stay."""
        kept = torch.ones_like(distance, dtype=torch.bool) if query is None else self.matches(query, known_heading)
        order = distance.masked_fill(~kept, torch.inf).argsort(dim=1, stable=True)
        return order.masked_fill(~kept.gather(1, order), -1)
