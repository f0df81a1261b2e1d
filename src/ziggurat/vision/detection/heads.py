"""Dense heads over the levels of a pyramid: region proposals, and RetinaNet's classes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot, smooth_l1_loss

from ziggurat.data.boxes import clip_boxes
from ziggurat.nn.losses.focal import focal_loss
from ziggurat.vision.detection.anchors import decode, encode, grid_anchors
from ziggurat.vision.detection.assigning import max_iou_assign, sample
from ziggurat.vision.detection.detector import Target
from ziggurat.vision.detection.nms import nms


def by_position(x: Float[Tensor, "B AK h w"], values: int) -> Float[Tensor, "B n values"]:
    """Maps of A · `values` channels as rows in the order (row, column, anchor)."""
    return x.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, values))


def select(
    boxes: Tensor, scores: Tensor, labels: Tensor, groups: Tensor, size: tuple[int, int], threshold: float, keep: int
) -> Target:
    """Boxes cut off at the image, the empty ones dropped, the overlapping ones of a group suppressed, the best `keep` left."""
    boxes = clip_boxes(boxes, *size)
    real = ((boxes[:, 2:] - boxes[:, :2]) > 1e-2).all(1)
    boxes, scores, labels, groups = boxes[real], scores[real], labels[real], groups[real]
    chosen = nms(boxes, scores, threshold, groups)[:keep]
    return {"boxes": boxes[chosen], "scores": scores[chosen], "labels": labels[chosen]}


class AnchorHead(nn.Module):
    """What proposals and RetinaNet share: anchors on every level, and scores and offsets for each of them.

    Arguments:
        sides: anchor sides in pixels, a sequence for each level.
        ratios: height / width of the anchors.

    A subclass gives `forward(levels) -> (scores (B, n, K) logits, offsets (B, n, 4))`.
    """

    def __init__(self, sides: Sequence[Sequence[float]], ratios: Sequence[float] = (0.5, 1.0, 2.0)) -> None:
        super().__init__()
        if len({len(own) for own in sides}) != 1:
            raise ValueError(f"every level needs the same number of anchor sides, got {[len(own) for own in sides]}.")
        self.sides, self.ratios = tuple(tuple(own) for own in sides), tuple(ratios)
        self.anchors_a_position = len(self.sides[0]) * len(self.ratios)

    def anchors(self, levels: list[Tensor], strides: Sequence[int]) -> list[Tensor]:
        """Anchors of every level."""
        if len(levels) != len(self.sides):
            raise ValueError(f"the head has anchors for {len(self.sides)} levels and got {len(levels)}.")
        found = grid_anchors([level.shape[2:] for level in levels], strides, self.sides, self.ratios)
        return [a.to(levels[0]) for a in found]

    def detect_with(
        self,
        levels: list[Tensor],
        strides: Sequence[int],
        sizes: list[tuple[int, int]],
        before: int,
        after: int,
        threshold: float,
        lowest: float,
        by_level: bool,
    ) -> list[Target]:
        """The best `before` scores of each level, decoded; suppression within levels or within classes; the best `after`."""
        anchors = self.anchors(levels, strides)
        logits, offsets = self(levels)
        counts, classes = [len(a) for a in anchors], logits.shape[2]
        found = []
        for scores, moves, size in zip(logits.sigmoid(), offsets, sizes, strict=True):
            parts: list[tuple[Tensor, ...]] = []
            for k, (own, shift, anchor) in enumerate(
                zip(scores.split(counts), moves.split(counts), anchors, strict=True)
            ):
                best, place = own.flatten().topk(min(before, own.numel()))
                place = place[best > lowest]
                best = best[best > lowest]
                labels = place % classes
                groups = torch.full_like(labels, k) if by_level else labels
                parts.append((decode(shift[place // classes], anchor[place // classes]), best, labels, groups))
            boxes, score, labels, groups = (torch.cat(p) for p in zip(*parts, strict=True))
            found.append(select(boxes, score, labels, groups, size, threshold, after))
        return found


class ProposalHead(AnchorHead):
    """The region proposal network: a 3×3 convolution, then objectness and offsets of every anchor; one head for all levels.

    Arguments:
        channels: of the levels.
        sides, ratios: of the anchors; with a pyramid one side a level.
        shared: False gives every level a head of its own (for levels that do not mean the same).
        drawn: anchors an image that a step trains on, half of them with an object where there are so many.
        before, after: proposals kept of each level, and of each image after suppression at IoU 0.7.

    S. Ren et al., Faster R-CNN, 2015, arXiv:1506.01497.
    """

    def __init__(
        self,
        channels: int,
        sides: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        shared: bool = True,
        drawn: int = 256,
        before: int = 1000,
        after: int = 1000,
    ) -> None:
        super().__init__(sides, ratios)
        self.drawn, self.before, self.after = drawn, before, after
        heads = 1 if shared else len(sides)
        a = self.anchors_a_position
        self.conv = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(heads)
        )
        self.objectness = nn.ModuleList(nn.Conv2d(channels, a, 1) for _ in range(heads))
        self.offsets = nn.ModuleList(nn.Conv2d(channels, 4 * a, 1) for _ in range(heads))
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, levels: list[Tensor]) -> tuple[Float[Tensor, "B n 1"], Float[Tensor, "B n 4"]]:
        scores, offsets = [], []
        for k, level in enumerate(levels):
            own = k % len(self.conv)
            x = self.conv[own](level)
            scores.append(by_position(self.objectness[own](x), 1))
            offsets.append(by_position(self.offsets[own](x), 4))
        return torch.cat(scores, 1), torch.cat(offsets, 1)

    def losses(self, levels: list[Tensor], strides: Sequence[int], targets: list[Target]) -> dict[str, Tensor]:
        """Cross-entropy of objectness and smooth L1 of the offsets, over the anchors drawn."""
        anchors = torch.cat(self.anchors(levels, strides))
        logits, offsets = self(levels)
        score_terms, box_terms, drawn = [], [], 0
        for score, moves, target in zip(logits[..., 0], offsets, targets, strict=True):
            matched = max_iou_assign(anchors, target["boxes"])
            positive, negative = sample(matched, self.drawn, 0.5)
            used = positive | negative
            drawn += int(used.sum())
            score_terms.append(
                binary_cross_entropy_with_logits(score[used], positive[used].to(score.dtype), reduction="sum")
            )
            want = encode(target["boxes"][matched[positive]], anchors[positive])
            box_terms.append(smooth_l1_loss(moves[positive], want, beta=1 / 9, reduction="sum"))
        return {
            "objectness": torch.stack(score_terms).sum() / max(drawn, 1),
            "proposal_boxes": torch.stack(box_terms).sum() / max(drawn, 1),
        }

    def detect(self, levels: list[Tensor], strides: Sequence[int], sizes: list[tuple[int, int]]) -> list[Target]:
        """Proposals: boxes with scores, all of class 0."""
        return self.detect_with(levels, strides, sizes, self.before, self.after, 0.7, -1.0, by_level=True)


class RetinaHead(AnchorHead):
    """RetinaNet: towers of four convolutions, then a score for every class and the offsets of every anchor, trained by the focal loss.

    Arguments:
        channels: of the levels.
        num_classes: K.
        sides: three an octave in the paper: s, s · 2^(1/3), s · 2^(2/3).
        depth: convolutions of each tower.
        prior: what every score starts at.
        lowest: scores below it are not given.

    T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv:1708.02002.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        sides: Sequence[Sequence[float]],
        ratios: Sequence[float] = (0.5, 1.0, 2.0),
        depth: int = 4,
        prior: float = 0.01,
        lowest: float = 0.05,
    ) -> None:
        super().__init__(sides, ratios)
        self.num_classes, self.lowest = num_classes, lowest
        a = self.anchors_a_position

        def tower(out: int) -> nn.Sequential:
            blocks: list[nn.Module] = []
            for _ in range(depth):
                blocks += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
            return nn.Sequential(*blocks, nn.Conv2d(channels, out, 3, padding=1))

        self.scores, self.offsets = tower(a * num_classes), tower(a * 4)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
        last = self.scores[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.constant_(last.bias, -math.log((1 - prior) / prior))

    def forward(self, levels: list[Tensor]) -> tuple[Float[Tensor, "B n K"], Float[Tensor, "B n 4"]]:
        scores = [by_position(self.scores(level), self.num_classes) for level in levels]
        return torch.cat(scores, 1), torch.cat([by_position(self.offsets(level), 4) for level in levels], 1)

    def losses(self, levels: list[Tensor], strides: Sequence[int], targets: list[Target]) -> dict[str, Tensor]:
        """Focal loss over all anchors and L1 over those with an object, each over the number of the latter."""
        anchors = torch.cat(self.anchors(levels, strides))
        logits, offsets = self(levels)
        score_terms, box_terms = [], []
        for score, moves, target in zip(logits, offsets, targets, strict=True):
            matched = max_iou_assign(anchors, target["boxes"], 0.5, 0.4)
            positive, used = matched >= 0, matched > -2
            goal = torch.zeros_like(score)
            goal[positive] = one_hot(target["labels"][matched[positive]], self.num_classes).to(goal.dtype)
            count = max(int(positive.sum()), 1)
            score_terms.append(focal_loss(score[used], goal[used]).sum() / count)
            want = encode(target["boxes"][matched[positive]], anchors[positive])
            box_terms.append((moves[positive] - want).abs().sum() / count)
        return {"classes": torch.stack(score_terms).mean(), "boxes": torch.stack(box_terms).mean()}

    def detect(self, levels: list[Tensor], strides: Sequence[int], sizes: list[tuple[int, int]]) -> list[Target]:
        """Boxes of every class, suppressed at IoU 0.5 within classes, the best 300."""
        return self.detect_with(levels, strides, sizes, 1000, 300, 0.5, self.lowest, by_level=False)
