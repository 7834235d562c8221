"""HTTP actions in a worker: the request that a handler is given, the response that it makes.

The engine has read the request whole, and hands it over as the argument of an internal
action; the response goes back as its result. The pieces of a generator go back one by one
while it runs, each by a syscall, so that a long answer is on its way before it is complete.

What travels, as packed values:

    request    {"method", "url", "path", "query": [[name, value]], "headers": [[name, value]],
                "body": bytes, "refused"?: why the caller's token does not count}
    response   {"status", "headers": [[name, value]], "body": bytes}, or {} after a stream
    stream     {"status", "headers", "length"?}, then {"chunk": bytes} for each piece
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl

from sandbox.costs import COPY_BYTES
from sandbox.guest import GuestRuntime
from sandbox.host import HostObject
from sandbox.sdk import Declared
from tidewell.errors import InvalidFunctionCall, LimitExceeded
from tidewell.http_actions import DIRECT_CALL
from tidewell.routes import InvalidRoute, Route, RouteTable, make_route
from tidewell.validators import InvalidValidator
from tidewell.values import Value

BODY_BYTES_MAX: Final = 20 * 2**20  # of a request and of a response; function-semantics 17, H6
MESSAGE_BYTES_MAX: Final = BODY_BYTES_MAX + 2**20  # with everything around the body
PIECE_BYTES: Final = 2**20  # of a long body; a result could not hold one of `BODY_BYTES_MAX`
HEADERS_MAX: Final = 256
HEADER_BYTES_MAX: Final = 32 * 1024
FIELDS_MAX: Final = 10_000
FORM_BYTES_MAX: Final = 2**20  # decoding takes some 80 bytes for each escape
PAIRS_PER_STEP: Final = 8  # made, or compared with a name
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_CONNECTION: Final = frozenset(
    {"connection", "content-length", "date", "keep-alive", "trailer", "transfer-encoding", "upgrade"}
)  # these are the server's business

Pairs = list[tuple[str, str]]
SendPiece = Callable[[dict[str, Value]], None]


class HttpDeclared(Declared):
    """A function under `@http_action`."""

    __slots__ = ()

    def __call__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise InvalidFunctionCall(f"{self._handler.__name__!r} {DIRECT_CALL}")


class HttpActionMaker(HostObject):
    """`http_action`."""

    __slots__ = ()

    def __call__(self, handler: Any) -> HttpDeclared:
        if not hasattr(handler, "__code__"):
            raise InvalidValidator("@http_action stands above a function")
        return HttpDeclared("action", "internal", handler, None, None, None)


class GuestRouter(HostObject):
    __slots__ = ("_routes", "_table")
    _exposed_ = frozenset({"route"})

    def __init__(self) -> None:
        self._table: RouteTable[HttpDeclared] = RouteTable()
        self._routes: list[tuple[Route, HttpDeclared]] = []

    def route(
        self, *, path: Any = None, path_prefix: Any = None, method: Any = None, handler: Any = None
    ) -> None:
        if not isinstance(handler, HttpDeclared):
            raise InvalidValidator("handler is a function under @http_action")
        try:
            route = make_route(path, path_prefix, method)
            self._table.add(route, handler)
        except InvalidRoute as error:
            raise InvalidValidator(str(error)) from None
        self._routes.append((route, handler))


class RouterMaker(HostObject):
    """`Router`."""

    __slots__ = ()

    def __call__(self) -> GuestRouter:
        return GuestRouter()


# ---- requests ---------------------------------------------------------------------------


class Values(HostObject):
    """Names with one value or several."""

    __slots__ = ("_charge", "_has_case", "_pairs")
    _exposed_ = frozenset({"get", "get_all"})

    def __init__(self, pairs: Pairs, charge: Callable[[int], None], *, has_case: bool = True) -> None:
        charge(len(pairs) // PAIRS_PER_STEP)
        self._pairs = pairs
        self._charge = charge
        self._has_case = has_case

    def get(self, name: Any, default: Any = None) -> Any:
        found = self.get_all(name)
        return found[0] if found else default

    def get_all(self, name: Any) -> list[str]:
        if type(name) is not str:
            raise TypeError(f"a name is text, found a {type(name).__name__}")
        self._charge((len(self._pairs) + len(name)) // PAIRS_PER_STEP)
        wanted = name if self._has_case else name.lower()
        return [value for key, value in self._pairs if key == wanted]

    def __contains__(self, name: Any) -> bool:
        return bool(self.get_all(name))


class GuestRequest(HostObject):
    __slots__ = ("_message", "_runtime")
    _exposed_ = frozenset({"body", "form", "headers", "json", "method", "path", "query", "text", "url"})

    def __init__(self, runtime: GuestRuntime, message: dict[str, Any]) -> None:
        self._runtime = runtime
        self._message = message

    @property
    def method(self) -> str:
        return str(self._message["method"])

    @property
    def url(self) -> str:
        return str(self._message["url"])

    @property
    def path(self) -> str:
        return str(self._message["path"])

    @property
    def query(self) -> Values:
        return self._values("query")

    @property
    def headers(self) -> Values:
        return self._values("headers", has_case=False)

    def _values(self, name: str, *, has_case: bool = True) -> Values:
        pairs = [(key, value) for key, value in self._message[name]]
        return Values(pairs, self._runtime.meter.charge, has_case=has_case)

    def body(self) -> bytes:
        data: bytes = self._message["body"]
        return data

    def text(self) -> str:
        data = self.body()
        self._runtime.meter.charge(len(data) // COPY_BYTES)
        return data.decode(errors="replace")

    def json(self) -> Any:
        return self._runtime.facade("json").loads(self.text())

    def form(self) -> Values:
        """The fields of a form that was sent as `application/x-www-form-urlencoded`."""
        kind = (self.headers.get("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            raise ValueError(f"form() reads application/x-www-form-urlencoded, found {kind or 'no type'}")
        text = self.text()
        if len(text) > FORM_BYTES_MAX:
            raise ValueError(f"form() reads at most {FORM_BYTES_MAX} characters, found {len(text)}")
        self._runtime.meter.charge(len(text) // 8)
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
        return Values(pairs, self._runtime.meter.charge)


# ---- responses --------------------------------------------------------------------------


class GuestResponse(HostObject):
    """A response, checked when it is made, so that the error has the line of its maker."""

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, body: bytes | Iterator[Any], status: int, headers: Pairs) -> None:
        self._body = body
        self._status = status
        self._headers = headers


class ResponseMaker(HostObject):
    """`Response(body=None, status=200, headers=None)`."""

    __slots__ = ()

    def __call__(self, body: Any = None, status: Any = 200, headers: Any = None) -> GuestResponse:
        if type(status) is not int or not 200 <= status <= 599:
            raise ValueError("the status of a response is a number from 200 to 599")
        taken = taken_headers(headers)
        names = {name for name, _ in taken}
        if body is None:
            data: Any = b""
        elif type(body) is str:
            data = body.encode(errors="replace")
            if "content-type" not in names:
                taken.append(("content-type", "text/plain; charset=utf-8"))
        elif type(body) is bytes or hasattr(body, "__next__"):
            data = body
        else:
            raise TypeError(
                f"the body of a response is text, bytes, None or a generator of bytes, "
                f"found a {type(body).__name__}"
            )
        if type(data) is bytes and len(data) > BODY_BYTES_MAX:
            raise _too_large()
        return GuestResponse(data, status, taken)


def taken_headers(headers: Any) -> Pairs:
    """Return the headers of a response, or of a request of our own, lower-case. Raises for what is none."""
    if headers is None:
        return []
    if type(headers) is dict:
        rows = list(headers.items())
    elif type(headers) is list and all(type(row) in (list, tuple) and len(row) == 2 for row in headers):
        rows = [(row[0], row[1]) for row in headers]
    else:
        raise TypeError("headers is a dict of texts, or a list of pairs of them")
    if len(rows) > HEADERS_MAX:
        raise ValueError(f"at most {HEADERS_MAX} headers, found {len(rows)}")
    if not all(type(name) is str and type(value) is str for name, value in rows):
        raise TypeError("names and values of headers are text")
    if sum(len(name) + len(value) for name, value in rows) > HEADER_BYTES_MAX:
        raise ValueError(f"headers of more than {HEADER_BYTES_MAX} bytes")
    taken: Pairs = []
    for name, value in rows:
        if not _TOKEN.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
            raise ValueError(f"{name[:40]!r} is no header: a name is a word, and a value one line of Latin-1")
        if name.lower() in _CONNECTION:
            raise ValueError(f"the header {name!r} is set by the server")
        taken.append((name.lower(), value))
    return taken


def give_back(result: Any, runtime: GuestRuntime, send: SendPiece) -> dict[str, Value]:
    """Return what the engine is told of a handler's result; the pieces of a stream are sent."""
    if not isinstance(result, GuestResponse):
        raise TypeError(f"an HTTP action returns Response(...), found a {type(result).__name__}")
    head: dict[str, Value] = {
        "headers": [[name, value] for name, value in result._headers],
        "status": result._status,
    }
    if isinstance(result._body, bytes):
        if len(result._body) <= PIECE_BYTES:
            return {"body": result._body, **head}
        send({"headers": head["headers"], "length": len(result._body), "status": result._status})
        for start in range(0, len(result._body), PIECE_BYTES):
            send({"chunk": result._body[start : start + PIECE_BYTES]})
        return {}
    # The first piece first: what fails before it is an error that can still be told.
    piece = runtime.call(next, result._body, None)
    send(head)
    size = 0
    while piece is not None:
        if type(piece) is not bytes:
            raise TypeError(f"a generator of a response yields bytes, found a {type(piece).__name__}")
        size += len(piece)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        if piece:
            send({"chunk": piece})
        piece = runtime.call(next, result._body, None)
    return {}


def _too_large() -> LimitExceeded:
    return LimitExceeded("TooLargeValue", f"the body of a response has at most {BODY_BYTES_MAX} bytes")


MEMBERS: Final = {"Response": ResponseMaker(), "Router": RouterMaker(), "http_action": HttpActionMaker()}
