"""The byte stream below one WebSocket, between the server's connection and the frames."""

from __future__ import annotations

from collections.abc import Callable

import trio

from engine.exchange import Upgrade
from engine.receiving import Unread


class SocketStream(trio.abc.Stream):
    """The stream below a socket: begins with bytes read already, and sends many frames at once.

    It tells when it hears anything: WebSocket pongs never reach the reader, and
    are all that an idle client says. What it hears is counted, and is held back
    while all sockets together hold too much.
    The upgrade request comes first; what was read behind it only once it is
    accepted, since wsproto does not look at it again before more arrives.
    """

    def __init__(
        self, upgrade: Upgrade, inner: trio.abc.Stream, on_heard: Callable[[], None], unread: Unread
    ) -> None:
        self._head = upgrade.head
        self._rest = upgrade.rest
        self._inner = inner
        self._on_heard = on_heard
        self._unread = unread
        self._held = bytearray()
        self._is_corked = False
        self.accepted = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._head:
            await trio.lowlevel.checkpoint()
            data, self._head = self._head, b""
            return data
        if self._rest:
            await self.accepted.wait()
            data, self._rest = self._rest, b""
        else:
            data = bytes(await self._inner.receive_some(max_bytes))
            self._on_heard()
        await self._unread.receive(data)
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_corked:
            self._held += data
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await self._inner.send_all(data)

    def cork(self) -> None:
        """Hold what is sent from now on, for `uncork` to send at once: a system call outweighs a frame."""
        self._is_corked = True

    @property
    def held_bytes(self) -> int:
        return len(self._held)

    async def uncork(self) -> None:
        while self._held:  # others, such as the answer to a ping, go on being held meanwhile
            data, self._held = self._held, bytearray()
            await self._inner.send_all(data)
        self._is_corked = False

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._inner.aclose()
