"""Why some graph networks generalise worse than others, although they see the same graph: what they do to it enters by one number.

In transductive training m nodes have labels and u = n − m have none; the gap is the loss on the second minus that on the first. With
high probability it grows with L_F (m + u)^{3/2} / (m u) and a low power of the number of steps, where L_F is the Lipschitz constant of the
loss of a node in the weights. The architecture enters only there. For networks without biases it has a bound in closed form, with
c = max_j ‖x_j‖, S the propagation operator, g = ‖S‖_∞ its largest row sum, and spectral norms of weights:

    SGC              √2 max_i ‖(S^K X)_i‖
    perceptron       √2 c (‖W1‖² + ‖W2‖²)^{1/2},   and times ‖Σ_k a_k S^k‖_∞ when its predictions are filtered (APPNP)
    two-layer GCN    √2 g² c (‖W1‖² + ‖W2‖²)^{1/2}

The norm is the infinity norm of S; its spectral norm, which is 1 with symmetric normalisation, is not what enters.

H. Tang, Y. Liu, Towards Understanding the Generalization of Graph Neural Networks, 2023, arXiv:2305.08048.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data

from ziggurat.data.seeds import generator
from ziggurat.graphs.propagation import add_loops, gcn_norm, mean_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator
from ziggurat.nn.profile import count_parameters

Kind = Literal["symmetric", "row", "sum"]


def operator(data: Data, kind: Kind = "symmetric") -> SparseOperator:
    """S of a graph: D^-1/2 (A + I) D^-1/2, D^-1 (A + I), or A + I itself."""
    if kind not in ("symmetric", "row", "sum"):
        raise ValueError(f"kind must be 'symmetric', 'row' or 'sum', got {kind!r}.")
    norm = {"symmetric": gcn_norm, "row": mean_norm, "sum": add_loops}[kind]
    return sparse_operator(*norm(data.edge_index, None, len(data.x), dtype=data.x.dtype), len(data.x))


@torch.no_grad()
def filter_norm(step: SparseOperator, coefficients: Float[Tensor, " K"], nodes: int) -> float:
    """‖Σ_k |a_k| S^k‖_∞, which is that of Σ_k a_k S^k for coefficients of one sign, and at least that of it otherwise."""
    row = torch.ones(nodes, 1, dtype=coefficients.dtype)
    total = coefficients[0].abs() * row
    for a in coefficients[1:]:
        row = step(row)
        total = total + a.abs() * row
    return float(total.max())


def pagerank_coefficients(hops: int, alpha: float) -> Float[Tensor, " K"]:
    """Those of APPNP: α (1 − α)^k for k < K and (1 − α)^K at K. They sum to 1."""
    powers = (1 - alpha) ** torch.arange(hops + 1, dtype=torch.float64)
    return torch.where(torch.arange(hops + 1) < hops, alpha * powers, powers)


def sampling_factor(m: int, u: int) -> float:
    """(m + u)^{3/2} / (m u): what the number of labelled and unlabelled nodes does to the bound."""
    if m < 1 or u < 1:
        raise ValueError(f"there must be labelled and unlabelled nodes, got {m} and {u}.")
    return (m + u) ** 1.5 / (m * u)


def largest_row(x: Tensor) -> float:
    """max_j ‖x_j‖."""
    return float(x.norm(dim=1).max())


def spectral(layer: nn.Linear) -> float:
    """The spectral norm of a layer's weights."""
    return float(torch.linalg.matrix_norm(layer.weight.detach(), 2))


class FilteredLinear(nn.Module):
    """S^K X W, without bias: SGC."""

    def __init__(self, in_features: int, num_classes: int, hops: int = 2, kind: Kind = "symmetric") -> None:
        super().__init__()
        self.hops, self.kind = hops, kind
        self.linear = nn.Linear(in_features, num_classes, bias=False)

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N C"]:
        z = self.linear(x)
        for _ in range(self.hops):
            z = step(z)
        return z

    def factor(self, x: Float[Tensor, "N F"], step: SparseOperator) -> float:
        """L_F: here it does not depend on the weights."""
        for _ in range(self.hops):
            x = step(x)
        return math.sqrt(2) * largest_row(x)


