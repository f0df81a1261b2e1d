"""VQGraph: a graph network names each node's surroundings by a codeword; a perceptron learns from these names, softly, as from its labels.

    tokenizer   h = drop(ReLU(conv(x))),  q = codeword(h),  e = W q,  logits = W' ReLU(conv(e))
                L = CE + ¼ |h − q|² + λ_n |W'' q − h|² + λ_e √MSE(A, minmax(e eᵀ))
    student     L = CE + KL(teacher ‖ student) + a t² KL( softmax(s(h, C) / t) ‖ softmax(s(g(hidden), C) / t) )

C are the codewords, frozen for the student, and s is ten times the cosine (the cosine alone would be nearly uniform at t = 4), or minus the
Euclidean distance. With a = 0 the student is GLNN. Only the perceptron is used afterwards.

L. Yang, Y. Tian, M. Xu, Z. Liu, S. Hong, W. Qu, W. Zhang, B. Cui, M. Zhang, J. Leskovec, VQGraph: Rethinking Graph Representation Space
for Bridging GNNs and MLPs, 2024, arXiv:2308.02117.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize
from torch_geometric.nn import GCNConv

from ziggurat.data.batch import GraphBatch
from ziggurat.graphs.propagation import check_edges
from ziggurat.graphs.staged import StagedGraph
from ziggurat.learning.distill.soft_targets import SoftBatch, SoftTargets, kl_to_soft
from ziggurat.nn.learner import Learner
from ziggurat.nn.operators.vector_quantizer import Quantized, VectorQuantizer
from ziggurat.nn.recipe import Recipe
from ziggurat.nn.staged import Classifier

Similarity = Literal["cosine", "euclidean"]


def similarities(
    x: Float[Tensor, "N d"], codebook: Float[Tensor, "K d"], kind: Similarity = "cosine", scale: float = 10.0
) -> Float[Tensor, "N K"]:
    """`scale` times the cosine of each row and codeword, or minus their Euclidean distance."""
    if kind == "cosine":
        return scale * normalize(x, dim=1) @ normalize(codebook, dim=1).T
    if kind == "euclidean":
        return -torch.cdist(x, codebook)
    raise ValueError(f"the similarity must be 'cosine' or 'euclidean', got {kind!r}.")


class Tokens(NamedTuple):
    """Of every node: the `hidden` vector (N, d), its codeword (`quantized`), and the `embedding` e (N, d) made from that."""

    hidden: Tensor
    quantized: Quantized
    embedding: Tensor


class GraphTokenizer(StagedGraph):
    """The teacher: two graph convolutions with a codebook between them.

    Arguments:
        in_features: numbers a node.
        num_classes: 0 gives features.
        dim: d, also the width of the second convolution; None takes in_features, as the official code does.
        codes: K.
        decay: of the codebook's average.
        dropout: behind the first convolution.

    Shapes: x (N, F), edge_index (2, E), edge_weight (E,) -> (N, num_classes); with `batch` (N,) naming each node's graph, the mean over
    each graph's nodes goes to the classifier. `tokenize` gives `Tokens`, `assignments` the soft codes (N, K).
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        dim: int | None = 128,
        codes: int = 512,
        decay: float = 0.8,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        dim = in_features if dim is None else dim
        self.stem = nn.Identity()
        self.stages = nn.ModuleList([GCNConv(in_features, dim), GCNConv(dim, dim)])
        self.act, self.last_act, self.dropout = nn.ReLU(), nn.ReLU(), nn.Dropout(dropout)
        self.quantizer = VectorQuantizer(dim, codes, decay)
        self.decode = nn.Linear(dim, dim)
        self.channels, self.num_features = (dim, dim), dim
        self.head = Classifier(dim, num_classes, pool="none")

    def encode(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N d"]:
        """h."""
        check_edges(edge_index, len(x))
        return self.dropout(self.act(self.stages[0](self.stem(x), edge_index, edge_weight)))

    def tokenize(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Tokens:
        """h, its codeword and e."""
        hidden = self.encode(x, edge_index, edge_weight)
        quantized = self.quantizer(hidden)
        return Tokens(hidden, quantized, self.decode(quantized.values))

    def after_tokens(
        self, tokens: Tokens, edge_index: Int64[Tensor, "2 E"], edge_weight: Float[Tensor, " E"] | None = None
    ) -> Float[Tensor, "N d"]:
        """ReLU(conv(e)), what the classifier takes."""
        return self.last_act(self.stages[1](tokens.embedding, edge_index, edge_weight))

    def forward_features(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
        batch: Int64[Tensor, " N"] | None = None,
    ) -> list[Tensor]:
        tokens = self.tokenize(x, edge_index, edge_weight)
        return [tokens.hidden, self.after_tokens(tokens, edge_index, edge_weight)]

    def assignments(
        self, hidden: Float[Tensor, "N d"], temperature: float = 4.0, kind: Similarity = "cosine", scale: float = 10.0
    ) -> Float[Tensor, "N K"]:
        """softmax(s(h, C) / t)."""
        return (similarities(hidden, self.quantizer.codebook, kind, scale) / temperature).softmax(1)


def edge_loss(
    embedding: Float[Tensor, "N d"], edge_index: Int64[Tensor, "2 E"], nodes: Int64[Tensor, " B"]
) -> Float[Tensor, ""]:
    """√MSE(A, minmax(e eᵀ)) between the given nodes."""
    place = edge_index.new_full((len(embedding),), -1).scatter(0, nodes, torch.arange(len(nodes), device=nodes.device))
    ends = place[edge_index]
    ends = ends[:, (ends >= 0).all(0)]
    one = embedding.new_ones(())
    linked = embedding.new_zeros(len(nodes), len(nodes)).index_put((ends[0], ends[1]), one)
    products = embedding[nodes] @ embedding[nodes].T
    low, high = products.min(), products.max()
    return (mse_loss((products - low) / (high - low).clamp_min(1e-12), linked) + 1e-12).sqrt()


class TokenizerTraining(Learner):
    """Trains a `GraphTokenizer`; its codebook starts at random nodes' vectors and moves after every step.

    Arguments:
        network: the tokenizer.
        commitment, node, edge: weights of the terms besides cross-entropy.
        block: nodes a step whose links are reconstructed.
        lr: of Adam, 0.01.
    """

    def __init__(
        self,
        network: GraphTokenizer,
        commitment: float = 0.25,
        node: float = 0.001,
        edge: float = 0.03,
        block: int = 1024,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if block < 1 or min(commitment, node, edge) < 0:
            raise ValueError("block must be 1 or more; commitment, node and edge must not be negative.")
        self.commitment, self.node, self.edge, self.block = commitment, node, edge, block
        self.rebuild = nn.Linear(network.num_features, network.num_features)

    def losses(self, batch: GraphBatch) -> dict[str, Tensor]:
        network: Any = self.network
        x, edge_index, *weight = batch.inputs
        tokens = network.tokenize(x, edge_index, *weight)
        logits = network.forward_head([tokens.hidden, network.after_tokens(tokens, edge_index, *weight)])
        nodes = torch.randperm(len(x), device=x.device)[: self.block]
        return {
            "cross_entropy": cross_entropy(batch.pick(logits), batch.target, reduction="none"),
            "commitment": self.commitment * tokens.quantized.commitment,
            "node": self.node * mse_loss(self.rebuild(tokens.quantized.values), tokens.hidden),
            "edge": self.edge * edge_loss(tokens.embedding, edge_index, nodes),
        }

    def after_step(self, batch: GraphBatch) -> None:
        network: Any = self.network
        hidden = network.encode(*batch.inputs)
        if not network.quantizer.started:
            network.quantizer.start(hidden)
        network.quantizer.update(hidden)

    def recipe(self) -> Recipe:
        """Adam with weight decay."""
        return Recipe(torch.optim.Adam(self.parameters(), lr=self.lr or 0.01, weight_decay=5e-4))


@dataclass
class TokenBatch(SoftBatch):
    """With the teacher's soft codes (N, K)."""

    assignments: Tensor | None = None


@dataclass(frozen=True)
class TokenTargets(SoftTargets):
    """Soft labels and soft codes of a tokenizer.

    Arguments:
        code_temperature, similarity, scale: of the soft codes.
    """

    code_temperature: float = 4.0
    similarity: Similarity = "cosine"
    scale: float = 10.0

    def prepare(self, data: Any) -> TokenBatch:
        soft = SoftTargets.prepare(self, data)
        teacher: Any = self.teacher
        training = teacher.training
        teacher.eval()
        with torch.no_grad():
            hidden = teacher.encode(*self.teacher_inputs(data))
            codes = teacher.assignments(hidden, self.code_temperature, self.similarity, self.scale)
        teacher.train(training)
        return TokenBatch(soft.inputs, soft.target, soft.index, mask=soft.mask, soft=soft.soft, assignments=codes)


class VQGraph(Learner):
    """Trains a network of features alone on labels, a tokenizer's soft labels and its soft codes.

    Arguments:
        network: the student, `Staged` on rows; the paper's is a perceptron with 128 hidden units.
        teacher: a trained `GraphTokenizer`; it is frozen.
        weight: a, of the soft codes; 0 is GLNN.
        temperature: t, of the soft codes.
        similarity: of the student's vectors and codewords.
        teacher_similarity: of the teacher's; None takes the same. (Official: "cosine" here, "euclidean" above, scale 1, weight 1e-8.)
        scale: of the cosine.
        lr: of Adam, 0.01.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: GraphTokenizer,
        weight: float = 1.0,
        temperature: float = 4.0,
        similarity: Similarity = "cosine",
        teacher_similarity: Similarity | None = None,
        scale: float = 10.0,
        lr: float | None = None,
    ) -> None:
        super().__init__(network, lr)
        if weight < 0 or not temperature > 0 or not scale > 0:
            raise ValueError(
                f"weight must not be negative, temperature and scale positive, got {weight}, {temperature}, {scale}."
            )
        self.teacher = teacher.requires_grad_(False)
        self.weight, self.temperature, self.similarity, self.scale = weight, temperature, similarity, scale
        self.teacher_similarity: Similarity = teacher_similarity or similarity
        self.to_codes = nn.Linear(int(network.num_features), teacher.num_features)  # type: ignore[arg-type]

    @property
    def feed(self) -> TokenTargets:
        return TokenTargets(
            teacher=self.teacher,
            code_temperature=self.temperature,
            similarity=self.teacher_similarity,
            scale=self.scale,
        )

    def losses(self, batch: TokenBatch) -> dict[str, Tensor]:
        assert batch.soft is not None and batch.assignments is not None
        network: Any = self.network
        features = network.forward_features(*batch.inputs)
        logits = network.forward_head(features)
        terms = {
            "label": cross_entropy(batch.pick(logits), batch.target, reduction="none"),
            "soft": kl_to_soft(batch.soft, logits.log_softmax(1)).mean(),
        }
        if self.weight:
            seen = self.to_codes(network.forward_head(features, pre_logits=True))
            own = similarities(seen, self.teacher.quantizer.codebook, self.similarity, self.scale)
            codes = (own / self.temperature).log_softmax(1)
            terms["codes"] = self.weight * kl_to_soft(batch.assignments, codes, self.temperature).mean()
        return terms

    def predict(self, x: Float[Tensor, "B F"]) -> Float[Tensor, "B K"]:
        """Logits from features: no graph."""
        return self.network(x)

    def recipe(self) -> Recipe:
        """Adam with weight decay."""
        parameters = [*self.network.parameters(), *self.to_codes.parameters()]
        return Recipe(torch.optim.Adam(parameters, lr=self.lr or 0.01, weight_decay=5e-4))
