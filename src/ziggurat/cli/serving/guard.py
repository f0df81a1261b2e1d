"""What every request passes first: who may ask, from where, and how much may be sent; and what every answer says to a browser."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from ziggurat.cli.serving.limits import Limits

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LONGEST = 20  # digits of a length; Python reads no number of thousands of them
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """Middleware in front of the API.

    Without a token whoever reaches the port may ask. A page of another site, open in the browser of such a person, must not: its
    requests are told by their `Origin`, and names that were bound to this machine's address by their `Host`.

    Arguments:
        app: what answers.
        token: that `Authorization: Bearer` must show; None asks for none.
        free: paths that need no token.
        hosts: names under which the server may be asked when there is no token; None allows all.
        limits: of the body of a request.
    """

    def __init__(
        self, app: Application, token: str | None, free: Collection[str], hosts: Collection[str] | None, limits: Limits
    ) -> None:
        self.app, self.free, self.hosts, self.limits = app, free, hosts, limits
        self.token = None if token is None else digest(token)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self.refusal(scope)
        if refused is not None:
            more = {"www-authenticate": "Bearer"} if refused[0] == 401 else None
            await JSONResponse({"detail": refused[1]}, refused[0], more)(scope, receive, with_headers)
            return
        await self.app(scope, self.limited(receive), with_headers)

    def refusal(self, scope: MutableMapping[str, Any]) -> tuple[int, str] | None:
        """Status and sentence for a request that goes no further."""
        headers = Headers(scope=scope)
        if self.token is None:
            host = headers.get("host", "")
            if self.hosts is not None and hostname(host) not in self.hosts:
                return 421, f"this server answers on {', '.join(sorted(self.hosts))} only; ask it under that name."
            if scope["method"] not in ("GET", "HEAD", "OPTIONS") and foreign(headers, host):
                return 403, "requests from pages of other sites are refused; open the page of this server itself."
        elif scope["path"] not in self.free:
            scheme, _, shown = headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(digest(shown.strip()), self.token):
                return 401, "this server asks for a token; send it as `Authorization: Bearer TOKEN`."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > LONGEST or int(length) > self.limits.upload_bytes:
            return 413, too_large(self.limits)
        return None

    def limited(self, receive: Receive) -> Receive:
        """A body that ends in a refusal when it is too large or too slow."""
        seen, late = 0, asyncio.get_running_loop().time() + self.limits.upload_seconds
        done = False

        async def next_part() -> Message:
            nonlocal seen, done
            if done:  # only a disconnection can follow, and that may take its time
                return await receive()
            try:
                async with asyncio.timeout_at(late):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request did not arrive in time; send it again.") from None
            seen += len(message.get("body", b""))
            done = not message.get("more_body", False)
            if seen > self.limits.upload_bytes:
                raise HTTPException(413, too_large(self.limits))
            return message

        return next_part


def digest(text: str) -> bytes:
    """A text as 32 bytes, so that a comparison takes equally long for all of them."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def too_large(limits: Limits) -> str:
    """The sentence for a body beyond the limit."""
    return f"the request is larger than {limits.upload_bytes / 1e6:g} MB; send a smaller picture."


def hostname(host: str) -> str | None:
    """The name in a `Host` header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def foreign(headers: Headers, host: str) -> bool:
    """Whether a browser sends this for a page of another site."""
    origin = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2].lower() != host.lower()
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
