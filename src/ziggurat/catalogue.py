"""The catalogue: every paper and baseline by name, and how to build what they describe."""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, get_type_hints

CONTRACTS = (
    "staged", "neck", "detector", "segmenter", "dense", "layer", "learner", "rule", "objective", "sampler", "estimator",
    "embedding", "index", "explainer", "function", "dataset", "study",
)  # fmt: skip
Row = dict[str, Any]


@cache
def _content() -> dict[str, Row]:
    return tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text())


def rows() -> dict[str, Row]:
    """The papers: id -> row of `catalogue.toml`."""
    return {name: row for name, row in _content().items() if name != "baselines"}


def baselines() -> dict[str, Row]:
    """What the papers are compared with and is no paper of ours."""
    return _content().get("baselines", {})


def variants() -> dict[str, str]:
    """Every name that `build` knows -> dotted path of its constructor."""
    return {
        name: path
        for row in (*rows().values(), *baselines().values())
        for name, path in row.get("variants", {}).items()
    }


def names() -> list[str]:
    """Papers, baselines and variants."""
    return sorted({*rows(), *baselines(), *variants()})


def nearest(name: str, count: int = 3) -> list[str]:
    """The known names most like `name`."""
    return difflib.get_close_matches(name, names(), n=count, cutoff=0.0)


def unknown(name: str) -> ValueError:
    """The error for a name that is not in the catalogue."""
    return ValueError(f"there is no {name!r} in the catalogue; the nearest names are {', '.join(nearest(name))}.")


def owner(name: str) -> str:
    """The paper or baseline that a name (an id or one of its variants) belongs to."""
    for table in (rows(), baselines()):
        if name in table:
            return name
        for key, row in table.items():
            if name in row.get("variants", {}):
                return key
    raise unknown(name)


def row(name: str) -> Row:
    """The row of a paper, a baseline, or the one that has this variant."""
    key = owner(name)
    return rows().get(key) or baselines()[key]


def symbol(path: str) -> Any:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be imported ({error}); write it as package.module.Name.") from None


def contract(path: str) -> Row:
    """The contract table of a symbol: `contract`, `input`, `tiny`, `export`."""
    for row in (*rows().values(), *baselines().values()):
        if path in row.get("symbols", ()):
            return row["contracts"][path.rpartition(".")[2]]
    raise ValueError(f"{path} is no symbol of the catalogue.")


def constructor(name: str) -> Callable[..., Any]:
    """What builds a variant, a baseline, a paper with one variant of its own name, or a dotted path of the user's."""
    if name in variants():
        return symbol(variants()[name])
    if "." in name and name not in names():
        return symbol(name)
    known = row(name).get("variants", {})
    raise ValueError(
        f"{name} is a paper; build one of its variants: {', '.join(known) or 'it has none to build by name'}."
    )


def build(name: str, weights: str | Path | None = None, **overrides: Any) -> Any:
    """A network, learner or estimator by name.

    Arguments:
        name: a variant ("resnet18"), a baseline ("gcn"), or the dotted path of a class of your own.
        weights: a file of weights (.safetensors, or .pt holding tensors only), ours or under the names of the usual libraries.
        overrides: arguments of the constructor; a name that it does not have is refused.
    """
    make = constructor(name)
    accepted = inspect.signature(make).parameters
    wrong = sorted(set(overrides) - set(accepted))
    if wrong:
        raise ValueError(f"{name} has no argument {', '.join(wrong)}; it takes {', '.join(accepted)}.")
    try:
        built = make(**overrides)
    except TypeError as error:
        missing = [
            p.name
            for p in accepted.values()
            if p.default is p.empty and p.name not in overrides and p.kind is not p.VAR_POSITIONAL
        ]
        if missing:
            raise ValueError(f"{name} also needs {', '.join(missing)}.") from error
        raise
    if weights is not None:
        load_weights(built, weights)
    return built


def load_weights(network: Any, path: str | Path) -> None:
    """Loads weights strictly: every tensor of the file is used and every one of the network is filled.

    Names of other libraries are translated by the map `KEYS` of the network's module: regular expressions and their
    replacements, applied in order.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file of weights at {path}.")
    state = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    )
    own = set(network.state_dict())
    if not own >= set(state):
        state = translate(state, getattr(inspect.getmodule(type(network)), "KEYS", {}))
    left, lacking = sorted(set(state) - own), sorted(own - set(state))
    if left or lacking:
        raise ValueError(
            f"{path} does not hold the weights of this {type(network).__name__}: left over {left[:3]} ({len(left)}), "
            f"lacking {lacking[:3]} ({len(lacking)}); build the variant (and num_classes) that they were trained for."
        )
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    wrong = [f"{n} {tuple(state[n].shape)} for {shapes[n]}" for n in own if tuple(state[n].shape) != shapes[n]]
    if wrong:
        raise ValueError(
            f"{path} has tensors of other shapes: {'; '.join(sorted(wrong)[:3])}; build the matching variant."
        )
    network.load_state_dict(state)


def translate(state: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """The state under our names."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in keys.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def tiny(path: str, **overrides: Any) -> Any:
    """The small copy of a symbol, as its row describes it; `{symbol = "…"}` inside stands for the tiny form of that symbol."""
    return symbol(path)(**{**resolve(contract(path).get("tiny", {})), **overrides})


def resolve(value: Any) -> Any:
    """A value of the catalogue with symbols in it built."""
    if isinstance(value, dict):
        if "symbol" in value:
            return tiny(value["symbol"], **resolve({k: v for k, v in value.items() if k != "symbol"}))
        return {key: resolve(item) for key, item in value.items()}
    return [resolve(item) for item in value] if isinstance(value, list) else value


def made_by(make: Callable[..., Any]) -> type:
    """The class that a constructor makes, seen through `functools.partial` and a function's return annotation."""
    while isinstance(make, partial):
        make = make.func
    return make if isinstance(make, type) else get_type_hints(make)["return"]


def contract_of(name: str) -> Row:
    """The contract table of what `build(name)` makes."""
    made = made_by(constructor(name))
    return row(name)["contracts"][made.__name__]


def check_rows() -> list[str]:
    """What is wrong with the catalogue, one sentence each; empty when it is sound."""
    wrong = []
    for name, row in {**rows(), **baselines()}.items():
        required = ("title", "symbols", "contracts") if name in baselines() else (
            "title", "authors", "year", "arxiv", "family", "idea", "symbols", "contracts",
        )  # fmt: skip
        wrong += [f"{name} has no {key}." for key in required if key not in row]
        for path in row.get("symbols", ()):
            short = path.rpartition(".")[2]
            table = row.get("contracts", {}).get(short)
            if table is None:
                wrong.append(f"{name}: {short} has no table of its contract.")
            elif table.get("contract") not in CONTRACTS:
                wrong.append(
                    f"{name}: {short} has the contract {table.get('contract')!r}, which is none of {CONTRACTS}."
                )
        for path in (*row.get("symbols", ()), *row.get("variants", {}).values()):
            try:
                symbol(path)
            except ValueError as error:
                wrong.append(f"{name}: {error}")
    return wrong
