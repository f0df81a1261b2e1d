"""Faster R-CNN on a pyramid: proposals are pooled from the level that fits their size, and two layers say class and exact box.

S. Ren et al., 2015, arXiv:1506.01497; with a pyramid T.-Y. Lin et al., 2016, arXiv:1612.03144.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu, smooth_l1_loss

from ziggurat.data.boxes import clip_boxes
from ziggurat.vision.detection.anchors import decode, encode
from ziggurat.vision.detection.assigning import max_iou_assign, sample
from ziggurat.vision.detection.detector import Features, Images, Target, check_targets
from ziggurat.vision.detection.heads import ProposalHead, select
from ziggurat.vision.detection.roi_align import pyramid_roi_align
from ziggurat.vision.necks.fpn import FPN

SCALES = (10.0, 10.0, 5.0, 5.0)


class BoxHead(nn.Module):
    """Two fully connected layers shared by the class scores and the box offsets of every class.

    Arguments:
        channels, size: of the pooled maps.
        num_classes: K foreground classes; column K of the scores is the background.
        width: of both layers.
    """

    def __init__(self, channels: int, num_classes: int, size: int = 7, width: int = 1024) -> None:
        super().__init__()
        self.first = nn.Linear(channels * size * size, width)
        self.second = nn.Linear(width, width)
        self.classes = nn.Linear(width, num_classes + 1)
        self.offsets = nn.Linear(width, 4 * num_classes)
        nn.init.normal_(self.classes.weight, std=0.01)
        nn.init.normal_(self.offsets.weight, std=0.001)
        nn.init.zeros_(self.classes.bias)
        nn.init.zeros_(self.offsets.bias)

    def forward(self, pooled: Float[Tensor, "R C s s"]) -> tuple[Float[Tensor, "R K1"], Float[Tensor, "R K 4"]]:
        x = relu(self.second(relu(self.first(pooled.flatten(1)))))
        return self.classes(x), self.offsets(x).unflatten(1, (-1, 4))


class FasterRCNN(nn.Module):
    """The detector of two stages; called as every `Detector`.

    Arguments:
        features: backbone and neck; strides must be powers of two.
        proposals: the first stage.
        num_classes: K.
        pooled_levels: how many of the levels boxes are pooled from (an extra level only proposes).
        drawn: proposals an image that a step trains on, a quarter of them with an object.
        width: of the two layers.
        lowest: scores below it are not given.
    """

    def __init__(
        self,
        features: Features,
        proposals: ProposalHead,
        num_classes: int,
        pooled_levels: int = 4,
        drawn: int = 512,
        width: int = 1024,
        lowest: float = 0.05,
    ) -> None:
        super().__init__()
        self.features, self.proposals = features, proposals
        self.pooled_levels, self.drawn, self.lowest = pooled_levels, drawn, lowest
        self.num_classes = num_classes
        self.head = BoxHead(features.channels[0], num_classes, width=width)

    def forward(self, images: Images, targets: list[Target] | None = None) -> dict[str, Tensor] | list[Target]:
        batch, sizes = self.features.batch(images)
        strides = self.features.strides
        if self.training:
            check_targets(targets, len(sizes))
        levels = self.features(batch)
        with torch.no_grad():
            proposals = [p["boxes"] for p in self.proposals.detect(levels, strides, sizes)]
        if not self.training:
            return self._detect(levels, proposals, sizes)
        assert targets is not None
        return {**self.proposals.losses(levels, strides, targets), **self._losses(levels, proposals, targets)}

    def _pool(self, levels: list[Tensor], boxes: list[Tensor]) -> Tensor:
        return pyramid_roi_align(levels[: self.pooled_levels], self.features.strides[: self.pooled_levels], boxes)

    def _losses(self, levels: list[Tensor], proposals: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        boxes, labels, goals = [], [], []
        for own, target in zip(proposals, targets, strict=True):
            own = torch.cat([own, target["boxes"]])  # so that there is an example from the first step on
            matched = max_iou_assign(own, target["boxes"], 0.5, 0.5, keep_best=False)
            positive, negative = sample(matched, self.drawn, 0.25)
            used = positive | negative
            index = matched[used]
            boxes.append(own[used])
            found = index >= 0
            label = torch.full_like(index, self.num_classes)
            label[found] = target["labels"][index[found]]
            labels.append(label)
            goals.append(encode(target["boxes"][index[found]], own[used][found], SCALES))
        label = torch.cat(labels)
        scores, offsets = self.head(self._pool(levels, boxes))
        found = label < self.num_classes
        moves = offsets[found].gather(1, label[found][:, None, None].expand(-1, 1, 4))[:, 0]
        return {
            "classes": cross_entropy(scores, label),
            "boxes": smooth_l1_loss(moves, torch.cat(goals), beta=1.0, reduction="sum") / max(len(label), 1),
        }

    def _detect(self, levels: list[Tensor], proposals: list[Tensor], sizes: list[tuple[int, int]]) -> list[Target]:
        scores, offsets = self.head(self._pool(levels, proposals))
        counts = [len(p) for p in proposals]
        found = []
        for p, score, moves, size in zip(
            proposals, scores.softmax(1)[:, :-1].split(counts), offsets.split(counts), sizes, strict=True
        ):
            row, label = (score > self.lowest).nonzero(as_tuple=True)
            boxes = clip_boxes(decode(moves[row, label], p[row], SCALES), *size)
            found.append(select(boxes, score[row, label], label, label, size, 0.5, 100))
        return found


def faster_rcnn_fpn(
    backbone: nn.Module, num_classes: int, width: int = 256, hidden: int = 1024, drawn: int = 512, proposed: int = 1000
) -> FasterRCNN:
    """Faster R-CNN on the pyramid of all stages of a backbone, one anchor side of 8 strides a level, one level added for proposals.

    Arguments:
        width: of the pyramid.
        hidden: of the two layers behind the pooling.
        drawn: proposals an image that a step trains the second stage on.
        proposed: proposals an image.
    """
    channels: tuple[int, ...] = backbone.channels  # type: ignore[assignment]
    strides: tuple[int, ...] = backbone.strides  # type: ignore[assignment]
    neck = FPN(channels, strides, width, extra="pool")
    head = ProposalHead(width, [[8.0 * s] for s in neck.strides], after=proposed)
    return FasterRCNN(Features(backbone, neck), head, num_classes, len(channels), drawn, hidden)