class FilteredMLP(nn.Module):
    """Σ_k a_k S^k ReLU(X W1) W2, without biases: a perceptron (one coefficient), APPNP (fixed ones), or GPR-GNN (learned ones)."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        coefficients: Float[Tensor, " K"],
        learned: bool = False,
        width: int = 16,
        kind: Kind = "symmetric",
    ) -> None:
        super().__init__()
        self.kind, self.learned = kind, learned
        self.first, self.act = nn.Linear(in_features, width, bias=False), nn.ReLU()
        self.second = nn.Linear(width, num_classes, bias=False)
        self.coefficients = nn.Parameter(coefficients.to(self.first.weight.dtype), requires_grad=learned)

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N C"]:
        hop = self.second(self.act(self.first(x)))
        total = self.coefficients[0] * hop
        for a in self.coefficients[1:]:
            hop = step(hop)
            total = total + a * hop
        return total

    def factor(self, x: Float[Tensor, "N F"], step: SparseOperator) -> float:
        """L_F at the present weights; learned coefficients add what the loss changes with each of them."""
        c, one, two = largest_row(x), spectral(self.first), spectral(self.second)
        squares = [(filter_norm(step, self.coefficients.detach(), len(x)) * c) ** 2 * (one**2 + two**2)]
        if self.learned:
            powers = torch.eye(len(self.coefficients), dtype=x.dtype)
            squares += [(filter_norm(step, a, len(x)) * c * one * two) ** 2 for a in powers]
        return math.sqrt(2 * sum(squares))


class TwoLayerGCN(nn.Module):
    """S ReLU(S X W1) W2, without biases."""

    def __init__(self, in_features: int, num_classes: int, width: int = 16, kind: Kind = "symmetric") -> None:
        super().__init__()
        self.kind = kind
        self.first, self.act = nn.Linear(in_features, width, bias=False), nn.ReLU()
        self.second = nn.Linear(width, num_classes, bias=False)

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N C"]:
        return step(self.second(self.act(step(self.first(x)))))

    def factor(self, x: Float[Tensor, "N F"], step: SparseOperator) -> float:
        """L_F at the present weights."""
        g = filter_norm(step, torch.tensor([0.0, 1.0], dtype=x.dtype), len(x))
        return math.sqrt(2) * g**2 * largest_row(x) * math.hypot(spectral(self.first), spectral(self.second))


class InitialResidualGCN(nn.Module):
    """GCNII: H_{l+1} = ReLU(((1 − α) S H_l + α H_0)((1 − β_l) I + β_l W_l)), β_l = log(θ / l + 1), without biases.

    M. Chen, Z. Wei, Z. Huang, B. Ding, Y. Li, 2020, arXiv:2007.02133.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        depth: int = 4,
        alpha: float = 0.1,
        theta: float = 0.5,
        width: int = 16,
        kind: Kind = "symmetric",
    ) -> None:
        super().__init__()
        self.kind, self.alpha = kind, alpha
        self.betas = [math.log(theta / layer + 1) for layer in range(1, depth + 1)]
        self.first, self.last = nn.Linear(in_features, width, bias=False), nn.Linear(width, num_classes, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in self.betas)

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N C"]:
        start = self.first(x).relu()
        h = start
        for beta, layer in zip(self.betas, self.layers, strict=True):
            mixed = (1 - self.alpha) * step(h) + self.alpha * start
            h = ((1 - beta) * mixed + beta * layer(mixed)).relu()
        return self.last(h)

    def factor(self, x: Float[Tensor, "N F"], step: SparseOperator) -> float:
        """L_F at the present weights: bounds of the rows of H_l going forward, and of the sums of their gradients going back."""
        alpha, c = self.alpha, largest_row(x)
        g = filter_norm(step, torch.tensor([0.0, 1.0], dtype=x.dtype), len(x))
        gains = [1 - b + b * spectral(layer) for b, layer in zip(self.betas, self.layers, strict=True)]
        start = c * spectral(self.first)
        rows, mixed = start, []
        for gain in gains:
            mixed.append((1 - alpha) * g * rows + alpha * start)
            rows = gain * mixed[-1]
        squares, back, at_start = [rows**2], spectral(self.last), 0.0
        for beta, gain, row in zip(reversed(self.betas), reversed(gains), reversed(mixed), strict=True):
            squares.append((beta * row * back) ** 2)
            at_start, back = at_start + alpha * gain * back, (1 - alpha) * g * gain * back
        squares.append((c * (back + at_start)) ** 2)
        return math.sqrt(2 * sum(squares))


Model = FilteredLinear | FilteredMLP | TwoLayerGCN | InitialResidualGCN
ModelMaker = Callable[[int, int], Model]
"""Columns of X and number of classes -> a network."""


@torch.no_grad()
def lipschitz_factor(model: Model, data: Data) -> float:
    """L_F: no node's cross-entropy has a gradient in all weights of a norm above it.

    Arguments:
        model: one of this module's networks, at its present weights.
        data: the graph, with features.
    """
    return model.factor(data.x, operator(data, model.kind))


