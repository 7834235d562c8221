"""The engine's end of a worker's channel: frames in and out, the worker's taken as hostile bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from socket import socket
from typing import Final

import attrs
import trio

from sandbox.frames import (
    LENGTH,
    FromWorker,
    ProtocolViolation,
    ToWorker,
    body_length,
    decode_from_worker,
    encode,
)
from sandbox.pool.process import WorkerProcess

_READ_BYTES: Final = 64 * 1024
# An honest worker writes a frame at once, and the kernel cuts it into pieces of kilobytes. One that
# sends byte after byte would have the engine wake up for each.
_READS_MIN: Final = 64
_READ_BYTES_MIN: Final = 512


class Closed(Exception):
    """The worker's end is closed, which it cannot do without ending."""


@attrs.define(eq=False)
class Wire:
    process: WorkerProcess
    _rest: bytes = attrs.field(default=b"", init=False)  # received, and not yet part of a frame

    def require_silence(self) -> None:
        """Raise `ProtocolViolation` when the worker has sent something that was not asked for."""
        early = self._rest
        if not early and not self.process.is_dead:
            try:
                early = self.process.channel.recv(1)
            except OSError:
                return  # nothing is there, or the worker is gone, which sending will find out
        if early:
            raise ProtocolViolation("a frame that nobody asked for")

    def require_end(self) -> None:
        """Raise `ProtocolViolation` when more than one frame has come at once."""
        if self._rest:
            raise ProtocolViolation("bytes after the reply")

    async def send(self, frame: ToWorker) -> None:
        """Send a frame. Raises `Closed`."""
        data = memoryview(encode(frame))
        while data:
            if self.process.is_dead:
                raise Closed
            try:
                data = data[self.process.channel.send(data) :]
            except BlockingIOError:
                await self._wait(trio.lowlevel.wait_writable)
            except OSError:
                raise Closed from None

    async def receive(self) -> FromWorker:
        """Return the next frame. Memory is taken as bytes arrive, whatever length was announced.

        Raises `Closed` and `ProtocolViolation`.
        """
        buffer = bytearray(self._rest)
        self._rest = b""
        length: int | None = None
        reads = 0
        while True:
            if length is None and len(buffer) >= LENGTH.size:
                length = LENGTH.size + body_length(bytes(buffer[: LENGTH.size]))
            if length is not None and len(buffer) >= length:
                self._rest = bytes(buffer[length:])
                return decode_from_worker(buffer[LENGTH.size : length])
            piece = await self._piece()
            buffer += piece
            reads += 1
            if reads > _READS_MIN + len(buffer) // _READ_BYTES_MIN:
                raise ProtocolViolation(f"{len(buffer)} bytes in {reads} pieces")

    async def _piece(self) -> bytes:
        """Return some bytes: from the channel, or what was left in it when the process ended."""
        process = self.process
        while not process.is_dead:
            piece = await self._wait_and_read()
            if piece is not None:
                return piece
        piece, process.remains = process.remains, b""
        if not piece:
            raise Closed
        return piece

    async def _wait_and_read(self) -> bytes | None:
        """Return some bytes, or None when there are none here: look again where they are."""
        await self._wait(trio.lowlevel.wait_readable)
        try:
            piece = self.process.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            if self.process.is_dead:
                return None
            raise Closed from None
        if not piece:
            raise Closed
        return piece

    async def _wait(self, how: Callable[[socket], Awaitable[None]]) -> None:
        """Wait for the channel, or for the report of the process's end, which closes it.

        Not to be called once it is closed: trio files a wait under the number of the
        descriptor, and all closed ones have the same.
        """
        with contextlib.suppress(trio.ClosedResourceError):
            await how(self.process.channel)
