"""PointNet++: small PointNets on nested metric neighbourhoods, each around a centroid that farthest point sampling chose.

A set abstraction groups the points around every centroid, takes coordinates relative to it beside the features, runs a shared perceptron
and keeps the maximum of each group. Relative coordinates enter at every level, at the last one relative to the mean of all points.

C. R. Qi, L. Yi, H. Su, L. J. Guibas, PointNet++: Deep Hierarchical Feature Learning on Point Sets in a Metric Space, 2017,
arXiv:1706.02413.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.staged import Staged
from ziggurat.shapes.ops import ball_query, farthest_point_sample, gather, interpolate3

Scale = Sequence  # (radius, points a group, widths of the perceptron)


class Cloud(NamedTuple):
    """What a stage hands on: features (B, n, C), their places (B, n, 3), and the places of the points that came in (B, N, 3)."""

    x: Tensor
    points: Tensor
    raw: Tensor


class SharedMLP(nn.Sequential):
    """Linear, batch normalisation, ReLU, for every point alike: (B, …, C) -> (B, …, widths[-1]).

    Arguments:
        bias: of the linear layers; the normalisation makes it superfluous, the paper's code has it.
    """

    def __init__(self, in_features: int, widths: Sequence[int], bias: bool = True) -> None:
        layers: list[nn.Module] = []
        for a, b in pairwise((in_features, *widths)):
            layers += [nn.Linear(a, b, bias=bias), nn.BatchNorm1d(b), nn.ReLU()]
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


class SetAbstraction(nn.Module):
    """Cloud of n points -> cloud of `centroids` points, one representation for each neighbourhood; several scales stand side by side.

    Arguments:
        in_features: of the points that come in.
        centroids: how many; 0 makes one group of all points.
        scales: (radius, points a group, widths) of each; for one group of all points the first two do not matter.
    """

    def __init__(self, in_features: int, centroids: int, scales: Sequence[Scale], bias: bool = True) -> None:
        super().__init__()
        if centroids < 0 or not scales or (centroids == 0 and len(scales) > 1):
            raise ValueError(
                f"a level needs 0 or more centroids and its scales (one for 0), got {centroids}, {scales}."
            )
        self.centroids, self.scales = centroids, tuple((float(r), int(k)) for r, k, _ in scales)
        self.mlps = nn.ModuleList(SharedMLP(in_features + 3, widths, bias) for *_, widths in scales)
        self.out_features = sum(int(widths[-1]) for *_, widths in scales)

    def centres(self, points: Float[Tensor, "B n 3"]) -> Float[Tensor, "B m 3"]:
        """Where the groups stand."""
        if not self.centroids:
            return points.mean(1, keepdim=True)
        return gather(points, farthest_point_sample(points, min(self.centroids, points.shape[1])))

    def around(self, x: Tensor, points: Tensor, centres: Tensor) -> Float[Tensor, "B m C"]:
        """The representation of the neighbourhood of every centre."""
        found = []
        for (radius, count), mlp in zip(self.scales, self.mlps, strict=True):
            if self.centroids:
                index = ball_query(points, centres, radius, count)
                local, own = gather(points, index) - centres[:, :, None], gather(x, index)
            else:
                local, own = (points - centres)[:, None], x[:, None]
            found.append(mlp(torch.cat([local, own], 3)).amax(2))
        return torch.cat(found, 2)

    def forward(self, cloud: Cloud) -> Cloud:
        centres = self.centres(cloud.points)
        return Cloud(self.around(cloud.x, cloud.points, centres), centres, cloud.raw)


class MultiResolution(nn.Module):
    """Two views of each neighbourhood side by side: the features of the level below, and the raw points by a PointNet of their own.

    Where points are few, the second is the more reliable. Arguments as of `SetAbstraction`, one scale each.
    """

    def __init__(self, in_features: int, centroids: int, below: Scale, raw: Scale, bias: bool = True) -> None:
        super().__init__()
        self.below = SetAbstraction(in_features, centroids, [below], bias)
        self.raw = SetAbstraction(0, centroids, [raw], bias)
        self.out_features = self.below.out_features + self.raw.out_features

    def forward(self, cloud: Cloud) -> Cloud:
        centres = self.below.centres(cloud.points)
        nothing = cloud.raw.new_zeros(*cloud.raw.shape[:2], 0)
        parts = self.below.around(cloud.x, cloud.points, centres), self.raw.around(nothing, cloud.raw, centres)
        return Cloud(torch.cat(parts, 2), centres, cloud.raw)


class InputCloud(nn.Module):
    """The stem: points and features as a cloud; in training, random points are overwritten by the first one.

    Arguments:
        drop: largest share of points of a cloud that is dropped; each cloud draws its own from 0 to this (the paper: 0.95).
    """

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        if not 0 <= drop < 1:
            raise ValueError(f"drop must be 0 or more and below 1, got {drop}.")
        self.drop = drop

    def forward(self, points: Float[Tensor, "B N 3"], features: Float[Tensor, "B N C"] | None = None) -> Cloud:
        if points.ndim != 3 or points.shape[2] != 3:
            raise ValueError(f"points must be (B, N, 3), got {tuple(points.shape)}.")
        x = points.new_zeros(*points.shape[:2], 0) if features is None else features
        if self.training and self.drop:
            share = self.drop * torch.rand(len(points), 1, device=points.device)
            gone = (torch.rand(points.shape[:2], device=points.device) < share)[..., None]
            points, x = torch.where(gone, points[:, :1], points), torch.where(gone, x[:, :1], x)
        return Cloud(x, points, points)


class PointHead(nn.Module):
    """Two layers with normalisation, ReLU and dropout on the vector of a cloud, and the classifier."""

    def __init__(self, in_features: int, widths: Sequence[int], num_classes: int, dropout: float, bias: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise((in_features, *widths)):
            layers += [nn.Linear(a, b, bias=bias), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.num_features = int(widths[-1]) if widths else in_features
        self.reset(num_classes)

    def reset(self, num_classes: int) -> None:
        """A new classifier."""
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Float[Tensor, "B n C"], pre_logits: bool = False) -> Tensor:
        x = self.layers(x.amax(1))
        return x if pre_logits else self.fc(x)


class PointNet2(Staged):
    """The classifier; a level is (centroids, scales) as of `SetAbstraction`, or (centroids, below, raw) as of `MultiResolution`.

    Arguments:
        num_classes: 0 gives features.
        levels: of the hierarchy; centroids 0 makes the group of all points.
        features: width of what comes with the points.
        head: widths of the two layers behind.
        drop: of the input in training (see `InputCloud`).
        dropout: behind both layers.
        bias: of layers in front of a normalisation.

    Shapes: points (B, N, 3), features (B, N, C) or None -> (B, num_classes); `forward_features` gives (B, n_i, C_i) a level, `clouds`
    also where they stand.
    """

    input: ClassVar[str] = "points"

    def __init__(
        self,
        num_classes: int,
        levels: Sequence[Sequence],
        features: int = 0,
        head: Sequence[int] = (512, 256),
        drop: float = 0.0,
        dropout: float = 0.5,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stem = InputCloud(drop)
        stages: list[nn.Module] = []
        width = features
        for level in levels:
            if len(level) == 2:
                stage: SetAbstraction | MultiResolution = SetAbstraction(width, level[0], level[1], bias)
            else:
                stage = MultiResolution(width, level[0], level[1], level[2], bias)
            stages.append(stage)
            width = stage.out_features
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(stage.out_features for stage in stages)  # type: ignore[misc]
        self.head = PointHead(width, head, num_classes, dropout, bias)
        self.num_features = self.head.num_features

    def clouds(self, points: Float[Tensor, "B N 3"], features: Float[Tensor, "B N C"] | None = None) -> list[Cloud]:
        """The cloud after each level."""
        cloud = self.stem(points, features)
        found = []
        for stage in self.stages:
            cloud = stage(cloud)
            found.append(cloud)
        return found

    def forward_features(  # type: ignore[override]
        self, points: Float[Tensor, "B N 3"], features: Float[Tensor, "B N C"] | None = None
    ) -> list[Tensor]:
        return [cloud.x for cloud in self.clouds(points, features)]

    def forward(  # type: ignore[override]
        self, points: Float[Tensor, "B N 3"], features: Float[Tensor, "B N C"] | None = None
    ) -> Tensor:
        return self.forward_head(self.forward_features(points, features))


class FeaturePropagation(nn.Module):
    """Coarse features at finer points: three-point interpolation, the finer level's own features beside it, a shared perceptron."""

    def __init__(self, in_features: int, skip_features: int, widths: Sequence[int], bias: bool = True) -> None:
        super().__init__()
        self.mlp = SharedMLP(in_features + skip_features, widths, bias)

    def forward(self, coarse: Cloud, fine: Cloud) -> Cloud:
        up = interpolate3(coarse.points, coarse.x, fine.points)
        return fine._replace(x=self.mlp(torch.cat([up, fine.x], 2)))


