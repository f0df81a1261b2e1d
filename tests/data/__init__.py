"""Real data for tests, which must pass without it."""

from typing import Any

import pytest

from ziggurat.data.loading import load


def load_or_skip(name: str, *arguments: Any) -> Any:
    """`ziggurat.data.load`, or a skip with its own reason where the files are absent."""
    try:
        return load(name, *arguments)
    except FileNotFoundError:
        pytest.skip(f"data: {name} is absent")
