"""Memory for messages that have begun to arrive, shared by all sockets.

A message may be large, and a slow or hostile client may take its time over it,
so what is held for unfinished messages has one bound for all. When it is
reached, the socket whose message has been arriving for the longest is ended,
and the others are not read from until there is room: an attacker who fills the
memory loses it first, and nothing beyond the bound is ever held.

The first `FREE_BYTES` of a socket are not counted, so that small messages,
which are nearly all, pass whatever large ones do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio

FREE_BYTES: Final = 16 * 1024
# What each piece of a message costs beside its bytes: an object and its place.
PIECE_BYTES: Final = 64

_DATA_OPCODES_END: Final = 8  # those from here on are of control frames, which are small and answered at once
_LENGTH_BYTES: Final = {126: 2, 127: 8}


@attrs.define(eq=False)
class FrameMeter:
    """Counts what is held of messages that were not taken yet, from the frames that carry them.

    Reads no more of the frames than where they end; what is wrong with them is
    found by who decodes them.
    """

    held: int = attrs.field(default=0, init=False)
    _finished: deque[int] = attrs.field(factory=deque, init=False)  # sizes of messages that wait to be taken
    _unfinished: int = attrs.field(default=0, init=False)
    _header: bytearray = attrs.field(factory=bytearray, init=False)
    _left: int = attrs.field(default=0, init=False)  # of the frame's payload
    _is_data: bool = attrs.field(default=False, init=False)
    _is_final: bool = attrs.field(default=False, init=False)

    def feed(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._left == 0:
                self._header.append(data[position])
                position += 1
                if not self._begin_frame():
                    continue
            size = min(self._left, len(data) - position)
            position += size
            self._left -= size
            if self._is_data:
                self._unfinished += size + PIECE_BYTES
                self.held += size + PIECE_BYTES
                if self._left == 0 and self._is_final:
                    self._finished.append(self._unfinished)
                    self._unfinished = 0

    def take(self) -> None:
        """The oldest finished message was taken."""
        self.held -= self._finished.popleft()

    def _begin_frame(self) -> bool:
        """Read the header, if it is all there."""
        header = self._header
        if len(header) < 2:
            return False
        length, mask_bytes = header[1] & 0x7F, 4 if header[1] & 0x80 else 0
        length_bytes = _LENGTH_BYTES.get(length, 0)
        if len(header) < 2 + length_bytes + mask_bytes:
            return False
        self._left = int.from_bytes(header[2 : 2 + length_bytes]) if length_bytes else length
        self._is_data = header[0] & 0x0F < _DATA_OPCODES_END
        self._is_final = bool(header[0] & 0x80)
        header.clear()
        return True


@attrs.define(eq=False)
class ReceiveBudget:
    """The bytes that all sockets hold of messages not taken yet. One may hold no more than all."""

    _bytes_max: int
    _bytes_of_one_max: int
    held: int = attrs.field(default=0, init=False)
    _holders: dict[Unread, int] = attrs.field(factory=dict, init=False)  # in the order in which they began
    _room: trio.Event = attrs.field(factory=trio.Event, init=False)  # replaced each time it is used up

    async def grow(self, holder: Unread) -> None:
        """Have `holder` hold what it has received, as soon as that is within the bounds."""
        while (size := holder.counted) > (former := self._holders.get(holder, 0)):
            if size > self._bytes_of_one_max:
                holder.evict()
            elif self.held - former + size > self._bytes_max:
                next(iter(self._holders)).evict()
            else:
                self.held += size - former
                self._holders[holder] = size
                return
            await self._room.wait()

    def shrink(self, holder: Unread, size: int) -> None:
        """Have `holder` hold no more than `size`."""
        former = self._holders.get(holder, 0)
        if size < former:
            self.held -= former - size
            self._holders[holder] = size
            room, self._room = self._room, trio.Event()
            room.set()
        if size == 0:
            self._holders.pop(holder, None)


@attrs.define(eq=False)
class Unread:
    """What one socket has received and nobody has taken."""

    _budget: ReceiveBudget
    _on_evict: Callable[[], None]  # must soon lead to `close`
    _meter: FrameMeter = attrs.field(factory=FrameMeter, init=False)
    _is_evicted: bool = attrs.field(default=False, init=False)

    @property
    def counted(self) -> int:
        return max(0, self._meter.held - FREE_BYTES)

    async def receive(self, data: bytes) -> None:
        """Account for bytes that came. Waits while there is no room for them."""
        self._meter.feed(data)
        if self._meter.held > FREE_BYTES:
            await self._budget.grow(self)

    def take(self) -> None:
        """The oldest message that has come whole is in use now."""
        self._meter.take()
        self._budget.shrink(self, self.counted)

    def evict(self) -> None:
        if not self._is_evicted:
            self._is_evicted = True
            self._on_evict()

    def close(self) -> None:
        self._budget.shrink(self, 0)
