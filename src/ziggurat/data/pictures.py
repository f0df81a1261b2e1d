"""Opening pictures as people have them: any mode, any depth, turned by EXIF; what is damaged is refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MOST_PIXELS = 50_000_000


def open_image(path: str | Path) -> np.ndarray:
    """A picture as upright RGB (H, W, 3) uint8: EXIF rotation applied, 16 bits brought to 8, CMYK, palette and alpha converted.

    Raises a `ValueError` for a file that is damaged, cut off, no picture, or of more than 50 million pixels.
    """
    return open_described(Path(path))[0]


def open_described(path: Path) -> tuple[np.ndarray, str]:
    """The picture, and what had to be converted ("" for nothing)."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(
                    f"{path} has {picture.width}×{picture.height} pixels, more than {MOST_PIXELS:,}; scale it down."
                )
            mode = picture.mode
            upright = ImageOps.exif_transpose(picture)
            turned = "rotated by EXIF" if upright.size != picture.size or _orientation(picture) > 1 else ""
            if mode.startswith("I") or mode == "F":
                values = np.asarray(upright, dtype=np.float64)
                top = 65535 if mode.startswith("I") and values.max() > 255 else max(float(values.max()), 1e-12)
                grey = np.clip(values / top * 255, 0, 255).astype(np.uint8)
                return np.repeat(grey[..., None], 3, axis=2), "16-bit"
            if "A" in mode or (mode == "P" and "transparency" in picture.info):
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright.convert("RGBA"))
            kind = {"CMYK": "CMYK", "P": "palette", "RGBA": "with alpha", "LA": "with alpha"}.get(mode, turned)
            return np.asarray(upright.convert("RGB")), kind
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); remove it or save it again.") from None


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(0x0112, 1))


def is_grey(image: np.ndarray) -> bool:
    """Whether the three channels are equal everywhere."""
    return bool((image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all())


def resize(image: np.ndarray, side: int) -> np.ndarray:
    """Short side to `side`, then the centre square."""
    picture = Image.fromarray(image)
    scale = side / min(picture.size)
    wide, high = (max(side, round(length * scale)) for length in picture.size)
    left, top = (wide - side) // 2, (high - side) // 2
    resized = picture.resize((wide, high), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
