"""Fully convolutional networks: a classifier as convolutions gives a map of scores, and skips from shallower maps make it fine.

    32s: s5 ↑32        16s: (s5 ↑2 + s4) ↑16        8s: ((s5 ↑2 + s4) ↑2 + s3) ↑8

s5 are the scores behind the fully connected layers (as convolutions), s4 and s3 those of 1×1 convolutions of the fourth and third pooled
map, zero at the start. ↑ are transposed convolutions that start as bilinear interpolation; the last one stays so.

J. Long, E. Shelhamer, T. Darrell, Fully Convolutional Networks for Semantic Segmentation, 2014, arXiv:1411.4038; E. Shelhamer, J. Long,
T. Darrell, 2016, arXiv:1605.06211.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from ziggurat.nn.upsampling import BilinearUpsample
from ziggurat.vision.backbones.vgg import VGG

AT_ONCE = (0.01, 0.0001)
"""Of the maps of stride 16 and 8, when VGG-16 is trained with all skips at once: its activations are that large."""
CROPS = {32: (19,), 16: (5, 27), 8: (5, 9, 31)}
"""Where the original form, padded by 100, cuts: the fourth map, the third map, the scores of the image."""
PADDING = 100


class FCN(nn.Module):
    """What the three nets share.

    Arguments:
        num_classes: K.
        encoder: a `Staged` network whose last three stages have strides 8, 16 and 32; by default VGG-16.
        hidden: width of the two layers behind it, which were fully connected.
        kernel: of the first of them.
        padding: "same" pads every layer, and images to multiples of 32; "original" pads the image by 100 and cuts.
        dropout: behind both hidden layers.
        scales: of the maps of stride 16 and 8 in front of their scores; `AT_ONCE` for VGG-16 without normalisation.

    Shapes: (B, 3, H, W) -> (B, K, H, W).
    """

    skips: ClassVar[int] = 0

    def __init__(
        self,
        num_classes: int = 21,
        encoder: nn.Module | None = None,
        hidden: int = 4096,
        kernel: int = 7,
        padding: Literal["same", "original"] = "same",
        dropout: float = 0.5,
        scales: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        super().__init__()
        if padding not in ("same", "original"):
            raise ValueError(f"padding must be 'same' or 'original', got {padding!r}.")
        self.encoder = VGG(num_classes=0, hidden=0) if encoder is None else encoder
        channels, strides = self.encoder.channels, self.encoder.strides
        if strides[-3:] != (8, 16, 32):  # type: ignore[index]
            raise ValueError(f"the encoder's last stages must have strides 8, 16 and 32, got {strides}.")
        same = padding == "same"
        self.padding, self.scales = padding, scales
        self.hidden = nn.Sequential(
            nn.Conv2d(channels[-1], hidden, kernel, padding=kernel // 2 if same else 0),  # type: ignore[index, arg-type]
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.score = _zeros(nn.Conv2d(hidden, num_classes, 1))
        self.skip_scores = nn.ModuleList(
            _zeros(nn.Conv2d(channels[-2 - k], num_classes, 1))  # type: ignore[index, arg-type]
            for k in range(self.skips)
        )
        self.ups = nn.ModuleList(BilinearUpsample(num_classes, 2, crop=same) for _ in range(self.skips))
        self.stride = 32 >> self.skips
        self.last = BilinearUpsample(num_classes, self.stride, learned=False, crop=same)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K H W"]:
        height, width = x.shape[2:]
        if self.padding == "same":
            around = (0, -width % 32, 0, -height % 32)
        else:
            around = (PADDING - 1,) * 4  # the first convolution pads by one itself
        features = self.encoder.forward_features(pad(x, around))  # type: ignore[operator]
        cuts = (0,) * (self.skips + 1) if self.padding == "same" else CROPS[self.stride]
        scores = self.score(self.hidden(features[-1]))
        for k, (score, up) in enumerate(zip(self.skip_scores, self.ups, strict=True)):
            scores = up(scores)
            own = score(self.scales[k] * features[-2 - k])
            scores = scores + _cut(own, cuts[k], *scores.shape[2:])
        return _cut(self.last(scores), cuts[-1], height, width)


class FCN32s(FCN):
    """Scores of stride 32, enlarged."""

    skips = 0


class FCN16s(FCN):
    """With one skip, from the map of stride 16."""

    skips = 1


class FCN8s(FCN):
    """With two skips, from the maps of stride 16 and 8."""

    skips = 2


def _cut(x: Tensor, start: int, height: int, width: int) -> Tensor:
    return x[:, :, start : start + height, start : start + width]


def _zeros(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
