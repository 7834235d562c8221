"""One GET to a server that the deployment's configuration names: small, bounded, never trusted.

Nothing is followed and nothing kept open. Who may be asked is the caller's decision; here
it is only seen to that the answer costs bounded time and memory, and that a server reached
by https shows a certificate that this machine accepts.
"""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

_CHUNK_BYTES: Final = 16 * 1024
_HEAD_BYTES_MAX: Final = 32 * 1024


class FetchFailed(Exception):
    """There is no answer to use; the text says why."""


async def get(url: str, *, bytes_max: int, seconds_max: float) -> bytes:
    """Return the body that `url` (http or https) answers with. Raises `FetchFailed`."""
    try:
        with trio.fail_after(seconds_max):
            return await _get(url, bytes_max)
    except trio.TooSlowError:
        raise FetchFailed(f"{url}: no answer within {seconds_max:g} s") from None
    except (OSError, trio.BrokenResourceError, h11.ProtocolError, UnicodeError) as error:
        raise FetchFailed(f"{url}: {error.__cause__ or error}") from None


async def _get(url: str, bytes_max: int) -> bytes:
    parts = urlsplit(url)
    host = parts.hostname or ""
    stream: trio.abc.Stream
    if parts.scheme == "https":
        context = ssl.create_default_context()
        stream = await trio.open_ssl_over_tcp_stream(
            host, parts.port or 443, https_compatible=True, ssl_context=context
        )
    else:
        stream = await trio.open_tcp_stream(host, parts.port or 80)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = [("Host", parts.netloc), ("Accept", "application/json"), ("Connection", "close")]
        request = h11.Request(method="GET", target=target, headers=headers)
        await stream.send_all(
            (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
        )
        return await _read(stream, connection, url, bytes_max)
    finally:
        await trio.aclose_forcefully(stream)


async def _read(stream: trio.abc.Stream, connection: h11.Connection, url: str, bytes_max: int) -> bytes:
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_CHUNK_BYTES)))
        elif isinstance(event, h11.Response):
            if event.status_code != 200:
                raise FetchFailed(f"{url}: answered with status {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > bytes_max:
                raise FetchFailed(f"{url}: more than {bytes_max:,} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif isinstance(event, h11.ConnectionClosed):
            raise FetchFailed(f"{url}: the connection was closed without an answer")
