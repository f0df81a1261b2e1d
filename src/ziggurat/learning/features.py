"""What a trained network says of a whole data set: representations and logits, in batches, without gradients."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ziggurat.data.batch import map_tensors
from ziggurat.data.datasets import Images
from ziggurat.data.sources import cache_folder, write_atomically
from ziggurat.nn.learner import Learner


def _apply(
    learner: Learner,
    function: Callable[..., Tensor],
    dataset: Any,
    batch_size: int,
    normalize: tuple[Tensor, Tensor] | None,
) -> Tensor:
    mode = learner.training
    learner.eval()
    parts = []
    with torch.inference_mode():
        for index in torch.arange(len(dataset)).split(batch_size):
            given = dataset.inputs(index)
            if normalize is not None:
                mean, std = normalize
                given = (given - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
            given = given if isinstance(given, tuple) else (given,)
            parts.append(function(*map_tensors(given, lambda x: x.to(learner.device))).flatten(1).cpu())
    learner.train(mode)
    return torch.cat(parts).clone()


def encode(
    learner: Learner, dataset: Any, batch_size: int = 256, normalize: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Representations (N, D) of all samples.

    Arguments:
        normalize: (mean, std) a channel, as in training.
    """
    return _apply(learner, learner.represent, dataset, batch_size, normalize)


def logits(
    learner: Learner, dataset: Any, batch_size: int = 256, normalize: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Logits (N, K) of all samples."""
    return _apply(learner, learner.predict, dataset, batch_size, normalize)


def frozen(
    network: nn.Module,
    function: Callable[[Tensor], Tensor],
    images: Images,
    name: str,
    batch_size: int = 64,
    folder: Path | None = None,
) -> Tensor:
    """Vectors (N, D) of images by a frozen network, kept on disk and computed again when weights, images or `name` differ.

    Arguments:
        network: its weights are part of the key.
        function: images (B, C, H, W) in [0, 1] -> (B, D).
        name: says what `function` does to the images, such as "efficientnet_lite0 at 64".
        folder: where to keep them; by default the user's cache.
    """
    key = hashlib.sha256(name.encode())
    for part in (*network.state_dict().values(), images.images):
        key.update(part.contiguous().numpy().tobytes())
    path = (folder or cache_folder() / "features") / f"{key.hexdigest()[:32]}.safetensors"
    if path.is_file():
        return load_file(path)["vectors"]
    network.eval()
    with torch.inference_mode():
        parts = [function(images.inputs(index)) for index in torch.arange(len(images)).split(batch_size)]
    vectors = torch.cat(parts).clone()
    write_atomically(path, save({"vectors": vectors}))
    return vectors
