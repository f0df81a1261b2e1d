"""LazyGNN: one or two steps of propagation a training step reach far, because each starts from what the steps before have propagated.

Two memories, one row a node: Z, the last outputs, and G, the last gradients of the inputs. With X = f(features), the predictions of a
perceptron, and S = D^-1/2 (A + I) D^-1/2,

    forward    H_0 = (1 − β) Z + β X,   H_{l+1} = (1 − α) S H_l + α X,    Z ← H_L
    backward   Q_0 = (1 − γ) G + γ g,   Q_{l+1} = (1 − α) Sᵀ Q_l + α g,   G ← Q_L is the gradient of X, where g is that of H_L

Depth accumulates over training steps. Autograd never sees the products: backward is lazy too. In evaluation there is no memory, but
K steps of personalised PageRank.

R. Xue, H. Han, M. Torkamani, J. Pei, X. Liu, LazyGNN: Large-Scale Graph Neural Networks via Lazy Propagation, 2023, arXiv:2302.01503.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import global_mean_pool

from ziggurat.graphs.decoupled.predicting import OnGraph, PredictThenPropagate
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged

Rows = Int64[Tensor, " B"]
"""Which rows of the memory the nodes of a batch are."""


def pagerank_steps(
    start: Float[Tensor, "N C"], x: Float[Tensor, "N C"], step: SparseOperator, hops: int, alpha: float
) -> Float[Tensor, "N C"]:
    """H_{l+1} = (1 − α) S H_l + α X, `hops` times from H_0 = `start`."""
    h = start
    for _ in range(hops):
        h = (1 - alpha) * step(h) + alpha * x
    return h


class Memory(nn.Module):
    """A value for each node, and whether it was ever written; rows that were not read as what is given instead.

    It grows with the nodes that it is shown, is no parameter, and travels in the state.
    """

    rows: Tensor
    known: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        """Forgets everything."""
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("known", torch.zeros(0, dtype=torch.bool))

    def mixed(self, x: Float[Tensor, "B C"], share: float, nodes: Rows, own: int) -> Float[Tensor, "B C"]:
        """(1 − share) memory + share x, behind the first `own` rows the memory alone; x where nothing is remembered."""
        self.fit(x, nodes)
        fresh = share * (torch.arange(len(x), device=x.device) < own).to(x.dtype).unsqueeze(1)
        return torch.where(self.known[nodes].unsqueeze(1), (1 - fresh) * self.rows[nodes] + fresh * x, x)

    def write(self, x: Float[Tensor, "B C"], nodes: Rows) -> None:
        """Remembers the rows of x, without their history."""
        self.rows = self.rows.index_copy(0, nodes, x.detach())
        self.known = self.known.index_fill(0, nodes, True)

    def fit(self, x: Float[Tensor, "B C"], nodes: Rows) -> None:
        """Room for all of `nodes`; a memory of another width or type is forgotten."""
        if self.rows.shape[1] != x.shape[1] or self.rows.dtype != x.dtype or self.rows.device != x.device:
            self.rows, self.known = x.new_zeros(0, x.shape[1]), torch.zeros(0, dtype=torch.bool, device=x.device)
        lacking = int(nodes.max()) + 1 - len(self.rows) if len(nodes) else 0
        if lacking > 0:
            self.rows = torch.cat([self.rows, x.new_zeros(lacking, x.shape[1])])
            self.known = torch.cat([self.known, self.known.new_zeros(lacking)])

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A saved memory has its own size."""
        for name in ("rows", "known"):
            if f"{prefix}{name}" in state:
                setattr(self, name, torch.empty_like(state[f"{prefix}{name}"], device=getattr(self, name).device))
        super()._load_from_state_dict(state, prefix, *rest)


