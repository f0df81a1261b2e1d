"""GSPN: every node roots the tree of its messages, each level a mixture whose weights come from the children's posteriors.

    h_u^1(i) ∝ π_i b^1(x_u|i)
    w_u^l(i) = mean over v in N(u) ∪ {u} of Σ_j P^l(i|j) h_v^{l−1}(j),    h_u^l(i) ∝ w_u^l(i) b^l(x_u|i)
    log p_u  = log Σ_i w_u^L(i) b̄(x_u|i),    b̄ with the emission parameters averaged over the levels

The mean keeps distributions distributions, so that missing entries can be left out exactly: their factor is 1. The parameters of a
level are the same for all nodes; the objective is the mean of log p_u at the last level.

F. Errica, M. Niepert, Tractable Probabilistic Graph Representation Learning with Graph-Induced Sum-Product Networks, 2023,
arXiv:2305.10544.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch_geometric.nn import global_mean_pool

from ziggurat.data.batch import Batch
from ziggurat.graphs.propagation import mean_norm, propagate
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe


class GaussianEmission(nn.Module):
    """b(x|i) = Π_f N(x_f; μ_if, σ_if²) over the observed features.

    Arguments:
        in_features: F.
        states: C.
        smallest: lower bound of σ.

    Shapes: x (N, F), observed (N, F) -> log b (N, C).
    """

    def __init__(self, in_features: int, states: int = 10, smallest: float = 1e-3) -> None:
        super().__init__()
        if in_features < 1 or states < 1 or not smallest > 0:
            raise ValueError(
                f"in_features, states and smallest must be positive, got {in_features}, {states}, {smallest}."
            )
        self.in_features, self.states, self.smallest = in_features, states, smallest
        self.mean = nn.Parameter(torch.empty(states, in_features))
        self.raw_scale = nn.Parameter(torch.empty(states, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Means drawn from N(0, 1), deviations near 1."""
        nn.init.normal_(self.mean)
        nn.init.constant_(self.raw_scale, math.log(math.e - 1))

    @torch.no_grad()
    def reset_means(self, means: Float[Tensor, "C F"]) -> None:
        """Takes these means."""
        self.mean.copy_(means)

    def table(self) -> tuple[Tensor, Tensor]:
        """What is averaged over levels: means and deviations, (C, F) each."""
        return self.mean, softplus(self.raw_scale) + self.smallest

    def log_density(
        self, x: Float[Tensor, "N F"], observed: Bool[Tensor, "N F"] | None, table: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "N C"]:
        """log b with the parameters of a table."""
        mean, scale = table
        seen = x if observed is None else torch.where(observed, x, 0.0)
        away = (seen[:, None] - mean) / scale
        logs = -0.5 * away.square() - scale.log() - 0.5 * math.log(2 * math.pi)
        return (logs if observed is None else logs * observed[:, None]).sum(2)

    def expected(self, table: tuple[Tensor, Tensor]) -> Float[Tensor, "C F"]:
        """E[x|i]."""
        return table[0]

    def complete(self, x: Tensor, observed: Tensor | None, filled: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        """x where it is observed, and what was filled in elsewhere."""
        return x.to(filled.dtype) if observed is None else torch.where(observed, x, filled)

    def forward(self, x: Float[Tensor, "N F"], observed: Bool[Tensor, "N F"] | None = None) -> Float[Tensor, "N C"]:
        return self.log_density(x, observed, self.table())

    def extra_repr(self) -> str:
        return f"{self.in_features}, states={self.states}"


class CategoricalEmission(nn.Module):
    """b(x|i) = Π_f B_if(x_f), a table of probabilities for each feature.

    Arguments:
        symbols: K, the values 0 … K − 1 of each feature.
        states: C.
        in_features: F.

    Shapes: x (N, F) int64, observed (N, F) -> log b (N, C). What is filled in are probabilities (N, F · K).
    """

    def __init__(self, symbols: int, states: int = 10, in_features: int = 1) -> None:
        super().__init__()
        if min(symbols, states, in_features) < 1:
            raise ValueError(
                f"symbols, states and in_features must be 1 or more, got {symbols}, {states}, {in_features}."
            )
        self.symbols, self.states, self.in_features = symbols, states, in_features
        self.logits = nn.Parameter(torch.empty(states, in_features, symbols))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Logits drawn from N(0, 1)."""
        nn.init.normal_(self.logits)

    def table(self) -> tuple[Tensor]:
        """What is averaged over levels: the probabilities (C, F, K)."""
        return (self.logits.softmax(2),)

    def log_density(
        self, x: Int64[Tensor, "N F"], observed: Bool[Tensor, "N F"] | None, table: tuple[Tensor]
    ) -> Float[Tensor, "N C"]:
        """log b with the parameters of a table."""
        logs = table[0].clamp_min(torch.finfo(table[0].dtype).tiny).log()
        here = x.T[None].expand(self.states, -1, -1)
        if observed is not None:
            here = torch.where(observed.T, here, 0)
        chosen = logs.gather(2, here)  # (C, F, N)
        return (chosen if observed is None else chosen * observed.T).sum(1).T

    def expected(self, table: tuple[Tensor]) -> Float[Tensor, "C FK"]:
        """The probabilities of all symbols, feature by feature."""
        return table[0].flatten(1)

    def complete(self, x: Tensor, observed: Tensor | None, filled: Float[Tensor, "N FK"]) -> Float[Tensor, "N FK"]:
        """One-hot where x is observed, and the probabilities that were filled in elsewhere."""
        known = nn.functional.one_hot(x, self.symbols).to(filled.dtype)
        chances = filled.unflatten(1, (self.in_features, self.symbols))
        return (known if observed is None else torch.where(observed[:, :, None], known, chances)).flatten(1)

    def forward(self, x: Int64[Tensor, "N F"], observed: Bool[Tensor, "N F"] | None = None) -> Float[Tensor, "N C"]:
        return self.log_density(x, observed, self.table())

    def extra_repr(self) -> str:
        return f"{self.symbols}, states={self.states}, in_features={self.in_features}"


class GSPNLayer(nn.Module):
    """A level's sum units: posteriors of the level below in, mixture weights out.

    Arguments:
        in_states, out_states: of the two levels.

    Shapes: log posteriors (N, in_states), edge_index (2, E), edge_weight (E,) not negative -> log w (N, out_states). The rows that come
    in need not be normalised.
    """

    def __init__(self, in_states: int, out_states: int) -> None:
        super().__init__()
        if in_states < 1 or out_states < 1:
            raise ValueError(f"both levels need a state or more, got {in_states} and {out_states}.")
        self.logits = nn.Parameter(torch.empty(in_states, out_states))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Logits of the transitions drawn from N(0, 1)."""
        nn.init.normal_(self.logits)

    def forward(
        self,
        below: Float[Tensor, "N J"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N C"]:
        edges, weights = mean_norm(edge_index, edge_weight, len(below), dtype=below.dtype)
        mean = propagate(below.softmax(1), edges, weights).clamp_min(torch.finfo(below.dtype).tiny)
        return (mean.log()[:, :, None] + self.logits.log_softmax(1)).logsumexp(1)

    def extra_repr(self) -> str:
        return f"{self.logits.shape[0]}, {self.logits.shape[1]}"


class GSPN(nn.Module):
    """The network without labels.

    Arguments:
        emission: of each level; it is copied and drawn anew for every one.
        depth: L. One level is a mixture that sees no edges.

    Returns a dict: `log_likelihood` (N,) at the root of each node's tree, `embedding` (N, L · C), the posteriors of all levels, and
    `imputed`, the observed entries with the expectation of the others given them.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,), observed (N, F), True where an entry counts. With `batch` (N,) naming each node's
    graph the embedding is the mean over each graph's nodes, (graphs, L · C).
    """

    input = "graph"

    def __init__(self, emission: GaussianEmission | CategoricalEmission, depth: int = 3) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, got {depth}.")
        states = emission.states
        self.prior = nn.Parameter(torch.zeros(states))
        self.emissions = nn.ModuleList(copy.deepcopy(emission) for _ in range(depth))
        for level in self.emissions:
            level.reset_parameters()
        self.layers = nn.ModuleList(GSPNLayer(states, states) for _ in range(depth - 1))
        self.num_features = depth * states

    def levels(
        self,
        x: Tensor,
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        observed: Bool[Tensor, "N F"] | None = None,
    ) -> tuple[list[Tensor], Float[Tensor, "N C"]]:
        """Log posteriors (N, C) of every level, and the log mixture weights of the last."""
        # The first level sees no edges, but they are looked at all the same.
        mean_norm(edge_index, edge_weight, len(x), dtype=self.prior.dtype)
        weights, posteriors = self.prior.log_softmax(0).expand(len(x), -1), []
        for i, emission in enumerate(self.emissions):
            weights = self.layers[i - 1](posteriors[-1], edge_index, edge_weight) if i else weights
            posteriors.append((weights + emission(x, observed)).log_softmax(1))
        return posteriors, weights

    def averaged(self) -> tuple[Tensor, ...]:
        """The emission parameters of b̄."""
        return tuple(torch.stack(same).mean(0) for same in zip(*(e.table() for e in self.emissions), strict=True))

    def forward(
        self,
        x: Tensor,
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        observed: Bool[Tensor, "N F"] | None = None,
    ) -> dict[str, Tensor]:
        posteriors, weights = self.levels(x, edge_index, edge_weight, observed)
        emission, table = self.emissions[-1], self.averaged()
        joint = weights + emission.log_density(x, observed, table)
        filled = joint.softmax(1) @ emission.expected(table)
        embedding = torch.cat(posteriors, 1).exp()
        return {
            "log_likelihood": joint.logsumexp(1),
            "embedding": embedding if batch is None else global_mean_pool(embedding, batch),
            "imputed": emission.complete(x, observed, filled),
        }

    def query(
        self,
        x: Tensor,
        edge_index: Int64[Tensor, "2 E"],
        evidence: Bool[Tensor, "N F"],
        target: Bool[Tensor, "N F"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, " N"]:
        """log p(target entries of a node | evidence in its tree), exact; `target` and `evidence` must not overlap."""
        if bool((evidence & target).any()):
            raise ValueError("an entry is evidence and target at once; take it out of one of the two.")
        _, weights = self.levels(x, edge_index, edge_weight, evidence)
        emission, table = self.emissions[-1], self.averaged()
        joint = weights + emission.log_density(x, evidence, table)
        return (joint.log_softmax(1) + emission.log_density(x, target, table)).logsumexp(1)

    def start_at_centres(
        self, x: Float[Tensor, "N F"], observed: Tensor | None = None, noise: float = 0.1, seed: int = 0
    ) -> None:
        """Gives every level's Gaussians the centres of k-means as means, with noise; missing entries take their column's mean."""
        seen = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        known = torch.where(seen, x, 0.0)
        column = known.sum(0) / seen.sum(0).clamp_min(1)
        rows = torch.where(seen, x, column).double().numpy()
        found = KMeans(len(self.prior), n_init=3, random_state=seed).fit(rows).cluster_centers_
        rng = np.random.default_rng(seed)
        for level in self.emissions:
            spread = noise * rows.std(0) * rng.normal(size=found.shape)
            level.reset_means(torch.from_numpy(found + spread).to(x.dtype))


class SupervisedGSPN(nn.Module):
    """A sum unit on top for whole graphs, whose mixture weights come from the mean posteriors of all levels; it emits the class.

        log P(y|g) = log Σ_i w_g(i) P(y|i),   w_g(i) = Σ_l λ_l Σ_j P^l(i|j) mean_u h_u^l(j)

    Arguments:
        gspn: the network below.
        num_classes: of y.
        states: of the unit on top.

    Shapes: x, edge_index, edge_weight, batch (N,) as of `GSPN` -> log P (graphs, num_classes).
    """

    input = "graphs"

    def __init__(self, gspn: GSPN, num_classes: int, states: int = 10) -> None:
        super().__init__()
        if num_classes < 1 or states < 1:
            raise ValueError(f"num_classes and states must be 1 or more, got {num_classes} and {states}.")
        self.gspn = gspn
        depth = len(gspn.emissions)
        self.mixture = nn.Parameter(torch.zeros(depth)) if depth > 1 else None
        self.transition = nn.Parameter(torch.randn(depth, len(gspn.prior), states))
        self.classes = nn.Parameter(torch.randn(states, num_classes))

    def forward(
        self,
        x: Tensor,
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
        observed: Bool[Tensor, "N F"] | None = None,
    ) -> Float[Tensor, "G K"]:
        posteriors, _ = self.gspn.levels(x, edge_index, edge_weight, observed)
        below = torch.stack(posteriors, 1).exp()
        pooled = below.mean(0, keepdim=True) if batch is None else global_mean_pool(below.flatten(1), batch)
        logs = pooled.view(-1, *below.shape[1:]).clamp_min(torch.finfo(below.dtype).tiny).log()
        level = logs.new_zeros(1) if self.mixture is None else self.mixture.log_softmax(0)
        weights = level[:, None] + (logs[:, :, :, None] + self.transition.log_softmax(2)).logsumexp(2)
        return (weights.logsumexp(1)[:, :, None] + self.classes.log_softmax(1)).logsumexp(1)


class GSPNLearner(Learner):
    """Maximises the mean log-likelihood of the nodes.

    Arguments:
        network: a `GSPN`.
        lr: of Adam, 1e-3 (the paper trains for up to 500 epochs).
    """

    score = "linear_probe"

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"likelihood": -self.network(*batch.inputs)["log_likelihood"].mean()}

    def represent(self, *inputs: Tensor) -> Tensor:
        return self.network(*inputs)["embedding"]

    def recipe(self) -> Recipe:
        """Adam at a constant rate."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))
