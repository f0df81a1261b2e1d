"""The pictures that can be shown: of examples that were added here, and of data sets that were embedded. No path is ever opened that
a store or a request names."""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ziggurat.data.datasets import Images, Segments
from ziggurat.data.loading import load, names
from ziggurat.data.pictures import resize
from ziggurat.data.sources import write_atomically
from ziggurat.memory.memory import Memory
from ziggurat.memory.stores import Id
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.embedding import centre, names_of, represent

THUMBNAIL = "thumbnail"
"""The field of the metadata that names the picture of an example that was added here."""
SIDE = 256
DRAWN = re.compile(r"[0-9a-f]{64}")

Picture = UInt8[np.ndarray, "H W 3"]
Pictures = Images | Segments


def as_png(picture: Picture) -> bytes:
    """A picture as a PNG, without anything that its file said beside the pixels."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


class Album:
    """Pictures by the id and the metadata of an example.

    Arguments:
        folder: where thumbnails of added examples are kept; None keeps none.
        data: data sets that were embedded, whose pictures are shown.
    """

    def __init__(self, folder: Path | None = None, data: Sequence[Pictures] = ()) -> None:
        self.folder = folder
        self.data: Mapping[str, Pictures] = {samples.name: samples for samples in data}
        self.places = {samples.name: places(samples) for samples in data}

    def keep(self, picture: Picture) -> dict[str, str]:
        """Keeps the centre square of a picture, and returns the metadata that find it again."""
        if self.folder is None:
            return {}
        drawn = secrets.token_hex(32)  # says nothing of the id, and no two examples share one
        write_atomically(self.folder / f"{drawn}.png", as_png(resize(picture, min(SIDE, *picture.shape[:2]))))
        return {THUMBNAIL: drawn}

    def forget(self, metadata: Mapping[str, Any]) -> None:
        """Removes the thumbnail of an example that is gone."""
        path = self._thumbnail(metadata)
        if path is not None:
            path.unlink(missing_ok=True)

    def has(self, name: Id, metadata: Mapping[str, Any]) -> bool:
        """Whether there is a picture."""
        return self._thumbnail(metadata) is not None or self._place(name, metadata) is not None

    def find(self, name: Id, metadata: Mapping[str, Any]) -> Picture | None:
        """The picture of an example, or None."""
        path = self._thumbnail(metadata)
        if path is not None:
            with Image.open(path, formats=("PNG",)) as picture:
                return np.asarray(picture.convert("RGB"))
        found = self._place(name, metadata)
        if found is None:
            return None
        samples, place = found
        image = samples.images[place].numpy().transpose(1, 2, 0)
        return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))

    def _thumbnail(self, metadata: Mapping[str, Any]) -> Path | None:
        drawn = metadata.get(THUMBNAIL)
        if self.folder is None or not isinstance(drawn, str) or not DRAWN.fullmatch(drawn):
            return None
        path = self.folder / f"{drawn}.png"
        return path if path.is_file() else None

    def _place(self, name: Id, metadata: Mapping[str, Any]) -> tuple[Pictures, int] | None:
        of = metadata.get("data")
        if not isinstance(of, str) or of not in self.data or name not in self.places[of]:
            return None
        return self.data[of], self.places[of][name]


def places(samples: Pictures) -> dict[Id, int]:
    """Where each sample of a data set stands, by the id that `embed` gave it."""
    return {name: i for i, name in enumerate(names_of(samples))}


def same_pictures(memory: Memory, artifact: Artifact, samples: Pictures, looks: int = 8) -> bool:
    """Whether the memory holds what the checkpoint makes of a data set, judged by some of its samples."""
    names = list(places(samples))
    rows = [row for row in memory.get(names[:: max(len(names) // 200, 1)]) if row is not None]
    rows = [row for row in rows if row["metadata"].get("data") == samples.name][:looks]
    if not rows:
        return False
    place = places(samples)
    again = represent(artifact, centre(samples.inputs([place[row["id"]] for row in rows])))
    kept = np.stack([row["vector"] for row in rows])
    lengths = np.linalg.norm(again, axis=1) * np.linalg.norm(kept, axis=1)
    return bool((np.einsum("nd,nd->n", again, kept) >= 0.999 * lengths).all())


def embedded_data(memory: Memory, artifact: Artifact, given: str | None) -> tuple[list[Pictures], list[str]]:
    """The data sets whose pictures can be shown: the one that is given, and those known by name that the metadata name.

    Returns: the data sets, and a sentence for each one that is not what was embedded.
    """
    fields = memory.store.scan()
    said = {value for value in fields["data"] if isinstance(value, str)} if "data" in fields else set()
    wanted = [given] if given is not None else sorted(said & set(names()))
    found, notes = [], []
    for name in wanted:
        try:
            samples = load(name)
        except FileNotFoundError:
            if given is not None:
                raise
            continue
        if not isinstance(samples, Pictures):
            if given is not None:
                raise ValueError(f"{name} is no data set of images; leave --images out.")
        elif same_pictures(memory, artifact, samples):
            found.append(samples)
        else:
            notes.append(f"the memory does not hold what this checkpoint makes of {name}; its pictures are not shown.")
    return found, notes
