"""Requests and responses of HTTP, whole and in memory, without a connection.

What routes (`http_api`, `site`) answer with; `http` moves them over a socket.
Header names are lower-case bytes, as h11 gives and takes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from urllib.parse import parse_qsl

import attrs
import msgspec

from engine.clients import Client

Headers = list[tuple[bytes, bytes]]

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"


@attrs.frozen
class Request:
    method: str
    path: str  # without query, duplicate slashes collapsed, still percent-encoded
    query: str
    headers: Headers
    body: bytes = b""
    tree: object = attrs.field(default=None, eq=False)  # the JSON of the body, if it was read already

    def header(self, name: bytes) -> str | None:
        """Return the first value of a header; what is not ASCII reads as Latin-1."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return None

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters of the query, in order."""
        return parse_qsl(self.query, keep_blank_values=True)

    def parameter(self, name: str) -> str | None:
        """Return the first value of a query parameter."""
        return next((value for key, value in self.parameters() if key == name), None)


@attrs.frozen
class Response:
    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = attrs.field(factory=list)


class Sink(Protocol):
    """Where an answer goes that is made while it is sent."""

    async def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send the head; with a length unless it is not known yet."""

    async def write(self, data: bytes) -> None: ...


@attrs.frozen
class Streamed:
    """An answer that is made while it is sent.

    `produce` begins the sink and writes to it, or returns a response and leaves it alone; it
    may raise `Refused` before it begins. What it raises afterwards cuts the answer off.
    """

    produce: Callable[[Sink], Awaitable[Response | None]]


Answer = Response | Streamed


class Upload(Protocol):
    """A request body that is taken while it arrives."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes. Raises `Refused`."""

    async def finish(self) -> Response:
        """Answer once all have come. Raises `Refused`."""

    def abandon(self) -> None:
        """Forget what came; also after `finish`, where it does nothing."""


@attrs.frozen
class Upgrade:
    """A request, checked already, that turns its connection into a socket."""

    client: Client
    head: bytes
    rest: bytes = b""  # what was read behind it


@attrs.define(eq=False)
class Refused(Exception):
    """A request that is answered with a status of its own (protocol, 10.4)."""

    status: int
    code: str  # CamelCase
    message: str
    headers: Headers = attrs.field(factory=list)

    def response(self) -> Response:
        return refusal(self.status, self.code, self.message, self.headers)


def refusal(status: int, code: str, message: str, headers: Headers | None = None) -> Response:
    # Py-HTTP needs both keys.
    text = message.encode(errors="replace").decode()
    return Response(status, msgspec.json.encode({"code": code, "message": text}), JSON, headers or [])


def with_cors(request: Request, response: Response) -> Response:
    """Allow the page's own origin to read `response`, whatever the origin is (protocol, 15.2)."""
    origin = request.header(b"origin")
    if origin is None:
        return response
    headers: Headers = [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]
    return attrs.evolve(response, headers=response.headers + headers)


def preflight(request: Request) -> Response:
    """Answer an `OPTIONS` request; `with_cors` adds the rest."""
    headers: Headers = [
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"access-control-max-age", b"86400"),
    ]
    asked = request.header(b"access-control-request-headers")
    if asked is not None:
        headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
    return Response(200, b"", TEXT, headers)
