"""Readers of the data sets known by name: each turns its files into one of the classes in memory."""

from __future__ import annotations

import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ziggurat.data.datasets import Boxes, Images, Segments, Taxonomy
from ziggurat.data.graphs.readers import GRAPH_READERS
from ziggurat.data.sources import cache_folder, choose, locate, sources, write_atomically
from ziggurat.data.tables import tabular_uci
from ziggurat.data.texts import TEXT_READERS
from ziggurat.data.words import WORD_READERS

Reader = Callable[[str, Any, str | Path | None], Any]
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
GARMENTS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def decode(content: bytes) -> np.ndarray:
    """An encoded image as RGB (H, W, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def unpack(content: np.ndarray, offset: np.ndarray) -> list[bytes]:
    """The parts content[offset[i]:offset[i + 1]] as bytes."""
    whole = content.tobytes()
    return [whole[a:b] for a, b in zip(offset[:-1].tolist(), offset[1:].tolist(), strict=True)]


def decoded(path: Path, digest: str) -> np.ndarray:
    """Images of one size from a file of JPEGs, (N, 3, H, W) uint8; kept decoded in the cache, named by the file's sha256."""
    kept = cache_folder() / f"decoded-{digest[:16]}.npy"
    if kept.is_file():
        return np.load(kept, allow_pickle=False)
    with np.load(path, allow_pickle=False) as file, ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(decode, unpack(file["jpeg"], file["offset"])))).transpose(0, 3, 1, 2)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(images), allow_pickle=False)
    write_atomically(kept, buffer.getvalue())
    return images


def in_parts(images: Images, split: str | None, training: int) -> Images:
    """Images (all, or a part) by their number in the whole, of which the first so many are to train on and the others to test."""
    numbers = range(training, training + len(images)) if split == "test" else range(len(images))
    train, test = {"split": "train"}, {"split": "test"}
    return replace(
        images, ids=tuple(map(str, numbers)), metadata=tuple(train if i < training else test for i in numbers)
    )


def digits(name: str, split: Any, root: Any) -> Images:
    from sklearn.datasets import load_digits

    choose(name, split, ())
    raw = load_digits()
    images = torch.from_numpy(np.round(raw.images * (255 / 16)).astype(np.uint8))[:, None]
    return Images(images, torch.from_numpy(raw.target).long(), tuple("0123456789"), name)


def fashion_mnist(name: str, split: Any, root: Any) -> Images:
    choose(name, split, ("train", "test"))
    arrays = []
    for path in locate(name, root):
        raw = gzip.decompress(path.read_bytes())
        head = 16 if "images" in path.name else 8
        values = np.frombuffer(raw, np.uint8, offset=head).copy()
        arrays.append(torch.from_numpy(values.reshape(-1, 1, 28, 28) if head == 16 else values.astype(np.int64)))
    parts = {"train": arrays[:2], "test": arrays[2:]}
    pixels, labels = parts[split] if split else [torch.cat(pair) for pair in zip(*parts.values(), strict=True)]
    return in_parts(Images(pixels, labels, GARMENTS, name), split, len(arrays[0]))


def cifar10(name: str, split: Any, root: Any) -> Images:
    choose(name, split, ("train", "test"))
    pixels, labels = [], []
    for path, file in zip(locate(name, root), sources()[name]["files"], strict=True):
        if split is None or split in path.name:
            pixels.append(decoded(path, file["sha256"]))
            with np.load(path, allow_pickle=False) as content:
                labels.append(content["label"].astype(np.int64))
    note = "re-compressed as JPEG by its source, so published accuracies do not compare"
    images, classes = torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))
    return in_parts(Images(images, classes, CIFAR10, name, notes=(note,)), split, 50_000)


def tiny_imagenet_60(name: str, split: Any, root: Any) -> Images:
    """60 classes in 12 groups of five by WordNet; the group is that of the class."""
    choose(name, split, ("train", "test"))
    path = locate(name, root)[0]
    pixels = decoded(path, sources()[name]["files"][0]["sha256"])
    with np.load(path, allow_pickle=False) as file:
        labels, part = torch.from_numpy(file["fine"].astype(np.int64)), file["split"]
        classes = tuple(str(c) for c in file["fine_name"])
        groups = tuple(str(c) for c in file["coarse_name"][file["coarse_of_fine"]])
    numbers = tuple(map(str, range(len(labels))))  # of the whole, in its parts too
    data = Images(torch.from_numpy(pixels), labels, classes, name, numbers, groups)
    return data if split is None else data.subset(part == {"train": 0, "test": 2}[split])


def cifar10n(name: str, split: Any, root: Any) -> dict[str, Tensor]:
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key].astype(np.int64)) for key in file.files}


