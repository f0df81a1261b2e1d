"""MEOW: two views of the nodes of a heterogeneous graph, one that knows whom meta-paths reach and one that knows what lies on them.

    coarse:  GCN over the mean of the meta-paths      fine:  GCN over each meta-path of ELU(h + W_m c_m), mixed by attention
    L_info = −log( e^{f_i · c_i / t} / Σ_j w_ij e^{f_i · c_j / t} )
    MEOW:  w_ij = number of clusterings in which i and j differ, and a loss that draws nodes to their prototypes
    AdaMEOW:  w_ij = sigmoid(MLP(f_i + c_j))

c_m is the mean over the nodes on the way. Negatives of one's own cluster, which are likely to be of one's class, weigh less.

J. Yu, Q. Ge, X. Li, A. Zhou, Heterogeneous Graph Contrastive Learning with Meta-path Contexts and Adaptively Weighted Negative Samples,
2022, arXiv:2212.13847.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.functional import dropout, elu, layer_norm, normalize

from ziggurat.data.batch import GraphBatch
from ziggurat.graphs.heterogeneous.metapaths import MetaGraph
from ziggurat.graphs.heterogeneous.semantic_attention import SemanticAttention
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe


def weighted_info_nce(
    f: Float[Tensor, "N D"],
    c: Float[Tensor, "N D"],
    weights: Float[Tensor, "N N"],
    temperature: float = 0.5,
    keep_positive: bool = True,
) -> Float[Tensor, " N"]:
    """−log(e^{s_ii} / Σ_j w_ij e^{s_ij}) for each node, where s = f cᵀ / t.

    Arguments:
        weights: of the negatives, none below 0; those on the diagonal are not read.
        keep_positive: the positive stands in the denominator with weight 1; without it (the official code's form) values can be below 0.

    Raises a `ValueError` where a row has no negative of positive weight.
    """
    eye = torch.eye(len(f), dtype=torch.bool, device=f.device)
    others = weights.masked_fill(eye, 0)
    if not others.is_meta and (others.sum(1) <= 0).any():
        raise ValueError("a node has no negative with a weight above 0; use more clusters than one, or other weights.")
    scores = f @ c.T / temperature
    factors = others.masked_fill(eye, 1) if keep_positive else others
    logs = torch.where(factors > 0, factors.clamp_min(1e-30).log(), -torch.inf)
    return torch.logsumexp(scores + logs, 1) - scores.diagonal()


def hard_weights(clusterings: Int64[Tensor, "R N"]) -> Float[Tensor, "N N"]:
    """w_ij, the number of clusterings in which i and j are in different clusters."""
    return (clusterings[:, :, None] != clusterings[:, None]).float().sum(0)


def clusterings(f: Float[Tensor, "N D"], counts: Sequence[int], seed: int = 0) -> Int64[Tensor, "R N"]:
    """k-means of the vectors for each number of clusters, out of autograd."""
    points = f.detach().cpu().double().numpy()
    found = [KMeans(min(k, len(points)), n_init=1, max_iter=30, random_state=seed).fit_predict(points) for k in counts]
    return torch.from_numpy(np.stack(found).astype(np.int64)).to(f.device)


def prototype_loss(
    c: Float[Tensor, "N D"], f: Float[Tensor, "N D"], labels: Int64[Tensor, " N"], temperature: float = 0.5
) -> Float[Tensor, " N"]:
    """−log softmax_k(c_i · p_k / φ_k) at i's own cluster; p_k is the unit mean of its f, which get no gradient.

    φ_k = Σ |f − p_k| / (n_k log(n_k + 10)), rescaled so that its mean is the temperature.
    """
    f, k = f.detach(), int(labels.max()) + 1
    counts = torch.bincount(labels, minlength=k).to(f.dtype)
    centres = normalize(f.new_zeros(k, f.shape[1]).index_add(0, labels, f), dim=1)
    spread = f.new_zeros(k).index_add(0, labels, (f - centres[labels]).norm(dim=1))
    spread = spread / (counts * (counts + 10).log()).clamp_min(1e-12)
    spread = (temperature * spread / spread.mean().clamp_min(1e-12)).clamp_min(0.1 * temperature)
    return nn.functional.cross_entropy(c @ centres.T / spread, labels, reduction="none")


class MetaPathViews(nn.Module):
    """The coarse and the fine view of a `MetaGraph`'s nodes.

    Arguments:
        in_features: of the target nodes.
        contexts: for each meta-path, for each kind of node on the way, the width of its features; −n for n nodes that have none and
            get a vector each.
        width: of both views.
        drop: dropout of features; mask, edge_mask: shares of feature columns and of path edges that the masked copy loses.
        use_contexts: False leaves out c_m: the ablation.

    Shapes: `MetaGraph` -> coarse (N, width), fine (N, width).
    """

    def __init__(
        self,
        in_features: int,
        contexts: Sequence[Sequence[int]],
        width: int = 64,
        drop: float = 0.3,
        mask: float = 0.2,
        edge_mask: float = 0.2,
        use_contexts: bool = True,
    ) -> None:
        super().__init__()
        self.drop, self.mask, self.edge_mask = drop, mask, edge_mask
        self.project = nn.Linear(in_features, width)
        self.first, self.second = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.act = nn.PReLU()
        self.attention = SemanticAttention(width)
        kept = contexts if use_contexts else []
        self.kinds = nn.ModuleList(
            nn.ModuleList(nn.Linear(size, width) if size > 0 else nn.Embedding(-size, width) for size in path)
            for path in kept
        )
        self.mixes = nn.ModuleList(nn.ModuleList(nn.Linear(width, width, bias=False) for _ in path) for path in kept)

    def encode(self, h: Float[Tensor, "N D"], matrix: Tensor) -> Float[Tensor, "N D"]:
        """Two graph convolutions, the same for all views."""
        size = h.shape[1:]
        h = self.act(layer_norm(matrix @ self.first(h), size))
        return layer_norm(matrix @ self.second(h), size)

    def dropped(self, matrix: Tensor) -> Tensor:
        """A matrix without some of its entries."""
        if matrix.is_sparse:
            values = dropout(matrix.values(), self.edge_mask)
            return torch.sparse_coo_tensor(matrix.indices(), values, matrix.shape, check_invariants=False)
        return dropout(matrix, self.edge_mask)

    def own(self, x: Float[Tensor, "N F"]) -> Float[Tensor, "N D"]:
        """h of the target nodes."""
        return elu(dropout(self.project(x), self.drop, self.training))

    def context(self, graph: MetaGraph, m: int) -> Tensor | float:
        """W_m c_m, summed over the kinds of nodes on the way; 0 without contexts."""
        if not len(self.kinds):
            return 0.0
        total = 0.0
        for kind, mix, (mean, x) in zip(self.kinds[m], self.mixes[m], graph.contexts[m], strict=True):
            h = elu(kind.weight if x is None else kind(x))
            total = total + dropout(mix(mean @ h), self.drop, self.training)
        return total

    def fine(self, graph: MetaGraph) -> Float[Tensor, "N D"]:
        """The meta-paths mixed; while training with a masked copy of each."""
        contexts = [self.context(graph, m) for m in range(len(graph.paths))]
        views, h = [], self.own(graph.x)
        for path, extra in zip(graph.paths, contexts, strict=True):
            views.append(self.encode(elu(h + extra), path))
        if self.training:
            columns = (torch.rand(graph.x.shape[1], device=graph.x.device) >= self.mask).to(graph.x.dtype)
            h = self.own(graph.x * columns)
            for path, extra in zip(graph.paths, contexts, strict=True):
                views.append(self.encode(elu(h + extra), self.dropped(path)))
        return self.attention([normalize(view, dim=1) for view in views])

    def forward(self, graph: MetaGraph) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        return self.encode(self.own(graph.x), graph.coarse), self.fine(graph)


class MEOW(Learner):
    """Learns nodes of a heterogeneous graph without labels; batches are `GraphBatch((MetaGraph,), …)`.

    Arguments:
        network: `MetaPathViews`.
        width: of its views and of the projection.
        clusters: numbers of clusters of the k-means that weigh the negatives; empty weighs all alike.
        prototypes: λ, the factor of the loss of prototypes.
        temperature: t.
        keep_positive: see `weighted_info_nce`.
        lr: learning rate; None is 1e-3.

    `represent(graph)` is the fine view in evaluation mode, before the projection.
    """

    score = "linear_probe"

    def __init__(
        self,
        network: nn.Module,
        width: int = 64,
        clusters: Sequence[int] = (10, 30),
        prototypes: float = 0.1,
        temperature: float = 0.5,
        keep_positive: bool = True,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if any(k < 2 for k in clusters) or (prototypes and not clusters):
            raise ValueError(
                "clusters must be 2 or more each, and prototypes need some; pass prototypes=0 without clusters."
            )
        self.projector = nn.Linear(width, width)
        self.clusters, self.prototypes = tuple(clusters), prototypes
        self.temperature, self.keep_positive = temperature, keep_positive

    def views(self, graph: MetaGraph) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """The unit vectors c and f."""
        c, f = self.projector(torch.stack(self.network(graph))).tanh()
        return normalize(c, dim=1), normalize(f, dim=1)

    def losses(self, batch: GraphBatch) -> dict[str, Tensor]:
        c, f = self.views(*batch.inputs)
        if not self.clusters:
            return {
                "info": weighted_info_nce(f, c, torch.ones(len(f), len(f)).to(f), self.temperature, self.keep_positive)
            }
        labels = clusterings(f, self.clusters)
        terms = {"info": weighted_info_nce(f, c, hard_weights(labels).to(f), self.temperature, self.keep_positive)}
        if self.prototypes:
            each = [prototype_loss(c, f, one, self.temperature) for one in labels]
            terms["proto"] = self.prototypes * torch.stack(each).mean(0)
        return terms

    def represent(self, *inputs: MetaGraph) -> Tensor:
        return self.network.fine(*inputs)  # type: ignore[operator]

    def recipe(self) -> Recipe:
        """Adam at 1e-3, the whole graph in every step."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))


class AdaMEOW(MEOW):
    """The same with weights of negatives that are learned, and without prototypes.

    Arguments:
        network, width, temperature, keep_positive, lr: as of `MEOW`.
        hidden: units of the perceptron of the weights.
        normalize_weights: divides each row of weights by its mean; weights that all shrink lower the loss without learning.
    """

    def __init__(
        self,
        network: nn.Module,
        width: int = 64,
        hidden: int = 16,
        temperature: float = 0.5,
        keep_positive: bool = True,
        normalize_weights: bool = True,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, width, (), 0.0, temperature, keep_positive, lr)
        self.first, self.last = nn.Linear(width, hidden), nn.Linear(hidden, 1)
        self.normalize_weights = normalize_weights

    def weights(self, f: Float[Tensor, "N D"], c: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
        """sigmoid(MLP(f_i + c_j)); the first layer is linear, so that no (N², D) is made."""
        one, two = self.first(f), nn.functional.linear(c, self.first.weight)
        w = self.last((one[:, None] + two[None]).tanh())[:, :, 0].sigmoid()
        return w / w.mean(1, keepdim=True) if self.normalize_weights else w

    def losses(self, batch: GraphBatch) -> dict[str, Tensor]:
        c, f = self.views(*batch.inputs)
        return {"info": weighted_info_nce(f, c, self.weights(f, c), self.temperature, self.keep_positive)}
