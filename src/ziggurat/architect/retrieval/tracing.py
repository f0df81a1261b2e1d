"""A network's computation as a graph: operators in topological order, and which one's result goes into which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

OPERATORS = (
    "input", "conv1", "conv3", "conv5", "depthwise", "linear", "batch_norm", "layer_norm", "relu", "gelu", "silu",
    "sigmoid", "softmax", "add", "multiply", "concat", "pool", "upsample", "matmul", "attention", "reshape", "other",
)  # fmt: skip
"""Kinds of operators; the place of a kind is the place of its one in a node's features."""

NAMES = {
    "linear": "linear", "addmm": "linear", "batch_norm": "batch_norm", "group_norm": "batch_norm", "layer_norm": "layer_norm",
    "relu": "relu", "leaky_relu": "relu", "hardtanh": "relu", "elu": "relu", "gelu": "gelu", "silu": "silu",
    "hardswish": "silu", "sigmoid": "sigmoid", "hardsigmoid": "sigmoid", "tanh": "sigmoid", "softmax": "softmax",
    "add": "add", "sub": "add", "mul": "multiply", "div": "multiply", "cat": "concat", "stack": "concat",
    "pool": "pool", "mean": "pool", "upsample": "upsample", "matmul": "matmul", "bmm": "matmul", "einsum": "matmul",
    "attention": "attention", "view": "reshape", "reshape": "reshape", "flatten": "reshape", "permute": "reshape",
    "transpose": "reshape", "chunk": "reshape", "split": "reshape", "getitem": "reshape", "squeeze": "reshape",
}  # fmt: skip
"""Kinds of operators by a part of their names, the first that fits."""
SKIPPED = ("dropout", "alias", "contiguous", "detach", "clone", "_assert", "sym_", "dtype", "_to_copy", "identity")
"""Operators that compute nothing: what goes into them goes on to whatever uses them."""


def operator_graph(kinds: Sequence[str], edges: Sequence[tuple[int, int]]) -> Data:
    """Operators by kind, in topological order, and edges from each to those that use it; x is one-hot."""
    if unknown := [kind for kind in kinds if kind not in OPERATORS]:
        raise ValueError(f"{unknown[0]!r} is no kind of operator; there are {', '.join(OPERATORS)}.")
    if any(a >= b for a, b in edges):
        raise ValueError("operators must stand in topological order: every edge leads to a later one.")
    number = torch.tensor([OPERATORS.index(kind) for kind in kinds], dtype=torch.int64)
    edge_index = torch.tensor(sorted(set(edges)), dtype=torch.int64).view(-1, 2).T.contiguous()
    return Data(x=nn.functional.one_hot(number, len(OPERATORS)).float(), edge_index=edge_index)


def computation_graph(module: nn.Module, *inputs: Any) -> Data:
    """The operators that a module runs on some inputs, as `torch.export` sees them.

    Names of modules and parameters leave no trace. Raises a `ValueError` where the module cannot be exported.
    """
    try:
        program = torch.export.export(module.eval(), inputs, strict=False)
    except Exception as error:
        raise ValueError(
            f"{type(module).__name__} cannot be traced by torch.export ({type(error).__name__}); give inputs that it takes, "
            "or build its graph with operator_graph."
        ) from error
    given = set(program.graph_signature.user_inputs)
    place: dict[Any, list[int]] = {}  # of every fx node the operators that its value comes from
    kinds: list[str] = []
    edges: list[tuple[int, int]] = []
    for node in program.graph.nodes:
        sources = [i for source in node.all_input_nodes for i in place.get(source, [])]
        kind = "input" if node.op == "placeholder" and node.name in given else _kind(node)
        if kind is None:
            place[node] = sources
            continue
        place[node] = [len(kinds)]
        edges += [(i, len(kinds)) for i in sources]
        kinds.append(kind)
    return operator_graph(kinds, edges)


def _kind(node: Any) -> str | None:
    """The kind of an fx node; None for what is no operator: parameters, constants, the output, and what computes nothing."""
    if node.op != "call_function":
        return None
    name = getattr(node.target, "__name__", str(node.target)).split(".")[0].lower()
    if any(part in name for part in SKIPPED):
        return None
    if "conv" in name:
        return _convolution(list(_shapes(node)), node)
    return next((kind for part, kind in NAMES.items() if part in name), "other")


def _shapes(node: Any) -> Iterator[torch.Size]:
    for source in node.all_input_nodes:
        value = source.meta.get("val")
        if isinstance(value, Tensor):
            yield value.shape


def _convolution(shapes: list[torch.Size], node: Any) -> str:
    """By the kernel's side, or "depthwise" where every channel has its own."""
    weight = shapes[1]
    groups = next((a for a in reversed(node.args) if isinstance(a, int) and not isinstance(a, bool)), 1)
    if groups > 1 and weight[1] == 1:
        return "depthwise"
    side = max(weight[2:])
    return "conv1" if side == 1 else "conv3" if side <= 3 else "conv5"
