"""Queries: run once per distinct query and change, however many watch it.

An *entry* stands for one distinct query: path, arguments, identity, journal. It
holds the newest outcome and the half-open stretch of timestamps for which that
outcome is known to hold, `[outcome.ts, stale_since)`. Its read set is registered
in one interval index; a commit that writes inside it closes the stretch and rings
the doorbells of all who watch. Nothing is rerun then: sessions ask for results at
one timestamp when they are ready for them, and the first to ask runs the query.

Invariants:

* An entry whose outcome is open-ended (`stale_since` is None) is registered for
  its whole read set, so no commit can pass it by.
* Between the snapshot a query ran on and the moment its outcome is stored, no
  commit goes unnoticed: the write log is asked about that gap.
* An outcome is never handed out for a timestamp before the one it was computed at.
* Errors and results that read the clock are not served from the cache to
  newcomers once they are old (`function-semantics.md` 14.1, Q6 and Q7).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Final

import attrs
import trio

from engine.backend import BackendFault, Call, QueryOutcome
from engine.clock import Clock
from engine.guest_outcomes import may_call_internal
from engine.interval_index import IntervalIndex
from engine.promise import Promise
from storage import IndexKey, OutOfRetention, ReadSet, Timestamp, WriteLog
from tidewell.values import pack

CACHE_BYTES_MAX: Final = 100 * 2**20  # function-semantics 14.1, Q10
CLOCK_READ_EXPIRY_S: Final = 17.0  # Q7
SPREAD_ABOVE: Final = 200  # distinct queries that one commit may have rerun at once (14.2, S7)
SPREAD_S_EACH: Final = 0.005
_ENTRY_OVERHEAD_BYTES: Final = 1024  # a guess at an entry's own objects, so that tiny results count too


@attrs.frozen
class QueryKey:
    """What makes two queries the same query under one code version."""

    path: str
    args: bytes  # packed
    claims: bytes  # packed claims; the packed None for an anonymous caller
    internal: bool  # whether the caller may run internal functions
    journal: str | None


@attrs.frozen
class QueryRun:
    """What one execution gave. `reads` is None when a worker died before it could say."""

    outcome: QueryOutcome
    reads: ReadSet | None
    clock_read: bool = False
    bucket_s: int | None = None  # the smallest ctx.time_bucket() that was asked for


RunQuery = Callable[[Call, "QueryKey", Timestamp], Awaitable[QueryRun]]


@attrs.define(eq=False)
class QueryWatch:
    """One subscription's interest. Implements `engine.backend.Watch`."""

    _queries: Queries
    entry: Entry
    doorbell: Callable[[], None]
    seen: QueryOutcome | None = None  # the outcome last handed to this watch

    @property
    def is_current(self) -> bool:
        return self.seen is not None and self.entry.is_current and self.entry.outcome is self.seen

    def close(self) -> None:
        self._queries.close_watch(self)


@attrs.define(eq=False)
class Entry:
    call: Call
    key: QueryKey
    outcome: QueryOutcome | None = None  # None until the first run ends
    stale_since: Timestamp | None = (
        None  # the first commit the outcome does not hold for; None while open-ended
    )
    is_expired: bool = False  # time, not a commit, has ended the outcome
    expires_at: float | None = None  # monotonic seconds, after which newcomers do not share the outcome
    reads: ReadSet | None = None  # what is registered in the interval index
    running: Promise[None] | None = None
    switched_at: Timestamp | None = None  # set when other code became active during `running`
    watches: dict[QueryWatch, None] = attrs.field(factory=dict)  # a set in a reproducible order
    size_bytes: int = 0

    @property
    def is_current(self) -> bool:
        return self.outcome is not None and self.stale_since is None and not self.is_expired

    def holds_at(self, ts: Timestamp) -> bool:
        """Whether the outcome is known to be the result at `ts`."""
        if self.outcome is None or self.is_expired or ts < self.outcome.ts:
            return False
        return self.stale_since is None or ts < self.stale_since


