"""HoloNets: filters of directed graphs are holomorphic functions of an operator that need be neither symmetric nor diagonalisable.

    g(T) = (1 / 2πi) ∮ g(z) (z I − T)^-1 dz

No Fourier transform is needed, only powers of T (FaberConv) or resolvents (ResolventConv, in `resolvent`). On a disc the Faber
polynomials are the monomials, and with T = D_out^-1/4 A D_in^-1/4 a layer is

    Y = a Σ_k 2^(1−k) T^k X W_k + (1 − a) Σ_k 2^(1−k) (Tᵀ)^k X V_k,   k = 1 … K

C. Koke, D. Cremers, HoloNets: Spectral Convolutions do extend to Directed Graphs, 2024, arXiv:2310.02232.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Complex, Float, Int64, Shaped
from torch import Tensor, nn
from torch_geometric.nn import JumpingKnowledge

from ziggurat.graphs.directed.operators import dir_norm
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator
from ziggurat.graphs.staged import StagedGraph
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier

DAMPINGS: dict[str, Callable[[int], float]] = {"exp": lambda k: 2.0 ** (1 - k), "lin": lambda k: 1 / k}
"""The factor of the k-th power, k ≥ 1, by name."""


def holomorphic_filter(
    operator: Shaped[Tensor, "N N"],
    function: Callable[[Tensor], Tensor],
    centre: complex = 0.0,
    radius: float = 1.0,
    points: int = 256,
) -> Complex[Tensor, "N N"]:
    """g(T) by the trapezoidal rule on a circle, which converges geometrically; complex128, for small dense matrices.

    Arguments:
        operator: T, any square matrix.
        function: g, holomorphic on the closed disc, of a tensor of complex points.
        centre, radius: of the circle; a `ValueError` where it does not enclose all eigenvalues of T.
        points: on the circle.
    """
    matrix = operator.to(torch.complex128)
    if len(matrix) and float((torch.linalg.eigvals(matrix) - centre).abs().max()) >= radius:
        raise ValueError(f"the circle of radius {radius} around {centre} leaves an eigenvalue outside; enlarge it.")
    angle = 2 * math.pi * torch.arange(points, dtype=torch.float64) / points
    arm = torch.polar(torch.full_like(angle, radius), angle)
    eye = torch.eye(len(matrix), dtype=matrix.dtype)
    resolvents = torch.linalg.inv((centre + arm)[:, None, None] * eye - matrix)
    return ((function(centre + arm) * arm)[:, None, None] * resolvents).mean(0)


def polynomial(
    operator: SparseOperator,
    x: Shaped[Tensor, "N F"],
    weights: Shaped[Tensor, "K F C"],
    factors: list[float],
) -> Shaped[Tensor, "N C"]:
    """Σ_k factors[k−1] S^k x weights[k−1], k = 1 … K; K products, taken on the narrower side of the weights."""
    total = x.new_zeros(len(x), weights.shape[2])
    if weights.shape[2] < weights.shape[1]:  # Horner's rule
        for weight, factor in zip(weights.flip(0), reversed(factors), strict=True):
            total = operator(total + factor * (x @ weight))
        return total
    for weight, factor in zip(weights, factors, strict=True):
        x = operator(x)
        total = total + factor * (x @ weight)
    return total


class FaberConv(nn.Module):
    """A polynomial of a directed operator and one of its transpose, each power with its own weights.

    Arguments:
        in_channels, out_channels: widths.
        order: K, the highest power.
        alpha: a in [0, 1]; 1 takes only from the nodes that a node points to (powers of T), 0 only from those that point to it.
        learn_alpha: makes a a parameter.
        exponent: e of T = D_out^-e A D_in^-e.
        damping: "exp", 2^(1−k), or "lin", 1 / k.
        zero_order: adds a x W_0 + (1 − a) x V_0.
        mixed: takes Tᵀ T^k for (Tᵀ)^k at k ≥ 2, as the authors' program does; their published numbers come from it.
        bias: one for the sum.

    Shapes: x (N, in_channels) real or complex, edge_index (2, E), edge_weight (E,) -> (N, out_channels).
    """

    outward: nn.Parameter | None
    inward: nn.Parameter | None
    outward_zero: nn.Parameter | None
    inward_zero: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 1,
        alpha: float = 0.5,
        learn_alpha: bool = False,
        exponent: float = 0.25,
        damping: Literal["exp", "lin"] = "exp",
        zero_order: bool = False,
        mixed: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if order < 1 or not 0 <= alpha <= 1 or damping not in DAMPINGS:
            raise ValueError(
                f"order must be 1 or more, alpha between 0 and 1 and damping one of {', '.join(DAMPINGS)}, "
                f"got {order}, {alpha} and {damping!r}."
            )
        self.in_channels, self.out_channels, self.order = in_channels, out_channels, order
        self.exponent, self.damping, self.mixed, self.zero_order = exponent, damping, mixed, zero_order
        self.factors = [DAMPINGS[damping](k) for k in range(1, order + 1)]
        self.alpha = nn.Parameter(torch.tensor(float(alpha))) if learn_alpha else float(alpha)
        used = {"outward": learn_alpha or alpha > 0, "inward": learn_alpha or alpha < 1}
        for name, wanted in used.items():
            self.register_parameter(name, self.weights(order) if wanted else None)
            self.register_parameter(f"{name}_zero", self.weights(1) if wanted and zero_order else None)
        self.bias = nn.Parameter(torch.zeros(self.width)) if bias else None
        self.reset_parameters()

    @property
    def width(self) -> int:
        """Columns of the result."""
        return self.out_channels

    def weights(self, count: int) -> nn.Parameter:
        """Room for the weights of `count` powers."""
        return nn.Parameter(torch.empty(count, self.in_channels, self.out_channels))

    def reset_parameters(self) -> None:
        """Uniform weights, as of a linear layer."""
        bound = self.in_channels**-0.5
        for name, parameter in self.named_parameters():
            if "ward" in name:
                nn.init.uniform_(parameter, -bound, bound)

    def matrices(self, weights: Tensor, dtype: torch.dtype) -> Tensor:
        """The matrices (K, columns of x, columns of the result) that stored weights stand for."""
        return weights.to(dtype)

    def forward(
        self,
        x: Shaped[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Shaped[Tensor, "N C"]:
        real = x.real.dtype if x.is_complex() else x.dtype
        edges, weight = dir_norm(edge_index, edge_weight, len(x), self.exponent, real)
        inward = sparse_operator(edges, weight.to(real), len(x))  # propagation along the edges is Tᵀ
        total = x.new_zeros(len(x), self.width)
        if self.outward is not None:
            total = total + self.alpha * self.side(inward.transposed, x, self.outward, self.outward_zero)
        if self.inward is not None:
            if self.mixed and self.order > 1:
                along = [x]
                for _ in range(self.order):
                    along.append(inward.transposed(along[-1]))
                w = self.matrices(self.inward, x.dtype)
                part = inward(x) @ w[0]
                for k in range(2, self.order + 1):
                    part = part + self.factors[k - 1] * (inward(along[k]) @ w[k - 1])
                if self.inward_zero is not None:
                    part = part + x @ self.matrices(self.inward_zero, x.dtype)[0]
            else:
                part = self.side(inward, x, self.inward, self.inward_zero)
            total = total + (1 - self.alpha) * part
        return total if self.bias is None else total + self.bias

    def side(self, operator: SparseOperator, x: Tensor, weights: Tensor, zero: Tensor | None) -> Tensor:
        """The polynomial of one of the two operators."""
        total = polynomial(operator, x, self.matrices(weights, x.dtype), self.factors)
        return total if zero is None else total + x @ self.matrices(zero, x.dtype)[0]

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, order={self.order}, exponent={self.exponent}, damping={self.damping!r}"


class ComplexFaberConv(FaberConv):
    """The same with complex weights; complex features stand as real parts, then imaginary parts, side by side.

    Arguments as of `FaberConv`, and
        real_input: takes real features.

    Shapes: x (N, 2 in_channels), with `real_input` (N, in_channels) -> (N, 2 out_channels).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        order: int = 1,
        alpha: float = 0.5,
        learn_alpha: bool = False,
        exponent: float = 0.25,
        damping: Literal["exp", "lin"] = "exp",
        zero_order: bool = False,
        mixed: bool = False,
        bias: bool = True,
        real_input: bool = False,
    ) -> None:
        super().__init__(
            in_channels, out_channels, order, alpha, learn_alpha, exponent, damping, zero_order, mixed, bias
        )
        self.real_input = real_input

    @property
    def width(self) -> int:
        return 2 * self.out_channels

    def weights(self, count: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(count, self.in_channels, self.out_channels, 2))

    def matrices(self, weights: Tensor, dtype: torch.dtype) -> Tensor:
        real, imaginary = weights.to(dtype).unbind(-1)
        above = torch.cat([real, imaginary], 2)
        return above if self.real_input else torch.cat([above, torch.cat([-imaginary, real], 2)], 1)


