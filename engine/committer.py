"""The committer: decides the order of commits, and makes them durable in groups.

A proposal is *accepted* the moment its reads are found not to have been written
since its snapshot: it gets the next timestamp, enters the write log, and later
proposals are judged against it. It is *committed* when the store has synced the
group it travels in. Between the two it is visible to executions only as an
overlay, and to nobody outside the engine.

**The commit point** is the return of `Store.commit`. Before it, a fault takes back
every accepted proposal; after it, nothing can. If the store cannot tell which side
of it we are on, `CommitOutcomeUnknown` ends the process, and recovery reads the
answer from the disk (`function-semantics.md` T6).

Invariants:

* Timestamps rise strictly, over restarts too.
* Every accepted proposal was checked against every proposal accepted before it
  and after its snapshot: durable or not, in one write log.
* `head_ts` moves only after the group is durable, and announcing happens in the
  same step of the event loop as the move: nobody sees a head without its
  invalidations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import attrs
import trio

from engine.backend import BackendFault
from engine.clock import Clock
from engine.offload import RunBlocking
from engine.promise import Promise
from storage import (
    Catalog,
    CatalogChange,
    Changes,
    Commit,
    CommitOutcomeUnknown,
    Conflict,
    Entry,
    IndexKey,
    OutOfRetention,
    ReadSet,
    Store,
    StoreError,
    Timestamp,
    WriteLog,
    WriteSet,
)

GROUP_MAX: Final = 1000  # commits in one sync; 18 µs each at this size (performance-notes 1), 64 would be 39
WRITE_LOG_SPAN_NS: Final = 60 * 10**9
WRITE_LOG_SPAN_MIN_NS: Final = 30 * 10**9  # kept however large it is (T7)
WRITE_LOG_BYTES_MAX: Final = 50 * 2**20  # above it only that span is kept (function-semantics 19.3)


@attrs.frozen
class Overtaken(Exception):
    """A commit wrote what the proposal had read (or the log cannot rule it out)."""

    conflict: Conflict | None = (
        None  # the first write in the way; None when what was seen is no more, or too old
    )

    @property
    def conflict_ts(self) -> Timestamp | None:
        return None if self.conflict is None else self.conflict.ts


class Rows(Protocol):
    def __call__(self, begin_ts: Timestamp, commit_ts: Timestamp) -> Iterable[tuple[bytes, bytes | None]]:
        """Return the private rows to write with the commit."""


class Record(Protocol):
    def __call__(self, begin_ts: Timestamp, commit_ts: Timestamp) -> bytes:
        """Return the commit's log record."""


def no_rows(begin_ts: Timestamp, commit_ts: Timestamp) -> Iterable[tuple[bytes, bytes | None]]:
    return ()


def _nothing() -> None:
    """Nobody asked to be told."""


def no_record(begin_ts: Timestamp, commit_ts: Timestamp) -> bytes:
    return b""


@attrs.define(eq=False)
class View:
    """What an execution saw, and those that follow it in a chain.

    The snapshot at `begin_ts`, all that was accepted up to `seen_ts` over it, and
    over that the commits of the chain itself.
    """

    begin_ts: Timestamp
    seen_ts: Timestamp = attrs.field()
    _losses: int = 0  # of the committer, when the view was taken
    _own: set[Timestamp] = attrs.field(factory=set, init=False)
    # What others have committed since, and when that was looked up, in the committer's count of acceptances.
    _others: WriteLog | None = attrs.field(default=None, init=False)
    _others_as_of: int = attrs.field(default=-1, init=False)

    @seen_ts.default
    def _nothing_accepted(self) -> Timestamp:
        return self.begin_ts

    def follow(self, ts: Timestamp) -> None:
        """The next execution of the chain has seen this commit too."""
        self._own.add(ts)

    def seen_before(self, ts: Timestamp) -> Timestamp:
        """Return the newest commit before `ts` that it shows: the snapshot to look at for what was read."""
        return max((own for own in self._own if own < ts), default=self.seen_ts)

    def has_lost(self, losses: int) -> bool:
        """Whether something it shows was taken back since, by the committer's count."""
        return losses != self._losses and bool(self._own or self.seen_ts > self.begin_ts)

    def others(self, log: WriteLog, lost: set[Timestamp], accepted: int) -> WriteLog | None:
        """Return what others have committed since, None for nothing. Raises `OutOfRetention`.

        The calls of a chain are judged in a row and all but the first find this done. Asking the
        whole log instead would walk, for each of them, over the commits of those before it.
        """
        as_of = accepted - len(self._own)
        if as_of != self._others_as_of:
            # What was lost never happened. Taking it for a conflict would stop everybody who
            # reads it until some other commit moves the head past it.
            entries = [
                entry
                for entry in log.entries_after(self.seen_ts)
                if entry.ts not in self._own and entry.ts not in lost
            ]
            self._others = WriteLog(horizon=self.seen_ts) if entries else None
            for entry in entries:
                assert self._others is not None
                self._others.append(entry)
            self._others_as_of = as_of
        return self._others


