"""Which files of ziggurat an experiment rests on, and whether they have changed since it was measured.

Files are hashed without docstrings, comments and layout. `own` are the claim and the files of the paper's symbols: when one
changes, the record is stale. `shared` are all others that these import, directly or not; a change there is shown.
Nothing is imported to find this out: imports are read from the sources, and a room's lazy table leads to the file that is meant.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ziggurat
from ziggurat import catalogue

MACHINERY = ("cli", "report", "testing")
BY_NAME = ("build", "constructor", "symbol", "tiny")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PROSE = ("notes", "published", "support")


@cache
def path_of(module: str) -> Path | None:
    """The file of a module of this package; None for anything else."""
    package, *parts = module.split(".")
    if package != "ziggurat":
        return None
    bases = [Path(root).joinpath(*parts) for root in ziggurat.__path__]
    return next((p for base in bases for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


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


def home(module: str, name: str) -> str:
    """The module that `from module import name` ends in."""
    whole = f"{module}.{name}"
    return lazy_table(module).get(name) or (whole if path_of(whole) else module)


@cache
def imported(module: str) -> frozenset[str]:
    """Modules of this package that a module's file uses, anywhere in it."""
    path = path_of(module)
    if path is None:
        return frozenset()
    tree = ast.parse(path.read_text())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    bound: dict[str, str] = {}  # local name -> the module that it stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                top = alias.name.partition(".")[0]
                bound[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                found.update(lazy_table(source).values() if alias.name == "*" else [home(source, alias.name)])
                if path_of(f"{source}.{alias.name}"):
                    bound[alias.asname or alias.name] = f"{source}.{alias.name}"
    found.update(used_attributes(tree, bound))
    found.update(built_by_name(tree))
    return frozenset(name for name in found if path_of(name) and not is_door(name))


def is_door(module: str) -> bool:
    """Whether a module does nothing for an experiment: the machinery around it, and rooms that only re-export."""
    return module.split(".")[1:2] in [[room] for room in MACHINERY] or bool(lazy_table(module))


def used_attributes(tree: ast.AST, bound: dict[str, str]) -> Iterator[str]:
    """Modules behind `room.Name` and `room.module.Name`, where `room` is an imported package."""
    for node in ast.walk(tree):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name) and names and node.id in bound:
            module = bound[node.id]
            for name in reversed(names):
                module = home(module, name)
            yield module


def built_by_name(tree: ast.AST) -> Iterator[str]:
    """Modules of what `build("name")` and its like make, where the name is written out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            text = node.args[0].value
            if called in BY_NAME and isinstance(text, str):
                yield module_of(catalogue.variants().get(text, text))


def module_of(symbol: str) -> str:
    """The module of a dotted symbol, followed through a room's re-export."""
    module, _, name = symbol.rpartition(".")
    return lazy_table(module).get(name, module) if module else ""


def closure(start: Iterable[str]) -> set[str]:
    """The modules and everything of this package that they import."""
    seen: set[str] = set()
    todo = list(start)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo.extend(imported(module))
    return seen


def stripped(path: Path, without: tuple[str, ...] = ()) -> ast.Module:
    """A file's syntax tree without docstrings (and so without comments and layout), and without some names of the module."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if not without or not defines(node, without)]
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return tree


def defines(node: ast.stmt, names: tuple[str, ...]) -> bool:
    """Whether a statement of a module gives one of the names its meaning."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return getattr(node, "name", None) in names or any(getattr(target, "id", None) in names for target in targets)


def digest(path: Path, without: tuple[str, ...] = ()) -> str:
    """Hash of what a file does."""
    return _digest(path, path.stat().st_mtime_ns, without)


@cache
def _digest(path: Path, changed_at: int, without: tuple[str, ...]) -> str:
    # the same text under every Python: 3.12 added type_params, 3.13 leaves empty lists out
    options: dict[str, Any] = {"show_empty": True} if sys.version_info >= (3, 13) else {}
    text = ast.dump(stripped(path, without), **options).replace(", type_params=[]", "")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def claim_module(name: str) -> str:
    """Dotted name of a paper's experiment."""
    return f"ziggurat.claims.{catalogue.row(name).get('family', 'baselines')}.{catalogue.owner(name)}"


def has_experiment(name: str) -> bool:
    """Whether a paper's experiment is written."""
    return path_of(claim_module(name)) is not None


def own_modules(name: str) -> set[str]:
    """The experiment of a paper and the modules of its symbols."""
    return {claim_module(name), *(module_of(symbol) for symbol in catalogue.row(name)["symbols"])}


def relative(path: Path) -> str:
    """A file as the record names it, without the folder that the package lies in."""
    return next(path.relative_to(root).as_posix() for root in ziggurat.__path__ if path.is_relative_to(root))


def sources(name: str) -> dict[str, dict[str, str]]:
    """{"own": {file: hash}, "shared": {file: hash}} of a paper's experiment, files relative to the package."""
    own = own_modules(name)
    found = {module: path for module in sorted(closure(own)) if (path := path_of(module)) is not None}
    hashes = {module: (relative(path), digest(path)) for module, path in found.items()}
    return {
        "own": dict(sorted(pair for module, pair in hashes.items() if module in own)),
        "shared": dict(sorted(pair for module, pair in hashes.items() if module not in own)),
    }


def own_key(name: str, scale: str, device: str = "cpu") -> str:
    """What kept seeds are filed under: a hash of the paper's own sources, the scale and the device.

    The claim's prose and its extra measurement do not count, so that a reason can be added to a claim that did not hold without
    measuring its seeds again.
    """
    paths = [path for module in sorted(own_modules(name)) if (path := path_of(module)) is not None]
    claim = path_of(claim_module(name))
    parts = [digest(path, PROSE if path == claim else ()) for path in paths]
    return hashlib.sha256(repr((parts, scale, device)).encode()).hexdigest()[:16]


def changed(record: dict[str, Any], part: str) -> list[str]:
    """Files of one part of a record's sources that are not what they were."""
    try:
        now = sources(record["id"])[part]
    except ValueError:
        return ["its row in the catalogue"]
    then = record.get("sources", {}).get(part, {})
    return sorted(path for path in now.keys() | then.keys() if now.get(path) != then.get(path))


def stale(record: dict[str, Any]) -> bool:
    """Whether the paper's own files have changed since the record was made."""
    return bool(changed(record, "own"))


def shared_changed(record: dict[str, Any]) -> list[str]:
    """Files that the paper shares with others and that have changed since: no reason to doubt the record, but to renew it in turn."""
    return changed(record, "shared")
