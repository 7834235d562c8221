"""A deployment in memory with the real interface, for tests of the wire.

Its functions are plain Python over versioned cells; each records the cells it
read, so subscriptions are invalidated exactly. Timestamps rise by ten per
commit. Gates let a test hold calls where it wants to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import trio

from engine.backend import (
    ActionOutcome,
    BackendFault,
    Call,
    Failure,
    Identity,
    Kind,
    MutationOutcome,
    QueryOutcome,
)
from engine.explain import Explained
from tidewell.errors import AppError
from tidewell.values import Int64, Value, normalize, plain_json, wire_json, wire_text


@attrs.define
class Transaction:
    """What a fake function gets: cells as of `ts`, and a place for logs and the journal."""

    backend: FakeBackend
    ts: int
    identity: Identity
    journal: str | None = None
    reads: set[str] = attrs.field(factory=set)
    writes: dict[str, Value] = attrs.field(factory=dict)
    logs: list[str] = attrs.field(factory=list)

    def get(self, cell: str, default: Value = None) -> Value:
        self.reads.add(cell)
        if cell in self.writes:
            return self.writes[cell]
        for ts, value in reversed(self.backend.cells.get(cell, [])):
            if ts <= self.ts:
                return value
        return default

    def set(self, cell: str, value: Value) -> None:
        self.writes[cell] = value

    def log(self, text: str) -> None:
        self.logs.append(f"[LOG] {text}")


@attrs.define(eq=False)
class FakeWatch:
    backend: FakeBackend
    call: Call
    journal: str | None
    doorbell: Callable[[], None]
    outcome: QueryOutcome | None = None
    reads: frozenset[str] = frozenset()
    valid_at: int = -1
    is_stale: bool = True

    @property
    def is_current(self) -> bool:
        return self.outcome is not None and not self.is_stale

    def close(self) -> None:
        self.backend.watches.discard(self)


@attrs.define(eq=False)
class FakeBackend:
    head_ts: int = 1000
    redacted: bool = False
    cells: dict[str, list[tuple[int, Value]]] = attrs.field(factory=dict)
    watches: set[FakeWatch] = attrs.field(factory=set)
    min_intervals_s: list[float] = attrs.field(factory=list)  # that watches were asked for with
    recorded: dict[tuple[str, int], MutationOutcome] = attrs.field(factory=dict)
    runs: list[str] = attrs.field(factory=list)  # the path of every execution
    mutation_gate: trio.Event | None = None  # mutations commit once it is set
    reply_gate: trio.Event | None = None  # and report it once this is set
    committed: trio.Event = attrs.field(factory=trio.Event)  # set when a mutation has run
    evaluate_gate: trio.Event | None = None
    fault: BackendFault | None = None  # raised by every call
    next_failure: Failure | None = None  # what the next call ends with

    def kind_of(self, path: str) -> Kind | None:
        return FUNCTIONS[path][0] if path in FUNCTIONS else None

    async def query(self, call: Call, *, ts: int | None = None) -> QueryOutcome:
        await trio.lowlevel.checkpoint()
        return self.query_now(call, None, self.head_ts if ts is None else ts)[0]

    async def explain(self, call: Call) -> Explained:
        return Explained(await self.query(call), "miss", is_own=False)

    async def mutate(self, call: Call, *, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        await trio.lowlevel.checkpoint()
        if self.mutation_gate is not None:
            await self.mutation_gate.wait()
        outcome = self.mutate_now(call, idempotency)
        self.committed.set()
        if self.reply_gate is not None:
            await self.reply_gate.wait()
        return outcome

    def newest_success(self, session_id: str) -> tuple[int, int] | None:
        found = [(key[1], outcome.ts) for key, outcome in self.recorded.items() if key[0] == session_id]
        return max(found, default=None)

    async def act(self, call: Call) -> ActionOutcome:
        await trio.lowlevel.checkpoint()
        return self.act_now(call)

    def watch(
        self, call: Call, journal: str | None, doorbell: Callable[[], None], *, min_interval_s: float = 0.0
    ) -> FakeWatch:
        self.min_intervals_s.append(min_interval_s)
        watch = FakeWatch(self, call, journal, doorbell)
        self.watches.add(watch)
        return watch

    async def evaluate(self, watches: Sequence[FakeWatch], ts: int) -> list[QueryOutcome]:
        await trio.lowlevel.checkpoint()
        if self.evaluate_gate is not None:
            await self.evaluate_gate.wait()
        return [self.evaluate_now(watch, ts) for watch in watches]

    def hold_replies(self) -> None:
        """Let mutations commit from now on, and not return."""
        self.reply_gate, self.committed = trio.Event(), trio.Event()

    # ---- the same without waiting, for tests without a loop -----------------------------

    def evaluate_now(self, watch: FakeWatch, ts: int) -> QueryOutcome:
        if watch.outcome is None or self._was_written(watch.reads, watch.valid_at, ts):
            outcome, watch.reads = self.query_now(watch.call, watch.journal, ts)
            watch.outcome, watch.journal = outcome, outcome.journal
        watch.valid_at = ts
        watch.is_stale = self._was_written(watch.reads, ts, self.head_ts)
        if watch.is_stale:  # a commit fell between the snapshot and now
            watch.doorbell()
        return watch.outcome

    def query_now(self, call: Call, journal: str | None, ts: int) -> tuple[QueryOutcome, frozenset[str]]:
        transaction = Transaction(self, ts, call.identity, journal)
        value, failure = self._run("query", call, transaction)
        value_json = wire_json(value)
        parts = (value_json, transaction.logs, failure and (failure.message, repr(failure.data)))
        outcome = QueryOutcome(
            ts=ts,
            value=value,
            value_json=value_json,
            log_lines=tuple(transaction.logs),
            journal=transaction.journal,
            failure=failure,
            digest=hashlib.sha256(repr(parts).encode()).digest(),
        )
        return outcome, frozenset(transaction.reads)

    def mutate_now(self, call: Call, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        if idempotency in self.recorded:
            return self.recorded[idempotency]
        transaction = Transaction(self, self.head_ts, call.identity)
        value, failure = self._run("mutation", call, transaction)
        ts = self.head_ts
        if failure is None and (transaction.writes or idempotency is not None):
            ts = self.commit(transaction.writes)  # of the record alone, where nothing else was written
        outcome = MutationOutcome(ts, value, wire_json(value), tuple(transaction.logs), failure)
        if failure is None and idempotency is not None:
            self.recorded[idempotency] = outcome
        return outcome

    def act_now(self, call: Call) -> ActionOutcome:
        transaction = Transaction(self, self.head_ts, call.identity)
        value, failure = self._run("action", call, transaction)
        if failure is None and transaction.writes:
            self.commit(transaction.writes)
        return ActionOutcome(value, wire_json(value), tuple(transaction.logs), failure)

    def commit(self, writes: dict[str, Value]) -> int:
        ts = self.head_ts + 10
        for cell, value in writes.items():
            self.cells.setdefault(cell, []).append((ts, value))
        self.head_ts = ts
        rung = [watch for watch in self.watches if watch.reads & writes.keys()]
        for watch in rung:
            watch.is_stale = True
            watch.doorbell()
        return ts

    def _run(self, kind: str, call: Call, transaction: Transaction) -> tuple[Value, Failure | None]:
        self.runs.append(call.path)
        if self.fault is not None:
            raise self.fault
        if self.next_failure is not None:
            failure, self.next_failure = self.next_failure, None
            return None, failure
        found, function = FUNCTIONS.get(call.path, (None, None))
        if function is None or (call.path.startswith("hidden:") and not call.identity.admin):
            return None, Failure(f"Could not find public function for '{call.path}'.\n")
        if found != kind:
            is_not = f"as {kind.capitalize()}, but it is defined as {found.capitalize()}"
            return None, Failure(f"Trying to execute {call.path} {is_not}.\n")
        try:
            return normalize(function(transaction, **call.args)), None
        except AppError as error:
            data = normalize(error.data)
            text = data if isinstance(data, str) else wire_text(plain_json(data))
            return None, Failure(f"Uncaught AppError: {text}\n", data=data)
        except TypeError as error:
            return None, Failure(f"ArgumentValidationError: {error}\n", kind="ArgumentValidation")
        except ValueError as error:
            return None, Failure(f"Uncaught ValueError: {error}\n    at handler (fake.py:1)\n")

    def _was_written(self, reads: frozenset[str], after: int, until: int) -> bool:
        return any(after < ts <= until for cell in reads for ts, _ in reversed(self.cells.get(cell, [])))


# ---- the functions ------------------------------------------------------------------


def _list(db: Transaction, channel: str = "a") -> Value:
    return db.get(f"messages/{channel}", [])


def _send(db: Transaction, body: Value, channel: str = "a") -> Value:
    messages = db.get(f"messages/{channel}", [])
    db.set(f"messages/{channel}", [*messages, body])
    return len(messages)


def _count(db: Transaction) -> Value:
    return db.get("counter", 0)


def _add(db: Transaction, by: Value = 1) -> Value:
    db.set("counter", db.get("counter", 0) + by)
    return db.get("counter")


def _parity(db: Transaction) -> Value:
    return db.get("counter", 0) % 2


def _echo(db: Transaction, value: Value = None) -> Value:
    db.log("echo")
    return value


def _zoo(db: Transaction) -> Value:
    return {
        "bytes": b"\x00\xff",
        "float": 1.5,
        "int": 3,
        "int64": Int64(2**63 - 1),
        "inf": float("inf"),
        "list": [None, True, "ü😀"],
        "nan": float("nan"),
        "negative_zero": -0.0,
    }


def _fail(db: Transaction, text: str = "no such channel") -> Value:
    raise ValueError(text)


def _refuse(db: Transaction, data: Value = None) -> Value:
    raise AppError(data)


def _fail_when_odd(db: Transaction) -> Value:
    if db.get("counter", 0) % 2:
        raise ValueError("odd")
    return "even"


def _who(db: Transaction) -> Value:
    claims = db.identity.claims
    return {"admin": db.identity.admin, "name": None if claims is None else claims["tokenIdentifier"]}


def _page(db: Transaction, **_: Any) -> Value:
    """The journal pins the length of the page at its first run."""
    messages = db.get("messages/a", [])
    size = len(messages) if db.journal is None else int(db.journal)
    db.journal = str(size)
    return messages[:size]


def _big(db: Transaction, size: int) -> Value:
    return "é" * int(size) + str(db.get("counter", 0))


FUNCTIONS: dict[str, tuple[Kind, Callable[..., Value]]] = {
    "messages:list": ("query", _list),
    "messages:page": ("query", _page),
    "messages:send": ("mutation", _send),
    "messages:default": ("query", _list),
    "counter:get": ("query", _count),
    "counter:parity": ("query", _parity),
    "counter:fail_when_odd": ("query", _fail_when_odd),
    "counter:add": ("mutation", _add),
    "counter:add_later": ("action", _add),
    "values:echo": ("query", _echo),
    "values:echo_mutation": ("mutation", _echo),
    "values:echo_action": ("action", _echo),
    "values:zoo": ("query", _zoo),
    "values:big": ("query", _big),
    "values:who": ("query", _who),
    "errors:fail": ("query", _fail),
    "errors:fail_mutation": ("mutation", _fail),
    "errors:fail_action": ("action", _fail),
    "errors:refuse": ("query", _refuse),
    "errors:refuse_mutation": ("mutation", _refuse),
    "errors:refuse_action": ("action", _refuse),
    "hidden:who": ("query", _who),
    "dir/module:fn": ("query", _echo),
}