class FaberBlock(nn.Module):
    """Convolution, activation, dropout, and rows of length one; real and imaginary parts are normalised apart.

    Shapes: x (N, F), edge_index, edge_weight -> (N, width).
    """

    def __init__(self, conv: FaberConv, act: nn.Module, dropout: float, normalize: bool) -> None:
        super().__init__()
        self.conv, self.act, self.dropout, self.normalize = conv, act, nn.Dropout(dropout), normalize

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        x = self.dropout(self.act(self.conv(x, edge_index, edge_weight)))
        if not self.normalize:
            return x
        parts = x.unflatten(1, (-1, self.conv.out_channels))
        return nn.functional.normalize(parts, dim=2).flatten(1)


class FaberNet(StagedGraph):
    """Faber convolutions, whose outputs meet in a jumping connection in front of a linear classifier.

    Arguments:
        in_features, num_classes: 0 classes gives features.
        width, depth: of the layers and how many.
        order, alpha, exponent, damping, zero_order, mixed: of each `FaberConv`.
        weights: "real" or "complex"; complex features count twice in every width.
        act: "abs", which keeps the size of a phase, or "relu".
        normalize: rows of length one behind every layer.
        jump: what the classifier sees: all layers side by side ("cat"), their maximum ("max"), or the last layer ("last").
        dropout: behind every layer.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` the mean over each graph's nodes is
    classified.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 128,
        depth: int = 4,
        order: int = 2,
        alpha: float = 0.5,
        exponent: float = 0.25,
        damping: Literal["exp", "lin"] = "exp",
        zero_order: bool = False,
        mixed: bool = False,
        weights: Literal["real", "complex"] = "real",
        act: Literal["abs", "relu"] = "abs",
        normalize: bool = True,
        jump: Literal["cat", "max", "last"] = "cat",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 1 or weights not in ("real", "complex") or act not in ACTS or jump not in ("cat", "max", "last"):
            raise ValueError(
                "depth must be 1 or more, weights 'real' or 'complex', act 'abs' or 'relu' and jump 'cat', 'max' or 'last', got "
                f"{depth}, {weights!r}, {act!r} and {jump!r}."
            )
        self.stem, self.jumping = nn.Identity(), jump
        blocks = []
        for i in range(depth):
            wide = width if i else in_features
            shared = (wide, width, order, alpha, False, exponent, damping, zero_order, mixed, True)
            conv = FaberConv(*shared) if weights == "real" else ComplexFaberConv(*shared, real_input=i == 0)
            blocks.append(FaberBlock(conv, ACTS[act](), dropout, normalize))
        self.stages = nn.ModuleList(blocks)
        columns = width * (2 if weights == "complex" else 1)
        self.channels = (columns,) * depth
        self.num_features = columns * depth if jump == "cat" else columns
        self.jump = nn.Identity() if jump == "last" else JumpingKnowledge(jump)
        self.head = Classifier(self.num_features, num_classes, pool="none")

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = self.run(stage, x, edge_index, edge_weight)
            features.append(x)
        return features

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        joined = features[-1] if self.jumping == "last" else self.jump(features)
        return self.head(joined, pre_logits=pre_logits)

    def recipe(self, lr: float | None = None, weight_decay: float = 0.1) -> Recipe:
        """AdamW at 0.005 with the high weight decay of the paper's settings."""
        return Recipe(torch.optim.AdamW(self.parameters(), lr=lr or 0.005, weight_decay=weight_decay))


class Modulus(nn.Module):
    """|x|, element by element."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


ACTS: dict[str, Callable[[], nn.Module]] = {"abs": Modulus, "relu": nn.ReLU}
"""Activations by name."""
