"""Attacks on the edges of a graph before a network is trained on it: random ones, ones that know the classes, and one by meta-gradients.

Edges are undirected: both directions come and go together. DICE: M. Waniek, T. Michalak, M. Wooldridge, T. Rahwan, Hiding Individuals and
Communities in a Social Network, 2018, arXiv:1608.00375. Meta-gradients: D. Zügner, S. Günnemann, Adversarial Attacks on Graph Neural
Networks via Meta Learning, 2019, arXiv:1902.08412.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from ziggurat.data.seeds import derive, generator


def _pairs(edge_index: Int64[Tensor, "2 E"], num_nodes: int) -> Int64[Tensor, " E"]:
    """A number for the pair of nodes that each edge joins, the same in both directions."""
    return edge_index.min(0).values * num_nodes + edge_index.max(0).values


def _added(
    edge_index: Int64[Tensor, "2 E"],
    num_nodes: int,
    count: int,
    allowed: Bool[np.ndarray, "K K"],
    kind: np.ndarray,
    seed: int,
) -> Int64[Tensor, "2 F"]:
    """With `count` new pairs behind the edges, of nodes whose kinds may be joined."""
    rng, taken = np.random.default_rng(derive(seed, "attack")), _pairs(edge_index, num_nodes).numpy()
    found = np.zeros(0, np.int64)
    for _ in range(200):
        if len(found) >= count:
            break
        ends = np.sort(rng.integers(num_nodes, size=(2, 4 * count + 16)), 0)
        code = ends[0] * num_nodes + ends[1]
        code = code[(ends[0] != ends[1]) & allowed[kind[ends[0]], kind[ends[1]]] & ~np.isin(code, taken)]
        found = np.concatenate([found, code])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    if len(found) < count:
        raise ValueError(f"{count} edges were to be added, and only {len(found)} were found free; add fewer.")
    new = torch.from_numpy(np.stack([found[:count] // num_nodes, found[:count] % num_nodes]))
    return torch.cat([edge_index, new, new.flip(0)], 1)


def random_add(edge_index: Int64[Tensor, "2 E"], num_nodes: int, count: int, seed: int = 0) -> Int64[Tensor, "2 F"]:
    """The edges, and behind them `count` new pairs of any nodes, both directions."""
    if count < 0:
        raise ValueError(f"count must be 0 or more, got {count}.")
    return _added(edge_index, num_nodes, count, np.ones((1, 1), bool), np.zeros(num_nodes, np.int64), seed)


def dice(
    edge_index: Int64[Tensor, "2 E"], y: Int64[Tensor, " N"], deleted: int, added: int, seed: int = 0
) -> Int64[Tensor, "2 F"]:
    """Without `deleted` pairs of one class, and with `added` new pairs of different classes behind the rest."""
    if min(deleted, added) < 0:
        raise ValueError(f"deleted and added must be 0 or more, got {deleted} and {added}.")
    codes, within = _pairs(edge_index, len(y)), y[edge_index[0]] == y[edge_index[1]]
    choice = torch.unique(codes[within & (edge_index[0] != edge_index[1])])
    if deleted > len(choice):
        raise ValueError(f"{deleted} pairs of one class were to go, and there are {len(choice)}; delete fewer.")
    gone = choice[torch.randperm(len(choice), generator=generator(seed, "delete"))[:deleted]]
    classes = int(y.max()) + 1
    rest = edge_index[:, ~torch.isin(codes, gone)]
    return _added(rest, len(y), added, ~np.eye(classes, dtype=bool), y.numpy(), seed)


def meta_gradient(
    x: Float[Tensor, "N F"],
    edge_index: Int64[Tensor, "2 E"],
    y: Int64[Tensor, " N"],
    train_mask: Bool[Tensor, " N"],
    budget: int,
    steps: int = 30,
    lr: float = 1.0,
    largest: int = 600,
) -> Int64[Tensor, "2 G"]:
    """Flips `budget` pairs, one after the other, that hurt a linear two-step graph convolution most that is trained on what is left.

    Arguments:
        y: only the labels of training nodes are used; the loss to be raised is on the other nodes, with labels that the surrogate
            predicts on the clean graph.
        steps, lr: of the gradient descent that is differentiated through.
        largest: number of nodes up to which the dense matrices are made.

    No node loses its last edge.
    """
    n, classes = len(x), int(y[train_mask].max()) + 1
    if n > largest:
        raise ValueError(f"the attack works with dense matrices of {largest} nodes at most, got {n}; cut the graph.")
    if budget < 0:
        raise ValueError(f"budget must be 0 or more, got {budget}.")
    x = x.double() / x.double().norm(dim=1, keepdim=True).clamp_min(1e-12)
    eye = torch.eye(n, dtype=torch.float64)
    matrix = torch.zeros(n, n, dtype=torch.float64).index_put(tuple(edge_index), torch.ones((), dtype=torch.float64))
    matrix = torch.maximum(matrix, matrix.T) * (1 - eye)

    def trained(adjacency: Tensor, create_graph: bool) -> Tensor:
        """Logits of the surrogate after its training on this graph."""
        whole = adjacency + eye
        scale = whole.sum(1) ** -0.5
        step = scale[:, None] * whole * scale
        smooth = step @ (step @ x)
        weights = x.new_zeros(x.shape[1], classes, requires_grad=True)
        for _ in range(steps):
            loss = cross_entropy((smooth @ weights)[train_mask], y[train_mask])
            (slope,) = torch.autograd.grad(loss, weights, create_graph=create_graph)
            weights = weights - lr * slope
        return smooth @ weights

    guess = trained(matrix, False).argmax(1)
    for _ in range(budget):
        given = matrix.clone().requires_grad_()
        hurt = cross_entropy(trained(given, True)[~train_mask], guess[~train_mask])
        (slope,) = torch.autograd.grad(hurt, given)
        gain = (slope + slope.T) * (1 - 2 * matrix)
        last = (matrix.sum(1) <= 1)[:, None] | (matrix.sum(1) <= 1)[None]
        gain = torch.where((matrix > 0) & last, -torch.inf, gain).masked_fill(eye > 0, -torch.inf)
        row, col = divmod(int(gain.argmax()), n)
        flip = torch.zeros_like(matrix).index_put(
            (torch.tensor([row, col]), torch.tensor([col, row])), torch.ones((), dtype=matrix.dtype)
        )
        matrix = (matrix - flip).abs()
    return matrix.nonzero().T
