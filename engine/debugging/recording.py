"""Runs a recorded call again in a confined worker, with a recorder in it.

A debugger asks for windows of one run from a thread of its own, which has a terminal
to serve; workers live in trio. So the pool has a thread, for as long as `player`'s block
lasts, and the person's thread waits for its answers.

The store is read through LMDB's reader table by this process, from before the first
run until after the last. That keeps the pages that workers may look at, also beside a
server that goes on writing, so no run has to be pinned by that server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import attrs
import msgspec
import trio

from engine.clock import SystemClock
from engine.debugging.session import CannotGo
from engine.debugging.subject import Subject, lines_of
from engine.deployment import WORKER_ENTRY
from engine.guest_outcomes import GuestOutcome, read_outcome
from engine.records import digest
from engine.replay.recorded import RecordedCall, read_recorded
from engine.runner import lost
from sandbox.frames import Loaded, LoadFailed, Ran, Refused, Run
from sandbox.pool import LeasedWorker, Pool, PoolFailed, WorkerLost, WorkerPool
from sandbox.tracing.shape import InvalidTrace, Request, Trace, decode_trace
from storage import SharedStore, StoreError, Timestamp
from tidewell.errors import TidewellError

# Following a run line by line takes tens of times as long as the run; a call may use a second.
WALL_S: Final = 120.0
CPU_S: Final = 100.0
LOAD_WALL_S: Final = 10.0
ATTEMPTS_MAX: Final = 3  # a refusal has a cause that a fresh worker has not


class CannotDebug(CannotGo):
    """The call cannot be run again, or not with a recorder. One line says why."""


@attrs.frozen
class Recording:
    """One window of a run, and how the run ended."""

    trace: Trace
    outcome: GuestOutcome


@attrs.frozen
class Player:
    """Runs one call, as often as it is asked to. To be called from any thread but the pool's."""

    recorded: RecordedCall
    subject: Subject
    record: Callable[[Request], Recording]

    def differences(self, outcome: GuestOutcome) -> list[str]:
        """Return in what a run is not the one that was recorded. Empty, unless something is broken."""
        record, raw = self.recorded.record, outcome.raw
        compared = (
            ("steps", outcome.steps, record.steps),
            ("result", digest(raw.value), record.result),
            ("reads", digest(raw.reads), record.reads_digest),
            ("writes", digest(raw.writes), record.writes_digest),
            ("log", raw.log_lines, record.log_lines),
        )
        return [name for name, found, then in compared if found != then]


@contextmanager
def player(data: Path, store: SharedStore, ts: Timestamp) -> Iterator[Player]:
    """Have the mutation that commit `ts` made ready to be run, in a pool of its own.

    Args:
      data: the data folder of a deployment, served or not, or of a backup.
      store: the one in it, open. This process must not open it twice.

    Raises:
      StoreError: there is no such call.
      CannotDebug: no worker can be had.
    """
    recorded = read_recorded(store, ts)
    tables = {info.number: name for name, info in store.snapshot(ts).catalog.tables.items()}
    subject = Subject(
        function=recorded.record.function,
        ts=ts,
        steps=recorded.record.steps,
        lines=lines_of(recorded.code.modules),
        tables=tables,
    )
    argument = json.dumps({"store": str(data.resolve() / "store"), "cursor_key": _cursor_key(data)})
    pool = WorkerPool(entry=WORKER_ENTRY, argument=argument, size=1, clock=SystemClock())
    with _running(pool) as token:

        def record(request: Request) -> Recording:
            return trio.from_thread.run(_record, pool, recorded, request, trio_token=token)

        yield Player(recorded, subject, record)


def _cursor_key(data: Path) -> str:
    try:
        return (data / "cursor-key").read_text().strip()
    except OSError:
        raise StoreError(f"there is no cursor-key in {data}; is it a data folder?") from None


@contextmanager
def _running(pool: Pool) -> Iterator[trio.lowlevel.TrioToken]:
    """Run a pool in a thread for the length of a block."""
    began: SimpleQueue[trio.lowlevel.TrioToken | BaseException] = SimpleQueue()
    ending = trio.Event()

    async def serve() -> None:
        async with pool.running():
            began.put(trio.lowlevel.current_trio_token())
            await ending.wait()

    def run() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            began.put(error)

    thread = threading.Thread(target=run, name="debugged call")
    thread.start()
    token = began.get()
    if isinstance(token, BaseException):
        thread.join()
        raise CannotDebug(f"no worker can be started: {_first_line(token)}") from token
    try:
        yield token
    finally:
        trio.from_thread.run_sync(ending.set, trio_token=token)
        thread.join()


def _first_line(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error).partition("\n")[0]


async def _record(pool: Pool, recorded: RecordedCall, request: Request) -> Recording:
    frame = Run(
        code=recorded.code.hash,
        begin_ts=recorded.begin_ts,
        txn_id=0,
        overlay=[],
        calls=[msgspec.structs.replace(recorded.call, trace=request)],
        production=recorded.production,
    )
    try:
        for _ in range(ATTEMPTS_MAX):
            async with pool.lease(recorded.code.hash) as worker:
                recording = await _run(worker, recorded, frame)
                if recording is not None:
                    return recording
                worker.retire()
    except PoolFailed as failure:
        raise CannotDebug(f"no worker can be started: {_first_line(failure)}") from None
    except WorkerLost as death:
        raise CannotDebug(f"{lost(death.kind).message}, while it was followed line by line") from None
    raise CannotDebug(f"the snapshot at {recorded.begin_ts} is gone; history is kept for a while only")


async def _run(worker: LeasedWorker, recorded: RecordedCall, frame: Run) -> Recording | None:
    """Run the call; None if another worker has to. Raises `WorkerLost`."""
    if worker.loaded_code != recorded.code.hash:
        loaded = await worker.request(recorded.code.load_frame(), wall_s=LOAD_WALL_S, cpu_s=LOAD_WALL_S)
        if isinstance(loaded, LoadFailed):
            raise CannotDebug(f"the code of the call no longer loads: {loaded.errors[0].message}")
        assert isinstance(loaded, Loaded), loaded
    reply = await worker.request(frame, wall_s=WALL_S, cpu_s=CPU_S)
    if isinstance(reply, Refused):
        return None
    assert isinstance(reply, Ran), reply
    try:
        outcome = read_outcome(reply.outcomes[0])
        trace = decode_trace(outcome.raw.trace)
    except (TidewellError, StoreError, InvalidTrace) as error:
        worker.condemn(str(error))
        raise WorkerLost("protocol", str(error)) from None
    if trace.fault:
        raise CannotDebug(f"the run cannot be followed: {trace.fault}")
    return Recording(trace, outcome)
