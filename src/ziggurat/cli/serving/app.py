"""The HTTP API of a memory, and its page."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, FastAPI, File, Form, Path, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

import ziggurat
from ziggurat.cli.serving import schemas
from ziggurat.cli.serving.guard import HEADERS, LOOPBACK, Guard
from ziggurat.cli.serving.limits import Limits, Refusal
from ziggurat.cli.serving.service import Query as Wanted
from ziggurat.cli.serving.service import Service, as_id
from ziggurat.memory.memory import Memory
from ziggurat.report.album import Album
from ziggurat.workflows.artifact import Artifact

Result = TypeVar("Result")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/fields.js": ("fields.js", "text/javascript"),
    "/server.js": ("server.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
OPEN = (*PAGE, "/health", "/openapi.json")
"""What needs no token: the page, which holds nothing of the memory, and what the API is."""
SENTENCES = {
    404: "there is nothing at this address; the page is at / and the API is described at /openapi.json.",
    405: "this address does not take that method; the API is described at /openapi.json.",
}
BUSY = "the server is busy; try again in a moment."
LATE = "the answer takes too long and is not waited for; ask for fewer neighbours or a simpler filter, and look before you repeat a change."
PNG: dict[int | str, Any] = {200: {"content": {"image/png": {}}}}


class Workers:
    """Threads for what computes, so that the loop of the server stays free.

    Arguments:
        count: of threads.
        limits: how many requests may wait for them, and how long for an answer.
    """

    def __init__(self, count: int, limits: Limits) -> None:
        self.limits, self.waiting = limits, 0
        self.threads = ThreadPoolExecutor(count, "ziggurat-serve")

    async def __call__(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What the function returns or raises; a refusal where there is no room, or no answer in time."""
        if self.waiting >= self.limits.waiting:
            raise Refusal(503, BUSY)
        self.waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self.threads, function, *arguments)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wait_for(asyncio.shield(future), self.limits.seconds)
        except TimeoutError:
            raise Refusal(503, LATE) from None

    def _done(self, future: asyncio.Future) -> None:
        self.waiting -= 1
        if not future.cancelled():
            future.exception()  # was seen, even where nobody waits any longer


router = APIRouter(prefix="/api", responses={code: {"model": schemas.Mistake} for code in (401, 403, 413, 422, 503)})

Upload = Annotated[UploadFile | None, File(description="A picture.")]
Name = Annotated[str, Path(description="The id of an example.")]
NameForm = Annotated[str | None, Form(description="The id of an example.")]
Number = Annotated[bool, Form(description="Whether the id is a whole number and no text.")]
NumberQuery = Annotated[bool, Query(description="Whether the id is a whole number and no text.")]


async def content(image: UploadFile | None) -> bytes | None:
    """The bytes of an upload."""
    return None if image is None else await image.read()


def tools(request: Request) -> tuple[Service, Workers]:
    """What answers requests, and where it runs."""
    return request.app.state.service, request.app.state.workers


def changing(request: Request) -> tuple[Service, Workers]:
    """The same for what changes the memory, which may have to wait for other processes: searches have threads of their own."""
    return request.app.state.service, request.app.state.changes


Tools = Annotated[tuple[Service, Workers], Depends(tools)]
Changing = Annotated[tuple[Service, Workers], Depends(changing)]


@router.get("/stats")
async def stats(tools: Tools) -> schemas.Stats:
    """How many examples there are, which fields their metadata have, and what this server takes."""
    service, work = tools
    return await work(service.stats)


@router.post("/search", responses={404: {"model": schemas.Mistake}})
async def search(
    tools: Tools,
    image: Upload = None,
    vector: Annotated[str | None, Form(description="Or a vector, as a JSON list of numbers.")] = None,
    id: Annotated[str | None, Form(description="Or the id of an example, which is then left out.")] = None,
    number: Number = False,
    k: Annotated[int, Form(ge=1, description="Neighbours.")] = 10,
    where: Annotated[str, Form(description="A filter, such as: label = 'shirt' and year >= 2020.")] = "",
    label: Annotated[str, Form(description="The field of the metadata that is voted on.")] = "label",
    vote: Annotated[schemas.Vote, Form(description="How much a neighbour counts.")] = "rank",
) -> schemas.Found:
    """The examples nearest to a picture, a vector or another example, of those that a filter selects, and their vote."""
    service, work = tools
    wanted = Wanted(await content(image), vector, None if id is None else as_id(id, number))
    return await work(service.search, wanted, k, where, label, vote)


@router.post("/examples", status_code=201, responses={409: {"model": schemas.Mistake}})
async def add(
    tools: Changing,
    image: Annotated[UploadFile, File(description="A picture.")],
    id: Annotated[str, Form(description="Its id, which no other example may have.")],
    number: Number = False,
    metadata: Annotated[str, Form(description='A JSON object, such as {"label": "shirt", "year": 2020}.')] = "{}",
) -> schemas.Example:
    """Adds a picture to the memory; it is found from then on."""
    service, work = tools
    return await work(service.add, await image.read(), as_id(id, number), metadata)


