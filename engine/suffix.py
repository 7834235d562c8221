"""The log after a commit, run again without that commit: an undo, computed (function-semantics 13.7).

On a fork in the state before the commit, everything that came after it happens again in its
order and under its timestamps: calls are run in the sandbox, with the code, the seed, the clock
and the arguments of their records, each on the state that the fork has come to; pushes and
what the engine wrote by itself are applied as they were. Then the documents that either side
has written since are compared.

The commit that is left out still makes the tables it made, empty: otherwise later tables would
get other numbers, and every id in later arguments would name nothing.

Calls travel to a worker in batches, as in a server; in a batch each sees the writes of those
before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal

import attrs

from engine.guest_outcomes import GuestOutcome
from engine.history import Change, Committed, Operation, read_commit
from engine.kept_claims import KeptClaims
from engine.push import ACTIVE_KEY
from engine.records import Record, digest, with_outcome
from engine.replay.recorded import CodeVersions, RecordedCall
from engine.runner import BatchLost, Lost, Runner
from sandbox.file_links import FILES_TABLE
from sandbox.pool import Pool
from storage import (
    CatalogChange,
    Commit,
    DocumentWrite,
    LogEntry,
    SharedStore,
    Snapshot,
    Store,
)
from tidewell.ids import USER_TABLE_FIRST, encode_id
from tidewell.values import unpack_trusted

BATCH_MAX: Final = 64
CPU_PER_CALL_S: Final = 2.0
WALL_PER_CALL_S: Final = 10.0

Difference = Literal["writes", "result", "fails", "lost"]
OnProgress = Callable[[int], None]  # commits done


@attrs.frozen
class ChangedCall:
    """A call that did not come out as it did.

    Attributes:
      how: it wrote something else, returned something else, failed or lost its worker. It had
        returned then: what is in the log did.
    """

    commit: Committed
    how: tuple[Difference, ...]
    message: str = ""  # of the failure


@attrs.frozen
class SuffixReport:
    calls: int
    changed: tuple[ChangedCall, ...]
    documents: tuple[Change, ...]  # `before` as it is, `after` as it would be


@attrs.frozen
class _Settled:
    """A call that ran again."""

    entry: LogEntry
    commit: Commit | None  # of what it wrote
    changed: ChangedCall | None
    is_unlike_seen: bool = False  # what it commits is not what the calls behind it in its batch have seen


@attrs.define(eq=False)
class Suffix:
    """One replay of a suffix. Use it once.

    Args:
      fork: in the state before `left_out`.
      pool: of workers on the fork's store.
    """

    _source: SharedStore
    _left_out: LogEntry
    _fork: Store
    _pool: Pool
    _on_progress: OnProgress
    _versions: CodeVersions = attrs.field(init=False)
    _claims: KeptClaims = attrs.field(init=False)
    _touched: set[tuple[int, bytes]] = attrs.field(factory=set, init=False)
    _changed: list[ChangedCall] = attrs.field(factory=list, init=False)
    _calls: int = attrs.field(default=0, init=False)
    _done: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._versions = CodeVersions(self._source)
        self._claims = KeptClaims(self._fork)

    async def run(self) -> SuffixReport:
        """Replay, and compare.

        Raises:
          StoreError: something that came after it cannot happen on the fork.
          BackendFault: no worker could be had.
        """
        self._touch(self._left_out)
        self._fork.commit([Commit(self._left_out.ts, catalog=_tables_only(self._left_out.catalog))])
        batch: list[tuple[LogEntry, RecordedCall]] = []
        for entry in self._source.log(self._left_out.ts):
            self._touch(entry)
            record = read_commit(entry, self._versions.claims).record
            call = None if record is None else self._versions.recorded(entry, record)
            if batch and (call is None or not _go_together(batch[0][1], call) or len(batch) == BATCH_MAX):
                await self._run_batch(batch)
                batch = []
            if call is None:
                self._apply(entry)
            else:
                batch.append((entry, call))
        if batch:
            await self._run_batch(batch)
        return SuffixReport(self._calls, tuple(self._changed), tuple(self._differing_documents()))

    def _touch(self, entry: LogEntry) -> None:
        self._touched.update((write.table, write.internal_id) for write in entry.writes)

    def _advance(self, count: int = 1) -> None:
        self._done += count
        self._on_progress(self._done)

    # ---- what the engine did ---------------------------------------------------------

    def _apply(self, entry: LogEntry) -> None:
        """Commit what was no call as it was: a push, the engine's own rows, what a person edited by hand."""
        after = self._source.snapshot(entry.ts)
        now = self._fork.snapshot()
        with now:
            writes = tuple(
                DocumentWrite(write.table, write.internal_id, body)
                for write in entry.writes
                for body in [after.get(write.table, write.internal_id)]
                if body is not None or now.get(write.table, write.internal_id) is not None
            )
        change = entry.catalog
        private: tuple[tuple[bytes, bytes], ...] = ()
        if change is not None:
            for index_id in change.enable_indexes:
                backfill = self._fork.backfill(index_id)
                while not backfill.is_complete:
                    backfill.step()
            if change.schema:
                private = ((ACTIVE_KEY, change.schema.encode()),)
        self._fork.commit([Commit(entry.ts, writes, change, entry.record, private)])
        self._advance()

    # ---- calls -----------------------------------------------------------------------

    async def _run_batch(self, batch: list[tuple[LogEntry, RecordedCall]]) -> None:
        while batch:
            try:
                done = await self._run_together(batch)
            except BatchLost:
                done = await self._run_together(batch[:1])
            batch = batch[done:]

    async def _run_together(self, batch: list[tuple[LogEntry, RecordedCall]]) -> int:
        """Run calls in one message and commit what they wrote; return how many are through.

        Raises:
          BatchLost: none of several is.
        """
        runner = Runner(self._fork, self._pool, batch[0][1].production, self._files_table)
        outcomes = await runner.run(
            batch[0][1].code,
            [recorded.call for _, recorded in batch],
            begin_ts=self._fork.head_ts,
            cpu_s=CPU_PER_CALL_S * len(batch),
            wall_s=WALL_PER_CALL_S * len(batch),
        )
        settled: list[_Settled] = []
        for (entry, recorded), outcome in zip(batch, outcomes, strict=True):
            settled.append(self._settle(entry, recorded.record, outcome))
            if settled[-1].is_unlike_seen:
                break
        self._keep(settled)
        return len(settled)

    def _settle(self, entry: LogEntry, record: Record, outcome: GuestOutcome | Lost) -> _Settled:
        """Return what a call wrote and how it differs from its record."""
        was = Committed(entry, record)
        if isinstance(outcome, Lost):
            return _Settled(entry, None, ChangedCall(was, ("lost",), outcome.message))
        if outcome.failure is not None:
            return _Settled(entry, None, ChangedCall(was, ("fails",), outcome.failure.message.strip()))
        how: list[Difference] = []
        if digest(outcome.raw.writes) != record.writes_digest:
            how.append("writes")
        if digest(outcome.raw.value) != record.result:
            how.append("result")
        changed = ChangedCall(was, tuple(how)) if how else None
        if not outcome.writes:
            return _Settled(entry, None, changed)
        # As it ran this time, so that the log of the fork can be replayed too.
        kept = with_outcome(record, outcome).pack(names_claims=True)
        rows = tuple(self._claims.rows(record.identity, entry.ts))
        # Where documents wait for the timestamp of their commit, those behind it have seen them without.
        is_unlike_seen = outcome.writes.stamped(entry.ts) is not outcome.writes
        commit = outcome.writes.commit(entry.ts, record=kept, private=rows)
        return _Settled(entry, commit, changed, is_unlike_seen)

    def _files_table(self) -> int | None:
        info = self._fork.catalog().tables.get(FILES_TABLE)
        return None if info is None else info.number

    def _keep(self, settled: list[_Settled]) -> None:
        """Commit what calls wrote, with one sync. Raises `StoreError` for what no honest worker proposes."""
        self._fork.commit([each.commit for each in settled if each.commit is not None])
        for each in settled:
            if each.commit is not None:
                self._touched.update((write.table, write.internal_id) for write in each.commit.writes)
            if each.changed is not None:
                self._changed.append(each.changed)
        self._calls += len(settled)
        self._advance(len(settled))

    # ---- the difference --------------------------------------------------------------

    def _differing_documents(self) -> Iterator[Change]:
        is_now = self._source.snapshot()
        with self._fork.snapshot() as would_be:
            for table, internal_id in sorted(self._touched):
                if table < USER_TABLE_FIRST:
                    continue  # the engine's own
                before, after = is_now.get(table, internal_id), would_be.get(table, internal_id)
                if before != after:
                    yield _change(is_now, would_be, (table, internal_id), before, after)


def _go_together(first: RecordedCall, other: RecordedCall) -> bool:
    return first.code.hash == other.code.hash and first.production == other.production


def _tables_only(change: CatalogChange | None) -> CatalogChange | None:
    return None if change is None else CatalogChange(create_tables=change.create_tables)


def _change(
    is_now: Snapshot, would_be: Snapshot, place: tuple[int, bytes], before: bytes | None, after: bytes | None
) -> Change:
    info = is_now.catalog.by_number.get(place[0]) or would_be.catalog.by_number.get(place[0])
    operation: Operation = "insert" if before is None else "delete" if after is None else "update"
    return Change(
        f"table {place[0]}" if info is None else info.name,
        encode_id(*place),
        operation,
        None if before is None else unpack_trusted(before),
        None if after is None else unpack_trusted(after),
    )
