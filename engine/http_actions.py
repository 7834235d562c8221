"""HTTP actions: requests of an origin of the app's own, answered by its functions (protocol, 16).

Served at `/http/` of the main origin, and alone on the site's port. The app owns what
is here, CORS included; a token that does not count reaches the handler all the same, and
only asking who calls fails inside it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import attrs
import msgspec
import trio

from engine.actions import OnPiece
from engine.auth import Authenticator, TokenRefused
from engine.backend import ABSENT, ANONYMOUS, ActionOutcome, BackendFault, Call, Failure, Identity
from engine.code import CodeVersion
from engine.exchange import JSON, Answer, Headers, Refused, Request, Response, Sink, Streamed, refusal
from engine.failures import request_id_from, trouble_of, trouble_of_fault
from sandbox.http_actions import BODY_BYTES_MAX
from tidewell.values import Value, plain_json

log = logging.getLogger(__name__)

PREFIX: Final = "/http"
_BAD_RESPONSE: Final = "the worker of an HTTP action told nonsense"


class Answering(Protocol):
    """What is needed of a deployment."""

    @property
    def code(self) -> CodeVersion | None: ...

    @property
    def redacted(self) -> bool: ...

    async def answer(self, call: Call, stream: OnPiece) -> ActionOutcome:
        """Run an HTTP action."""


def body_bytes_max(path: str) -> int | None:
    """Return how large a request's body may be, None where it is no HTTP action's."""
    return BODY_BYTES_MAX if is_below(path) else None


def is_below(path: str) -> bool:
    return path == PREFIX or path.startswith(PREFIX + "/")


@attrs.frozen(eq=False)
class HttpActions:
    _deployment: Answering
    _authenticator: Authenticator
    _make_nonce: Callable[[], str]

    async def respond(self, request: Request) -> Answer:
        """Answer a request of the site's origin. Raises `Refused`."""
        code = self._deployment.code
        function = None if code is None else code.routes.find(request.method, request.path)
        if function is None:
            raise Refused(404, "NotFound", f"no HTTP action answers {request.method} {request.path}")
        identity, refused = await self._identify(request)
        request_id = request_id_from(request.header(b"convex-request-id") or self._make_nonce())
        call = Call(function, _message(request, refused), identity, request_id, "request")
        return Streamed(lambda sink: self._produce(call, sink))

    def below_prefix(self, request: Request) -> Awaitable[Answer]:
        """Answer a request of the main origin, whose path begins with `PREFIX`."""
        return self.respond(attrs.evolve(request, path=request.path[len(PREFIX) :] or "/"))

    async def _identify(self, request: Request) -> tuple[Identity, str | None]:
        authorization = request.header(b"authorization")
        if authorization is None:
            return ANONYMOUS, None
        scheme, _, credentials = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            return ANONYMOUS, "it is no bearer token"
        try:
            return (await self._authenticator.user(credentials.strip())).identity, None
        except TokenRefused as refusal:
            return ANONYMOUS, refusal.message

    async def _produce(self, call: Call, sink: Sink) -> Response | None:
        has_begun = False

        async def take(piece: dict[str, Value]) -> bool:
            nonlocal has_begun
            try:
                if has_begun:
                    await sink.write(_bytes(piece.get("chunk")))
                else:
                    has_begun = True
                    status, headers = _head(piece)
                    await sink.begin(status, headers, _length(piece))
            except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
                return False
            return True

        try:
            outcome = await self._deployment.answer(call, take)
        except BackendFault as fault:
            trouble = trouble_of_fault(fault)
            return refusal(503 if trouble.transient else 500, trouble.code, trouble.message.strip())
        if outcome.failure is not None:
            return self._failed(call, outcome.failure)
        if has_begun:
            return None
        told = outcome.value
        if type(told) is not dict:
            raise ValueError(_BAD_RESPONSE)
        status, headers = _head(told)
        return Response(status, _bytes(told.get("body")), b"", headers)

    def _failed(self, call: Call, failure: Failure) -> Response:
        """A throw: 500, and what it was as far as that may be told (protocol, 16)."""
        trouble = trouble_of(failure)
        if trouble is not None and trouble.transient:
            return refusal(503, trouble.code, trouble.message.strip())
        first = f"[Request ID: {call.request_id}] Server Error"
        told: dict[str, Any] = {"code": first}
        if not self._deployment.redacted:
            message = failure.message.partition("\n")[0].removeprefix("Uncaught ")
            told = {"code": f"{first}: {message}", "trace": failure.message}
        if failure.data is not ABSENT:
            told["data"] = plain_json(failure.data)
        return Response(500, msgspec.json.encode(told), JSON)


def _message(request: Request, refused: str | None) -> dict[str, Value]:
    """Return the request as a worker takes it (`sandbox/http_actions.py`)."""
    headers = [[_text(name), _text(value)] for name, value in request.headers]
    host = request.header(b"host") or "localhost"
    query = f"?{request.query}" if request.query else ""
    message: dict[str, Value] = {
        "body": request.body,
        "headers": headers,
        "method": request.method,
        "path": request.path,
        "query": [[name, value] for name, value in request.parameters()],
    }
    if refused is not None:
        message["refused"] = refused
    message["url"] = f"http://{host}{request.path}{query}"
    return message


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _head(piece: dict[str, Value]) -> tuple[int, Headers]:
    """Return what a worker says of a response. It has checked it, and is not believed."""
    status, rows = piece.get("status"), piece.get("headers")
    if type(status) is not int or not 200 <= status <= 599 or type(rows) is not list:
        raise ValueError(_BAD_RESPONSE)
    headers: Headers = []
    for row in rows:
        if type(row) is not list or len(row) != 2:
            raise ValueError(_BAD_RESPONSE)
        name, value = row
        if type(name) is not str or type(value) is not str:
            raise ValueError(_BAD_RESPONSE)
        headers.append((name.encode("latin-1"), value.encode("latin-1")))
    return status, headers


def _length(piece: dict[str, Value]) -> int | None:
    length = piece.get("length")
    if length is not None and (type(length) is not int or not 0 <= length <= BODY_BYTES_MAX):
        raise ValueError(_BAD_RESPONSE)
    return length


def _bytes(value: Value) -> bytes:
    if type(value) is not bytes:
        raise ValueError(_BAD_RESPONSE)
    return value
