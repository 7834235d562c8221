"""Queries: run once per distinct query and change, however many watch it.

An *entry* stands for one distinct query: path, arguments, journal, and the identity if
executions look at it. It holds the newest outcome and the half-open stretch of timestamps
for which that is known to hold, `[outcome.ts, ended.ts)`. Its read set is registered; a
commit that writes inside it ends the stretch and rings the doorbells of all who watch.
Nothing is rerun then: sessions ask for results at one timestamp when they are ready for
them, and the first to ask runs the query.

Who asks matters only where an execution has asked for it. Up to that moment it cannot
differ between callers, so at one snapshot either all of them read their identity or none
does. A query nobody knows yet runs once, for its first caller; if that read the identity,
the outcome moves to an entry of that caller's, the common one is left *divided*, and
everybody else gets an entry of their own (Q1, Q2, Q5). It becomes common again by the
first run that does not ask.

Invariants:

* An entry whose outcome is open-ended is registered for all it read, so no commit can
  pass it by.
* Between the snapshot a query ran on and the moment its outcome is stored, no commit goes
  unnoticed: the write log is asked about that gap.
* An outcome is never handed out for a timestamp before the one it was computed at, and to
  another identity only if it did not read one.
* Errors and results that read the clock are not served to newcomers once they are old
  (Q6, Q7).
* A watch whose outcome is not the current one has been rung, or will be at a time that is
  set, or is just being evaluated.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import attrs
import trio

from engine.alarms import Alarms
from engine.backend import BackendFault, Call, QueryOutcome
from engine.clock import Clock
from engine.doorbells import SPREAD_ABOVE, Doorbells
from engine.guest_outcomes import may_call_internal, pack_claims
from engine.promise import Promise
from engine.query_entries import OVERHEAD_BYTES, Ended, Entry, Lookup, QueryKey, QueryRun, Watcher
from engine.read_registry import ReadRegistry, overtaken
from storage import Changes, Timestamp, WriteLog
from tidewell.values import pack

CACHE_BYTES_MAX: Final = 100 * 2**20  # function-semantics 14.1, Q10
CLOCK_READ_EXPIRY_S: Final = 17.0  # Q7
LOST_RETRY_S: Final = 5.0  # a query that costs its worker again costs one each time

RunQuery = Callable[[Call, QueryKey, Timestamp], Awaitable[QueryRun]]
_Place = tuple[Entry, bytes]  # where a watch looks for its outcome, and for whom


@attrs.define(eq=False)
class QueryWatch(Watcher):
    """Implements `engine.backend.Watch`."""

    _queries: Queries = attrs.field(kw_only=True)

    def close(self) -> None:
        self._queries.close_watch(self)


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
    _registry: ReadRegistry = attrs.field(factory=ReadRegistry, init=False)
    _alarms: Alarms = attrs.field(factory=Alarms, init=False)
    _doorbells: Doorbells = attrs.field(init=False)
    executions: int = attrs.field(default=0, init=False)  # queries really run, for tests and metrics

    def __attrs_post_init__(self) -> None:
        self._doorbells = Doorbells(self._alarms, self._uniform)

    # ---- asking ----------------------------------------------------------------

    async def query(self, call: Call, ts: Timestamp | None) -> QueryOutcome:
        """Return the outcome at `ts`, the newest snapshot by default; from the cache where that is known."""
        return (await self.explained(call, ts))[0]

    async def explained(self, call: Call, ts: Timestamp | None) -> tuple[QueryOutcome, Lookup, bool]:
        """Return also what the cache had, and whether the outcome is the caller's own (Q12)."""
        ts = self._head() if ts is None else ts
        key, claims = _key_of(call, None), pack_claims(call.identity)
        entry = self._entry(key, claims)
        self._expire_for_newcomer(entry)
        lookup = entry.lookup() if entry.is_current == entry.holds_at(ts) else Lookup("miss")
        try:
            entry, outcome = await self._outcome_at(call, key, claims, ts)
        finally:
            self._shelve(entry)
        return outcome, lookup, entry.key.claims is not None

    def watch(
        self, call: Call, journal: str | None, doorbell: Callable[[], None], *, min_interval_s: float = 0.0
    ) -> QueryWatch:
        """Watch a query.

        Args:
          min_interval_s: between two evaluations, as far as the doorbell has a say in them (S12).
        """
        key, claims = _key_of(call, journal), pack_claims(call.identity)
        entry = self._entry(key, claims)
        self._unshelve(entry)
        watch = QueryWatch(call, key, claims, doorbell, entry, min_interval_s, queries=self)
        entry.watches[watch] = None
        return watch

    def close_watch(self, watch: QueryWatch) -> None:
        watch.entry.watches.pop(watch, None)
        self._shelve(watch.entry)

    async def evaluate(self, watches: Sequence[QueryWatch], ts: Timestamp) -> list[QueryOutcome]:
        """Return the outcomes of `watches` at `ts`, running each distinct query that needs it once."""
        computed: dict[_Place, tuple[Entry, QueryOutcome]] = {}
        late: dict[_Place, QueryWatch] = {}
        places: list[_Place] = []
        for watch in watches:
            entry = watch.entry
            if watch.seen is None:
                self._expire_for_newcomer(entry)
            place = entry, watch.claims
            if entry.outcome is not None and entry.holds_at(ts):
                computed[place] = entry, entry.outcome
            else:
                late.setdefault(place, watch)
            places.append(place)
        if len(late) == 1:  # nearly always: no need for tasks
            for place, watch in late.items():
                computed[place] = await self._outcome_at(watch.call, watch.key, watch.claims, ts)
        elif late:
            await self._compute_together(late, ts, computed)
        outcomes = []
        for place, watch in zip(places, watches, strict=True):
            home, outcome = computed[place]
            self._settle(watch, home, outcome)
            outcomes.append(outcome)
        return outcomes

    async def _compute_together(
        self,
        late: dict[_Place, QueryWatch],
        ts: Timestamp,
        computed: dict[_Place, tuple[Entry, QueryOutcome]],
    ) -> None:
        faults: list[BackendFault] = []

        async def compute(place: _Place, watch: QueryWatch) -> None:
            try:
                computed[place] = await self._outcome_at(watch.call, watch.key, watch.claims, ts)
            except BackendFault as fault:
                faults.append(fault)

        async with trio.open_nursery() as nursery:
            for place, watch in late.items():
                nursery.start_soon(compute, place, watch)
        if faults:
            raise faults[0]

    # ---- being told ------------------------------------------------------------

    def announce(self, ts: Timestamp, changes: Changes) -> None:
        """A durable commit made `changes`: end the outcomes that depend on them, and ring."""
        touched = self._registry.touched(changes)
        is_spread = len(touched) > SPREAD_ABOVE
        for entry, key in touched.items():
            self._end(entry, Ended("commit", ts, key), rings=not is_spread)
        if is_spread:
            self._doorbells.ring_by_and_by(list(touched))

    def switch_code(self, ts: Timestamp) -> None:
        """The commit at `ts` made other code active: nothing computed before holds from there on."""
        for entry in list(self._entries.values()):
            entry.is_divided = False
            if entry.is_current:
                self._end(entry, Ended("code", ts))
            elif entry.running is not None:
                entry.switched_at = ts

    async def run_timers(self) -> None:
        """End the outcomes that used a time bucket when their bucket does, and ring where that was put off;
        runs until cancelled."""
        await self._alarms.run()

    # ---- entries ---------------------------------------------------------------

    def _entry(self, key: QueryKey, claims: bytes) -> Entry:
        """Return where an outcome is, or will be looked for: made if need be."""
        common = self._entry_of(key)
        if not common.is_divided:
            return common
        if common.key in self._idle:
            self._idle.move_to_end(common.key)
        return self._entry_of(attrs.evolve(key, claims=claims))

    def _entry_of(self, key: QueryKey) -> Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(key)
        return entry

    async def _outcome_at(
        self, call: Call, key: QueryKey, claims: bytes, ts: Timestamp
    ) -> tuple[Entry, QueryOutcome]:
        """Return the outcome and where it is at home."""
        entry = self._entry(key, claims)
        while True:
            outcome = entry.outcome
            if outcome is not None:
                if entry.holds_at(ts):
                    return entry, outcome
                if ts < outcome.ts and not (entry.ended is not None and entry.ended.cause == "time"):
                    # A look back, of which nothing is kept.
                    return entry, (await self._execute(entry, call, ts)).outcome
            if entry.running is None:
                return await self._refresh(entry, call, claims, ts)
            await entry.running.wait()
            if not entry.holds_at(ts):
                entry = self._entry(key, claims)

    async def _refresh(
        self, entry: Entry, call: Call, claims: bytes, ts: Timestamp
    ) -> tuple[Entry, QueryOutcome]:
        """Run `entry` at `ts` and store what comes where it belongs, for all who wait."""
        self._unshelve(entry)
        promise = entry.running = Promise()
        entry.switched_at = None
        try:
            run = await self._execute(entry, call, ts)
            home = self._home_of(entry, claims, run)
            if home is entry or self._may_replace(home, run):
                self._store(home, run, entry.switched_at)
                self._shelve(home)
            return home, run.outcome
        finally:
            # Also when this task is cancelled: those who wait look again and one of them runs it.
            entry.running = None
            promise.keep(None)
            self._shelve(entry)

    async def _execute(self, entry: Entry, call: Call, ts: Timestamp) -> QueryRun:
        self.executions += 1
        return await self._run(call, entry.key, ts)

    def _home_of(self, entry: Entry, claims: bytes, run: QueryRun) -> Entry:
        """Return the entry for what a run of `entry` gave: the common one exactly if no identity was read."""
        is_common = entry.key.claims is None
        if is_common != run.identity_read:
            return entry
        if is_common:
            self._end_of_common(entry)
            return self._entry_of(attrs.evolve(entry.key, claims=claims))
        common = self._entry_of(attrs.evolve(entry.key, claims=None))
        common.is_divided = False
        return common

    def _end_of_common(self, entry: Entry) -> None:
        """The query reads the identity now: each caller's outcome is at home in an entry of their own."""
        self._registry.discard(entry)
        entry.forget_outcome()
        entry.is_divided = True

    def _may_replace(self, home: Entry, run: QueryRun) -> bool:
        """Whether the outcome of another entry's run belongs into `home`, which may have been in use."""
        return home.running is None and (home.outcome is None or home.outcome.ts <= run.outcome.ts)

    def _store(self, entry: Entry, run: QueryRun, switched_at: Timestamp | None = None) -> None:
        self._registry.discard(entry)
        self._unshelve(entry)
        outcome = run.outcome
        entry.run = run
        entry.computed_ts = outcome.ts
        entry.expires_at = self._clock.monotonic() + CLOCK_READ_EXPIRY_S if run.clock_read else None
        entry.size_bytes = len(outcome.value_json) + len(entry.key.args) + OVERHEAD_BYTES
        entry.ended = overtaken(run, self._write_log, self._head())
        # A commit before the switch may have ended the outcome already.
        if switched_at is not None and (entry.ended is None or switched_at < entry.ended.ts):
            entry.ended = Ended("code", switched_at)
        if entry.ended is not None:
            self._doorbells.ring(entry)
        elif run.reads is not None:
            self._registry.add(entry, run)
            if run.bucket_ends_ms is not None and outcome.failure is None:
                left_s = (run.bucket_ends_ms - self._clock.now_ms()) / 1000
                self._alarms.set(trio.current_time() + left_s, partial(self._end_in_time, entry, run))
        else:
            # Its worker died before it could say what it had read, so no commit can end this outcome.
            entry.expires_at = self._clock.monotonic()
            self._alarms.set(trio.current_time() + LOST_RETRY_S, partial(self._end_in_time, entry, run))

    # ---- the ends of outcomes --------------------------------------------------------

    def _end(self, entry: Entry, ended: Ended, *, rings: bool = True) -> None:
        self._registry.discard(entry)
        if entry.is_current:
            entry.ended = ended
        if not entry.watches and entry.running is None:
            self._unshelve(entry)
            self._shelve(entry)
        elif rings:
            self._doorbells.ring(entry)

    def _end_in_time(self, entry: Entry, run: QueryRun) -> None:
        if entry.run is run and entry.is_current:
            self._end(entry, Ended("time", self._head()))

    def _expire_for_newcomer(self, entry: Entry) -> None:
        """End an outcome that those who have it may keep, and nobody else is to get."""
        if entry.outcome is None or not entry.is_current:
            return
        if entry.expires_at is not None and self._clock.monotonic() >= entry.expires_at:
            self._end(entry, Ended("time", self._head()))

    # ---- watches -----------------------------------------------------------------------

    def _settle(self, watch: QueryWatch, home: Entry, outcome: QueryOutcome) -> None:
        """Hand `outcome` to a watch, which moves in where that is at home.

        With pages it is pinned there: from now on it is a watch of the query with the journal just
        produced. A newcomer without a journal must get a page of the size it asked for, so the two
        are different entries, with (P3) the same outcome at this timestamp.
        """
        if outcome.journal is not None and outcome.journal != home.key.journal:
            home = self._pinned(home, outcome)
            watch.key = attrs.evolve(watch.key, journal=outcome.journal)
        old = watch.entry
        is_open = watch in old.watches  # the session may have ended meanwhile
        if old is not home:
            watch.entry = home
            if is_open:
                del old.watches[watch]
                self._unshelve(home)
                home.watches[watch] = None
            self._shelve(old)
            self._shelve(home)
        current = home.outcome
        is_same = current is not None and current.digest == outcome.digest
        watch.seen = current if is_same else outcome
        if watch.min_interval_s:
            watch.quiet_until = trio.current_time() + watch.min_interval_s
        if is_open and not watch.is_current:
            self._doorbells.ring_for(watch)

    def _pinned(self, home: Entry, outcome: QueryOutcome) -> Entry:
        """Return the entry for the journal of `outcome`, with this outcome if it has none (Q9)."""
        if home.key.claims is not None:
            self._entry_of(attrs.evolve(home.key, journal=outcome.journal, claims=None)).is_divided = True
        entry = self._entry_of(attrs.evolve(home.key, journal=outcome.journal))
        run = home.run
        if entry.run is not None or entry.running is not None or run is None or run.reads is None:
            return entry
        if run.outcome is outcome and home.is_current:
            self._store(entry, run)
        return entry

    # ---- the part nobody watches -------------------------------------------------

    def _shelve(self, entry: Entry) -> None:
        """Keep an unwatched entry for the next who asks, as long as there is room.

        Of one that does not hold any more is kept why.
        """
        if entry.watches or entry.running is not None or self._entries.get(entry.key) is not entry:
            return
        self._unshelve(entry)
        if not entry.is_current:
            entry.forget_outcome()
            if entry.ended is None and not entry.is_divided:
                del self._entries[entry.key]  # nothing is known of it
                return
        elif entry.run is not None and (entry.run.reads is None or entry.run.outcome.failure is not None):
            self._drop(entry)
            return
        self._idle[entry.key] = entry
        self._idle_bytes += entry.size_bytes
        while self._idle_bytes > self._cache_bytes_max:
            self._drop(next(iter(self._idle.values())))

    def _unshelve(self, entry: Entry) -> None:
        if self._idle.pop(entry.key, None) is not None:
            self._idle_bytes -= entry.size_bytes

    def _drop(self, entry: Entry) -> None:
        self._unshelve(entry)
        self._registry.discard(entry)
        del self._entries[entry.key]


def _key_of(call: Call, journal: str | None) -> QueryKey:
    return QueryKey(call.path, pack(call.args), None, may_call_internal(call), journal)
