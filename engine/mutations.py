"""Mutations: from a call to a durable commit, however often it takes.

Calls queue up while the workers are busy and travel in batches that form by
themselves. A batch runs in one worker, one call after another, each seeing the
accepted commits and the writes of the calls before it: a hot document is limited
by the speed of execution, and calls that follow one another this way do not
conflict. Calls that ran side by side in two lanes may, and then run again.

Life of a job: queued -> in a batch -> accepted -> durable. From "in a batch" it
returns to the queue when its reads were overtaken, after a pause (12.4) the first
times, and the last time alone: no other batch runs beside an exclusive one, so
nothing can overtake it. A mutation never fails because others are busy.

Invariants:

* A job is settled once, and belongs to the engine: a caller that goes away does
  not cancel it.
* Every attempt has a fresh seed, and a clock that is not below the attempt before.
* A reply never shows what is not durable: a result that was computed over accepted
  commits waits for them, even if it wrote nothing itself.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import attrs
import trio

from engine.backend import BackendFault, Call, Failure, MutationOutcome
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion
from engine.committer import Accepted, Committer, Overtaken, Proposal, View
from engine.guest_outcomes import GuestOutcome, may_call_internal, pack_claims
from engine.idempotency import Idempotency
from engine.promise import Promise
from engine.records import MutationRecord
from engine.runner import Lost, OnExecution, Runner
from sandbox import frames
from storage import StoreError, Timestamp
from tidewell.values import pack

LANES: Final = 2  # batches in flight; on few cores more lanes only make conflicts
BATCH_MAX: Final = (
    64  # calls per message: 1.1 µs of messaging each (performance-notes 1), and a bound on the wait
)
ATTEMPTS: Final = 5  # 12.4, in total, the exclusive last one included
BACKOFF_INITIAL_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
SLOW_CALL_S: Final = (
    0.005  # a function this slow on average travels alone, so that nobody waits for it in a batch
)
CPU_PER_CALL_S: Final = 1.0  # backstops of sandbox-threat-model 7; fuel ends honest calls long before
WALL_PER_BATCH_S: Final = 5.0
HOT_FOR_S: Final = 10.0  # after a conflict, a function keeps to the first lane this long and chains there
QUEUE_MAX: Final = 10_000  # jobs waiting; beyond it callers are told to come back


@attrs.define(eq=False)
class Job:
    call: Call
    idempotency: tuple[str, int] | None
    done: Promise[MutationOutcome]
    execution: str
    attempt: int = 0  # runs that were overtaken so far
    exclusive: bool = False  # it runs alone: its last attempt


@attrs.define(eq=False)
class Mutations:
    _runner: Runner
    _committer: Committer
    _idempotency: Idempotency
    _clock: Clock
    _chance: Chance
    _code: Callable[[], CodeVersion | None]
    _on_execution: OnExecution
    _queue: deque[Job] = attrs.field(factory=deque, init=False)
    _lanes_busy: int = attrs.field(default=0, init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _hot_until: dict[str, float] = attrs.field(factory=dict, init=False)  # by path, monotonic seconds
    _seconds_per_call: dict[str, float] = attrs.field(factory=dict, init=False)  # moving average, by path
    _last_now_ms: float = attrs.field(default=0.0, init=False)
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _closing: bool = attrs.field(default=False, init=False)
    _holds: int = attrs.field(default=0, init=False)  # `hold`s in force
    _unsettled: int = attrs.field(default=0, init=False)
    conflicts: int = attrs.field(default=0, init=False)  # attempts overtaken, for tests and metrics
    batches: int = attrs.field(default=0, init=False)

    # ---- the caller's side ------------------------------------------------------

    async def mutate(self, call: Call, idempotency: tuple[str, int] | None) -> MutationOutcome:
        """Run a mutation until it has an outcome. Being cancelled here cancels only the waiting."""
        if idempotency is not None:
            known = self._idempotency.find(idempotency)
            if known is not None:
                return await known.wait()
        if self._closing:
            raise _shutting_down()
        if len(self._queue) >= QUEUE_MAX:
            raise BackendFault("TooManyConcurrentRequests", "too many mutations are waiting", transient=True)
        job = Job(call, idempotency, Promise(), execution=self._chance.token(16).hex())
        if idempotency is not None:
            self._idempotency.start(idempotency, job.done)
        self._unsettled += 1
        self._queue.append(job)
        self._notify()
        return await job.done.wait()

    # ---- the lanes ----------------------------------------------------------------

    async def run(self) -> None:
        """Serve the queue until `close` was called and every job is settled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for lane in range(LANES):
                nursery.start_soon(self._serve, lane)

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
            batch = self._take(lane)
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

    def _take(self, lane: int) -> list[Job]:
        """Take the next batch for `lane`, oldest first; empty when there is nothing for it now."""
        if not self._queue or self._holds:
            return []
        if self._queue[0].exclusive:
            # Nothing is taken past it, so the lanes run dry and its turn comes.
            return [self._queue.popleft()] if not self._lanes_busy else []
        batch: list[Job] = []
        kept: list[Job] = []
        now = self._clock.monotonic()
        while self._queue and len(batch) < BATCH_MAX and not self._queue[0].exclusive:
            job = self._queue.popleft()
            path = job.call.path
            if lane > 0 and self._hot_until.get(path, -math.inf) > now:
                kept.append(job)
            elif self._seconds_per_call.get(path, 0.0) > SLOW_CALL_S:
                if batch:
                    kept.append(job)
                    break
                batch.append(job)
                break
            else:
                batch.append(job)
        self._queue.extendleft(reversed(kept))
        return batch

    # ---- a batch --------------------------------------------------------------------

    async def _run_batch(self, batch: list[Job]) -> None:
        code = self._code()
        over = self._committer.overlay()
        view = View(self._committer.head_ts, frozenset(accepted.ts for accepted in over))
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
                overlay=[accepted.writes.pack() for accepted in over],
                cpu_s=CPU_PER_CALL_S * len(calls),
                wall_s=max(WALL_PER_BATCH_S, CPU_PER_CALL_S * len(calls) * 2),
            )
        except BackendFault as fault:
            for job in batch:
                self._settle_fault(job, fault)
            return
        except trio.Cancelled:
            for job in batch:
                self._settle_fault(
                    job, BackendFault("ShuttingDown", "the server is shutting down", transient=True)
                )
            raise
        seconds = (self._clock.monotonic() - started) / len(batch)
        broken = False  # an earlier call of the batch was overtaken after later ones saw its writes
        for job, call, guest in zip(batch, calls, results, strict=True):
            average = self._seconds_per_call.get(job.call.path, seconds)
            self._seconds_per_call[job.call.path] = 0.8 * average + 0.2 * seconds
            if isinstance(guest, Lost):
                self._on_execution(job.call, "mutation", guest, seconds)
                self._settle_lost(job, guest)
                continue
            try:
                if broken:
                    raise Overtaken(None)
                accepted = self._judge(job, call, guest, view, code)
            except Overtaken as overtaken:
                broken = broken or bool(guest.writes)
                self._again(job, overtaken)
                continue
            except StoreError as error:
                failed = guest.failed_with(f"Uncaught {type(error).__name__}: {error}\n")
                self._on_execution(job.call, "mutation", failed, seconds)
                self._finish(job, failed, view.newest, waits_for=None)
                broken = True
                continue
            self._on_execution(job.call, "mutation", guest, seconds)
            if accepted is not None:
                view = View(view.begin_ts, view.over | {accepted.ts})
                self._finish(job, guest, accepted.ts, waits_for=accepted)
            else:
                newest = self._committer.overlay()
                waits_for = newest[-1] if newest and view.over else None
                self._finish(job, guest, view.newest, waits_for=waits_for)

    def _judge(
        self, job: Job, call: frames.Call, guest: GuestOutcome, view: View, code: CodeVersion
    ) -> Accepted | None:
        """Return the accepted commit, or None for a call that wrote nothing or failed. Raises `Overtaken`."""
        if guest.failure is not None or not guest.writes:
            # What it says is what it saw: it must still stand.
            self._committer.check(view, guest.reads, code.hash)
            return None
        record = MutationRecord(job.call, call, guest, code, job.attempt)
        rows = self._idempotency.rows(job.idempotency, guest) if job.idempotency is not None else None
        proposal = Proposal(view, guest.reads, guest.writes, code.hash, record=record.pack)
        if rows is not None:
            proposal = attrs.evolve(proposal, rows=rows)
        return self._committer.accept(proposal)

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

    def _again(self, job: Job, overtaken: Overtaken) -> None:
        """Queue the job again: after a pause, or exclusively when only one attempt is left."""
        self.conflicts += 1
        job.attempt += 1
        self._hot_until[job.call.path] = self._clock.monotonic() + HOT_FOR_S
        assert self._nursery is not None
        if job.attempt >= self._attempts_max(job) - 1:
            job.exclusive = True
            self._queue.append(job)
            self._notify()
        else:
            self._nursery.start_soon(self._pause, job)

    def _attempts_max(self, job: Job) -> int:
        code = self._code()
        spec = code.functions.get(job.call.path) if code is not None else None
        return ATTEMPTS if spec is None or spec.retries is None else spec.retries + 1

    async def _pause(self, job: Job) -> None:
        ceiling = min(BACKOFF_INITIAL_S * 2 ** (job.attempt - 1), BACKOFF_MAX_S)
        await trio.sleep(ceiling * self._chance.uniform())
        self._queue.append(job)
        self._notify()

    def _finish(self, job: Job, guest: GuestOutcome, ts: Timestamp, waits_for: Accepted | None) -> None:
        """Settle `job` with what the guest gave, once what it saw and wrote is durable."""
        outcome = guest.as_mutation(ts)
        if waits_for is None:
            self._settle(job, outcome)
        else:
            assert self._nursery is not None
            self._nursery.start_soon(self._settle_when_durable, job, outcome, waits_for)

    async def _settle_when_durable(self, job: Job, outcome: MutationOutcome, waits_for: Accepted) -> None:
        try:
            await waits_for.durable.wait()
        except BackendFault as fault:
            self._settle_fault(job, fault)
        else:
            self._settle(job, outcome)

    def _settle_lost(self, job: Job, lost: Lost) -> None:
        failure = Failure(f"{lost.message}\n", kind=lost.code)
        self._settle(job, MutationOutcome(self._committer.head_ts, None, b"null", (), failure))

    def _settle(self, job: Job, outcome: MutationOutcome) -> None:
        self._unlist(job)
        job.done.keep(outcome)

    def _settle_fault(self, job: Job, fault: BackendFault) -> None:
        self._unlist(job)
        job.done.fail(fault)

    def _unlist(self, job: Job) -> None:
        self._unsettled -= 1
        if job.idempotency is not None:
            self._idempotency.end(job.idempotency)
        if self._closing:
            self._notify()


def _shutting_down() -> BackendFault:
    return BackendFault("ShuttingDown", "the server is shutting down", transient=True)
