"""HTTP over one connection: keep-alive, pipelining, limits, slow and broken clients, upgrades."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from engine import http as http_module
from engine.clients import Client
from engine.exchange import TEXT, Refused, Request, Response, Upgrade
from engine.http import ByteBudget, HttpContext, serve_requests

from .raw_http import RawHttp
from .test_connection import LoopClock, Streams, upgrade_head


async def echo(request: Request) -> Response:
    if request.path == "/refused":
        raise Refused(403, "Forbidden", "not for you")
    return Response(200, f"{request.method} {request.path}?{request.query} ".encode() + request.body, TEXT)


class Line:
    """One connection to the server."""

    def __init__(self, http: RawHttp, context: HttpContext) -> None:
        self.http = http
        self.context = context
        self.ended = trio.Event()
        self.upgrade: Upgrade | None = None
        self.is_stopping = False


@asynccontextmanager
async def line(
    respond: Callable[[Request], Awaitable[Response]] = echo,
    *,
    budget: int = 10**9,
    streams: Streams = trio.testing.memory_stream_pair,
) -> AsyncIterator[Line]:
    near, far = streams()
    context = HttpContext(respond, ByteBudget(budget), LoopClock(), lambda: found.is_stopping, set())
    found = Line(RawHttp(near, deadline_s=1000), context)

    async def serve() -> None:
        found.upgrade = await serve_requests(far, context)
        await far.aclose()
        found.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield found
        await trio.aclose_forcefully(near)
        with trio.fail_after(1000):
            await found.ended.wait()
    assert context.budget.left == budget, "bytes of a request were never given back"
    assert not context.idle


# ---- requests -----------------------------------------------------------------------


async def test_connection_serves_one_request_after_another() -> None:
    async with line() as found:
        for number in range(5):
            answer = await found.http.post(f"/a?n={number}", b"body")
            assert (answer.status, answer.body) == (200, f"POST /a?n={number} body".encode())


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with line() as found:
        await found.http.send(
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" * 2 + b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        assert [(await found.http.answer()).body for _ in range(3)] == [b"GET /1? ", b"GET /1? ", b"GET /3? "]


async def test_request_may_come_byte_by_byte() -> None:
    async with line() as found:
        for byte in b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            await found.http.send(bytes([byte]))
        assert (await found.http.answer()).body == b"POST /slow? abc"


async def test_chunked_body_is_one_body() -> None:
    async with line() as found:
        await found.http.send(b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await found.http.send(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert (await found.http.answer()).body == b"POST /c? abcde"


async def test_client_that_waits_to_continue_is_told_to() -> None:
    async with line() as found:
        await found.http.send(
            b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        with trio.fail_after(5):
            assert b"100" in await found.http.stream.receive_some()
        await found.http.send(b"ok")
        assert (await found.http.answer()).body == b"POST /e? ok"


async def test_duplicate_slashes_are_collapsed() -> None:
    async with line() as found:
        assert (await found.http.get("//a///b?x=//y")).body == b"GET /a/b?x=//y "
        assert (await found.http.get("http://localhost//a")).body == b"GET /a? "


async def test_refusal_leaves_the_connection_usable() -> None:
    async with line() as found:
        answer = await found.http.get("/refused")
        assert (answer.status, answer.json) == (403, {"code": "Forbidden", "message": "not for you"})
        assert (await found.http.get("/a")).status == 200


async def test_connection_close_is_honoured() -> None:
    async with line() as found:
        answer = await found.http.get("/a", "Connection: close")
        assert answer.headers["connection"] == "close"
        assert await found.http.is_ended()


async def test_head_has_no_body() -> None:
    async with line() as found:
        answer = await found.http.request("HEAD", "/a", b"")
        assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "9")
        assert (await found.http.get("/b")).body == b"GET /b? "


async def test_http_1_0_is_served_once() -> None:
    async with line() as found:
        await found.http.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert (await found.http.answer()).body == b"GET /old? "
        assert await found.http.is_ended()


# ---- limits -------------------------------------------------------------------------


async def test_announced_body_that_is_too_long_is_refused_unread() -> None:
    async with line() as found:
        await found.http.send(b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
        answer = await found.http.answer()
        assert (answer.status, answer.json["code"]) == (413, "PayloadTooLarge")
        assert await found.http.is_ended()


async def test_unannounced_body_is_cut_off_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "BODY_BYTES_MAX", 1000)
    async with line() as found:
        await found.http.send(b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        await found.http.send(b"1ff\r\n" + b"x" * 0x1FF + b"\r\n")
        await found.http.send(b"1ff\r\n" + b"x" * 0x1FF + b"\r\n")
        assert (await found.http.answer()).status == 413
        assert await found.http.is_ended()


async def test_bodies_of_all_connections_share_a_budget() -> None:
    async with line(budget=1000) as found:
        assert (await found.http.post("/a", b"x" * 900)).status == 200
        assert (await found.http.post("/a", b"x" * 900)).status == 200  # given back
        answer = await found.http.post("/a", b"x" * 1001)
        assert (answer.status, answer.json["code"]) == (503, "TooManyConcurrentRequests")


async def test_head_that_is_too_long_is_refused() -> None:
    async with line() as found:
        await found.http.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000)
        assert (await found.http.answer()).status == 431
        assert await found.http.is_ended()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",  # a TLS hello
    ],
    ids=lambda garbage: garbage[:24].decode("latin-1"),
)
async def test_garbage_is_refused_and_the_connection_ended(garbage: bytes) -> None:
    async with line() as found:
        await found.http.send(garbage)
        answer = await found.http.answer()
        assert answer.status in (400, 501)
        assert set(answer.json) == {"code", "message"}
        assert await found.http.is_ended()


# ---- time ---------------------------------------------------------------------------


async def test_idle_connection_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with line() as found:
        await found.http.get("/a")
        before = trio.current_time()
        assert await found.http.is_ended()
        assert trio.current_time() - before == pytest.approx(http_module.IDLE_S_MAX, abs=1)


async def test_head_that_drips_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with line() as found:
        before = trio.current_time()
        with trio.move_on_after(600):
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 1000:
                await found.http.send(bytes([byte]))
                await trio.sleep(5)
                if found.ended.is_set():
                    break
        assert trio.current_time() - before < http_module.HEAD_S_MAX + http_module.LINGER_S_MAX + 10


async def test_body_that_drips_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with line() as found:
        await found.http.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        answer = await found.http.answer()
        assert (answer.status, answer.json["code"]) == (408, "RequestTimeout")
        assert trio.current_time() == pytest.approx(http_module.BODY_S_MAX, abs=1)
        assert await found.http.is_ended()


async def test_answer_that_is_not_taken_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with line(streams=trio.testing.lockstep_stream_pair) as found:
        await found.http.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with trio.fail_after(http_module.ANSWER_S_MAX + 5):
            await found.ended.wait()


async def test_idle_connection_ends_at_once_when_the_server_stops() -> None:
    async with line() as found:
        await found.http.get("/a")
        await trio.testing.wait_all_tasks_blocked()
        found.is_stopping = True
        for scope in list(found.context.idle):
            scope.cancel()
        assert await found.http.is_ended()


async def test_answer_during_a_stop_says_that_it_is_the_last() -> None:
    async with line() as found:
        await trio.testing.wait_all_tasks_blocked()
        found.is_stopping = True
        # The idle wait was entered before the stop; the request still gets its answer.
        await found.http.send(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await found.http.answer()
        assert answer.headers["connection"] == "close"


# ---- upgrades -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "header", "client"),
    [
        ("/api/1.48.0/sync", None, Client("npm", (1, 48, 0))),
        ("//api/1.48.0/sync", None, Client("npm", (1, 48, 0))),
        ("/api//1.48.0//sync", None, Client("npm", (1, 48, 0))),
        ("/api/0.0.1-alpha.3+build/sync", None, Client("npm", (0, 0, 1))),
        ("/api/sync", None, Client()),
        ("/api/sync", "python-0.8.1", Client("python", (0, 8, 1))),
        ("/api/sync", "rust-0.10.4", Client("rust", (0, 10, 4))),
        ("/api/sync", "something new", Client()),
        ("/api/1.48.0/sync", "swift-2.0.0", Client("swift", (2, 0, 0))),
    ],
)
async def test_socket_is_upgraded_on_its_paths(path: str, header: str | None, client: Client) -> None:
    async with line() as found:
        _, head = upgrade_head(path)
        extra = b"" if header is None else f"Convex-Client: {header}\r\n".encode()
        await found.http.send(head[:-2] + b"Origin: http://anywhere\r\n" + extra + b"\r\n" + b"early")
        await found.ended.wait()
        assert found.upgrade is not None
        assert found.upgrade.client == client
        assert found.upgrade.rest == b"early"
        assert found.upgrade.head.startswith(b"GET ")


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"/api/1.48.0/sync", b"/api/latest/sync", 400),
        (b"/api/1.48.0/sync", b"/api/1.2/sync", 400),
        (b"/api/1.48.0/sync", b"/api/1.48.0/nope", 404),
        (b"/api/1.48.0/sync", b"/", 404),
        (b"Version: 13", b"Version: 12", 426),
        (b"Connection: Upgrade", b"Connection: keep-alive", 400),
        (b"Sec-WebSocket-Key", b"Sec-WebSocket-Nope", 400),
        (b"GET ", b"POST ", 400),
    ],
)
async def test_upgrade_that_is_wrong_is_refused_with_a_reason(old: bytes, new: bytes, status: int) -> None:
    async with line() as found:
        _, head = upgrade_head()
        assert old in head, head
        await found.http.send(head.replace(old, new))
        answer = await found.http.answer()
        assert answer.status == status
        assert set(answer.json) == {"code", "message"}
        assert await found.http.is_ended()
        assert found.upgrade is None
