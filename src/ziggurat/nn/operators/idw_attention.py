"""Inverse distance weighting attention: a query is answered by near keys, each weighted by one over its distance.

    a_i = 1 / (ε + ‖x − k_i‖^p)  /  Σ_j 1 / (ε + ‖x − k_j‖^p),   y = Σ_i a_i v_i

This is softmax attention with the scores −log(ε + ‖x − k_i‖^p), from which the exponential has cancelled. There is no temperature:
scaling queries and keys alike changes nothing. As the one hidden layer of a classifier, trained with plain cross-entropy, its keys become
prototypes in the space of the inputs and its values their logits, and a case can be added by hand.

C. McCarter, Inverse distance weighting attention, 2023, arXiv:2310.18805.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ziggurat.nn.recipe import Recipe

ROOT = 1e-24
"""Under the root where p is not 2: the distance of equal points has no gradient otherwise."""
Weights = Callable[[Tensor, Tensor], Tensor]
"""Weights (…, M, N) of N keys (…, N, D) for M queries (…, M, D)."""


def powered_distances(
    x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"], power: float = 2.0
) -> Float[Tensor, "*B M N"]:
    """‖x − k‖^p of all pairs, in float64 whatever the inputs are: in float32 the rounding of ‖x‖² − 2 x·k + ‖k‖² near 0 exceeds ε."""
    x, keys = (t if t.device.type == "mps" else t.double() for t in (x, keys))  # Apple's devices have no float64
    squares = x.square().sum(-1, keepdim=True) + keys.square().sum(-1).unsqueeze(-2)
    squared = (squares - 2 * x @ keys.transpose(-1, -2)).clamp_min(0)
    return squared if power == 2 else (squared + ROOT).pow(power / 2)


def inverse_distances(
    x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"], power: float = 2.0, eps: float = 1e-3
) -> Float[Tensor, "*B M N"]:
    """1 / (ε + ‖x − k‖^p), not normalised."""
    return 1 / (eps + powered_distances(x, keys, power))


def idw_weights(
    x: Float[Tensor, "*B M D"],
    keys: Float[Tensor, "*B N D"],
    power: float = 2.0,
    eps: float = 1e-3,
    allowed: Bool[Tensor, "#M #N"] | None = None,
) -> Float[Tensor, "*B M N"]:
    """Inverse distances, those of keys that are not `allowed` set to 0, over their sum."""
    inverse = inverse_distances(x, keys, power, eps)
    if allowed is not None:
        inverse = inverse * allowed
    return (inverse / inverse.sum(-1, keepdim=True)).to(x.dtype)


def dot_weights(x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"]) -> Float[Tensor, "*B M N"]:
    """The rival everywhere: softmax of x·k / √D."""
    return (x @ keys.transpose(-1, -2) / math.sqrt(x.shape[-1])).softmax(-1)


def negative_distance_weights(
    x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"], power: float = 2.0
) -> Float[Tensor, "*B M N"]:
    """softmax of −d^p: Gaussian kernels, normalised; they have a scale."""
    return (-powered_distances(x, keys, power)).softmax(-1).to(x.dtype)


def kernel_softmax_weights(
    x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"], power: float = 2.0
) -> Float[Tensor, "*B M N"]:
    """softmax of exp(−d^p / 2)."""
    return (-powered_distances(x, keys, power) / 2).exp().softmax(-1).to(x.dtype)


def inverse_softmax_weights(
    x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"], power: float = 2.0, eps: float = 1e-3
) -> Float[Tensor, "*B M N"]:
    """softmax of 1 / (ε + d^p): what inverse distance weighting is often taken for."""
    return inverse_distances(x, keys, power, eps).softmax(-1).to(x.dtype)


def relu_weights(x: Float[Tensor, "*B M D"], keys: Float[Tensor, "*B N D"]) -> Float[Tensor, "*B M N"]:
    """max(0, x·k), not normalised: with it the classifier is a perceptron without biases."""
    return (x @ keys.transpose(-1, -2)).relu()


def check_power_and_eps(power: float, eps: float) -> None:
    """A `ValueError` where weights or their gradients would not be finite."""
    if not power >= 1:
        raise ValueError(f"power must be 1 or more, got {power}; below it the gradient at a key is not finite.")
    if not eps > 0:
        raise ValueError(f"eps must be positive, got {eps}; it keeps the weight of a key at distance 0 finite.")


class IDWAttention(nn.Module):
    """The attention on sequences; it has no parameters and no projections.

    Arguments:
        power: p.
        eps: ε.
        causal: position t sees the keys up to t only; the weights of the others are 0 before they are normalised.

    Shapes: q (…, Lq, d), k (…, Lk, d), v (…, Lk, dv) -> (…, Lq, dv); `weights(q, k)` gives (…, Lq, Lk).
    """

    def __init__(self, power: float = 2.0, eps: float = 1e-3, causal: bool = False) -> None:
        super().__init__()
        check_power_and_eps(power, eps)
        self.power, self.eps, self.causal = power, eps, causal

    def weights(self, q: Float[Tensor, "*B Lq d"], k: Float[Tensor, "*B Lk d"]) -> Float[Tensor, "*B Lq Lk"]:
        """How much each query takes of each key; rows sum to 1."""
        lengths = (q.shape[-2], k.shape[-2])
        if self.causal and lengths[0] != lengths[1]:
            raise ValueError(
                f"causal attention needs as many queries as keys, got {lengths[0]} and {lengths[1]}; set causal=False."
            )
        allowed = torch.ones(lengths, dtype=torch.bool, device=q.device).tril() if self.causal else None
        return idw_weights(q, k, self.power, self.eps, allowed)

    def forward(
        self, q: Float[Tensor, "*B Lq d"], k: Float[Tensor, "*B Lk d"], v: Float[Tensor, "*B Lk dv"]
    ) -> Float[Tensor, "*B Lq dv"]:
        return self.weights(q, k) @ v

    def extra_repr(self) -> str:
        return f"power={self.power}, eps={self.eps}, causal={self.causal}"


class KeyValueClassifier(nn.Module):
    """One hidden layer: a learned table of keys in the space of the inputs and of values that are logits, read by some attention.

    Arguments:
        in_features: numbers a sample.
        num_classes: C.
        prototypes: n, rows of the table.
        weights: of keys for queries, one of the functions above.

    Keys start at N(0, 0.1²) (see `start`) and values at 0, so that every class is equally likely at first.
    Shapes: (B, …) with in_features numbers a sample -> (B, C).
    """

    input = "table"

    def __init__(self, in_features: int, num_classes: int, prototypes: int, weights: Weights) -> None:
        super().__init__()
        if min(in_features, num_classes, prototypes) < 1:
            raise ValueError(
                f"in_features, num_classes and prototypes must be 1 or more, got {in_features}, {num_classes}, {prototypes}."
            )
        self.weights = weights
        self.keys = nn.Parameter(0.1 * torch.randn(prototypes, in_features))
        self.values = nn.Parameter(torch.zeros(prototypes, num_classes))

    @torch.no_grad()
    def start(self, x: Float[Tensor, "N *F"]) -> None:
        """Keys at N(mean, (0.1 σ)²) of each input; x must be prepared as the training data are (standardised or not)."""
        deviation, mean = torch.std_mean(x.flatten(1), 0, correction=0)
        self.keys.copy_(mean + 0.1 * deviation * torch.randn_like(self.keys))

    def forward(self, x: Float[Tensor, "B *F"]) -> Float[Tensor, "B C"]:
        x = x.flatten(1)
        if x.shape[1] != self.keys.shape[1]:
            raise ValueError(f"samples of {x.shape[1]} numbers do not fit keys of {self.keys.shape[1]}.")
        return self.weights(x, self.keys) @ self.values

    def recipe(self, lr: float | None = None) -> Recipe:
        """Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 1e-2))


