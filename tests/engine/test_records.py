"""The record in the log of each committed mutation: enough to run it again, and nothing that was not so."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from engine.attempts import read_attempts
from engine.backend import Identity
from engine.conditions import read_conditions
from engine.kept_claims import KnownClaims
from engine.push import EVERYTHING, load_version
from engine.records import Record, unpack_record
from sandbox import determinism
from sandbox.frames import NESTED_MAX, FromWorker, Nested, Ran, Run
from sandbox.limits import DEFAULTS
from sandbox.meter import FUEL_DEFAULT
from storage import LogEntry, RetentionPolicy
from tidewell.values import Value, pack, unpack

from .deployed import Deployed, call, deployed

APP = {
    "counter.py": """
        from tidewell import AppError, Id, action, mutation, query


        @mutation
        def add(ctx, by: int) -> int:
            print("adding", by)
            found = ctx.db.query("counters").first()
            if found is None:
                ctx.db.insert("counters", {"n": by, "drawn": ctx.random.random()})
                return by
            ctx.db.patch(found["_id"], {"n": found["n"] + by})
            return found["n"] + by


        @mutation
        def other(ctx) -> None:
            found = ctx.db.query("counters").first()
            ctx.db.patch(found["_id"], {"n": 100})


        @mutation
        def look(ctx) -> int:
            return len(ctx.db.query("counters").collect())


        @mutation
        def refuse(ctx) -> None:
            ctx.db.insert("counters", {"n": 0})
            raise AppError("no more counters")


        @mutation
        def twice(ctx, by: int) -> int:
            ctx.run_query("counter:count", {})
            ctx.run_mutation("counter:add", {"by": by})
            try:
                ctx.run_mutation("counter:refuse", {})
            except AppError:
                pass
            return ctx.run_mutation("counter:add", {"by": by})


        @query
        def count(ctx) -> int:
            return len(ctx.db.query("counters").collect())


        @mutation
        def often(ctx) -> None:
            ctx.db.insert("counters", {"n": 0})
            for _ in range(300):
                ctx.run_query("counter:count", {})


        @mutation
        def like(ctx, counter: Id["counters"]) -> None:
            found = ctx.db.get(counter)
            ctx.db.patch(counter, {"n": found["n"] + 1})


        @mutation
        def like_twice(ctx, counter: Id["counters"]) -> None:
            for _ in range(2):
                ctx.run_mutation("counter:like", {"counter": counter})


        @action
        def act(ctx) -> None:
            ctx.run_query("counter:count", {})
            ctx.run_mutation("counter:add", {"by": 1})
        """
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


def newest(it: Deployed) -> tuple[LogEntry, Record]:
    entry = it.deployment.store.log_entry(it.deployment.head_ts)
    assert entry is not None
    return entry, unpack_record(entry.record, KnownClaims(it.deployment.store))


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


async def test_record_holds_what_the_worker_was_given(it: Deployed) -> None:
    identity = Identity({"subject": "ann", "issuer": "test"})
    asked = call("counter:add", identity=identity, request_id="0123456789abcdef", by=3)
    outcome = await it.deployment.mutate(asked)
    entry, record = newest(it)
    [frame] = it.traffic.frames
    assert it.deployment.code is not None
    assert entry.ts == outcome.ts
    assert unpack(record.args) == {"by": 3}
    assert unpack(record.identity) == {"subject": "ann", "issuer": "test"}
    assert (record.function, record.caller, record.request) == ("counter:add", "socket", "0123456789abcdef")
    assert (record.seed, record.now_ms) == (frame.calls[0].seed, frame.calls[0].now_ms)
    assert record.execution == frame.calls[0].execution
    assert record.code == it.deployment.code.hash
    assert record.attempt == 0
    assert record.steps > 0
    assert record.counters["documents_written"] == 1
    assert record.observed == ["random"]
    assert list(record.log_lines) == list(outcome.log_lines)


async def test_digests_are_of_what_the_worker_answered(it: Deployed) -> None:
    replies: list[Any] = []

    def keep(frame: Run, reply: FromWorker) -> FromWorker:
        replies.append(reply)
        return reply

    it.traffic.tamper = keep
    await it.run("counter:add", by=3)
    _, record = newest(it)
    assert isinstance(replies[0], Ran)
    [outcome] = replies[0].outcomes

    assert record.result == digest(pack(3))
    assert record.reads_digest == digest(outcome.reads)
    assert record.writes_digest == digest(outcome.writes)


async def test_begin_ts_of_a_record_is_a_snapshot_that_the_function_could_have_had(it: Deployed) -> None:
    """It was overtaken once, and chained behind others: its snapshot is the commit before its own."""
    await it.run("counter:add", by=1)
    held = it.traffic.hold_after("counter:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: it.run("counter:add", by=1))
        await held.arrivals()
        await it.run("counter:other")
        held.release.set()
    entry, record = newest(it)
    assert record.attempt == 1
    assert record.begin_ts == entry.previous_ts
    with it.deployment.store.snapshot(record.begin_ts) as snapshot:
        table = snapshot.catalog.tables["counters"]
        [(_, _, body)] = snapshot.scan(table.by_id, EVERYTHING)
        assert unpack(body)["n"] == 100


async def test_a_mutation_that_writes_nothing_leaves_no_record(it: Deployed) -> None:
    head = it.deployment.head_ts
    assert await it.run("counter:look") == 0
    assert it.deployment.head_ts == head


async def test_nested_calls_are_told_in_the_order_they_began(it: Deployed) -> None:
    await it.run("counter:twice", by=2)
    _, record = newest(it)
    assert [(nested.depth, nested.path) for nested in record.nested] == [
        (2, "counter:count"),
        (2, "counter:add"),
        (2, "counter:refuse"),
        (2, "counter:add"),
    ]
    assert unpack(record.nested[1].args) == {"by": 2}
    assert record.nested[1].result == digest(pack(2))
    assert record.nested[3].result == digest(pack(4))
    assert (record.nested[2].error, record.nested[2].result) == ("AppError: no more counters", b"")
    events = [nested.event for nested in record.nested]
    assert events[0] == 0
    assert events == sorted(set(events))
    assert record.nested_count == 4


async def test_nested_calls_beyond_the_first_are_counted(it: Deployed) -> None:
    await it.run("counter:often")
    entry, record = newest(it)
    assert (len(record.nested), record.nested_count) == (NESTED_MAX, 300)
    assert len(entry.record) < 100 * NESTED_MAX


async def test_mutation_of_an_action_names_the_action(it: Deployed) -> None:
    outcome = await it.deployment.act(call("counter:act"))
    assert outcome.failure is None, outcome.failure
    _, record = newest(it)
    [action] = [each for frame in it.traffic.frames for each in frame.calls if each.kind == "action"]
    assert (record.parent, record.parent_call, record.caller) == (action.execution, 2, "internal")
    assert record.internal
    await it.run("counter:add", by=1)
    assert newest(it)[1].parent == ""


async def test_conditions_of_a_record_hold_all_limits_in_force(it: Deployed) -> None:
    await it.run("counter:add", by=1)
    _, record = newest(it)
    conditions = read_conditions(it.deployment.store, record.conditions)
    assert conditions.limits["documents_read"] == 32_000
    assert conditions.limits["steps"] == FUEL_DEFAULT
    assert set(DEFAULTS) | {"steps", "recursion", "nested_calls"} == set(conditions.limits)
    assert record.limits == {}
    assert conditions.generator == determinism.VERSION


async def test_every_code_version_stays_while_records_need_it(it: Deployed) -> None:
    codes = []
    for number in range(3):
        changed = APP["counter.py"].replace('"adding"', f'"adding {number}"')
        await it.push({"counter.py": changed})
        await it.run("counter:add", by=1)
        codes.append(newest(it)[1].code)
    policy = RetentionPolicy(age_ns=0)
    store = it.deployment.store
    while not store.retain(policy, now_ns=store.head_ts, keep_from=store.head_ts - 1).is_done:
        pass
    assert len(set(codes)) == 3
    for code in codes:
        assert load_version(store, code).hash == code


@pytest.mark.parametrize("path", ["counter:like", "counter:like_twice"])
@pytest.mark.parametrize("claims", [None, {"issuer": "https://issuer.example", "subject": "user|1234"}])
async def test_record_of_a_small_mutation_keeps_to_its_budget(
    it: Deployed, path: str, claims: dict[str, Value] | None
) -> None:
    counter = (await it.query("counter:count")).value  # so that there is code that has run
    assert counter == 0
    await it.run("counter:add", by=1)
    entry, _ = newest(it)
    document_id = entry.writes[0].id
    asked = call(path, identity=Identity(claims), counter=document_id)
    outcome = await it.deployment.mutate(asked)
    assert outcome.failure is None, outcome.failure
    entry, record = newest(it)
    budget = 1.5 * len(record.args) + 300
    assert len(entry.record) <= budget, f"{len(entry.record)} bytes, at most {budget}"


async def test_failed_attempts_are_kept_with_their_reason(it: Deployed) -> None:
    await it.mutate("counter:refuse")
    await it.deployment.attempts.flush()
    [attempt] = read_attempts(it.deployment.store)
    assert (attempt.reason, attempt.code) == ("failed", "AppError")
    assert "no more counters" in attempt.record.error
    assert attempt.record.function == "counter:refuse"
    assert attempt.record.begin_ts == it.deployment.head_ts


async def test_overtaken_attempts_are_kept_with_the_commit_in_their_way(it: Deployed) -> None:
    await it.run("counter:add", by=1)
    before = it.deployment.head_ts
    held = it.traffic.hold_after("counter:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: it.run("counter:add", by=1))
        await held.arrivals()
        await it.run("counter:other")
        in_the_way = it.deployment.head_ts
        held.release.set()
    await it.deployment.attempts.flush()
    [attempt] = read_attempts(it.deployment.store)
    _, record = newest(it)
    assert (attempt.reason, attempt.conflict_ts) == ("conflict", in_the_way)
    assert attempt.record.begin_ts == before
    assert (attempt.record.execution, attempt.record.attempt) == (record.execution, 0)
    assert record.attempt == 1


async def test_attempts_are_written_without_being_asked_for(it: Deployed) -> None:
    await it.deployment.attempts.flush()  # with nothing to write; what comes later is written all the same
    await it.mutate("counter:refuse")
    with trio.fail_after(60):
        while not list(read_attempts(it.deployment.store)):
            await trio.lowlevel.checkpoint()


async def test_oldest_attempts_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.attempts.KEPT_MAX", 3)
    async with deployed(tmp_path, APP) as it:
        for number in range(5):
            await it.mutate("counter:refuse", number=number)
            await it.deployment.attempts.flush()
        kept = [unpack(attempt.record.args) for attempt in read_attempts(it.deployment.store)]
        assert kept == [{"number": 2}, {"number": 3}, {"number": 4}]


async def test_attempt_with_huge_arguments_is_not_kept(it: Deployed) -> None:
    await it.mutate("counter:refuse", text="x" * 20_000)
    await it.deployment.attempts.flush()
    assert list(read_attempts(it.deployment.store)) == []
    assert it.deployment.attempts.dropped == 1


def test_record_comes_back_as_it_was_packed() -> None:
    record = Record(
        execution="ab" * 16,
        parent="cd" * 16,
        parent_call=3,
        request="0" * 16,
        attempt=2,
        function="a:b",
        code="ef" * 32,
        conditions=b"12345678",
        args=pack({}),
        identity=pack(None),
        caller="internal",
        internal=True,
        admin=False,
        production=True,
        seed=bytes(32),
        now_ms=1.5,
        begin_ts=7,
        duration_us=12,
        steps=30,
        limits={"steps": 40},
        counters={"bytes_read": 1, **dict.fromkeys(sorted(set(DEFAULTS) - {"bytes_read"}), 0)},
        observed=["time"],
        reads_digest=bytes(16),
        writes_digest=bytes(16),
        result=bytes(16),
        log_lines=["[LOG] x"],
        nested=[Nested(2, "a:c", pack([]), b"", bytes(16), "", 0)],
        nested_count=1,
        trail=b"12345",
        error="",
    )
    assert unpack_record(record.pack()) == record


def test_fields_that_a_later_version_adds_are_passed_over() -> None:
    packed = msgspec.msgpack.decode(record_bytes())
    packed[0] = 4
    later = msgspec.msgpack.encode([*packed, b"", "something new"])
    assert unpack_record(later).function == "a:b"


def record_bytes() -> bytes:
    stored = [2, b"", b"", 0, b"", 0, "a:b", b"", b"", b"", b"", "cli", 0, b"", 0.0, 0, 0, 0, {}, [], [], b"",
              b"", b"", [], [], 0, b"", "", []]  # fmt: skip
    return msgspec.msgpack.encode(stored)


@pytest.mark.parametrize("data", [b"", b"\x01", msgspec.msgpack.encode({"version": 1}), record_bytes()[:-1]])
def test_nonsense_is_no_record(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack_record(data)


def test_record_of_an_older_version_is_refused() -> None:
    packed = msgspec.msgpack.decode(record_bytes())
    with pytest.raises(msgspec.DecodeError, match="version 1"):
        unpack_record(msgspec.msgpack.encode([1, *packed[1:]]))
