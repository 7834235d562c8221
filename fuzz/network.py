"""Simulated lines: bytes arrive late, in order, until the line is cut.

What is cut loses what was under way in both directions, and both ends see it,
unless the line has become a black hole first: then everything vanishes silently, as on
a phone in a tunnel, until somebody loses patience.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio

CAPACITY: Final = 64  # pieces on their way; then the sender waits


@attrs.define(eq=False)
class _Pipe:
    """One direction of a line."""

    _delay: Callable[[], float]
    _pieces: deque[tuple[float, bytes]] = attrs.field(factory=deque)  # when they arrive; b"" is the end
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _newest: float = 0.0  # arrival of the last piece, to keep them in order
    is_cut: bool = False
    is_hole: bool = False

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def cut(self) -> None:
        self.is_cut = True
        self._pieces.clear()
        self._notify()

    def put(self, piece: bytes) -> None:
        if self.is_hole or self.is_cut:
            return
        self._newest = max(self._newest, trio.current_time() + self._delay())
        self._pieces.append((self._newest, piece))
        self._notify()

    async def room(self) -> None:
        while len(self._pieces) >= CAPACITY and not self.is_cut:
            await self._changed.wait()

    async def receive(self) -> bytes:
        while True:
            if self.is_cut:
                raise trio.BrokenResourceError("the line was cut")
            if not self._pieces:
                await self._changed.wait()
                continue
            arrival, piece = self._pieces[0]
            if arrival > trio.current_time():
                with trio.move_on_at(arrival):
                    while not self.is_cut:
                        await self._changed.wait()
                continue
            if piece:
                self._pieces.popleft()
                self._notify()
            return piece


@attrs.define(eq=False)
class End(trio.abc.Stream):
    """One end of a line."""

    _incoming: _Pipe
    _outgoing: _Pipe
    _is_closed: bool = False
    _rest: bytes = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        await self._outgoing.room()
        self._check()
        if data:
            self._outgoing.put(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self._outgoing.room()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self._check()
        data = self._rest or await self._incoming.receive()
        self._check()
        data, self._rest = data[:max_bytes], b"" if max_bytes is None else data[max_bytes:]
        return data

    def _check(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError
        if self._outgoing.is_cut:
            raise trio.BrokenResourceError("the line was cut")

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._outgoing.put(b"")
            self._incoming.cut()
        await trio.lowlevel.checkpoint()


@attrs.define(eq=False)
class Line:
    number: int
    client: End
    server: End
    _pipes: tuple[_Pipe, _Pipe]

    @classmethod
    def open(cls, number: int, delay: Callable[[], float]) -> Line:
        there, back = _Pipe(delay), _Pipe(delay)
        return cls(number, End(back, there), End(there, back), (there, back))

    def cut(self) -> None:
        for pipe in self._pipes:
            pipe.cut()

    def fall_into_hole(self) -> None:
        for pipe in self._pipes:
            pipe.is_hole = True