def transductive_gap(
    make: ModelMaker,
    data: Data,
    m_fraction: float = 0.3,
    seeds: Sequence[int] = (0,),
    steps: int = 5000,
    rate: float = 1.0,
    offset: int = 1000,
    batch: int = 64,
    target: float = 0.0,
) -> dict[str, list]:
    """Trains by plain SGD on a random part of the nodes and records how far the losses on both parts are from each other.

    Arguments:
        make: of the network.
        data: the graph with features and classes.
        m_fraction: share of the nodes that have labels, drawn without replacement by each seed.
        seeds: of the split, the weights and the order of the samples.
        steps: at most.
        rate, offset: step t has the rate c / (t + t0), where t0 = `offset` and c = `rate` · t0; there is no momentum and no decay.
        batch: labelled nodes a step.
        target: training stops when the loss on all labelled nodes has come down to it.

    Returns: a list a seed: `loss`, `loss_gap` and `acc_gap` (each an array, a value a step), `reached` (whether the target was) and
    `factor` (L_F at the last weights).
    """
    if not 0 < m_fraction < 1:
        raise ValueError(f"m_fraction must be between 0 and 1, got {m_fraction}.")
    if int(data.y.min()) < 0:
        raise ValueError("every node needs a class; leave the others out with data.subgraph(data.y >= 0).")
    results: dict[str, list] = {name: [] for name in ("loss", "loss_gap", "acc_gap", "reached", "factor")}
    for seed in seeds:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = make(data.x.shape[1], int(data.y.max()) + 1).to(data.x.dtype)
        path = _descend(model, data, m_fraction, seed, steps, rate, offset, batch, target)
        for name, values in zip(("loss", "loss_gap", "acc_gap"), path.T, strict=True):
            results[name].append(values)
        results["reached"].append(bool(path[-1, 0] <= target))
        results["factor"].append(lipschitz_factor(model, data))
    return results


def _descend(
    model: Model, data: Data, share: float, seed: int, steps: int, rate: float, offset: int, batch: int, target: float
) -> np.ndarray:
    """Loss on labelled nodes, loss gap and accuracy gap before each step; ends at the target or where the loss has run away."""
    step, g = operator(data, model.kind), generator(seed, "transductive")
    order = torch.randperm(len(data.y), generator=g)
    m = min(max(round(share * len(order)), 1), len(order) - 1)
    seen, unseen = order[:m], order[m:]
    learned, path = [p for p in model.parameters() if p.requires_grad], []
    for t in range(steps):
        logits = model(data.x, step)
        with torch.no_grad():
            losses = cross_entropy(logits, data.y, reduction="none")
            right = (logits.argmax(1) == data.y).to(losses.dtype)
            loss = float(losses[seen].mean())
            path.append((loss, float(losses[unseen].mean()) - loss, float(right[seen].mean() - right[unseen].mean())))
        if loss <= target or not loss <= 10 * max(path[0][0], 1.0):
            break
        drawn = seen[torch.randint(m, (batch,), generator=g)]
        grads = torch.autograd.grad(cross_entropy(logits[drawn], data.y[drawn]), learned)
        with torch.no_grad():
            for parameter, grad in zip(learned, grads, strict=True):
                parameter.copy_(parameter - rate * offset / (t + offset) * grad)
    return np.array(path)


def generalization_report(
    data: Data,
    models: Mapping[str, ModelMaker],
    m_fraction: float = 0.3,
    seeds: Sequence[int] = (0,),
    steps: int = 5000,
    rates: Sequence[float] = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01),
    target: float = 0.5,
) -> list[dict[str, float | str]]:
    """Factor and gaps of every architecture at the same training loss, averaged over the seeds.

    Arguments:
        models: name -> maker.
        rates: of each architecture the one counts that reaches the target in the fewest steps; they are tried in this order, and the search
            ends when one is slower than the one before it.
        data, m_fraction, seeds, steps, target: as for `transductive_gap`.

    A row holds `model`, `parameters`, `factor`, `loss_gap`, `acc_gap`, `steps`, `rate` and `reached`, the share of seeds that came down
    to the target; a model whose `reached` is below 1 is not comparable with the others.
    """
    return [_row(name, make, data, m_fraction, seeds, steps, rates, target) for name, make in models.items()]


def _row(
    name: str,
    make: ModelMaker,
    data: Data,
    share: float,
    seeds: Sequence[int],
    steps: int,
    rates: Sequence[float],
    target: float,
) -> dict[str, float | str]:
    """One architecture's row."""

    def taken(gap: dict[str, list]) -> int:
        return sum(map(len, gap["loss"]))

    best: tuple[float, float, dict[str, list]] | None = None
    for rate in rates:
        limit = steps if best is None or best[0] < 1 else max(len(path) for path in best[2]["loss"])
        gap = transductive_gap(make, data, share, seeds, limit, rate, target=target)
        reached = float(np.mean(gap["reached"]))
        if best is not None and best[0] == 1 and (reached < 1 or taken(gap) >= taken(best[2])):
            break
        if best is None or reached >= best[0]:
            best = (reached, rate, gap)
    assert best is not None
    reached, rate, gap = best
    return {
        "model": name,
        "parameters": count_parameters(make(data.x.shape[1], int(data.y.max()) + 1), trainable=True),
        "factor": float(np.mean(gap["factor"])),
        "loss_gap": float(np.mean([path[-1] for path in gap["loss_gap"]])),
        "acc_gap": float(np.mean([path[-1] for path in gap["acc_gap"]])),
        "steps": float(np.mean([len(path) - 1 for path in gap["loss"]])),
        "rate": rate,
        "reached": reached,
    }
