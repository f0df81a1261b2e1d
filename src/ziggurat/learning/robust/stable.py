"""STABLE: a poisoned graph is repaired by representations that were taught, without labels, not to mind suspicious edges.

    1  drop edges whose ends share few features (Jaccard < 0.03): A_1 and the removed edges
    2  contrast (in the form of DGI): h = enc(X, A_1) against h̃ = enc(shuffled X, A_1), with summaries s_1, s_2 of two views,
       A_1 plus a fifth of the removed edges; BCE on D(h, s_1) + D(h, s_2)
    3  from the poisoned graph drop edges with cos(h_u, h_v) ≤ t, then add to each node its k most similar ones of degree > 1
    4  classify h with P_uv ∝ (d_u d_v)^α (A + I)_uv, rows summing to 1, α > 0: neighbours of high degree count more

Attacks prefer targets of low degree, so that high degrees are to be trusted.

K. Li, Y. Liu, X. Ao, J. Chi, J. Feng, H. Yang, Q. He, Reliable Representations Make A Stronger Defender: Unsupervised Structure Refinement
for Robust GNN, 2022, arXiv:2207.00012.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, ClassifierMixin
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, dropout, normalize, prelu
from torch_geometric.data import Data

from ziggurat.data.seeds import derive, generator
from ziggurat.graphs.propagation import add_loops, check_edges, degrees, gcn_norm, power, propagate
from ziggurat.graphs.sparse_operator import SparseOperator, sparse_operator


def feature_jaccard(x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"]) -> Float[Tensor, " E"]:
    """|features of both ends| / |features of either|, of each edge; 0 where neither has any."""
    check_edges(edge_index, len(x))
    has = (x != 0).float()
    source, target = edge_index
    both = (has[source] * has[target]).sum(1)
    either = has.sum(1)[source] + has.sum(1)[target] - both
    return both / either.clamp_min(1)


def advanced_norm(
    edge_index: Int64[Tensor, "2 E"],
    edge_weight: Float[Tensor, " E"] | None,
    num_nodes: int,
    exponent: float,
    dtype: torch.dtype = torch.float32,
) -> tuple[Int64[Tensor, "2 F"], Float[Tensor, " F"]]:
    """Edges and weights of (d_u d_v)^α (A + I)_uv over its row sum; at α = −1/2 the rows are not divided, which is GCN."""
    edge_index, edge_weight = add_loops(edge_index, edge_weight, num_nodes, dtype=dtype)
    source, target = edge_index
    scale = power(degrees(target, edge_weight, num_nodes), exponent)
    weight = scale[source] * edge_weight * scale[target]
    if exponent != -0.5:
        weight = weight * power(degrees(target, weight, num_nodes), -1.0)[target]
    return edge_index, weight


class AdvancedGCNConv(nn.Module):
    """P X W + b.

    Arguments:
        in_channels, out_channels: widths.
        exponent: α.

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, exponent: float = 0.6) -> None:
        super().__init__()
        self.exponent = exponent
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N D"]:
        edges, weights = advanced_norm(edge_index, edge_weight, len(x), self.exponent, x.dtype)
        return propagate(self.linear(x), edges, weights) + self.bias

    def extra_repr(self) -> str:
        return f"exponent={self.exponent}"


class Contrast(nn.Module):
    """The encoder of stage 2, one graph convolution and PReLU, and its bilinear discriminator.

    Arguments:
        in_features: F.
        width: of h.
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, width, bias=False)
        self.bias, self.slope = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.full((1,), 0.25))
        self.bilinear = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.bilinear)

    def forward(self, x: Float[Tensor, "N F"], step: SparseOperator) -> Float[Tensor, "N D"]:
        return self.activated(step(self.linear(x)))

    def activated(self, z: Tensor) -> Tensor:
        """PReLU(z + b)."""
        return prelu(z + self.bias, self.slope)

    def logits(
        self,
        x: Float[Tensor, "N F"],
        clean: SparseOperator,
        views: tuple[SparseOperator, ...],
        order: Int64[Tensor, " N"],
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """The discriminator's values at h and at h̃, whose features are x[order], added up over the summaries of the views."""
        z = self.linear(x)
        real, fake = self.activated(clean(z)), self.activated(clean(z[order]))
        summaries = [self.activated(view(z)).mean(0).sigmoid() for view in views]
        direction = self.bilinear @ torch.stack(summaries).sum(0)
        return real @ direction, fake @ direction

    def loss(self, x: Tensor, clean: SparseOperator, views: tuple[SparseOperator, ...], order: Tensor) -> Tensor:
        """Binary cross-entropy that tells h from h̃."""
        values = torch.cat(self.logits(x, clean, views, order))
        real = (torch.arange(len(values), device=values.device) < len(x)).to(values.dtype)
        return binary_cross_entropy_with_logits(values, real)


