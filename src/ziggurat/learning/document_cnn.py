"""Pages as images: one convolutional network on the whole page, its last hidden layer as descriptor, and networks of single regions.

    DocumentCNN        an AlexNet on the page warped to a square; the second fully connected layer describes it
    RegionEnsemble     five of them, on the page, its header, the halves of its body and its footer; descriptors in a row, then
                       principal components
    retrieval_map      every page asks for the others by the distance of descriptors of length one; its class is relevant
    compression_curve  the same on fewer and fewer principal components

A. Harley, A. Ufkes, K. Derpanis, Evaluation of Deep Convolutional Nets for Document Image Classification and Retrieval, 2015,
arXiv:1502.07058.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.decomposition import PCA
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ziggurat.catalogue import load_weights
from ziggurat.data.datasets import Index
from ziggurat.data.protocols import Labelled
from ziggurat.learning.cnn_off_the_shelf import FeatureExtractor
from ziggurat.memory.indexes import unit
from ziggurat.metrics.retrieval import mean_average_precision, nearest_labels
from ziggurat.nn.conv import Norm
from ziggurat.nn.staged import Staged
from ziggurat.vision.backbones.vgg import VGGHead

WIDTHS = (96, 256, 384, 384, 256)
CAFFE_MEAN = (104.0, 117.0, 123.0)
"""Blue, green, red, of pixels in 0 … 255."""
KEYS = {
    **{rf"^conv{i + 1}\.": f"stages.{i}.0." for i in range(5)},
    r"^fc6\.": "head.layers.1.",
    r"^fc7\.": "head.layers.4.",
    r"^fc8\.": "head.fc.",
}
"""Caffe's names and ours."""
response_norm: Norm = lambda channels: nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)  # noqa: E731


class Warp(nn.Module):
    """A page stretched or squeezed to a square, grey ones with their channel repeated.

    Shapes: (B, 1 or channels, H, W) -> (B, channels, side, side).
    """

    def __init__(self, side: int, channels: int) -> None:
        super().__init__()
        self.side, self.channels = side, channels

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B C side side"]:
        if x.shape[2:] != (self.side, self.side):
            x = interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)
        return x.expand(-1, self.channels, -1, -1)

    def extra_repr(self) -> str:
        return f"side={self.side}, channels={self.channels}"


