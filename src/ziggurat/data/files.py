"""The user's own files: folders of images, lists of images, tables, and graphs; each recognised and described in one line."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError

from ziggurat.data.boxfiles import kind_of, read_boxes
from ziggurat.data.datasets import Images, Table
from ziggurat.data.pictures import PICTURES, is_grey, open_described, resize

GRAPHS = (".npz", ".graphml", ".edgelist", ".edges", ".txt")
SIZES = (32, 64, 96, 128, 224)


def read(path: Path, size: int | None = None) -> Any:
    """A folder of images (with COCO, VOC or YOLO boxes too), a csv (of images or of numbers), or a graph file, as a data set.

    Arguments:
        size: side of the images; None chooses one near their median.
    """
    if path.is_dir():
        return read_boxes(path) if kind_of(path) else read_folder(path, size)
    if path.suffix == ".csv":
        return read_csv(path, size)
    if path.suffix in GRAPHS:
        from ziggurat.data.graphs.files import read_graph

        return read_graph(path)
    raise ValueError(
        f"{path} is none of the files that are understood: a folder of images, a .csv, or a graph ({', '.join(GRAPHS)})."
    )


def read_folder(path: Path, size: int | None = None) -> Images:
    """`root/class/*.jpg`, or a flat folder without labels."""
    classes = sorted(
        p.name for p in path.iterdir() if p.is_dir() and any(f.suffix.lower() in PICTURES for f in p.rglob("*"))
    )
    listed: list[tuple[Path, int]] = []
    for label, name in enumerate(classes):
        listed += [(f, label) for f in sorted((path / name).rglob("*")) if f.suffix.lower() in PICTURES]
    if not classes:
        listed = [(f, -1) for f in sorted(path.iterdir()) if f.suffix.lower() in PICTURES]
    if not listed:
        raise ValueError(
            f"{path} has no pictures; put them into one folder for each class, as {path / 'cat' / '1.jpg'}."
        )
    return read_images(listed, tuple(classes), path.name, size, path)


def read_images(
    listed: list[tuple[Path, int]], classes: tuple[str, ...], name: str, size: int | None, root: Path
) -> Images:
    """Decodes and resizes the listed pictures; what cannot be read is left out, counted, and named in a warning."""
    pictures, labels, ids, converted, skipped = [], [], [], Counter[str](), []
    side = size or choose_size([file for file, _ in listed])
    grey = True
    for file, label in listed:
        try:
            image, kind = open_described(file)
        except ValueError:
            skipped.append(file.name)
            continue
        if kind:
            converted[kind] += 1
        grey = grey and is_grey(image)
        pictures.append(resize(image, side))
        labels.append(label)
        ids.append(file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix())
    if not pictures:
        raise ValueError(
            f"none of the {len(listed)} pictures of {name} could be read ({', '.join(skipped[:3])}); save them again."
        )
    notes = [f"{count} {kind}, converted" for kind, count in sorted(converted.items())]
    if skipped:
        text = f"{len(skipped)} of {len(listed)} files could not be read and were left out ({', '.join(skipped[:3])})"
        notes.append(text)
        warnings.warn(f"{name}: {text}.", UserWarning, stacklevel=3)
    stack = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Images(
        stack[:, :1].clone() if grey else stack, torch.tensor(labels), classes, name, tuple(ids), notes=tuple(notes)
    )


def choose_size(files: list[Path]) -> int:
    """The usual side at or below the median short side of some of the pictures."""
    sides = []
    for file in files[:: max(len(files) // 200, 1)]:
        try:
            with Image.open(file) as picture:
                sides.append(min(picture.size))
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
            continue
    median = float(np.median(sides)) if sides else SIZES[0]
    return max((s for s in SIZES if s <= median), default=SIZES[0])


def read_csv(path: Path, size: int | None = None) -> Images | Table:
    """A csv with columns `path` and `label` (pictures), or a table whose target is the column `y`, `label`, `class` or `target`."""
    try:
        frame = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no csv that can be read ({error}); save it as comma-separated UTF-8 text."
        ) from None
    if {"path", "label"} <= set(frame.columns):
        classes = tuple(sorted(frame["label"].astype(str).unique()))
        root = path.parent.resolve()
        listed = []
        for file, label in zip(frame["path"].astype(str), frame["label"].astype(str), strict=True):
            whole = (root / file).resolve()
            if not whole.is_relative_to(root):
                raise ValueError(
                    f"{path} names {file}, which lies outside its folder; put the pictures beside the csv."
                )
            listed.append((whole, classes.index(label)))
        return read_images(listed, classes, path.stem, size, root)
    target = next((c for c in ("y", "label", "class", "target") if c in frame.columns), None)
    if target is None:
        raise ValueError(f"{path} has no column named y, label, class or target; rename the one to be predicted.")
    rest = frame.drop(columns=target)
    coded = pd.get_dummies(rest, dummy_na=False, dtype=float)
    missing = int(coded.isna().to_numpy().sum())
    coded = coded.fillna(coded.median(numeric_only=True)).fillna(0.0)
    labels, kinds = pd.factorize(frame[target].astype(str), sort=True)
    notes = (f"{missing} missing numbers set to their column's median",) if missing else ()
    x = torch.from_numpy(coded.to_numpy(dtype=np.float32))
    return Table(
        x,
        torch.from_numpy(labels.astype(np.int64)),
        tuple(map(str, kinds)),
        path.stem,
        tuple(coded.columns),
        notes=notes,
    )
