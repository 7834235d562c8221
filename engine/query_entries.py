"""What the query cache holds: distinct queries, their outcomes, and who watches them.

Plain records. `engine.queries` decides what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import attrs

from engine.backend import Call, QueryOutcome
from engine.promise import Promise
from storage import NO_FIELD_READS, FieldReads, IndexKey, ReadSet, Timestamp

OVERHEAD_BYTES: Final = 1024  # a guess at an entry's own objects, so that tiny results count too


@attrs.frozen
class QueryKey:
    """What makes two queries the same query under one code version (Q1)."""

    path: str
    args: bytes  # packed
    claims: bytes | None  # packed claims, the packed None for nobody; None for whoever asks
    internal: bool  # whether the caller may run internal functions
    journal: str | None


@attrs.frozen
class QueryRun:
    """What one execution gave. `reads` is None when a worker died before it could say."""

    outcome: QueryOutcome
    reads: ReadSet | None
    fields: FieldReads = NO_FIELD_READS  # read besides, a few fields of each document
    room_bytes: int = 0  # what those documents may grow by before it might pass a limit that it did not pass
    identity_read: bool = False
    clock_read: bool = False
    bucket_ends_ms: float | None = None  # when the first of its time buckets ends, by the wall clock


@attrs.frozen
class Ended:
    """Why an outcome does not hold any more."""

    cause: Literal["commit", "code", "time"]
    ts: Timestamp  # the first commit that it does not hold for; for "time", the newest when it was found old
    key: IndexKey | None = None  # that was written, where it is a commit


@attrs.frozen
class Lookup:
    """What the cache had for a call (Q12)."""

    status: Literal["hit", "miss", "stale"]
    computed_ts: Timestamp | None = None  # of the outcome that was found
    ended: Ended | None = None  # what became of it, where it is stale


@attrs.define(eq=False)
class Entry:
    """One distinct query. `key.claims` is None as long as it has not been seen to read the identity."""

    key: QueryKey
    run: QueryRun | None = None  # the newest; None before the first, and again once it has ended unwatched
    ended: Ended | None = None  # None while the outcome is open-ended, and before the first
    expires_at: float | None = None  # monotonic seconds, after which newcomers do not share the outcome
    is_divided: bool = (
        False  # without claims: the last run read the identity, so each caller has an own entry
    )
    running: Promise[None] | None = None
    switched_at: Timestamp | None = None  # set when other code became active during `running`
    computed_ts: Timestamp | None = None  # of the last outcome, kept when that is forgotten
    watches: dict[Watcher, None] = attrs.field(factory=dict)  # a set in a reproducible order
    size_bytes: int = OVERHEAD_BYTES

    @property
    def outcome(self) -> QueryOutcome | None:
        return None if self.run is None else self.run.outcome

    @property
    def is_current(self) -> bool:
        return self.run is not None and self.ended is None

    def holds_at(self, ts: Timestamp) -> bool:
        """Whether the outcome is known to be the result at `ts`."""
        if self.run is None or ts < self.run.outcome.ts:
            return False
        return self.ended is None or (self.ended.cause != "time" and ts < self.ended.ts)

    def lookup(self) -> Lookup:
        if self.is_current:
            return Lookup("hit", self.computed_ts)
        return Lookup("miss") if self.ended is None else Lookup("stale", self.computed_ts, self.ended)

    def forget_outcome(self) -> None:
        """Keep no more than why it ended."""
        self.run = None
        self.size_bytes = OVERHEAD_BYTES + len(self.key.args)


@attrs.define(eq=False)
class Watcher:
    """One subscription's interest, at home in the entry that has its outcome."""

    call: Call
    key: QueryKey  # without claims; its journal is that of the last outcome that had one
    claims: bytes  # packed
    doorbell: Callable[[], None]
    entry: Entry
    min_interval_s: float = 0.0
    seen: QueryOutcome | None = None  # the outcome last handed to this watch
    quiet_until: float = 0.0  # in trio's time: no doorbell before
    is_ring_due: bool = False  # when that time comes

    @property
    def is_current(self) -> bool:
        return self.seen is not None and self.entry.is_current and self.entry.outcome is self.seen