class DocumentCNN(Staged):
    """An AlexNet in the form of Caffe's reference network, on whole pages of any size and form.

    Five convolutions (11 with stride 4; 5; 3; 3; 3; the second, fourth and fifth in two groups) with ReLU, overlapping pooling behind the
    first, second and fifth, then two fully connected layers with dropout and the classifier. Since it warps, its maps have one size
    whatever the page's, and it has no strides.

    Arguments:
        num_classes: 0 gives the descriptor.
        side: of the warped page.
        first: kernel and stride of the first convolution; pages of half the paper's size keep their detail with (7, 2).
        widths: of the convolutions; the first four are even.
        hidden: width of the fully connected layers: of the descriptor.
        in_channels: of the network; grey pages are repeated. Three are needed for weights of ImageNet only.
        norm: makes what stands behind the first two poolings; by default local response normalisation.
        dropout: of the fully connected layers.

    Weights start at random by Kaiming's rule, or as `load_imagenet` sets them. Shapes: (B, 1 or in_channels, H, W) -> (B, num_classes).
    """

    def __init__(
        self,
        num_classes: int = 16,
        side: int = 227,
        first: tuple[int, int] = (11, 4),
        widths: Sequence[int] = WIDTHS,
        hidden: int = 4096,
        in_channels: int = 3,
        norm: Norm = response_norm,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if len(widths) != 5 or any(width % 2 for width in widths[:4]):
            raise ValueError(f"widths must be five, the first four even, got {tuple(widths)}.")
        last = (side - first[0]) // first[1] + 1
        for _ in range(3):
            last = (last - 3) // 2 + 1
        if last < 1:
            raise ValueError(
                f"with a side of {side} no map is left behind the last pooling; take a larger one, or a smaller stride."
            )
        self.stem = Warp(side, in_channels)
        a, b, c, d, e = widths
        pool = partial(nn.MaxPool2d, 3, 2)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(in_channels, a, *first), nn.ReLU(), pool(), norm(a)),
                nn.Sequential(nn.Conv2d(a, b, 5, padding=2, groups=2), nn.ReLU(), pool(), norm(b)),
                nn.Sequential(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
                nn.Sequential(nn.Conv2d(c, d, 3, padding=1, groups=2), nn.ReLU()),
                nn.Sequential(nn.Conv2d(d, e, 3, padding=1, groups=2), nn.ReLU(), pool()),
            ]
        )
        self.channels, self.num_features = tuple(widths), hidden
        self.head = VGGHead(e, last, hidden, num_classes, dropout)
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def describe(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The second fully connected layer behind its ReLU."""
        return self.forward_head(self.forward_features(x), pre_logits=True)

    @torch.no_grad()
    def load_imagenet(self, path: str | Path) -> None:
        """Takes the ImageNet weights of Caffe's reference network (conv1 … fc8 by name, 1,000 classes), and a new classifier of its own.

        Those expect blue, green, red of 0 … 255 minus a mean; that is worked into the first convolution, so that pages stay in [0, 1].
        """
        classes = getattr(self.head.fc, "out_features", 0)
        self.reset_classifier(1000)
        load_weights(self, path)
        first = self.stages[0][0]  # type: ignore[index]
        mean = torch.tensor(CAFFE_MEAN[: first.weight.shape[1]], dtype=first.weight.dtype).view(1, -1, 1, 1)
        first.bias -= (first.weight * mean).sum((1, 2, 3))
        first.weight.copy_(255 * first.weight.flip(1))
        self.reset_classifier(classes)


Part = tuple[float, float, float, float]
REGIONS: dict[str, Part] = {
    "page": (0, 0, 1, 1),
    "header": (0, 0, 1, 1 / 3),
    "left body": (0, 1 / 3, 1 / 2, 2 / 3),
    "right body": (1 / 2, 1 / 3, 1, 2 / 3),
    "footer": (0, 2 / 3, 1, 1),
}
"""Left, top, right, bottom as shares of the page: thirds of its height, the body in halves. (The paper's are fixed numbers of pixels.)"""


def cut(pages: Float[Tensor, "B C H W"], part: Part) -> Float[Tensor, "B C h w"]:
    """A part of every page; parts that meet share no pixel."""
    height, width = pages.shape[2:]
    left, top, right, bottom = part
    return pages[:, :, round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


@dataclass(frozen=True)
class Region:
    """A part of every page of a data set, as a data set: it is cut when it is asked for."""

    pages: Labelled
    part: Part
    kind: str = "image"
    task: str = "classification"

    @property
    def name(self) -> str:
        return self.pages.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.pages.classes

    @property
    def labels(self) -> Tensor:
        return self.pages.labels

    def __len__(self) -> int:
        return len(self.pages)

    def inputs(self, index: Index) -> Float[Tensor, "B C h w"]:
        """The parts as floats in [0, 1]."""
        return cut(self.pages.inputs(index), self.part)  # type: ignore[arg-type]


class RegionEnsemble:
    """A network for each region of a page; their descriptors, each of length one, in a row, then principal components.

    Arguments:
        networks: a network by the name of each region.
        components: that are kept; None keeps all.
        regions: parts of the page by name.
        batch_size: pages at once.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        components: int | None = None,
        regions: Mapping[str, Part] = REGIONS,
        batch_size: int = 64,
    ) -> None:
        if set(networks) != set(regions):
            raise ValueError(f"there must be a network for each of {', '.join(regions)}, got {', '.join(networks)}.")
        self.networks, self.regions = dict(networks), dict(regions)
        self.components, self.batch_size = components, batch_size

    def fit(self, pages: Labelled, train: Callable[[nn.Module, Region], nn.Module] | None = None) -> RegionEnsemble:
        """Trains each network on its region, then learns the principal components of the pages' descriptors.

        Arguments:
            pages: a data set of images with classes.
            train: (network, data set) -> the trained network; None takes the networks as they are.
        """
        if train is not None:
            self.networks = {
                name: train(self.networks[name], Region(pages, part)) for name, part in self.regions.items()
            }
        found = [self.concatenated(pages.inputs(i)) for i in torch.arange(len(pages)).split(self.batch_size)]
        self.pca_ = PCA(self.components, svd_solver="full").fit(np.concatenate(found))
        return self

    def concatenated(self, pages: Float[Tensor, "B C H W"]) -> Float[np.ndarray, "B D"]:
        """Descriptors of all regions in a row, before principal components."""
        extractors = {
            name: FeatureExtractor(network, batch_size=self.batch_size) for name, network in self.networks.items()
        }
        return np.concatenate([extractors[name].transform(cut(pages, part)) for name, part in self.regions.items()], 1)

    def describe(self, pages: Float[Tensor, "B C H W"]) -> Float[np.ndarray, "B d"]:
        """Descriptors of pages in [0, 1]."""
        if not hasattr(self, "pca_"):
            raise ValueError("this RegionEnsemble is not fitted; call fit(pages) first.")
        return self.pca_.transform(self.concatenated(pages)).astype(np.float32)


def ranked(descriptors: Float[np.ndarray, "N D"], labels: Int64[Tensor, " N"]) -> Int64[Tensor, "N M"]:
    """Labels of all other pages by the distance of descriptors of length one, the nearest first (M = N − 1)."""
    z = torch.from_numpy(unit(descriptors))
    return nearest_labels(z, z, labels, len(z) - 1, itself=True)


def retrieval_map(descriptors: Float[np.ndarray, "N D"], labels: Int64[Tensor, " N"]) -> float:
    """Mean average precision of finding the other pages of the class among all others."""
    return mean_average_precision(ranked(descriptors, labels), labels, torch.bincount(labels)[labels] - 1)


def compression_curve(
    train: Float[np.ndarray, "T D"],
    descriptors: Float[np.ndarray, "N D"],
    labels: Int64[Tensor, " N"],
    dimensions: Sequence[int] = (4096, 2048, 1024, 512, 256, 128, 64, 32, 16),
) -> dict[int, float]:
    """`retrieval_map` on the first principal components of descriptors of length one.

    Arguments:
        train: descriptors that the components are learned from; not those that are looked for.
        dimensions: how many components; at most min(T, D) are there.
    """
    most = min(train.shape)
    pca = PCA(min(max(dimensions), most), svd_solver="full").fit(unit(train))
    rows = pca.transform(unit(descriptors)).astype(np.float32)
    return {d: retrieval_map(rows[:, :d], labels) for d in dimensions if d <= most}
