"""The server as a whole: ports, shutting down, limits, and what one client cannot do to others."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from engine.server import CannotListen, PortInUse, ServerOptions, serve
from engine.site import StaticSite

from .fake_backend import FakeBackend
from .raw_http import RawHttp
from .raw_socket import RawSocket, Served, running_server
from .session_driver import add, values

SUBSCRIBE = {
    "type": "ModifyQuerySet",
    "baseVersion": 0,
    "newVersion": 1,
    "modifications": [add(0, "counter:get")],
}
MUTATION = {"type": "Mutation", "requestId": 0, "udfPath": "counter:add", "args": [{}]}


async def test_busy_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse) as caught:
            await serve(FakeBackend(), "127.0.0.1", port)
    assert str(caught.value).startswith(f"port {port} on 127.0.0.1 is in use")
    assert "\n" not in str(caught.value)


async def test_unknown_host_is_one_clear_line() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on host\.invalid port 0"):
        await serve(FakeBackend(), "host.invalid", 0)


async def test_port_is_free_again_after_the_end() -> None:
    async with running_server(FakeBackend()) as served:
        port = served.port
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve, FakeBackend(), "127.0.0.1", port)
        assert address.url == f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def test_stopping_tells_sockets_to_come_back() -> None:
    backend = FakeBackend()
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve, backend, "127.0.0.1", 0)
        served = Served(address.port)
        sockets = [await served.open() for _ in range(5)]
        for one in sockets:
            await one.send(SUBSCRIBE)
            await one.hear()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            for one in sockets:
                assert await one.hear_close() == (1012, "ServerShutdown")
    assert not backend.watches
    await served.close()


async def test_stopping_lets_a_running_request_finish() -> None:
    backend = FakeBackend(reply_gate=trio.Event())
    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(serve, backend, "127.0.0.1", 0)
        served = Served(address.port)
        http = RawHttp(await served.connect())
        body = b'{"path":"counter:add","args":{}}'
        await http.send(b"POST /api/mutation HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\n" + body)
        await backend.committed.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert backend.reply_gate is not None
            backend.reply_gate.set()
            answer = await http.answer()
            assert answer.json["value"] == 1
            assert answer.headers["connection"] == "close"
            assert await http.is_ended()
    await served.close()


async def test_api_socket_and_page_share_one_port(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    async with running_server(FakeBackend(), site=StaticSite(tmp_path)) as served:
        http = RawHttp(await served.connect())
        assert (await http.get("/")).body == b"hello"
        assert (await http.get("/nope.html")).status == 404
        assert (await http.get("/api/nope")).json["code"] == "NotFound"
        assert (await http.post("/api/query", {"path": "counter:get"})).json["value"] == 0
        one = await served.open("/api/sync")
        await one.send(MUTATION)
        assert (await one.hear())["success"] is True


async def test_connection_can_be_upgraded_after_requests() -> None:
    async with running_server(FakeBackend()) as served:
        stream = await served.connect()
        assert (await RawHttp(stream).get("/version")).status == 200
        one = await RawSocket.open(stream, "/api/1.48.0/sync", ())
        await one.send(SUBSCRIBE)
        assert values(await one.hear()) == {0: 0.0}


async def test_connections_beyond_the_limit_are_closed_and_the_rest_served() -> None:
    async with running_server(FakeBackend(), connections_max=3) as served:
        sockets = [await served.open() for _ in range(3)]
        refused = RawHttp(await served.connect())
        assert await refused.is_ended()
        for one in sockets:
            await one.send(SUBSCRIBE)
            await one.hear()
        await sockets[0].abort()
        await sockets[1].send(MUTATION)  # a round trip, after which the end has been noticed
        await sockets[1].hear()
        with trio.fail_after(5):
            while True:
                try:
                    await served.open()
                    break
                except (AssertionError, trio.BrokenResourceError, OSError):
                    await trio.lowlevel.checkpoint()


async def test_sockets_that_open_and_drop_leave_nothing() -> None:
    backend = FakeBackend()
    async with running_server(backend) as served:
        for number in range(200):
            one = await served.open()
            await one.send(SUBSCRIBE)
            if number % 2:
                await one.hear()
            await one.abort()
        steady = await served.open()
        await steady.send(SUBSCRIBE)
        await steady.hear()
        with trio.fail_after(5):
            while len(backend.watches) > 1:
                await trio.lowlevel.checkpoint()


async def test_one_commit_reaches_a_hundred_sockets() -> None:
    backend = FakeBackend()
    async with running_server(backend) as served:
        sockets = [await served.open() for _ in range(100)]
        for one in sockets:
            await one.send(SUBSCRIBE)
            await one.hear()
        await sockets[0].send(MUTATION)
        assert (await sockets[0].hear())["type"] == "MutationResponse"
        for one in sockets:
            assert values(await one.hear()) == {0: 1.0}


async def test_no_transition_shows_a_broken_sum() -> None:
    """Two cells whose sum never changes, moved by many, watched by many, through lost connections."""
    backend = FakeBackend()
    backend.commit({"messages/left": [100], "messages/right": [0]})
    left = add(0, "messages:list", channel="left")
    right = add(1, "messages:list", channel="right")

    async def watch(served: Served, cuts: int) -> None:
        for cut in range(cuts):
            one = await served.open()
            await one.send(
                {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": [left, right]}
            )
            state: dict[int, list[float]] = {}
            for _ in range(5 + 3 * cut):
                state.update(values(await one.hear()))
                assert state[0][0] + state[1][0] == 100, state
            await one.abort()

    async def move() -> None:
        amount = 0
        while True:
            amount = (amount + 7) % 100
            backend.commit({"messages/left": [100 - amount], "messages/right": [amount]})
            await trio.lowlevel.checkpoint()

    async with running_server(backend) as served, trio.open_nursery() as movers:
        movers.start_soon(move)
        async with trio.open_nursery() as watchers:
            for _ in range(10):
                watchers.start_soon(watch, served, 4)
        movers.cancel_scope.cancel()


async def test_options_have_defaults_that_serve() -> None:
    assert ServerOptions().site is None
