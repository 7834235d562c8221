"""Mutations: from a call to a durable commit, however often it takes.

Calls queue up while the workers are busy and travel in batches that form by
themselves (`mutation_queue` decides which). A batch runs in one worker, one call
after another, each seeing the accepted commits and the writes of the calls before
it: a hot document is limited by the speed of execution, and calls that follow one
another this way do not conflict. Calls that ran side by side in two lanes may, and
then run again.

Life of a job: queued -> in a batch -> accepted -> durable. From "in a batch" it
returns to the queue when its reads were overtaken, after a pause (12.4) the first
times, and the last time alone: no other batch runs beside an exclusive one, so
nothing can overtake it. A mutation never fails because others are busy. A function
with `retries=0` therefore runs exclusively at once.

Invariants:

* A job is settled once, and belongs to the engine: a caller that goes away does
  not cancel it.
* Every attempt has a fresh seed, and a clock that is not below the attempt before.
* A reply never shows what is not durable: a result that was computed over accepted
  commits waits for them, even if it wrote nothing itself.
* What a job is judged against is what it saw. A call that saw the writes of a call
  of its batch that has to run again runs again too.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

import attrs
import trio

from engine.attempts import Attempt, Attempts, overtaken_by
from engine.backend import BackendFault, Call, Failure, MutationOutcome
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion
from engine.committer import Accepted, Committer, Overtaken, Proposal, View
from engine.conflict_report import ConflictReport, Participant, describe_conflict
from engine.conflicts import RecentLines
from engine.guest_outcomes import GuestOutcome, may_call_internal, pack_claims, read_outcome
from engine.idempotency import Idempotency
from engine.kept_claims import KeptClaims
from engine.mutation_queue import LANES, Job, MutationQueue
from engine.promise import Promise
from engine.records import MutationRecord
from engine.runner import BatchLost, Lost, OnExecution, Runner, lost
from sandbox import frames
from storage import InvalidCommit, StoreError, Timestamp, UniqueConflict
from tidewell.values import pack

BACKOFF_INITIAL_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
CPU_PER_CALL_S: Final = 1.0  # backstops of sandbox-threat-model 7; fuel ends honest calls long before
WALL_PER_BATCH_S: Final = 5.0
UNSETTLED_MAX: Final = 10_000  # jobs waiting or running; beyond it callers are told to come back

_log = logging.getLogger("tidewell.engine")


@attrs.define(eq=False)
class Mutations:
    _runner: Runner
    _committer: Committer
    _idempotency: Idempotency
    _claims: KeptClaims
    _clock: Clock
    _chance: Chance
    _code: Callable[[], CodeVersion | None]
    _on_execution: OnExecution
    _attempts: Attempts
    on_conflict: Callable[[ConflictReport], None] | None = attrs.field(default=None, init=False)
    _lines: RecentLines = attrs.field(factory=RecentLines, init=False)
    _queue: MutationQueue = attrs.field(init=False)
    _lanes_busy: int = attrs.field(default=0, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _last_now_ms: float = attrs.field(default=0.0, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _holds: int = attrs.field(default=0, init=False)  # `hold`s in force
    _unsettled: dict[Job, None] = attrs.field(factory=dict, init=False)
    jobs: int = attrs.field(default=0, init=False)  # ever taken on, for tests and metrics, as are these:
    conflicts: int = attrs.field(default=0, init=False)  # attempts overtaken
    batches: int = attrs.field(default=0, init=False)  # messages to workers

    def __attrs_post_init__(self) -> None:
        self._queue = MutationQueue(self._clock, self._code)

    # ---- the caller's side ------------------------------------------------------

    async def mutate(self, call: Call, idempotency: tuple[str, int] | None) -> MutationOutcome:
        """Run a mutation until it has an outcome. Being cancelled here cancels only the waiting."""
        if self._committer.is_over:
            raise _shutting_down()  # what is in the store may be ahead of everything that was announced
        if idempotency is not None:
            known = self._idempotency.find(idempotency)
            if known is not None:
                return await known.wait()
        if self._closing:
            raise _shutting_down()
        if len(self._unsettled) >= UNSETTLED_MAX:
            raise BackendFault("TooManyConcurrentRequests", "too many mutations are waiting", transient=True)
        self.jobs += 1
        job = Job(call, idempotency, Promise(), self._chance.token(16).hex(), self.jobs)
        if idempotency is not None:
            self._idempotency.start(idempotency, job.done)
        self._unsettled[job] = None
        self._queue.put(job)
        self._notify()
        return await job.done.wait()

    def newest_success(self, session_id: str) -> tuple[int, Timestamp] | None:
        """Return the newest request of a session with a recorded success: its id and its timestamp."""
        return self._idempotency.newest(session_id)

    @property
    def unsettled(self) -> int:
        """How many mutations wait or run."""
        return len(self._unsettled)

    # ---- the lanes ----------------------------------------------------------------

    async def run(self) -> None:
        """Serve the queue until `close` was called and every job is settled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for lane in range(LANES):
                    nursery.start_soon(self._serve, lane)
        finally:
            self._closing = True
            for job in list(self._unsettled):  # cut off: whether it is committed is for a resend to find out
                self._settle_fault(job, _shutting_down())

    def close(self) -> None:
        self._closing = True
        self._notify()

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Let no mutation run: wait until none does and all that ran is durable, and keep it so."""
        self._holds += 1
        try:
            while self._lanes_busy or self._committer.overlay():
                if self._lanes_busy:
                    await self._changed.wait()
                else:
                    with suppress(BackendFault):
                        await self._committer.overlay()[-1].durable.wait()
            yield
        finally:
            self._holds -= 1
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _serve(self, lane: int) -> None:
        while True:
            batch = [] if self._holds else self._queue.take(lane, self._lanes_busy)
            if batch:
                self._lanes_busy += 1
                try:
                    await self._run_batch(batch)
                finally:
                    self._lanes_busy -= 1
                    self._notify()
            elif self._closing and not self._unsettled:
                return
            else:
                await self._changed.wait()

    # ---- a batch --------------------------------------------------------------------

    async def _run_batch(self, batch: list[Job]) -> None:
        try:
            await self._run_together(batch)
        except BatchLost:
            for job in batch:
                await self._run_together([job])  # each from its own view

    async def _run_together(self, batch: list[Job]) -> None:
        """Run `batch` in one message and judge it. Raises `BatchLost`, with nothing judged."""
        code = self._code()
        over = self._committer.overlay()
        view = self._committer.view()
        calls = [self._frame(job) for job in batch]
        started = self._clock.monotonic()
        self.batches += 1
        try:
            if code is None:
                raise BackendFault(
                    "NotReady", "no code has been pushed to this deployment yet", transient=True
                )
            results = await self._runner.run(
                code,
                calls,
                begin_ts=view.begin_ts,
                overlay=[accepted.packed_writes for accepted in over],
                cpu_s=CPU_PER_CALL_S * len(calls),
                wall_s=max(WALL_PER_BATCH_S, CPU_PER_CALL_S * len(calls) * 2),
                places=self._wants_lines(batch),
            )
        except BackendFault as fault:
            for job in batch:
                self._settle_fault(job, fault)
            return
        seconds = (self._clock.monotonic() - started) / len(batch)
        newest = over[-1] if over else None  # that the next call has seen
        broken: list[Job] = []  # saw writes of a call that has to run again
        is_broken = False
        for job, call, guest in zip(batch, calls, results, strict=True):
            if isinstance(guest, Lost):
                self._note_lost(job, call, guest, view.seen_ts, code)
                self._on_execution(job.call, "mutation", guest, seconds)
                self._queue.pace.note_lost(job.call.path)
                self._settle_lost(job, guest)
                continue
            self._queue.pace.note(job.call.path, guest.steps)
            if is_broken:
                broken.append(job)
                continue
            record = MutationRecord(
                job.call, call, guest, code, job.attempt, round(seconds * 1e6), self._runner.production
            )
            try:
                accepted = self._judge(job, guest, view, record)
            except Overtaken as overtaken:
                if overtaken.conflict is not None:
                    seen_ts = view.seen_before(overtaken.conflict.ts)
                    self._attempts.note(overtaken_by(record.at(seen_ts), overtaken.conflict))
                is_broken = bool(guest.writes)
                self._again(job, overtaken, guest.raw.places)
                continue
            except StoreError as error:
                is_broken = True
                seen_ts = self._committer.accepted_ts
                self._attempts.note(Attempt("failed", type(error).__name__, str(error), record.at(seen_ts)))
                self._refuse(
                    job, guest, error, view.begin_ts if newest is None else newest.ts, newest, seconds
                )
                continue
            self._on_execution(job.call, "mutation", guest, seconds)
            if guest.failure is not None:
                # Nothing has changed what it read: it could have had the newest snapshot.
                failed = record.at(self._committer.accepted_ts)
                self._attempts.note(Attempt("failed", guest.failure.kind, guest.failure.message, failed))
            if accepted is not None:
                newest = accepted
                view.follow(accepted.ts)
                if accepted.proposal.writes is not guest.writes:
                    # The worker did not know the timestamp of the commit, and the calls behind it saw that.
                    is_broken = True
                    self._queue.mark_last(job.call.path)
                self._lines.keep(accepted.ts, guest.raw.places)
            self._finish(job, guest, view.begin_ts if newest is None else newest.ts, waits_for=newest)
        self._queue.put_back(broken)

    def _judge(self, job: Job, guest: GuestOutcome, view: View, record: MutationRecord) -> Accepted | None:
        """Return the accepted commit, or None for a call that wrote nothing or failed. Raises `Overtaken`."""
        if guest.failure is not None or (not guest.writes and job.idempotency is None):
            # What it says is what it saw: it must still stand. (What may be sent again is recorded
            # even if it only read: the answer to a request is the one that was given first.)
            self._committer.check(view, guest.reads, record.code.hash)
            return None
        proposal = Proposal(
            view,
            guest.reads,
            guest.writes,
            record.code.hash,
            record=record.pack,
            rows=partial(self._rows, job, guest, record.frame.identity),
            packed_writes=guest.raw.writes,
        )
        return self._committer.accept(proposal)

    def _rows(
        self, job: Job, guest: GuestOutcome, claims: bytes, begin_ts: Timestamp, commit_ts: Timestamp
    ) -> Iterator[tuple[bytes, bytes | None]]:
        """Yield what is kept with the commit besides its record."""
        yield from self._claims.rows(claims, commit_ts)
        if job.idempotency is not None:
            yield from self._idempotency.rows(job.idempotency, guest)(begin_ts, commit_ts)

    def _note_lost(
        self, job: Job, call: frames.Call, ended: Lost, seen_ts: Timestamp, code: CodeVersion
    ) -> None:
        """Keep an attempt whose worker died: what it was given, and nothing of what it did."""
        nothing = read_outcome(frames.Outcome(kind="function", code=ended.code, error=ended.message))
        record = MutationRecord(job.call, call, nothing, code, job.attempt, 0, self._runner.production)
        self._attempts.note(Attempt("lost", ended.code, ended.message, record.at(seen_ts)))

    def _wants_lines(self, batch: list[Job]) -> bool:
        """Whether to have lines told: in development always, in production of what conflicts these days."""
        return not self._runner.production or any(self._queue.is_hot(job.call.path) for job in batch)

    def _frame(self, job: Job) -> frames.Call:
        self._last_now_ms = max(self._last_now_ms, self._clock.now_ms())
        return frames.Call(
            execution=job.execution,
            kind="mutation",
            path=job.call.path,
            args=pack(job.call.args),
            identity=pack_claims(job.call.identity),
            seed=self._chance.token(32),
            now_ms=self._last_now_ms,
            internal=may_call_internal(job.call),
            request=pack({"requestId": job.call.request_id}),
        )

    # ---- how it ends ------------------------------------------------------------------

    def _again(self, job: Job, overtaken: Overtaken, places: bytes) -> None:
        """Queue the job again: after a pause, or exclusively when only one attempt is left."""
        if overtaken.conflict is None:
            # Nobody was in the way: what it had seen was taken back, or it ran for too long.
            self._queue.put_back([job])
            return
        self.conflicts += 1
        job.attempt += 1
        self._queue.mark_hot(job.call.path)
        pause_s: float | None = None
        if self._queue.is_exclusive(job):
            self._queue.put(job)
        else:
            assert self._nursery is not None
            ceiling = min(BACKOFF_INITIAL_S * 2 ** (job.attempt - 1), BACKOFF_MAX_S)
            pause_s = ceiling * self._chance.uniform()
            self._nursery.start_soon(self._pause, job, pause_s)
        if self.on_conflict is not None:
            self.on_conflict(
                describe_conflict(
                    overtaken.conflict,
                    self._committer.catalog(),
                    self._committer.record_of(overtaken.conflict.ts),
                    Participant(job.call.path, job.execution, job.attempt - 1),
                    None if pause_s is None else round(pause_s * 1000),
                    written=self._committer.keys_of(overtaken.conflict.ts),
                    read_places=places,
                    write_places=self._lines.of(overtaken.conflict.ts),
                )
            )

    async def _pause(self, job: Job, seconds: float) -> None:
        await trio.sleep(seconds)
        self._queue.put(job)
        self._notify()

    def _refuse(
        self,
        job: Job,
        guest: GuestOutcome,
        error: StoreError,
        ts: Timestamp,
        newest: Accepted | None,
        seconds: float,
    ) -> None:
        """Settle a job whose writes the store does not take."""
        if isinstance(error, UniqueConflict):
            failed = guest.failed_with(f"Uncaught UniqueViolated: {error}\n", "UniqueViolated")
            self._on_execution(job.call, "mutation", failed, seconds)
            self._finish(job, failed, ts, waits_for=newest)
        elif isinstance(error, InvalidCommit):
            # An honest worker checks what it writes; this one has been taken over, or is wrong.
            _log.error("a worker proposed what cannot be committed, for %s: %s", job.call.path, error)
            self._on_execution(job.call, "mutation", lost("protocol"), seconds)
            self._settle_lost(job, lost("protocol"))
        else:
            self._settle_fault(job, BackendFault("StoreRefused", str(error), transient=True))

    def _finish(self, job: Job, guest: GuestOutcome, ts: Timestamp, waits_for: Accepted | None) -> None:
        """Settle `job` with what the guest gave, once what it saw and wrote is durable."""
        outcome = guest.as_mutation(ts)
        if waits_for is None:
            self._settle(job, outcome)
        else:
            waits_for.durable.when_settled(partial(self._settle_after, waits_for, job, outcome))

    def _settle_after(self, accepted: Accepted, job: Job, outcome: MutationOutcome) -> None:
        fault = accepted.durable.error
        if job.done.is_settled:
            return  # the engine was cut off meanwhile
        if fault is None:
            self._settle(job, outcome)
        else:
            assert isinstance(fault, BackendFault), fault
            self._settle_fault(job, fault)

    def _settle_lost(self, job: Job, ended: Lost) -> None:
        failure = Failure(f"{ended.message}\n", kind=ended.code)
        self._settle(job, MutationOutcome(self._committer.head_ts, None, b"null", (), failure))

    def _settle(self, job: Job, outcome: MutationOutcome) -> None:
        self._unlist(job)
        job.done.keep(outcome)

    def _settle_fault(self, job: Job, fault: BackendFault) -> None:
        self._unlist(job)
        job.done.fail(fault)

    def _unlist(self, job: Job) -> None:
        del self._unsettled[job]
        if job.idempotency is not None:
            self._idempotency.end(job.idempotency)
        if self._closing:
            self._notify()


def _shutting_down() -> BackendFault:
    return BackendFault("ShuttingDown", "the server is shutting down", transient=True)
