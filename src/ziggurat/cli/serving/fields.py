"""The metadata of examples: what a new one may have, whether it fits, and how values are shown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from ziggurat.cli.serving.limits import Limits, Refusal
from ziggurat.memory.fields import kind as kind_of
from ziggurat.report.album import THUMBNAIL

NAME = re.compile(r"(?!(?:and|or|not|in|is|null|true|false)\Z)[A-Za-z_][A-Za-z0-9_]{0,63}", re.IGNORECASE)
OWN = ("id", "key", THUMBNAIL)
SCALARS = (bool, int, float, str)
MIXED = "mixed"
"""What the values of a field are that no filter can compare."""


def parse_metadata(text: str, limits: Limits) -> dict[str, Any]:
    """The metadata of a new example from JSON: names that filters can say, and text, numbers, true or false."""
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise Refusal(422, 'metadata must be a JSON object such as {"label": "shirt", "year": 2020}.')
    if len(metadata) > limits.fields:
        raise Refusal(422, f"metadata has {len(metadata)} fields, more than {limits.fields}; leave some out.")
    for name, value in metadata.items():
        if not NAME.fullmatch(name) or name.lower() in OWN:
            raise Refusal(
                422,
                f"a field of the metadata cannot be called {name[:40]!r}; use up to 64 of the letters a to z, digits and _, and "
                f"none of {', '.join(OWN)} or the words of filters.",
            )
        if value is not None and not isinstance(value, SCALARS):
            raise Refusal(422, f"the field {name!r} must be text, a number, true, false or null.")
        if isinstance(value, str):
            check_text(value, f"the field {name!r}", limits)
        elif isinstance(value, float) and not math.isfinite(value):
            raise Refusal(422, f"the field {name!r} is not finite; leave it out.")
        elif isinstance(value, int) and abs(value) >= 2**63:
            raise Refusal(422, f"the field {name!r} has more than 64 bits; write it as text.")
    return {name: value for name, value in metadata.items() if value is not None}


def check_text(text: str, what: str, limits: Limits) -> None:
    """Refuses text that is too long, or that no file and no page can show."""
    if len(text) > limits.text_length:
        raise Refusal(422, f"{what} has {len(text):,} characters, more than {limits.text_length}; shorten it.")
    if any(ord(sign) < 32 or 0xD800 <= ord(sign) < 0xE000 or ord(sign) == 127 for sign in text):
        raise Refusal(422, f"{what} holds characters that cannot be shown; remove them.")


def check_fit(metadata: dict[str, Any], kinds: Mapping[str, str]) -> None:
    """Refuses metadata that would make a field unfit for filters, since it would hold values of two kinds.

    Arguments:
        kinds: what the values of each field are in the memory.
    """
    for name, value in metadata.items():
        kind, there = kind_of(type(value)), kinds.get(name)
        if there not in (None, MIXED, kind):
            raise Refusal(
                422,
                f"the field {name!r} holds {there} in this memory, and {value!r} is {kind}; compare like with like.",
            )


def showable(value: Any) -> Any:
    """The same value as JSON and UTF-8 can say it; numbers that are not finite become None."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {showable(str(key)): showable(item) for key, item in value.items()}
    return [showable(item) for item in value] if isinstance(value, list | tuple) else value
