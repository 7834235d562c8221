"""Runs calls of one deployment in its workers.

Between a caller that thinks in snapshots and code versions and a pool that thinks
in processes: picks a worker, gives it the code it lacks, pins the LMDB snapshot it
will read, and turns the death of a worker into the outcome of one call. A worker
that cannot serve a request for a reason of its own (its map is outgrown, say) is
replaced and the request repeated. A batch that killed its worker goes back to the
caller, who runs its calls one by one, so that a good call never pays for its neighbour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Protocol

import attrs

from engine import backend
from engine.backend import BackendFault
from engine.code import CodeVersion
from engine.guest_outcomes import GuestOutcome, read_outcome
from sandbox import frames
from sandbox.frames import (
    Call,
    Loaded,
    LoadFailed,
    Ran,
    Refused,
    Run,
    Syscall,
    SyscallReply,
)
from sandbox.pool import DeathKind, LeasedWorker, Pool, PoolFailed, WorkerLost
from storage import StoreError, Timestamp
from tidewell.errors import InvalidValue, TidewellError
from tidewell.ids import USER_TABLE_FIRST

REPLACEMENTS_MAX: Final = (
    5  # workers tried for one request; each refusal has a cause that a fresh worker has not
)

OUT_OF_RETENTION: Final = "OutOfRetention"

OnSyscall = Callable[[Syscall], Awaitable[SyscallReply]]

_LOST: Final[dict[DeathKind, tuple[str, str]]] = {
    "memory": ("OutOfMemory", "OutOfMemory: the function used more memory than its worker may have (64 MiB)"),
    "cpu": ("System", "TimedOut: the function used more processor time than the host allows"),
    "wall": ("System", "TimedOut: the function ran longer than the host allows"),
    "crash": ("System", "WorkerLost: the function's worker process crashed"),
    "security": ("System", "WorkerLost: the function's worker did what the sandbox forbids and was killed"),
    "protocol": ("System", "WorkerLost: the function's worker broke the protocol and was killed"),
}


@attrs.frozen
class Lost:
    """A call whose worker died. It has no outcome; nothing it did is kept or cached."""

    kind: DeathKind
    code: str  # error code for the client
    message: str


def lost(kind: DeathKind) -> Lost:
    return Lost(kind, *_LOST[kind])


@attrs.define(eq=False)
class BatchLost(Exception):
    """The worker of several calls died, and which of them it died of is not known. None has an outcome."""

    kind: DeathKind


@attrs.frozen
class _Budget:
    wall_s: float
    cpu_s: float
    on_syscall: OnSyscall | None


# (call, kind of function, how it ended, seconds) of every execution, for the function log.
OnExecution = Callable[[backend.Call, frames.Kind, GuestOutcome | Lost, float], None]


class PinnedPages(Protocol):
    """The pages of a store, kept for lock-less readers. A `storage.Pin` is one."""

    @property
    def txn_id(self) -> int: ...
    @property
    def lost(self) -> bool: ...
    def __enter__(self) -> PinnedPages: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Pins(Protocol):
    """What is needed of a store; the workers read the rest themselves."""

    def pin(self) -> PinnedPages: ...


@attrs.frozen
class Runner:
    _store: Pins
    _pool: Pool
    production: bool
    files_table: Callable[[], int | None] = lambda: None  # rows of this system table may be removed

    async def run(
        self,
        code: CodeVersion,
        calls: Sequence[Call],
        *,
        begin_ts: Timestamp,
        overlay: Sequence[bytes] = (),
        wall_s: float,
        cpu_s: float,
        on_syscall: OnSyscall | None = None,
        places: bool = False,
    ) -> list[GuestOutcome | Lost]:
        """Run `calls` one after another in one worker, on the snapshot at `begin_ts` with `overlay` over it.

        Mutations see the writes of the calls before them that succeeded.

        Raises:
          BatchLost: the worker died of one of several calls.
          BackendFault: no worker could be had, or there is no such snapshot any more.
        """
        frame = Run(
            code=code.hash,
            begin_ts=begin_ts,
            txn_id=0,
            overlay=list(overlay),
            calls=list(calls),
            production=self.production,
            places=places,
        )
        budget = _Budget(wall_s, cpu_s, on_syscall)
        try:
            for _ in range(REPLACEMENTS_MAX):
                outcomes = await self._attempt(code, frame, budget)
                if outcomes is not None:
                    return list(outcomes)
        except PoolFailed as failure:
            raise BackendFault("NoWorker", f"no worker can be started: {failure}", transient=True) from None
        except WorkerLost as death:
            if len(calls) > 1:
                raise BatchLost(death.kind) from None
            return [lost(death.kind)]
        raise BackendFault("NoWorker", "no worker could serve the call", transient=True)

    async def _attempt(self, code: CodeVersion, frame: Run, budget: _Budget) -> list[GuestOutcome] | None:
        """Run a frame in some worker; None if another worker has to. Raises `WorkerLost`."""
        async with self._pool.lease(code.hash) as worker:
            await self._give_code(worker, code)
            if frame.calls[0].kind == "action":
                # It reads nothing, and may run for so long that its pin would make the file grow.
                return await self._request(worker, frame, budget)
            with self._store.pin() as pin:
                frame.txn_id = pin.txn_id
                try:
                    outcomes = await self._request(worker, frame, budget)
                except WorkerLost:
                    if not pin.lost:
                        raise
                    outcomes = None
                if pin.lost:
                    # The file was mapped anew meanwhile: pages the worker has read may have been written
                    # over. What it says, or died of, is no fact about the calls.
                    worker.retire()
                    return None
            return outcomes

    async def _request(self, worker: LeasedWorker, frame: Run, budget: _Budget) -> list[GuestOutcome] | None:
        reply = await worker.request(
            frame, wall_s=budget.wall_s, cpu_s=budget.cpu_s, on_syscall=budget.on_syscall
        )
        if isinstance(reply, Ran):
            try:
                outcomes = [read_outcome(outcome) for outcome in reply.outcomes]
                self._check_removals(outcomes)
                return outcomes
            except (TidewellError, StoreError) as error:
                worker.condemn(str(error))
                raise WorkerLost("protocol", str(error)) from None
        assert isinstance(reply, Refused), reply
        if reply.reason == "out_of_retention":  # no other worker will find what is gone
            raise BackendFault(OUT_OF_RETENTION, "history does not reach back to the snapshot", False)
        worker.retire()
        return None

    def _check_removals(self, outcomes: Sequence[GuestOutcome]) -> None:
        """Raise `InvalidValue` for a row that no function can remove: of system tables, only files go."""
        tables = {write.table for outcome in outcomes for write in outcome.writes.documents}
        for table in tables:
            if table < USER_TABLE_FIRST and table != self.files_table():
                raise InvalidValue("write_set", f"a write to the system table {table}")

    async def _give_code(self, worker: LeasedWorker, code: CodeVersion) -> None:
        if worker.loaded_code == code.hash:
            return
        reply = await worker.request(code.load_frame(), wall_s=10.0, cpu_s=5.0)
        if isinstance(reply, LoadFailed):
            # The version was loaded once, when it was pushed.
            raise BackendFault(
                "InternalServerError", f"the code version no longer loads: {reply.errors}", False
            )
        assert isinstance(reply, Loaded), reply
