"""What the API does, without HTTP: search with votes, add, forget, and show why two pictures are alike. Every method may be called
from several threads; `add` and `forget` wait for each other and for other processes, and let all else go on meanwhile."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from ziggurat.cli.serving import schemas
from ziggurat.cli.serving.fields import check_fit, check_text, parse_metadata, showable
from ziggurat.cli.serving.limits import Limits, Refusal
from ziggurat.cli.serving.overview import Overview
from ziggurat.cli.serving.uploads import read_upload
from ziggurat.memory.memory import Memory
from ziggurat.memory.stores import Id, encode_id
from ziggurat.memory.visual_memory import VOTES
from ziggurat.memory.votes import tally
from ziggurat.report.album import THUMBNAIL, Album, Picture, as_png
from ziggurat.report.similarity import centre_square, pooling, similarity_picture
from ziggurat.workflows.artifact import Artifact
from ziggurat.workflows.embedding import represent

WHOLE = re.compile(r"-?[0-9]{1,40}")


class Query(NamedTuple):
    """What neighbours are wanted of: exactly one of an upload, a vector as JSON, and the id of an example."""

    image: bytes | None = None
    vector: str | None = None
    name: Id | None = None


def as_id(text: str, number: bool) -> Id:
    """An id as the API writes it."""
    if not number:
        return text
    if not WHOLE.fullmatch(text):
        raise Refusal(422, f"the id {text[:40]!r} is no whole number of up to 40 digits; leave `number` out for text.")
    return int(text)


class Service:
    """A memory, and the checkpoint that embeds pictures for it.

    Arguments:
        memory: what is searched and edited.
        artifact: embeds pictures; None, or one of graphs, takes none.
        album: which pictures can be shown.
        limits: sizes and counts beyond which a request is refused.
    """

    def __init__(self, memory: Memory, artifact: Artifact | None, album: Album, limits: Limits) -> None:
        self.memory, self.album, self.limits = memory, album, limits
        self.artifact = artifact if artifact is not None and artifact.shape.kind == "image" else None
        self._network = threading.Lock()  # one picture at a time
        self._changing = threading.Lock()  # one change at a time
        self._lock = memory.store.lock  # for what reads more than once; not to be held while something is written
        self._overview = Overview(memory.store, limits.values)
        self.pool, self.no_maps = None, "this server was started without a checkpoint of pictures (--with)."
        if self.artifact is None:
            return
        width = self.embed(np.zeros((8, 8, 3), np.uint8)).shape[0]
        if width != memory.store.dimension:
            raise ValueError(
                f"{self.artifact.method} embeds into {width} numbers and the memory holds vectors of "
                f"{memory.store.dimension}; give the checkpoint that the memory was made with."
            )
        try:
            self.pool, self.no_maps = pooling(self.artifact), ""
        except ValueError as error:
            self.no_maps = str(error)

    def embed(self, picture: Picture) -> np.ndarray:
        """The vector (D,) of the centre square of a picture, as data sets of pictures are embedded."""
        artifact = self._able()
        with self._network:
            return represent(artifact, centre_square(picture, artifact.shape.size))[0]

    def _able(self) -> Artifact:
        if self.artifact is None:
            raise Refusal(
                422, "this server takes no pictures: it was started without a checkpoint of pictures (--with)."
            )
        return self.artifact

    def stats(self) -> schemas.Stats:
        """The memory as it is now."""
        limits = self.limits
        with self._lock:
            seen = self._overview
            seen.follow()
            version, examples, numbers, fields = seen.version, seen.examples, seen.numbers, seen.fields()
        return schemas.Stats(
            count=examples,
            dimension=int(self.memory.store.dimension or 0),
            metric=self.memory.index.metric,
            version=version,
            numbered="none" if not numbers else "all" if numbers == examples else "some",
            fields=fields,
            method=None if self.artifact is None else self.artifact.method,
            maps=self.no_maps or None,
            accepted=schemas.Accepted(
                upload_bytes=limits.upload_bytes,
                pixels=limits.pixels,
                neighbours=limits.neighbours,
                filter_length=limits.filter_length,
                text_length=limits.text_length,
            ),
        )

    def search(self, query: Query, k: int, where: str, label: str, vote: schemas.Vote) -> schemas.Found:
        """The nearest examples and their vote. An example that is itself the query is left out, and has no vote.

        Arguments:
            where: a filter on the examples; empty for none.
            label: the field of the metadata that is voted on.
            vote: how much a neighbour counts, as of `VisualMemory.predict`.
        """
        if k > self.limits.neighbours:
            raise Refusal(422, f"k is {k}, more than {self.limits.neighbours}; ask for fewer neighbours.")
        if len(where) > self.limits.filter_length:
            raise Refusal(422, f"the filter has more than {self.limits.filter_length:,} characters; shorten it.")
        vector, own = self._vector(query), query.name is not None
        try:
            with self._lock:
                hits = self.memory.search(vector, k + own, where.strip() or None)
        except ValueError as error:
            raise Refusal(422, str(error)) from None
        except RecursionError:
            raise Refusal(422, "the filter is nested too deeply; write it with fewer parts within parts.") from None
        distances = np.nan_to_num(hits.distances[0])  # squares of large numbers are infinite, which JSON cannot say
        rows = [
            (name, float(away), metadata)
            for name, away, metadata in zip(hits.ids[0], distances, hits.metadata[0], strict=True)
            if query.name is None or encode_id(name) != encode_id(query.name)
        ][:k]
        shares, weights = count_votes(
            [showable(m.get(label)) for _, _, m in rows], np.array([[d for _, d, _ in rows]]), vote
        )
        return schemas.Found(
            neighbours=[
                schemas.Neighbour(**self._shown(name, metadata), distance=away, vote=weight)
                for (name, away, metadata), weight in zip(rows, weights, strict=True)
            ],
            votes=shares,
            plan=schemas.Way(**asdict(hits.plan)),
        )

    def _vector(self, query: Query) -> np.ndarray:
        if sum(part is not None for part in query) != 1:
            raise Refusal(422, "a query is exactly one of image, vector and id; send one of them.")
        if query.image is not None:
            return self.embed(read_upload(query.image, self.limits.pixels))
        if query.name is not None:
            return self._row(query.name)["vector"]
        wanted = self.memory.store.dimension
        try:
            told = json.loads(query.vector or "")
            numbers = isinstance(told, list) and all(type(value) in (int, float) for value in told)
            vector = np.asarray(told if numbers else [], dtype=np.float64)
        except (ValueError, RecursionError, OverflowError):
            vector = np.zeros(0)
        if vector.shape != (wanted,) or not np.isfinite(vector).all() or np.abs(vector).max() > 1e18:
            raise Refusal(422, f"a vector is a JSON list of {wanted} finite numbers, such as [0.1, -2, …].")
        return vector.astype(np.float32)

    def _row(self, name: Id) -> dict[str, Any]:
        with self._lock:
            row = self.memory.get([name])[0]
        if row is None:
            number = " as a number" if isinstance(name, int) else ""
            raise Refusal(404, f"there is no example {showable(str(name))[:80]!r}{number} in the memory.")
        return row

    def _shown(self, name: Id, metadata: Mapping[str, Any]) -> dict[str, Any]:
        picture = self.album.has(name, metadata)
        told = {key: value for key, value in metadata.items() if key != THUMBNAIL}
        return {
            "id": showable(str(name)),
            "number": not isinstance(name, str),
            "metadata": showable(told),
            "picture": picture,
        }

    def add(self, image: bytes, name: Id, metadata: str) -> schemas.Example:
        """Adds a picture as an example; it is found from then on."""
        check_name(name, self.limits)
        fields = parse_metadata(metadata, self.limits)
        self._fits(fields)
        picture = read_upload(image, self.limits.pixels)
        vector = self.embed(picture)
        with self._changing:
            if len(self.memory) >= self.limits.examples:
                raise Refusal(409, f"the memory is full with {self.limits.examples:,} examples; forget some first.")
            self._free(name)
            self._fits(fields)  # again: others were added while this one was embedded
            fields |= self.album.keep(picture)
            try:
                self.memory.add([name], vector[None], [fields])
            except ValueError as error:
                self.album.forget(fields)
                self._free(name)  # another process came first
                raise Refusal(500, str(error)) from error
            except BaseException:
                self.album.forget(fields)
                raise
            with self._lock:
                self._overview.follow()
        return schemas.Example(**self._shown(name, fields))

    def _fits(self, metadata: dict[str, Any]) -> None:
        with self._lock:
            self._overview.follow()
            check_fit(metadata, self._overview.kinds())

    def _free(self, name: Id) -> None:
        if self.memory.get([name])[0] is not None:
            raise Refusal(409, f"there is an example {str(name)!r} already; forget it first, or choose another id.")

    def forget(self, name: Id) -> schemas.Forgotten:
        """Removes an example and its picture; afterwards it is as if it had never been there."""
        with self._changing:
            with self._lock:
                metadata = self._row(name)["metadata"]
                followed = self._overview.version == self.memory.store.version  # so that this is what it has counted
            self.memory.remove([name])
            self.album.forget(metadata)
            with self._lock:
                if followed:
                    self._overview.follow((name, metadata))
                count = len(self.memory)
        return schemas.Forgotten(id=showable(str(name)), number=not isinstance(name, str), count=count)

    def picture(self, name: Id) -> bytes:
        """The picture of an example, as PNG."""
        return as_png(self._picture(name))

    def _picture(self, name: Id) -> Picture:
        metadata = self._row(name)["metadata"]
        try:
            picture = self.album.find(name, metadata)
        except (OSError, SyntaxError):  # damaged, for which Pillow has both, or removed by another request
            picture = None
        if picture is None:
            raise Refusal(404, f"there is no picture of {showable(str(name))[:80]!r} that can be shown.")
        return picture

    def explain(self, image: bytes | None, name: Id | None, neighbour: Id) -> tuple[bytes, float]:
        """Both pictures under the maps of their similarity as PNG, and their cosine.

        Arguments:
            image, name: the query: an upload, or the id of an example.
        """
        if (image is None) == (name is None):
            raise Refusal(422, "a query is exactly one of image and id; send one of them.")
        artifact = self._able()
        if self.pool is None:
            raise Refusal(422, self.no_maps)
        if image is not None:
            a = read_upload(image, self.limits.pixels)
        else:
            assert name is not None
            a = self._picture(name)
        b = self._picture(neighbour)
        with self._network:
            return similarity_picture(artifact, self.pool, a, b)


def check_name(name: Id, limits: Limits) -> None:
    """Refuses ids that an address cannot say or a page cannot show."""
    if isinstance(name, int):
        return
    check_text(name, "the id", limits)
    if not name.strip() or name in (".", ".."):
        raise Refusal(422, "an id is a text that is not empty, and neither . nor ..; choose another one.")


def count_votes(
    labels: list[Any], distances: np.ndarray, vote: schemas.Vote
) -> tuple[list[schemas.Share], list[float]]:
    """How much speaks for each label, the largest share first, and the share of each neighbour.

    Arguments:
        labels: of the neighbours, nearest first; None has no vote.
        distances: (1, k).
    """
    if not labels:
        return [], []
    names: dict[str, int] = {}
    told = [label if isinstance(label, bool | int | float | str) else json.dumps(label) for label in labels]
    texts = [None if label is None else json.dumps(label) for label in labels]  # which keep 1, "1" and true apart
    codes = [-1 if text is None else names.setdefault(text, len(names)) for text in texts]
    numbers = np.array([codes])
    voting = numbers >= 0
    # votes that fall with the distance depend on differences only: counted from the nearest one, none is too large or too small
    beyond = np.where(voting, distances - distances.min(initial=np.inf, where=voting), 0)
    weights = VOTES[vote](beyond) * voting
    counted = tally(numbers, weights, len(names))[0]
    whole = max(float(counted.sum()), 1e-12)
    order = np.argsort(-counted, kind="stable")
    shares = [
        schemas.Share(label=told[codes.index(c)], share=counted[c] / whole, neighbours=codes.count(c))
        for c in order.tolist()
    ]
    return shares, (weights[0] / whole).tolist()
