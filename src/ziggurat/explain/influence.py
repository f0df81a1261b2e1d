"""How far a graph network looks: the influence of nodes on a node, by their distance, read from the Jacobian of the trained network.

    I(v, u) = Σ_ij |∂h_v[i] / ∂x_u[j]|,   T_h(v) = Σ_{u at h hops from v} I(v, u),   R = mean_v Σ_h h T_h(v) / Σ_h T_h(v)

h_v is the output of node v. The total influence is the mean of T_h(v) over nodes, divided by its value at h = 0; R is the hop at which
the average influence sits. Each node counts at its shortest distance only.

H. Liang, H. Sáez de Ocáriz Borde, B. Sripathmanathan, M. Bronstein, X. Dong, Towards Quantifying Long-Range Interactions in Graph Machine
Learning: a Large Graph Dataset and a Measurement, 2025, arXiv:2503.09008.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor, nn

from ziggurat.data.seeds import generator

TOGETHER = 16
"""Roots whose balls go through the network side by side."""


class Influence(NamedTuple):
    """I(v, u) of some roots v on all nodes u, 0 outside of the ball, and the hops from u to v, −1 outside."""

    values: Float[Tensor, "S N"]
    hops: Int64[Tensor, "S N"]

    def by_hop(self, max_hops: int) -> Float[Tensor, "S H"]:
        """T_h(v) for h from 0 to `max_hops`."""
        found = self.values.new_zeros(len(self.values), max_hops + 2)
        return found.scatter_add(1, self.hops.clamp(-1, max_hops + 1) % (max_hops + 2), self.values)[:, :-1]


def jacobian_influence(model: nn.Module, data: Any, roots: Int64[Tensor, " S"], max_hops: int) -> Influence:
    """I(v, u) of the given roots v, with the network in evaluation mode.

    Arguments:
        model: called as `model(x, edge_index)`, or with `data.edge_weight` behind them where there is one; gives a row a node.
        data: graph with x and edge_index.
        roots: nodes whose outputs are looked at.
        max_hops: how far from them; at least the number of layers of the network.

    The network sees the nodes within `max_hops` + 1 hops of a root and the edges between them. A network of no more than `max_hops` layers
    thus sees all degrees as they are in the whole graph, also those at the rim. The balls of several roots go through it as one graph of
    separate parts, and each output takes one backward pass for all of them.
    """
    n, edges = len(data.x), data.edge_index
    if max_hops < 0:
        raise ValueError(f"max_hops must be 0 or more, got {max_hops}.")
    if len(roots) and not 0 <= int(roots.min()) <= int(roots.max()) < n:
        raise ValueError(f"roots must be nodes from 0 to {n - 1}, got {int(roots.min())} to {int(roots.max())}.")
    source, target = edges.cpu().numpy()
    back = csr_matrix((np.ones(len(source)), (target, source)), shape=(n, n))
    modes = {part: part.training for part in model.modules()}
    model.eval()
    try:
        found = [_balls(model, data, back, some, max_hops) for some in roots.split(TOGETHER)]
    finally:
        for part, training in modes.items():
            part.training = training
    if not found:
        return Influence(data.x.new_zeros(0, n), torch.zeros(0, n, dtype=torch.int64))
    return Influence(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _balls(model: nn.Module, data: Any, back: csr_matrix, roots: Tensor, max_hops: int) -> tuple[Tensor, Tensor]:
    """Influence on a few roots, and the distances to them."""
    away = dijkstra(back, indices=roots.cpu().numpy(), unweighted=True, limit=max_hops + 1)
    hops = torch.from_numpy(np.where(np.isfinite(away), away, -1).astype(np.int64)).to(data.x.device)
    inside = hops >= 0
    copy, node = inside.nonzero(as_tuple=True)
    place = inside.flatten().cumsum(0).view_as(hops) - 1
    source, target = data.edge_index
    owner, edge = (inside[:, source] & inside[:, target]).nonzero(as_tuple=True)
    edges = torch.stack([place[owner, source[edge]], place[owner, target[edge]]])
    x = data.x[node].detach().requires_grad_()
    weight = getattr(data, "edge_weight", None)
    with torch.enable_grad():
        output = model(x, edges) if weight is None else model(x, edges, weight[edge])
        rows = output[place[torch.arange(len(roots), device=hops.device), roots]]
        influence = x.new_zeros(len(x))
        for i in range(rows.shape[1]):  # roots lie in separate parts, so the gradient of their sum tells them apart
            (gradient,) = torch.autograd.grad(rows[:, i].sum(), x, retain_graph=True)
            influence = influence + gradient.abs().sum(1)
    values = x.new_zeros(hops.shape).index_put((copy, node), influence.detach())
    near = hops <= max_hops
    return torch.where(near, values, 0), torch.where(near, hops, -1)


def influence_receptive_field(by_hop: Float[Tensor, "S H"]) -> float:
    """R of T_h(v): a row a root, a column a hop. Roots that nothing influences count as 0."""
    share = by_hop / by_hop.sum(1, keepdim=True).clamp_min(torch.finfo(by_hop.dtype).tiny)
    return float((share @ torch.arange(by_hop.shape[1], dtype=by_hop.dtype, device=by_hop.device)).mean())


def total_influence(
    model: nn.Module, data: Any, max_hops: int, num_samples: int | None = None, seed: int = 0
) -> tuple[Float[Tensor, " H"], float]:
    """The total influence at 0 … `max_hops` hops, 1 at 0, and R.

    Arguments:
        model, data, max_hops: as of `jacobian_influence`.
        num_samples: how many random nodes are looked at; None takes all.
        seed: of the draw.
    """
    n = len(data.x)
    if num_samples is not None and not 0 < num_samples <= n:
        raise ValueError(f"num_samples must be between 1 and {n}, got {num_samples}.")
    roots = torch.randperm(n, generator=generator(seed, "roots"))[: n if num_samples is None else num_samples]
    by_hop = jacobian_influence(model, data, roots, max_hops).by_hop(max_hops)
    mean = by_hop.mean(0)
    if not float(mean[0]) > 0:
        raise ValueError(
            "the outputs do not depend on the nodes' own features, which the influence is divided by; use jacobian_influence."
        )
    return mean / mean[0], influence_receptive_field(by_hop)
