"""Fetching the files of a data set from their source: only when asked, whole or not at all, and only if they are the right ones."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from ziggurat.data.sources import cache_folder, locate, sources

BLOCK, PATIENCE = 1 << 20, 30


def download(name: str, progress: Callable[[str, int, int], None] | None = None) -> list[Path]:
    """Fetches what is missing of a data set into the cache and returns all of its files.

    Arguments:
        progress: called with (file name, bytes so far, bytes in all).

    Raises a `ValueError` for a name that is not known, for data that no source offers as these very files, and for a file whose sha256
    is not the expected one; it is not kept.
    """
    if name not in sources():
        raise ValueError(f"there is no data set {name!r} with a source; `ziggurat doctor` lists them.")
    try:
        return locate(name)
    except FileNotFoundError as error:
        missing = [f["name"] for f in sources()[name]["files"] if "url" not in f]
        if missing:
            raise ValueError(
                f"{name} cannot be downloaded: its source has {missing[0]} in another form only. {error}"
            ) from None
    for file in sources()[name]["files"]:
        target = cache_folder() / file["name"]
        if not target.is_file():
            fetch(file["url"], target, file["bytes"], file["sha256"], progress)
    return locate(name)


def fetch(
    url: str, target: Path, size: int, sha256: str, progress: Callable[[str, int, int], None] | None = None
) -> None:
    """One file, written under a temporary name and renamed when its sha256 is right; more bytes than expected are not read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    digest, done = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as source, temporary.open("wb") as out:
            while block := source.read(BLOCK):
                done += len(block)
                if done > size:
                    break
                digest.update(block)
                out.write(block)
                if progress is not None:
                    progress(target.name, done, size)
        if done != size or digest.hexdigest() != sha256:
            raise ValueError(
                f"{url} gave {'more than ' if done > size else ''}{done:,} bytes that are not {target.name} of {size:,} bytes; "
                "try again, or get the file elsewhere."
            )
        temporary.replace(target)
    except urllib.error.URLError as error:
        raise ValueError(f"{url} cannot be reached ({error.reason}); look at the connection and try again.") from None
    finally:
        temporary.unlink(missing_ok=True)
