"""The log is its own explanation: run again one at a time in commit order, on a store of their own, the
recorded calls read, write and return what they did. In passing, queries are run as of any timestamp."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs

from engine.kept_claims import KnownClaims
from engine.records import Record, unpack_record
from fuzz.checkers.evaluator import Evaluator
from fuzz.history import Query
from sandbox.frames import Call, Module
from storage import Commit, Store, WriteSet
from tidewell.values import pack

PROBLEMS_MAX: Final = 20  # after which calls are no longer compared: one wrong read makes many


@attrs.frozen
class Code:
    """The app as it was pushed."""

    modules: tuple[Module, ...]
    now_ms: int
    seed: bytes
    cursor_key: bytes


@attrs.define(eq=False)
class Replay:
    """
    Attributes:
      problems: what the recorded calls did otherwise.
      results: what each query that was asked about gives at its timestamp, as JSON has it, or `Failed`.
    """

    problems: list[str] = attrs.field(factory=list)
    results: dict[tuple[Query, int], Any] = attrs.field(factory=dict)


def replay(store: Store, code: Code, scratch: Path, asked: Iterable[tuple[Query, int]] = ()) -> Replay:
    """Run the log again.

    Args:
      scratch: a folder for the second store.
      asked: queries with timestamps. They are run in passing, when the second store is as of then.
    """
    done = Replay()
    claims = KnownClaims(store)
    waiting = deque(sorted(asked, key=lambda each: each[1]))
    with Store.open(scratch, sync=False) as again:
        evaluator = Evaluator.load(again, code.cursor_key, list(code.modules), code.now_ms, code.seed)

        def answer(until: float) -> None:
            known: dict[Query, Any] = {}
            while waiting and waiting[0][1] < until:
                query, ts = waiting.popleft()
                if query not in known:
                    known[query] = evaluator.query(query.path, dict(query.args), again.head_ts)
                done.results[query, ts] = known[query]

        try:
            for commit in store.read(0):
                answer(commit.ts)
                if commit.record and len(done.problems) < PROBLEMS_MAX:
                    done.problems += _compare(commit, claims, evaluator, again.head_ts)
                again.commit([attrs.evolve(commit, record=b"", private=())])
                if commit.catalog is not None:
                    _fill_indexes(again)
            answer(math.inf)
        finally:
            evaluator.close()
    return done


def _fill_indexes(store: Store) -> None:
    for table in store.catalog().tables.values():
        for index in table.indexes:
            if not index.is_ready:
                backfill = store.backfill(index.index_id)
                while not backfill.is_complete:
                    backfill.step(1000)


def _compare(commit: Commit, claims: KnownClaims, evaluator: Evaluator, before: int) -> list[str]:
    record = unpack_record(commit.record, claims)
    name = f"{record.function} at {commit.ts}"
    if record.begin_ts != before:
        return [f"{name} began at {record.begin_ts}, the commit before it is {before}"]
    outcome = evaluator.run(_call(record), before)
    if outcome.kind != "value":
        return [f"{name} fails when it is run again: {outcome.error}"]
    writes = WriteSet.unpack(outcome.writes) if outcome.writes else WriteSet()
    problems = []
    if writes.documents != commit.writes:
        problems.append(
            f"{name} wrote {_shown(commit.writes)}; run again it writes {_shown(writes.documents)}"
        )
    for what, recorded, now in (
        ("result", record.result, outcome.value),
        ("read set", record.reads_digest, outcome.reads),
        ("write set", record.writes_digest, outcome.writes),
    ):
        if recorded != _digest(now):
            problems.append(f"{name} has another {what} when it is run again")
    if record.steps != outcome.steps:
        problems.append(f"{name} took {record.steps} steps; run again it takes {outcome.steps}")
    return problems


def _call(record: Record) -> Call:
    return Call(
        execution=record.execution,
        kind="mutation",
        path=record.function,
        args=record.args,
        identity=record.identity,
        seed=record.seed,
        now_ms=record.now_ms,
        internal=record.internal,
        request=pack({"requestId": record.request}),
    )


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _shown(writes: object) -> str:
    text = repr(writes)
    return text if len(text) < 300 else text[:297] + "..."
