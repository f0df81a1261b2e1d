"""The user's own files: folders of images, lists of images, tables, and graphs; each recognised and described in one line."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ziggurat.data.boxfiles import kind_of, read_boxes
from ziggurat.data.datasets import Images, Table
from ziggurat.data.pictures import FORMATS, PICTURES, is_grey, open_described, resize
from ziggurat.data.progress import counted

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


class Listed(NamedTuple):
    """A picture that is to be read: its file, the number of its class (−1 for none), and what else is known of it."""

    file: Path
    label: int
    told: Mapping[str, Any]


def pictures_in(folder: Path) -> list[Path]:
    """Pictures in a folder and below it, in order; what begins with a dot is hidden from people, and from here."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder.parent).parts)]


def read_folder(path: Path, size: int | None = None) -> Images:
    """`root/class/*.jpg`, or a flat folder without labels."""
    name, notes = path.resolve().name, []
    below = {folder.name: pictures_in(folder) for folder in sorted(path.iterdir()) if folder.is_dir()}
    classes = tuple(label for label, files in below.items() if files)
    flat = [f for f in sorted(path.iterdir()) if f.suffix.lower() in PICTURES and f.is_file() and f.name[0] != "."]
    listed = [Listed(file, i, deeper(file, path)) for i, label in enumerate(classes) for file in below[label]]
    if listed and flat:
        share = f"{len(flat)} of {len(flat) + len(listed)} pictures"
        notes.append(f"{share} lie beside the folders of the classes and were left out ({flat[0].name}, …)")
        warnings.warn(f"{name}: {notes[0]}; move them into a folder too.", UserWarning, stacklevel=3)
    listed = listed or [Listed(file, -1, {}) for file in flat]
    if not listed:
        raise ValueError(
            f"{path} has no pictures; put them into it, or into one folder for each class, as {path / 'cat' / '1.jpg'}."
        )
    return read_images(listed, classes, name, size, path, notes)


def deeper(file: Path, root: Path) -> dict[str, Any]:
    """The folder of a picture, where it says more than its class."""
    folder = file.relative_to(root).parent
    return {"folder": folder.as_posix()} if len(folder.parts) > 1 else {}


def read_images(
    listed: list[Listed], classes: tuple[str, ...], name: str, size: int | None, root: Path, notes: list[str]
) -> Images:
    """Decodes and resizes the listed pictures; what cannot be read is left out, counted, and named in a warning."""
    pictures, labels, ids, metadata, converted, skipped = [], [], [], [], Counter[str](), []
    side = size or choose_size([one.file for one in listed])
    grey = True
    for file, label, told in counted(listed, f"reading {name}"):
        try:
            image, kind, taken = open_described(file)
        except ValueError:
            skipped.append(file.name)
            continue
        if kind:
            converted[kind] += 1
        grey = grey and is_grey(image)
        pictures.append(resize(image, side))
        labels.append(label)
        ids.append(file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix())
        own = {"width": image.shape[1], "height": image.shape[0], **({} if taken is None else {"taken": taken})}
        metadata.append({**own, **told})
    if not pictures:
        raise ValueError(
            f"none of the {len(listed)} pictures of {name} could be read ({', '.join(skipped[:3])}); save them again."
        )
    notes += [f"{count} {kind}, converted" for kind, count in sorted(converted.items())]
    if skipped:
        text = f"{len(skipped)} of {len(listed)} files could not be read and were left out ({', '.join(skipped[:3])})"
        notes.append(text)
        warnings.warn(f"{name}: {text}.", UserWarning, stacklevel=3)
    stack = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Images(
        stack[:, :1].clone() if grey else stack,
        torch.tensor(labels),
        classes,
        name,
        tuple(ids),
        notes=tuple(notes),
        metadata=tuple(metadata),
    )


def choose_size(files: list[Path]) -> int:
    """The usual side at or below the median short side of some of the pictures."""
    sides = []
    for file in files[:: max(len(files) // 200, 1)]:
        try:
            with Image.open(file, formats=FORMATS) as picture:
                sides.append(min(picture.size))
        except Exception:  # it is named when it is read
            continue
    median = float(np.median(sides)) if sides else SIZES[0]
    return max((s for s in SIZES if s <= median), default=SIZES[0])


def read_csv(path: Path, size: int | None = None) -> Images | Table:
    """A csv of pictures with the column `path`, or a table whose target is the column `y`, `label`, `class` or `target`.

    Of pictures, the column `label` is the class (none where it is empty or missing), and the others are what else is known of them.
    """
    try:
        frame = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is no csv that can be read ({error}); save it as comma-separated UTF-8 text."
        ) from None
    if "path" in frame and (
        "label" in frame or frame["path"].map(lambda file: Path(str(file)).suffix in PICTURES).all()
    ):
        return read_list(frame, path, size)
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


def read_list(frame: pd.DataFrame, path: Path, size: int | None) -> Images:
    """The pictures that the table of a csv names."""
    labels = frame["label"] if "label" in frame else pd.Series([None] * len(frame), dtype=object)
    classes = tuple(sorted(labels[labels.notna()].astype(str).unique()))
    number, root = {label: i for i, label in enumerate(classes)}, path.parent.resolve()
    told = frame.drop(columns=["path", "label"], errors="ignore").astype(object)
    listed = []
    for file, label, row in zip(frame["path"].astype(str), labels, told.to_dict("records"), strict=True):
        whole = (root / file).resolve()
        if not whole.is_relative_to(root):
            raise ValueError(f"{path} names {file}, which lies outside its folder; put the pictures beside the csv.")
        known = {str(field): value for field, value in row.items() if pd.notna(value)}
        listed.append(Listed(whole, -1 if pd.isna(label) else number[str(label)], known))
    return read_images(listed, classes, path.stem, size, root, [])
