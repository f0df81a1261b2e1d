"""PhenomNN: the layers of a hypergraph network are steps of descent on an energy, so that depth converges instead of over-smoothing.

    E(Y) = ½‖Y − Y₀‖² + λ₀/2 tr(Yᵀ (D_b − A_b) Y) + λ₁/2 tr(Yᵀ (D_g − A_g) Y),   Q = I + λ₀ D_b + λ₁ D_g
    Y ← (1 − α) Y + α Q⁻¹ (Y₀ + λ₀ A_b Y + λ₁ A_g Y)

A_b = norm(B W Bᵀ + I) joins the members of a hyperedge with each other (clique), A_g = norm(B W D_e⁻¹ Bᵀ + I) with their mean (star);
norm(M) = d^-1/2 M d^-1/2 with d = M 1, and D holds the sums of rows after that. Y₀ = ReLU(X Θ). The general energy compares what
matrices H₀ and H₁ make of the members: Σ A_ij ‖y_i H₀ − y_j‖² and Σ_e Σ_{i ∈ e} ‖y_i H₁ − z_e‖² with z_e the mean.

Y. Wang, Q. Gan, X. Qiu, X. Huang, D. Wipf, From Hypergraph Energy Functions to Hypergraph Neural Networks, 2023, arXiv:2306.09623.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ziggurat.graphs.hypergraphs.hgnn import check_hyperedge_weight
from ziggurat.graphs.hypergraphs.incidence import check_incidence, count_hyperedges
from ziggurat.graphs.hypergraphs.incidence_product import IncidenceProduct
from ziggurat.graphs.propagation import power
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier, Staged


class HypergraphEnergy:
    """The energy of node embeddings on one hypergraph; its operators are never formed, only applied through the incidence.

    Arguments:
        hyperedge_index: memberships (2, M).
        num_nodes: N.
        clique, star: λ₀ and λ₁.
        hyperedge_weight: W, ones by default.
        dtype: of the embeddings.

    Attributes:
        clique_degree, star_degree: diagonals of D_b and D_g (N, 1).
        diagonal: of Q (N, 1).
    """

    def __init__(
        self,
        hyperedge_index: Int64[Tensor, "2 M"],
        num_nodes: int,
        clique: float = 1.0,
        star: float = 1.0,
        hyperedge_weight: Float[Tensor, " E"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_incidence(hyperedge_index, num_nodes)
        check_hyperedge_weight(hyperedge_index, hyperedge_weight)
        if clique < 0 or star < 0:
            raise ValueError(f"the weights of the terms must be 0 or more, got {clique} and {star}.")
        self.lambdas = (clique, star)
        count = count_hyperedges(hyperedge_index, hyperedge_weight)
        self.incidence = IncidenceProduct(hyperedge_index, num_nodes, count, dtype=dtype)
        ones = torch.ones(num_nodes, 1, dtype=dtype, device=hyperedge_index.device)
        weight = ones.new_ones(count) if hyperedge_weight is None else hyperedge_weight.to(dtype)
        size = ones.new_zeros(count).index_add(0, hyperedge_index[1], ones[:1, 0].expand(hyperedge_index.shape[1]))
        self.inner = (weight.unsqueeze(1), (weight * power(size, -1.0)).unsqueeze(1))
        self.scale = tuple((self._through(ones, inner) + ones) ** -0.5 for inner in self.inner)
        self.clique_degree, self.star_degree = self.clique(ones), self.star(ones)
        self.diagonal = 1 + clique * self.clique_degree + star * self.star_degree

    def _through(self, y: Tensor, inner: Tensor) -> Tensor:
        """B diag(inner) Bᵀ y."""
        return self.incidence.to_nodes(inner * self.incidence.to_hyperedges(y))

    def clique(self, y: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """A_b Y."""
        y = self.scale[0] * y
        return self.scale[0] * (self._through(y, self.inner[0]) + y)

    def star(self, y: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
        """A_g Y."""
        y = self.scale[1] * y
        return self.scale[1] * (self._through(y, self.inner[1]) + y)

    def __call__(
        self,
        y: Float[Tensor, "N d"],
        y0: Float[Tensor, "N d"],
        h0: Float[Tensor, "d d"] | None = None,
        h1: Float[Tensor, "d d"] | None = None,
    ) -> Float[Tensor, ""]:
        """E(Y); with H₀ and H₁ the general energy, which for H = I counts the clique term twice."""
        weight_clique, weight_star = self.lambdas
        near, mean = self.clique(y), self.star(y)
        own, joint = self.clique_degree * y, self.star_degree * y
        if h0 is None or h1 is None:
            clique, star = (y * (own - near)).sum(), (y * (joint - mean)).sum()
        else:
            clique = ((y @ h0) * (own @ h0)).sum() + (y * own).sum() - 2 * (y * (near @ h0)).sum()
            star = ((y @ h1) * (joint @ h1)).sum() + (y * mean).sum() - 2 * (y * (mean @ h1)).sum()
        return ((y - y0).square().sum() + weight_clique * clique + weight_star * star) / 2

    def bracket(
        self,
        y: Float[Tensor, "N d"],
        y0: Float[Tensor, "N d"],
        h0: Float[Tensor, "d d"] | None = None,
        h1: Float[Tensor, "d d"] | None = None,
    ) -> Float[Tensor, "N d"]:
        """Q Y − ∂E/∂Y: what a whole step of preconditioned descent (α = 1) divides by Q."""
        clique, star = self.lambdas
        result = y0
        if clique:  # a term of weight zero costs nothing
            near = self.clique(y)
            own = near if h0 is None else near @ (h0 + h0.T) - self.clique_degree * y @ h0 @ h0.T
            result = result + clique * own
        if star:
            mean = self.star(y)
            joint = self.star_degree * y
            result = result + star * (mean if h1 is None else joint - mean + mean @ (h1 + h1.T) - joint @ h1 @ h1.T)
        return result


class Descent(nn.Module):
    """One step, Y ← (1 − α) Y + α Q⁻¹ bracket, without parameters of its own.

    Arguments:
        alpha: α in (0, 1].
        prox: a ReLU behind the step, the proximal map of Y ≥ 0.
    """

    def __init__(self, alpha: float, prox: bool = False) -> None:
        super().__init__()
        self.alpha, self.prox = alpha, prox

    def forward(
        self,
        y: Tensor,
        anchor: Tensor,
        energy: HypergraphEnergy,
        h0: Tensor | None = None,
        h1: Tensor | None = None,
    ) -> Tensor:
        y = (1 - self.alpha) * y + self.alpha * energy.bracket(y, anchor, h0, h1) / energy.diagonal
        return y.relu() if self.prox else y

    def extra_repr(self) -> str:
        return f"alpha={self.alpha:.3g}, prox={self.prox}"


class PhenomNNSimple(Staged):
    """K steps of descent on the energy without H, from and towards Y₀; then ReLU, dropout and a linear classifier.

    Arguments:
        in_features: width of the nodes' features.
        num_classes: 0 gives features.
        width: d of Y.
        steps: K, one stage each.
        clique, star: λ₀ and λ₁ (official: 20 and 80 for co-authorship of Cora, 0 and 20 for co-citation).
        alpha: α in [0, 1]; 0 means 1 / (1 + λ₀ + λ₁).
        dropout: on X, on Y₀, and before the classifier.
        prox: a ReLU inside each step instead of one behind the last.

    Shapes: x (N, in_features), hyperedge_index (2, M), hyperedge_weight (E,) -> (N, num_classes).
    """

    input = "hypergraph"
    sequential = False

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 64,
        steps: int = 16,
        clique: float = 20.0,
        star: float = 80.0,
        alpha: float = 0.1,
        dropout: float = 0.6,
        prox: bool = False,
    ) -> None:
        super().__init__()
        if steps < 1 or not 0 <= alpha <= 1:
            raise ValueError(f"steps must be 1 or more and alpha between 0 and 1, got {steps} and {alpha}.")
        if clique < 0 or star < 0:
            raise ValueError(f"clique and star must be 0 or more, got {clique} and {star}.")
        alpha = alpha or 1 / (1 + clique + star)
        self.clique, self.star = clique, star
        self.stem = nn.Sequential(nn.Dropout(dropout), nn.Linear(in_features, width), nn.ReLU(), nn.Dropout(dropout))
        self.stages = nn.ModuleList(Descent(alpha, prox) for _ in range(steps))
        self.channels, self.num_features = (width,) * steps, width
        self.head = Classifier(width, num_classes, pool="none", dropout=dropout)

    def matrices(self) -> tuple[Tensor | None, Tensor | None]:
        """H₀ and H₁; here none."""
        return None, None

    def anchor(self, y0: Tensor) -> Tensor:
        """What stands for Y₀ in the steps: Y₀. An ablation may return zeros, which lets depth forget it."""
        return y0

    def energy(self, y0: Tensor, hyperedge_index: Tensor, hyperedge_weight: Tensor | None = None) -> HypergraphEnergy:
        """The energy on a hypergraph."""
        return HypergraphEnergy(hyperedge_index, len(y0), self.clique, self.star, hyperedge_weight, y0.dtype)

    def propagate(
        self,
        y0: Float[Tensor, "N d"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
    ) -> list[Float[Tensor, "N d"]]:
        """Y after each step."""
        energy, anchor, matrices = self.energy(y0, hyperedge_index, hyperedge_weight), self.anchor(y0), self.matrices()
        path, y = [], y0
        for stage in self.stages:
            y = stage(y, anchor, energy, *matrices)
            path.append(y)
        return path

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
    ) -> list[Tensor]:
        check_incidence(hyperedge_index, len(x))
        return self.propagate(self.stem(x), hyperedge_index, hyperedge_weight)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.head(features[-1].relu(), pre_logits=pre_logits)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
    ) -> Tensor:
        return self.forward_head(self.forward_features(x, hyperedge_index, hyperedge_weight))

    @torch.no_grad()
    def energies(
        self,
        x: Float[Tensor, "N F"],
        hyperedge_index: Int64[Tensor, "2 M"],
        hyperedge_weight: Float[Tensor, " E"] | None = None,
    ) -> list[float]:
        """E before the first step and after each: K + 1 numbers."""
        y0 = self.stem(x)
        energy = self.energy(y0, hyperedge_index, hyperedge_weight)
        path = self.propagate(y0, hyperedge_index, hyperedge_weight)
        return [float(energy(y, y0, *self.matrices())) for y in (y0, *path)]

    def recipe(self, lr: float | None = None, weight_decay: float = 5e-4) -> Recipe:
        """Adam (200 full-batch steps; official rates 0.01 and 0.001)."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=lr or 0.01, weight_decay=weight_decay))


class PhenomNN(PhenomNNSimple):
    """The general energy, with H₀ and H₁ learned and shared by all steps; they start near the identity.

    Arguments as of `PhenomNNSimple`; official λ₁ for co-authorship of Cora 100.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        width: int = 64,
        steps: int = 16,
        clique: float = 20.0,
        star: float = 100.0,
        alpha: float = 0.1,
        dropout: float = 0.6,
        prox: bool = False,
    ) -> None:
        super().__init__(in_features, num_classes, width, steps, clique, star, alpha, dropout, prox)
        self.h0 = nn.Parameter(torch.eye(width) + torch.randn(width, width) / width)
        self.h1 = nn.Parameter(torch.eye(width) + torch.randn(width, width) / width)

    def matrices(self) -> tuple[Tensor | None, Tensor | None]:
        return self.h0, self.h1
