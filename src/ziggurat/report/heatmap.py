"""A decision drawn over its picture."""

from __future__ import annotations

from pathlib import Path

from torch.nn.functional import interpolate

from ziggurat.explain.saliency import saliency_map
from ziggurat.report.decisions import decide
from ziggurat.report.figures import pyplot, write
from ziggurat.workflows.artifact import Artifact, Decision


def explain_image(artifact: Artifact, picture: Path, target: str | None, folder: Path) -> tuple[Path, str, float]:
    """Draws the saliency of a class over a picture.

    Returns: the path of the PNG, the class, and its probability.
    """
    decided = decide(artifact, picture, target)
    heat = saliency_map(Decision(artifact.learner), decided.x, decided.number)[None]
    heat = interpolate(heat, decided.image.shape[:2], mode="bilinear")[0, 0]
    figure, axes = pyplot().subplots(1, 2, figsize=(7, 3.6), layout="constrained")
    for axis in axes:
        axis.imshow(decided.image)
        axis.axis("off")
    axes[1].imshow(heat, cmap="inferno", alpha=0.7)
    figure.suptitle(decided.caption())
    path = folder / f"{picture.stem}-{decided.name.replace('/', '-')}.png"
    write(figure, path)
    return path, decided.name, decided.probability
