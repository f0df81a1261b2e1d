"""Pictures as strangers send them: a few formats, a limit on pixels that is read before anything is decoded."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ziggurat.cli.serving.limits import Refusal
from ziggurat.data.pictures import open_image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SLENDER = 40
"""A picture may be so many times as long as it is wide; to enlarge the short side of a thread would fill the memory."""


def read_upload(content: bytes, pixels: int) -> UInt8[np.ndarray, "H W 3"]:
    """An uploaded picture, upright and in colour; anything else is refused with a sentence.

    Arguments:
        pixels: that it may have.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            width, height = picture.size
    except Exception:  # decoders meet bytes that were made to break them
        raise Refusal(
            422, f"the upload is no picture that can be read; send one as {', '.join(FORMATS[:-1])} or {FORMATS[-1]}."
        ) from None
    if width * height > pixels:
        raise Refusal(413, f"the picture has {width}×{height} pixels, more than {pixels:,}; scale it down.")
    if max(width, height) > SLENDER * min(width, height):
        raise Refusal(
            422, f"the picture has {width}×{height} pixels; cut it, its sides may differ {SLENDER} times at most."
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        try:
            return open_image(path)
        except Exception:
            raise Refusal(422, "the picture is damaged or cut off; save it again.") from None
