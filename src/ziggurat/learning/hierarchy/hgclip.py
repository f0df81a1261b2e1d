"""HGCLIP: texts and image prototypes of all classes of a taxonomy go through a graph of it before images are compared with them.

The classes of all levels are nodes, and edges join parents and children. One graph encoder turns the features of their texts T into T',
another one the mean image features of their training images P into P'. Each position of an image looks at all classes:

    A = softmax_k(2 F P'ᵀ),   v' = mean_p A P' + max_p A P',   logits = s v·T' + 0.2 · 100 v'·T'       v and T' of length 1

F (positions, D) are the features of the positions, v those of the image. There is one block of logits for each level, and the loss is the
sum of their cross-entropies. The two encoders of images and texts are frozen; contexts of the texts and the graph encoders learn.

In the authors' release edges lead from parent to child only, just the first of eight heads is used (here their mean), v keeps its length,
and the finest level counts twice.

P. Xia, X. Yu, M. Hu, L. Ju, Z. Wang, P. Duan, Z. Ge, HGCLIP: Exploring Vision-Language Models with Graph Representations for Hierarchical
Understanding, 2023, arXiv:2311.14064.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, normalize
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

from ziggurat.data.batch import Batch
from ziggurat.data.label_levels import as_levels
from ziggurat.graphs.propagation import check_edges
from ziggurat.nn.learner import Learner
from ziggurat.nn.recipe import Recipe, warmup_cosine

CONVS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "gat": lambda a, b, heads: GATConv(a, b, heads, concat=False),
    "gcn": lambda a, b, heads: GCNConv(a, b),
    "sage": lambda a, b, heads: SAGEConv(a, b),
}
"""Layers of a graph encoder; each adds loops, or weights of its own for the node itself."""
LAYERS = 3


def level_sizes(levels: Int64[Tensor, "K L"]) -> list[int]:
    """How many classes each level has; raises a `ValueError` unless they are numbered 0, 1, … and the finest level is the class itself."""
    sizes = [len(column.unique()) for column in levels.T]
    if (levels.amin(0) < 0).any() or levels.amax(0).tolist() != [n - 1 for n in sizes]:
        raise ValueError("the classes of each level must be numbered from 0 without gaps.")
    if not torch.equal(levels[:, -1], torch.arange(len(levels))):
        raise ValueError("the last level must be the class itself, 0 … K − 1 in this order.")
    return sizes


def nodes_above(levels: Int64[Tensor, "K L"]) -> Int64[Tensor, "K L"]:
    """The node of each class on each level, where nodes are numbered level by level, the coarsest first."""
    sizes = torch.tensor([0, *level_sizes(levels)[:-1]])
    return levels + sizes.cumsum(0)


def hierarchy_edges(levels: Int64[Tensor, "K L"]) -> Int64[Tensor, "2 E"]:
    """Edges between every node and its parent, in both directions."""
    ways = nodes_above(levels)
    down = torch.cat([ways[:, i : i + 2] for i in range(ways.shape[1] - 1)] or [ways.new_zeros(0, 2)]).unique(dim=0).T
    return torch.cat([down, down.flip(0)], 1)


def node_prototypes(
    features: Float[Tensor, "N D"], labels: Int64[Tensor, " N"], levels: Int64[Tensor, "K L"]
) -> Float[Tensor, "nodes D"]:
    """The mean feature of all images at or below each node."""
    nodes, total = nodes_above(levels)[labels], sum(level_sizes(levels))
    count = torch.bincount(nodes.flatten(), minlength=total)
    if not count.all():
        raise ValueError(f"every class needs an image or more; node {int(count.argmin())} has none.")
    sums = features.new_zeros(total, features.shape[1])
    for column in nodes.T:
        sums.index_add_(0, column, features)
    return sums / count[:, None].to(features.dtype)


class MappedText(nn.Module):
    """Vectors of the classes' texts by a frozen model, and a linear map that is learnt: a text encoder of little weight.

    Arguments:
        vectors: of the nodes, (K, T).
        dim: width of the image features.

    Its call gives T (K, dim).
    """

    vectors: Tensor

    def __init__(self, vectors: Float[Tensor, "K T"] | Sequence[Sequence[float]], dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.as_tensor(vectors, dtype=torch.float32))
        self.map = nn.Linear(self.vectors.shape[1], dim)

    def forward(self) -> Float[Tensor, "K D"]:
        return self.map(self.vectors)


class PromptedText(nn.Module):
    """Texts whose first words are learnt: the context vectors of all classes, behind the first token and before those of the name.

    Arguments:
        tokens: embeddings of the names' tokens by the text encoder, (K, N, E), the start token first.
        encode: a frozen text encoder, (K, contexts + N, E) -> (K, D); it knows which positions are padding.
        contexts: how many vectors are learnt.

    Its call gives T (K, D).
    """

    tokens: Tensor

    def __init__(self, tokens: Float[Tensor, "K N E"], encode: Callable[[Tensor], Tensor], contexts: int = 4) -> None:
        super().__init__()
        if contexts < 1:
            raise ValueError(f"contexts must be 1 or more, got {contexts}.")
        self.register_buffer("tokens", tokens)
        self.context = nn.Parameter(0.02 * torch.randn(contexts, tokens.shape[2]))
        self.encode = encode
        if isinstance(encode, nn.Module):
            encode.requires_grad_(False)

    def forward(self) -> Float[Tensor, "K D"]:
        context = self.context.expand(len(self.tokens), -1, -1)
        return self.encode(torch.cat([self.tokens[:, :1], context, self.tokens[:, 1:]], 1))


class HierarchyEncoder(nn.Module):
    """Three graph layers with GELU between them.

    Arguments:
        dim: width of the input and the output.
        hidden: width between the layers.
        heads: of graph attention; their mean is taken.
        conv: "gat", "gcn" or "sage".
        residual: adds the input to the output, against what three layers smooth away; not in the paper.

    Shapes: x (K, dim), edge_index (2, E) -> (K, dim); without edges every node is by itself.
    """

    def __init__(
        self,
        dim: int,
        hidden: int = 1024,
        heads: int = 8,
        conv: Literal["gat", "gcn", "sage"] = "gat",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if conv not in CONVS:
            raise ValueError(f"conv must be one of {', '.join(CONVS)}, got {conv!r}.")
        widths = [dim, *[hidden] * (LAYERS - 1), dim]
        self.layers = nn.ModuleList(CONVS[conv](a, b, heads) for a, b in pairwise(widths))
        self.residual = residual

    def forward(self, x: Float[Tensor, "K D"], edge_index: Int64[Tensor, "2 E"]) -> Float[Tensor, "K D"]:
        check_edges(edge_index, len(x))
        y = self.layers[0](x, edge_index)
        for layer in self.layers[1:]:
            y = layer(gelu(y), edge_index)
        return x + y if self.residual else y


def class_attention(
    spatial: Float[Tensor, "B P D"], prototypes: Float[Tensor, "K D"], sharpness: float
) -> Float[Tensor, "B P K"]:
    """A: how much each position has of every class; the softmax is over the classes."""
    return (sharpness * spatial @ prototypes.T).softmax(-1)


def class_aware(
    spatial: Float[Tensor, "B P D"], prototypes: Float[Tensor, "K D"], sharpness: float
) -> Float[Tensor, "B D"]:
    """v': the mean and the largest value over the positions, added, of what each sees of the classes."""
    seen = class_attention(spatial, prototypes, sharpness) @ prototypes
    return seen.mean(1) + seen.amax(1)


