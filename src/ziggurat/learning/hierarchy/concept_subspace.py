"""Concept subspace network: each concept (a label, a coarser label, a protected attribute) has prototypes, and the plane through them is
the concept's subspace. Whether two planes are pushed to be orthogonal or parallel makes the classifier fair or hierarchical.

    Q = QR basis of {p_i − p_0},   z_k = p_0 + Q Qᵀ (z − p_0),   p(c | x) ∝ Σ_{i of c} exp(−‖z_k − p_i‖²)
    L = Σ_k w_k CE_k + w_dec MSE + Σ_k [w_pd · mean_b min_i d + w_fd · mean_i min_b d + w_kl KL] + Σ_{i,j} w_ij a(Q_i, Q_j)

z is drawn from N(μ(x), σ²(x)), d are squared distances in the plane, and a is the mean squared entry of Q_iᵀ Q_j. What lies off the plane
is equal for all prototypes of a concept, so one concept alone classifies as without a plane; the last three terms make planes matter. KL
draws the posterior, off the plane, to a unit Gaussian around the prototypes: ½ mean(σ² − log σ² − 1 + ‖μ − μ_k‖²).

M. Tucker, J. Shah, Prototype Based Classification from Hierarchy to Fairness, 2022, arXiv:2205.13997.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import nll_loss

from ziggurat.data.batch import Batch
from ziggurat.data.label_levels import as_levels
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe


def affine_basis(prototypes: Float[Tensor, "n Z"]) -> Float[Tensor, "Z m"]:
    """An orthonormal basis of the directions of the plane through n prototypes, m = n − 1."""
    return torch.linalg.qr((prototypes[1:] - prototypes[0]).T).Q


def project(z: Float[Tensor, "B Z"], prototypes: Float[Tensor, "n Z"]) -> Float[Tensor, "B Z"]:
    """The nearest point of the plane through the prototypes. It need not hold the origin."""
    basis = affine_basis(prototypes)
    return prototypes[0] + (z - prototypes[0]) @ basis @ basis.T


def subspace_alignment(a: Float[Tensor, "Z m"], b: Float[Tensor, "Z n"]) -> Float[Tensor, ""]:
    """Mean squared entry of Qᵀ R for two orthonormal bases: 0 for orthogonal subspaces, 1 / m for a subspace and itself.

    The official code may also take the largest entry, meant for penalties, or the smallest, for rewards; these depend on the bases that
    QR happens to return, the mean does not.
    """
    return (a.T @ b).square().mean()


def squared_distances(z: Float[Tensor, "B Z"], prototypes: Float[Tensor, "n Z"]) -> Float[Tensor, "B n"]:
    """‖z − p‖² of all pairs, not below 0."""
    return (z.square().sum(1, keepdim=True) - 2 * z @ prototypes.T + prototypes.square().sum(1)).clamp_min(0)


class ConceptSubspace(nn.Module):
    """The prototypes of one concept.

    Arguments:
        classes: of the concept, two or more.
        dim: Z, of the latent space; the plane must fit into it.
        per_class: prototypes of each class; their probabilities add up.

    Shapes: z (B, Z) -> log-probabilities (B, classes).
    """

    def __init__(self, classes: int, dim: int, per_class: int = 1) -> None:
        super().__init__()
        count = classes * per_class
        if classes < 2 or per_class < 1:
            raise ValueError(f"a concept needs two classes and one prototype of each, got {classes} and {per_class}.")
        if count - 1 > dim:
            raise ValueError(f"{count} prototypes span {count - 1} dimensions; {dim} are too few, give more.")
        self.classes, self.per_class = classes, per_class
        self.prototypes = nn.Parameter(
            torch.randn(count, dim) / math.sqrt(dim)
        )  # apart, or QR would be ill-conditioned

    def basis(self) -> Float[Tensor, "Z m"]:
        """Directions of the plane."""
        return affine_basis(self.prototypes)

    def coordinates(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B m"]:
        """Where z lies in the plane; the first prototype is its origin."""
        return (z - self.prototypes[0]) @ self.basis()

    def distances(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B n"]:
        """‖z_k − p_i‖², within the plane."""
        basis, first = self.basis(), self.prototypes[0]
        z, p = (z - first) @ basis, (self.prototypes - first) @ basis
        return squared_distances(z, p)

    def residual(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
        """What of z lies off the plane."""
        return z - project(z, self.prototypes)

    def forward(self, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B c"]:
        of_prototypes = (-self.distances(z)).log_softmax(1)
        return of_prototypes.unflatten(1, (self.classes, self.per_class)).logsumexp(2)


class Concepts(NamedTuple):
    """`log_probs` (B, classes) of each concept; `z` (B, Z); `recon` like the input."""

    log_probs: tuple[Tensor, ...]
    z: Tensor
    recon: Tensor


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class ConceptSubspaceNetwork(nn.Module):
    """A variational encoder, a decoder, and the concepts between them.

    Arguments:
        shape: of one sample.
        concepts: classes of each concept; of a hierarchy the coarsest comes first.
        dim: Z.
        hidden: widths of the perceptrons that encode and (in the other order) decode.
        per_class: prototypes of each class.
        encoder: (B, *shape) -> (B, 2 Z), means and log-variances; None takes a perceptron.
        decoder: (B, Z) -> (B, *shape); None takes a perceptron.

    Shapes: (B, *shape) -> `Concepts`. While training z is drawn; in evaluation it is the mean.
    """

    input = "table"

    def __init__(
        self,
        shape: Sequence[int],
        concepts: Sequence[int],
        dim: int = 32,
        hidden: Sequence[int] = (128, 128),
        per_class: int = 1,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        size = math.prod(shape)
        self.num_features = dim
        self.encoder = encoder or nn.Sequential(nn.Flatten(), *perceptron((size, *hidden, 2 * dim)))
        self.decoder = decoder or nn.Sequential(
            *perceptron((dim, *reversed(hidden), size)), nn.Unflatten(1, tuple(shape))
        )
        self.concepts = nn.ModuleList(ConceptSubspace(classes, dim, per_class) for classes in concepts)

    def encode(self, x: Float[Tensor, "B *s"]) -> tuple[Float[Tensor, "B Z"], Float[Tensor, "B Z"]]:
        """Means and log-variances of z."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def draw(self, mean: Float[Tensor, "B Z"], log_variance: Float[Tensor, "B Z"]) -> Float[Tensor, "B Z"]:
        """z: the mean, and while training noise around it."""
        return mean + (log_variance / 2).exp() * torch.randn_like(mean) if self.training else mean

    def forward(self, x: Float[Tensor, "B *s"]) -> Concepts:
        z = self.draw(*self.encode(x))
        return Concepts(tuple(concept(z) for concept in self.concepts), z, self.decoder(z))

    def alignment(self) -> Float[Tensor, "K K"]:
        """`subspace_alignment` of all pairs of concepts."""
        bases = [concept.basis() for concept in self.concepts]  # type: ignore[operator]
        return torch.stack([torch.stack([subspace_alignment(a, b) for b in bases]) for a in bases])

    @torch.no_grad()
    def tree(self) -> Any:
        """The taxonomy that the network has found: the minimum spanning tree over all prototypes, as a networkx graph whose nodes are
        (concept, class); with several prototypes a class is where its nearest one is."""
        import networkx

        nodes = [(k, i // c.per_class) for k, c in enumerate(self.concepts) for i in range(len(c.prototypes))]  # type: ignore[arg-type, operator]
        points = torch.cat([concept.prototypes for concept in self.concepts])  # type: ignore[misc]
        distances, graph = torch.cdist(points, points), networkx.Graph()
        graph.add_nodes_from(nodes)
        for i, a in enumerate(nodes):
            for j, b in enumerate(nodes[:i]):
                known = graph.get_edge_data(a, b, {"weight": math.inf})["weight"]
                if a != b:
                    graph.add_edge(a, b, weight=min(float(distances[i, j]), known))
        return networkx.minimum_spanning_tree(graph)


def tree_edit_distance(tree: Any, levels: Int64[Tensor, "C K"]) -> int:
    """Edges to add to a tree and to take out of it, so that each class hangs on its parent; edges among the coarsest classes are free.

    Arguments:
        tree: of nodes (level, class).
        levels: of each finest class its class on every level, the coarsest first.
    """
    rows = levels.tolist()
    true = {frozenset({(k, row[k]), (k + 1, row[k + 1])}) for row in rows for k in range(len(row) - 1)}
    found = {frozenset(edge) for edge in tree.edges}
    wrong = {edge for edge in found - true if any(level > 0 for level, _ in edge)}
    return len(true - found) + len(wrong)


class ConceptSubspaceLearner(Learner):
    """Trains the network on the labels of all its concepts: `target` (B, K), or (B,) of one concept.

    Arguments:
        classification, prototype, feature, kl: w_k, w_pd, w_fd and w_kl; one number, or one for each concept.
        reconstruction: w_dec.
        alignment: w_ij of every pair of concepts; above 0 they become independent, below 0 aligned.
        lr: of Adam.
    """

    network: ConceptSubspaceNetwork
    weights: Tensor

    def __init__(
        self,
        network: ConceptSubspaceNetwork,
        classification: float | Sequence[float] = 1.0,
        reconstruction: float = 0.1,
        prototype: float | Sequence[float] = 0.01,
        feature: float | Sequence[float] = 0.1,
        kl: float | Sequence[float] = 0.05,
        alignment: float = 0.0,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        count = len(network.concepts)
        rows = [torch.tensor(w, dtype=torch.float32) for w in (classification, prototype, feature, kl)]
        if any(row.ndim and len(row) != count for row in rows):
            raise ValueError(f"the network has {count} concepts; give each weight one number, or {count} of them.")
        self.register_buffer("weights", torch.stack([row.expand(count) for row in rows]))
        self.reconstruction, self.alignment = reconstruction, alignment

    def labels(self, batch: Batch) -> Int64[Tensor, "B K"]:
        """The class of each sample in every concept."""
        target = batch.target if batch.target.ndim == 2 else batch.target[:, None]
        if target.shape[1] != len(self.network.concepts):
            raise ValueError(f"{target.shape[1]} labels a sample do not fit {len(self.network.concepts)} concepts.")
        return target

    def conditional(
        self, log_probs: tuple[Tensor, ...], labels: Int64[Tensor, "B K"]
    ) -> tuple[Float[Tensor, "B c"], ...]:
        """Log-probabilities that are asked for the labels; here as they are."""
        return log_probs

    def spread(self, concept: ConceptSubspace, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B n"]:
        """Squared distances of w_pd and w_fd."""
        return concept.distances(z)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        network, x, labels = self.network, batch.inputs[0], self.labels(batch)
        mean, log_variance = network.encode(x)
        z = network.draw(mean, log_variance)
        asked = self.conditional(tuple(concept(z) for concept in network.concepts), labels)
        terms: dict[str, list[Tensor]] = {"classification": [], "to_prototype": [], "to_sample": [], "kl": []}
        for k, concept in enumerate(network.concepts):
            assert isinstance(concept, ConceptSubspace)
            classification, prototype, feature, kl = self.weights[:, k]
            distances, residual = self.spread(concept, z), concept.residual(mean)
            terms["classification"].append(classification * nll_loss(asked[k], labels[:, k], reduction="none"))
            terms["to_prototype"].append(prototype * distances.amin(1))
            terms["to_sample"].append(feature * distances.amin(0).mean())
            variance = log_variance.exp() - log_variance - 1
            terms["kl"].append(kl * (variance + residual.square()).mean(1) / 2)
        return {
            **{name: torch.stack(values).sum(0) for name, values in terms.items()},
            "reconstruction": self.reconstruction * (network.decoder(z) - x).square().flatten(1).mean(1),
            "alignment": self.alignment * self.between(network.alignment()),
        }

    @staticmethod
    def between(alignment: Float[Tensor, "K K"]) -> Float[Tensor, ""]:
        """The alignment of different concepts, each pair once."""
        return alignment.triu(1).sum()

    def represent(self, x: Tensor) -> Float[Tensor, "B Z"]:
        return self.network.encode(x)[0]

    def predict(self, x: Tensor) -> Float[Tensor, "B c"]:
        """Log-probabilities of the first concept."""
        return self.network.concepts[0](self.represent(x))

    def recipe(self) -> Recipe:
        """Adam at 1e-3."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))


class HierarchicalConceptLearner(ConceptSubspaceLearner):
    """Concepts that are the levels of a taxonomy, the coarsest first. Each level is learned among the children of the true parent, and at
    the test p(fine) = p(coarse) · p(fine | coarse). The distances of w_pd and w_fd are those of the whole space.
    (So it is in the official runs on digits and garments; that on the five levels of CIFAR-100 learns every level among all its classes,
    as `ConceptSubspaceLearner` does.)

    Arguments:
        levels: of each finest class its class on every level.
        classification, reconstruction, prototype, feature, kl, alignment, lr: as above.
    """

    levels: Tensor

    def __init__(
        self,
        network: ConceptSubspaceNetwork,
        levels: Sequence[Sequence[int]] | Tensor,
        classification: float | Sequence[float] = 1.0,
        reconstruction: float = 0.1,
        prototype: float | Sequence[float] = 0.01,
        feature: float | Sequence[float] = 0.1,
        kl: float | Sequence[float] = 0.05,
        alignment: float = 0.0,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, classification, reconstruction, prototype, feature, kl, alignment, lr)
        table = as_levels(levels)
        classes = [int(n) + 1 for n in table.amax(0)]
        own = [int(concept.classes) for concept in network.concepts]  # type: ignore[arg-type]
        if classes != own:
            raise ValueError(
                f"the levels have {classes} classes and the network's concepts {own}; they must be the same."
            )
        self.register_buffer("levels", table)

    def below(self, k: int) -> Bool[Tensor, "p c"]:
        """Which classes of level k hang on each class of the level above; at the top all on one."""
        column = self.levels[:, k]
        above = self.levels[:, k - 1] if k else torch.zeros_like(column)
        found = torch.zeros(int(above.max()) + 1, int(column.max()) + 1, dtype=torch.bool, device=column.device)
        return found.index_put((above, column), torch.ones_like(column, dtype=torch.bool))

    def among(self, log_probs: Float[Tensor, "B c"], k: int) -> Float[Tensor, "B p c"]:
        """log p(class of level k | its parent), −∞ under other parents."""
        masked = log_probs[:, None].masked_fill(~self.below(k), -math.inf)
        return masked.log_softmax(2)

    def labels(self, batch: Batch) -> Int64[Tensor, "B K"]:
        return self.levels[batch.target]

    def spread(self, concept: ConceptSubspace, z: Float[Tensor, "B Z"]) -> Float[Tensor, "B n"]:
        """Squared distances in the whole space, so that samples and prototypes of all levels come together off the planes, too."""
        return squared_distances(z, concept.prototypes)

    def conditional(
        self, log_probs: tuple[Tensor, ...], labels: Int64[Tensor, "B K"]
    ) -> tuple[Float[Tensor, "B c"], ...]:
        parents = [torch.zeros_like(labels[:, 0]), *labels.T[:-1]]
        rows = torch.arange(len(labels), device=labels.device)
        return tuple(self.among(p, k)[rows, parents[k]] for k, p in enumerate(log_probs))

    def predict(self, x: Tensor) -> Float[Tensor, "B C"]:
        """Log-probabilities of the finest classes, multiplied down the taxonomy."""
        z = self.represent(x)
        total = torch.zeros(len(z), len(self.levels), dtype=z.dtype, device=z.device)
        for k, concept in enumerate(self.network.concepts):
            above = self.levels[:, k - 1] if k else torch.zeros_like(self.levels[:, 0])
            total = total + self.among(concept(z), k)[:, above, self.levels[:, k]]
        return total
