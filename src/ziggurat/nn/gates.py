"""Gates on channels: what the whole map says about how much each channel counts."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.conv import Activation


class SqueezeExcite(nn.Module):
    """Channels scaled by a gate that sees their means: x · gate(W₂ act(W₁ mean(x))).

    Arguments:
        channels: of the map.
        hidden: width between the two layers.
        act: between them.
        gate: makes the last function, by default the sigmoid.

    Works on maps of any number of axes: (B, C, *) -> (B, C, *).
    J. Hu, L. Shen, S. Albanie, G. Sun, E. Wu, 2017, arXiv:1709.01507.
    """

    def __init__(self, channels: int, hidden: int, act: Activation = nn.ReLU, gate: Activation = nn.Sigmoid) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.act, self.gate = act(), gate()

    def forward(self, x: Float[Tensor, "B C *places"]) -> Float[Tensor, "B C *places"]:
        means = x.flatten(2).mean(2)
        scale = self.gate(self.expand(self.act(self.reduce(means))))
        return x * scale.view(*scale.shape, *[1] * (x.ndim - 2))
