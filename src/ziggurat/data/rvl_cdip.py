"""RVL-CDIP: 400,000 scanned pages of sixteen classes, from a folder that the user has downloaded.

The folder holds `labels/train.txt`, `val.txt` and `test.txt`, with a line "path label" a page, and the pages as grey TIFFs of at most 1,000
pixels a side in `images`.
A. Harley, A. Ufkes, K. Derpanis, Evaluation of Deep Convolutional Nets for Document Image Classification and Retrieval, 2015,
arXiv:1502.07058; https://adamharley.com/rvl-cdip.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ziggurat.data.datasets import Index, as_index
from ziggurat.data.pictures import open_image

CLASSES = (
    "letter", "form", "email", "handwritten", "advertisement", "scientific report", "scientific publication", "specification",
    "file folder", "news article", "budget", "invoice", "presentation", "questionnaire", "resume", "memo",
)  # fmt: skip
SPLITS = {"train": 320_000, "val": 40_000, "test": 40_000}


class RVLCDIP:
    """Pages read when they are asked for, each warped to a square: what stands where matters, so that nothing is cut off.

    Arguments:
        root: the folder.
        split: "train", "val" or "test".
        size: side of the pages in pixels.

    Attributes:
        ids: the path of each page below `images`. Pages of Tobacco-3482 are among them; before that set is tested, `without` takes them
            out of training.
        labels: (N,) int64.

    A page that cannot be read (the published archive has a damaged one) is a `ValueError` that names it; `without([its id])` leaves it out.
    """

    kind, task, name, classes = "image", "classification", "RVL-CDIP", CLASSES

    def __init__(self, root: str | Path, split: Literal["train", "val", "test"] = "train", size: int = 227) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}.")
        if size < 1:
            raise ValueError(f"size must be 1 or more, got {size}.")
        self.root, self.split, self.size = Path(root), split, size
        listed = self.root / "labels" / f"{split}.txt"
        if not listed.is_file():
            raise FileNotFoundError(f"there is no {listed}; unpack RVL-CDIP into {self.root} (labels/ and images/).")
        self.ids, labels = [], []
        for number, line in enumerate(listed.read_text().splitlines(), 1):
            path, _, label = line.strip().rpartition(" ")
            if not path and not label:
                continue
            if not path or not label.isdecimal() or int(label) >= len(CLASSES):
                raise ValueError(f"{listed}, line {number}: expected a path and a label from 0 to 15, got {line!r}.")
            self.ids.append(path)
            labels.append(int(label))
        self.labels = torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, index: Index) -> Float[Tensor, "B 1 size size"]:
        """Pages as grey floats in [0, 1]."""
        pages = [self._page(self.ids[i]) for i in as_index(index, len(self)).tolist()]
        return torch.from_numpy(np.stack(pages))[:, None].float() / 255

    def _page(self, path: str) -> np.ndarray:
        page = Image.fromarray(open_image(self.root / "images" / path)).convert("L")
        return np.asarray(page.resize((self.size, self.size), Image.Resampling.BILINEAR, reducing_gap=2.0))

    def subset(self, index: Index) -> RVLCDIP:
        """The named rows as a data set of their own, with the same classes."""
        rows = as_index(index, len(self)).tolist()
        part = object.__new__(RVLCDIP)
        part.root, part.split, part.size = self.root, self.split, self.size
        part.ids, part.labels = [self.ids[i] for i in rows], self.labels[rows]
        return part

    def without(self, ids: Collection[str]) -> RVLCDIP:
        """All pages but these."""
        gone = set(ids)
        return self.subset([i for i, path in enumerate(self.ids) if path not in gone])

    def describe(self) -> str:
        """One line: pages, size, classes."""
        return (
            f"{self.name}, {self.split}: {len(self):,} pages warped to {self.size}x{self.size}, {len(CLASSES)} classes"
        )
