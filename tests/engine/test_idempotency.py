"""A request that is sent again is answered, not run again: while it runs, afterwards, and after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from engine.backend import MutationOutcome

from .deployed import Deployed, Disk, deployed

APP = {
    "counter.py": """
        from tidewell import mutation, query


        @mutation
        def add(ctx) -> int:
            print("adding")
            found = ctx.db.query("counters").first()
            if found is None:
                ctx.db.insert("counters", {"n": 1})
                return 1
            ctx.db.patch(found["_id"], {"n": found["n"] + 1})
            return found["n"] + 1


        @mutation
        def look(ctx) -> int:
            found = ctx.db.query("counters").first()
            return 0 if found is None else found["n"]


        @mutation
        def refuse(ctx) -> None:
            ctx.db.insert("counters", {"n": 0})
            raise ValueError("no")


        @query
        def value(ctx) -> int:
            found = ctx.db.query("counters").first()
            return 0 if found is None else found["n"]
        """
}
KEY = ("9f3c", 7)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def it(tmp_path: Path, disk: Disk) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP, run_blocking=disk) as it:
        yield it


def told(outcome: MutationOutcome) -> tuple[Any, ...]:
    return outcome.ts, outcome.value, outcome.value_json, outcome.log_lines, outcome.failure


async def test_resend_gets_the_first_outcome_and_writes_nothing(it: Deployed) -> None:
    first = await it.mutate("counter:add", idempotency=KEY)
    await it.mutate("counter:add", idempotency=("9f3c", 8))
    head = it.deployment.head_ts
    again = await it.mutate("counter:add", idempotency=KEY)
    assert told(again) == told(first)
    assert first.log_lines
    assert it.deployment.head_ts == head
    assert await it.value("counter:value") == 2


async def test_resend_while_the_first_runs_waits_for_it(it: Deployed, disk: Disk) -> None:
    outcomes: list[MutationOutcome] = []

    async def add() -> None:
        outcomes.append(await it.mutate("counter:add", idempotency=KEY))

    held = it.traffic.hold_before("counter:add")
    gate = disk.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(add)
        await held.arrivals()
        nursery.start_soon(add)
        await trio.testing.wait_all_tasks_blocked()
        held.release.set()
        await gate.arrivals()
        nursery.start_soon(add)
        await trio.testing.wait_all_tasks_blocked()
        gate.release.set()
    assert it.traffic.runs["counter:add"] == 1
    assert {told(outcome) for outcome in outcomes} == {told(outcomes[0])}
    assert len(outcomes) == 3


async def test_resend_of_a_caller_that_went_away_meets_its_own_request(it: Deployed) -> None:
    held = it.traffic.hold_before("counter:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: it.mutate("counter:add", idempotency=KEY))
        await held.arrivals()
        nursery.cancel_scope.cancel()
    held.release.set()
    assert (await it.mutate("counter:add", idempotency=KEY)).value == 1
    assert it.traffic.runs["counter:add"] == 1


async def test_resend_after_a_restart_gets_the_first_outcome(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        first = await it.mutate("counter:add", idempotency=KEY)
    async with deployed(tmp_path) as it:
        again = await it.mutate("counter:add", idempotency=KEY)
        assert told(again) == told(first)
        assert it.traffic.runs["counter:add"] == 0
        assert await it.value("counter:value") == 1


async def test_resend_of_a_mutation_that_only_read_gets_what_it_saw_the_first_time(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        first = await it.mutate("counter:look", idempotency=KEY)
        await it.mutate("counter:add", idempotency=("9f3c", 8))
        assert told(await it.mutate("counter:look", idempotency=KEY)) == told(first)
    async with deployed(tmp_path) as it:
        assert told(await it.mutate("counter:look", idempotency=KEY)) == told(first)
        assert it.traffic.runs["counter:look"] == 0
    assert first.value == 0


async def test_failure_leaves_no_row_and_runs_again(it: Deployed) -> None:
    for _ in range(2):
        outcome = await it.mutate("counter:refuse", idempotency=KEY)
        assert outcome.failure is not None
    assert it.traffic.runs["counter:refuse"] == 2
    assert (await it.mutate("counter:add", idempotency=KEY)).value == 1


@pytest.mark.parametrize("other", [("9f3c", 8), ("9f3d", 7), ("9f3c/", 7), ("", 7)])
async def test_other_keys_are_other_requests(it: Deployed, other: tuple[str, int]) -> None:
    await it.mutate("counter:add", idempotency=KEY)
    assert (await it.mutate("counter:add", idempotency=other)).value == 2


async def test_the_newest_success_of_a_session(it: Deployed) -> None:
    session, number = KEY
    assert it.deployment.newest_success(session) is None
    first = await it.mutate("counter:add", idempotency=KEY)
    assert it.deployment.newest_success(session) == (number, first.ts)
    second = await it.mutate("counter:add", idempotency=(session, 300))
    await it.mutate("counter:refuse", idempotency=(session, 301))
    await it.mutate("counter:add", idempotency=(session + "/", 302))
    assert it.deployment.newest_success(session) == (300, second.ts)
    assert it.deployment.newest_success("9f3") is None
