"""The parts of a picture that decide about it, beside the patches of training images that they resemble."""

from __future__ import annotations

from pathlib import Path

import torch

from ziggurat.data.datasets import Images
from ziggurat.memory.prototypes.protopnet import Evidence, ProtoPNet, explain
from ziggurat.report.decisions import decide
from ziggurat.report.figures import pyplot, write
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.training import prepare


def explain_prototypes(
    artifact: Artifact, picture: Path, target: str | None, folder: Path, count: int = 4
) -> tuple[Path, str, float, list[Evidence]]:
    """Draws the strongest evidence for a class: this part of the picture looks like that part of a training image.

    Arguments:
        target: the class; None takes the predicted one.
        count: how many parts.

    Returns: the path of the PNG, the class, its probability, and the evidence, the strongest first.
    """
    from matplotlib.patches import Rectangle

    shape, network = artifact.shape, artifact.network
    if not isinstance(network, ProtoPNet) or int(network.head.source.min()) < 0:
        raise ValueError(f"{artifact.method} has no prototypes that are patches; train prototype_parts/resnet18.")
    parts = prepare(artifact.data).parts
    if parts is None or not isinstance(parts.train, Images) or int(network.head.source.max()) >= len(parts.train):
        raise ValueError(
            f"{artifact.data} is not what {artifact.method} was trained on; the patches are cut from there."
        )
    decided = decide(artifact, picture, target)
    found = explain(network, decided.x[0], decided.number, count)
    # the picture as the network sees it, so that boxes lie where they belong
    mean, std = artifact.normalize or (torch.zeros(1), torch.ones(1))
    seen = decided.x[0] * std.view(-1, 1, 1) + mean.view(-1, 1, 1)
    figure, axes = pyplot().subplots(
        len(found), 2, figsize=(5.2, 2.4 * len(found) + 0.5), layout="constrained", squeeze=False
    )
    for row, one in zip(axes, found, strict=True):
        source = parts.train.inputs([one.source])[0]
        for axis, shown, box in zip(row, (seen, source), (one.box, one.source_box), strict=True):
            pixels = shown.clamp(0, 1).permute(1, 2, 0).numpy()
            axis.imshow(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
            left, top, right, bottom = box
            axis.add_patch(
                Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, ec="yellow", lw=2)
            )
            axis.set(xticks=[], yticks=[])
        name = shape.classes[int(parts.train.labels[one.source])]
        row[0].set_title(f"this part adds {one.contribution:+.2f}", fontsize=9)
        row[1].set_title(f"looks like that of a {name}", fontsize=9)
    figure.suptitle(decided.caption())
    path = folder / f"{picture.stem}-{decided.name.replace('/', '-')}-parts.png"
    write(figure, path)
    return path, decided.name, decided.probability, found
