"""One socket and its connection: upgrades, heartbeat, slow and broken clients, faults.

Most tests run over a stream in memory, where time is trio's mock clock and
jumps when nobody has anything to do.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
import wsproto
from wsproto.events import Request, TextMessage

from engine import connection as connection_module
from engine.backend import ANONYMOUS, BackendFault, Call, MutationOutcome
from engine.clients import Client
from engine.commands import SessionLimits
from engine.connection import Connection, SocketContext, serve_socket
from engine.exchange import Upgrade
from engine.pacing import PING_AFTER_S, SILENCE_S_MAX
from tidewell.protocol import encode_ts

from .fake_backend import FakeBackend
from .raw_socket import RawSocket, running_server
from .session_driver import NOW_NS, FakeAuthenticator, add, values, version


class LoopClock:
    """The clock of the loop, which a test moves."""

    def now_ns(self) -> int:
        return NOW_NS + int(self.monotonic() * 1e9)

    def now_ms(self) -> float:
        return self.now_ns() / 1e6

    def monotonic(self) -> float:
        return trio.current_time()


@attrs.define
class Pair:
    client: RawSocket
    backend: FakeBackend
    connection: Connection
    ended: trio.Event


def upgrade_head(path: str = "/api/1.48.0/sync") -> tuple[wsproto.WSConnection, bytes]:
    wire = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    return wire, wire.send(Request(host="localhost", target=path))


Streams = Callable[[], tuple[Any, Any]]


@asynccontextmanager
async def connected(
    backend: FakeBackend | None = None,
    *,
    streams: Streams = trio.testing.memory_stream_pair,
    limits: SessionLimits | None = None,
    client: Client | None = None,
    message_bytes_max: int = connection_module.MESSAGE_BYTES_MAX,
) -> AsyncIterator[Pair]:
    backend = backend or FakeBackend()
    context = SocketContext(
        backend,
        FakeAuthenticator(),
        LoopClock(),
        lambda: "nonce",
        limits or SessionLimits(),
        message_bytes_max=message_bytes_max,
    )
    near, far = streams()
    socket = RawSocket(near, deadline_s=1000)
    socket.wire, head = upgrade_head()
    opened: list[Connection] = []
    ended = trio.Event()

    async def serve() -> None:
        await serve_socket(far, Upgrade(client or Client("npm", (1, 48, 0)), head), context, opened.append)
        ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await socket._next()  # the upgrade
        await trio.testing.wait_all_tasks_blocked()
        yield Pair(socket, backend, opened[0], ended)
        await socket.abort()
        with trio.fail_after(1000):
            await ended.wait()
    assert not backend.watches, "a watch outlived its socket"


async def subscribe(socket: RawSocket, *changes: dict[str, Any]) -> dict[str, Any]:
    await socket.send(
        {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": list(changes)}
    )
    return await socket.hear()


def mutation(request_id: int, path: str = "counter:add", **args: Any) -> dict[str, Any]:
    return {"type": "Mutation", "requestId": request_id, "udfPath": path, "args": [args]}


# ---- serving ---------------------------------------------------------------------------


async def test_commit_of_somebody_else_reaches_the_subscriber() -> None:
    async with connected() as pair:
        await subscribe(pair.client, add(0, "counter:get"))
        pair.backend.commit({"counter": 5})
        assert values(await pair.client.hear()) == {0: 5.0}


async def test_messages_that_arrive_with_the_upgrade_are_not_lost() -> None:
    async with running_server(FakeBackend()) as served:
        stream = await served.connect()
        socket = RawSocket(stream)
        socket.wire, head = upgrade_head()
        # No client sends before the server has agreed, but a proxy may glue bytes together.
        text = json.dumps(mutation(0)).encode()
        frame = bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text
        await stream.send_all(head + frame)
        await socket._next()
        assert (await socket.hear())["type"] == "MutationResponse"


async def test_fragmented_message_is_one_message() -> None:
    async with connected() as pair:
        text = json.dumps(mutation(0))
        for place, character in enumerate(text):
            event = TextMessage(data=character, message_finished=place == len(text) - 1)
            await pair.client.stream.send_all(pair.client.wire.send(event))
        assert (await pair.client.hear())["success"] is True


async def test_mutations_on_one_socket_do_not_hold_up_another() -> None:
    backend = FakeBackend(mutation_gate=trio.Event())
    async with connected(backend) as one, connected(backend) as other:
        await one.client.send(mutation(0))
        await trio.testing.wait_all_tasks_blocked()
        assert version(await subscribe(other.client, add(0, "counter:get"))) == (1, 0, 1000)
        backend.mutation_gate.set()


async def test_action_is_answered_while_a_mutation_runs() -> None:
    backend = FakeBackend(mutation_gate=trio.Event())
    async with connected(backend) as pair:
        await pair.client.send(mutation(0))
        action = {"type": "Action", "requestId": 1, "udfPath": "values:echo_action", "args": [{"value": 1}]}
        await pair.client.send(action)
        assert (await pair.client.hear())["requestId"] == 1
        backend.mutation_gate.set()


async def test_calls_under_way_are_cancelled_when_the_client_leaves() -> None:
    backend = FakeBackend(mutation_gate=trio.Event())
    async with connected(backend) as pair:
        await pair.client.send(mutation(0))
        await trio.testing.wait_all_tasks_blocked()
        await pair.client.abort()
        await pair.ended.wait()
    assert backend.runs == []


async def test_token_is_checked_before_the_messages_behind_it_run() -> None:
    async with connected() as pair:
        await pair.client.send(
            {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "token-A"}
        )
        await pair.client.send(
            {
                "type": "ModifyQuerySet",
                "baseVersion": 0,
                "newVersion": 1,
                "modifications": [add(0, "values:who")],
            }
        )
        seen = {}
        while not seen:
            seen = values(await pair.client.hear())
        assert seen == {0: {"admin": False, "name": "i|a"}}


async def test_wrong_admin_key_is_refused() -> None:
    async with connected() as pair:
        await pair.client.send(
            {"type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": "guess"}
        )
        assert (await pair.client.hear())["type"] == "AuthError"
        assert await pair.client.hear_close() == (None, "")


@pytest.mark.parametrize("field", ["impersonating", "acting_as"])
async def test_admin_acts_as_a_user_under_either_name(field: str) -> None:
    async with connected() as pair:
        message = {"type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": "the-admin-key"}
        await pair.client.send({**message, field: {"issuer": "i", "subject": "z"}})
        await pair.client.hear()
        assert values(await subscribe(pair.client, add(0, "values:who"))) == {
            0: {"admin": True, "name": "i|z"}
        }


# ---- heartbeat (8.5) -----------------------------------------------------------------------


async def test_ping_comes_after_fifteen_silent_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as pair:
        before = trio.current_time()
        for count in range(1, 5):
            assert await pair.client.hear() == {"type": "Ping"}
            assert trio.current_time() == pytest.approx(before + count * PING_AFTER_S)


async def test_no_ping_comes_while_there_is_something_to_say(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as pair:
        await subscribe(pair.client, add(0, "counter:get"))
        for number in range(1, 20):
            await trio.sleep(PING_AFTER_S - 1)
            pair.backend.commit({"counter": number})
            assert values(await pair.client.hear()) == {0: float(number)}


async def test_client_that_answers_probes_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as pair:
        for _ in range(200):  # most of an hour
            assert await pair.client.hear() == {"type": "Ping"}
        assert trio.current_time() > 10 * SILENCE_S_MAX
        assert pair.client.pings >= 90


async def test_silent_client_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as pair:
        pair.client.answers_pings = False
        before = trio.current_time()
        heard = None
        with trio.fail_after(SILENCE_S_MAX + 10):
            while not isinstance(heard, wsproto.events.CloseConnection):
                heard = await pair.client._next()
        assert heard.code == 1000
        assert trio.current_time() - before == pytest.approx(SILENCE_S_MAX, abs=1)


# ---- slow clients -----------------------------------------------------------------------------


async def test_client_that_stops_reading_skips_states_and_stays_consistent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(streams=trio.testing.lockstep_stream_pair) as pair:
        await subscribe(pair.client, add(0, "counter:get"), add(1, "counter:parity"))
        for number in range(1, 1001):
            pair.backend.commit({"counter": number})
            await trio.testing.wait_all_tasks_blocked()
        assert len(pair.backend.runs) <= 2 + 2 * 3  # not one run per commit
        heard: list[dict[int, Any]] = []
        while not heard or heard[-1].get(0) != 1000.0:
            heard.append(values(await pair.client.hear()))
        assert len(heard) <= 4
        state: dict[int, Any] = {}
        for changes in heard:
            state.update(changes)
            assert state.get(1, 0.0) == state[0] % 2


async def test_client_that_never_reads_is_ended(autojump_clock: trio.testing.MockClock) -> None:
    async with connected(streams=trio.testing.lockstep_stream_pair) as pair:
        await pair.client.send(mutation(0))
        with trio.fail_after(connection_module.WRITE_S_MAX + 10):
            await pair.ended.wait()


async def test_client_that_does_not_read_is_not_listened_to(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(streams=trio.testing.lockstep_stream_pair) as pair:
        sent = 0
        with trio.move_on_after(10):
            while sent < 5000:
                await pair.client.send(mutation(sent, "values:echo_mutation"))
                sent += 1
        assert sent < connection_module.UNSENT_MESSAGES_MAX + 20
        assert len(pair.connection._unsent) < connection_module.UNSENT_MESSAGES_MAX + 20


async def test_socket_closes_although_the_client_ignores_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected(streams=trio.testing.lockstep_stream_pair) as pair:
        pair.connection.end(1012, "ServerShutdown")
        with trio.fail_after(connection_module.GOODBYE_S_MAX + 1):
            await pair.ended.wait()


# ---- limits ---------------------------------------------------------------------------------------


async def test_flood_of_messages_closes_with_overload(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as pair:
        event = json.dumps({"type": "Event", "eventType": "x", "event": None})
        for _ in range(int(connection_module.MESSAGES_BURST) + 1):
            await pair.client.send(event)
        assert await pair.client.hear_close() == (1013, "TooManyConcurrentRequests")


async def test_message_that_is_too_large_closes_with_1009() -> None:
    async with connected(message_bytes_max=1000) as pair:
        await pair.client.send(mutation(0, "values:echo_mutation", value="x" * 2000))
        code, _ = await pair.client.hear_close()
        assert code == 1009
    assert pair.backend.runs == []


async def test_binary_frame_is_fatal() -> None:
    async with connected() as pair:
        await pair.client.send_bytes(json.dumps(mutation(0)).encode())
        assert (await pair.client.hear())["type"] == "FatalError"
        assert await pair.client.hear_close() == (None, "")


GARBAGE = (
    b"\xff" * 50,  # reserved bits
    b"\x81\x05abcde",  # not masked
    b"\x83\x80\0\0\0\0",  # unknown opcode
    b"\x81\x82\0\0\0\0\xff\xff",  # not UTF-8
    b"GET /",  # reads as the beginning of a frame that never ends
)


async def test_broken_frames_end_the_socket_and_nothing_else(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backend = FakeBackend()
    async with connected(backend) as well:
        for garbage in (
            b"\xff" * 50,
            b"\x81\x05abcde",
            b"\x83\x80\0\0\0\0",
            b"\x81\x82\0\0\0\0\xff\xff",
            b"GET /",
        ):
            async with connected(backend) as broken:
                await broken.client.stream.send_all(garbage)
                if garbage == b"GET /":
                    await broken.client.abort()
                await broken.client.hear_end()
                with trio.fail_after(1):
                    await broken.ended.wait()
        await well.client.send(mutation(0))
        assert (await well.client.hear())["success"] is True


# ---- faults ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transient", [False, True])
async def test_fault_of_the_backend_closes_the_socket(transient: bool) -> None:
    backend = FakeBackend(fault=BackendFault("Paused", "the deployment is paused", transient))
    async with connected(backend) as pair:
        await pair.client.send(mutation(0))
        expected = (1013, "Paused") if transient else (1011, "InternalServerError")
        assert await pair.client.hear_close() == expected


class _BrokenBackend(FakeBackend):
    async def mutate(self, call: Call, *, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        raise ZeroDivisionError("a mistake of ours")


async def test_mistake_of_ours_closes_the_socket_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with connected(_BrokenBackend()) as pair:
        with caplog.at_level(logging.ERROR):
            await pair.client.send(mutation(0))
            assert await pair.client.hear_close() == (1011, "InternalServerError")
        assert "a mistake of ours" in caplog.text


async def test_what_a_client_does_not_repeat_is_awaited_for_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backend = FakeBackend()
    call = Call("counter:add", {}, ANONYMOUS, "0123456789abcdef", "socket")
    answered = backend.mutate_now(call, ("session-1", 0))
    backend.mutate_now(call, ("session-1", 1))
    async with connected(backend) as pair:
        connect = {"type": "Connect", "sessionId": "session-1", "connectionCount": 1}
        await pair.client.send({**connect, "maxObservedTimestamp": encode_ts(answered.ts)})
        began = trio.current_time()
        assert values(await subscribe(pair.client, add(0, "counter:get"))) == {0: 2.0}
        assert trio.current_time() - began == connection_module.REPEATS_AWAITED_S


async def test_session_outlives_a_socket_that_never_began(autojump_clock: trio.testing.MockClock) -> None:
    """A client that is gone before the server has answered its upgrade costs nothing."""
    backend = FakeBackend()
    context = SocketContext(backend, FakeAuthenticator(), LoopClock(), lambda: "nonce")
    near, far = trio.testing.memory_stream_pair()
    await near.aclose()
    _, head = upgrade_head()
    with trio.fail_after(60):
        await serve_socket(far, Upgrade(Client(), head), context, lambda connection: None)
