"""Two ways to train a hypergraph network without labels: telling views of it apart, and filling hidden members into hyperedges.

Contrast: two views drop columns of the features and single memberships; z are the projected nodes, y the projected hyperedges, each
the mean of its members. With sim the cosine over a temperature and D a bilinear score,

    L = NCE(z¹, z²) + ω_g NCE(y¹, y²) + ω_m · mean over memberships (v, e) of −log σ(D_ve − D_v'e) − log σ(D_ve − D_ve')

where v', e' are drawn. Filling: one member of each hyperedge is hidden, and its embedding is to be found among those of drawn nodes by
the mean of the members that are left.

S. Kim et al., A Survey on Hypergraph Neural Networks, 2024, arXiv:2404.01039; the contrast is that of D. Lee, K. Shin, I'm Me, We're
Us, and I'm Us: Tri-directional Contrastive Learning on Hypergraphs, 2022, arXiv:2206.04739.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from ziggurat.data.batch import GraphBatch
from ziggurat.graphs.hypergraphs.incidence import count_hyperedges, hyperedge_sizes, to_hyperedges
from ziggurat.nn.learner import Learner
from ziggurat.nn.losses.info_nce import info_nce
from ziggurat.nn.recipe import Recipe


def projector(width: int) -> nn.Sequential:
    """A hidden layer of the same width with ELU."""
    return nn.Sequential(nn.Linear(width, width), nn.ELU(), nn.Linear(width, width))


class HypergraphContrast(Learner):
    """Nodes, hyperedges and memberships of two views, each told from others.

    Arguments:
        network: a `Staged` hypergraph network; its classifier is removed.
        drop_features, drop_memberships: probabilities, of a column and of a membership.
        groups, memberships: ω_g and ω_m.
        temperature: of nodes and of hyperedges.
        lr: learning rate; None is 5e-4.
    """

    score = "linear_probe"

    def __init__(
        self,
        network: nn.Module,
        drop_features: float = 0.3,
        drop_memberships: float = 0.3,
        groups: float = 1.0,
        memberships: float = 1.0,
        temperature: float = 0.5,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if not (0 <= drop_features < 1 and 0 <= drop_memberships < 1):
            raise ValueError(f"what is dropped must be in [0, 1), got {drop_features} and {drop_memberships}.")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}.")
        network.reset_classifier(0)  # type: ignore[operator]
        self.drop_features, self.drop_memberships, self.temperature = drop_features, drop_memberships, temperature
        self.groups, self.memberships = groups, memberships
        width: int = network.num_features  # type: ignore[assignment]
        self.nodes, self.hyperedges = projector(width), projector(width)
        self.agreement = nn.Bilinear(width, width, 1, bias=False) if memberships else None

    def view(
        self, x: Float[Tensor, "N F"], hyperedge_index: Int64[Tensor, "2 M"], hyperedge_weight: Tensor | None
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "E D"]]:
        """Projected nodes and hyperedges of one random view."""
        columns = torch.rand(x.shape[1], device=x.device) >= self.drop_features
        kept = torch.rand(hyperedge_index.shape[1], device=x.device) >= self.drop_memberships
        h = self.represent(x * columns, hyperedge_index[:, kept], hyperedge_weight)
        members = to_hyperedges(h, hyperedge_index[:, kept], count_hyperedges(hyperedge_index, hyperedge_weight))
        return self.nodes(h), self.hyperedges(members)

    def losses(self, batch: GraphBatch) -> dict[str, Tensor]:
        (z1, y1), (z2, y2) = self.view(*batch.inputs), self.view(*batch.inputs)
        node, edge = batch.inputs[1]
        terms = {"nodes": info_nce(z1, z2, self.temperature).mean()}
        if self.groups:
            terms["groups"] = self.groups * info_nce(y1, y2, self.temperature).mean()
        if self.agreement is not None:
            far = torch.randint(len(z1), node.shape, device=node.device)
            other = torch.randint(len(y2), edge.shape, device=edge.device)
            true = self.agreement(z1[node], y2[edge])
            false = self.agreement(z1[far], y2[edge]), self.agreement(z1[node], y2[other])
            terms["memberships"] = -self.memberships * sum(logsigmoid(true - wrong).mean() for wrong in false)
        return terms

    def recipe(self) -> Recipe:
        """AdamW at a constant rate."""
        return Recipe(torch.optim.AdamW(self.parameters(), lr=self.lr or 5e-4, weight_decay=1e-5))


def hide_members(
    hyperedge_index: Int64[Tensor, "2 M"], num_hyperedges: int
) -> tuple[Bool[Tensor, " M"], Int64[Tensor, " K"], Int64[Tensor, " K"]]:
    """One membership of every hyperedge with two members or more, drawn: (which memberships are left, hyperedges, hidden nodes)."""
    node, edge = hyperedge_index
    order = torch.rand(len(edge), device=edge.device).argsort()
    order = order[edge[order].argsort(stable=True)]  # by hyperedge, its members in random order
    sorted_edge = edge[order]
    first = torch.ones_like(sorted_edge, dtype=torch.bool)
    first[1:] = sorted_edge[1:] != sorted_edge[:-1]
    hidden = order[first & (hyperedge_sizes(hyperedge_index, num_hyperedges)[sorted_edge] > 1)]
    left = torch.ones_like(edge, dtype=torch.bool).index_fill(0, hidden, False)
    return left, edge[hidden], node[hidden]


class HyperedgeFilling(Learner):
    """The hidden member of each hyperedge is told from drawn nodes that are no members of it.

    Arguments:
        network: a `Staged` hypergraph network; its classifier is removed.
        negatives: nodes drawn in a step, for all hyperedges together.
        temperature: of the cosine.
        lr: learning rate; None is 1e-3.
    """

    score = "linear_probe"

    def __init__(
        self, network: nn.Module, negatives: int = 256, temperature: float = 0.2, lr: float | None = None
    ) -> None:
        super().__init__(network, lr)
        if negatives < 1 or temperature <= 0:
            raise ValueError(f"negatives must be 1 or more and temperature above 0, got {negatives} and {temperature}.")
        network.reset_classifier(0)  # type: ignore[operator]
        self.negatives, self.temperature = negatives, temperature
        self.query = projector(network.num_features)  # type: ignore[arg-type]

    def losses(self, batch: GraphBatch) -> dict[str, Tensor]:
        x, index, weight = batch.inputs
        count = count_hyperedges(index, weight)
        left, edges, hidden = hide_members(index, count)
        if not len(edges):
            raise ValueError("no hyperedge has two members, so that none can be filled.")
        h = self.represent(x, index[:, left], weight)
        asked = normalize(self.query(to_hyperedges(h, index[:, left], count)[edges]), dim=1)
        unit = normalize(h, dim=1)
        drawn = torch.randint(len(x), (self.negatives,), device=x.device)
        wrong = asked @ unit[drawn].T / self.temperature
        members = torch.isin(edges[:, None] * len(x) + drawn, index[1] * len(x) + index[0])
        right = (asked * unit[hidden]).sum(1, keepdim=True) / self.temperature
        scores = torch.cat([right, wrong.masked_fill(members, -torch.inf)], 1)
        return {"filling": cross_entropy(scores, torch.zeros_like(edges))}

    def recipe(self) -> Recipe:
        """Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))
