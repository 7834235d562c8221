"""The record in the log of each committed mutation: enough to run it again, and nothing that was not so."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from engine.backend import Identity
from engine.push import EVERYTHING
from engine.records import Record, unpack_record
from sandbox.frames import Ran
from storage import LogEntry
from tidewell.values import pack, unpack

from .deployed import Deployed, call, deployed

APP = {
    "counter.py": """
        from tidewell import mutation


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
        """
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


def newest(it: Deployed) -> tuple[LogEntry, Record]:
    entry = it.deployment.store.log_entry(it.deployment.head_ts)
    assert entry is not None
    return entry, unpack_record(entry.record)


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
    it.traffic.tamper = lambda frame, reply: replies.append(reply) or reply  # type: ignore[func-returns-value]
    await it.run("counter:add", by=3)
    _, record = newest(it)
    assert isinstance(replies[0], Ran)
    [outcome] = replies[0].outcomes

    def digest(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()[:16]

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


def test_nonsense_is_no_record() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack_record(b"\x01")