class PointNet2Segmentation(nn.Module):
    """A class for every point: levels down as of `PointNet2`, feature propagation up.

    Arguments:
        levels: none of all points.
        widths: of the perceptron of each propagation, coarsest first.

    Shapes: points (B, N, 3), features (B, N, C) or None -> (B, N, num_classes).
    """

    def __init__(
        self,
        num_classes: int,
        levels: Sequence[Sequence] = (
            (1024, ((0.1, 32, (32, 32, 64)),)),
            (256, ((0.2, 32, (64, 64, 128)),)),
            (64, ((0.4, 32, (128, 128, 256)),)),
            (16, ((0.8, 32, (256, 256, 512)),)),
        ),
        features: int = 0,
        widths: Sequence[Sequence[int]] = ((256, 256), (256, 256), (256, 128), (128, 128, 128)),
        dropout: float = 0.5,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.down = PointNet2(0, levels, features, (), bias=bias)
        fine = (features, *self.down.channels[:-1])
        ups, width = [], self.down.channels[-1]
        for skip, own in zip(reversed(fine), widths, strict=True):
            ups.append(FeaturePropagation(width, skip, own, bias))
            width = own[-1]
        self.up = nn.ModuleList(ups)
        self.head = nn.Sequential(SharedMLP(width, (width,), bias), nn.Dropout(dropout), nn.Linear(width, num_classes))

    def forward(self, points: Float[Tensor, "B N 3"], features: Float[Tensor, "B N C"] | None = None) -> Tensor:
        x = points.new_zeros(*points.shape[:2], 0) if features is None else features
        levels = [Cloud(x, points, points), *self.down.clouds(points, features)]
        cloud = levels.pop()
        for up in self.up:
            cloud = up(cloud, levels.pop())
        return self.head(cloud.x)


_LAST = (0, ((0.0, 0, (256, 512, 1024)),))
pointnet2_ssg = partial(
    PointNet2, levels=((512, ((0.2, 32, (64, 64, 128)),)), (128, ((0.4, 64, (128, 128, 256)),)), _LAST)
)
pointnet2_msg = partial(
    PointNet2,
    levels=(
        (512, ((0.1, 16, (32, 32, 64)), (0.2, 32, (64, 64, 128)), (0.4, 128, (64, 96, 128)))),
        (128, ((0.2, 32, (64, 64, 128)), (0.4, 64, (128, 128, 256)), (0.8, 128, (128, 128, 256)))),
        _LAST,
    ),
)
pointnet2_mrg = partial(
    PointNet2,
    levels=(
        (512, ((0.2, 32, (64, 64, 128)),)),
        (64, (0.4, 64, (128, 128, 256)), (0.4, 128, (64, 64, 128))),
        (0, (0.0, 0, (256, 512, 1024)), (0.0, 0, (64, 64, 128, 256))),
    ),
)
pointnet = partial(PointNet2, levels=((0, ((0.0, 0, (64, 64, 64, 128, 1024)),)),))
"""The flat baseline: one group of all points, without the transformation networks of C. R. Qi et al., PointNet, 2017."""
