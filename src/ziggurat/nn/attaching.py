"""Putting a module between the units of a network that exists: attention, context, adapters."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import nn

from ziggurat.nn.staged import Staged

Network = TypeVar("Network", bound=Staged)


def attach(
    network: Network, make: Callable[[int], nn.Module], places: Mapping[int, Sequence[int]] | None = None
) -> Network:
    """A copy of a network with `make(channels)` put behind units of its stages.

    The units keep their names, so weights of the plain network still load (what was attached is named `<unit>_attached`).

    Arguments:
        network: any `Staged` network whose stages hand on one tensor; where a stage is no `Sequential`, only its end is a place.
        make: the module for a width; it must keep the shape of its input.
        places: stage -> behind which of its units, counted from 1. None: behind the last unit of every stage.
    """
    attached = copy.deepcopy(network)
    places = {i: (_units(stage),) for i, stage in enumerate(network.stages)} if places is None else places
    for i, after in places.items():
        if not 0 <= i < len(network.stages):
            raise ValueError(f"{type(network).__name__} has the stages 0 to {len(network.stages) - 1}, got {i}.")
        stage, count = attached.stages[i], _units(network.stages[i])
        if wrong := [unit for unit in after if not 1 <= unit <= count]:
            raise ValueError(f"stage {i} of {type(network).__name__} has the units 1 to {count}, got {wrong[0]}.")
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        units = stage.named_children() if isinstance(stage, nn.Sequential) else [("0", stage)]
        for unit, (name, part) in enumerate(units, start=1):
            parts[name] = part
            if unit in after:
                parts[f"{name}_attached"] = make(network.channels[i])
        attached.stages[i] = nn.Sequential(parts)
    return attached


def _units(stage: nn.Module) -> int:
    """How many places a stage has."""
    return len(stage) if isinstance(stage, nn.Sequential) else 1
