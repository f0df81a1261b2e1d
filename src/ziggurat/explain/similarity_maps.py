"""Similarity maps: the cosine of two images under an embedding network, split exactly over the positions of each.

    e_a = Σ_p A_p,   s(a, b) = ⟨e_a, e_b⟩ / (|e_a| |e_b|),   M_a(p) = ⟨A_p, e_b⟩ / (|e_a| |e_b|),   Σ_p M_a(p) = s

A_p is what position p of the last map adds to the embedding: its features over their number where the network averages; where it takes the
maximum, the channels that come from p (ties share); times its block of the weights where a linear layer follows. Parts may be negative:
they speak against. Dividing by a length for every position, or a ReLU, would break the sum. No gradient is needed.

A. Stylianou, R. Souvenir, R. Pless, Visualizing Deep Similarity Networks, 2019, arXiv:1901.00536.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate, normalize

from ziggurat.explain.saliency import evaluating
from ziggurat.memory.indexes import ExactIndex

Pool = Literal["avg", "max", "flatten"]
EPSILON = 1e-12


class SimilarityMaps(NamedTuple):
    """Maps (B, H, W) of either image, each of the sum `score` (B,): the cosine of the two."""

    a: Tensor
    b: Tensor
    score: Tensor


def parts(features: Float[Tensor, "B K H W"], pool: Pool = "avg", head: nn.Linear | None = None) -> Tensor:
    """What each position adds to the embedding: (B, D, H, W), whose sum over positions is the embedding.

    Arguments:
        features: the last map.
        pool: what the network does with it: "avg", "max", or "flatten", which needs the linear layer behind it.
        head: the linear layer behind the pooling, where there is one; its bias is spread evenly.
    """
    if pool not in ("avg", "max", "flatten"):
        raise ValueError(f"pool must be 'avg', 'max' or 'flatten', got {pool!r}.")
    _, channels, height, width = features.shape
    inputs = channels * (height * width if pool == "flatten" else 1)
    if head is None and pool == "flatten":
        raise ValueError("a map that is flattened has one linear layer behind it; give it as head.")
    if head is not None and head.in_features != inputs:
        raise ValueError(
            f"the linear layer takes {head.in_features} numbers, and {channels} channels of {height}×{width} positions give {inputs}."
        )
    if pool == "avg":
        features = features / (height * width)
    if pool == "max":
        largest = features == features.amax((2, 3), keepdim=True)
        features = features * largest / largest.sum((2, 3), keepdim=True)
    if head is None:
        return features
    if pool == "flatten":
        blocks = head.weight.view(head.out_features, channels, height, width)
        features = torch.einsum("dkhw,bkhw->bdhw", blocks, features)
    else:
        features = torch.einsum("dk,bkhw->bdhw", head.weight, features)
    return features if head.bias is None else features + head.bias[:, None, None] / (height * width)


def similarity_map(
    features_a: Float[Tensor, "B K H W"],
    features_b: Float[Tensor, "B K h w"],
    pool: Pool = "avg",
    head: nn.Linear | None = None,
) -> SimilarityMaps:
    """Which positions of a are like b as a whole, and the other way round; pair by pair.

    Arguments:
        features_a, features_b: the last maps of B pairs of images; the sizes of the two may differ, unless they are flattened.
        pool, head: as of `parts`.
    """
    parts_a, parts_b = (parts(features, pool, head) for features in (features_a, features_b))
    a, b = parts_a.sum((2, 3)), parts_b.sum((2, 3))
    lengths = (a.norm(dim=1) * b.norm(dim=1)).clamp_min(EPSILON)
    return SimilarityMaps(
        torch.einsum("bdhw,bd->bhw", parts_a, b) / lengths[:, None, None],
        torch.einsum("bdhw,bd->bhw", parts_b, a) / lengths[:, None, None],
        (a * b).sum(1) / lengths,
    )


def upsample_map(maps: Float[Tensor, "B h w"], size: tuple[int, int]) -> Float[Tensor, "B H W"]:
    """Maps at the size of the image, bilinearly, for people; what is counted stays at the size of the features."""
    return interpolate(maps[:, None], size, mode="bilinear")[:, 0]


def signed_colours(maps: Float[Tensor, "B H W"]) -> Float[Tensor, "B 3 H W"]:
    """Red speaks for, blue against, white is zero; the largest size of a part in each map has the full colour."""
    share = maps / maps.abs().amax((1, 2), keepdim=True).clamp_min(EPSILON)
    fade = 1 - share.abs()
    return torch.stack([torch.where(share < 0, fade, 1), fade, torch.where(share > 0, fade, 1)], 1)


class SimilarityVisualizer:
    """Maps of pairs of images under one network.

    Arguments:
        network: `Staged`; its last map is split.
        pool, head: what it does with that map, as of `parts`.
        embed: how the network really embeds images; None takes the vector before its classifier. The maps add up to its cosine only
            where pool and head say all that it does: `residual` tells.
    """

    def __init__(
        self,
        network: nn.Module,
        pool: Pool = "avg",
        head: nn.Linear | None = None,
        embed: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not hasattr(network, "forward_features"):
            raise ValueError(f"{type(network).__name__} has no maps to split; give a Staged network of images.")
        self.network, self.pool, self.head, self.embed = network, pool, head, embed

    @torch.no_grad()
    def __call__(self, a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C h w"]) -> SimilarityMaps:
        """Maps at the size of the features."""
        with evaluating(self.network):
            return similarity_map(self._features(a), self._features(b), self.pool, self.head)

    @torch.no_grad()
    def residual(self, a: Float[Tensor, "B C H W"], b: Float[Tensor, "B C h w"]) -> Float[Tensor, " B"]:
        """The network's own cosine minus the sum of the maps: 0 where the split is exact."""
        with evaluating(self.network):
            own = cosine_similarity(self._embedding(a), self._embedding(b))
        return own - self(a, b).score

    def _features(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return network.forward_features(x)[-1]

    def _embedding(self, x: Tensor) -> Tensor:
        if self.embed is not None:
            return self.embed(x)
        network: Any = self.network
        return network.forward_head(network.forward_features(x), pre_logits=True)


def region_embedding(
    features: Float[Tensor, "B K H W"],
    mask: Bool[Tensor, "B H W"],
    pool: Pool = "avg",
    head: nn.Linear | None = None,
) -> Float[Tensor, "B D"]:
    """The embedding, of length one, of the positions inside a mask alone.

    Arguments:
        mask: at the size of the features.
        pool, head: as of `parts`; the maximum is that inside the mask.
    """
    if mask.shape != (len(features), *features.shape[2:]):
        raise ValueError(
            f"maps of {tuple(features.shape[2:])} positions need masks of as many, got {tuple(mask.shape)}."
        )
    if not mask.any((1, 2)).all():
        raise ValueError("a mask is empty; mark one position of each image or more.")
    if pool == "max":
        inside = features.masked_fill(~mask[:, None], -torch.inf).amax((2, 3))
        return normalize(inside if head is None else head(inside), dim=1)
    return normalize((parts(features, pool, head) * mask[:, None]).sum((2, 3)), dim=1)


@torch.no_grad()
def region_search(
    index: ExactIndex,
    features: Float[Tensor, "B K H W"],
    mask: Bool[Tensor, "B H W"],
    k: int,
    pool: Pool = "avg",
    head: nn.Linear | None = None,
) -> tuple[Any, Any]:
    """Searches for parts of images among whole ones, without another forward pass.

    Arguments:
        index: over embeddings of whole images, by the cosine; an `HNSWIndex` is one, too.
        features, mask, pool, head: as of `region_embedding`.
        k: how many are wanted.

    Returns: keys and distances (B, k), nearest first, as the index gives them.
    """
    return index.search(region_embedding(features, mask, pool, head).cpu().numpy(), k)
