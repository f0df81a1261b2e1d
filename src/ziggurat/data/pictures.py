"""Opening pictures as people have them: any mode, any depth, turned by EXIF; what is damaged is refused with a sentence."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""The same as Pillow calls them. It knows forty more, one of which it hands to Ghostscript; none of them is tried."""
MOST_PIXELS = 50_000_000


class Opened(NamedTuple):
    """A picture: its pixels, what had to be converted ("" for nothing), and the day it was taken as 2024-05-17, where the file says it."""

    pixels: np.ndarray
    converted: str
    taken: str | None


def open_image(path: str | Path) -> np.ndarray:
    """A picture as upright RGB (H, W, 3) uint8: EXIF rotation applied, 16 bits brought to 8, CMYK, palette and alpha converted.

    Raises a `ValueError` for a file that is damaged, cut off, no picture, or of more than 50 million pixels.
    """
    return open_described(Path(path)).pixels


def open_described(path: Path) -> Opened:
    """The picture as `open_image` gives it, and what its file says of it."""
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height <= MOST_PIXELS:
                return Opened(*_upright(picture), _day(picture))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture of the kinds {', '.join(FORMATS)}; save it as one of them.") from None
    except Exception as error:  # decoders meet bytes that were made to break them
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as a picture ({said}); remove it or save it again.") from None
    raise ValueError(f"{path} has {width}×{height} pixels, more than {MOST_PIXELS:,}; scale it down.")


def _upright(picture: Image.Image) -> tuple[np.ndarray, str]:
    """An open picture, turned and in colour, and what had to be converted."""
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


def _orientation(picture: Image.Image) -> int:
    return int(picture.getexif().get(0x0112, 1))


def _day(picture: Image.Image) -> str | None:
    exif = picture.getexif()
    said = exif.get_ifd(0x8769).get(0x9003) or exif.get(0x0132)
    try:
        return datetime.strptime(str(said)[:10], "%Y:%m:%d").date().isoformat()
    except ValueError:
        return None


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