@attrs.define(eq=False)
class Queries:
    """The query cache and all subscriptions of one deployment.

    Args:
      run: executes a query at a snapshot.
      write_log: the commits that snapshots can lag behind.
      head: returns the newest durable timestamp.
    """

    _run: RunQuery
    _write_log: WriteLog
    _head: Callable[[], Timestamp]
    _clock: Clock
    _cache_bytes_max: int = CACHE_BYTES_MAX
    _uniform: Callable[[], float] = float  # draws from [0, 1); 0 when nothing is said
    _entries: dict[QueryKey, Entry] = attrs.field(factory=dict, init=False)
    _idle: OrderedDict[QueryKey, Entry] = attrs.field(
        factory=OrderedDict, init=False
    )  # unwatched, oldest first
    _idle_bytes: int = attrs.field(default=0, init=False)
    _intervals: IntervalIndex[Entry] = attrs.field(factory=IntervalIndex, init=False)
    _deadlines: list[tuple[float, int, Entry, QueryOutcome]] = attrs.field(factory=list, init=False)  # a heap
    _rings: list[tuple[float, int, Entry]] = attrs.field(factory=list, init=False)  # put off; a heap
    _serial: Iterator[int] = attrs.field(factory=itertools.count, init=False)  # breaks ties in the heaps
    _sooner: trio.Event = attrs.field(factory=trio.Event, init=False)
    executions: int = attrs.field(default=0, init=False)  # queries really run, for tests and metrics

    # ---- asking ----------------------------------------------------------------

    async def query(self, call: Call, ts: Timestamp | None) -> QueryOutcome:
        """Return the outcome at `ts`, the newest snapshot by default; from the cache where that is known."""
        entry = self._entry(call, journal=None)
        self._unshelve(entry)
        if entry.outcome is not None and (
            entry.outcome.failure is not None
            or (entry.expires_at is not None and self._clock.monotonic() >= entry.expires_at)
        ):
            entry.is_expired = True
        try:
            return await self._outcome_at(entry, self._head() if ts is None else ts)
        finally:
            self._shelve(entry)

    def watch(self, call: Call, journal: str | None, doorbell: Callable[[], None]) -> QueryWatch:
        entry = self._entry(call, journal)
        self._unshelve(entry)
        watch = QueryWatch(self, entry, doorbell)
        entry.watches[watch] = None
        return watch

    def close_watch(self, watch: QueryWatch) -> None:
        watch.entry.watches.pop(watch, None)
        self._shelve(watch.entry)

    async def evaluate(self, watches: Sequence[QueryWatch], ts: Timestamp) -> list[QueryOutcome]:
        """Return the outcomes of `watches` at `ts`, running each distinct query that needs it once."""
        late = {watch.entry: None for watch in watches if not watch.entry.holds_at(ts)}
        computed: dict[Entry, QueryOutcome] = {
            watch.entry: watch.entry.outcome
            for watch in watches
            if watch.entry not in late and watch.entry.outcome is not None
        }

        faults: list[BackendFault] = []

        async def compute(entry: Entry) -> None:
            try:
                computed[entry] = await self._outcome_at(entry, ts)
            except BackendFault as fault:
                faults.append(fault)

        async with trio.open_nursery() as nursery:
            for entry in late:
                nursery.start_soon(compute, entry)
        if faults:
            raise faults[0]
        outcomes = []
        for watch in watches:
            outcome = watch.seen = computed[watch.entry]
            self._follow_journal(watch, outcome)
            outcomes.append(outcome)
        return outcomes

    # ---- being told ------------------------------------------------------------

    def announce(self, ts: Timestamp, keys: Iterable[IndexKey]) -> None:
        """A durable commit wrote `keys`: end the outcomes that read them, and ring."""
        touched: dict[Entry, None] = {}  # in a reproducible order
        for index_id, key in keys:
            touched.update(dict.fromkeys(self._intervals.stab(index_id, key)))
        is_spread = len(touched) > SPREAD_ABOVE
        for entry in touched:
            self._end(entry, ts, rings=not is_spread)
        if is_spread:
            self._ring_by_and_by(list(touched))

    def switch_code(self, ts: Timestamp) -> None:
        """The commit at `ts` made other code active: nothing computed before holds from there on."""
        for entry in list(self._entries.values()):
            if entry.is_current:
                self._end(entry, ts)
            elif entry.running is not None:
                entry.switched_at = ts

    async def run_timers(self) -> None:
        """End the outcomes that used a time bucket when their bucket does, and ring where that was put off;
        runs until cancelled."""
        while True:
            self._sooner = trio.Event()
            deadlines = [heap[0][0] for heap in (self._deadlines, self._rings) if heap]
            with trio.move_on_at(min(deadlines, default=math.inf)):
                await self._sooner.wait()
            while self._rings and self._rings[0][0] <= trio.current_time():
                _, _, entry = heapq.heappop(self._rings)
                for watch in list(entry.watches):
                    if not watch.is_current:  # the query may have been rerun for another one
                        watch.doorbell()
            while self._deadlines and self._deadlines[0][0] <= trio.current_time():
                _, _, entry, outcome = heapq.heappop(self._deadlines)
                if entry.outcome is outcome and entry.is_current:
                    entry.is_expired = True
                    self._ring(entry)

    # ---- entries ---------------------------------------------------------------

    def _entry(self, call: Call, journal: str | None) -> Entry:
        claims = call.identity.claims
        key = QueryKey(
            path=call.path,
            args=pack(call.args),
            claims=pack(None if claims is None else dict(sorted(claims.items()))),
            internal=may_call_internal(call),
            journal=journal,
        )
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(call, key)
        return entry

    def _follow_journal(self, watch: QueryWatch, outcome: QueryOutcome) -> None:
        """Pin the pages of a watch: from now on it is a watch of the query with the journal just produced.

        A newcomer without a journal must get a page of the size it asked for, so the
        two are different entries, with (P3) the same outcome at this timestamp.
        """
        old = watch.entry
        if outcome.journal is None or outcome.journal == old.key.journal:
            return
        key = attrs.evolve(old.key, journal=outcome.journal)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(old.call, key)
            if old.outcome is outcome and old.is_current and old.reads is not None:
                self._store(entry, QueryRun(outcome, old.reads), self._head())
        old.watches.pop(watch, None)
        self._shelve(old)
        self._unshelve(entry)
        watch.entry = entry
        entry.watches[watch] = None
        if (
            entry.outcome is not None
            and entry.outcome is not outcome
            and entry.outcome.digest == outcome.digest
        ):
            watch.seen = entry.outcome
        if not watch.is_current:
            watch.doorbell()

    async def _outcome_at(self, entry: Entry, ts: Timestamp) -> QueryOutcome:
        while True:
            if entry.outcome is not None:
                if entry.holds_at(ts):
                    return entry.outcome
                if ts < entry.outcome.ts and not entry.is_expired:
                    return (await self._execute(entry, ts)).outcome  # a look back; the newer outcome stays
            if entry.running is None:
                return await self._refresh(entry, ts)
            await entry.running.wait()

    async def _refresh(self, entry: Entry, ts: Timestamp) -> QueryOutcome:
        """Run `entry` at `ts` and store what comes, for all who wait."""
        promise = entry.running = Promise()
        entry.switched_at = None
        try:
            run = await self._execute(entry, ts)
            self._store(entry, run, self._head())
            return run.outcome
        finally:
            # Also when this task is cancelled: those who wait look again and one of them runs it.
            entry.running = None
            promise.keep(None)

    async def _execute(self, entry: Entry, ts: Timestamp) -> QueryRun:
        self.executions += 1
        return await self._run(entry.call, entry.key, ts)

    def _store(self, entry: Entry, run: QueryRun, head: Timestamp) -> None:
        self._unregister(entry)
        entry.outcome = run.outcome
        entry.stale_since = None
        entry.is_expired = False
        entry.expires_at = self._clock.monotonic() + CLOCK_READ_EXPIRY_S if run.clock_read else None
        entry.size_bytes = len(run.outcome.value_json) + len(entry.key.args) + _ENTRY_OVERHEAD_BYTES
        # Other code, or a commit that wrote what was read: whichever came first.
        ends = [ts for ts in (entry.switched_at, self._overtaken_at(run, head)) if ts is not None]
        if ends:
            entry.stale_since = min(ends)
            self._ring(entry)
        elif run.reads is not None:
            entry.reads = run.reads
            for index_id, start, end in run.reads.intervals():
                self._intervals.add(index_id, start, end, entry)
        if run.bucket_s is not None and run.outcome.failure is None:
            bucket_ms = run.bucket_s * 1000
            left_s = (bucket_ms - self._clock.now_ms() % bucket_ms) / 1000
            heapq.heappush(
                self._deadlines, (trio.current_time() + left_s, next(self._serial), entry, run.outcome)
            )
            self._sooner.set()

    def _overtaken_at(self, run: QueryRun, head: Timestamp) -> Timestamp | None:
        """Return the first durable commit after the snapshot that wrote what was read, or None."""
        if run.reads is None:
            return None
        try:
            conflict = self._write_log.find_conflict(run.reads, run.outcome.ts)
        except OutOfRetention:
            return run.outcome.ts + 1
        # A commit that is accepted and not yet durable is announced when it is.
        return conflict.ts if conflict is not None and conflict.ts <= head else None

    def _ring_by_and_by(self, entries: Sequence[Entry]) -> None:
        """Ring at random over some time, so that a commit which touches very many reruns does not hold up
        everything else. A session that updates before its turn, for a mutation of its own say, does not
        wait for it: it asks its watches, and they know already."""
        now, window_s = trio.current_time(), len(entries) * SPREAD_S_EACH
        for entry in entries:
            heapq.heappush(self._rings, (now + window_s * self._uniform(), next(self._serial), entry))
        self._sooner.set()

    def _end(self, entry: Entry, ts: Timestamp, *, rings: bool = True) -> None:
        self._unregister(entry)
        if entry.outcome is not None and entry.stale_since is None:
            entry.stale_since = ts
        if not entry.watches and entry.running is None:
            self._unshelve(entry)
            self._entries.pop(entry.key, None)
        if rings:
            self._ring(entry)

    def _ring(self, entry: Entry) -> None:
        for watch in list(entry.watches):
            watch.doorbell()

    def _unregister(self, entry: Entry) -> None:
        if entry.reads is not None:
            for index_id, start, end in entry.reads.intervals():
                self._intervals.discard(index_id, start, end, entry)
            entry.reads = None

    # ---- the part nobody watches -------------------------------------------------

    def _shelve(self, entry: Entry) -> None:
        """Keep an unwatched entry for the next who asks, as long as there is room."""
        if entry.watches or entry.running is not None:
            return
        if self._entries.get(entry.key) is not entry:
            self._unregister(entry)
            return
        if not entry.is_current or entry.reads is None or (entry.outcome and entry.outcome.failure):
            self._drop(entry)
            return
        if entry.key not in self._idle:
            self._idle[entry.key] = entry
            self._idle_bytes += entry.size_bytes
        self._idle.move_to_end(entry.key)
        while self._idle_bytes > self._cache_bytes_max:
            self._drop(next(iter(self._idle.values())))

    def _unshelve(self, entry: Entry) -> None:
        if self._idle.pop(entry.key, None) is not None:
            self._idle_bytes -= entry.size_bytes

    def _drop(self, entry: Entry) -> None:
        self._unshelve(entry)
        self._unregister(entry)
        self._entries.pop(entry.key, None)
