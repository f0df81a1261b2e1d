"""SSDLite: a single-shot detector on MobileNetV2 in which every 3×3 convolution of the head is depthwise separable.

The first map is the expansion in front of the last stride (stride 16), the second the last 1×1 convolution (stride 32); four thin
blocks halve it further. Each position has six default boxes.

M. Sandler et al., MobileNetV2, 2018, arXiv:1801.04381 (section 6.2); W. Liu et al., SSD, 2015, arXiv:1512.02325.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, smooth_l1_loss

from ziggurat.nn.conv import ConvNormAct, init_relu_network
from ziggurat.vision.backbones.mobilenet_v2 import MobileNetV2
from ziggurat.vision.detection.anchors import decode, encode
from ziggurat.vision.detection.assigning import max_iou_assign
from ziggurat.vision.detection.detector import Features, Images, Target, check_targets
from ziggurat.vision.detection.heads import by_position, select

SCALES = (10.0, 10.0, 5.0, 5.0)
RATIOS = (2.0, 3.0)


def default_boxes(
    shapes: Sequence[tuple[int, int]], size: int, least: float = 0.2, most: float = 0.95
) -> Float[Tensor, "n 4"]:
    """SSD's default boxes in pixels: sides from `least` to `most` of the image, evenly over the maps; ratios 1, 2, 3 and their inverses,
    and one more square between two maps' sides."""
    count = len(shapes)
    sides = [least + (most - least) * k / max(count - 1, 1) for k in range(count)] + [1.0]
    found = []
    for k, (height, width) in enumerate(shapes):
        between = (sides[k] * sides[k + 1]) ** 0.5
        shape = [(sides[k], sides[k]), (between, between)]
        for ratio in RATIOS:
            shape += [(sides[k] * ratio**0.5, sides[k] / ratio**0.5), (sides[k] / ratio**0.5, sides[k] * ratio**0.5)]
        half = torch.tensor(shape).clamp_max(1.0) * size / 2
        x, y = (torch.arange(width) + 0.5) * size / width, (torch.arange(height) + 0.5) * size / height
        centre = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)[:, :, None]
        found.append(torch.cat([centre - half, centre + half], -1).flatten(0, 2))
    return torch.cat(found)


