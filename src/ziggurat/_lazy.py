"""Lazy re-exports (PEP 562): a room names what it offers and imports it at first use, so that `import ziggurat` is quick."""

import importlib
from collections.abc import Callable
from typing import Any


def lazy(package: str, exports: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a room; `exports` maps a public name to the module that defines it.

    A module may be relative to the package (".store") or absolute. Names are resolved once and then kept by Python.
    """

    def getattr_(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(exports[name], package), name)
        vars(importlib.import_module(package))[name] = value
        return value

    names = sorted(exports)
    return getattr_, lambda: names, names
