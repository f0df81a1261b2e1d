"""Networks of timm, of torchvision, and of your own as `Staged` networks, with the features of every level.

Their stages stay inside the network, so what needs a flight of stages (`sequential`) does not take them; everything else does: necks,
heads, learners, probes, explainers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ziggurat.nn.staged import Staged


class Features(list[Tensor]):
    """The maps of every level, and what the network's own head takes: `final`."""

    def __init__(self, maps: list[Tensor], final: Tensor) -> None:
        super().__init__(maps)
        self.final = final


def _final(features: list[Tensor]) -> Tensor:
    if not isinstance(features, Features):
        raise ValueError("the head of an adapted network takes the very list that its forward_features returned.")
    return features.final


class Adapted(Staged):
    """A network whose levels are found by watching it: of each size of map the last one that any of its modules puts out.

    Arguments:
        network: a classifier of images whose maps are (B, C, H, W); it ends in a linear layer.
        size: side of the square images that it is watched with once, in evaluation.

    Raises a `ValueError` for networks that make maps of one size only, or that do not end in a linear layer.
    """

    sequential = False

    def __init__(self, network: nn.Module, size: int = 224) -> None:
        super().__init__()
        self.network = network
        linear = [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
        if not linear:
            raise ValueError(f"{type(network).__name__} has no linear layer, so its classifier cannot be found.")
        self.classifier = linear[-1]
        self.num_features = int(network.get_submodule(self.classifier).in_features)  # type: ignore[arg-type]
        first = next(part for part in network.modules() if isinstance(part, nn.Conv2d))
        device = first.weight.device
        levels = self._levels(torch.zeros(1, first.in_channels, size, size, device=device, dtype=first.weight.dtype))
        if len(levels) < 2:
            raise ValueError(f"{type(network).__name__} makes maps of fewer than two sizes; it has no pyramid to take.")
        self.levels = tuple(name for name, _ in levels)
        self.channels = tuple(shape[1] for _, shape in levels)
        self.strides = tuple(round(size / shape[2]) for _, shape in levels)
        self.stem, self.stages = nn.Identity(), nn.ModuleList(nn.Identity() for _ in levels)
        self.head = nn.Identity()

    @contextmanager
    def _watching(self, names: list[str]) -> Iterator[list[tuple[str, Tensor]]]:
        """What the named modules put out inside the block, in the order in which they do."""
        seen: list[tuple[str, Tensor]] = []

        def note(name: str, value: Any) -> None:
            if isinstance(value, Tensor) and value.ndim == 4:
                seen.append((name, value))

        handles = [
            self.network.get_submodule(name).register_forward_hook(lambda _, __, y, name=name: note(name, y))
            for name in names
        ]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()

    def _levels(self, x: Tensor) -> list[tuple[str, torch.Size]]:
        """Of every size of map, largest first, the module that puts out the last one."""
        was_training = self.network.training
        with self._watching([name for name, _ in self.network.named_modules() if name]) as seen, torch.no_grad():
            self.network.eval()(x)
        self.network.train(was_training)
        last = {value.shape[-2:]: (name, value.shape) for name, value in seen if value.shape[-1] > 1}
        return sorted(last.values(), key=lambda level: -level[1][-1])

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> Features:
        taken: list[Tensor] = []
        layer = self.network.get_submodule(self.classifier)
        handle = layer.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            with self._watching(list(self.levels)) as seen:
                self.network(x)
        finally:
            handle.remove()
        maps = dict(seen)
        return Features([maps[name] for name in self.levels], taken[-1])

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        vector = _final(features)
        return vector if pre_logits else self.network.get_submodule(self.classifier)(vector)

    def reset_classifier(self, num_classes: int) -> None:
        old = self.network.get_submodule(self.classifier)
        weight = next(iter(old.parameters()), torch.empty(0))
        new = (
            nn.Linear(self.num_features, num_classes, device=weight.device, dtype=weight.dtype)
            if num_classes
            else nn.Identity()
        )
        parent, _, name = self.classifier.rpartition(".")
        setattr(self.network.get_submodule(parent), name, new)


class AdaptedTimm(Staged):
    """A network of timm, through the intermediate maps and the head that timm gives every one of its models."""

    sequential = False

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        info = network.feature_info
        described = info if isinstance(info, list) else [dict(zip(("num_chs", "reduction"), i)) for i in info.info]
        self.channels = tuple(int(level["num_chs"]) for level in described)
        self.strides = tuple(int(level["reduction"]) for level in described)
        self.num_features = int(getattr(network, "head_hidden_size", network.num_features))
        self.stem, self.stages = nn.Identity(), nn.ModuleList(nn.Identity() for _ in described)
        self.head = nn.Identity()

    def forward_features(self, x: Float[Tensor, "B C H W"]) -> Features:
        final, maps = self.network.forward_intermediates(x, output_fmt="NCHW")
        return Features(maps, final)

    def forward_head(self, features: list[Tensor], pre_logits: bool = False) -> Tensor:
        return self.network.forward_head(_final(features), pre_logits=pre_logits)

    def reset_classifier(self, num_classes: int) -> None:
        self.network.reset_classifier(num_classes)


def from_timm(name: str, num_classes: int = 1000, in_channels: int = 3, pretrained: bool = False) -> AdaptedTimm:
    """A network of timm by its name there; `pretrained=True` lets timm fetch weights (it downloads)."""
    try:
        import timm
    except ImportError as error:
        raise ValueError("timm is not installed; `pip install timm` brings it.") from error
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}; `timm.list_models()` names those it has.")
    network = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels)
    if not hasattr(network, "forward_intermediates"):
        raise ValueError(f"timm's {name} gives no intermediate maps, so it cannot be taken level by level.")
    return AdaptedTimm(network)


def from_torchvision(name: str, num_classes: int = 1000, weights: str | None = None) -> Adapted:
    """A network of torchvision by its name there; `weights="DEFAULT"` lets torchvision fetch weights (it downloads)."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        raise ValueError("torchvision is not installed for this torch; `pip install torchvision` brings it.") from error
    if name not in models.list_models(module=models):
        raise ValueError(
            f"torchvision has no classifier {name!r}; `torchvision.models.list_models()` names those it has."
        )
    adapted = Adapted(models.get_model(name, weights=weights))
    if weights is None or num_classes != 1000:
        adapted.reset_classifier(num_classes)
    return adapted
