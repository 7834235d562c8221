"""Fetching from servers that behave, and from such as do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from engine.outgoing import FetchFailed, get

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@asynccontextmanager
async def answering(*parts: bytes, hangs: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that says `parts` to whoever comes; gives its URL and what it was asked."""
    asked: list[bytes] = []

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive_some(65536))
            try:
                for part in parts:
                    await stream.send_all(part)
                if hangs:
                    await stream.receive_some(1)
            except trio.BrokenResourceError:
                pass  # the client had enough

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/keys?a=b", asked
        nursery.cancel_scope.cancel()


async def test_body_is_returned() -> None:
    async with answering(GOOD) as (url, asked):
        assert await get(url, bytes_max=10, seconds_max=60) == b"{}"
    assert asked[0].startswith(b"GET /keys?a=b HTTP/1.1\r\n")


async def test_chunks_are_joined() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with answering(head, b"1\r\n{\r\n", b"1\r\n}\r\n0\r\n\r\n") as (url, _):
        assert await get(url, bytes_max=10, seconds_max=60) == b"{}"


async def test_redirect_is_not_followed() -> None:
    async with answering(GOOD) as (other, asked):
        head = f"HTTP/1.1 302 Found\r\nLocation: {other}\r\nContent-Length: 0\r\n\r\n"
        async with answering(head.encode()) as (url, _):
            with pytest.raises(FetchFailed, match="status 302"):
                await get(url, bytes_max=10, seconds_max=60)
    assert asked == []


ENDLESS = [b"HTTP/1.1 200 OK\r\n\r\n"] + [b"x" * 65536] * 64


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "status 404"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b"x" * 11], "more than 10 bytes"),
        (ENDLESS, "more than 10 bytes"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000], "http://"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx"], "http://"),
        ([b"SSH-2.0-x\r\n"], "http://"),
        ([], "http://"),
    ],
)
async def test_bad_answer_fails_with_its_url(parts: list[bytes], problem: str) -> None:
    async with answering(*parts) as (url, _):
        with pytest.raises(FetchFailed, match=problem):
            await get(url, bytes_max=10, seconds_max=60)


async def test_server_that_is_slow_is_given_up() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n", hangs=True) as (url, _):
        with pytest.raises(FetchFailed, match="no answer within"):
            await get(url, bytes_max=10, seconds_max=0.05)


async def test_nobody_there_fails() -> None:
    async with answering() as (url, _):
        pass
    with pytest.raises(FetchFailed, match="127"):
        await get(url, bytes_max=10, seconds_max=60)


async def test_server_without_tls_is_no_https_server() -> None:
    async with answering(GOOD) as (url, _):
        with pytest.raises(FetchFailed, match="https://"):
            await get(url.replace("http://", "https://"), bytes_max=10, seconds_max=60)
