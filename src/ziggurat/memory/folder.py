"""The folder of a store: the lock that its writers take turns by, and what can be wrong with it, in one sentence."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = "writing.lock"
PATIENCE = 2.0  # seconds; who waits longer for other writers says so


def mistake(folder: Path, error: Exception) -> Exception:
    """Instead of the database's own errors."""
    text = " ".join(str(error).split())[:200]
    if "No space left" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return OSError(
            errno.ENOSPC, f"the disk is full while writing {folder}; free some space, nothing was half-written"
        )
    if "Read-only" in text or "Permission denied" in text:
        return ValueError(f"the store {folder} cannot be written to ({text}); check who owns the folder.")
    return ValueError(f"the store {folder} cannot be read or written ({text}); it may be damaged.")


@contextmanager
def held(lock: FileLock) -> Iterator[None]:
    """Holds the lock of all writers of its folder, in all processes; the folder is made where it is not there."""
    folder = Path(lock.lock_file).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE, poll_interval=0.01)
        except Timeout:
            says = f"waiting for another writer of {folder}: the process that holds {lock.lock_file}."
            warnings.warn(says, UserWarning, stacklevel=2)
            lock.acquire(poll_interval=0.01)
    except (OSError, NotImplementedError) as error:
        raise mistake(folder, error) from None
    try:
        yield
    finally:
        lock.release()