@attrs.frozen
class Proposal:
    """A transaction that ran and would like to be committed."""

    view: View
    reads: ReadSet
    writes: WriteSet
    code: str | None  # the code version it ran; None for the engine's own transactions
    record: Record = no_record
    rows: Rows = no_rows
    catalog: CatalogChange | None = None
    packed_writes: bytes = b""  # `writes` as they came, if they came packed
    on_head: Callable[[Timestamp], None] | None = None  # called in the step in which the head moves to it


@attrs.frozen(eq=False)
class Accepted:
    ts: Timestamp
    proposal: Proposal
    commit: Commit
    changes: Changes
    # Kept with `ts`, or failed with `BackendFault` when the store refused the group.
    durable: Promise[Timestamp] = attrs.field(factory=Promise)

    @property
    def packed_writes(self) -> bytes:
        """What travels to workers as part of the overlay."""
        return self.proposal.packed_writes or self.proposal.writes.pack()


@attrs.define(eq=False)
class Committer:
    """One per deployment. `run` must be running for anything to become durable."""

    _store: Store
    write_log: WriteLog
    _clock: Clock
    _announce: Callable[[Timestamp, Changes], None]
    _run_blocking: RunBlocking
    active_code: str | None = None
    _write_log_bytes_max: int = WRITE_LOG_BYTES_MAX
    _accepted: deque[Accepted] = attrs.field(factory=deque, init=False)  # not yet durable, oldest first
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    is_over: bool = attrs.field(default=False, init=False)  # nobody writes any more
    on_take_back: Callable[[], None] = attrs.field(default=_nothing, init=False)
    _newest: Timestamp = attrs.field(default=0, init=False)
    _lost: set[Timestamp] = attrs.field(factory=set, init=False)  # accepted, then refused by the store
    _losses: int = attrs.field(default=0, init=False)  # groups refused
    _acceptances: int = attrs.field(default=0, init=False)
    # The write sets of `_accepted`, as the store asks for them.
    _layers: list[tuple[Timestamp, WriteSet]] = attrs.field(factory=list, init=False)
    _logged: deque[tuple[Timestamp, int]] = attrs.field(factory=deque, init=False)  # what is in the write log
    _logged_bytes: int = attrs.field(default=0, init=False)
    head_ts: Timestamp = attrs.field(default=0, init=False)
    syncs: int = attrs.field(default=0, init=False)  # groups written, for tests and metrics
    commits: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.head_ts = self._newest = self._store.head_ts

    # ---- before the commit point ---------------------------------------------

    @property
    def accepted_ts(self) -> Timestamp:
        """The newest accepted timestamp, durable or not."""
        return self._accepted[-1].ts if self._accepted else self.head_ts

    def overlay(self) -> list[Accepted]:
        """Return what is accepted and not yet durable, oldest first: the overlay over `head_ts`."""
        return list(self._accepted)

    def check(self, view: View, reads: ReadSet, code: str | None) -> None:
        """Raise `Overtaken` unless what was read from `view` still stands, all accepted commits counted."""
        if code is not None and code != self.active_code:
            raise Overtaken(None)
        if view.has_lost(self._losses):
            raise Overtaken(None)
        try:
            others = view.others(self.write_log, self._lost, self._acceptances)
        except OutOfRetention:
            raise Overtaken(None) from None
        conflict = others.find_conflict(reads, view.seen_ts) if others is not None else None
        if conflict is not None:
            raise Overtaken(conflict)

    def record_of(self, ts: Timestamp) -> bytes:
        """Return the log record of an accepted commit; nothing for one that was taken back."""
        for accepted in self._accepted:
            if accepted.ts == ts:
                return accepted.commit.record
        entry = self._store.log_entry(ts)
        return b"" if entry is None else entry.record

    def keys_of(self, ts: Timestamp) -> tuple[IndexKey, ...]:
        """Return the keys that a recent commit wrote, durable or not; none for one that is forgotten."""
        try:
            entries = self.write_log.entries_after(ts - 1)
        except OutOfRetention:
            return ()
        return entries[0].keys if entries and entries[0].ts == ts else ()

    def catalog(self) -> Catalog:
        return self._store.catalog()

    def view(self) -> View:
        """Return the newest view: the snapshot at `head_ts` with `overlay` over it."""
        return View(self.head_ts, self.accepted_ts, self._losses)

    def accept(self, proposal: Proposal) -> Accepted:
        """Give `proposal` its place in the order. Synchronous: nothing happens in between.

        Raises:
          Overtaken: run it again on a newer snapshot.
          StoreError: the writes themselves are refused (a unique index, say).
        """
        self.check(proposal.view, proposal.reads, proposal.code)
        # Nothing up to here wrote what was read: this is a snapshot it could have had.
        begin_ts = self.accepted_ts
        ts = max(self._clock.now_ns(), self._newest + 1)
        stamped = proposal.writes.stamped(ts)
        if stamped is not proposal.writes:
            proposal = attrs.evolve(proposal, writes=stamped, packed_writes=b"")
        changes = self._store.changes(proposal.writes, self._layers, proposal.catalog)
        commit = Commit(
            ts=ts,
            writes=proposal.writes.documents,
            catalog=proposal.catalog or proposal.writes.catalog_change,
            record=proposal.record(begin_ts, ts),
            private=tuple(proposal.rows(begin_ts, ts)),
        )
        accepted = Accepted(ts, proposal, commit, changes)
        if changes.keys:
            entry = Entry(ts, changes.keys, changes.in_place)
            self.write_log.append(entry)
            self._logged.append((ts, entry.size_bytes))
            self._logged_bytes += entry.size_bytes
        self._newest = ts
        if self.is_over:
            accepted.durable.fail(_cut_off())
            return accepted
        self._accepted.append(accepted)
        self._layers.append((ts, proposal.writes))
        self._acceptances += 1
        self._wake.set()
        return accepted

    async def write_rows(self, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Commit private rows alone. Raises `BackendFault` when the store refuses them."""
        kept = tuple(rows)
        view = View(self.accepted_ts)
        await self.accept(Proposal(view, ReadSet(), WriteSet(), None, rows=lambda *_: kept)).durable.wait()

    # ---- the commit point and after ----------------------------------------------

    async def run(self) -> None:
        """Write groups until `close` is called and nothing is left to write."""
        try:
            while True:
                if not self._accepted:
                    if self._closing:
                        return
                    self._wake = trio.Event()
                    await self._wake.wait()
                    continue
                group = [self._accepted[index] for index in range(min(len(self._accepted), GROUP_MAX))]
                await self._write(group)
        finally:
            # Cut off, or the outcome of a group is unknown. Nobody writes any more, and some wait shielded.
            self.is_over = True
            cut_off = list(self._accepted)
            self._accepted.clear()
            self._layers.clear()
            for accepted in cut_off:
                if not accepted.durable.is_settled:
                    accepted.durable.fail(_cut_off())

    def close(self) -> None:
        """Let `run` end once everything accepted is durable."""
        self._closing = True
        self._wake.set()

    async def _write(self, group: list[Accepted]) -> None:
        commits = [accepted.commit for accepted in group]
        try:
            # Not cancellable: a group half reported would be an outcome nobody knows.
            with trio.CancelScope(shield=True):
                await self._run_blocking(self._store.commit, commits)
        except CommitOutcomeUnknown:
            raise  # nobody is told anything: only the disk knows which side of the commit point we are on
        except StoreError as error:
            self._take_back(error)
            return
        self.syncs += 1
        self.commits += len(group)
        del self._layers[: len(group)]
        try:
            for accepted in group:
                self._accepted.popleft()
                self.head_ts = accepted.ts
                if accepted.proposal.on_head is not None:
                    accepted.proposal.on_head(accepted.ts)
                self._announce(accepted.ts, accepted.changes)
        finally:
            # All of them are durable, also when something that was told of one fell over.
            for accepted in group:
                accepted.durable.keep(accepted.ts)
        self._trim()

    def _trim(self) -> None:
        """Let the write log forget what is old: up to an old commit, and not up to an old moment.

        After a quiet hour the commit before it is the newest one and old all the same, and what
        reads from it now would be overtaken by nobody and refused.
        """
        horizon = None
        while self._logged:
            ts, size_bytes = self._logged[0]
            is_large = self._logged_bytes > self._write_log_bytes_max
            if ts > self.head_ts - (WRITE_LOG_SPAN_MIN_NS if is_large else WRITE_LOG_SPAN_NS):
                break
            self._logged.popleft()
            self._logged_bytes -= size_bytes
            horizon = ts
        if horizon is not None:
            self.write_log.trim(horizon)
            # Views over lost commits from before that are refused because the log does not reach so far.
            self._lost = {ts for ts in self._lost if ts > horizon}

    def _take_back(self, error: StoreError) -> None:
        """The store refused a group and wrote nothing. What was accepted later may have seen it: all fail.

        Their entries stay in the write log, where `check` passes over them.
        """
        fault = BackendFault("StoreRefused", str(error), transient=True)
        refused = list(self._accepted)
        self._accepted.clear()
        self._layers.clear()
        self._losses += 1
        self._lost.update(accepted.ts for accepted in refused)
        self.on_take_back()  # nothing is accepted now but what is durable
        for accepted in refused:
            accepted.durable.fail(fault)


def _cut_off() -> BackendFault:
    return BackendFault(
        "ShuttingDown",
        "the server is shutting down, and whether this was committed is not known",
        transient=True,
    )
