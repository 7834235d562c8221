"""One WebSocket of the client, from dialling to its end. trio-websocket enters here."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

CONNECT_S_MAX: Final = 20.0
INACTIVE_S_MAX: Final = 60.0  # the server says something at least every 15 seconds
CLOSE_S_MAX: Final = 1.0  # for a goodbye that nobody depends on
MESSAGE_BYTES_MAX: Final = 512 * 2**20  # of a transition: many results, each of at most 16 MiB

_Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"


class SocketEnded(Exception):
    """The socket is gone; the text is the reason that the other side gave, or what happened."""


@attrs.frozen
class Socket:
    _ws: WebSocketConnection

    async def send(self, message: bytes) -> None:
        try:
            await self._ws.send_message(message.decode())
        except ConnectionClosed as closed:
            raise SocketEnded(_reason(closed)) from None

    async def receive(self) -> str | bytes:
        with trio.move_on_after(INACTIVE_S_MAX):
            try:
                message: str | bytes = await self._ws.get_message()
                return message
            except ConnectionClosed as closed:
                raise SocketEnded(_reason(closed)) from None
        raise SocketEnded("InactiveServer")


async def use_socket(url: str, use: Callable[[Socket], Awaitable[str]]) -> str:
    """Open a socket and hand it to `use`; return the reason that `use` gives, or why there was no socket."""
    reason = "ConnectTimeout"
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(CONNECT_S_MAX) as connecting:
                stream = await _open_stream(url)
                try:
                    ws = await _upgrade(nursery, stream, url)
                    connecting.deadline = math.inf
                    reason = await _use(ws, use)
                finally:
                    await trio.aclose_forcefully(stream)  # the library leaves it open on some ways out
                    nursery.cancel_scope.cancel()
    except* (OSError, HandshakeError, trio.BrokenResourceError) as errors:
        reason = _why(errors)
    return reason


async def _use(ws: WebSocketConnection, use: Callable[[Socket], Awaitable[str]]) -> str:
    try:
        return await use(Socket(ws))
    finally:
        with trio.move_on_after(CLOSE_S_MAX, shield=True):
            await ws.aclose()


async def _open_stream(url: str) -> _Stream:
    parts = urlsplit(url)
    assert parts.hostname is not None, url
    if parts.scheme == "ws":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    return await trio.open_ssl_over_tcp_stream(parts.hostname, parts.port or 443, https_compatible=True)


async def _upgrade(nursery: trio.Nursery, stream: _Stream, url: str) -> WebSocketConnection:
    parts = urlsplit(url)
    return await wrap_client_stream(
        nursery,
        stream,
        parts.netloc.rpartition("@")[2],
        parts.path,
        extra_headers=[(b"Convex-Client", f"tidewell-{version('tidewell')}".encode())],
        max_message_size=MESSAGE_BYTES_MAX,
    )


def sync_url(url: str) -> str:
    """Return where the deployment at `url` takes sockets. Raises `ValueError`."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not the URL of a deployment, as http://127.0.0.1:3210 is")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + "/api/sync", "", ""))


def _reason(closed: ConnectionClosed) -> str:
    given = closed.reason
    return "ConnectionLost" if given is None else given.reason or f"closed with code {given.code}"


def _why(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ConnectionRejected):
        return f"refused with status {error.status_code}"
    return str(error) or type(error).__name__
