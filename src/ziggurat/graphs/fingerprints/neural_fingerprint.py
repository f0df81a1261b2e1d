"""Neural fingerprints: circular fingerprints whose hash is a layer of a network and whose bit is a softmax, so that both can be learned.

    v_a = Σ_{u ~ a} (r_u ‖ e_au),   r_a ← ReLU(BN(r_a W_self + v_a W_{deg(a)} + b)),   f ← f + Σ_a softmax(r_a V + c)

Every degree has a matrix W of its own. Each layer, and the raw features too, write to the fingerprint: every atom spreads a total of one
over the S entries. Large random weights make a layer act as a hash and the softmax as the choice of a bit.

D. Duvenaud, D. Maclaurin, J. Aguilera-Iparraguirre, R. Gómez-Bombarelli, T. Hirzel, A. Aspuru-Guzik, R. Adams, Convolutional Networks on
Graphs for Learning Molecular Fingerprints, 2015, arXiv:1509.09292.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.data.graphs.molecules import ATOM_FEATURES, BOND_FEATURES
from ziggurat.data.seeds import generator
from ziggurat.graphs.propagation import check_edges
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged


class DegreeConv(nn.Module):
    """r_a W_self + Σ_{u ~ a} (r_u ‖ e_au) W_{deg(a)} + b, with one W for each degree.

    Arguments:
        in_channels, out_channels: of an atom.
        bond_features: of an edge; with 0 edges have none.
        max_degree: the largest degree with a matrix of its own, which larger ones share; 0 shares one among all.

    Shapes: x (N, in_channels), edge_index (2, E), edge_attr (E, bond_features) -> (N, out_channels). The degree counts incoming edges.
    """

    def __init__(self, in_channels: int, out_channels: int, bond_features: int = 0, max_degree: int = 5) -> None:
        super().__init__()
        if max_degree < 0 or bond_features < 0:
            raise ValueError(f"max_degree and bond_features must be 0 or more, got {max_degree} and {bond_features}.")
        self.bond_features, self.max_degree = bond_features, max_degree
        wide = in_channels + bond_features
        self.own = nn.Linear(in_channels, out_channels)
        self.weight = nn.Parameter(torch.empty(max_degree + 1, wide, out_channels))
        nn.init.uniform_(self.weight, -1 / math.sqrt(wide), 1 / math.sqrt(wide))

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_attr: Float[Tensor, "E b"] | None = None,
    ) -> Float[Tensor, "N G"]:
        check_edges(edge_index, len(x))
        source, target = edge_index
        near = x[source]
        if self.bond_features:
            near = torch.cat([near, self.checked(edge_attr)], 1)
        total = x.new_zeros(len(x), near.shape[1]).index_add(0, target, near)
        degree = self.degrees(target, len(x))
        # all degrees at once, then each atom's own: atoms are many and degrees are few
        every = (total @ self.weight.transpose(0, 1).flatten(1)).unflatten(1, (self.max_degree + 1, -1))
        return self.own(x) + every.gather(1, degree[:, None, None].expand(-1, 1, every.shape[2])).squeeze(1)

    def checked(self, edge_attr: Tensor | None) -> Tensor:
        """The bonds, or a `ValueError` where they are missing or of another width."""
        if edge_attr is None or edge_attr.shape[1] != self.bond_features:
            got = "none" if edge_attr is None else edge_attr.shape[1]
            raise ValueError(
                f"edges need {self.bond_features} features, got {got}; feed molecules with `WithBonds`, or build the network with "
                "another number of bond_features."
            )
        return edge_attr

    def degrees(self, target: Int64[Tensor, " E"], count: int) -> Int64[Tensor, " N"]:
        """Incoming edges of each atom, at most `max_degree`."""
        found = target.new_zeros(count).index_add(0, target, torch.ones_like(target))
        return found.clamp_max(self.max_degree)

    def extra_repr(self) -> str:
        return f"bond_features={self.bond_features}, max_degree={self.max_degree}"


class SoftHash(nn.Module):
    """softmax(r V + c) over the entries of the fingerprint: (N, in_channels) -> (N, size), rows of sum 1."""

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, size)

    def forward(self, r: Float[Tensor, "N F"]) -> Float[Tensor, "N S"]:
        return self.linear(r).softmax(1)


class FingerprintLayer(nn.Module):
    """A `DegreeConv`, normalised without scale and shift, its ReLU, and what the atoms write.

    Shapes: x (N, in_channels) and edges as of `DegreeConv` -> the atoms (N, width) and what each of them writes (N, size).
    """

    def __init__(self, in_channels: int, width: int, size: int, bond_features: int, max_degree: int) -> None:
        super().__init__()
        self.conv = DegreeConv(in_channels, width, bond_features, max_degree)
        self.norm, self.act = nn.BatchNorm1d(width, affine=False), nn.ReLU()
        self.hash = SoftHash(width, size)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.act(self.norm(self.conv(x, edge_index, edge_attr)))
        return x, self.hash(x)


class FingerprintHead(Classifier):
    """A linear layer on the fingerprint, or a hidden layer with normalisation in front of it.

    Arguments:
        size: S.
        num_classes: 0 gives the vector before the last layer.
        hidden: units of the hidden layer; 0 leaves it out.

    Shapes: (B, size) -> (B, num_classes).
    """

    def __init__(self, size: int, num_classes: int, hidden: int = 100) -> None:
        super().__init__(hidden or size, num_classes, pool="none")
        layers = (nn.Linear(size, hidden), nn.BatchNorm1d(hidden, affine=False), nn.ReLU()) if hidden else ()
        self.hidden = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "B S"], pre_logits: bool = False) -> Float[Tensor, "B K"]:
        return super().forward(self.hidden(x), pre_logits)


class NeuralFingerprint(Staged):
    """A fingerprint that is learned together with what it is for.

    Arguments:
        in_features, bond_features: of atoms and bonds; with 0 bonds have none.
        num_classes: 0 gives features; 1 is for regression.
        size: S, the length of the fingerprint (paper: 16 to 2048).
        width: of an atom's representation.
        depth: layers, the radius of the fingerprint.
        hidden: units between the fingerprint and the prediction; 0: a linear layer alone.
        max_degree: of `DegreeConv`; 0 gives all degrees the same matrix.

    Shapes: x (N, in_features), edge_index (2, E), edge_attr (E, bond_features), batch (N,) -> (molecules, num_classes). Features are the
    fingerprints (molecules, size) after each layer.
    """

    input = "graphs"
    sequential = False

    def __init__(
        self,
        in_features: int = ATOM_FEATURES,
        num_classes: int = 1,
        size: int = 512,
        width: int = 20,
        depth: int = 4,
        hidden: int = 100,
        bond_features: int = BOND_FEATURES,
        max_degree: int = 5,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        self.stem = SoftHash(in_features, size)
        self.stages = nn.ModuleList(
            FingerprintLayer(width if i else in_features, width, size, bond_features, max_degree) for i in range(depth)
        )
        self.channels, self.num_features = (size,) * depth, hidden or size
        self.head = FingerprintHead(size, num_classes, hidden)

    def atom_activations(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_attr: Float[Tensor, "E b"] | None = None,
    ) -> list[Float[Tensor, "N S"]]:
        """What each atom writes to the fingerprint, at radius 0, 1, … depth: where an entry comes from."""
        check_edges(edge_index, len(x))
        writes = [self.stem(x)]
        for stage in self.stages:
            x, written = self.run(stage, x, edge_index, edge_attr)
            writes.append(written)
        return writes

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_attr: Float[Tensor, "E b"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        writes = self.atom_activations(x, edge_index, edge_attr)
        batch = edge_index.new_zeros(len(x)) if batch is None else batch
        count = int(batch.max()) + 1 if len(batch) else 1
        features, fingerprint = [], None
        for written in writes:
            own = written.new_zeros(count, written.shape[1]).index_add(0, batch, written)
            fingerprint = own if fingerprint is None else fingerprint + own
            features.append(fingerprint)
        return features[1:]

    def fingerprint(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_attr: Float[Tensor, "E b"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "B S"]:
        """The fingerprints (molecules, size); each sums to its number of atoms times (depth + 1)."""
        return self.forward_features(x, edge_index, edge_attr, batch)[-1]

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_attr: Float[Tensor, "E b"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, edge_index, edge_attr, batch))

    def recipe(self, lr: float | None = None, weight_decay: float = 1e-4) -> Recipe:
        """Adam with an L2 penalty; rate and penalty were searched in the paper."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 3e-3, weight_decay=weight_decay))


@torch.no_grad()
def draw_hash(network: NeuralFingerprint, scale: float, seed: int = 0) -> NeuralFingerprint:
    """Draws what makes the fingerprint from N(0, scale²) and fixes it; the head is left as it is. Returns the network.

    With a scale far above 1 the fingerprint acts like a circular one: every layer hashes, and each atom writes to one entry.
    """
    g = generator(seed, "hash")
    for part in (network.stem, network.stages):
        for parameter in part.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=g)).requires_grad_(False)
    return network
