"""Methods as people write them, `[learner/]name[:key=value,…]`, and how they are made for given data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ziggurat import catalogue
from ziggurat.nn.learner import Learner

FEEDS = {
    "image": ("image", "table"),
    "table": ("table",),
    "graph": ("graph", "hops", "table"),
    "graphs": ("graph", "graphs"),
    "links": ("links",),
}
"""Which inputs of networks a kind of data can give."""


@dataclass(frozen=True)
class Shape:
    """What a constructor must know of the data.

    Arguments:
        kind: "image", "table", "graph", "graphs" or "links" (a graph whose links are to be predicted).
        classes: their names.
        channels, size: of images.
        features: numbers a sample (or node).
    """

    kind: str
    classes: tuple[str, ...]
    channels: int = 0
    size: int = 0
    features: int = 0


def shape_of(data: Any) -> Shape:
    """The shape of a data set in memory, or of a graph."""
    if data.kind == "graph":
        if "x" not in data or data.x is None:
            raise ValueError(
                f"{data.name} has no node features ({data.note}); it cannot be used for node classification."
            )
        return Shape("graph", tuple(data.classes), features=data.x.shape[1])
    if data.kind == "graphs":
        return Shape("graphs", data.classes, features=data[0].x.shape[1])
    if data.kind == "image":
        _, channels, height, width = data.images.shape
        return Shape("image", data.classes, channels, max(height, width), channels * height * width)
    return Shape("table", data.classes, features=data.x.shape[1])


@dataclass(frozen=True)
class Method:
    """A parsed method: what learns, on which network, with which arguments given by the person."""

    text: str
    name: str
    learner: str = "supervised"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def contract(self) -> str:
        """Contract of the network (or embedding)."""
        return catalogue.contract_of(self.name)["contract"]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def contract(name: str) -> str:
    """Contract of what `build(name)` makes; a name that is called and makes nothing is a function. Unknown names are a `ValueError`."""
    catalogue.constructor(name)
    try:
        return catalogue.contract_of(name)["contract"]
    except KeyError:  # its result has no contract
        return "function"


def parse_options(text: str) -> tuple[str, dict[str, Any]]:
    """`name:key=value,…` as the name and its options."""
    path, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"the option {pair!r} of {text!r} is not understood; write {path}:key=value,key=value.")
        options[key.strip()] = _value(value.strip())
    return path, options


def parse_method(text: str) -> Method:
    """`resnet18`, `simsiam/resnet18`, `resnet18:stem=cifar`, `fastrp` … as a `Method`; unknown names are a `ValueError`."""
    path, options = parse_options(text)
    learner, slash, name = path.rpartition("/")
    learns = contract(learner) if slash else "learner"
    if learns not in ("learner", "rule"):
        raise ValueError(f"{learner} is no learner; write learner/network, for instance simsiam/{name}.")
    made = contract(name)
    if made == "layer" and not slash and catalogue.contract_of(name).get("input") == "links":
        return Method(text, name, options=options)
    if made in ("learner", "rule"):
        raise ValueError(f"{name} is a learner and needs a network; write for instance {name}/resnet18.")
    if made not in (("staged",) if slash else ("staged", "embedding")):
        raise ValueError(
            f"{name} has the contract {made} and cannot be {f'trained by {learner}' if slash else 'compared by accuracy'}; "
            f"what can is shown by `ziggurat list --has staged`{'' if slash else ' and `ziggurat list --has embedding`'}."
        )
    return Method(text, name, learner or "supervised", options)


def check_fit(method: Method, shape: Shape, data_name: str) -> None:
    """Raises a `ValueError` that names both when a method cannot take such data."""
    table = catalogue.contract_of(method.name)
    takes = table.get("input", "image")
    if takes == "links" and shape.kind == "graph":
        raise ValueError(f"{method.name} predicts links; say so with --task links.")
    if shape.kind == "links" and method.contract != "embedding" and takes != "links":
        raise ValueError(
            f"{method.name} does not predict links; choose an embedding of nodes such as node2vec, or ncn or ncnc."
        )
    if takes not in FEEDS[shape.kind] and not (shape.kind == "links" and method.contract == "embedding"):
        raise ValueError(
            f"{method.name} takes {takes} input, and {data_name} is {shape.kind} data; "
            f"choose a method for {shape.kind} data (`ziggurat list`), or other data."
        )
    if method.contract == "embedding" and shape.kind not in ("graph", "links"):
        raise ValueError(
            f"{method.name} embeds the nodes of one graph, and {data_name} is many; choose a graph network."
        )
    learns = catalogue.contract_of(method.learner).get("input", "image")
    if method.learner != "supervised" and learns != shape.kind and learns not in FEEDS[shape.kind]:
        raise ValueError(f"{method.learner} learns from {learns} data, and {data_name} is {shape.kind} data.")


def small_image_warning(method: Method, shape: Shape) -> str | None:
    """One sentence when a stem made for large images meets small ones."""
    parameters = inspect.signature(catalogue.constructor(method.name)).parameters
    if shape.kind == "image" and shape.size <= 64 and "stem" in parameters and "stem" not in method.options:
        return (
            f"{method.name} has a stem for 224-pixel images and the images here have {shape.size} pixels; "
            f"{method.name}:stem=cifar keeps their detail."
        )
    return None


def _call(make: Callable[..., Any], known: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Calls a constructor with what it takes of the known facts, and with everything the person gave."""
    parameters = inspect.signature(make).parameters
    return make(**{**{key: value for key, value in known.items() if key in parameters}, **given})


def make_network(method: Method, shape: Shape) -> Any:
    """The network of a method for data of a shape."""
    make = catalogue.constructor(method.name)
    accepted = set(inspect.signature(make).parameters)
    of_learner = set(inspect.signature(catalogue.constructor(method.learner)).parameters)
    unknown = sorted(set(method.options) - accepted - of_learner)
    if unknown:
        raise ValueError(
            f"{method.text}: no argument {', '.join(unknown)}; {method.name} takes {', '.join(sorted(accepted))}."
        )
    known = {"num_classes": len(shape.classes), "in_channels": shape.channels, "in_features": shape.features}
    return _call(make, known, {key: value for key, value in method.options.items() if key in accepted})


def make_embedding(method: Method, seed: int) -> Any:
    """The unfitted embedding of nodes of a method."""
    accepted = set(inspect.signature(catalogue.constructor(method.name)).parameters)
    unknown = sorted(set(method.options) - accepted)
    if unknown:
        raise ValueError(
            f"{method.text}: no argument {', '.join(unknown)}; {method.name} takes {', '.join(sorted(accepted))}."
        )
    return catalogue.build(method.name, **{**method.options, "random_state": seed})


def make_learner(method: Method, shape: Shape, batch_size: int) -> Learner:
    """The learner of a method on its network, for data of a shape."""
    make = catalogue.constructor(method.learner)
    network = make_network(method, shape)
    known = {
        "num_classes": len(shape.classes),
        "input_shape": (shape.channels, shape.size, shape.size) if shape.kind == "image" else (shape.features,),
        "image_size": shape.size,
        "channels": shape.channels,
        "batch_size": batch_size,
    }
    own = set(inspect.signature(catalogue.constructor(method.name)).parameters)
    given = {key: value for key, value in method.options.items() if key not in own}
    return _call(make, {**known, "network": network}, given)


def as_record(shape: Shape) -> dict[str, Any]:
    """A shape as JSON."""
    return asdict(shape)
