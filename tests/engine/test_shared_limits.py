"""What all sockets take together: counted exactly, given back, and refused with the right words."""

from __future__ import annotations

import json
from typing import Any

import trio
import trio.testing
import wsproto
from wsproto.events import TextMessage

from engine.commands import SessionLimits
from engine.shared_limits import Allowance, Share, SharedLimits

from .fake_backend import FakeBackend
from .raw_http import RawHttp
from .raw_socket import RawSocket, Served, running_server
from .session_driver import add, remove, values

OVERLOAD = (1013, "TooManyConcurrentRequests")
EVENT = {"type": "Event", "eventType": "x", "event": None}


def modify(base: int, *changes: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "ModifyQuerySet",
        "baseVersion": base,
        "newVersion": base + 1,
        "modifications": list(changes),
    }


async def is_served(one: RawSocket) -> bool:
    """Whether a round trip on a fresh socket succeeds."""
    await one.send({"type": "Mutation", "requestId": 0, "udfPath": "counter:add", "args": [{}]})
    return (await one.hear())["success"] is True


async def opened_again(served: Served) -> RawSocket:
    """A socket that is served, as soon as the server has noticed the end of another."""
    with trio.fail_after(10):
        while True:
            one = await served.open()
            await one.send(modify(0))
            try:
                await one.hear()
            except AssertionError:
                await one.abort()
            else:
                return one


def test_a_share_takes_the_difference_and_gives_back() -> None:
    allowance = Allowance(10)
    one, other = Share(allowance), Share(allowance)
    assert one.resize(6)
    assert not other.resize(5)
    assert other.resize(4)
    assert one.resize(3)
    assert other.resize(7)
    assert one.resize(0)
    assert other.resize(0)
    assert allowance.left == 10


def test_the_defaults_let_ten_thousand_clients_in() -> None:
    limits = SharedLimits()
    assert limits.sockets_max > 10_000
    assert limits.subscriptions_max >= 10_000 * 20
    assert limits.messages_burst >= 10_000 * 5


async def test_sockets_beyond_the_limit_are_told_to_come_later_and_http_goes_on() -> None:
    async with running_server(FakeBackend(), shared_limits=SharedLimits(sockets_max=2)) as served:
        first, second = await served.open(), await served.open()
        assert await is_served(first)
        refused = await served.open()
        assert await refused.hear_close() == OVERLOAD
        assert (await RawHttp(await served.connect()).get("/version")).status == 200
        assert await is_served(second)
        await first.abort()
        await opened_again(served)


async def test_messages_of_all_sockets_together_are_limited() -> None:
    limits = SharedLimits(messages_per_s=1e-9, messages_burst=20)
    async with running_server(FakeBackend(), shared_limits=limits) as served:
        calm, busy = await served.open(), await served.open()
        await calm.send(modify(0, add(0, "counter:get")))
        await calm.hear()
        for _ in range(20):
            await busy.send(EVENT)
        assert await busy.hear_close() == OVERLOAD
        # Who says nothing is not ended for it, and who speaks now is.
        late = await served.open()
        await late.send(EVENT)
        assert await late.hear_close() == OVERLOAD
        assert not calm.is_closed


async def test_subscriptions_of_all_sockets_together_are_limited() -> None:
    backend = FakeBackend()
    async with running_server(backend, shared_limits=SharedLimits(subscriptions_max=5)) as served:
        first = await served.open()
        await first.send(modify(0, *(add(number, "counter:get") for number in range(4))))
        await first.hear()
        refused = await served.open()
        await refused.send(modify(0, add(0, "counter:get"), add(1, "counter:get")))
        assert await refused.hear_close() == (1013, "SubscriptionsWorkerFullError")

        await first.send(modify(1, remove(0)))
        assert [change["type"] for change in (await first.hear())["modifications"]] == ["QueryRemoved"]
        third = await served.open()
        await third.send(modify(0, add(0, "counter:get"), add(1, "counter:get")))
        assert values(await third.hear()) == {0: 0.0, 1: 0.0}
        assert not first.is_closed


async def test_subscriptions_of_sockets_that_ended_are_free_again() -> None:
    backend = FakeBackend()
    limits = SharedLimits(subscriptions_max=5)
    async with running_server(backend, shared_limits=limits) as served:
        for _ in range(20):
            one = await served.open()
            await one.send(modify(0, *(add(number, "counter:get") for number in range(5))))
            await one.hear()
            await one.abort()
            with trio.fail_after(10):
                while backend.watches:
                    await trio.lowlevel.checkpoint()


# ---- memory for messages that arrive --------------------------------------------------------------


def beginning_of_message(size: int) -> bytes:
    """The first `size` bytes of a message, with none of its end."""
    wire = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
    return wire.send(TextMessage(data="x" * size, message_finished=False))


async def test_slow_senders_hold_bounded_memory_and_the_first_of_them_is_ended() -> None:
    limits = SharedLimits(unread_bytes_max=1_000_000, unread_bytes_of_one_max=500_000)
    async with running_server(FakeBackend(), shared_limits=limits) as served:
        slow = [await served.open() for _ in range(4)]
        for one in slow[:3]:
            # A ping behind the bytes: its answer says that they were taken in.
            await one.stream.send_all(beginning_of_message(300_000))
            await one.stream.send_all(b"\x89\x80\0\0\0\0")
            assert (await one.stream.receive_some())[:1] == b"\x8a"
        await slow[3].stream.send_all(beginning_of_message(300_000))
        assert await slow[0].hear_close() == OVERLOAD
        await slow[3].stream.send_all(b"\x89\x80\0\0\0\0")
        assert (await slow[3].stream.receive_some())[:1] == b"\x8a"
        # Whole messages pass beside them, and large ones are given back.
        well = await served.open()
        for number in range(5):
            text = json.dumps({**EVENT, "event": "x" * 50_000})
            await well.send(text)
            await well.send({"type": "Mutation", "requestId": number, "udfPath": "counter:add", "args": [{}]})
            assert (await well.hear())["success"] is True
            await well.hear()
        assert not any(one.is_closed for one in slow[1:])


async def test_one_message_in_very_many_pieces_is_ended() -> None:
    """Each piece costs more than its bytes, and is counted as what it costs."""
    limits = SharedLimits(unread_bytes_max=2_000_000, unread_bytes_of_one_max=500_000)
    piece = b"\x01\x81\0\0\0\0x"  # the first is of text, and those behind it go on
    async with running_server(FakeBackend(), shared_limits=limits) as served:
        one = await served.open()
        await one.stream.send_all(piece)
        await one.stream.send_all((b"\x00" + piece[1:]) * 10_000)
        assert await one.hear_close() == OVERLOAD
        other = await served.open()
        assert await is_served(other)


async def test_a_thousand_small_messages_leave_nothing_counted() -> None:
    limits = SharedLimits(unread_bytes_max=30_000, unread_bytes_of_one_max=30_000)
    async with running_server(
        FakeBackend(), shared_limits=limits, limits=SessionLimits(mutations_queued_max=2000)
    ) as served:
        one = await served.open()
        for _ in range(1000):
            await one.send({**EVENT, "event": "x" * 100})
        assert await is_served(one)
