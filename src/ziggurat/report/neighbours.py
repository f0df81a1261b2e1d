"""The neighbours of a picture in a memory, with their distances and their vote, as a picture."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from ziggurat.data.pictures import open_image
from ziggurat.memory.memory import Memory
from ziggurat.memory.opening import on_server
from ziggurat.report.album import Album, embedded_data
from ziggurat.report.figures import pyplot, write
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.embedding import find

COLUMNS = 6


class Neighbours(NamedTuple):
    """The picture, (id, distance, label) of each neighbour, and the share of the neighbours that has each label, the largest first."""

    path: Path
    found: list[tuple[str, float, str]]
    votes: dict[str, float]


def explain_neighbours(
    artifact: Artifact, picture: Path, store: str, images: str | None, where: str | None, k: int, folder: Path
) -> Neighbours:
    """Draws a picture, what is nearest to it in a memory, and which labels these have.

    Arguments:
        store: the memory, a folder or a postgresql:// URL.
        images: the data set whose pictures are shown, by name or path; None takes those that the memory names.
        where: a filter on the neighbours.
        k: how many.
    """
    asked, memory = open_image(picture), Memory.open(store)
    hits = find(memory, str(picture), k, where, artifact)
    data, remarks = embedded_data(memory, artifact, images)
    if images is not None and remarks:
        raise ValueError(remarks[0])
    album = Album(None if on_server(store) else Path(store) / "thumbnails", data)
    rows = list(zip(hits.ids[0], hits.distances[0].tolist(), hits.metadata[0], strict=True))
    if not rows:
        raise ValueError("no example of the memory passes the filter; ask for less.")
    labels = [str(metadata["label"]) for _, _, metadata in rows if metadata.get("label") is not None]
    votes = {label: count / len(labels) for label, count in Counter(labels).most_common()}
    height = math.ceil((len(rows) + 1) / COLUMNS)
    figure = pyplot().figure(
        figsize=(1.7 * COLUMNS, 1.9 * height + 0.32 * max(len(votes), 1) + 0.4), layout="constrained"
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.9 * height, 0.32 * max(len(votes), 1) + 0.4])
    cells = top.subplots(height, COLUMNS, squeeze=False).ravel()
    for axis in cells:
        axis.axis("off")
    cells[0].imshow(asked)
    cells[0].set_title("asked", fontsize=9, fontweight="bold")
    for axis, (name, away, metadata) in zip(cells[1:], rows, strict=False):
        shown = album.find(name, metadata)
        if shown is None:
            axis.text(0.5, 0.5, "no picture", ha="center", va="center", fontsize=8, color="0.5")
        else:
            axis.imshow(shown)
        label = "" if metadata.get("label") is None else f"{metadata['label']}, "
        axis.set_title(f"{label}{away:.3f}", fontsize=8)
    bars = bottom.subplots()
    if votes:
        bars.barh(list(votes), [100 * share for share in votes.values()], color="tab:blue")
        bars.invert_yaxis()
        bars.set(xlim=(0, 100), xlabel="% of the neighbours")
        bars.tick_params(labelsize=8)
        bars.spines[["top", "right"]].set_visible(False)
    else:
        bars.axis("off")
        bars.text(0, 0.5, "the neighbours have no labels, so there is no vote", fontsize=8)
    path = folder / f"{picture.stem}-neighbours.png"
    write(figure, path)
    found = [(str(name), away, str(metadata.get("label") or "")) for name, away, metadata in rows]
    return Neighbours(path, found, votes)