@router.delete("/examples/{id:path}", responses={404: {"model": schemas.Mistake}})
async def forget(tools: Changing, id: Name, number: NumberQuery = False) -> schemas.Forgotten:
    """Removes an example and its picture; afterwards it is as if it had never been there."""
    service, work = tools
    return await work(service.forget, as_id(id, number))


@router.get("/examples/{id:path}/image", response_class=Response, responses={**PNG, 404: {"model": schemas.Mistake}})
async def picture(tools: Tools, id: Name, number: NumberQuery = False) -> Response:
    """The picture of an example, where there is one to show."""
    service, work = tools
    return Response(await work(service.picture, as_id(id, number)), media_type="image/png")


@router.post("/explain", response_class=Response, responses={**PNG, 404: {"model": schemas.Mistake}})
async def explain(
    tools: Tools,
    neighbour: Annotated[str, Form(description="The id of the example that was found.")],
    neighbour_number: Annotated[bool, Form(description="Whether that id is a whole number and no text.")] = False,
    image: Upload = None,
    id: NameForm = None,
    number: Number = False,
) -> Response:
    """The query and one example side by side, under the maps of their similarity: red speaks for it, blue against. Both maps have one
    scale, and each adds up to the cosine, which stands in the header `X-Cosine`."""
    service, work = tools
    name = None if id is None else as_id(id, number)
    png, cosine = await work(service.explain, await content(image), name, as_id(neighbour, neighbour_number))
    return Response(png, media_type="image/png", headers={"X-Cosine": f"{cosine:.6f}"})


async def health() -> schemas.Health:
    """Whether the server answers."""
    return schemas.Health(ziggurat=ziggurat.__version__)


async def file(request: Request) -> Response:
    """A file of the page."""
    name, kind = PAGE[request.url.path]
    text = files("ziggurat.cli.serving").joinpath("page", name).read_text(encoding="utf-8")
    return Response(text, media_type=kind)


def create_app(
    memory: Memory,
    artifact: Artifact | None = None,
    token: str | None = None,
    limits: Limits | None = None,
    album: Album | None = None,
    hosts: Collection[str] | None = LOOPBACK,
) -> FastAPI:
    """The API of a memory.

    Arguments:
        memory: what is searched and edited.
        artifact: the checkpoint that embeds pictures; None takes no pictures.
        token: that every request must show; None asks for none.
        limits: sizes and counts beyond which a request is refused.
        album: the pictures that can be shown; None has none, and keeps none of those that are added.
        hosts: names under which the server may be asked while there is no token; None allows all.
    """
    limits = limits or Limits()
    app = FastAPI(
        title="ziggurat serve", version=ziggurat.__version__, docs_url=None, redoc_url=None,
        description="A memory of embedded examples: search, vote, add, forget, and see why two pictures are alike.",
    )  # fmt: skip
    app.state.service = Service(memory, artifact, album or Album(), limits)
    app.state.workers, app.state.changes = Workers(limits.workers, limits), Workers(1, limits)
    needed = [] if token is None else [Depends(HTTPBearer(auto_error=False))]  # for the description; the guard asks
    app.include_router(router, dependencies=needed)
    app.add_api_route("/health", health)
    for path in PAGE:
        app.add_api_route(path, file, include_in_schema=False)
    app.add_middleware(Guard, token=token, free=OPEN, hosts=hosts, limits=limits)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(OSError, trouble)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(RequestValidationError, invalid)
    return app


def answer(status: int, sentence: str) -> JSONResponse:
    """A mistake as JSON."""
    text = " ".join(sentence.split()).encode("utf-8", "replace").decode()
    return JSONResponse({"detail": text}, status, HEADERS)


async def refused(request: Request, error: Exception) -> JSONResponse:
    """What the service will not do."""
    assert isinstance(error, Refusal)
    return answer(error.status, str(error))


async def trouble(request: Request, error: Exception) -> JSONResponse:
    """A full disk, or a database that cannot be reached; any other trouble with files is a mistake of the server."""
    if isinstance(error, ConnectionError):
        return answer(503, str(error))
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return answer(507, "the disk of the server is full; nothing was half-written.")
    raise error


async def failed(request: Request, error: Exception) -> JSONResponse:
    """A mistake of the server."""
    return answer(500, "the server has made a mistake, which stands in its log.")


async def unknown(request: Request, error: Exception) -> JSONResponse:
    """Addresses and methods that are not there, and bodies that cannot be read."""
    assert isinstance(error, HTTPException)
    return answer(error.status_code, SENTENCES.get(error.status_code, str(error.detail)))


async def invalid(request: Request, error: Exception) -> JSONResponse:
    """Parameters that are missing or of the wrong kind."""
    assert isinstance(error, RequestValidationError)
    said = [f"{part['loc'][-1]}: {part['msg'][0].lower()}{part['msg'][1:]}" for part in error.errors()]
    return answer(422, f"{'; '.join(said[:3])}.")
