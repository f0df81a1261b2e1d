"""What the API answers, as it stands in its OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic import Field as Described

Scalar = bool | int | float | str
Kind = Literal["text", "numbers", "true or false", "mixed"]
Vote = Literal["rank", "plurality", "distance", "softmax"]


class Mistake(BaseModel):
    """Why a request was refused."""

    detail: str = Described(description="One sentence that says what was wrong and what to do.")


class Health(BaseModel):
    """The server is there."""

    status: Literal["ok"] = "ok"
    ziggurat: str = Described(description="Version of the package.")


class Value(BaseModel):
    """A value of a field, and how many examples have it."""

    value: Scalar
    count: int


class Field(BaseModel):
    """A field of the metadata."""

    name: str
    kind: Kind = Described(description='What its values are; "mixed" fields cannot be compared in a filter.')
    filterable: bool = Described(description="Whether a filter can name it.")
    missing: int = Described(description="Examples without it.")
    distinct: int | None = Described(description="Different values, of text and of true or false.")
    values: list[Value] = Described(description="The most frequent of them.")
    low: float | None = Described(description="Smallest number.")
    high: float | None = Described(description="Largest number.")


class Accepted(BaseModel):
    """What this server takes at most."""

    upload_bytes: int
    pixels: int
    neighbours: int
    filter_length: int
    text_length: int


class Stats(BaseModel):
    """The memory as it is now."""

    count: int = Described(description="Examples in the memory.")
    dimension: int = Described(description="Numbers in a vector.")
    metric: str = Described(description="cosine (1 − cos), l2 (squared) or ip (1 − inner product).")
    version: int = Described(description="Grows with every change.")
    numbered: Literal["none", "some", "all"] = Described(description="Whether ids are whole numbers.")
    fields: list[Field]
    method: str | None = Described(description="What embeds pictures; null where the server takes none.")
    maps: str | None = Described(description="Why there are no maps of similarity; null where there are.")
    accepted: Accepted


class Example(BaseModel):
    """An example of the memory."""

    id: str = Described(description="Its id, as text.")
    number: bool = Described(description="Whether the id is a whole number.")
    metadata: dict[str, Any]
    picture: bool = Described(description="Whether `/api/examples/{id}/image` has its picture.")


class Neighbour(Example):
    """An example that was found."""

    distance: float
    vote: float = Described(description="Its share of all votes; 0 where it has no label.")


class Share(BaseModel):
    """How much speaks for a label."""

    label: Scalar
    share: float = Described(description="Of all votes; the shares of a search add up to 1.")
    neighbours: int


class Way(BaseModel):
    """How a search went about its filter."""

    strategy: str
    selected: int = Described(description="How many examples the filter selects.")
    rows: int = Described(description="Of how many.")
    why: str


class Found(BaseModel):
    """The answer to a search: neighbours, nearest first, their vote, largest share first, and how they were found."""

    neighbours: list[Neighbour]
    votes: list[Share]
    plan: Way


class Forgotten(BaseModel):
    """An example that is gone."""

    id: str
    number: bool
    count: int = Described(description="Examples that are left.")
