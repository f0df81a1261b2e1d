"""Exporting a trained network, checked against the network's own output before the file is kept."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Literal

import torch

from ziggurat.workflows.artifact import Artifact

TOLERANCE = 1e-3


def export(artifact: Artifact, path: str | Path, format: Literal["onnx", "torch"] = "onnx") -> float:
    """Writes the network as ONNX or as a torch.export program, with a batch of any size.

    Returns the largest difference between the exported network's output and its own, on a second batch size; a larger one than
    1e-3 is a `ValueError` and leaves no file.
    """
    if format not in ("onnx", "torch"):
        raise ValueError(f"format must be onnx or torch, got {format!r}.")
    shape = artifact.shape
    if shape.kind == "graph":
        raise ValueError(
            f"{artifact.method} takes a graph; only networks of images and tables are exported by this command."
        )
    network = artifact.network.eval()
    size = (shape.channels, shape.size, shape.size) if shape.kind == "image" else (shape.features,)
    x, other = torch.rand(2, *size), torch.rand(3, *size)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    dynamic = ({0: torch.export.Dim("batch")},)
    talk = logging.getLogger("torch.onnx")
    level = talk.level
    talk.setLevel(logging.ERROR)  # it lists what it would do if torchvision were here
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's exporter warns of its own internals
            if format == "torch":
                torch.export.save(torch.export.export(network, (x,), dynamic_shapes=dynamic, strict=False), temporary)
            else:
                torch.onnx.export(
                    network, (x,), temporary, dynamic_shapes=dynamic, dynamo=True, verbose=False, external_data=False
                )
        if format == "torch":
            with torch.inference_mode():
                got = torch.export.load(temporary).module()(other)
        else:
            import onnxruntime

            session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
            got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: other.numpy()})[0])
        with torch.inference_mode():
            difference = float((got - network(other)).abs().max())
        if difference > TOLERANCE:
            raise ValueError(f"the exported network differs from its own output by {difference:.2g}; it was not kept.")
        temporary.replace(path)
    finally:
        talk.setLevel(level)
        temporary.unlink(missing_ok=True)
    return difference