def restored(
    kept: Int64[Tensor, "2 E"], removed: Int64[Tensor, "2 R"], num_nodes: int, share: float, seed: int
) -> Int64[Tensor, "2 F"]:
    """The kept edges and a random share of the removed pairs; both directions of a pair return together."""
    code = removed.min(0).values * num_nodes + removed.max(0).values
    pairs, place = torch.unique(code, return_inverse=True)
    order = torch.randperm(len(pairs), generator=generator(seed, "restore"))
    back = torch.zeros(len(pairs), dtype=torch.bool).index_fill(0, order[: round(share * len(pairs))], True)
    return torch.cat([kept, removed[:, back[place]]], 1)


def refine(
    h: Float[Tensor, "N D"], edge_index: Int64[Tensor, "2 E"], threshold: float, neighbours: int, block: int = 1024
) -> Int64[Tensor, "2 F"]:
    """Stage 3: edges whose ends are not similar go, then each node is joined to the k most similar ones of degree > 1.

    Arguments:
        threshold: t; edges of cosine t or less go.
        neighbours: k.
        block: rows of similarities that are made at once.
    """
    n, unit = len(h), normalize(h, dim=1)
    source, target = edge_index
    pruned = edge_index[:, (unit[source] * unit[target]).sum(1) > threshold]
    joined = pruned[:, pruned[0] != pruned[1]]
    degree = torch.bincount(torch.unique(joined[0] * n + joined[1]) % max(n, 1), minlength=n)
    candidates = (degree > 1).nonzero().flatten()
    k, new = min(neighbours, len(candidates) - 1), []
    for rows in torch.arange(n).split(block) if k > 0 else ():
        near = (unit[rows] @ unit[candidates].T).masked_fill(rows[:, None] == candidates, -torch.inf)
        best = candidates[near.topk(k, 1).indices]
        new.append(torch.stack([rows[:, None].expand(-1, k).flatten(), best.flatten()]))
    if not new:
        return pruned
    added = torch.cat(new, 1)
    both = torch.unique(torch.cat([added, added.flip(0)], 1), dim=1)
    fresh = ~torch.isin(both[0] * n + both[1], pruned[0] * n + pruned[1])
    return torch.cat([pruned, both[:, fresh]], 1)