class HierarchyGraphHead(nn.Module):
    """Compares images with the classes of all levels after both went through the graph of the taxonomy.

    Arguments:
        text: its call gives features of the nodes' texts (nodes, D), see `MappedText` and `PromptedText`.
        prototypes: mean image features of the nodes (nodes, D), see `node_prototypes`.
        levels: the labels of each class, coarse to fine (K, L), as of `label_levels`; nodes are numbered level by level.
        text_edges, image_edges: of the two graphs; None takes `hierarchy_edges(levels)`. Without edges an encoder is a perceptron on
            each node.
        hidden, heads, conv, residual: of the graph encoders.
        scale: s.
        sharpness: the factor in the softmax.
        weight: of the class-aware logits; 0 leaves them out.
        factor: of the class-aware logits.

    Shapes: global (B, D), spatial (B, P, D) -> a list of logits, (B, K_l) for each level.
    """

    levels: Tensor
    prototypes: Tensor
    text_edges: Tensor
    image_edges: Tensor

    def __init__(
        self,
        text: nn.Module,
        prototypes: Float[Tensor, "nodes D"] | Sequence[Sequence[float]],
        levels: Int64[Tensor, "K L"] | Sequence[Sequence[int]],
        text_edges: Int64[Tensor, "2 E"] | None = None,
        image_edges: Int64[Tensor, "2 F"] | None = None,
        hidden: int = 1024,
        heads: int = 8,
        conv: Literal["gat", "gcn", "sage"] = "gat",
        residual: bool = False,
        scale: float = 100.0,
        sharpness: float = 2.0,
        weight: float = 0.2,
        factor: float = 100.0,
    ) -> None:
        super().__init__()
        with torch.device(
            "cpu"
        ):  # what is counted here must be there, also when the network is made on the meta device
            table = as_levels(levels)
            edges, self.sizes = hierarchy_edges(table), level_sizes(table)
        means = torch.as_tensor(prototypes, dtype=torch.float32)
        if len(means) != sum(self.sizes):
            raise ValueError(
                f"the levels have {sum(self.sizes)} nodes, and there are {len(means)} prototypes; give one each."
            )
        self.register_buffer("levels", table)
        self.register_buffer("prototypes", means)
        self.register_buffer("text_edges", edges if text_edges is None else text_edges)
        self.register_buffer("image_edges", edges if image_edges is None else image_edges)
        self.text = text
        self.text_encoder = HierarchyEncoder(means.shape[1], hidden, heads, conv, residual)
        self.image_encoder = HierarchyEncoder(means.shape[1], hidden, heads, conv, residual) if weight else None
        self.scale, self.sharpness, self.weight, self.factor = scale, sharpness, weight, factor

    def class_texts(self) -> Float[Tensor, "nodes D"]:
        """T', of length 1."""
        return normalize(self.text_encoder(self.text(), self.text_edges), dim=1)

    def forward(self, image: Float[Tensor, "B D"], spatial: Float[Tensor, "B P D"]) -> list[Float[Tensor, "B _"]]:
        texts = self.class_texts()
        logits = self.scale * normalize(image, dim=1) @ texts.T
        if self.image_encoder is not None:
            prototypes = self.image_encoder(self.prototypes, self.image_edges)
            aware = class_aware(spatial, prototypes, self.sharpness)
            logits = logits + self.weight * self.factor * aware @ texts.T
        return list(logits.split(self.sizes, 1))

    def consistency(self, logits: Sequence[Tensor]) -> float:
        """Share of images whose predicted classes lie on one way through all levels."""
        predicted = torch.stack([one.argmax(1) for one in logits], 1)
        return float((predicted == self.levels[predicted[:, -1]]).all(1).double().mean())


