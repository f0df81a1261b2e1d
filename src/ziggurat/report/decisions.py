"""What a checkpoint decides about a picture, before it is explained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from ziggurat.data.pictures import open_image
from ziggurat.workflows.artifact import Artifact


class Decided(NamedTuple):
    """The picture as it is, and as the network sees it; the class that is explained, its name and its probability."""

    image: UInt8[ndarray, "H W 3"]
    x: Float[Tensor, "1 C S T"]
    number: int
    name: str
    probability: float

    def caption(self) -> str:
        """For people: the class, and how sure the checkpoint is of it."""
        return f"{self.name}, {100 * self.probability:.0f} %"


def decide(artifact: Artifact, picture: Path, target: str | None) -> Decided:
    """Reads a picture and chooses the class that is to be explained: `target`, or the predicted one."""
    shape = artifact.shape
    if shape.kind != "image":
        raise ValueError(f"{artifact.method} takes {shape.kind} input; only decisions about images are drawn.")
    if artifact.learner.score != "predict":
        raise ValueError(
            f"{artifact.method} has no classes of its own to explain; train a classifier, for instance resnet18."
        )
    if target is not None and target not in shape.classes:
        raise ValueError(f"{target!r} is no class of this checkpoint; its classes are {', '.join(shape.classes)}.")
    image = open_image(picture)
    x = artifact.prepare(torch.from_numpy(image.transpose(2, 0, 1).copy()).float()[None] / 255)
    with torch.no_grad():
        probabilities = artifact.learner.predict(x).softmax(1)[0]
    chosen = int(probabilities.argmax()) if target is None else shape.classes.index(target)
    return Decided(image, x, chosen, shape.classes[chosen], float(probabilities[chosen]))
