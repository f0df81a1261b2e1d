"""`ziggurat serve`: a memory for other programs, and for a browser."""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ziggurat.cli.options import Device, Json, Quiet, note, resolve_device, say, say_json

if TYPE_CHECKING:
    from ziggurat.memory.memory import Memory
    from ziggurat.report.album import Album
    from ziggurat.workflows.artifact import Artifact

HERE = "127.0.0.1"
SHORTEST = 16


def serve(
    store: Annotated[str, typer.Argument(help="Folder of a memory, or its postgresql:// URL.")],
    with_: Annotated[
        Path | None, typer.Option("--with", help="What embeds pictures: the checkpoint, or efficientnet_lite0.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="The data set that was embedded, where it is not one known by name.")
    ] = None,
    thumbnails: Annotated[
        Path | None,
        typer.Option(help="Where pictures that are added are kept; a folder of the memory, if that is one."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = HERE,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    token_file: Annotated[Path | None, typer.Option(help="A file with the token that requests must show.")] = None,
    without_token: Annotated[
        bool, typer.Option("--without-token", help="Let everyone who reaches an address off this machine in.")
    ] = False,
    device: Device = "cpu",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Serve a memory over HTTP, with a page to search it by picture, add and forget. Ctrl-C stops it."""
    from ziggurat.memory.opening import on_server, shown, there_is_store

    local = is_loopback(host)
    token = None if token_file is None else read_token(token_file)
    if not local and token is None and not without_token:
        raise ValueError(
            f"{host} is reached from other machines; give --token-file FILE, or say --without-token to let everyone in."
        )
    if not there_is_store(store):
        raise ValueError(
            f"there is no store at {shown(store)}; `ziggurat embed DATA --with CHECKPOINT --store {shown(store)}` makes one."
        )
    device = resolve_device(device)
    try:
        import python_multipart  # noqa: F401 (FastAPI reads forms with it)
        import uvicorn

        from ziggurat.cli.serving.app import create_app
    except ModuleNotFoundError:
        raise ValueError(
            "serving needs FastAPI, uvicorn and python-multipart, which are not installed; "
            'pip install "ziggurat[serve]" brings them.'
        ) from None
    from ziggurat.cli.serving.guard import LOOPBACK
    from ziggurat.workflows.artifact import load_artifact

    with listen(host, port) as listening, opened(store) as memory:
        artifact = None if with_ is None else load_artifact(with_)
        if artifact is not None:
            artifact.learner.to(device)
        hosts = {*LOOPBACK, host.lower()} if local else None
        app = create_app(
            memory, artifact, token, hosts=hosts
        )  # says whether the checkpoint fits, before pictures are read
        folder = thumbnails or (None if on_server(store) else Path(store) / "thumbnails")
        app.state.service.album = make_album(memory, artifact, folder, images, quiet)
        if token_file is not None and token_file.stat().st_mode & 0o077:
            note(f"other users of this machine can read {token_file}; chmod 600 keeps it to you.", quiet)
        listening.listen()
        address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        if json:
            say_json({"address": address, "store": shown(store), "examples": len(memory)})
        else:
            say(f"{address} serves {len(memory):,} examples of {shown(store)}; Ctrl-C stops it")
        sys.stdout.flush()
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=100, ws="none",
            timeout_keep_alive=5, timeout_graceful_shutdown=5,
        )  # fmt: skip
        uvicorn.Server(settings).run(sockets=[listening])


@contextmanager
def opened(store: str) -> Iterator[Memory]:
    """A memory, whose store gives back at the end what it holds open."""
    from ziggurat.memory.memory import Memory

    memory = Memory.open(store)
    with closing(memory.store):
        yield memory


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (UnicodeDecodeError, IsADirectoryError):
        token = ""
    if len(token) < SHORTEST or not token.isprintable() or " " in token:
        raise ValueError(
            f"{path} holds no token: one line of {SHORTEST} or more letters, digits and signs; "
            f"`python -c 'import secrets; print(secrets.token_urlsafe())' > {path}` makes one."
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, so that a port that is taken is known before anything is loaded."""
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(kind, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ValueError(f"{host} is no address of this machine; give one with --host, such as {HERE}.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise ValueError(
            f"{host} port {port} cannot be listened on ({(error.strerror or str(error)).lower()}); choose another --port "
            "(0 takes a free one), or --host."
        ) from None
    return listening


def make_album(
    memory: Memory, artifact: Artifact | None, folder: Path | None, images: str | None, quiet: bool
) -> Album:
    """The pictures that can be shown, with a remark on those that cannot."""
    from ziggurat.report.album import Album, embedded_data

    if artifact is None or artifact.shape.kind != "image":
        if images is not None:
            raise ValueError("--images needs the checkpoint of pictures that embedded them; give it with --with.")
        return Album(folder)
    data, remarks = embedded_data(memory, artifact, images)
    if images is not None and remarks:
        raise ValueError(remarks[0])
    for remark in remarks:
        note(remark, quiet)
    return Album(folder, data)
