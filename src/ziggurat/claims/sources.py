"""Which files of ziggurat an experiment rests on, and whether they have changed since it was measured.

Files are hashed without docstrings, comments and layout. `own` are the claim and the files of the paper's symbols: when one
changes, the record is stale. `shared` are all others that these import, directly or not; a change there is shown.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import ziggurat
from ziggurat.catalogue import row

PACKAGE = Path(ziggurat.__file__).parent
MACHINERY = ("ziggurat.cli", "ziggurat.report", "ziggurat.testing")


@cache
def path_of(module: str) -> Path | None:
    """The file of a module of this package; None for anything else."""
    if module.split(".")[0] != "ziggurat":
        return None
    base = PACKAGE.joinpath(*module.split(".")[1:])
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


@cache
def lazy_table(room: str) -> dict[str, str]:
    """The lazy re-exports of a room, public name -> module, read from its source."""
    path = path_of(room)
    if path is None or path.name != "__init__.py":
        return {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "lazy" and isinstance(node.args[1], ast.Dict):
            table = ast.literal_eval(node.args[1])
            return {name: importlib.util.resolve_name(target, room) for name, target in table.items()}
    return {}


@cache
def imported(module: str) -> frozenset[str]:
    """Modules of this package that a module's file imports, anywhere in it; lazy re-exports are followed to their file."""
    path = path_of(module)
    if path is None:
        return frozenset()
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(lazy_table(node.module).get(alias.name) or (whole if path_of(whole) else node.module))
    return frozenset(name for name in found if path_of(name) and not name.startswith(MACHINERY))


def closure(start: list[str]) -> set[str]:
    """The modules and everything of this package that they import."""
    seen: set[str] = set()
    todo = list(start)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo.extend(imported(module))
    return seen


@cache
def digest(path: Path) -> str:
    """Hash of what a file does: its syntax tree without docstrings (and so without comments and layout)."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def claim_module(name: str) -> str:
    """Dotted name of a paper's experiment."""
    return f"ziggurat.claims.{row(name)['family']}.{name}"


def sources(name: str) -> dict[str, dict[str, str]]:
    """{"own": {file: hash}, "shared": {file: hash}} of a paper's experiment, files relative to the package."""
    claim = claim_module(name)
    own = {claim, *(symbol.rpartition(".")[0] for symbol in row(name)["symbols"])}
    everything = closure(sorted(own))

    def hashes(modules: set[str]) -> dict[str, str]:
        paths = sorted({p for module in modules if (p := path_of(module)) is not None})
        return {p.relative_to(PACKAGE).as_posix(): digest(p) for p in paths}

    return {"own": hashes(own), "shared": hashes(everything - own)}


def own_key(name: str, scale: str) -> str:
    """A short hash of the paper's own sources and the scale: what kept seeds are filed under."""
    return hashlib.sha256(repr((sorted(sources(name)["own"].items()), scale)).encode()).hexdigest()[:16]


def changed(record: dict[str, Any], part: str) -> list[str]:
    """Files of one part of a record's sources that are not what they were."""
    try:
        now = sources(record["id"])[part]
    except (KeyError, ValueError):
        return ["its row in the catalogue"]
    then = record["sources"][part]
    return sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))


def stale(record: dict[str, Any]) -> bool:
    """Whether the paper's own files have changed since the record was made."""
    return bool(changed(record, "own"))
