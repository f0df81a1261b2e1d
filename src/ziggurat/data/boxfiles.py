"""The user's own images with boxes: COCO's json, Pascal VOC's xml, YOLO's txt, recognised by what lies in the folder.

COCO   *.json or annotations/*.json with "images", "annotations", "categories"; pictures anywhere below the folder
VOC    Annotations/*.xml beside JPEGImages/ (or any xml beside its picture)
YOLO   labels/*.txt beside images/ (or each txt beside its picture): class cx cy w h, as shares of the image
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from torch import Tensor

from ziggurat.data.boxes import clip_boxes
from ziggurat.data.datasets import Boxes
from ziggurat.data.pictures import PICTURES, open_image

CLASS_FILES = ("classes.txt", "obj.names", "data.yaml")


class Annotated(NamedTuple):
    """A picture and its objects: rows (left, top, right, bottom), and a class name each; `relative` rows are shares of the image."""

    file: Path
    rows: list[list[float]]
    names: list[str]
    relative: bool = False


def kind_of(path: Path) -> str | None:
    """ "coco", "voc", "yolo", or None where there are no boxes."""
    if any(_is_coco(p) for p in _jsons(path)):
        return "coco"
    if any(path.rglob("*.xml")):
        return "voc"
    if any(_picture_of(p, path) for p in path.rglob("*.txt") if p.name not in CLASS_FILES):
        return "yolo"
    return None


def read_boxes(path: Path) -> Boxes:
    """The data set of a folder. Boxes are cut at the picture; those without area are dropped, damaged files left out, and both counted."""
    kind = kind_of(path)
    if kind is None:
        raise ValueError(
            f"{path} holds no COCO json, no VOC xml and no YOLO txt; put the annotations beside the pictures."
        )
    listed = list({"coco": _coco, "voc": _voc, "yolo": _yolo}[kind](path))
    classes = tuple(sorted({name for one in listed for name in one.names}))
    order = {name: i for i, name in enumerate(classes)}
    images, targets, ids, skipped, dropped = [], [], [], [], 0
    for one in listed:
        try:
            picture = torch.from_numpy(open_image(one.file).transpose(2, 0, 1).copy())
        except (ValueError, OSError):
            skipped.append(one.file.name)
            continue
        boxes, kept = _boxes(one, picture.shape[1], picture.shape[2])
        dropped += len(one.rows) - len(boxes)
        images.append(picture)
        labels = torch.tensor([order[one.names[i]] for i in kept], dtype=torch.int64)
        targets.append({"boxes": boxes, "labels": labels})
        ids.append(one.file.relative_to(path).as_posix())
    if not images:
        raise ValueError(f"none of the {len(listed)} pictures of {path} could be read; save them again.")
    notes = [f"{kind.upper()} annotations"]
    if skipped:
        notes.append(
            f"{len(skipped)} of {len(listed)} files could not be read and were left out ({', '.join(skipped[:3])})"
        )
    if dropped:
        notes.append(f"{dropped} boxes without area were dropped")
    for note in notes[1:]:
        warnings.warn(f"{path.name}: {note}.", UserWarning, stacklevel=2)
    return Boxes(tuple(images), tuple(targets), classes, path.name, tuple(ids), tuple(notes))


def _boxes(one: Annotated, height: int, width: int) -> tuple[Tensor, list[int]]:
    """Boxes in pixels within the picture, and which of the rows they are."""
    rows = torch.tensor(one.rows, dtype=torch.float32).view(-1, 4)
    if one.relative:
        rows = rows * torch.tensor([width, height, width, height])
    rows = clip_boxes(rows, height, width)
    good = torch.isfinite(rows).all(1) & (rows[:, 2] - rows[:, 0] > 0) & (rows[:, 3] - rows[:, 1] > 0)
    return rows[good], good.nonzero()[:, 0].tolist()


def _inside(file: Path, root: Path) -> Path:
    """The file, if it lies below the folder: names in annotations must not lead out of it."""
    if not file.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{file} lies outside {root}; annotations may only name pictures below their folder.")
    return file


def _jsons(path: Path) -> Iterator[Path]:
    yield from path.glob("*.json")
    yield from (path / "annotations").glob("*.json")


def _is_coco(file: Path) -> bool:
    try:
        content = json.loads(file.read_text())
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _coco(path: Path) -> Iterator[Annotated]:
    pictures = {p.name: p for p in path.rglob("*") if p.suffix.lower() in PICTURES}
    for file in _jsons(path):
        if not _is_coco(file):
            continue
        content = json.loads(file.read_text())
        names = {c["id"]: str(c["name"]) for c in content["categories"]}
        found: dict[int, list[dict]] = {image["id"]: [] for image in content["images"]}
        for a in content["annotations"]:
            if a["image_id"] in found and a["category_id"] in names and len(a.get("bbox", ())) == 4:
                found[a["image_id"]].append(a)
        for image in content["images"]:
            direct = path / str(image["file_name"])
            place = direct if direct.is_file() else pictures.get(Path(str(image["file_name"])).name, direct)
            own = found[image["id"]]
            rows = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in own)]
            yield Annotated(_inside(place, path), rows, [names[a["category_id"]] for a in own])


def _voc(path: Path) -> Iterator[Annotated]:
    pictures = {p.stem: p for p in path.rglob("*") if p.suffix.lower() in PICTURES}
    for file in sorted(path.rglob("*.xml")):
        text = file.read_bytes()
        if b"<!ENTITY" in text:
            raise ValueError(f"{file} declares entities, which annotations never need; remove them.")
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            warnings.warn(f"{file.name} is no xml ({error}) and was left out.", UserWarning, stacklevel=3)
            continue
        rows, names = [], []
        for one in root.iter("object"):
            box = one.find("bndbox")
            if box is not None:
                rows.append([_number(box.findtext(k)) for k in ("xmin", "ymin", "xmax", "ymax")])
                names.append((one.findtext("name") or "object").strip())
        # VOC counts pixels from 1 and includes the last one
        rows = [[left - 1, top - 1, right, bottom] for left, top, right, bottom in rows]
        yield Annotated(pictures.get(file.stem, file.with_suffix(".jpg")), rows, names)


def _yolo(path: Path) -> Iterator[Annotated]:
    names = _yolo_names(path)
    for file in sorted(p for p in path.rglob("*.txt") if p.name not in CLASS_FILES):
        picture = _picture_of(file, path)
        if picture is None:
            continue
        rows, labels = [], []
        for line in file.read_text().splitlines():
            words = line.split()
            if len(words) < 5:
                continue
            label, (x, y, w, h) = words[0], (_number(v) for v in words[1:5])
            rows.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            labels.append(names[int(label)] if label.isdigit() and int(label) < len(names) else label)
        yield Annotated(picture, rows, labels, relative=True)


def _yolo_names(path: Path) -> list[str]:
    """Names of the classes, from classes.txt, obj.names or data.yaml; none where there is no such file."""
    for name in CLASS_FILES[:2]:
        if (path / name).is_file():
            return [line.strip() for line in (path / name).read_text().splitlines() if line.strip()]
    listed = path / "data.yaml"
    if not listed.is_file():
        return []
    text = listed.read_text()
    if "[" in text.partition("names:")[2].split("\n")[0]:
        inside = text.partition("names:")[2].partition("[")[2].partition("]")[0]
        return [word.strip().strip("'\"") for word in inside.split(",") if word.strip()]
    rest = text.partition("names:")[2].splitlines()[1:]
    words = [line.strip() for line in rest if line.strip().startswith("-") or line.strip().split(":")[0].isdigit()]
    return [word.lstrip("-").partition(":")[2].strip() or word.lstrip("- ").strip() for word in words]


def _picture_of(file: Path, root: Path) -> Path | None:
    """The picture of a YOLO file: beside it, or in images/ where it lies in labels/."""
    folders = [file.parent]
    if "labels" in file.relative_to(root).parts:
        parts = ["images" if part == "labels" else part for part in file.relative_to(root).parts[:-1]]
        folders.append(root.joinpath(*parts))
    return next((f / (file.stem + s) for f in folders for s in PICTURES if (f / (file.stem + s)).is_file()), None)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
