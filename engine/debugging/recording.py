"""Runs a recorded call again in a confined worker, with a recorder in it.

A debugger asks for windows of one run from a thread of its own, which has a terminal
to serve; workers live in trio. So the pool has a thread, for as long as `player`'s block
lasts, and the person's thread waits for its answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final

import attrs
import msgspec
import trio

from engine.backend import BackendFault
from engine.clock import SystemClock
from engine.code import CodeVersion
from engine.debugging.session import CannotGo
from engine.debugging.subject import Subject, lines_of
from engine.deployment import WORKER_ENTRY
from engine.guest_outcomes import GuestOutcome
from engine.replay.compare import aspects
from engine.replay.recorded import RecordedCall
from engine.replay.replayer import calls_own
from engine.replay.source import Source
from engine.runner import Lost, Runner
from sandbox.pool import Pool, WorkerPool
from sandbox.tracing.shape import InvalidTrace, Request, Trace, decode_trace

# Following a run line by line takes tens of times as long as the run; a call may use a second.
WALL_S: Final = 120.0
CPU_S: Final = 100.0
EXECUTION_DIGITS: Final = 12  # of an id that are shown


class CannotDebug(CannotGo):
    """The call cannot be run again, or not with a recorder. One line says why."""


@attrs.frozen
class Recording:
    """One window of a run, and how the run ended."""

    trace: Trace
    outcome: GuestOutcome


@attrs.frozen
class Player:
    """Runs one call, as often as it is asked to. To be called from any thread but the pool's.

    Args:
      other_code: it runs this, and not the code that was recorded.
    """

    recorded: RecordedCall
    subject: Subject
    record: Callable[[Request], Recording]
    other_code: bool = False

    def differences(self, outcome: GuestOutcome) -> list[str]:
        """Return in what a run is not the one that was recorded; with other code, everything may differ."""
        return [] if self.other_code else list(aspects(self.recorded.record, outcome))


@contextmanager
def player(source: Source, recorded: RecordedCall, code: CodeVersion | None = None) -> Iterator[Player]:
    """Have a recorded call ready to be run, in a pool of its own.

    Args:
      source: what the call is from; open for as long as the block runs.
      code: what to run in the place of the recorded code.

    Raises:
      CannotDebug: no worker can be had.
    """
    used = recorded if code is None else attrs.evolve(recorded, code=code)
    tables = source.store.snapshot(recorded.ts or recorded.begin_ts).catalog.tables
    record = recorded.record
    attempt = f"attempt {record.attempt + 1} of execution {record.execution[:EXECUTION_DIGITS]}"
    subject = Subject(
        function=record.function,
        title=f"commit {recorded.ts}" if recorded.ts else attempt,
        ts=recorded.ts,
        steps=record.steps,
        lines=lines_of(used.code.modules),
        tables={info.number: name for name, info in tables.items()},
    )
    pool = WorkerPool(entry=WORKER_ENTRY, argument=source.worker_argument, size=1, clock=SystemClock())
    runner = Runner(source, pool, recorded.production, source.files_table)
    with _running(pool) as token:

        def run(request: Request) -> Recording:
            return trio.from_thread.run(_record, runner, used, request, trio_token=token)

        yield Player(recorded, subject, run, code is not None)


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


async def _record(runner: Runner, recorded: RecordedCall, request: Request) -> Recording:
    call = msgspec.structs.replace(calls_own(recorded), trace=request)
    try:
        [outcome] = await runner.run(
            recorded.code, [call], begin_ts=recorded.begin_ts, wall_s=WALL_S, cpu_s=CPU_S
        )
        if isinstance(outcome, Lost):
            raise CannotDebug(f"{outcome.message}, while it was followed line by line")
        trace = decode_trace(outcome.raw.trace)
    except BackendFault as fault:
        raise CannotDebug(_first_line(fault)) from None
    except InvalidTrace as problem:
        raise CannotDebug(f"the function's worker broke the protocol: {problem}") from None
    if trace.fault:
        raise CannotDebug(f"the run cannot be followed: {trace.fault}")
    return Recording(trace, outcome)
