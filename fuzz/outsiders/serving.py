"""A whole server for strangers' bytes: connections in memory, a real deployment behind them, virtual time."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import attrs
import trio
from trio.testing import memory_stream_pair

from engine.auth import Authenticator
from engine.server import ServerOptions, _Server
from engine.testing.chance import SimulatedChance, stream
from engine.testing.server import TestServer
from engine.testing.turns import Turns

APP: Final = {
    "shop.py": """
from tidewell import action, mutation, query

@query
def left(ctx, name: str) -> int:
    return len(ctx.db.query("sold").filter(lambda q: q.eq(q.field("name"), name)).take(10))

@mutation
def take(ctx, name: str) -> None:
    for row in ctx.db.query("sold").take(3):
        ctx.db.delete(row["_id"])
    ctx.db.insert("sold", {"name": name})

@action
def buy(ctx, name: str) -> int:
    return ctx.run_query("shop:left", {"name": name})
"""
}
HANDSHAKE: Final = (
    b"GET /api/1.48.0/sync HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TALK_S: Final = 2.0  # of virtual time that the server may talk before the stranger hangs up
END_S_MAX: Final = 600.0  # of virtual time for the server to be done with a connection afterwards
PIECE_BYTES: Final = 700  # so that messages arrive in parts


class _Complaints(logging.Handler):
    """What the engine logs as an error is a fault of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.texts.append(f"{record.getMessage()}: {error!r}")


@attrs.define(eq=False)
class _Strangers:
    """Connects to a server, says what it is told to, and hangs up."""

    _turns: Turns
    _server: Any
    _complaints: _Complaints

    def say(self, data: bytes) -> bytes:
        """Return what the server said to it."""
        heard = bytearray()

        async def connect() -> None:
            ours, theirs = memory_stream_pair()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._talk, ours, data, heard)
                with trio.fail_after(TALK_S + END_S_MAX):
                    await self._server._serve_connection(theirs)
                nursery.cancel_scope.cancel()

        self._turns(connect)
        found, self._complaints.texts = self._complaints.texts, []
        assert not found, found
        return bytes(heard)

    async def _talk(self, ours: trio.abc.Stream, data: bytes, heard: bytearray) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hear, ours, heard)
            try:
                for start in range(0, len(data), PIECE_BYTES):
                    await ours.send_all(data[start : start + PIECE_BYTES])
                await trio.sleep(TALK_S)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the server has had enough
            nursery.cancel_scope.cancel()
        await ours.aclose()


async def _hear(ours: trio.abc.Stream, heard: bytearray) -> None:
    try:
        while piece := await ours.receive_some(65536):
            heard += piece
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


@contextmanager
def _strangers() -> Iterator[_Strangers]:
    complaints = _Complaints()
    loggers = [logging.getLogger(name) for name in ("engine", "tidewell")]
    turns = Turns(0)
    turns.start()
    server = TestServer(APP)
    try:
        turns(server.__aenter__)
        options = ServerOptions(
            authenticator=Authenticator("admin"),
            clock=server.clock,
            chance=SimulatedChance(stream(0, "strangers")),
        )
        for logger in loggers:
            logger.addHandler(complaints)
        yield _Strangers(turns, _Server(server.deployment, options), complaints)
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
        turns(lambda: server.__aexit__(None, None, None))
        turns.stop()


@contextmanager
def serving_http() -> Iterator[Callable[[bytes], bytes]]:
    """Bytes on a new connection."""
    with _strangers() as strangers:
        yield strangers.say


@contextmanager
def serving_sockets() -> Iterator[Callable[[bytes], bytes]]:
    """Lines, each the text of one message on a new WebSocket."""
    with _strangers() as strangers:
        yield lambda data: strangers.say(HANDSHAKE + b"".join(map(frame, data.split(b"\n"))))


@contextmanager
def serving_websocket_bytes() -> Iterator[Callable[[bytes], bytes]]:
    """Bytes on a new WebSocket, where frames are expected."""
    with _strangers() as strangers:
        yield lambda data: strangers.say(HANDSHAKE + data)


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """Return a frame as a client sends it, masked."""
    mask = b"\x01\x02\x03\x04"
    size = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else b""
    if 126 <= size < 2**16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    elif size >= 2**16:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
