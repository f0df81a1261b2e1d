"""Split attention: a convolution makes several versions of a map, and each channel chooses between them by what the whole map says.

    u_1 … u_R = ReLU(BN(grouped 3×3(x)))        g = mean over the places of Σ_r u_r
    a = softmax over r of W₂ ReLU(BN(W₁ g))     y = Σ_r a_r · u_r

With R = 1 there is nothing to choose between: a sigmoid takes the softmax's place, and the layer is squeeze-and-excitation.

H. Zhang et al., ResNeSt: Split-Attention Networks, 2020, arXiv:2004.08955.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import Activation, ConvNormAct, make_divisible


class SplitAttention(nn.Module):
    """A 3×3 convolution into `radix` splits, and their sum weighted by attention, for each channel.

    Arguments:
        channels: of the input and of the output; a multiple of radix · cardinality.
        radix: R, the splits.
        cardinality: K, the groups that each split consists of; each has an attention of its own.
        hidden: width of the attention; None is channels · radix / 4 in steps of 8, but 32 at least.
        act: behind the convolution's normalisation.

    Splits lie one behind the other in the convolution's output, and groups inside a split.
    Shapes: (B, channels, H, W) -> (B, channels, H, W).
    """

    def __init__(
        self,
        channels: int,
        radix: int = 2,
        cardinality: int = 1,
        hidden: int | None = None,
        act: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        if radix < 1 or cardinality < 1 or channels % (radix * cardinality):
            raise ValueError(
                f"channels must be a multiple of radix · cardinality, both 1 or more; got {channels} channels, "
                f"radix {radix} and cardinality {cardinality}."
            )
        hidden = max(make_divisible(channels * radix / 4), 32) if hidden is None else hidden
        if hidden % cardinality:
            raise ValueError(
                f"hidden must be a multiple of the cardinality {cardinality}, got {hidden}; give another one."
            )
        self.radix, self.cardinality = radix, cardinality
        self.conv = nn.Conv2d(channels, radix * channels, 3, padding=1, groups=radix * cardinality, bias=False)
        self.norm = nn.BatchNorm2d(radix * channels)
        self.act = act()
        self.squeeze = ConvNormAct(channels, hidden, 1, groups=cardinality)
        self.squeeze.conv = nn.Conv2d(channels, hidden, 1, groups=cardinality)  # with a bias, as the paper's
        self.excite = nn.Conv2d(hidden, radix * channels, 1, groups=cardinality)

    def splits(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B R C H W"]:
        """u_1 … u_R."""
        return self.act(self.norm(self.conv(x))).unflatten(1, (self.radix, -1))

    def attention(self, splits: Float[Tensor, "B R C H W"]) -> Float[Tensor, "B R C"]:
        """a_1 … a_R of the splits; for R > 1 they sum to one."""
        context = splits.sum(1).mean((2, 3), keepdim=True)
        logits = self.excite(self.squeeze(context)).flatten(1)
        if self.radix == 1:
            return torch.sigmoid(logits)[:, None]
        by_group = logits.unflatten(1, (self.cardinality, self.radix, -1)).transpose(1, 2)
        return by_group.softmax(1).flatten(2)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        splits = self.splits(x)
        return (self.attention(splits)[..., None, None] * splits).sum(1)

    def extra_repr(self) -> str:
        return f"radix={self.radix}, cardinality={self.cardinality}"
