"""Finding the files of a data set: given folder, $ZIGGURAT_DATA, the user's cache, the system, and at last a download if asked."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


@cache
def sources() -> dict[str, dict[str, Any]]:
    """Every data set known by name: its files, sizes, sha256, licence and source (`sources.toml`)."""
    return tomllib.loads(Path(__file__).with_name("sources.toml").read_text())


def cache_folder() -> Path:
    """Where the library keeps what it decoded or downloaded: $XDG_CACHE_HOME/ziggurat, usually ~/.cache/ziggurat."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ziggurat"


def runs_folder() -> Path:
    """Where results and unfinished work are kept: $ZIGGURAT_RUNS, else ./runs."""
    return Path(os.environ.get("ZIGGURAT_RUNS", "runs"))


def folders(name: str, root: str | Path | None) -> Iterator[Path]:
    """The places a file is looked for, in order."""
    if root is not None:
        yield Path(root)
    if os.environ.get("ZIGGURAT_DATA"):
        yield Path(os.environ["ZIGGURAT_DATA"])
    yield cache_folder()
    if "system" in sources()[name]:
        yield Path(sources()[name]["system"])


def locate(name: str, root: str | Path | None = None) -> list[Path]:
    """Paths of all files of a data set, each checked against its sha256 once.

    Raises `FileNotFoundError` with one sentence that names the file, its size, its source and where to put it.
    """
    found = []
    for file in sources()[name]["files"]:
        path = next((p for folder in folders(name, root) if (p := folder / file["name"]).is_file()), None)
        if path is None:
            raise FileNotFoundError(
                f"{name} needs the file {file['name']} ({file['bytes'] / 1e6:.1f} MB), which was not found; get it from "
                f"{sources()[name]['source']} and put it into {cache_folder()} or the folder that ZIGGURAT_DATA names."
            )
        check_digest(path, file["sha256"])
        found.append(path)
    return found


def choose(name: str, split: Any, known: tuple[str | int, ...]) -> None:
    """Refuses a part that the data set does not have."""
    if split is not None and split not in known:
        raise ValueError(
            f"{name} has the parts {', '.join(map(str, known))}; {split!r} is none of them (leave it out for everything)."
        )


def check_digest(path: Path, expected: str) -> None:
    """Compares the sha256 of a file, unless this very file (size and time of change) was compared before."""
    stat = path.stat()
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    memory = cache_folder() / "checked.json"
    try:
        checked = json.loads(memory.read_text())
    except (OSError, ValueError):
        checked = {}
    if checked.get(key) == expected:
        return
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path} is not the file it should be (sha256 {digest[:12]}… instead of {expected[:12]}…); "
            "remove it and get it again, it may have been cut off while copying."
        )
    write_atomically(memory, json.dumps({**checked, key: expected}, indent=0).encode())


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary name to write under, which becomes the file's own when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name and renames it, so that it is there whole or not at all."""
    with written(path) as temporary:
        temporary.write_bytes(content)