class SSDLite(nn.Module):
    """The detector; called as every `Detector`.

    Arguments:
        num_classes: K.
        backbone: a `MobileNetV2` without classes; by default one of width 1.
        extra: widths of the added maps.
        image_size: side that images are brought to.
        lowest: scores below it are not given.
        negatives: background boxes a step trains on for each box with an object, the hardest ones.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: MobileNetV2 | None = None,
        extra: Sequence[int] = (512, 256, 256, 128),
        image_size: int = 320,
        lowest: float = 0.01,
        negatives: int = 3,
    ) -> None:
        super().__init__()
        self.num_classes, self.image_size = num_classes, image_size
        self.lowest, self.negatives = lowest, negatives
        backbone = MobileNetV2(0) if backbone is None else backbone
        self.features = Features(backbone)
        expansion = backbone.stages[-1][0].expand.conv.out_channels  # type: ignore[index, union-attr]
        channels = [int(expansion), backbone.num_features, *extra]  # type: ignore[arg-type]
        self.extra = nn.ModuleList(_thinner(a, b) for a, b in pairwise(channels[1:]))
        anchors = 2 + 2 * len(RATIOS)
        self.scores = nn.ModuleList(_separable(c, anchors * (num_classes + 1)) for c in channels)
        self.offsets = nn.ModuleList(_separable(c, anchors * 4) for c in channels)
        for part in (self.extra, self.scores, self.offsets):
            init_relu_network(part)

    def levels(self, x: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """The maps that boxes are read from."""
        network = self.features.backbone
        x = network.stem(x)  # type: ignore[operator]
        for stage in network.stages[:-1]:  # type: ignore[index]
            x = stage(x)
        strided, *rest = network.stages[-1]  # type: ignore[index, misc]
        wide = strided.expand(x)  # type: ignore[union-attr, operator]
        x = strided.project(strided.depthwise(wide))  # type: ignore[union-attr, operator]
        for block in rest:
            x = block(x)  # type: ignore[operator]
        found = [wide, network.last(x)]  # type: ignore[operator]
        for block in self.extra:
            found.append(block(found[-1]))
        return found

    def forward(self, images: Images, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Target]:
        if self.training:
            check_targets(targets, len(images))
        sizes = [(int(i.shape[1]), int(i.shape[2])) for i in images]
        side = (self.image_size, self.image_size)
        x, _ = self.features.batch([interpolate(i[None], side, mode="bilinear", antialias=True)[0] for i in images])
        levels = self.levels(x)
        k = self.num_classes + 1
        scores = torch.cat([by_position(head(m), k) for head, m in zip(self.scores, levels, strict=True)], 1)
        moves = torch.cat([by_position(head(m), 4) for head, m in zip(self.offsets, levels, strict=True)], 1)
        boxes = default_boxes([(m.shape[2], m.shape[3]) for m in levels], self.image_size).to(x)
        zoom = [x.new_tensor([self.image_size / w, self.image_size / h] * 2) for h, w in sizes]
        if not self.training:
            return self._detect(scores, moves, boxes, zoom, sizes)
        assert targets is not None
        return self._losses(
            scores, moves, boxes, [{**t, "boxes": t["boxes"] * z} for t, z in zip(targets, zoom, strict=True)]
        )

    def _losses(self, scores: Tensor, moves: Tensor, boxes: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Cross-entropy over boxes with an object and the hardest backgrounds, smooth L1 of the former's offsets."""
        class_terms, box_terms, count = [], [], 0
        for score, move, target in zip(scores, moves, targets, strict=True):
            matched = max_iou_assign(boxes, target["boxes"], 0.5, 0.5)
            positive = matched >= 0
            label = torch.full_like(matched, self.num_classes)
            label[positive] = target["labels"][matched[positive]]
            loss = cross_entropy(score, label, reduction="none")
            hardest = (
                loss.masked_fill(positive, -1).topk(min(max(self.negatives * int(positive.sum()), 1), len(loss))).values
            )
            class_terms.append(loss[positive].sum() + hardest[hardest >= 0].sum())
            goal = encode(target["boxes"][matched[positive]], boxes[positive], SCALES)
            box_terms.append(smooth_l1_loss(move[positive], goal, reduction="sum"))
            count += int(positive.sum())
        return {
            "classes": torch.stack(class_terms).sum() / max(count, 1),
            "boxes": torch.stack(box_terms).sum() / max(count, 1),
        }

    def _detect(
        self, scores: Tensor, moves: Tensor, boxes: Tensor, zoom: list[Tensor], sizes: list[tuple[int, int]]
    ) -> list[Target]:
        found = []
        for p, move, z, size in zip(scores.softmax(2)[..., :-1], moves, zoom, sizes, strict=True):
            best, place = p.flatten().topk(min(400, p.numel()))
            place, best = place[best > self.lowest], best[best > self.lowest]
            row, label = place // self.num_classes, place % self.num_classes
            found.append(select(decode(move[row], boxes[row], SCALES) / z, best, label, label, size, 0.5, 100))
        return found


def _separable(channels: int, out: int) -> nn.Sequential:
    """3×3 depthwise – BN – ReLU6, then 1×1."""
    return nn.Sequential(ConvNormAct(channels, channels, 3, groups=channels, act=nn.ReLU6), nn.Conv2d(channels, out, 1))


def _thinner(channels: int, out: int) -> nn.Sequential:
    """Half the size: 1×1 to half the width, a separable 3×3 of stride 2."""
    half = out // 2
    return nn.Sequential(
        ConvNormAct(channels, half, 1, act=nn.ReLU6),
        ConvNormAct(half, half, 3, 2, groups=half, act=nn.ReLU6),
        ConvNormAct(half, out, 1, act=nn.ReLU6),
    )
