"""From a saliency map to an object: seeds of foreground and background, colour models of both, and a minimum cut between them.

Second half of K. Simonyan et al., 2013, arXiv:1312.6034 (section 3.2); the cut follows Y. Boykov, M.-P. Jolly, 2001.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow
from sklearn.mixture import GaussianMixture
from torch import Tensor

from ziggurat.data.boxes import mask_boxes

LARGEST = 128 * 128
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))
CAPACITY = 1000  # capacities are integers; one unit of energy is this many


class Segmentation(NamedTuple):
    """Masks (B, H, W) bool, and boxes (B, 4) xyxy around them; an empty mask has the box (0, 0, 0, 0)."""

    masks: Tensor
    boxes: Tensor


def saliency_segmentation(
    images: Float[Tensor, "B C H W"],
    maps: Float[Tensor, "B H W"],
    foreground: float = 0.95,
    background: float = 0.30,
    components: int = 3,
    smoothness: float = 2.0,
    random_state: int = 0,
) -> Segmentation:
    """Cuts the object out that a saliency map points at.

    Arguments:
        images: in [0, 1], at most 128 × 128 pixels.
        maps: saliency, not negative.
        foreground: pixels above this quantile of the map are seeds of the object.
        background: pixels below this quantile are seeds of its surroundings.
        components: Gaussians of each colour model.
        smoothness: weight of the contrast-sensitive edges between eight neighbours.
        random_state: of the colour models.
    """
    if maps.shape[1] * maps.shape[2] > LARGEST:
        raise ValueError(
            f"images of {tuple(maps.shape[1:])} are too large for the cut; scale them to 128 pixels a side."
        )
    if not 0 <= background < foreground <= 1:
        raise ValueError(
            f"quantiles must satisfy 0 <= background < foreground <= 1, got {background} and {foreground}."
        )
    masks = np.stack(
        [
            _segment(image.permute(1, 2, 0).double().numpy(), m.double().numpy(), foreground, background, components,
                     smoothness, random_state)
            for image, m in zip(images, maps, strict=True)
        ]
    )  # fmt: skip
    found = torch.from_numpy(masks)
    return Segmentation(found, mask_boxes(found))


def _segment(
    image: np.ndarray,
    saliency: np.ndarray,
    foreground: float,
    background: float,
    components: int,
    smoothness: float,
    seed: int,
) -> np.ndarray:
    inside = saliency >= np.quantile(saliency, foreground)
    outside = (saliency <= np.quantile(saliency, background)) & ~inside
    if inside.sum() < components or outside.sum() < components:
        return largest_component(inside)
    colours = image.reshape(-1, image.shape[2])
    costs = []
    for seeds in (outside, inside):
        model = GaussianMixture(components, reg_covar=1e-3, random_state=seed).fit(colours[seeds.ravel()])
        costs.append(-model.score_samples(colours).reshape(saliency.shape))
    least = np.minimum(*costs)  # the seeds shape the colour models only: a seed may lie on the wrong side
    return largest_component(minimum_cut(image, costs[0] - least, costs[1] - least, smoothness))


def minimum_cut(image: np.ndarray, cost_outside: np.ndarray, cost_inside: np.ndarray, smoothness: float) -> np.ndarray:
    """The labelling (H, W) bool of least energy Σ cost of each pixel's label + smoothness Σ exp(−‖ΔI‖² / 2⟨‖ΔI‖²⟩) / distance.

    Pixels with True pay `cost_inside`, the others `cost_outside`; neighbours of different labels pay for their edge.
    """
    height, width = cost_inside.shape
    ids = np.arange(height * width).reshape(height, width)
    source, sink = height * width, height * width + 1
    pairs = []
    for down, right in NEIGHBOURS:
        rows, columns = slice(0, height - down), slice(max(0, -right), width - max(0, right))
        to_rows, to_columns = slice(down, height), slice(max(0, right), width + min(0, right))
        difference = ((image[rows, columns] - image[to_rows, to_columns]) ** 2).sum(-1)
        pairs.append(
            (ids[rows, columns].ravel(), ids[to_rows, to_columns].ravel(), difference.ravel(), np.hypot(down, right))
        )
    contrast = max(2 * np.concatenate([p[2] for p in pairs]).mean(), 1e-12)
    start, end, capacity = [], [], []
    for one, other, difference, distance in pairs:
        weight = smoothness * np.exp(-difference / contrast) / distance
        start += [one, other]
        end += [other, one]
        capacity += [weight, weight]
    pixels = ids.ravel()
    start += [np.full_like(pixels, source), pixels]
    end += [pixels, np.full_like(pixels, sink)]
    capacity += [cost_outside.ravel(), cost_inside.ravel()]
    whole = np.round(np.concatenate(capacity) * CAPACITY).astype(np.int32)
    graph = csr_matrix((whole, (np.concatenate(start), np.concatenate(end))), shape=(sink + 1, sink + 1))
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    reached = np.zeros(sink + 1, dtype=bool)
    reached[breadth_first_order(residual, source, return_predecessors=False)] = True
    return reached[: height * width].reshape(height, width)


def largest_component(mask: UInt8[np.ndarray, "H W"] | Bool[np.ndarray, "H W"]) -> np.ndarray:
    """The largest connected part (eight neighbours) of a mask."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return mask.astype(bool)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
