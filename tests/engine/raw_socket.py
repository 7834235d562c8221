"""A server on a free port, and clients that speak to it over bare TCP.

`RawSocket` frames by wsproto and nothing else, so it can say what no well-made
client would say. Waiting for a server that should have spoken is bounded.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import trio
import wsproto
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from engine.backend import Backend
from engine.server import Address, ServerOptions, serve

Headers = Sequence[tuple[bytes, bytes]]

DEADLINE_S = 10.0  # far above anything that works; only a hang meets it


@attrs.define
class Served:
    """A running server, and the clients that have to be closed with it."""

    port: int
    _streams: list[trio.SocketStream] = attrs.field(factory=list, init=False)

    async def connect(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self._streams.append(stream)
        return stream

    async def open(self, path: str = "/api/1.48.0/sync", headers: Headers = ()) -> RawSocket:
        """Open a WebSocket; it has been accepted."""
        return await RawSocket.open(await self.connect(), path, headers)

    async def close(self) -> None:
        for stream in self._streams:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def running_server(backend: Backend, **options: Any) -> AsyncIterator[Served]:
    """Serve on a free port of this machine, and stop gracefully at the end."""
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[list[Address]]) -> None:
            await serve(backend, "127.0.0.1", 0, ServerOptions(**options), task_status=task_status)

        (address,) = await nursery.start(run)
        served = Served(address.port)
        try:
            yield served
        finally:
            await served.close()
        nursery.cancel_scope.cancel()


class RawSocket:
    def __init__(self, stream: Any, deadline_s: float = DEADLINE_S) -> None:
        self.stream = stream
        self._deadline_s = deadline_s
        self.wire = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.answers_pings = True
        self.is_closed = False
        self.pings = 0
        self._heard: deque[dict[str, Any] | CloseConnection | AcceptConnection | RejectConnection] = deque()
        self._text = ""

    @classmethod
    async def open(cls, stream: trio.SocketStream, path: str, headers: Headers) -> RawSocket:
        socket = cls(stream)
        request = Request(host="localhost", target=path, extra_headers=list(headers))
        await socket.stream.send_all(socket.wire.send(request))
        opened = await socket._next()
        assert isinstance(opened, AcceptConnection), opened
        return socket

    async def send(self, text: str | dict[str, Any]) -> None:
        data = text if isinstance(text, str) else json.dumps(text)
        await self.stream.send_all(self.wire.send(TextMessage(data=data)))

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(self.wire.send(BytesMessage(data=data)))

    async def hear(self) -> dict[str, Any]:
        message = await self._next()
        assert isinstance(message, dict), message
        return message

    async def hear_close(self) -> tuple[int | None, str]:
        """The code (None when there was none) and reason of the server's close frame."""
        message = await self._next()
        assert isinstance(message, CloseConnection), message
        # wsproto gives 1005 for a frame without a code.
        return (None if message.code == 1005 else int(message.code)), message.reason or ""

    async def hear_end(self) -> None:
        """Read until the server has ended the connection, whatever it says before."""
        with trio.fail_after(self._deadline_s):
            try:
                while await self.stream.receive_some():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def abort(self) -> None:
        await trio.aclose_forcefully(self.stream)

    async def _next(self) -> dict[str, Any] | CloseConnection | AcceptConnection | RejectConnection:
        with trio.fail_after(self._deadline_s):
            while not self._heard:
                data = await self.stream.receive_some()
                self.wire.receive_data(data or None)
                for event in self.wire.events():
                    await self._take(event)
        return self._heard.popleft()

    async def _take(self, event: wsproto.events.Event) -> None:
        match event:
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    self._heard.append(json.loads(self._text))
                    self._text = ""
            case CloseConnection():
                self.is_closed = True
                self._heard.append(event)
                with suppress(trio.BrokenResourceError, wsproto.utilities.LocalProtocolError):
                    await self.stream.send_all(self.wire.send(event.response()))
            case Ping():
                self.pings += 1
                if self.answers_pings:
                    await self.stream.send_all(self.wire.send(event.response()))
            case AcceptConnection() | RejectConnection():
                self._heard.append(event)
            case RejectData() | Pong():
                pass
            case _:
                raise AssertionError(event)
