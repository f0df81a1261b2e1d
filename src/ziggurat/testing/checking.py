"""How the checks of a contract are run: each one a small function of a subject, each one with its own sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from ziggurat import catalogue


class Reason(Enum):
    """Why a check may not apply: the only reasons there are."""

    NO_PARAMETERS = "the module has no parameters"
    NOT_SEQUENTIAL = "the network does not promise to be sequential"
    NO_STRIDES = "the network is not one of images"
    NOT_A_GRAPH = "the input has no edges"
    NO_BATCH = "the input is one graph, not a batch"
    NOT_EXPORTABLE = "the row says that it cannot be exported"
    EXPORT_ANOTHER_DAY = "exports are checked in turns"
    NO_CLASSES = "the method has no classes"
    CANNOT_TRANSFORM = "the estimator only embeds what it was fitted on"
    NOT_BFLOAT16 = "an operation has no bfloat16 version on this device"


@dataclass(frozen=True)
class Skip:
    """What a check returns when it does not apply."""

    reason: Reason


@dataclass(frozen=True)
class Subject:
    """What is checked.

    Arguments:
        make: builds a fresh copy.
        contract: one of the contracts of the catalogue.
        input: its kind of input.
        export: "onnx", "torch.export", or "no: reason".
        name: for messages.
        options: of the example, such as its size (`example` in the row).
    """

    make: Callable[[], Any]
    contract: str
    input: str = "image"
    export: str = "no: not asked for"
    name: str = "subject"
    options: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def one(self) -> Any:
        """A copy that checks may look at but must not change."""
        return self.make()


def subject(path: str) -> Subject:
    """A symbol of the catalogue in its tiny form."""
    table = catalogue.contract(path)
    is_function = table["contract"] == "explainer"  # a method of explanation is the symbol itself, not what it returns
    return Subject(
        make=lambda: catalogue.symbol(path) if is_function else catalogue.tiny(path),
        contract=table["contract"],
        input=table.get("input", "image"),
        export=table.get("export", "no: not asked for"),
        name=path.rpartition(".")[2],
        options=table.get("example", {}),
    )


Check = Callable[[Subject], Skip | None]


def run_checks(subject: Subject, checks: tuple[Check, ...]) -> dict[str, str]:
    """Runs checks; a failing one raises `AssertionError`. Returns "ran", or the reason of the skip, by name of the check."""
    import torch

    results = {}
    for check in checks:
        torch.manual_seed(0)
        try:
            skip = check(subject)
        except AssertionError as error:
            raise AssertionError(f"{subject.name}, {check.__name__}: {error}") from error
        results[check.__name__] = "ran" if skip is None else skip.reason.value
    return results