class StructureRefiner(BaseEstimator):
    """Stages 1 to 3.

    Arguments:
        width: of the embedding.
        jaccard: edges below this similarity of features are removed before the contrast.
        restore: share of the removed edges that returns in a view.
        threshold, neighbours: t and k of `refine`.
        steps, lr, patience: of Adam; the contrast stops when its loss has not fallen for `patience` steps.
        random_state: of weights, views and shuffles.

    After `fit`: `embedding_` (N, width) float32, and the refined `edge_index_`.
    """

    def __init__(
        self,
        width: int = 512,
        jaccard: float = 0.03,
        restore: float = 0.2,
        threshold: float = 0.1,
        neighbours: int = 5,
        steps: int = 500,
        lr: float = 1e-3,
        patience: int = 20,
        random_state: int = 0,
    ) -> None:
        self.width, self.jaccard, self.restore, self.threshold = width, jaccard, restore, threshold
        self.neighbours, self.steps, self.lr, self.patience = neighbours, steps, lr, patience
        self.random_state = random_state

    def fit(self, data: Data, y: None = None) -> StructureRefiner:
        """Learns the embedding of a graph's nodes and repairs its edges. No label is read."""
        if not 0 <= self.restore <= 1 or self.neighbours < 0 or self.width < 1 or self.steps < 1:
            raise ValueError("restore must be between 0 and 1, neighbours 0 or more, width and steps 1 or more.")
        if not torch.isfinite(data.x).all():
            raise ValueError("some features are not finite; repair or drop them.")
        x, edges, n = data.x, data.edge_index, len(data.x)
        keep = feature_jaccard(x, edges) >= self.jaccard
        kept, removed = edges[:, keep], edges[:, ~keep]
        clean = sparse_operator(*gcn_norm(kept, None, n, dtype=x.dtype), n)
        views = tuple(
            sparse_operator(*gcn_norm(restored(kept, removed, n, self.restore, derive(self.random_state, i)), None, n, dtype=x.dtype), n)
            for i in range(2)
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            model = Contrast(x.shape[1], self.width).to(x.dtype)
        optimizer, g = torch.optim.Adam(model.parameters(), lr=self.lr), generator(self.random_state, "shuffle")
        lowest, since, best = np.inf, 0, copy.deepcopy(model.state_dict())
        for _ in range(self.steps):
            optimizer.zero_grad()
            loss = model.loss(x, clean, views, torch.randperm(n, generator=g))
            loss.backward()
            value = loss.item()
            if value < lowest:
                lowest, since, best = value, 0, copy.deepcopy(model.state_dict())
            else:
                since += 1
            if since >= self.patience:
                break
            optimizer.step()
        model.load_state_dict(best)
        with torch.no_grad():
            h = model(x, clean)
            self.embedding_ = h.numpy()
            self.edge_index_ = refine(h, edges, self.threshold, self.neighbours)
        return self

    def fit_transform(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"]
    ) -> tuple[Int64[Tensor, "2 R"], Float[Tensor, "N D"]]:
        """The refined edges and the embedding."""
        self.fit(Data(x=x, edge_index=edge_index))
        return self.edge_index_, torch.from_numpy(self.embedding_)


class AdvancedGCN(nn.Module):
    """Stage 4: two `AdvancedGCNConv` with ReLU and dropout between them.

    Arguments:
        in_features, num_classes: widths.
        width: between the layers.
        exponent: α.
        rate: of the dropout.

    Shapes: x (N, in_features), edge_index (2, E), edge_weight (E,) -> logits (N, num_classes).
    """

    def __init__(
        self, in_features: int, num_classes: int, width: int = 16, exponent: float = 0.6, rate: float = 0.5
    ) -> None:
        super().__init__()
        self.first = AdvancedGCNConv(in_features, width, exponent)
        self.second = AdvancedGCNConv(width, num_classes, exponent)
        self.rate = rate

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Float[Tensor, "N C"]:
        hidden = self.first(x, edge_index, edge_weight).relu()
        return self.second(dropout(hidden, self.rate, self.training), edge_index, edge_weight)


def train_classifier(
    network: nn.Module, x: Tensor, edge_index: Tensor, y: Tensor, data: Data, steps: int, seed: int = 0
) -> nn.Module:
    """Adam at 0.01 with weight decay 5e-4 on the training nodes; the weights of the best step on the validation nodes, where there are any.

    Arguments:
        y: classes from 0, of all nodes; those outside the two masks are not read.
        data: has `train_mask`, or no mask where all nodes are for training, and perhaps `val_mask`.
    """
    train = data.train_mask if "train_mask" in data else torch.ones(len(x), dtype=torch.bool)
    valid = data.val_mask if "val_mask" in data else None
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=5e-4)
    best, state = -1.0, copy.deepcopy(network.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(network.train()(x, edge_index)[train], y[train]).backward()
            optimizer.step()
            if valid is None:
                continue
            with torch.no_grad():
                right = float((network.eval()(x, edge_index).argmax(1) == y)[valid].double().mean())
            if right > best:
                best, state = right, copy.deepcopy(network.state_dict())
    if valid is not None:
        network.load_state_dict(state)
    return network.eval()


class STABLE(ClassifierMixin, BaseEstimator):
    """All four stages.

    Arguments:
        width, jaccard, restore, threshold, neighbours, contrast_steps: of `StructureRefiner`.
        hidden, exponent: of the classifier; α is positive.
        steps: of the classifier.
        random_state: of all.

    `fit(data)` uses the labels of `train_mask` (all nodes where there is none), and those of `val_mask` to choose the step. `predict`
    speaks of the nodes of that graph. t and k are chosen on validation nodes, never on test nodes.
    """

    def __init__(
        self,
        width: int = 512,
        jaccard: float = 0.03,
        restore: float = 0.2,
        threshold: float = 0.1,
        neighbours: int = 5,
        contrast_steps: int = 500,
        hidden: int = 16,
        exponent: float = 0.6,
        steps: int = 200,
        random_state: int = 0,
    ) -> None:
        self.width, self.jaccard, self.restore, self.threshold = width, jaccard, restore, threshold
        self.neighbours, self.contrast_steps, self.hidden, self.exponent = neighbours, contrast_steps, hidden, exponent
        self.steps, self.random_state = steps, random_state

    def fit(self, data: Data) -> STABLE:
        """Repairs the graph, then trains the classifier on what it has learned of the nodes."""
        self.refiner_ = StructureRefiner(
            self.width, self.jaccard, self.restore, self.threshold, self.neighbours, self.contrast_steps,
            random_state=self.random_state,
        ).fit(data)  # fmt: skip
        self.classes_, y = torch.unique(data.y, return_inverse=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self.network_ = AdvancedGCN(self.width, len(self.classes_), self.hidden, self.exponent).to(data.x.dtype)
        h = torch.from_numpy(self.refiner_.embedding_)
        train_classifier(self.network_, h, self.refiner_.edge_index_, y, data, self.steps, self.random_state)
        return self

    @torch.no_grad()
    def predict_proba(self, data: Data | None = None) -> np.ndarray:
        """Probabilities (N, K) of the nodes of the graph of `fit`, columns in the order of `classes_`."""
        if not hasattr(self, "network_"):
            raise ValueError("this STABLE is not fitted; call fit(data) first.")
        h = torch.from_numpy(self.refiner_.embedding_)
        if data is not None and len(data.x) != len(h):
            raise ValueError(
                f"it was fitted to {len(h)} nodes and speaks of those only, got {len(data.x)}; fit it again."
            )
        return self.network_(h, self.refiner_.edge_index_).softmax(1).numpy()

    def predict(self, data: Data | None = None) -> np.ndarray:
        """Classes (N,)."""
        best = self.predict_proba(data).argmax(1)
        return self.classes_.numpy()[best]