class IDWClassifier(KeyValueClassifier):
    """The classifier by inverse distance weighting, to which cases can be added by hand.

    Arguments:
        power: p.
        eps: ε.
    """

    def __init__(
        self, in_features: int, num_classes: int, prototypes: int = 50, power: float = 2.0, eps: float = 1e-3
    ) -> None:
        check_power_and_eps(power, eps)
        super().__init__(in_features, num_classes, prototypes, partial(idw_weights, power=power, eps=eps))
        self.power, self.eps = power, eps

    @torch.no_grad()
    def add_case(self, x: Float[Tensor, "*F"], label: int) -> float:
        """Makes `x` get the class `label` by one more key at x, whose value is η in that class and 0 elsewhere; returns η.

        η = (1 + ε S)(max_j l_j − l_label), where l are the logits of x and S = Σ_i 1 / (ε + d_i^p). Far from x the key weighs about
        1 / (d^p S), so that other inputs hardly move. Where x has the class already, η is 0 and nothing is added. The table grows: an
        optimiser that holds the parameters must be made anew.
        """
        if not 0 <= label < self.values.shape[1]:
            raise ValueError(f"there is no class {label}; classes are 0 … {self.values.shape[1] - 1}.")
        row = x.reshape(1, -1).to(self.keys)
        logits = self(row)[0]
        total = float(inverse_distances(row, self.keys, self.power, self.eps).sum())
        strength = (1 + self.eps * total) * float(logits.max() - logits[label])
        if strength > 0:
            value = torch.zeros_like(self.values[:1])
            value[0, label] = strength
            self.keys = nn.Parameter(torch.cat([self.keys, row]))
            self.values = nn.Parameter(torch.cat([self.values, value]))
        return strength

    def extra_repr(self) -> str:
        return f"prototypes={len(self.keys)}, power={self.power}, eps={self.eps}"
