"""ProtoPNet: an image is scored only by how much its patches resemble prototypes, which are patches of training images.

    d_j = min over positions ‖z_hw − p_j‖²,   g_j = log((d_j + 1) / (d_j + ε)),   logit_k = Σ_j w_kj g_j

z are a backbone's last maps behind two 1×1 convolutions that end in a sigmoid. Each class owns some prototypes; w starts at 1 for its own
and at −½ for the others and has no bias, so that a logit is a sum of evidence: this part looks like that part. How it is trained is in
`ziggurat.memory.prototypes.protopnet_training`.

C. Chen, O. Li, C. Tao, A. J. Barnett, J. Su, C. Rudin, This Looks Like That: Deep Learning for Interpretable Image Recognition, 2018,
arXiv:1806.10574.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from ziggurat.data.boxes import mask_boxes
from ziggurat.nn.staged import Staged


def patch_distances(z: Float[Tensor, "B C h w"], prototypes: Float[Tensor, "m C"]) -> Float[Tensor, "B m h w"]:
    """‖z_hw − p_j‖² at every position, by one convolution: Σ z² − 2 z·p + Σ p², not below 0."""
    products = conv2d(z, prototypes[:, :, None, None])
    squares = prototypes.square().sum(1)[:, None, None]
    return (z.square().sum(1, keepdim=True) - 2 * products + squares).relu()


def log_similarity(distance: Float[Tensor, "*B"], eps: float = 1e-4) -> Float[Tensor, "*B"]:
    """log((d + 1) / (d + ε)): log(1/ε) at distance 0, falling towards 0."""
    return ((distance + 1) / (distance + eps)).log()


class PrototypeHead(nn.Module):
    """From a backbone's last map to logits, by prototypes.

    Buffers: `owner` (m,) the class of each prototype; `source` (m,) the id of the image that it is a patch of, −1 before the first push;
    `source_box` (m, 4) where in that image, xyxy pixels.

    Shapes: (B, in_channels, h, w) -> (B, num_classes); with `pre_logits` the similarities (B, m).
    """

    owner: Tensor
    source: Tensor
    source_box: Tensor

    def __init__(self, in_channels: int, num_classes: int, per_class: int, width: int, eps: float) -> None:
        super().__init__()
        self.per_class, self.eps = per_class, eps
        self.add_on = nn.Sequential(
            nn.Conv2d(in_channels, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.Sigmoid()
        )
        self.reset(max(num_classes, 1))
        if not num_classes:
            self.reset(0)

    def reset(self, num_classes: int) -> None:
        """New prototypes, uniform in [0, 1), for so many classes; with 0 classes the prototypes stay and similarities come out."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (similarities) or more, got {num_classes}.")
        if not num_classes:
            self.last: nn.Module = nn.Identity()
            return
        weight, count = self.add_on[2].weight, num_classes * self.per_class
        assert isinstance(weight, Tensor)
        self.prototypes = nn.Parameter(torch.rand(count, len(weight), device=weight.device, dtype=weight.dtype))
        self.register_buffer("owner", torch.arange(count, device=weight.device) // self.per_class)
        self.register_buffer("source", torch.full((count,), -1, device=weight.device))
        self.register_buffer("source_box", torch.zeros(count, 4, device=weight.device))
        self.last = nn.Linear(count, num_classes, bias=False, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            self.last.weight.copy_(1.5 * self.owns() - 0.5)

    def owns(self) -> Bool[Tensor, "K m"]:
        """Which prototypes are those of each class."""
        assert isinstance(self.last, nn.Linear)
        return torch.arange(self.last.out_features, device=self.owner.device)[:, None] == self.owner

    @torch.no_grad()
    def keep(self, kept: Bool[Tensor, " m"]) -> None:
        """Takes the other prototypes out, with their weights."""
        assert isinstance(self.last, nn.Linear)
        weight = self.last.weight[:, kept]
        last = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
        last.weight.copy_(weight)
        self.last, self.prototypes = last, nn.Parameter(self.prototypes[kept])
        self.owner, self.source, self.source_box = self.owner[kept], self.source[kept], self.source_box[kept]

    def distances(self, x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B m h w"]:
        """Squared distance of every prototype to every position of a backbone's map."""
        return patch_distances(self.add_on(x), self.prototypes)

    def score(self, nearest: Float[Tensor, "B m"], pre_logits: bool = False) -> Tensor:
        """Logits, or similarities, of the least distances."""
        similarities = log_similarity(nearest, self.eps)
        return similarities if pre_logits else self.last(similarities)

    def forward(self, x: Float[Tensor, "B C h w"], pre_logits: bool = False) -> Tensor:
        return self.score(self.distances(x).flatten(2).amin(2), pre_logits)


class ProtoPNet(Staged):
    """A copy of a backbone without its head, and prototypes behind it.

    Arguments:
        backbone: any `Staged` network of images.
        num_classes: K; 0 gives the similarities.
        per_class: prototypes of each class.
        width: channels of the latent patches and of the prototypes.
        eps: ε.

    Shapes: (B, C, H, W) -> (B, num_classes); features are those of the backbone, and the vector before the classifier are the
    similarities (B, m). `distances(x)` and `activation_maps(x)` are (B, m, h, w), `explain` names the evidence.
    """

    head: PrototypeHead

    def __init__(
        self, backbone: Staged, num_classes: int, per_class: int = 10, width: int = 128, eps: float = 1e-4
    ) -> None:
        super().__init__()
        if backbone.strides is None:
            raise ValueError(f"{type(backbone).__name__} is no network of images; prototypes are patches of maps.")
        if per_class < 1 or not eps > 0:
            raise ValueError(f"per_class must be 1 or more and eps positive, got {per_class} and {eps}.")
        self.backbone = copy.deepcopy(backbone)
        parts = [name for name, _ in backbone.named_children()]
        for name in parts if backbone.sequential else ["head"]:
            if name not in ("stem", "stages"):
                setattr(self.backbone, name, nn.Identity())
        self.channels, self.strides, self.sequential = backbone.channels, backbone.strides, backbone.sequential
        self.smallest = backbone.smallest
        self.head = PrototypeHead(backbone.channels[-1], num_classes, per_class, width, eps)

    @property
    def num_features(self) -> int:  # type: ignore[override]
        """How many prototypes there are."""
        return len(self.head.prototypes)

    @property
    def stem(self) -> nn.Module:  # type: ignore[override]
        """Of the backbone."""
        return self.backbone.stem

    @property
    def stages(self) -> nn.ModuleList:  # type: ignore[override]
        """Of the backbone."""
        return self.backbone.stages

    @property
    def checkpointing(self) -> bool:  # type: ignore[override]
        """Of the backbone."""
        return self.backbone.checkpointing

    @checkpointing.setter
    def checkpointing(self, value: bool) -> None:
        self.backbone.checkpointing = value

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> list[Tensor]:
        return self.backbone.forward_features(x)

    def distances(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B m h w"]:
        """Squared distance of every prototype to every latent patch."""
        return self.head.distances(self.forward_features(x)[-1])

    def activation_maps(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B m h w"]:
        """Similarity of every prototype at every position."""
        return log_similarity(self.distances(x), self.head.eps)


def activation_boxes(
    maps: Float[Tensor, "n h w"], size: tuple[int, int], percentile: float = 0.95
) -> Float[Tensor, "n 4"]:
    """The box around what lies at or above a percentile of each map, enlarged to the image's size; xyxy pixels."""
    large = interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    rank = max(1, round(percentile * size[0] * size[1]))
    bound = large.flatten(1).kthvalue(rank, 1).values
    return mask_boxes(large >= bound[:, None, None])


class Evidence(NamedTuple):
    """One line of an explanation: this part of the image (`box`) looks like that part (`source_box`) of a training image (`source`).

    `contribution` is the similarity times its weight: all of a class's contributions together are its logit.
    """

    prototype: int
    similarity: float
    contribution: float
    box: tuple[float, ...]
    source: int
    source_box: tuple[float, ...]


@torch.no_grad()
def explain(network: ProtoPNet, x: Float[Tensor, "C H W"], target: int | None = None, count: int = 5) -> list[Evidence]:
    """The prototypes that speak most for a class of an image, strongest first; in evaluation mode, whatever the network's own is.

    Arguments:
        target: the class; None takes the predicted one.
        count: how many.
    """
    head = network.head
    if not isinstance(head.last, nn.Linear):
        raise ValueError("this ProtoPNet has no classes to explain; give it some with reset_classifier.")
    mode = network.training
    try:
        maps = network.eval().activation_maps(x[None])[0]
    finally:
        network.train(mode)
    similarities = maps.flatten(1).amax(1)
    logits = head.last(similarities)
    target = int(logits.argmax()) if target is None else target
    if not 0 <= target < len(logits):
        raise ValueError(f"there is no class {target}; classes are 0 … {len(logits) - 1}.")
    contributions = similarities * head.last.weight[target]
    chosen = contributions.argsort(descending=True)[:count]
    boxes = activation_boxes(maps[chosen], (x.shape[1], x.shape[2]))
    return [
        Evidence(
            j, float(similarities[j]), float(contributions[j]), tuple(box.tolist()), int(head.source[j]),
            tuple(head.source_box[j].tolist()),
        )
        for j, box in zip(chosen.tolist(), boxes, strict=True)
    ]  # fmt: skip


def add_logits(networks: Sequence[nn.Module], x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
    """The ensemble: logits of several networks added up, which is again a sum of evidence."""
    return torch.stack([network(x) for network in networks]).sum(0)
