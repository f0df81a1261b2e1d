"""Checks of modules: networks of stages, and layers."""

from __future__ import annotations

import copy
import datetime
import io
import os
import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from ziggurat.data.batch import map_tensors
from ziggurat.testing.checking import Reason, Skip, Subject
from ziggurat.testing.examples import CLASSES, example, outputs


def build(s: Subject, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A fresh copy with seeded weights."""
    torch.manual_seed(0)
    return s.make().to(dtype)


def inputs(s: Subject, dtype: torch.dtype = torch.float32, **options: Any) -> tuple:
    """Inputs of the subject's kind in a type."""
    given = example(s.input, **{**s.options, **options})
    return map_tensors(given, lambda x: x.to(dtype) if x.is_floating_point() else x)


@contextmanager
def untyped() -> Iterator[None]:
    """Without the checks of jaxtyping, which a user does not have."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def is_graph(s: Subject) -> bool:
    """Whether the input is one graph rather than a batch of samples."""
    return s.input in ("graph", "hops", "links", "hypergraph")


MANY_GRAPHS = ("graphs", "complex")
"""Kinds of input that are several graphs or complexes as one; the first is the same however many there are."""


def check_forward(s: Subject) -> None:
    """The example of its kind goes through and gives finite numbers."""
    for value in outputs(build(s)(*inputs(s))):
        assert torch.isfinite(value).all(), "the output is not finite"


def check_every_parameter_gets_a_gradient(s: Subject) -> Skip | None:
    """Every parameter gets a finite gradient that is not zero everywhere."""
    module = build(s).train()
    learned = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not learned:
        return Skip(Reason.NO_PARAMETERS)
    for parameter in learned.values():
        if (
            not parameter.any()
        ):  # what starts at zero hides the gradients in front of it: moved, as the first step would
            nn.init.normal_(parameter, std=0.1)
    grads: dict[str, Tensor] = {}
    for seed in range(3):  # a ReLU may be shut for one input
        module.zero_grad()
        weights = [torch.randn(v.shape) for v in outputs(module(*inputs(s, seed=seed, batch=4)))]
        values = outputs(module(*inputs(s, seed=seed, batch=4)))
        torch.stack([(v * w).sum() for v, w in zip(values, weights, strict=True)]).sum().backward()
        for name, parameter in learned.items():
            assert parameter.grad is not None, f"the parameter {name} gets no gradient"
            assert torch.isfinite(parameter.grad).all(), f"the gradient of {name} is not finite"
            grads[name] = grads.get(name, torch.zeros(())) + parameter.grad.abs().sum()
    dead = [name for name, value in grads.items() if float(value) == 0]
    assert not dead, f"the gradient of {dead[0]} is zero everywhere"
    return None


def check_evaluation_is_deterministic(s: Subject) -> None:
    """Twice the same in evaluation mode, without touching torch's global generator."""
    module = build(s).eval()
    state = torch.get_rng_state()
    first, second = outputs(module(*inputs(s))), outputs(module(*inputs(s)))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "two calls in evaluation mode differ"
    assert torch.equal(state, torch.get_rng_state()), "evaluation draws random numbers"


def check_batch_independence(s: Subject) -> Skip | None:
    """In evaluation mode a sample's output does not depend on the others."""
    if is_graph(s):
        return Skip(Reason.NO_BATCH)
    if s.input in MANY_GRAPHS:
        return _independence_of_graphs(s)
    module = build(s, torch.float64).eval()
    whole = inputs(s, torch.float64, batch=3)
    together = outputs(module(*whole))
    for i in range(3):
        alone = outputs(module(*map_tensors(whole, lambda x, i=i: x[i : i + 1])))
        for a, b in zip(alone, together, strict=True):
            assert torch.allclose(a[0], b[i], atol=1e-9), "the output of a sample depends on the rest of the batch"
    return None


def _independence_of_graphs(s: Subject) -> None:
    """The rows of one graph or complex among several are those that it has alone."""
    module = build(s, torch.float64).eval()
    alone, together = (outputs(module(*inputs(s, torch.float64, batch=n))) for n in (1, 3))
    for a, b in zip(alone, together, strict=True):
        assert torch.allclose(a, b[: len(a)], atol=1e-9), "the output of a graph depends on the rest of the batch"


def check_types(s: Subject) -> None:
    """float64 in gives float64 out."""
    for value in outputs(build(s, torch.float64)(*inputs(s, torch.float64))):
        assert value.dtype == torch.float64 or not value.is_floating_point(), f"float64 in gives {value.dtype} out"


def check_bfloat16(s: Subject) -> Skip | None:
    """bfloat16 in gives finite bfloat16 out."""
    try:
        values = outputs(build(s, torch.bfloat16).eval()(*inputs(s, torch.bfloat16)))
    except (RuntimeError, NotImplementedError) as error:
        if "not implemented" in str(error):
            return Skip(Reason.NOT_BFLOAT16)
        raise
    for value in values:
        assert not value.is_floating_point() or (value.dtype == torch.bfloat16 and torch.isfinite(value).all()), (
            f"bfloat16 in gives {value.dtype} out, or numbers that are not finite"
        )
    return None


def check_meta_device(s: Subject) -> None:
    """Can be made on the meta device, where nothing is allocated, with the same names and shapes."""
    with torch.device("meta"):
        empty = s.make()
    assert all(p.is_meta for p in empty.parameters()), "a parameter ignores the meta device"
    names = {name: value.shape for name, value in build(s).state_dict().items()}
    assert {name: value.shape for name, value in empty.state_dict().items()} == names, (
        "the state differs on the meta device"
    )


def check_state_round_trip(s: Subject) -> None:
    """State dict, safetensors, pickle and deepcopy all give the same function."""
    module = build(s).eval()
    want = outputs(module(*inputs(s)))
    state = {name: value.clone() for name, value in module.state_dict().items()}
    assert all(isinstance(value, Tensor) for value in state.values()), "the state holds something that is no tensor"
    torch.manual_seed(1)
    other = s.make().eval()
    other.load_state_dict(load(save(state)), strict=True)
    for copied in (other, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        got = outputs(copied(*inputs(s)))
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True)), (
            "a saved and loaded copy gives another output"
        )


