"""`load`: a data set by name, or the user's own files by path."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor

from ziggurat.data.datasets import Images
from ziggurat.data.sources import sources


def load(
    name: str | Path, split: str | int | None = None, root: str | Path | None = None, size: int | None = None
) -> Any:
    """A data set in memory.

    Arguments:
        name: a name (`names()` lists them), or the path of a folder of images, a csv, or a graph file.
        split: the published part ("train", "test", …); None is everything. Geom-GCN graphs take 0 … 9.
        root: a folder to look in first.
        size: side to which images of different sizes are brought; None chooses one.

    Returns: `Images`, `Boxes`, `Segments`, `Table`, `Taxonomy`, torch_geometric's `Data`, or a text.
    Raises `FileNotFoundError` or `ValueError` with one sentence that says what to do.
    """
    from ziggurat.data.readers import READERS

    if isinstance(name, str) and name in READERS:
        return READERS[name](name, split, root)
    path = Path(name)
    if path.exists():
        from ziggurat.data.files import read

        return read(path, size)
    near = difflib.get_close_matches(str(name), READERS, n=3, cutoff=0.5)
    hint = f" Did you mean {', '.join(near)}?" if near else " `ziggurat doctor` lists the data sets known by name."
    raise FileNotFoundError(f"{name} is neither a data set known by name nor a file or folder.{hint}")


def names() -> list[str]:
    """Data sets that `load` knows by name."""
    from ziggurat.data.readers import READERS

    return sorted(READERS)


class Splits(NamedTuple):
    """Three disjoint parts: to train on, to choose by, and to be looked at once."""

    train: Any
    valid: Any
    test: Any


def stratified(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Two disjoint parts of the rows, the second one with about `fraction` of every class; classes of one stay in the first."""
    counts = torch.bincount(labels)
    single = counts[labels] < 2
    rows = (~single).nonzero().flatten().numpy()
    held = max(round(fraction * len(rows)), len(np.unique(labels[rows].numpy())))
    keep, part = train_test_split(rows, test_size=held, stratify=labels[rows].numpy(), random_state=seed)
    keep = np.concatenate([keep, single.nonzero().flatten().numpy()])
    return torch.from_numpy(np.sort(keep)), torch.from_numpy(np.sort(part))


def splits(
    name: str | Path, root: str | Path | None = None, size: int | None = None, valid: float = 0.1, seed: int = 0
) -> Splits:
    """Train, validation and test part of a data set of samples with classes.

    A published test part is kept. Otherwise a fifth of every class is held out, by a seed that never changes. The validation part
    is taken from what remains. Samples without a label are left out.
    """
    data = load(name, root=root, size=size)
    if data.task != "classification":
        raise ValueError(f"{data.name} is a data set for {data.task}; a comparison needs one class for each sample.")
    present = torch.bincount(data.labels[data.labels >= 0]) if len(data) else torch.zeros(0)
    if int((present > 0).sum()) < 2:
        raise ValueError(
            f"{data.name} has fewer than two classes; put the images of each class into a folder of its own, or search them without "
            f"any: ziggurat embed {name} --with efficientnet_lite0 --store memory"
        )
    if int(present.sum()) < len(data):
        data = data.subset(data.labels >= 0)
    if "test" in published_splits(name):
        train, test = load(name, "train", root), load(name, "test", root)
    else:
        keep, held = stratified(data.labels, 0.2, seed=0)
        train, test = data.subset(keep), data.subset(held)
    keep, held = stratified(train.labels, valid, seed)
    return Splits(train.subset(keep), train.subset(held), test)


def published_splits(name: str | Path) -> tuple[str, ...]:
    """The parts that a data set is published in."""
    return {"fashion_mnist": ("train", "test"), "cifar10": ("train", "test")}.get(str(name), ())


def channel_stats(images: Images) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each channel, of pixels in [0, 1]; a constant channel gets deviation 1."""
    sample = images.images[:: max(len(images) // 5000, 1)].double() / 255
    deviation, mean = torch.std_mean(sample, dim=(0, 2, 3), correction=0)
    return mean.float(), torch.where(deviation > 1e-6, deviation, 1.0).float()


def licence(name: str) -> str:
    """Licence of a data set known by name, as its source states it."""
    return sources()[name]["licence"]
