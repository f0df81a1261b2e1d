"""Which nodes a graph network's decision about one node depends on: gradient times input, the saliency of pictures carried to graphs.

    R_u = Σ_f |x_uf · ∂S_k(v) / ∂x_uf|

S_k(v) is the logit of class k at node v. Words that a document does not have are zero and count for nothing, which is why the gradient is
multiplied with the input. K. Simonyan, A. Vedaldi, A. Zisserman, 2013, arXiv:1312.6034, for the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.explain.saliency import evaluating


def neighbour_saliency(
    network: nn.Module, inputs: tuple[Any, ...], node: int, target: int | None = None
) -> Float[Tensor, " N"]:
    """How much each node's features matter for the decision about `node`.

    Arguments:
        network: gives logits (N, K) from `inputs`.
        inputs: features (N, F), then edges (2, E) and whatever else the network takes.
        node: whose decision is explained.
        target: the class; None explains the predicted one.

    Returns: (N,), not negative. Raises a `ValueError` for a node or a class that is not there.
    """
    x = inputs[0]
    if not 0 <= node < len(x):
        raise ValueError(f"node must be in 0 … {len(x) - 1}, got {node}.")
    with evaluating(network), torch.enable_grad():
        features = x.detach().clone().requires_grad_()
        logits = network(features, *inputs[1:])[node]
        chosen = int(logits.argmax()) if target is None else target
        if not 0 <= chosen < len(logits):
            raise ValueError(f"target must be a class in 0 … {len(logits) - 1}, got {chosen}.")
        (gradient,) = torch.autograd.grad(logits[chosen], features)
    return (features.detach() * gradient).abs().sum(1)
