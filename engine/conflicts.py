"""The conflicts of a deployment, kept as documents of the system table `_conflicts`.

`mutations` reports each attempt that was overtaken. Reports wait here for a moment and
are written together, in a commit of the engine's own, so that a hot document does
not cost a commit for each of its conflicts; of many that are alike within that moment
the first few are kept one by one and the rest are counted in `times` of the last of them.
Functions read the table with `ctx.db.system.query("_conflicts")`; `tidewell conflicts` lists
what happens most.

Best effort: what has not been written when the engine is cut off is lost, and so is
what comes in faster than `WAITING_MAX` a moment. A conflict has no consequence but a retry.

A document (`attempt` counts from 1; times are milliseconds):

    table, index, range       what was read: `range` in words, `readFrom` and `readUntil` as values, null
                              when they are large
    documentId                the first document both read and written; null for the catalog
    reader                    function, execution, attempt, line ("posts.py:12" or null)
    writer                    the same, and commitTs as text, what `tidewell show` takes; null fields
                              for the engine itself
    sameFunction              whether reader and writer are calls of one function
    retriedAfterMs            null: the retry ran with nobody beside it
    times                     how many conflicts like this one the document stands for
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs
import trio

from engine.backend import BackendFault
from engine.chance import Chance
from engine.clock import Clock
from engine.committer import Committer, Overtaken, Proposal, View
from engine.conflict_report import ConflictReport, Participant
from storage import Store, StoreError, Timestamp, Transaction
from tidewell.ids import INTERNAL_ID_BYTES
from tidewell.values import MISSING, Value, number, object_of, size_bytes

TABLE: Final = "_conflicts"
MOMENT_S: Final = 1.0  # a conflict is written so long after it happened, at the latest
ALIKE_MAX: Final = 10  # kept one by one within a moment
WAITING_MAX: Final = 1_000
KEPT_MAX: Final = 10_000  # documents; the oldest go
TRIMMED_MAX: Final = 2_000  # documents taken out in one commit
BOUNDS_BYTES_MAX: Final = 2_048
REMEMBERED_MAX: Final = 4_096  # commits whose lines are known
REMEMBERED_BYTES_MAX: Final = 8 * 2**20  # some 130 bytes for a small mutation

_log = logging.getLogger("tidewell.engine")


@attrs.define(eq=False)
class RecentLines:
    """What workers said of the lines of the newest commits, for those that these overtake."""

    _packed: OrderedDict[Timestamp, bytes] = attrs.field(factory=OrderedDict, init=False)
    _bytes: int = attrs.field(default=0, init=False)

    def keep(self, ts: Timestamp, packed: bytes) -> None:
        if packed:
            self._packed[ts] = packed
            self._bytes += len(packed)
            while len(self._packed) > REMEMBERED_MAX or self._bytes > REMEMBERED_BYTES_MAX:
                self._bytes -= len(self._packed.popitem(last=False)[1])

    def of(self, ts: Timestamp) -> bytes:
        return self._packed.get(ts, b"")


@attrs.frozen
class _Waiting:
    report: ConflictReport
    at_ms: float
    times: int = 1

    @property
    def kind(self) -> tuple[object, ...]:
        report = self.report
        writer = (report.writer.function, report.writer.line) if report.writer is not None else None
        return (report.table, report.index, report.reader.function, report.reader.line, writer)


@attrs.define(eq=False)
class Conflicts:
    _store: Store
    _committer: Committer
    _clock: Clock
    _chance: Chance
    on_report: Callable[[ConflictReport], None] | None = attrs.field(default=None, init=False)  # as it comes
    _waiting: list[_Waiting] = attrs.field(factory=list, init=False)
    _places: dict[tuple[object, ...], list[int]] = attrs.field(factory=dict, init=False)  # in it, by kind
    _came: trio.Event = attrs.field(factory=trio.Event, init=False)

    def note(self, report: ConflictReport) -> None:
        """Take a report on. Synchronous and cheap."""
        if self.on_report is not None:
            self.on_report(report)
        noted = _Waiting(report, self._clock.now_ms())
        kind = noted.kind
        places = self._places.setdefault(kind, [])
        if len(places) >= ALIKE_MAX:
            self._waiting[places[-1]] = attrs.evolve(noted, times=self._waiting[places[-1]].times + 1)
        elif len(self._waiting) < WAITING_MAX:
            places.append(len(self._waiting))
            self._waiting.append(noted)
            self._came.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._came.wait()
            await trio.sleep(MOMENT_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. It waits on when a push is in the way; what the store refuses is dropped."""
        waiting = self._waiting
        if not waiting:
            return
        self._waiting, self._places, self._came = [], {}, trio.Event()
        try:
            await self._write(waiting)
        except Overtaken:  # a table was made or code was pushed at this moment
            self._waiting, self._places = [*waiting, *self._waiting][:WAITING_MAX], {}
            self._came.set()
        except (BackendFault, StoreError) as error:
            _log.warning("%d conflicts are not kept in %s: %s", len(waiting), TABLE, error)

    async def _write(self, waiting: list[_Waiting]) -> None:
        with self._store.snapshot() as snapshot:
            transaction = Transaction(snapshot)
            if transaction.table_exists(TABLE):
                self._trim(transaction, len(waiting))
            at_ms = -math.inf
            for noted in waiting:
                at_ms = max(noted.at_ms, math.nextafter(at_ms, math.inf))
                internal_id = self._chance.token(INTERNAL_ID_BYTES)
                transaction.insert(TABLE, document_of(noted.report, noted.times), internal_id, number(at_ms))
            reads, writes = transaction.read_set(), transaction.write_set()
            proposal = Proposal(View(snapshot.ts), reads, writes, None)
        with trio.CancelScope(shield=True):  # accepted is accepted; let it be known to have been written
            await self._committer.accept(proposal).durable.wait()

    def _trim(self, transaction: Transaction, coming: int) -> None:
        surplus = transaction.count(TABLE) + coming - KEPT_MAX
        if surplus > 0:
            oldest = transaction.scan(TABLE)
            for _ in range(min(surplus, TRIMMED_MAX)):
                document = next(oldest, None)
                if document is not None:
                    transaction.delete(document["_id"])


def document_of(report: ConflictReport, times: int) -> dict[str, Value]:
    """Return the document that stands for `times` conflicts like `report`."""
    return object_of(
        {
            "table": report.table,
            "index": report.index,
            "range": report.range,
            "readFrom": _values(report.read_from),
            "readUntil": _values(report.read_until),
            "documentId": report.document_id,
            "reader": _participant(report.reader),
            "writer": object_of(
                {**_participant(report.writer), "commitTs": str(report.commit_ts)},
            ),
            "sameFunction": report.is_same_function,
            "retriedAfterMs": report.runs_again_after_ms,
            "times": times,
        }
    )


def _participant(who: Participant | None) -> dict[str, Value]:
    if who is None:
        return {"attempt": None, "execution": None, "function": None, "line": None}
    return {
        "attempt": who.attempt + 1,
        "execution": who.execution,
        "function": who.function,
        "line": who.line,
    }


def _values(values: list[Value]) -> list[Value] | None:
    """Return bounds as they can be stored, without what is no value; None when they are large."""
    stored: list[Value] = [{"missing": True} if value is MISSING else value for value in values]
    return stored if size_bytes(stored) <= BOUNDS_BYTES_MAX else None
