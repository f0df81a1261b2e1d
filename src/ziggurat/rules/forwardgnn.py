"""ForwardGNN: a graph network learns layer by layer from forward passes alone, without negative samples.

    input of layer l:  x_l = stopgrad(h_{l−1}) / ‖h_{l−1}‖, row by row
    single forward:    h_l = ReLU(conv_l(x_l)) on the graph with one virtual node a class,
                       L_l = cross-entropy(h_node · h_virtualᵀ / τ, y)

A virtual node has fixed random features and is joined to the training nodes of its class. No gradient crosses a layer. Prediction adds up
the softmax of all layers. `GraphForwardForward` is the direct adaptation of Forward-Forward that it is compared with: right and wrong
labels in the features (FF-LA) or in the wiring (FF-VN), and a goodness of each layer.

N. Park, X. Wang, A. Simoulin, S. Yang, G. Yang, R. Rossi, P. Trivedi, N. Ahmed, Forward Learning of Graph Neural Networks, 2024,
arXiv:2403.11004.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, one_hot, softplus
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

from ziggurat.data.batch import Batch
from ziggurat.data.feeds import WholeGraph
from ziggurat.data.seeds import generator
from ziggurat.graphs.propagation import check_edges
from ziggurat.nn.fitting import fit
from ziggurat.nn.recipe import Recipe
from ziggurat.rules.local import LocalLearner

CONVS = {"gcn": GCNConv, "sage": SAGEConv, "gat": GATConv}
Inputs = tuple[Tensor, Tensor, Tensor | None]


class VirtualClassNodes:
    """Adds one node a class behind the others, joined to the training nodes of that class; never to others, which would leak labels.

    Arguments:
        num_classes: C.
        both: edges in both directions, or from the virtual nodes only.
        seed: of their features, drawn from N(0, 1).

    Called with a graph that has `x`, `edge_index`, `y` and `train_mask`, or with (x, edge_index, edge_weight, labels), where a label
    of −1 joins a node to none: (x', edge_index', edge_weight').
    """

    def __init__(self, num_classes: int, both: bool = True, seed: int = 0) -> None:
        if num_classes < 2:
            raise ValueError(f"num_classes must be 2 or more, got {num_classes}.")
        self.num_classes, self.both, self.seed = num_classes, both, seed

    def __call__(self, data: Data) -> Inputs:
        return self.join(data.x, data.edge_index, getattr(data, "edge_weight", None), known_labels(data)[3])

    def join(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None,
        labels: Int64[Tensor, " N"],
    ) -> Inputs:
        """The graph with its virtual nodes as the last C."""
        check_edges(edge_index, len(x))
        if len(labels) and int(labels.max()) >= self.num_classes:
            raise ValueError(f"a label is {int(labels.max())}, and there are {self.num_classes} classes.")
        node = (labels >= 0).nonzero().flatten()
        down = torch.stack([len(x) + labels[node], node])
        edges = [edge_index, down, *([down.flip(0)] if self.both else [])]
        features = torch.randn(self.num_classes, x.shape[1], generator=generator(self.seed, "virtual")).to(x)
        if edge_weight is not None:
            added = sum(part.shape[1] for part in edges[1:])
            edge_weight = torch.cat([edge_weight, edge_weight.new_ones(added)])
        return torch.cat([x, features]), torch.cat(edges, 1), edge_weight


def known_labels(data: Data) -> tuple[Tensor, Tensor, Tensor | None, Int64[Tensor, " N"]]:
    """(x, edge_index, edge_weight, labels) where only training nodes have a label, and the others −1."""
    return data.x, data.edge_index, getattr(data, "edge_weight", None), torch.where(data.train_mask, data.y, -1)


class SingleForwardLayer(nn.Module):
    """Normalisation, convolution, ReLU; what comes in is detached.

    Arguments:
        in_channels, out_channels: widths.
        conv: "gcn", "sage" or "gat".

    Shapes: x (N, in_channels), edge_index (2, E), edge_weight (E,) -> (N, out_channels).
    """

    def __init__(self, in_channels: int, out_channels: int, conv: Literal["gcn", "sage", "gat"] = "gcn") -> None:
        super().__init__()
        if conv not in CONVS:
            raise ValueError(f"conv must be one of {', '.join(CONVS)}, got {conv!r}.")
        self.weighted = conv == "gcn"
        self.conv = CONVS[conv](in_channels, out_channels)

    def forward(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N D"]:
        check_edges(edge_index, len(x))
        edges = (edge_index, edge_weight) if self.weighted else (edge_index,)
        return self.conv(normalize(x.detach(), dim=1), *edges).relu()


class _Layers(LocalLearner):
    """What the rules below share: layers, the number of the only one that learns, and Adam.

    Attributes:
        only: the layer that learns at the moment; None lets all learn at once.
    """

    def __init__(
        self, widths: Sequence[int], sizes: Sequence[int], conv: Literal["gcn", "sage", "gat"], lr: float | None
    ) -> None:
        if not sizes:
            raise ValueError("give the width of at least one layer.")
        layers = [SingleForwardLayer(a, b, conv) for a, b in zip(widths, sizes, strict=True)]
        super().__init__(nn.ModuleList(layers), lr)
        self.only: int | None = None

    @property
    def layers(self) -> list[nn.Module]:
        return list(self.network.children())

    def recipe(self) -> Recipe:
        """Adam at a constant rate; layers share no parameter, so that one optimiser is as good as one for each."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 1e-3))


class ForwardGNN(_Layers):
    """Single forward: each layer's training nodes are to be like the virtual node of their class.

    Arguments:
        in_features: columns of x.
        num_classes: C.
        sizes: widths of the layers.
        conv: "gcn", "sage" or "gat".
        top_down: "none"; "input" gives a layer also the state above it, of the round before; "loss" takes the loss of the mean of a
            layer's output and those above it, which must be as wide.
        rounds: how often the states are renewed where there is top-down input.
        tau: τ.
        both: of the virtual edges, see `VirtualClassNodes`.
        lr: of Adam, 1e-3.

    Batches hold the graph with its virtual nodes, which the feed adds.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        sizes: Sequence[int] = (128, 128),
        conv: Literal["gcn", "sage", "gat"] = "gcn",
        top_down: Literal["none", "input", "loss"] = "none",
        rounds: int = 3,
        tau: float = 1.0,
        both: bool = True,
        lr: float | None = None,
    ) -> None:
        if top_down not in ("none", "input", "loss"):
            raise ValueError(f"top_down must be 'none', 'input' or 'loss', got {top_down!r}.")
        if not tau > 0 or rounds < 1:
            raise ValueError(f"tau must be positive and rounds 1 or more, got {tau} and {rounds}.")
        if top_down == "loss" and len(set(sizes)) > 1:
            raise ValueError(f"the mean with the layers above needs equal widths, got {tuple(sizes)}.")
        above = [*sizes[1:], 0] if top_down == "input" else [0] * max(len(sizes), 1)
        widths = [a + b for a, b in zip([in_features, *sizes[:-1]], above, strict=True)]
        super().__init__(widths, sizes, conv, lr)
        self.sizes, self.top_down, self.rounds, self.tau = tuple(sizes), top_down, rounds, tau
        self.virtual = VirtualClassNodes(num_classes, both)

    @property
    def feed(self) -> WholeGraph:
        return WholeGraph(precompute=self.virtual)

    def logits(self, h: Float[Tensor, "M D"]) -> Float[Tensor, "N C"]:
        """h_node · h_virtualᵀ / τ."""
        nodes, virtual = h.split([len(h) - self.virtual.num_classes, self.virtual.num_classes])
        return nodes @ virtual.T / self.tau

    def states(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Iterator[Tensor]:
        """Output of each layer, or with top-down loss its mean with those above, lazily; every one with a graph of its own."""
        held = self._held(x, edge_index, edge_weight)
        for i, layer in enumerate(self.layers):
            learns = self.only in (None, i)
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                h = layer(self._input(i, x, held), edge_index, edge_weight)
                shown = torch.stack([h, *held[i + 1 :]]).mean(0) if self.top_down == "loss" else h
            yield shown
            x = h.detach()

    @torch.no_grad()
    def _held(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None) -> list[Tensor]:
        """The states that top-down signals are taken from."""
        held = [x.new_zeros(len(x), size) for size in self.sizes]
        if self.top_down == "none":
            return held
        for _ in range(self.rounds if self.top_down == "input" else 1):
            new, below = [], x
            for i, layer in enumerate(self.layers):
                new.append(layer(self._input(i, below, held), edge_index, edge_weight))
                below = new[-1] if self.top_down == "loss" else held[i]
            held = new
        return held

    def _input(self, i: int, below: Tensor, held: list[Tensor]) -> Tensor:
        """What layer i reads: the state below, and with top-down input the one above; each row of each of them of length 1."""
        if self.top_down != "input" or i + 1 == len(held):
            return below
        return torch.cat([normalize(below.detach(), dim=1), normalize(held[i + 1], dim=1)], 1)

    def stream(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        for i, h in enumerate(self.states(*batch.inputs)):
            if self.only in (None, i):
                yield f"layer{i}", cross_entropy(batch.pick(self.logits(h)), batch.target, reduction="none")
            if self.only == i:
                return

    def predict(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Float[Tensor, "N C"]:
        """Probabilities of the layers, added up."""
        shares = [self.logits(h).softmax(1) for h in self.states(x, edge_index, edge_weight)]
        return torch.stack(shares).sum(0)

    def represent(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Float[Tensor, "M D"]:
        """The last layer's output, virtual nodes included."""
        return list(self.states(x, edge_index, edge_weight))[-1]


class GraphForwardForward(_Layers):
    """Forward-Forward on graphs: layers are active (Σ h² above θ) at training nodes with their right label, and calm with a wrong one.

    Arguments:
        in_features, num_classes, sizes, conv, lr: as of `ForwardGNN`.
        labels: "features" appends the label to the training nodes' features, and 1/C to the others' (FF-LA); "virtual" wires a virtual
            node to the training nodes of its class, in this direction (FF-VN).
        threshold: θ.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        sizes: Sequence[int] = (128, 128),
        conv: Literal["gcn", "sage", "gat"] = "gcn",
        labels: Literal["features", "virtual"] = "features",
        threshold: float = 2.0,
        lr: float | None = None,
    ) -> None:
        if labels not in ("features", "virtual"):
            raise ValueError(f"labels must be 'features' or 'virtual', got {labels!r}.")
        first = in_features + (num_classes if labels == "features" else 0)
        super().__init__([first, *sizes[:-1]], sizes, conv, lr)
        self.labels, self.threshold, self.virtual = labels, threshold, VirtualClassNodes(num_classes, both=False)

    @property
    def feed(self) -> WholeGraph:
        return WholeGraph(precompute=known_labels)

    def labelled(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, labels: Tensor) -> Inputs:
        """The graph with these labels in it; −1 is none."""
        if self.labels == "virtual":
            return self.virtual.join(x, edge_index, edge_weight, labels)
        shown = one_hot(labels.clamp_min(0), self.virtual.num_classes).to(x.dtype)
        shown = torch.where(labels[:, None] >= 0, shown, 1 / self.virtual.num_classes)
        return torch.cat([x, shown], 1), edge_index, edge_weight

    def states(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Iterator[Tensor]:
        """Output of each layer, lazily."""
        for i, layer in enumerate(self.layers):
            with torch.set_grad_enabled(self.only in (None, i) and torch.is_grad_enabled()):
                h = layer(x, edge_index, edge_weight)
            yield h
            x = h.detach()

    def stream(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x, edge_index, edge_weight, known = batch.inputs
        classes = self.virtual.num_classes
        wrong = (known + torch.randint(1, classes, known.shape, device=x.device)) % classes
        graphs = [self.labelled(x, edge_index, edge_weight, one) for one in (known, torch.where(known >= 0, wrong, -1))]
        for i, pair in enumerate(zip(*(self.states(*graph) for graph in graphs), strict=True)):
            if self.only in (None, i):
                right, other = (batch.pick(h[: len(x)]).square().sum(1) for h in pair)
                yield f"layer{i}", softplus(self.threshold - right) + softplus(other - self.threshold)
            if self.only == i:
                return

    def goodness(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, known: Tensor
    ) -> Iterator[Float[Tensor, "N C"]]:
        """Σ h² of each layer for every class, tried at all nodes at once."""
        tries = [
            self.states(*self.labelled(x, edge_index, edge_weight, torch.full_like(known, label)))
            for label in range(self.virtual.num_classes)
        ]
        for layer in zip(*tries, strict=True):
            yield torch.stack([h[: len(x)].square().sum(1) for h in layer], 1)

    def predict(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, known: Tensor) -> Float[Tensor, "N C"]:
        """Goodness summed over the layers."""
        return torch.stack(list(self.goodness(x, edge_index, edge_weight, known))).sum(0)

    def represent(
        self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None, known: Tensor
    ) -> Float[Tensor, "N D"]:
        """The last layer's output without any label."""
        graph = self.labelled(x, edge_index, edge_weight, torch.full_like(known, -1))
        return list(self.states(*graph))[-1][: len(x)]


def fit_layer_by_layer(learner: _Layers, batch: Batch, steps: int, seed: int = 0) -> _Layers:
    """Trains the first layer for `steps` steps, then the second on what it gives, and so on."""
    for i in range(len(learner.layers)):
        learner.only = i
        fit(learner, [batch], steps, seed=seed)
    learner.only = None
    return learner
