"""Non-local block: every position receives a weighted sum over all positions, whatever their distance.

    y_i = (1 / C(x)) Σ_j f(x_i, x_j) g(x_j)        z_i = x_i + BN(W_z y_i)

The affinity f is exp(x_i · x_j) ("gaussian"), exp(θ_i · φ_j) ("embedded_gaussian"), θ_i · φ_j ("dot") or ReLU(w_f · [θ_i, φ_j])
("concat"). For the first two C is the sum over j, so that they are a softmax; for the others it is the number of positions. The scale of
the BN starts at zero, and with it the block as the identity.

X. Wang, R. Girshick, A. Gupta, K. He, Non-local Neural Networks, 2017, arXiv:1711.07971.
"""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, max_pool2d, max_pool3d, relu

Affinity = Literal["gaussian", "embedded_gaussian", "dot", "concat"]


class NonLocal(nn.Module):
    """The block, for sequences, images and videos.

    Arguments:
        channels: of the map.
        affinity: f (see the module).
        hidden: width of θ, φ and g; None is half of the channels.
        subsample: keys and values are taken from the map after a max pool of 2 (of 1×2×2 in videos); queries never are. None: only
            in videos.
        scale: divides the products of a Gaussian by √d, d their width (not in the paper).

    Shapes: (B, channels, *places) -> the same, with one to three axes of places.
    """

    def __init__(
        self,
        channels: int,
        affinity: Affinity = "embedded_gaussian",
        hidden: int | None = None,
        subsample: bool | None = None,
        scale: bool = False,
    ) -> None:
        super().__init__()
        if affinity not in get_args(Affinity):
            raise ValueError(f"affinity must be one of {', '.join(get_args(Affinity))}, got {affinity!r}.")
        if scale and affinity not in ("gaussian", "embedded_gaussian"):
            raise ValueError(f"only the Gaussians are scaled, got affinity {affinity!r}.")
        hidden = max(channels // 2, 1) if hidden is None else hidden
        width = channels if affinity == "gaussian" else hidden
        self.affinity, self.subsample = affinity, subsample
        self.factor = width**-0.5 if scale else 1.0
        self.query, self.key = (
            nn.Identity() if affinity == "gaussian" else nn.Conv1d(channels, hidden, 1) for _ in range(2)
        )
        if affinity == "concat":
            self.query_score, self.key_score = (nn.Conv1d(hidden, 1, 1, bias=False) for _ in range(2))
        self.value = nn.Conv1d(channels, hidden, 1)
        self.out = nn.Conv1d(hidden, channels, 1)
        self.norm = nn.BatchNorm1d(channels)
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                nn.init.normal_(part.weight, std=0.01)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        nn.init.zeros_(self.norm.weight)

    def keys(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C K"]:
        """The positions j, sub-sampled or not."""
        video = x.ndim == 5
        if self.subsample or (self.subsample is None and video):
            kernel = [min(2, n) for n in x.shape[2:]]
            if video:
                kernel[0] = 1
            x = (max_pool1d, max_pool2d, max_pool3d)[x.ndim - 3](x, kernel)
        return x.flatten(2)

    def weights(self, queries: Float[Tensor, "B C Q"], keys: Float[Tensor, "B C K"]) -> Float[Tensor, "B Q K"]:
        """f(x_i, x_j) / C(x)."""
        query, key = self.query(queries), self.key(keys)
        if self.affinity == "concat":
            return relu(self.query_score(query).transpose(1, 2) + self.key_score(key)) / keys.shape[2]
        product = query.transpose(1, 2) @ key
        return product / keys.shape[2] if self.affinity == "dot" else (self.factor * product).softmax(2)

    def attention(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B Q K"]:
        """The weights of all keys for every query."""
        return self.weights(x.flatten(2), self.keys(x))

    def response(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C *places"]:
        """BN(W_z y), what the block adds to its input."""
        keys = self.keys(x)
        y = self.value(keys) @ self.weights(x.flatten(2), keys).transpose(1, 2)
        return self.norm(self.out(y)).reshape(x.shape)

    def forward(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C *places"]:
        return x + self.response(x)

    def extra_repr(self) -> str:
        return f"affinity={self.affinity!r}, subsample={self.subsample}"