class _Lazy(torch.autograd.Function):
    """The identity between X and the lazily propagated H, with the lazy gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h: Tensor, owner: LazyPropagation, step: SparseOperator, nodes: Rows, own: int
    ) -> Tensor:
        ctx.owner, ctx.step, ctx.nodes, ctx.own = owner, step, nodes, own
        return h.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, nodes, own = grads[0], ctx.nodes, ctx.own
        gradient = ctx.owner.lazy_gradient(grad, ctx.step, nodes, own)
        ctx.owner.gradients.write(gradient[:own], nodes[:own])
        halo = torch.zeros_like(gradient[own:])
        return torch.cat([gradient[:own], halo]), None, None, None, None, None


class LazyPropagation(nn.Module):
    """L steps of propagation from what is remembered in training; K steps of personalised PageRank in evaluation.

    Arguments:
        hops: L, of a training step, forward and again backward.
        alpha: α in (0, 1], the part of X that every step brings back.
        beta, gamma: β, γ in [0, 1], the parts of the new output and gradient where a step begins; 1 switches a memory off.
        test_hops: K.

    Shapes: x (N, C), step = S -> (N, C).
    """

    def __init__(
        self, hops: int = 2, alpha: float = 0.1, beta: float = 0.6, gamma: float = 0.5, test_hops: int = 7
    ) -> None:
        super().__init__()
        if hops < 0 or test_hops < 0:
            raise ValueError(f"hops and test_hops must be 0 or more, got {hops} and {test_hops}.")
        if not (0 < alpha <= 1 and 0 <= beta <= 1 and 0 <= gamma <= 1):
            raise ValueError(f"alpha must be in (0, 1], beta and gamma in [0, 1], got {alpha}, {beta} and {gamma}.")
        self.hops, self.alpha, self.beta, self.gamma, self.test_hops = hops, alpha, beta, gamma, test_hops
        self.outputs, self.gradients = Memory(), Memory()

    def reset_memory(self) -> None:
        """Forgets outputs and gradients."""
        self.outputs.reset()
        self.gradients.reset()

    def recall(
        self, x: Float[Tensor, "N C"], step: SparseOperator, nodes: Rows | None = None, own: int | None = None
    ) -> Float[Tensor, "N C"]:
        """L steps from the remembered outputs, as in training, without writing them."""
        nodes = torch.arange(len(x), device=x.device) if nodes is None else nodes
        start = self.outputs.mixed(x, self.beta, nodes, len(x) if own is None else own)
        return pagerank_steps(start, x, step, self.hops, self.alpha)

    def lazy_gradient(
        self, grad: Float[Tensor, "N C"], step: SparseOperator, nodes: Rows, own: int
    ) -> Float[Tensor, "N C"]:
        """L steps from the remembered gradients, along the edges backwards."""
        start = self.gradients.mixed(grad, self.gamma, nodes, own)
        return pagerank_steps(start, grad, step.transposed, self.hops, self.alpha)

    def forward(
        self, x: Float[Tensor, "N C"], step: SparseOperator, nodes: Rows | None = None, own: int | None = None
    ) -> Float[Tensor, "N C"]:
        """Propagated predictions.

        Arguments:
            nodes: which row of the memory each node is; None says all, in order.
            own: how many of the nodes, the first ones, are the batch's targets. The rest, the halo, is read from the memory, is not
                written to it, and gets no gradient. None says that all are targets.
        """
        if not self.training:
            return pagerank_steps(x, x, step, self.test_hops, self.alpha)
        nodes = torch.arange(len(x), device=x.device) if nodes is None else nodes
        own = len(x) if own is None else own
        with torch.no_grad():
            h = self.recall(x, step, nodes, own)
            self.outputs.write(h[:own], nodes[:own])
        return _Lazy.apply(x, h, self, step, nodes, own)

    def extra_repr(self) -> str:
        return f"hops={self.hops}, alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, test_hops={self.test_hops}"


class LazyHead(nn.Module):
    """Classifies, and propagates the predictions lazily.

    Shapes: hidden (N, D) -> (N, num_classes); with `pre_logits` the hidden layer, propagated as in evaluation.
    """

    def __init__(self, classifier: Classifier, propagation: LazyPropagation) -> None:
        super().__init__()
        self.classifier, self.propagation = classifier, propagation

    def reset(self, num_classes: int) -> None:
        """A new classifier; what was remembered is forgotten."""
        self.classifier.reset(num_classes)
        self.propagation.reset_memory()

    def forward(
        self,
        hidden: Float[Tensor, "N D"],
        step: SparseOperator,
        nodes: Rows | None = None,
        own: int | None = None,
        pre_logits: bool = False,
    ) -> Float[Tensor, "N C"]:
        if pre_logits:
            return pagerank_steps(hidden, hidden, step, self.propagation.test_hops, self.propagation.alpha)
        return self.propagation(self.classifier(hidden), step, nodes, own)


class LazyGNN(PredictThenPropagate):
    """A perceptron, and lazy propagation of its predictions.

    Arguments:
        in_features: columns of X.
        num_classes: 0 gives the hidden layer, propagated.
        widths: of the hidden layers (paper: 512 twice for ogbn-arxiv).
        dropout: behind every hidden layer.
        hops, alpha, beta, gamma, test_hops: of `LazyPropagation`.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` the mean over each graph's nodes.

    In training, one pair of a forward and a backward pass is one step: the memories move with it. They belong to one graph; call
    `reset_memory()` before another.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        widths: Sequence[int] = (512, 512),
        dropout: float = 0.7,
        hops: int = 2,
        alpha: float = 0.1,
        beta: float = 0.6,
        gamma: float = 0.5,
        test_hops: int = 7,
    ) -> None:
        if not widths:
            raise ValueError("LazyGNN needs at least one hidden width.")
        stages: list[nn.Module] = [
            nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(dropout))
            for a, b in pairwise((in_features, *widths))
        ]
        propagation = LazyPropagation(hops, alpha, beta, gamma, test_hops)
        head = LazyHead(Classifier(widths[-1], num_classes, pool="none"), propagation)
        super().__init__(nn.Identity(), stages, tuple(widths), head)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        n_id: Int64[Tensor, " N"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "M C"]:
        """Logits; of a part of a graph, those of its first `batch_size` nodes.

        Arguments:
            n_id: for a part of a graph, the number of each of its nodes in the whole graph. Edges and weights are then those of S (what
                `gcn_norm` gives for the whole graph), since a part does not know the degrees of its nodes.
            batch_size: its first nodes, which are its targets; those behind them, their neighbours, are the halo.
        """
        if n_id is None:
            features = self.forward_features(x, edge_index, edge_weight)
        else:
            features = self.part_features(x, edge_index, edge_weight, n_id)
        if batch_size is not None and not 0 < batch_size <= len(x):
            raise ValueError(f"batch_size must be between 1 and the {len(x)} nodes given, got {batch_size}.")
        rows = self.head(features[-1], features.step, n_id, batch_size)[:batch_size]
        return rows if batch is None else global_mean_pool(rows, batch[:batch_size])

    def part_features(
        self, x: Float[Tensor, "N F"], edge_index: Tensor, edge_weight: Tensor | None, n_id: Tensor
    ) -> OnGraph:
        """The features of a part of a graph, and the rows of S that it was given."""
        check_edges(edge_index, len(x))
        if edge_weight is None or len(n_id) != len(x):
            raise ValueError(
                f"n_id must name all {len(x)} nodes of a part, and edge_weight must hold the weights of its edges in the "
                "normalised whole graph; take both from gcn_norm of the whole graph."
            )
        return OnGraph(Staged.forward_features(self, x), sparse_operator(edge_index, edge_weight, len(x)))

    def recall(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"] | None = None
    ) -> Float[Tensor, "N C"]:
        """Logits by one more step from the remembered outputs, instead of K steps without memory; nothing is written."""
        features: OnGraph = self.forward_features(x, edge_index, edge_weight)
        return self.head.propagation.recall(self.head.classifier(features[-1]), features.step)

    def reset_memory(self) -> None:
        """Forgets outputs and gradients, for instance before another graph."""
        self.head.propagation.reset_memory()

    def recipe(self, lr: float | None = None, weight_decay: float = 0.0) -> Recipe:
        """Adam at 1e-3 (paper, ogbn-arxiv)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-3, weight_decay=weight_decay))