def check_no_module_twice_and_nothing_in_place(s: Subject) -> None:
    """No module runs twice in a forward pass, none works in place, and the input is left as it was."""
    module = build(s).eval()
    calls: dict[str, int] = {}
    handles = []
    for name, part in module.named_modules():
        assert not getattr(part, "inplace", False), f"{name} works in place"
        if not list(part.children()):
            handles.append(
                part.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
            )
    given = inputs(s)
    before = [x.clone() for x in outputs(given)]
    module(*given)
    for handle in handles:
        handle.remove()
    twice = [name for name, count in calls.items() if count > 1]
    assert not twice, f"{twice[0]} is used {calls[twice[0]]} times in one forward pass"
    assert all(torch.equal(a, b) for a, b in zip(outputs(given), before, strict=True)), "the input is changed in place"


def check_text(s: Subject) -> None:
    """`str(module)` is under 100 lines."""
    assert str(build(s)).count("\n") < 100, "its text has 100 lines or more"


def check_export(s: Subject) -> Skip | None:
    """What the row promises: torch.export, or ONNX with equal output from onnxruntime; "no" must still fail."""
    if s.export.startswith("no: not asked"):
        return Skip(Reason.NOT_EXPORTABLE)
    today = datetime.date.today().toordinal()
    if os.environ.get("ZIGGURAT_EXPORTS") != "all" and (zlib.crc32(s.name.encode()) + today) % 6:
        return Skip(Reason.EXPORT_ANOTHER_DAY)
    module, given = build(s).eval(), inputs(s)
    try:
        program = torch.export.export(module, given, strict=False)
    except Exception:
        assert s.export.startswith("no"), "torch.export fails although the row promises it"
        return None
    assert not s.export.startswith("no"), f"torch.export works by now, and the row says «{s.export}»"
    want = outputs(module(*given))
    got = outputs(program.module()(*given))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, want, strict=True)), "the exported program differs"
    if s.export == "onnx":
        import onnxruntime

        onnx = torch.onnx.export(module, given, dynamo=True, verbose=False)
        buffer = io.BytesIO()
        onnx.save(buffer)
        session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
        feeds = {i.name: x.numpy() for i, x in zip(session.get_inputs(), outputs(given), strict=True)}
        for a, b in zip(session.run(None, feeds), want, strict=True):
            assert torch.allclose(torch.from_numpy(a), b, atol=1e-4), "onnxruntime gives another output"
    return None