class HGCLIP(Learner):
    """Trains the head on a frozen encoder of images, by the sum of the levels' cross-entropies.

    Arguments:
        network: a `Staged` backbone whose last map is as wide as its vector; it is frozen, in evaluation mode.
        head: a `HierarchyGraphHead`; `set_prototypes` gives it the means of training images.
        lr: of AdamW.
    """

    def __init__(self, network: nn.Module, head: HierarchyGraphHead, lr: float | None = None) -> None:
        super().__init__(network, lr)
        network.reset_classifier(0)  # type: ignore[operator]
        network.requires_grad_(False).eval()
        self.head = head

    def train(self, mode: bool = True) -> HGCLIP:
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def encode(self, *inputs: Tensor) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B P D"]]:
        """Features of the image and of its positions."""
        maps = self.network.forward_features(*inputs)  # type: ignore[operator]
        return self.network.forward_head(maps, pre_logits=True), maps[-1].flatten(2).mT  # type: ignore[operator]

    def represent(self, *inputs: Tensor) -> Tensor:
        return self.encode(*inputs)[0]

    def predict(self, *inputs: Tensor) -> Tensor:
        """Logits of the finest level."""
        return self.head(*self.encode(*inputs))[-1]

    @torch.no_grad()
    def set_prototypes(self, inputs: Tensor, labels: Int64[Tensor, " n"]) -> None:
        """The prototypes become the means of some images' features: of the training images as they are, and of no others."""
        found = node_prototypes(self.represent(inputs.to(self.device)).cpu(), labels, self.head.levels.cpu())
        self.head.prototypes.copy_(found)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        labels = self.head.levels[batch.target]
        return {
            f"level{n}": cross_entropy(one, labels[:, n], reduction="none")
            for n, one in enumerate(self.head(*self.encode(*batch.inputs)))
        }

    def recipe(self) -> Recipe:
        """AdamW with a short warm-up and a cosine."""
        return Recipe(torch.optim.AdamW(self.head.parameters(), lr=self.lr or 1e-3, weight_decay=1e-4), warmup_cosine)
