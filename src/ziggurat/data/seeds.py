"""Seeds that depend on where they are used, and on nothing else."""

from __future__ import annotations

import hashlib

import torch


def derive(*parts: int | str) -> int:
    """A 63-bit seed that is a pure function of its parts, for instance `derive(seed, "order", epoch, rank)`.

    Hashing keeps streams apart that differ in one part only, which adding numbers does not.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*parts: int | str) -> torch.Generator:
    """A CPU generator seeded with `derive(*parts)`."""
    return torch.Generator().manual_seed(derive(*parts))
