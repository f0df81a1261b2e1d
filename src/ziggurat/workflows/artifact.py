"""A trained method on disk: `<name>.safetensors` with the weights and a small `<name>.json` that rebuilds what they belong to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ziggurat.data.sources import write_atomically
from ziggurat.nn.learner import Learner
from ziggurat.workflows.methods import Shape, as_record, make_learner, parse_method
from ziggurat.workflows.pretrained import PRETRAINED, is_pretrained, pretrained

FORMAT = 1


class Decision(torch.nn.Module):
    """A learner's decision as a network, so that rules without an output layer are explained too."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, *inputs: Any) -> Tensor:
        return self.learner.predict(*inputs)


@dataclass
class Artifact:
    """A learner ready for use, and what it was trained on.

    Attributes:
        method: as the person wrote it.
        data: name of the training data.
        normalize: (mean, std) of each channel, or None.
        metrics: what was measured when it was made.
    """

    learner: Learner
    method: str
    shape: Shape
    data: str
    normalize: tuple[Tensor, Tensor] | None
    seed: int
    batch_size: int
    metrics: dict[str, Any]

    @property
    def network(self) -> torch.nn.Module:
        """The network inside the learner."""
        return self.learner.network

    def prepare(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] as the network wants them: grey or in colour, squares of its size, normalised."""
        channels, square = self.shape.channels, (self.shape.size, self.shape.size)
        if images.shape[1] != channels:
            if {images.shape[1], channels} != {1, 3}:
                raise ValueError(
                    f"images have {images.shape[1]} channels and {self.method} takes {channels}; only 1 (grey) or 3 (colour) "
                    "are brought to each other, so take away what else there is, such as transparency."
                )
            images = images.mean(1, keepdim=True) if channels == 1 else images.expand(-1, channels, -1, -1)
        if images.shape[-2:] != square:
            images = torch.nn.functional.interpolate(images, square, mode="bilinear", antialias=True)
        if self.normalize is None:
            return images
        mean, std = self.normalize
        return (images - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)

    def save(self, path: str | Path) -> Path:
        """Writes both files, each whole or not at all; returns the path of the weights."""
        if is_pretrained(self.method):
            raise ValueError(f"{self.method} is taken by its name; there is nothing to save.")
        path = Path(path).with_suffix(".safetensors")
        described = {
            "format": FORMAT,
            "method": self.method,
            "shape": as_record(self.shape),
            "data": self.data,
            "normalize": None if self.normalize is None else [t.tolist() for t in self.normalize],
            "seed": self.seed,
            "batch_size": self.batch_size,
            "metrics": self.metrics,
            "versions": {name: version(name) for name in ("ziggurat", "torch")},
        }
        state = {name: value.contiguous().clone() for name, value in self.learner.state_dict().items()}
        write_atomically(path, save(state, {"ziggurat": version("ziggurat"), "method": self.method}))
        write_atomically(path.with_suffix(".json"), json.dumps(described, indent=1).encode())
        return path


def load_artifact(path: str | Path) -> Artifact:
    """Reads what `save` wrote, or takes a network that others have trained, by its name.

    A missing, damaged or newer file is a `ValueError` that says so.
    """
    if is_pretrained(str(path)):
        ready = pretrained(str(path))
        return Artifact(ready.learner, str(path), ready.shape, ready.data, ready.normalize, 0, 1, {})
    path = Path(path).with_suffix(".safetensors")
    for file in (path, path.with_suffix(".json")):
        if not file.is_file():
            raise ValueError(
                f"there is no checkpoint {path} (missing {file.name}); `ziggurat train` and `compare` make one, and "
                f"{', '.join(PRETRAINED)} is there without training."
            )
    try:
        described = json.loads(path.with_suffix(".json").read_text())
        state = load(path.read_bytes())
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"the checkpoint {path} is damaged ({error}); make it again.") from None
    if described.get("format") != FORMAT:
        raise ValueError(
            f"the checkpoint {path} has format {described.get('format')}, this version reads {FORMAT}; update ziggurat."
        )
    shape = Shape(**{**described["shape"], "classes": tuple(described["shape"]["classes"])})
    learner = make_learner(parse_method(described["method"]), shape, described["batch_size"])
    learner.load_state_dict(state, strict=True)
    normalize = described["normalize"]
    return Artifact(
        learner=learner.eval(),
        method=described["method"],
        shape=shape,
        data=described["data"],
        normalize=None if normalize is None else (torch.tensor(normalize[0]), torch.tensor(normalize[1])),
        seed=described["seed"],
        batch_size=described["batch_size"],
        metrics=described["metrics"],
    )
