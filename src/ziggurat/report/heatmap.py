"""A decision drawn over its picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import interpolate

from ziggurat.data.pictures import open_image
from ziggurat.explain.saliency import saliency_map
from ziggurat.report.figures import pyplot, write
from ziggurat.workflows.artifact import Artifact, Decision


def explain_image(artifact: Artifact, picture: Path, target: str | None, folder: Path) -> tuple[Path, str, float]:
    """Draws the saliency of a class over a picture.

    Returns: the path of the PNG, the class, and its probability.
    """
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

    network = Decision(artifact.learner)
    with torch.no_grad():
        probabilities = network(x).softmax(1)[0]
    chosen = int(probabilities.argmax()) if target is None else shape.classes.index(target)
    heat = saliency_map(network, x, chosen)[None]
    heat = interpolate(heat, image.shape[:2], mode="bilinear")[0, 0]
    figure, axes = pyplot().subplots(1, 2, figsize=(7, 3.6), layout="constrained")
    for axis in axes:
        axis.imshow(image)
        axis.axis("off")
    axes[1].imshow(heat, cmap="inferno", alpha=0.7)
    figure.suptitle(f"{shape.classes[chosen]}, {100 * float(probabilities[chosen]):.0f} %")
    path = folder / f"{picture.stem}-{shape.classes[chosen].replace('/', '-')}.png"
    write(figure, path)
    return path, shape.classes[chosen], float(probabilities[chosen])
