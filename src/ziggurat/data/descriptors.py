"""Hand-crafted descriptors of images: what a learned representation has to beat.

    hog                 histograms of gradient directions in cells, normalised in blocks of cells
    lbp                 histograms of local binary patterns: which of eight neighbours are at least as bright as the pixel
    colour_histogram    how often each colour occurs
    ink_profiles        how much ink each row and each column of a page has
    BagOfPatches        histograms of the nearest words of a codebook of gradient patches, over a spatial pyramid

N. Dalal, B. Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005; T. Ojala, M. Pietikäinen, T. Mäenpää, Multiresolution
gray-scale and rotation invariant texture classification with local binary patterns, PAMI 2002; S. Lazebnik, C. Schmid, J. Ponce, Beyond
Bags of Features, CVPR 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d, avg_pool2d, normalize, pad, unfold

from ziggurat.data.datasets import Images

LUMA = (0.299, 0.587, 0.114)
CLIP, EPSILON = 0.2, 1e-5
BLOCK = 128
"""Images worked on at a time."""


def described(images: Images, describe: Callable[[Tensor], Tensor]) -> Float[np.ndarray, "N D"]:
    """A description (N, D) of all images of a data set, in blocks, so that intermediate maps stay small."""
    parts = [describe(images.inputs(index)) for index in torch.arange(len(images)).split(BLOCK)]
    return torch.cat(parts).numpy()


def grey(images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 1 H W"]:
    """Luminance of colour images; grey ones as they are."""
    if images.shape[1] == 1:
        return images
    return (images * torch.tensor(LUMA, dtype=images.dtype).view(1, 3, 1, 1)).sum(1, keepdim=True)


def orientation_maps(images: Float[Tensor, "N C H W"], bins: int, signed: bool = False) -> Float[Tensor, "N bins H W"]:
    """The length of the gradient of every pixel, in the map of its direction.

    Central differences, zero at the border; of several channels the one with the longest gradient.

    Arguments:
        bins: directions, over 180 degrees.
        signed: over 360 degrees: from dark to bright is not from bright to dark.
    """
    down, right = torch.zeros_like(images), torch.zeros_like(images)
    down[:, :, 1:-1] = images[:, :, 2:] - images[:, :, :-2]
    right[..., 1:-1] = images[..., 2:] - images[..., :-2]
    length, channel = torch.hypot(down, right).max(1, keepdim=True)
    angle = torch.rad2deg(torch.atan2(down.gather(1, channel), right.gather(1, channel)))
    whole = 360 if signed else 180
    index = (angle % whole / (whole / bins)).long().clamp(0, bins - 1)
    return torch.zeros(len(images), bins, *images.shape[2:], dtype=images.dtype).scatter_(1, index, length)


def hog(images: Float[Tensor, "N C H W"], cell: int = 8, block: int = 2, bins: int = 9) -> Float[Tensor, "N D"]:
    """Histograms of oriented gradients. D = (H/cell − block + 1) (W/cell − block + 1) · block² · bins.

    v -> v / sqrt(‖v‖² + ε²), cut at 0.2, and once more, for every block of cells at every place.

    Arguments:
        cell: side of a cell in pixels; what is left over at the right and below does not count.
        block: side of a block in cells.
        bins: directions over 180 degrees.
    """
    cells = avg_pool2d(orientation_maps(images, bins), cell)
    if min(cells.shape[2:]) < block:
        raise ValueError(
            f"images of {images.shape[2]}×{images.shape[3]} have fewer than {block} cells of {cell} pixels on a side; use smaller cells."
        )
    blocks = unfold(cells, block).view(len(images), bins, block * block, -1).permute(0, 3, 2, 1).flatten(2)
    blocks = blocks / (blocks.square().sum(2, keepdim=True) + EPSILON**2).sqrt()
    blocks = blocks.clamp_max(CLIP)
    return (blocks / (blocks.square().sum(2, keepdim=True) + EPSILON**2).sqrt()).flatten(1)


def uniform_patterns(images: Float[Tensor, "N C H W"]) -> Int64[Tensor, "N H W"]:
    """The local binary pattern of every pixel, 0 … 9: how many of its eight neighbours at distance 1 are at least as bright, if these
    stand together; 9 if they do not. Neighbours between pixels are interpolated, those outside the image are 0."""
    x = grey(images)[:, 0].double()
    height, width = x.shape[1:]
    padded = pad(x, (1, 1, 1, 1))

    def shifted(down: int, right: int) -> Tensor:
        return padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]

    far = 0.5**0.5
    bits = []
    for down, right in ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)):
        value = shifted(down, right)
        if down and right:
            value = far * far * value + far * (1 - far) * (shifted(down, 0) + shifted(0, right)) + (1 - far) ** 2 * x
        bits.append(value >= x)
    circle = torch.stack(bits)
    changes = (circle != circle.roll(1, 0)).sum(0)
    return torch.where(changes <= 2, circle.sum(0), 9)


def _region_histograms(words: Int64[Tensor, "N h w"], count: int, parts: int) -> Float[Tensor, "N parts parts count"]:
    """How often each word occurs in each of parts × parts regions, as shares that sum to 1 in every region."""
    n, height, width = words.shape
    row, column = (torch.arange(side) * parts // side for side in (height, width))
    region = row[:, None] * parts + column + torch.arange(n)[:, None, None] * parts * parts
    found = torch.bincount((region * count + words).flatten(), minlength=n * parts * parts * count)
    found = found.view(n, parts, parts, count).float()
    return found / found.sum(3, keepdim=True).clamp_min(1)


def lbp(images: Float[Tensor, "N C H W"], parts: int = 2) -> Float[Tensor, "N D"]:
    """Histograms of uniform local binary patterns in parts × parts regions. D = 10 parts²."""
    return _region_histograms(uniform_patterns(images), 10, parts).flatten(1)


def colour_histogram(images: Float[Tensor, "N C H W"], bins: int = 4) -> Float[Tensor, "N D"]:
    """The share of pixels of each colour, of `bins` values a channel. D = bins^C."""
    level = (images * bins).long().clamp(0, bins - 1)
    place = bins ** torch.arange(images.shape[1])
    return _region_histograms((level * place.view(1, -1, 1, 1)).sum(1), bins ** images.shape[1], 1).flatten(1)


def ink_profiles(images: Float[Tensor, "N C H W"], bins: int = 32) -> Float[Tensor, "N D"]:
    """The mean darkness 1 − x of `bins` bands of rows, then of `bins` bands of columns. D = 2 bins."""
    ink = 1 - grey(images)[:, 0]
    return torch.cat([adaptive_avg_pool1d(ink.mean(axis), bins) for axis in (2, 1)], 1)


class BagOfPatches(TransformerMixin, BaseEstimator):
    """Histograms of visual words: every patch is described by its gradients and takes the nearest word of a codebook.

    A patch is grid × grid cells of `bins` signed directions, normalised, cut at 0.2 and normalised again. Words are centres of k-means. The
    histograms of all regions stand behind each other; square roots of shares make a linear classifier compare them by Hellinger's distance.

    Arguments:
        words: of the codebook.
        cell: side of a cell in pixels.
        stride: pixels between two patches; divides `cell`.
        grid: cells a side of a patch.
        bins: directions over 360 degrees.
        levels: regions a side, of each level of the pyramid; (1,) is a plain bag.
        sample: patches that the codebook is learned from.
        random_state: of the sample and of k-means.

    Shapes: images (N, C, H, W) in [0, 1] -> (N, words · Σ levels²) float32.
    """

    def __init__(
        self,
        words: int = 256,
        cell: int = 4,
        stride: int = 4,
        grid: int = 4,
        bins: int = 8,
        levels: Sequence[int] = (1,),
        sample: int = 20_000,
        random_state: int = 0,
    ) -> None:
        self.words, self.cell, self.stride, self.grid, self.bins = words, cell, stride, grid, bins
        self.levels, self.sample, self.random_state = levels, sample, random_state

    def patches(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N h w D"]:
        """Descriptions of all patches at their places."""
        side = self.cell * self.grid
        if self.cell % self.stride or min(images.shape[2:]) < side:
            raise ValueError(
                f"a stride of {self.stride} must divide the cell of {self.cell}, and images be {side} pixels or more, got "
                f"{images.shape[2]}×{images.shape[3]}."
            )
        cells = avg_pool2d(orientation_maps(images, self.bins, signed=True), self.cell, self.stride)
        apart = self.cell // self.stride
        h, w = (n - apart * (self.grid - 1) for n in cells.shape[2:])
        rows = normalize(unfold(cells, self.grid, dilation=apart), dim=1).clamp_max(CLIP)
        return normalize(rows, dim=1).unflatten(2, (h, w)).permute(0, 2, 3, 1)

    def _blocks(self, images: Tensor | np.ndarray) -> Iterator[Tensor]:
        for part in torch.as_tensor(images).split(BLOCK):
            yield self.patches(part.float())

    def fit(self, images: Tensor | np.ndarray, y: object = None) -> BagOfPatches:
        """Learns the codebook from patches of training images."""
        rng = np.random.default_rng(self.random_state)
        most = -(-self.sample // len(images))
        chosen = []
        for part in self._blocks(images):
            each = part.flatten(1, 2)
            at = rng.random(each.shape[:2]).argsort(1)[:, :most]
            chosen.append(each.gather(1, torch.from_numpy(at)[..., None].expand(-1, -1, each.shape[2])).flatten(0, 1))
        rows = torch.cat(chosen).numpy()
        if len(rows) < self.words:
            raise ValueError(f"{len(rows)} patches cannot give {self.words} words; take more images or fewer words.")
        means = MiniBatchKMeans(self.words, n_init=1, batch_size=4096, random_state=self.random_state).fit(rows)
        self.codebook_ = torch.from_numpy(means.cluster_centers_.astype(np.float32))
        return self

    def transform(self, images: Tensor | np.ndarray) -> Float[np.ndarray, "N D"]:
        """Square roots of the shares of each word, region by region, with norm 1."""
        if not hasattr(self, "codebook_"):
            raise ValueError("this BagOfPatches has no codebook; call fit(images) first.")
        found = []
        for part in self._blocks(images):
            # the nearest centre: ‖p‖² is the same for all
            word = (self.codebook_.square().sum(1) - 2 * part @ self.codebook_.T).argmin(3)
            regions = [_region_histograms(word, self.words, level).flatten(1) for level in self.levels]
            found.append(normalize(torch.cat(regions, 1).sqrt(), dim=1))
        return torch.cat(found).numpy()
