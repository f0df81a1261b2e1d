"""What a network costs, counted exactly: parameters, multiply-accumulates, and bytes kept for the backward pass."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module, trainable: bool = False) -> int:
    """Number of parameters, each shared one once; with `trainable` only those that get a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)


def macs(module: nn.Module, *inputs: Any) -> int:
    """Multiply-accumulates of one forward pass on `inputs`: convolutions, matrix products and attention, nothing else.

    Works on the meta device too, where it costs no time: `macs(network.to("meta"), torch.empty(1, 3, 224, 224, device="meta"))`.
    """
    was_training = module.training
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.eval()(*inputs)
    module.train(was_training)
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class LayerCost:
    """A layer as it runs: its name, its kind, the shape of its output, its parameters and its multiply-accumulates."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


def layer_costs(module: nn.Module, *inputs: Any) -> list[LayerCost]:
    """Every layer (module without modules inside) that a forward pass runs, in order; works on the meta device too.

    What a network computes between its layers, such as the products of attention, is in no layer: `macs` counts it.
    """
    rows: list[LayerCost] = []
    counter = FlopCounterMode(display=False)
    before: dict[str, int] = {}

    def enter(name: str) -> None:
        before[name] = counter.get_total_flops()

    def leave(name: str, part: nn.Module, output: Any) -> None:
        spent = (counter.get_total_flops() - before[name]) // 2
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        rows.append(LayerCost(name, type(part).__name__, shape, count_parameters(part), spent))

    handles = []
    for name, part in module.named_modules():
        if not list(part.children()):
            handles.append(part.register_forward_pre_hook(lambda *_, name=name: enter(name)))
            handles.append(part.register_forward_hook(lambda p, _, y, name=name: leave(name, p, y)))
    was_training = module.training
    try:
        with torch.no_grad(), counter:
            module.eval()(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        module.train(was_training)
    return rows


@dataclass
class SavedBytes:
    """Bytes of tensors held for backward: `now` and the highest value so far, `peak`."""

    now: int = 0
    peak: int = 0


class _Held:
    """A tensor kept by autograd; its bytes are given back when autograd lets it go."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def saved_bytes(*parameters_of: nn.Module) -> Iterator[SavedBytes]:
    """Measures what autograd keeps alive inside the block. Storage held twice counts once; parameters of the given modules do not count.

    with saved_bytes(network) as saved:
        network(x).sum().backward()
    saved.peak
    """
    meter = SavedBytes()
    free = {p.untyped_storage().data_ptr() for module in parameters_of for p in module.parameters()}
    holders: dict[int, int] = {}

    def release(pointer: int, size: int) -> None:
        holders[pointer] -= 1
        if not holders[pointer]:
            meter.now -= size

    def pack(tensor: Tensor) -> _Held:
        held = _Held(tensor)
        storage = tensor.untyped_storage()
        pointer, size = storage.data_ptr(), storage.nbytes()
        if pointer not in free:
            if not holders.get(pointer):
                meter.now += size
                meter.peak = max(meter.peak, meter.now)
            holders[pointer] = holders.get(pointer, 0) + 1
            weakref.finalize(held, release, pointer, size)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        yield meter