# Networks of stages


def check_attributes_tell_the_truth(s: Subject) -> None:
    """`channels`, `num_features` and the number of stages are what the features show."""
    network = build(s).eval()
    features = network.forward_features(*inputs(s))
    assert len(features) == len(network.stages) == len(network.channels), (
        "stages, features and channels differ in number"
    )
    axis = 1 if s.input in ("image", "video", "table", "graph", "graphs", "hops", "hypergraph") else -1
    shown = tuple(f.shape[axis] for f in features)
    assert shown == tuple(network.channels), f"channels says {network.channels}, the features have {shown}"
    vector = network.forward_head(features, pre_logits=True)
    assert vector.shape[-1] == network.num_features, f"num_features says {network.num_features}, got {vector.shape[-1]}"
    assert network.input == s.input, f"the class says input {network.input!r}, its row {s.input!r}"


def check_strides_tell_the_truth(s: Subject) -> Skip | None:
    """Features have the size of the image over the stride, rounded up or down, also for odd sizes."""
    network = build(s).eval()
    if s.input != "image":
        return Skip(Reason.NO_STRIDES)
    assert network.strides is not None, "a network of images must say its strides"
    for height, width in ((64, 64), (65, 47)):
        x = torch.rand(1, 3, height, width)
        for feature, stride in zip(network.forward_features(x), network.strides, strict=True):
            got = feature.shape[-2:]
            honest = all(g in (n // stride, -(-n // stride)) for g, n in zip(got, (height, width), strict=True))
            assert honest, f"stride {stride} of {height}×{width} gives {tuple(got)}"
    return None


def check_sequential_promise(s: Subject) -> Skip | None:
    """Stem and stages called one after the other equal `forward_features`."""
    network = build(s).eval()
    if not network.sequential:
        return Skip(Reason.NOT_SEQUENTIAL)
    x = network.stem(*inputs(s))
    for stage, feature in zip(network.stages, network.forward_features(*inputs(s)), strict=True):
        x = stage(x)
        assert torch.equal(getattr(x, "x", x), feature), "the stages called in order do not equal forward_features"
    return None


def check_head(s: Subject) -> None:
    """`forward` is features then head; `reset_classifier` changes the number of classes, and 0 gives features."""
    network = build(s).eval()
    features = network.forward_features(*inputs(s))
    assert torch.equal(network(*inputs(s)), network.forward_head(features)), "forward is not features, then head"
    network.reset_classifier(CLASSES + 4)
    assert network(*inputs(s)).shape[-1] == CLASSES + 4, "reset_classifier does not change the number of classes"
    network.reset_classifier(0)
    vector = network.forward_head(network.forward_features(*inputs(s)), pre_logits=True)
    assert torch.equal(network(*inputs(s)), vector), (
        "with 0 classes the network must return the vector before the classifier"
    )


def check_one_sample(s: Subject) -> Skip | None:
    """A batch of one goes through in evaluation mode."""
    if is_graph(s):
        return Skip(Reason.NO_BATCH)
    for value in outputs(build(s).eval()(*inputs(s, batch=1))):
        assert torch.isfinite(value).all(), "a batch of one gives numbers that are not finite"
    return None


def check_permutation_of_nodes(s: Subject) -> Skip | None:
    """Renaming nodes renames the rows of the output (of several graphs changes nothing), and an isolated node changes no other row."""
    if s.input not in RENAMED:
        return Skip(Reason.NOT_A_GRAPH)
    module = build(s, torch.float64).eval()
    x, edges, *rest = inputs(s, torch.float64)
    want = outputs(module(x, edges, *rest))
    order = torch.randperm(len(x))
    place = order.argsort()
    renamed = RENAMED[s.input](place, order, edges, rest)
    whole = s.input in ("graphs", "links")  # a row is a graph or a pair
    for a, b in zip(outputs(module(x[order], *renamed)), want, strict=True):
        b = b if whole else b[order]
        assert torch.allclose(a, b, atol=1e-9), "renaming nodes changes more than the order of the output"
    if s.input == "graphs":
        return None
    alone = torch.cat([x, torch.ones_like(x[:1])])
    for a, b in zip(outputs(module(alone, edges, *rest)), want, strict=True):
        assert torch.isfinite(a).all() and torch.allclose(a[: len(b)], b, atol=1e-9), (
            "an isolated node changes other rows"
        )
    return None


RENAMED: dict[str, Any] = {
    "graph": lambda place, order, edges, rest: (place[edges],),
    "graphs": lambda place, order, edges, rest: (place[edges], None, rest[1][order]),
    "links": lambda place, order, edges, rest: (place[edges], place[rest[0]]),
    "hypergraph": lambda place, order, edges, rest: (torch.stack([place[edges[0]], edges[1]]),),
}
"""What follows the features when nodes are renamed, by kind of input."""


def check_bad_edges_are_refused(s: Subject) -> Skip | None:
    """An edge to a node that is not there, and edges that are no whole numbers, are a `ValueError` that says what to do."""
    if s.input not in RENAMED:
        return Skip(Reason.NOT_A_GRAPH)
    module, (x, edges, *rest) = build(s).eval(), inputs(s)
    for bad, named in ((torch.tensor([[len(x)], [0]]), f"node {len(x)}"), (edges.double(), "int64")):
        try:
            with untyped():
                module(x, bad, *rest)
        except ValueError as error:
            assert named in str(error), f"the error does not say «{named}»: {error}"
            continue
        raise AssertionError(f"edges that are wrong are accepted: one that should be refused with «{named}»")
    return None


def check_odd_graphs_are_taken(s: Subject) -> Skip | None:
    """A graph without edges, loops, an edge that stands twice, and parts that do not touch all give finite numbers."""
    if s.input not in RENAMED:
        return Skip(Reason.NOT_A_GRAPH)
    module, (x, edges, *rest) = build(s).eval(), inputs(s)
    odd = {
        "no edges": edges[:, :0],
        "a loop": torch.cat([edges, torch.tensor([[0], [0]])], 1),
        "an edge twice": torch.cat([edges, edges[:, :2]], 1),
        "two parts": edges[:, ((edges < len(x) // 2).all(0)) | ((edges >= len(x) // 2).all(0))],
    }
    for name, given in odd.items():
        for value in outputs(module(x, given, *rest)):
            assert torch.isfinite(value).all(), f"a graph with {name} gives numbers that are not finite"
    return None


LAYER = (
    check_forward,
    check_every_parameter_gets_a_gradient,
    check_evaluation_is_deterministic,
    check_one_sample,
    check_batch_independence,
    check_types,
    check_bfloat16,
    check_meta_device,
    check_state_round_trip,
    check_no_module_twice_and_nothing_in_place,
    check_text,
    check_permutation_of_nodes,
    check_bad_edges_are_refused,
    check_odd_graphs_are_taken,
    check_export,
)

STAGED = (
    *LAYER,
    check_attributes_tell_the_truth,
    check_strides_tell_the_truth,
    check_sequential_promise,
    check_head,
)
