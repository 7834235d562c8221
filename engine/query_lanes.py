"""Query lanes: the way of a query execution to a worker, several to a message.

Executions queue up while the lanes are busy; a lane takes what has queued for the
same snapshot. Queries share nothing and cannot conflict, so a lane is nothing but a
bound on how many workers reruns may occupy. Slow functions travel alone, and one lane
never takes them, so that quick ones always get through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs
import trio

from engine.backend import BackendFault, Call, Failure, QueryOutcome
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion
from engine.guest_outcomes import GuestOutcome, pack_claims
from engine.pace import Pace
from engine.promise import Promise
from engine.query_entries import QueryKey, QueryRun
from engine.runner import BatchLost, Lost, OnExecution, Runner
from sandbox import frames
from sandbox.execution import BYTES_PER_STEP
from sandbox.limits import DEFAULTS
from sandbox.meter import FUEL_DEFAULT
from storage import NO_FIELD_READS, Timestamp

LANES: Final = 3
QUICK_LANE: Final = 0  # takes no slow queries
BATCH_MAX: Final = 16  # a bound on how long the first of a message waits for the last
CPU_PER_CALL_S: Final = 1.0  # backstops of sandbox-threat-model 7
WALL_PER_BATCH_S: Final = 5.0
NOT_READY: Final = "Could not find public function for {path!r}: no code has been pushed yet."


@attrs.define(eq=False)
class _Request:
    call: Call
    key: QueryKey
    ts: Timestamp
    done: Promise[QueryRun] = attrs.field(factory=Promise)
    is_wanted: bool = True  # until the task that asked is cancelled


@attrs.define(eq=False)
class QueryLanes:
    _runner: Runner
    _clock: Clock
    _chance: Chance
    _code: Callable[[], CodeVersion | None]
    _on_execution: OnExecution
    _pace: Pace = attrs.field(init=False)
    _quick: deque[_Request] = attrs.field(factory=deque, init=False)
    _slow: deque[_Request] = attrs.field(factory=deque, init=False)
    _arrived: trio.Event = attrs.field(factory=trio.Event, init=False)
    _unsettled: dict[_Request, None] = attrs.field(factory=dict, init=False)
    _is_over: bool = attrs.field(default=False, init=False)
    messages: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._pace = Pace(self._code)

    async def run_query(self, call: Call, key: QueryKey, ts: Timestamp) -> QueryRun:
        """Execute one query on the snapshot at `ts`. Raises `BackendFault` when no worker could."""
        if self._is_over:
            raise _shutting_down()
        request = _Request(call, key, ts)
        self._unsettled[request] = None
        (self._quick if self._pace.is_quick(call.path) else self._slow).append(request)
        self._arrived.set()
        try:
            return await request.done.wait()
        finally:
            request.is_wanted = False
            del self._unsettled[request]

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for lane in range(LANES):
                    nursery.start_soon(self._serve, lane)
        finally:
            self._is_over = True
            for request in list(self._unsettled):
                if not request.done.is_settled:
                    request.done.fail(_shutting_down())

    async def _serve(self, lane: int) -> None:
        while True:
            batch = self._take(lane)
            if batch:
                await self._run_batch(batch)
            else:
                self._arrived = trio.Event() if self._arrived.is_set() else self._arrived
                await self._arrived.wait()

    def _take(self, lane: int) -> list[_Request]:
        for queue in (self._quick, self._slow):
            while queue and not queue[0].is_wanted:
                queue.popleft()
        if self._slow and lane != QUICK_LANE:
            return [self._slow.popleft()]
        batch: list[_Request] = []
        while self._quick and len(batch) < BATCH_MAX:
            if batch and self._quick[0].ts != batch[0].ts:
                break
            request = self._quick.popleft()
            if request.is_wanted:
                batch.append(request)
        return batch

    async def _run_batch(self, batch: list[_Request]) -> None:
        try:
            await self._run_together(batch)
        except BatchLost:
            for request in batch:
                await self._run_together([request])

    async def _run_together(self, batch: list[_Request]) -> None:
        """Run `batch` in one message and settle it. Raises `BatchLost`, with nothing settled."""
        code = self._code()
        if code is None:
            for request in batch:
                failure = Failure(NOT_READY.format(path=request.call.path) + "\n", kind="InvalidFunctionCall")
                outcome = QueryOutcome(request.ts, None, b"null", (), None, failure, b"not ready")
                request.done.keep(QueryRun(outcome, None))
            return
        calls = [self._frame(request) for request in batch]
        self.messages += 1
        started = self._clock.monotonic()
        try:
            results = await self._runner.run(
                code,
                calls,
                begin_ts=batch[0].ts,
                cpu_s=CPU_PER_CALL_S * len(calls),
                wall_s=max(WALL_PER_BATCH_S, 2 * CPU_PER_CALL_S * len(calls)),
            )
        except BackendFault as fault:
            for request in batch:
                request.done.fail(fault)
            return
        seconds = (self._clock.monotonic() - started) / len(batch)
        for request, call, result in zip(batch, calls, results, strict=True):
            self._on_execution(request.call, "query", result, seconds)
            if isinstance(result, Lost):
                self._pace.note_lost(request.call.path)
                failure = Failure(f"{result.message}\n", kind=result.code)
                outcome = QueryOutcome(request.ts, None, b"null", (), None, failure, result.kind.encode())
                # What it had looked at when it was lost is not known.
                request.done.keep(QueryRun(outcome, None, identity_read=True))
            else:
                self._pace.note(request.call.path, result.steps)
                request.done.keep(_run_of(request, call, result))

    def _frame(self, request: _Request) -> frames.Call:
        return frames.Call(
            execution=self._chance.token(16).hex(),
            kind="query",
            path=request.call.path,
            args=request.key.args,
            identity=pack_claims(request.call.identity),
            seed=self._chance.token(32),
            now_ms=self._clock.now_ms(),
            journal=request.key.journal,
            internal=request.key.internal,
        )


def _run_of(request: _Request, call: frames.Call, guest: GuestOutcome) -> QueryRun:
    reads, fields, room_bytes = guest.reads, guest.fields, _room_bytes(guest)
    if fields and room_bytes <= 0:
        reads, fields = reads.union(fields.whole()), NO_FIELD_READS
    ends_ms = [(call.now_ms // (size * 1000) + 1) * size * 1000 for size in guest.bucket_sizes_s]
    return QueryRun(
        guest.as_query(request.ts),
        reads,
        fields,
        room_bytes,
        identity_read="identity" in guest.observed,
        clock_read="time" in guest.observed,
        bucket_ends_ms=min(ends_ms, default=None),
    )


def _room_bytes(guest: GuestOutcome) -> int:
    """Return by how much the documents that were read may grow, in all, without the limits coming near.

    Any of them may have been read as often as all reads together.
    """
    bytes_left = DEFAULTS["bytes_read"] // 2 - guest.counters.get("bytes_read", 0)
    fuel_left = FUEL_DEFAULT // 2 - guest.steps
    documents = max(1, guest.counters.get("documents_read", 0))
    return min(bytes_left, fuel_left * BYTES_PER_STEP) // documents


def _shutting_down() -> BackendFault:
    return BackendFault("ShuttingDown", "the server is shutting down", transient=True)
