"""What is held of messages that arrive: counted from their frames, and bounded for all sockets."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing
import wsproto
from wsproto.events import BytesMessage, Ping, TextMessage

from engine.receiving import FREE_BYTES, PIECE_BYTES, FrameMeter, ReceiveBudget, Unread


def test_meter_finds_every_message_however_the_bytes_are_cut() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(100):
        wire = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
        data, sizes = b"", []
        for _ in range(chance.randrange(1, 8)):
            size = chance.choice([0, 1, 125, 126, 127, 1000, 65535, 65536, 70000])
            sizes.append(size)
            cut = chance.randrange(size + 1)
            data += wire.send(TextMessage(data="x" * cut, message_finished=False))
            data += wire.send(Ping(payload=b"between"))
            data += wire.send(TextMessage(data="x" * (size - cut)))
        meter = FrameMeter()
        position = pieces = 0
        while position < len(data):
            step = chance.randrange(1, 20_000)
            meter.feed(data[position : position + step])
            position += step
            pieces += 1
        least = sum(sizes) + 2 * PIECE_BYTES * len(sizes)
        assert least <= meter.held <= least + PIECE_BYTES * pieces, seed
        for _ in sizes:
            meter.take()
        assert meter.held == 0, seed
        with pytest.raises(IndexError):
            meter.take()


def message(size: int, *, is_finished: bool = True) -> bytes:
    wire = wsproto.connection.Connection(wsproto.ConnectionType.CLIENT)
    return wire.send(BytesMessage(data=b"x" * size, message_finished=is_finished))


async def test_the_oldest_is_ended_and_the_others_wait_for_its_room() -> None:
    budget = ReceiveBudget(100_000, 100_000)
    evicted: list[str] = []
    first, second, third = (
        Unread(budget, lambda name=name: evicted.append(name))  # type: ignore[misc]  # a default binds the name
        for name in ("first", "second", "third")
    )
    await first.receive(message(FREE_BYTES + 40_000, is_finished=False))
    await second.receive(message(FREE_BYTES + 40_000, is_finished=False))
    assert evicted == []
    done = trio.Event()

    async def grow() -> None:
        await third.receive(message(FREE_BYTES + 40_000))
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(grow)
        await trio.testing.wait_all_tasks_blocked()
        assert evicted == ["first"]
        assert not done.is_set()
        assert budget.held <= 100_000
        first.close()
        await done.wait()
    assert evicted == ["first"]
    third.take()
    second.close()
    third.close()
    assert budget.held == 0


async def test_one_that_holds_too_much_is_ended_and_not_the_others() -> None:
    budget = ReceiveBudget(100_000, 50_000)
    evicted: list[str] = []
    first = Unread(budget, lambda: evicted.append("first"))
    second = Unread(budget, lambda: evicted.append("second"))
    await first.receive(message(FREE_BYTES + 10_000, is_finished=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(second.receive, message(FREE_BYTES + 60_000, is_finished=False))
        await trio.testing.wait_all_tasks_blocked()
        assert evicted == ["second"]
        nursery.cancel_scope.cancel()
    assert budget.held < 20_000


async def test_small_messages_pass_while_there_is_no_room() -> None:
    budget = ReceiveBudget(10_000, 10_000)
    large, small = Unread(budget, lambda: None), Unread(budget, lambda: None)
    await large.receive(message(FREE_BYTES + 9_000, is_finished=False))
    for _ in range(100):
        await small.receive(message(1000))
        small.take()
    assert 9_000 <= budget.held <= 10_000


async def test_a_message_that_is_taken_makes_room() -> None:
    budget = ReceiveBudget(50_000, 50_000)
    one = Unread(budget, lambda: pytest.fail("evicted"))
    for _ in range(10):
        await one.receive(message(FREE_BYTES + 40_000))
        one.take()
        assert budget.held == 0
