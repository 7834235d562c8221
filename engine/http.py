"""HTTP/1.1 over one connection: h11 says what the bytes mean, trio moves them.

Reads a request whole, has it answered, and goes on with the next one on the
same connection, pipelined ones in their order. An upgrade to a WebSocket is
checked here and then handed over with everything that was read.

Bounds: a head within `HEAD_S_MAX` of its first byte, a body within `BODY_S_MAX`
and its limit, an answer taken within `ANSWER_S_MAX`, and bodies of all
connections together within the server's `ByteBudget`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Final

import attrs
import h11
import trio

from engine.clients import Client, read_client, read_version
from engine.clock import Clock
from engine.exchange import Answer, Headers, Refused, Request, Response, Streamed, Upgrade, Upload

log = logging.getLogger(__name__)

HEAD_BYTES_MAX: Final = 64 * 1024
RECEIVE_BYTES: Final = 64 * 1024
BODY_BYTES_MAX: Final = 16 * 1024 * 1024 + 2000  # arguments and the JSON around them (protocol, 13.3)
IDLE_S_MAX: Final = 75.0  # between two requests
HEAD_S_MAX: Final = 15.0
BODY_S_MAX: Final = 60.0
ANSWER_S_MAX: Final = 60.0
LINGER_S_MAX: Final = 2.0
LINGER_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
_BODILESS: Final = (204, 304)


@attrs.define
class ByteBudget:
    """Bytes that all connections of a server may hold of unfinished requests."""

    left: int

    def take(self, size: int) -> bool:
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        self.left += size


@attrs.frozen
class HttpContext:
    """What every connection of a server shares."""

    respond: Callable[[Request], Awaitable[Answer]]
    budget: ByteBudget
    clock: Clock
    is_stopping: Callable[[], bool]
    idle: set[trio.CancelScope]  # one for each connection between two requests; may be cancelled
    body_bytes_max: Callable[[str], int] = lambda _: BODY_BYTES_MAX  # by path
    open_upload: Callable[[Request], Upload | None] = lambda _: None  # for a body of any length


async def serve_requests(stream: trio.abc.Stream, context: HttpContext) -> Upgrade | None:
    """Answer requests until the connection ends, or has to be upgraded."""
    return await _HttpConnection(stream, context).run()


class _Ended(Exception):
    """There is nothing more to say on this connection."""


class _HttpConnection:
    def __init__(self, stream: trio.abc.Stream, context: HttpContext) -> None:
        self._stream = stream
        self._context = context
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._held_bytes = 0  # of the budget

    async def run(self) -> Upgrade | None:
        try:
            while True:
                head = await self._read_head()
                if _asks_for_socket(head):
                    upgrade = await self._upgrade(head)
                    if upgrade is not None:
                        return upgrade
                else:
                    await self._answer_one(head)
                if self._h11.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    break
                self._h11.start_next_cycle()
            if self._h11.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
                await self._linger()
        except (_Ended, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass
        except h11.LocalProtocolError:
            log.exception("an answer broke the rules of HTTP")
        return None

    # ---- reading --------------------------------------------------------------------------

    async def _read_head(self) -> h11.Request:
        try:
            if not self._h11.trailing_data[0]:
                await self._wait_for_request()
            with trio.fail_after(HEAD_S_MAX):
                event = await self._next_event()
        except trio.TooSlowError:
            await self._refuse(Refused(408, "RequestTimeout", "the request head took too long"))
            await self._linger()
            raise _Ended from None
        except h11.RemoteProtocolError as error:
            await self._refuse(Refused(error.error_status_hint, "BadRequest", str(error)))
            await self._linger()
            raise _Ended from None
        if not isinstance(event, h11.Request):
            raise _Ended
        return event

    async def _wait_for_request(self) -> None:
        with trio.move_on_after(IDLE_S_MAX) as idle:
            self._context.idle.add(idle)
            try:
                if not self._context.is_stopping():
                    await self._receive()
                    return
            finally:
                self._context.idle.discard(idle)
        raise _Ended

    async def _read_body(self, bytes_max: int) -> bytes:
        """Return the whole body. Raises `Refused`."""
        chunks = bytearray()
        try:
            with trio.fail_after(BODY_S_MAX):
                while True:
                    event = await self._next_event()
                    if isinstance(event, h11.EndOfMessage):
                        return bytes(chunks)
                    if not isinstance(event, h11.Data):
                        raise _Ended
                    if len(chunks) + len(event.data) > bytes_max:
                        raise _too_large(bytes_max)
                    if not self._context.budget.take(len(event.data)):
                        raise Refused(503, "TooManyConcurrentRequests", "too many large requests at once")
                    self._held_bytes += len(event.data)
                    chunks += event.data
        except trio.TooSlowError:
            raise Refused(408, "RequestTimeout", "the request body took too long") from None
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, "BadRequest", str(error)) from None

    async def _receive_upload(self, upload: Upload) -> Response:
        try:
            while True:
                with trio.fail_after(BODY_S_MAX):
                    event = await self._next_event()
                if isinstance(event, h11.EndOfMessage):
                    return await upload.finish()
                if not isinstance(event, h11.Data):
                    raise _Ended
                await upload.write(bytes(event.data))
        except trio.TooSlowError:
            raise Refused(408, "RequestTimeout", "the request body took too long") from None
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint, "BadRequest", str(error)) from None
        finally:
            upload.abandon()

    async def _next_event(self) -> object:
        while True:
            event = self._h11.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._h11.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await self._stream.send_all(self._h11.send(go_on) or b"")
            await self._receive()

    async def _receive(self) -> None:
        data = await self._stream.receive_some(RECEIVE_BYTES)
        if not data and self._h11.their_state in (h11.IDLE, h11.MUST_CLOSE):
            raise _Ended
        self._h11.receive_data(bytes(data))

    # ---- answering --------------------------------------------------------------------------

    async def _answer_one(self, head: h11.Request) -> None:
        answer: Answer
        try:
            try:
                path, query = _target(head)
                request = Request(head.method.decode("ascii"), path, query, list(head.headers))
                upload = self._context.open_upload(request)
                if upload is not None:
                    answer = await self._receive_upload(upload)
                else:
                    bytes_max = self._context.body_bytes_max(path)
                    _check_announced_length(head, bytes_max)
                    body = await self._read_body(bytes_max)
                    answer = await self._context.respond(attrs.evolve(request, body=body))
            except Refused as refused:
                answer = refused.response()
            is_head = head.method == b"HEAD"
            if isinstance(answer, Streamed):
                await self._stream_answer(answer, is_head=is_head)
            else:
                await self._send(answer, is_head=is_head)
        finally:
            self._context.budget.give_back(self._held_bytes)
            self._held_bytes = 0

    async def _stream_answer(self, answer: Streamed, *, is_head: bool) -> None:
        sink = _Sink(self, is_head)
        try:
            response = await answer.produce(sink)
        except Refused as refused:
            if sink.has_begun:
                raise _Ended from None
            response = refused.response()
        if response is None:
            await sink.end()
        elif sink.has_begun:
            raise _Ended  # half an answer, and the client has to notice
        else:
            await self._send(response, is_head=is_head)

    async def send_event(self, event: h11.Event) -> None:
        with trio.fail_after(ANSWER_S_MAX):
            await self._stream.send_all(self._h11.send(event) or b"")

    async def _refuse(self, refused: Refused) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(refused.response(), is_head=False)

    async def _send(self, response: Response, *, is_head: bool) -> None:
        headers: Headers = [*response.headers]
        if response.status not in _BODILESS:
            if response.content_type:
                headers.append((b"content-type", response.content_type))
            headers.append((b"content-length", str(len(response.body)).encode()))
        headers += self.own_headers()
        start = h11.Response(status_code=response.status, headers=headers)
        data = self._h11.send(start) or b""
        if response.body and not is_head and response.status not in _BODILESS:
            data += self._h11.send(h11.Data(data=response.body)) or b""
        data += self._h11.send(h11.EndOfMessage()) or b""
        with trio.fail_after(ANSWER_S_MAX):
            await self._stream.send_all(data)

    def own_headers(self) -> Headers:
        headers: Headers = [(b"date", self._date())]
        if self._context.is_stopping() or self._h11.their_state is not h11.DONE:
            # Half a request is left on the line, or the server is about to go.
            headers.append((b"connection", b"close"))
        return headers

    def _date(self) -> bytes:
        return formatdate(self._context.clock.now_ns() / 1e9, usegmt=True).encode()

    async def _linger(self) -> None:
        """Read on for a moment, so that what is unread does not cut off the answer."""
        if isinstance(self._stream, trio.abc.HalfCloseableStream):
            await self._stream.send_eof()
        size = 0
        with trio.move_on_after(LINGER_S_MAX):
            while size < LINGER_BYTES_MAX:
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if not data:
                    break
                size += len(data)

    # ---- upgrading ----------------------------------------------------------------------------

    async def _upgrade(self, head: h11.Request) -> Upgrade | None:
        """Return the upgrade, or answer the request with what is wrong with it."""
        try:
            client = _socket_client(head)
        except Refused as refused:
            await self._refuse(refused)  # and end: what follows may be frames already
            return None
        # The socket's own parser reads the head again; h11 writes it, so that it is well-formed.
        writer = h11.Connection(h11.CLIENT)
        data = writer.send(h11.Request(method=b"GET", target=head.target, headers=list(head.headers)))
        return Upgrade(client, data or b"", self._h11.trailing_data[0])


@attrs.define(eq=False)
class _Sink:
    """Sends an answer while it is made. HEAD is answered by the head alone."""

    _connection: _HttpConnection
    _is_head: bool
    has_begun: bool = attrs.field(default=False, init=False)

    async def begin(self, status: int, headers: Headers, length: int | None = None) -> None:
        assert not self.has_begun
        self.has_begun = True
        headers = [*headers, *self._connection.own_headers()]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._connection.send_event(h11.Response(status_code=status, headers=headers))

    async def write(self, data: bytes) -> None:
        if data and not self._is_head:
            await self._connection.send_event(h11.Data(data=data))

    async def end(self) -> None:
        await self._connection.send_event(h11.EndOfMessage())


def _asks_for_socket(head: h11.Request) -> bool:
    return any(name == b"upgrade" and value.lower().strip() == b"websocket" for name, value in head.headers)


def _socket_client(head: h11.Request) -> Client:
    """Return who opens a socket with this head. Raises `Refused` unless it is right in all respects."""
    headers = dict(head.headers)
    path, _ = _target(head)
    parts = path.split("/")[1:]
    if parts == ["api", "sync"]:
        version = None
    elif len(parts) == 3 and (parts[0], parts[2]) == ("api", "sync"):
        version = read_version(parts[1])
        if not version:
            raise Refused(400, "BadVersion", f"{parts[1]!r} is not a version")
    else:
        raise Refused(404, "NotFound", f"no socket is served at {path}")
    if head.method != b"GET" or head.http_version != b"1.1":
        raise Refused(400, "BadUpgrade", "a WebSocket begins with GET over HTTP/1.1")
    if b"upgrade" not in {token.strip().lower() for token in headers.get(b"connection", b"").split(b",")}:
        raise Refused(400, "BadUpgrade", "the header 'Connection: Upgrade' is missing")
    if headers.get(b"sec-websocket-version") != b"13":
        spoken = [(b"sec-websocket-version", b"13")]
        raise Refused(426, "BadUpgrade", "only WebSocket version 13 is spoken", spoken)
    if b"sec-websocket-key" not in headers:
        raise Refused(400, "BadUpgrade", "the header 'Sec-WebSocket-Key' is missing")
    named = headers.get(b"convex-client")
    if named is not None or version is None:
        return read_client(None if named is None else named.decode("latin-1"))
    return Client("npm", version)


def _target(head: h11.Request) -> tuple[str, str]:
    """Return path and query of a request, with duplicate slashes collapsed."""
    target = head.target.decode("latin-1")
    if not target.startswith("/"):  # the absolute form, as for a proxy; or `*`
        _, _, rest = target.partition("://")
        _, slash, path = rest.partition("/")
        target = slash + path
    path, _, query = target.partition("?")
    while "//" in path:
        path = path.replace("//", "/")
    return path, query


def _check_announced_length(head: h11.Request, bytes_max: int) -> None:
    """Refuse a body that is too long before it is sent. Raises `Refused`."""
    for name, value in head.headers:
        if name == b"content-length" and int(value) > bytes_max:
            raise _too_large(bytes_max)


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, "PayloadTooLarge", f"a request body may have {bytes_max} bytes")
