"""The run-time type checker of the tests: beartype, with an int allowed where a float is expected (PEP 484)."""

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


@contextmanager
def value_error(match: str) -> Iterator[None]:
    """Expects a `ValueError` of this text, with type checking off: a user has none, and must get the sentence."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(ValueError, match=match):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
