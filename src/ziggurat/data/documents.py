"""Drawn pages of eight layouts. What tells them apart is where things stand; the words are random letters, the same in every class.

Pages are drawn with Pillow and its bundled font at twice their size, then turned, shifted, blurred and covered with noise, as scans are.
A class is a recipe of regions with wide limits: a letterhead or none, three or four columns, a table with or without lines. Stamps, notes
by hand and pictures stray over pages of every class, and sizes and line distances vary more within a class than between two, so that
neither the amount of ink nor one region alone settles the class.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ziggurat.data.datasets import Images
from ziggurat.data.page_drawing import DIGITS, Pen, moved, scanned
from ziggurat.data.seeds import derive

LAYOUTS = ("letter", "form", "table", "invoice", "news", "article", "slide", "handwritten")
REGIONS = ("title", "text", "table", "field", "picture", "handwriting")


class Pages(NamedTuple):
    """Pages and what stands on them.

    Arguments:
        images: grey, with the layout as class.
        boxes: of each page (n, 4) xyxy pixels.
        kinds: of each page (n,) indices of `REGIONS`.
    """

    images: Images
    boxes: tuple[Float32[Tensor, "n 4"], ...]
    kinds: tuple[Int64[Tensor, " n"], ...]


def synthetic_documents(n: int, seed: int = 0, size: int = 128) -> Pages:
    """`n` pages, as many of each layout.

    Arguments:
        n: of pages; their classes take turns.
        seed: of everything; page i depends on the seed and i alone.
        size: side of the pages in pixels, which are square as a page warped for a network is.
    """
    if n < 1 or size < 32:
        raise ValueError(f"n must be 1 or more and size 32 or more, got {n} and {size}.")
    pixels, boxes, kinds = [], [], []
    for i in range(n):
        rng = np.random.default_rng(derive(seed, "page", i))
        pen = Pen(2 * size, rng)
        DRAWN[LAYOUTS[i % len(LAYOUTS)]](pen)
        clutter(pen)
        page, matrix = scanned(pen.page, rng)
        drawn = np.array([box for _, box in pen.regions]) * pen.side
        pixels.append(page)
        boxes.append(torch.from_numpy(moved(drawn, matrix, pen.side) / 2).float())
        kinds.append(torch.tensor([REGIONS.index(kind) for kind, _ in pen.regions]))
    labels = torch.arange(n) % len(LAYOUTS)
    images = Images(torch.from_numpy(np.stack(pixels))[:, None], labels, LAYOUTS, "synthetic_documents")
    return Pages(images, tuple(boxes), tuple(kinds))


def head(pen: Pen, left: float, right: float, top: float) -> float:
    """A sender: a mark, a name or both, at the left, in the middle or at the right. Returns where it ends."""
    wide = pen.between(0.15, 0.4)
    x = (left, 0.5 - wide / 2, right - wide)[int(pen.rng.integers(3))]
    if pen.maybe(0.4):
        pen.picture((x, top, x + 0.09, top + 0.07))
        x += 0.1
    rows = int(pen.rng.integers(1, 4))
    pen.paragraph((x, top, min(x + wide, 0.98), top + rows * pen.text * pen.gap), kind="title")
    return top + max(0.08, rows * pen.text * pen.gap + 0.01)


def letter(pen: Pen) -> None:
    """Address and date, paragraphs, a signature."""
    left, right = pen.between(0.08, 0.16), pen.between(0.84, 0.93)
    y = head(pen, left, right, 0.06) if pen.maybe(0.6) else pen.between(0.07, 0.12)
    step = pen.text * pen.gap
    pen.paragraph((left, y, left + 0.28, y + int(pen.rng.integers(2, 5)) * step), ragged=0.5)
    pen.line(right - 0.2, y, 0.18, pen.text)
    y = max(y + 5 * step, pen.between(0.25, 0.34))
    pen.line(left, y, 0.2, pen.text)
    y += 2 * step
    end = pen.between(0.55, 0.82)
    for _ in range(int(pen.rng.integers(2, 5))):
        if y > end:
            break
        rows = int(pen.rng.integers(2, 8))
        pen.paragraph((left, y, right, min(y + rows * step, end + 0.03)))
        y += (rows + 1) * step
    x = left if pen.maybe(0.5) else pen.between(0.5, 0.6)
    y = min(y, 0.86)
    pen.line(x, y, 0.14, pen.text)
    pen.scribble((x, y + 0.03, x + 0.18, y + 0.08), 2)
    pen.mark("handwriting", (x, y + 0.03, x + 0.18, y + 0.08))


def form(pen: Pen) -> None:
    """Rows of labels with lines or boxes to fill in, some filled in by hand."""
    left, right = pen.between(0.05, 0.12), pen.between(0.88, 0.95)
    y = head(pen, left, right, 0.05) if pen.maybe(0.4) else 0.05
    pen.centred(y, pen.between(0.25, 0.6), 1.5 * pen.text)
    y += 0.07
    bottom, columns = pen.between(0.75, 0.95), int(pen.rng.integers(1, 4))
    framed = pen.maybe(0.5)
    while y < bottom:
        high = pen.between(0.035, 0.07)
        edges = np.linspace(left, right, columns + 1)
        for a, b in pairwise(edges):
            wide = (b - a) * pen.between(0.2, 0.5)
            if framed:
                pen.frame((a, y, b, y + high))
                pen.line(a + 0.006, y + 0.004, wide, 0.8 * pen.text)
            else:
                pen.line(a, y, wide, pen.text)
                pen.rule(a + wide + 0.01, y + pen.text, b - 0.02, y + pen.text)
            if pen.maybe(0.4):
                pen.scribble((a + wide, y, min(b - 0.02, a + wide + 0.15), y + high))
        if pen.maybe(0.15):
            for k in range(4):
                pen.frame((left + 0.2 * k, y + high, left + 0.2 * k + 0.018, y + high + 0.018))
                pen.line(left + 0.2 * k + 0.03, y + high, 0.1, pen.text)
            high += 0.04
        pen.mark("field", (left, y, right, y + high))
        y += high + (0 if framed else 0.01)
        if pen.maybe(0.12):
            y += 0.03


def table(pen: Pen) -> None:
    """A table over most of the page, under a title."""
    left, right = pen.between(0.05, 0.14), pen.between(0.86, 0.95)
    y = head(pen, left, right, 0.05) if pen.maybe(0.4) else 0.05
    if pen.maybe(0.8):
        pen.centred(y, pen.between(0.2, 0.6), 1.4 * pen.text)
        y += 0.06
    if pen.maybe(0.4):
        high = pen.between(0.06, 0.14)
        pen.paragraph((left, y, right, y + high))
        y += high + 0.03
    bottom = pen.between(0.65, 0.95)
    rows = int((bottom - y) / pen.between(0.035, 0.06))
    pen.table((left, y, right, bottom), max(rows, 5), int(pen.rng.integers(3, 9)), pen.maybe(0.5))
    if bottom < 0.85 and pen.maybe(0.5):
        pen.paragraph((left, bottom + 0.03, right, 0.93))


def invoice(pen: Pen) -> None:
    """Two addresses, a table in the middle, totals at its right."""
    left, right = pen.between(0.06, 0.14), pen.between(0.86, 0.94)
    y = head(pen, left, right, 0.05) if pen.maybe(0.8) else 0.06
    step = pen.text * pen.gap
    pen.line(pen.between(0.55, 0.7), y, 0.2, 1.6 * pen.text)
    y += 0.05
    rows = int(pen.rng.integers(3, 5))
    pen.paragraph((left, y, left + 0.28, y + rows * step), ragged=0.5)
    pen.paragraph((0.6, y, right, y + rows * step), ragged=0.5)
    y = max(y + (rows + 1) * step, pen.between(0.3, 0.4))
    bottom = y + pen.between(0.15, 0.3)
    pen.table((left, y, right, bottom), int(pen.rng.integers(4, 9)), int(pen.rng.integers(3, 6)), pen.maybe(0.5))
    for row in range(int(pen.rng.integers(2, 4))):
        pen.line(0.6, bottom + 0.02 + row * step, 0.12, pen.text)
        pen.line(right - 0.12, bottom + 0.02 + row * step, 0.1, pen.text, DIGITS)
    pen.mark("field", (0.6, bottom + 0.02, right, bottom + 0.02 + 3 * step))
    y = bottom + 0.05 + 3 * step
    if y < 0.85 and pen.maybe(0.7):
        pen.paragraph((left, y, left + pen.between(0.3, 0.7), min(y + 3 * step, 0.95)))


def news(pen: Pen) -> None:
    """A name across the page, headlines, three to five narrow columns."""
    left, right, y = 0.05, 0.95, 0.05
    if pen.maybe(0.6):
        pen.centred(y, pen.between(0.4, 0.85), pen.between(0.05, 0.08))
        y += 0.1
        pen.rule(left, y, right, y)
    elif pen.maybe(0.5):
        y = head(pen, left, right, y)
    columns = int(pen.rng.integers(3, 6))
    edges = np.linspace(left, right, columns + 1)
    if pen.maybe(0.7):
        end = edges[int(pen.rng.integers(1, columns + 1))]
        pen.line(left, y + 0.02, end - left, pen.between(0.035, 0.055))
        pen.mark("title", (left, y + 0.02, end, y + 0.08))
        y += 0.09
    drawn = int(pen.rng.integers(columns)) if pen.maybe(0.6) else -1
    for k in range(columns):
        top, bottom = y + pen.between(0, 0.02), pen.between(0.85, 0.96)
        if k == drawn:
            high = pen.between(0.12, 0.25)
            pen.picture((edges[k], top, edges[k + 1] - 0.015, top + high))
            top += high + 0.02
        pen.paragraph((edges[k], top, edges[k + 1] - 0.015, bottom), ragged=0.03)


def article(pen: Pen) -> None:
    """A title block in the middle, a summary, mostly two columns."""
    left, right = pen.between(0.07, 0.12), pen.between(0.88, 0.93)
    y = head(pen, left, right, 0.04) if pen.maybe(0.3) else pen.between(0.05, 0.1)
    for _ in range(int(pen.rng.integers(1, 3))):
        pen.centred(y, pen.between(0.4, 0.75), 1.6 * pen.text)
        y += 0.05
    pen.centred(y, pen.between(0.2, 0.5), pen.text, "text")
    y += 0.05
    if pen.maybe(0.7):
        high = pen.between(0.08, 0.16)
        pen.paragraph((left + 0.08, y, right - 0.08, y + high), 0.9 * pen.text)
        y += high + 0.03
    columns = 2 if pen.maybe(0.75) else 1
    edges = np.linspace(left, right + 0.02, columns + 1)
    for k in range(columns):
        top, bottom = y, pen.between(0.85, 0.95)
        if pen.maybe(0.3):
            high = pen.between(0.1, 0.2)
            if pen.maybe(0.5):
                pen.picture((edges[k], top, edges[k + 1] - 0.03, top + high))
            else:
                pen.table((edges[k], top, edges[k + 1] - 0.03, top + high), 5, 4, pen.maybe(0.5))
            top += high + 0.03
        pen.paragraph((edges[k], top, edges[k + 1] - 0.03, bottom), ragged=0.03)


def slide(pen: Pen) -> None:
    """A large title, a few large lines, perhaps a picture or a table at the right."""
    high, y = pen.between(0.05, 0.09), pen.between(0.06, 0.15)
    if pen.maybe(0.5):
        pen.centred(y, pen.between(0.4, 0.8), high)
    else:
        pen.line(0.08, y, pen.between(0.4, 0.8), high)
        pen.mark("title", (0.08, y, 0.8, y + high))
    y += 1.6 * high
    size = pen.between(0.035, 0.06)
    end = pen.between(0.55, 0.95)
    wide = 0.9
    if pen.maybe(0.4):
        wide = 0.5
        if pen.maybe(0.5):
            pen.picture((0.55, y, 0.93, pen.between(0.55, 0.9)))
        else:
            pen.table((0.55, y, 0.93, pen.between(0.55, 0.9)), 5, 3, pen.maybe(0.7))
    while y < end:
        if pen.maybe(0.7):
            pen.draw.ellipse(pen.px(0.08, y + 0.4 * size, 0.095, y + 0.4 * size + 0.015), fill=pen.ink())
        pen.line(0.12, y, (wide - 0.12) * pen.between(0.4, 1.0), size)
        pen.mark("text", (0.12, y, wide, y + size))
        y += size * pen.between(1.4, 2.2)


def handwritten(pen: Pen) -> None:
    """Lines by hand, with or without rules under them."""
    left, right, y = pen.between(0.04, 0.14), pen.between(0.8, 0.96), pen.between(0.05, 0.15)
    if pen.maybe(0.35):
        y = head(pen, left, right, 0.04) + 0.02
    bottom = pen.between(0.55, 0.95)
    if pen.maybe(0.5):
        step = pen.between(0.04, 0.07)
        for value in np.arange(y + step, 0.96, step):
            pen.rule(0.03, float(value), 0.97, float(value))
    pen.hand((left, y, right, bottom))
    if bottom < 0.75 and pen.maybe(0.4):
        pen.paragraph((left, bottom + 0.03, right, bottom + pen.between(0.08, 0.18)))


DRAWN: dict[str, Callable[[Pen], None]] = {
    "letter": letter,
    "form": form,
    "table": table,
    "invoice": invoice,
    "news": news,
    "article": article,
    "slide": slide,
    "handwritten": handwritten,
}


def clutter(pen: Pen) -> None:
    """What any page may carry: a stamp, a note by hand, a page number, a stuck-on picture."""
    if pen.maybe(0.3):
        x, y, r = pen.between(0.1, 0.9), pen.between(0.1, 0.9), pen.between(0.03, 0.08)
        pen.draw.ellipse(pen.px(x - r, y - r, x + r, y + r), outline=pen.ink(), width=2)
        pen.line(x - r, y - 0.01, 2 * r, 0.02)
    if pen.maybe(0.35):
        x, y = pen.between(0.02, 0.7), pen.between(0.02, 0.85)
        pen.hand((x, y, x + pen.between(0.1, 0.28), y + pen.between(0.04, 0.14)))
    if pen.maybe(0.3):
        pen.line(pen.between(0.1, 0.8), 0.96, 0.08, 0.018, DIGITS)
    if pen.maybe(0.15):
        x, y = pen.between(0.05, 0.7), pen.between(0.05, 0.75)
        pen.picture((x, y, x + pen.between(0.1, 0.25), y + pen.between(0.08, 0.2)))
