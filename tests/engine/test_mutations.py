"""The retry loop on a whole deployment: who runs again, with what, and what a reply may show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from engine.backend import BackendFault
from engine.conflict_report import ConflictReport
from engine.mutation_queue import LANES
from engine.push import EVERYTHING
from engine.records import unpack_record
from sandbox.frames import FromWorker, Ran, Run
from sandbox.pool import WorkerLost
from storage import CommitOutcomeUnknown, DiskFull, DocumentWrite, WriteSet
from tidewell.ids import encode_id
from tidewell.values import pack

from .deployed import Deployed, Disk, deployed

COUNTERS = {
    "schema.py": """
        from tidewell import Schema, table

        schema = Schema(counters=table(name=str, n=int).index("by_name", "name"))
        """,
    "counters.py": """
        from tidewell import mutation, query


        def bump(ctx, name):
            found = ctx.db.query("counters").with_index("by_name", lambda q: q.eq("name", name)).unique()
            if found is None:
                ctx.db.insert("counters", {"name": name, "n": 1})
                return 1
            ctx.db.patch(found["_id"], {"n": found["n"] + 1})
            return found["n"] + 1


        @mutation
        def add(ctx, name: str = "x") -> int:
            return bump(ctx, name)


        @mutation
        def add_too(ctx, name: str = "x") -> list:
            return [bump(ctx, name), ctx.random.random(), ctx.now()]


        @mutation(retries=1)
        def add_retried_once(ctx, name: str = "x") -> int:
            return bump(ctx, name)


        @mutation(retries=0)
        def add_never_retried(ctx, name: str = "x") -> int:
            return bump(ctx, name)


        def peek(ctx, name):
            found = ctx.db.query("counters").with_index("by_name", lambda q: q.eq("name", name)).unique()
            return 0 if found is None else found["n"]


        @mutation
        def look(ctx, name: str = "x") -> int:
            return peek(ctx, name)


        @mutation
        def refuse(ctx, name: str = "x") -> None:
            raise ValueError(peek(ctx, name))


        @mutation
        def crunch(ctx) -> int:
            total = 0
            for number in range(20_000):
                total += number
            return total


        @query
        def value(ctx, name: str = "x") -> int:
            return peek(ctx, name)
        """,
}


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def it(tmp_path: Path, disk: Disk) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, COUNTERS, run_blocking=disk) as it:
        yield it


async def known_as_quick(it: Deployed, *paths: str) -> None:
    """Let functions run once, so that their calls travel together from now on."""
    for path in paths:
        await it.mutate(path, name="elsewhere")


def death_of_batches(frame: Run) -> WorkerLost | None:
    return WorkerLost("crash", "as the test wants") if len(frame.calls) > 1 else None


async def test_calls_of_a_batch_whose_worker_died_do_not_overwrite_each_other(it: Deployed) -> None:
    """Once they were run one by one on one snapshot and judged as if each had seen the one before."""
    await known_as_quick(it, "counters:add")
    results: list[int] = []

    async def add() -> None:
        results.append(await it.run("counters:add"))

    it.traffic.lose = death_of_batches
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(add)
    assert max(len(frame.calls) for frame in it.traffic.frames) > 1
    assert sorted(results) == list(range(1, 11))
    assert await it.value("counters:value") == 10


async def test_a_call_that_kills_its_worker_costs_its_neighbours_nothing(it: Deployed) -> None:
    await known_as_quick(it, "counters:add", "counters:add_too")
    it.traffic.lose = lambda frame: (
        WorkerLost("memory", "as the test wants")
        if any(call.path == "counters:add_too" for call in frame.calls)
        else None
    )
    failures: list[str] = []

    async def kill() -> None:
        outcome = await it.mutate("counters:add_too")
        assert outcome.failure is not None
        failures.append(outcome.failure.kind)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(it.run, "counters:add")
        nursery.start_soon(kill)
        for _ in range(4):
            nursery.start_soon(it.run, "counters:add")
    assert failures == ["OutOfMemory"]
    assert await it.value("counters:value") == 8


async def test_cancelled_caller_does_not_cancel_its_commit(it: Deployed) -> None:
    held = it.traffic.hold_before("counters:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run, "counters:add")
        await held.arrivals()
        nursery.cancel_scope.cancel()
    held.release.set()
    assert await it.run("counters:add_too")
    assert await it.value("counters:value") == 2


async def overtake(it: Deployed, path: str) -> Any:
    """Run a mutation that another one overtakes; return what it returned in the end."""
    results: list[Any] = []

    async def run() -> None:
        results.append(await it.run(path))

    held = it.traffic.hold_after(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await held.arrivals()
        await it.run("counters:add")
        del it.traffic.after[path]
        held.release.set()
    return results[0]


async def test_each_attempt_has_a_fresh_seed_and_a_snapshot_that_holds_the_conflict(it: Deployed) -> None:
    count, drawn, now = await overtake(it, "counters:add_too")
    first, second = (frame for frame in it.traffic.frames if frame.calls[0].path == "counters:add_too")
    [other] = (frame for frame in it.traffic.frames if frame.calls[0].path == "counters:add")
    assert count == 2
    assert first.calls[0].seed != second.calls[0].seed
    assert first.calls[0].now_ms <= second.calls[0].now_ms
    assert now == int(second.calls[0].now_ms)
    assert second.begin_ts > other.begin_ts
    assert first.calls[0].execution == second.calls[0].execution
    assert 0 <= drawn < 1


async def test_conflict_report_names_what_was_read_by_whom_and_written_by_whom(it: Deployed) -> None:
    await it.run("counters:add")
    reports: list[ConflictReport] = []
    it.deployment.mutations.on_conflict = reports.append
    await overtake(it, "counters:add_too")
    [report] = reports
    with it.deployment.store.snapshot() as snapshot:
        table = snapshot.catalog.tables["counters"]
        [(_, internal_id, _)] = snapshot.scan(table.by_id, EVERYTHING)
    assert (report.table, report.document_id) == ("counters", encode_id(table.number, internal_id))
    assert report.reader.function == "counters:add_too"
    assert report.writer is not None
    assert report.writer.function == "counters:add"
    assert not report.is_same_function
    assert report.runs_again_after_ms is not None
    entry = it.deployment.store.log_entry(report.commit_ts)
    assert entry is not None
    assert unpack_record(entry.record).execution == report.writer.execution
    assert "counters:add_too was overtaken (attempt 1): it read document" in str(report)


async def test_the_last_attempt_has_nobody_beside_it(it: Deployed) -> None:
    await known_as_quick(it, "counters:add", "counters:add_retried_once")
    order: list[str] = []

    async def run(path: str) -> None:
        await it.run(path)
        order.append(path)

    first = it.traffic.hold_after("counters:add_retried_once")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "counters:add_retried_once")
        await first.arrivals()
        await it.run("counters:add")
        last = it.traffic.hold_before("counters:add_retried_once")
        del it.traffic.after["counters:add_retried_once"]
        first.release.set()
        await last.arrivals()
        for _ in range(3):
            nursery.start_soon(run, "counters:add")
        await trio.testing.wait_all_tasks_blocked()
        assert it.traffic.frames[-1].calls[0].path == "counters:add_retried_once"
        last.release.set()
    assert order[0] == "counters:add_retried_once"
    assert it.deployment.mutations.conflicts == 1
    assert await it.value("counters:value") == 5


async def test_a_function_without_retries_runs_once_and_alone(it: Deployed) -> None:
    held = it.traffic.hold_before("counters:add_never_retried")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run, "counters:add_never_retried")
        await held.arrivals()
        nursery.start_soon(it.run, "counters:add")
        await trio.testing.wait_all_tasks_blocked()
        assert it.traffic.runs["counters:add"] == 0
        held.release.set()
    assert it.traffic.runs["counters:add_never_retried"] == 1
    assert await it.value("counters:value") == 2


async def test_an_error_seen_on_a_state_that_is_gone_is_not_reported(it: Deployed) -> None:
    failures: list[str] = []

    async def refuse() -> None:
        outcome = await it.mutate("counters:refuse")
        assert outcome.failure is not None
        failures.append(outcome.failure.message)

    held = it.traffic.hold_after("counters:refuse")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        await held.arrivals()
        await it.run("counters:add")
        held.release.set()
    assert "ValueError: 1" in failures[0]


async def test_slow_calls_do_not_hold_up_quick_ones(it: Deployed) -> None:
    await known_as_quick(it, "counters:add")
    held = it.traffic.hold_before("counters:crunch")
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(it.mutate, "counters:crunch")
        await held.arrivals(LANES - 1)
        assert await it.run("counters:add") == 1
        held.release.set()
    assert it.traffic.runs["counters:crunch"] == 5
    assert all(
        len(frame.calls) == 1 for frame in it.traffic.frames if frame.calls[0].path == "counters:crunch"
    )


async def test_calls_of_a_hot_function_chain_in_one_lane(it: Deployed) -> None:
    await known_as_quick(it, "counters:add", "counters:add_too")
    await overtake(it, "counters:add_too")
    conflicts = it.deployment.mutations.conflicts
    before = len(it.traffic.frames)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(it.run, "counters:add_too")
    assert it.deployment.mutations.conflicts == conflicts
    assert len(it.traffic.frames) - before <= 3
    assert await it.value("counters:value") == 102


async def test_a_result_read_over_accepted_commits_waits_until_they_are_durable(
    it: Deployed, disk: Disk
) -> None:
    gate = disk.hold()
    answered: list[Any] = []

    async def look() -> None:
        answered.append(await it.run("counters:look"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run, "counters:add")
        await gate.arrivals()
        nursery.start_soon(look)
        await trio.testing.wait_all_tasks_blocked()
        assert it.traffic.runs["counters:look"] == 1
        assert answered == []
        gate.release.set()
    assert answered == [1]


async def test_a_full_disk_takes_everything_back_and_the_next_call_succeeds(it: Deployed, disk: Disk) -> None:
    """Once the refused commit stayed a conflict for everybody who read the same document, for ever."""
    assert await it.run("counters:add") == 1
    disk.errors.append(DiskFull("no room"))
    gate = disk.hold()
    faults: list[str] = []

    async def fail(path: str) -> None:
        with pytest.raises(BackendFault) as fault:
            await it.mutate(path, idempotency=("session", len(path)))
        assert fault.value.transient
        faults.append(fault.value.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail, "counters:add")
        await gate.arrivals()
        nursery.start_soon(fail, "counters:look")  # has seen what is about to be taken back
        await trio.testing.wait_all_tasks_blocked()
        disk.gates.clear()
        gate.release.set()
    assert faults == ["StoreRefused", "StoreRefused"]
    assert await it.value("counters:value") == 1
    assert await it.run("counters:add") == 2
    resent = await it.mutate("counters:add", idempotency=("session", len("counters:add")))
    assert resent.value == 3


async def test_a_call_over_a_commit_that_is_taken_back_runs_again(it: Deployed, disk: Disk) -> None:
    disk.errors.append(DiskFull("no room"))
    gate, held = disk.hold(), it.traffic.hold_after("counters:add_too")
    results: list[Any] = []

    async def fail() -> None:
        with pytest.raises(BackendFault):
            await it.mutate("counters:add")

    async def add_too() -> None:
        results.append(await it.run("counters:add_too"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail)
        await gate.arrivals()
        nursery.start_soon(add_too)
        await held.arrivals()
        disk.gates.clear()
        gate.release.set()
        await trio.testing.wait_all_tasks_blocked()
        held.release.set()
    assert results[0][0] == 1
    assert await it.value("counters:value") == 1
    assert it.deployment.mutations.conflicts == 0


async def test_an_unknown_outcome_ends_the_engine_and_answers_nobody_with_success(tmp_path: Path) -> None:
    disk = Disk()
    answers: list[Any] = []

    async def run() -> None:
        async with deployed(tmp_path, COUNTERS, run_blocking=disk) as it:
            disk.errors.append(CommitOutcomeUnknown("who knows"))
            answers.append(await it.mutate("counters:add"))

    with pytest.raises(BaseExceptionGroup) as ended:
        await run()
    assert ended.group_contains(CommitOutcomeUnknown)
    assert answers == []


async def test_shutdown_settles_what_runs_and_takes_nothing_new(it: Deployed) -> None:
    held = it.traffic.hold_before("counters:add")
    results: list[int] = []

    async def add() -> None:
        results.append(await it.run("counters:add"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(add)
        await held.arrivals()
        it.deployment.close()
        with pytest.raises(BackendFault, match="ShuttingDown"):
            await it.run("counters:look")
        held.release.set()
    assert sorted(results) == [1, 2, 3]


def tampered(**changes: Any) -> Any:
    def tamper(frame: Run, reply: FromWorker) -> FromWorker:
        if isinstance(reply, Ran) and frame.calls[0].path == "counters:add_too":
            reply.outcomes = [msgspec.structs.replace(outcome, **changes) for outcome in reply.outcomes]
        return reply

    return tamper


def write_to(table: int) -> bytes:
    internal_id = bytes(16)
    body = pack({"_creationTime": 1, "_id": encode_id(table, internal_id)})
    return WriteSet((DocumentWrite(table, internal_id, body),)).pack()


NEW_TABLE = WriteSet((), (("counters", 10_500),)).pack()
GHOST = WriteSet((DocumentWrite(10_001, bytes(16), None),)).pack()


@pytest.mark.parametrize(
    "changes",
    [
        {"writes": b"nonsense"},
        {"reads": b"nonsense"},
        {"value": b"nonsense"},
        {"writes": write_to(77)},
        {"writes": write_to(20_000)},
        {"writes": NEW_TABLE},
        {"writes": GHOST},
        {"observed": ["bucket:0"]},
        {"observed": ["bucket:-1"]},
        {"observed": ["bucket:x"]},
    ],
    ids=str,
)
async def test_a_worker_that_lies_loses_its_call_and_nothing_else(
    it: Deployed, changes: dict[str, Any]
) -> None:
    it.traffic.tamper = tampered(**changes)
    outcome = await it.mutate("counters:add_too")
    assert outcome.failure is not None
    assert "broke the protocol" in outcome.failure.message
    it.traffic.tamper = lambda frame, reply: reply
    assert await it.run("counters:add") == 1
