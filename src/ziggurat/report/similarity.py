"""What makes two pictures alike under a checkpoint, drawn over both of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ziggurat.data.pictures import open_image, resize
from ziggurat.data.sources import write_atomically
from ziggurat.explain.similarity_maps import Pool, SimilarityVisualizer, parts, signed_colours, upsample_map
from ziggurat.workflows.artifact import Artifact

SIDE, GAP = 320, 16


def centre_square(image: UInt8[np.ndarray, "H W 3"], side: int) -> Float[Tensor, "1 3 S S"]:
    """The centre of a picture at the size of a network, in [0, 1], as folders of pictures are read."""
    return torch.from_numpy(resize(image, side).transpose(2, 0, 1).copy()).float()[None] / 255


def pooling(artifact: Artifact) -> Pool:
    """How a checkpoint's representation comes from its last map: "avg" or "max", found out on two noisy pictures.

    Raises a `ValueError` that says why, where the similarity cannot be split over positions exactly.
    """
    shape, name = artifact.shape, artifact.method
    network: Any = artifact.network
    if shape.kind != "image" or not hasattr(network, "forward_features"):
        raise ValueError(f"{name} has no maps of a picture, so its similarity cannot be split over one.")
    noise = torch.rand(2, shape.channels, shape.size, shape.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        x = artifact.prepare(noise).to(artifact.learner.device)
        maps, vectors = network.forward_features(x)[-1], artifact.learner.represent(x).flatten(1)
    if not isinstance(maps, Tensor) or maps.ndim != 4:
        raise ValueError(f"{name} has no maps of positions, so its similarity cannot be split over the picture.")
    if maps.shape[2] * maps.shape[3] == 1:
        raise ValueError(f"the last map of {name} has a single position here, so there is nothing to split.")
    for pool in ("avg", "max"):
        whole = parts(maps, pool).sum((2, 3))
        if whole.shape == vectors.shape and (whole - vectors).norm() <= 1e-3 * vectors.norm():
            return pool
    raise ValueError(
        f"the representation of {name} is neither the mean nor the maximum of its last map, so its similarity cannot be "
        "split over positions exactly."
    )


def similarity_picture(
    artifact: Artifact, pool: Pool, a: UInt8[np.ndarray, "h w 3"], b: UInt8[np.ndarray, "H W 3"]
) -> tuple[bytes, float]:
    """Both pictures side by side, in grey, under the maps of their similarity: red speaks for it, blue against.

    The two maps have one scale, and each adds up to the cosine.

    Arguments:
        pool: as `pooling` says.
        a, b: pictures, whose centre squares are compared.

    Returns: a PNG, and the cosine.
    """
    x, y = (artifact.prepare(centre_square(one, artifact.shape.size)).to(artifact.learner.device) for one in (a, b))
    maps = SimilarityVisualizer(artifact.network, pool)(x, y)
    wide = torch.cat([upsample_map(m, (SIDE, SIDE)) for m in (maps.a, maps.b)], 2)  # one scale for both
    colours = signed_colours(wide)[0].permute(1, 2, 0).cpu().numpy()
    grey = np.concatenate([shades(a), shades(b)], 1)[..., None]
    drawn = Image.fromarray((255 * (0.5 + 0.5 * grey) * colours).round().astype(np.uint8))
    sheet = Image.new("RGBA", (2 * SIDE + GAP, SIDE))
    sheet.paste(drawn.crop((0, 0, SIDE, SIDE)), (0, 0))
    sheet.paste(drawn.crop((SIDE, 0, 2 * SIDE, SIDE)), (SIDE + GAP, 0))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue(), float(maps.score)


def explain_pair(artifact: Artifact, a: Path, b: Path, folder: Path) -> tuple[Path, float]:
    """Draws what makes two pictures alike. Returns the path of the PNG, and the cosine."""
    png, cosine = similarity_picture(artifact, pooling(artifact), open_image(a), open_image(b))
    path = folder / f"{a.stem}-{b.stem}.png"
    write_atomically(path, png)
    return path, cosine


def shades(image: UInt8[np.ndarray, "H W 3"]) -> np.ndarray:
    """The centre square of a picture in grey (SIDE, SIDE), in [0, 1]; the pixels of a small one stay squares."""
    square = resize(image, min(image.shape[:2]))
    way = Image.Resampling.NEAREST if len(square) < SIDE // 4 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(square).convert("L").resize((SIDE, SIDE), way), np.float32) / 255