def omniglot(name: str, split: Any, root: Any, size: int = 28) -> Images:
    """Characters, white ink on black, as classes "alphabet/character"; the alphabet is the class's group."""
    choose(name, split, ("small1", "small2"))
    pixels, labels, ids = [], [], []
    classes: list[str] = []
    groups: list[str] = []
    for path in locate(name, root):
        if split is not None and split not in path.name:
            continue
        with zipfile.ZipFile(path) as archive:
            drawings = sorted(entry for entry in archive.namelist() if entry.endswith(".png"))
            for entry in drawings:
                *_, alphabet, character, file = entry.split("/")
                label = f"{alphabet}/{character}"
                if label not in classes[-1:]:
                    if label in classes:  # two alphabets are in both archives
                        continue
                    classes.append(label)
                    groups.append(alphabet)
                picture = Image.open(io.BytesIO(archive.read(entry))).convert("L")
                pixels.append(255 - np.asarray(picture.resize((size, size), Image.Resampling.BOX)))
                labels.append(len(classes) - 1)
                ids.append(f"{label}/{file}")
    images = torch.from_numpy(np.stack(pixels))[:, None]
    return Images(images, torch.tensor(labels), tuple(classes), name, tuple(ids), tuple(groups))


def camvid(name: str, split: Any, root: Any) -> Segments:
    choose(name, split, ("train", "val", "test"))
    with np.load(locate(name, root)[0], allow_pickle=False) as file:
        images = np.stack([decode(b) for b in unpack(file["jpeg"], file["jpeg_offset"])]).transpose(0, 3, 1, 2)
        masks = np.stack([np.asarray(Image.open(io.BytesIO(b))) for b in unpack(file["png"], file["png_offset"])])
        part, names = file["split"], [str(n) for n in file["name"]]
        groups = [str(file["sequence_name"][s]) for s in file["sequence"]]
        classes = [str(c) for c in file["class_name"]][:11]
    data = Segments(
        torch.from_numpy(images.copy()),
        torch.from_numpy(masks.copy()),
        tuple(classes),
        name,
        11,
        tuple(names),
        tuple(groups),
    )
    return data if split is None else data.subset(part == ("train", "val", "test").index(split))


def bccd(name: str, split: Any, root: Any) -> Boxes:
    import json

    choose(name, split, ("train", "val", "test"))
    images, targets, ids, classes = [], [], [], ()
    with zipfile.ZipFile(locate(name, root)[0]) as archive:
        for part in (split,) if split else ("train", "val", "test"):
            annotation = next(n for n in archive.namelist() if n.endswith(f"instances_{part}.json"))
            coco = json.loads(archive.read(annotation))
            order = {c["id"]: i for i, c in enumerate(sorted(coco["categories"], key=lambda c: c["id"]))}
            classes = tuple(c["name"] for c in sorted(coco["categories"], key=lambda c: c["id"]))
            boxes: dict[int, list] = {image["id"]: [] for image in coco["images"]}
            for a in coco["annotations"]:
                x, y, w, h = a["bbox"]
                boxes[a["image_id"]].append([x, y, x + w, y + h, order[a["category_id"]]])
            members = {Path(n).name: n for n in archive.namelist()}
            for image in coco["images"]:
                picture = decode(archive.read(members[Path(image["file_name"]).name]))
                rows = torch.tensor(boxes[image["id"]], dtype=torch.float32).view(-1, 5)
                images.append(torch.from_numpy(picture.transpose(2, 0, 1).copy()))
                targets.append({"boxes": rows[:, :4], "labels": rows[:, 4].long()})
                ids.append(image["file_name"])
    return Boxes(tuple(images), tuple(targets), classes, name, tuple(ids))


@lru_cache(maxsize=2)
def _photographs(path: Path) -> tuple[Tensor, ...]:
    with zipfile.ZipFile(path) as archive:
        members = sorted(n for n in archive.namelist() if n.startswith(("train/", "BSD100/")) and n.endswith(".jpg"))
        return tuple(torch.from_numpy(decode(archive.read(n)).transpose(2, 0, 1).copy()) for n in members)


def photographs(name: str, split: Any, root: Any) -> tuple[Tensor, ...]:
    """Photographs (3, H, W) uint8 of about 481 × 321 pixels, without labels."""
    choose(name, split, ())
    return _photographs(locate(name, root)[0])


def wordnet(name: str, split: Any, root: Any) -> Taxonomy:
    choose(name, split, ("noun", "mammal"))
    path = next(p for p in locate("wordnet", root) if (split or "mammal") in p.name)
    with np.load(path, allow_pickle=False) as file:
        if "name" in file.files:
            words = [str(n) for n in file["name"]]
        else:
            words = file["name_utf8"].tobytes().decode().split("\n")
        return Taxonomy(tuple(words), torch.from_numpy(file["edge"].astype(np.int64)), f"wordnet_{split or 'mammal'}")


@cache
def _corpus(path: Path) -> dict[str, str]:
    sections: dict[str, str] = {}
    for part in lzma.decompress(path.read_bytes()).decode().split("<<<CORPUS ")[1:]:
        title, _, body = part.partition(">>>")
        sections[title.strip()] = body.lstrip("\n")
    return sections


def text_corpus(name: str, split: Any, root: Any) -> str:
    """English text; the parts are its corpora (brown, abc, …)."""
    sections = _corpus(locate(name, root)[0])
    choose(name, split, tuple(sections))
    return sections[split] if split else "\n".join(sections.values())


READERS: dict[str, Reader] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar10n": cifar10n,
    "tiny_imagenet_60": tiny_imagenet_60,
    "omniglot": omniglot,
    "camvid": camvid,
    "bccd": bccd,
    "photographs": photographs,
    **GRAPH_READERS,
    "wordnet": wordnet,
    "text_corpus": text_corpus,
    "tabular_uci": tabular_uci,
    **TEXT_READERS,
    **WORD_READERS,
}
