"""What the server takes at most, and how it says no."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Sizes and counts beyond which a request is refused.

    Arguments:
        upload_bytes: of the body of a request.
        upload_seconds: until a body must have arrived.
        pixels: of a picture.
        neighbours: of one search.
        filter_length: characters of a filter.
        fields, text_length: of the metadata of an example, and characters of a text or id in it.
        examples: that the memory may hold.
        values: of a field that `/api/stats` names.
        workers: requests that are worked on at a time, besides one that changes the memory.
        waiting: requests that are worked on or wait for it; those that change the memory are counted apart.
        seconds: until an answer must be there.
    """

    upload_bytes: int = 20_000_000
    upload_seconds: float = 60
    pixels: int = 30_000_000
    neighbours: int = 200
    filter_length: int = 2_000
    fields: int = 40
    text_length: int = 500
    examples: int = 5_000_000
    values: int = 50
    workers: int = 2
    waiting: int = 32
    seconds: float = 30


class Refusal(ValueError):
    """A request that is not answered.

    Arguments:
        status: of HTTP.
        sentence: what a person should read.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
