"""Graph autoencoders: a graph convolutional network embeds the nodes, and inner products of the embeddings say what is linked.

    Z = GCN(X, A),   p(i ~ j) = σ(z_i · z_j)
    variational: (μ, log s) = GCN(X, A),   z = μ + s ε,   loss = reconstruction + KL(N(μ, s²) ‖ N(0, 1)) / N

The reconstruction is the cross-entropy over all N² pairs, the 2E entries of the adjacency weighted by (N² − 2E) / 2E, or the one over
the links and as many drawn pairs. It is a mean; the bound of N² pairs, divided by N², leaves the divergence as a mean over nodes over N.

A member of the survey by Z. Wu et al., 2019, arXiv:1901.00596. T. Kipf, M. Welling, Variational Graph Auto-Encoders, 2016,
arXiv:1611.07308.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ziggurat.graphs.baselines import GCN
from ziggurat.graphs.propagation import check_edges


def all_pairs_loss(z: Float[Tensor, "N D"], edge_index: Int64[Tensor, "2 E2"]) -> Float[Tensor, ""]:
    """N² / (2 (N² − 2E)) times the mean weighted cross-entropy of all pairs, a node with itself included. Memory grows with N².

    Arguments:
        edge_index: the links that should be reconstructed, both directions, each once.

    The factor makes links and other pairs weigh one half each.
    """
    n, linked = len(z), edge_index.shape[1]
    if not 0 < linked < n * n:
        raise ValueError(f"a graph with {linked} of {n * n} entries linked has nothing to tell apart; give some links.")
    target = z.new_zeros(n, n).index_put((edge_index[0], edge_index[1]), z.new_ones(()))
    weight = z.new_tensor((n * n - linked) / linked)
    return n * n / (2 * (n * n - linked)) * binary_cross_entropy_with_logits(z @ z.T, target, pos_weight=weight)


def sampled_loss(linked: Float[Tensor, " P"], unlinked: Float[Tensor, " Q"]) -> Float[Tensor, ""]:
    """The mean of −log σ(s) over logits of links plus that of −log σ(−s) over logits of other pairs."""
    return softplus(-linked).mean() + softplus(unlinked).mean()


def gaussian_kl(mean: Float[Tensor, "N D"], log_scale: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """KL(N(μ, s²) ‖ N(0, 1)) of a node, as the mean over nodes."""
    return 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1).mean()


class GAE(nn.Module):
    """The autoencoder.

    Arguments:
        in_features: columns of x.
        width: of the hidden layer.
        dim: of the embeddings.
        dropout: on the features and on the hidden layer.

    Shapes: x (N, in_features), edge_index (2, E) both directions, pairs (2, P) -> logits (P,). Give the encoder no link that is asked
    for in a test.
    """

    def __init__(self, in_features: int, width: int = 32, dim: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, got {dim}.")
        self.encoder = GCN(in_features, dim, width, dropout)

    def encode(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N D"]:
        """Z."""
        return self.encoder(x, edge_index, edge_weight)

    def forward(
        self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"], pairs: Int64[Tensor, "2 P"]
    ) -> Float[Tensor, " P"]:
        check_edges(pairs, len(x))
        z = self.encode(x, edge_index)
        return (z[pairs[0]] * z[pairs[1]]).sum(1)

    def loss(self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"]) -> Float[Tensor, ""]:
        """Of reconstructing the very edges that are seen, over all pairs."""
        return all_pairs_loss(self.encode(x, edge_index), edge_index)


class VGAE(GAE):
    """The variational one: while training the embeddings are drawn from torch's generator, in evaluation they are μ.

    Arguments as of `GAE`. μ and log s share the hidden layer.
    """

    def __init__(self, in_features: int, width: int = 32, dim: int = 16, dropout: float = 0.0) -> None:
        super().__init__(in_features, width, dim, dropout)
        self.encoder = GCN(in_features, 2 * dim, width, dropout)

    def distribution(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, "N D"]]:
        """μ and log s."""
        mean, log_scale = self.encoder(x, edge_index, edge_weight).chunk(2, 1)
        return mean, log_scale

    def drawn(self, mean: Float[Tensor, "N D"], log_scale: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
        """μ + s ε while training, μ in evaluation."""
        return mean + log_scale.exp() * torch.randn_like(mean) if self.training else mean

    def encode(
        self,
        x: Float[Tensor, "N F"],
        edge_index: Int64[Tensor, "2 E"],
        edge_weight: Float[Tensor, " E"] | None = None,
    ) -> Float[Tensor, "N D"]:
        return self.drawn(*self.distribution(x, edge_index, edge_weight))

    def loss(self, x: Float[Tensor, "N F"], edge_index: Int64[Tensor, "2 E"]) -> Float[Tensor, ""]:
        mean, log_scale = self.distribution(x, edge_index)
        return all_pairs_loss(self.drawn(mean, log_scale), edge_index) + gaussian_kl(mean, log_scale) / len(x)
