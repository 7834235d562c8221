"""Runs calls of one deployment in its workers.

Between a caller that thinks in snapshots and code versions and a pool that thinks
in processes: picks a worker, gives it the code it lacks, pins the LMDB snapshot it
will read, and turns the death of a worker into the outcome of one call. A worker
that cannot serve a request for a reason of its own (its map is outgrown, say) is
replaced and the request repeated; a batch that killed its worker is run again call
by call, so that a good call never pays for its neighbour.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

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
    ProtocolViolation,
    Ran,
    Refused,
    Run,
    Syscall,
    SyscallReply,
)
from sandbox.pool import LeasedWorker, Pool, PoolFailed, WorkerLost
from storage import Store, StoreError, Timestamp
from tidewell.errors import TidewellError

REPLACEMENTS_MAX: Final = (
    5  # workers tried for one request; each refusal has a cause that a fresh worker has not
)

OnSyscall = Callable[[Syscall], Awaitable[SyscallReply]]

_LOST: Final = {
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

    kind: str  # of sandbox-threat-model 7: memory, cpu, wall, crash, security, protocol
    code: str  # error code for the client
    message: str


# (call, kind of function, how it ended, seconds) of every execution, for the function log.
OnExecution = Callable[[backend.Call, frames.Kind, GuestOutcome | Lost, float], None]


@attrs.frozen
class Runner:
    _store: Store
    _pool: Pool
    production: bool

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
    ) -> list[GuestOutcome | Lost]:
        """Run `calls` one after another in one worker, on the snapshot at `begin_ts` with `overlay` over it.

        Raises:
          BackendFault: no worker could be had.
        """
        try:
            return list(await self._run_once(code, calls, begin_ts, list(overlay), wall_s, cpu_s, on_syscall))
        except PoolFailed as failure:
            raise BackendFault("NoWorker", f"no worker can be started: {failure}", transient=True) from None
        except WorkerLost as lost:
            if len(calls) == 1:
                error_code, message = _LOST[lost.kind]
                return [Lost(lost.kind, error_code, message)]
        # Which call of the batch did it is not known. Alone, each sees no writes of the others; the
        # committer finds out whether that matters, as it does for any call that ran beside another.
        results: list[GuestOutcome | Lost] = []
        for call in calls:
            results += await self.run(
                code,
                [call],
                begin_ts=begin_ts,
                overlay=overlay,
                wall_s=wall_s,
                cpu_s=cpu_s,
                on_syscall=on_syscall,
            )
        return results

    async def _run_once(
        self,
        code: CodeVersion,
        calls: Sequence[Call],
        begin_ts: Timestamp,
        overlay: list[bytes],
        wall_s: float,
        cpu_s: float,
        on_syscall: OnSyscall | None,
    ) -> list[GuestOutcome]:
        for _ in range(REPLACEMENTS_MAX):
            async with self._pool.lease(code.hash) as worker:
                await self._give_code(worker, code)
                with self._store.pin() as pin:
                    reply = await worker.request(
                        Run(
                            code=code.hash,
                            begin_ts=begin_ts,
                            txn_id=pin.txn_id,
                            overlay=overlay,
                            calls=list(calls),
                            production=self.production,
                        ),
                        wall_s=wall_s,
                        cpu_s=cpu_s,
                        on_syscall=on_syscall,
                    )
                    is_torn = pin.lost and on_syscall is None  # an action reads nothing in its worker
                if is_torn:
                    worker.retire()
                    continue
                if isinstance(reply, Ran):
                    try:
                        if len(reply.outcomes) != len(calls):
                            raise ProtocolViolation(f"{len(reply.outcomes)} outcomes of {len(calls)} calls")
                        return [read_outcome(outcome) for outcome in reply.outcomes]
                    except (TidewellError, StoreError, ProtocolViolation) as error:
                        worker.condemn(str(error))
                        raise WorkerLost("protocol", str(error)) from None
                assert isinstance(reply, Refused), reply
                worker.retire()
        raise BackendFault("NoWorker", "no worker could serve the call", transient=True)

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
