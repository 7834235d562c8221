"""Workers of a test: the guest in this process, through the same frames, where calls can be held and killed.

There is no wall around it: the only app to run here is one's own.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import trio

from engine.guest import GuestStore
from engine.testing.compiled import ThriftyHandler
from engine.testing.faults import Fate
from engine.testing.stepping import Running
from sandbox.confinement.layers import Report
from sandbox.frames import FromWorker, Run, Syscall, SyscallReply
from sandbox.pool import AnswerSyscall, InProcessPool, LeasedWorker, Request, WorkerLost
from storage import ReaderStale, Snapshot, Store
from tidewell.values import unpack


@attrs.define(eq=False)
class StoreReader:
    """A `SnapshotReader` of a store that this very process has open: LMDB maps a file once per process."""

    _store: Store
    _snapshot: Snapshot | None = None

    def refresh(self, at_least: int = 0) -> int:
        with self._store.pin() as pin:
            if pin.txn_id < at_least:
                raise ReaderStale(f"transaction {at_least} is not visible yet, only {pin.txn_id}")
            return pin.txn_id

    def snapshot(self, ts: int | None = None) -> Snapshot:
        if self._snapshot is not None:
            self._snapshot.close()
        self._snapshot = self._store.snapshot(ts)
        return self._snapshot


def make_handler(store: Store, argument: str) -> ThriftyHandler:
    """Return what a worker of `store` runs guests with; `argument` is that of the workers' entry."""
    reader: Any = StoreReader(store)
    cursor_key = bytes.fromhex(json.loads(argument)["cursor_key"])
    return ThriftyHandler(GuestStore("", reader).begin, cursor_key)


@attrs.define(eq=False)
class _Worker:
    """A worker whose requests take time, may be its last, and stop where a `Running` call says so."""

    _inner: LeasedWorker
    _fate: Fate
    _running: Mapping[str, Running]  # calls that run step by step, by request id

    @property
    def loaded_code(self) -> str | None:
        return self._inner.loaded_code

    def retire(self) -> None:
        self._inner.retire()

    def condemn(self, problem: str) -> None:
        self._inner.condemn(problem)

    async def request(
        self,
        frame: Request,
        *,
        wall_s: float = 5.0,
        cpu_s: float = 1.0,
        on_syscall: AnswerSyscall | None = None,
    ) -> FromWorker:
        if not isinstance(frame, Run):
            return await self._inner.request(frame, wall_s=wall_s, cpu_s=cpu_s, on_syscall=on_syscall)
        delay_s = self._fate.faults.worker_delay_s
        await trio.sleep(self._fate.delay(delay_s))
        deaths = [self._fate.kills_worker_of(call.path) for call in frame.calls]  # of all, to draw for all
        if any(deaths):
            self._inner.retire()
            raise WorkerLost("crash", "the test killed it")
        if on_syscall is not None:
            on_syscall = self._stopping(frame, on_syscall)
        reply = await self._inner.request(frame, wall_s=wall_s, cpu_s=cpu_s, on_syscall=on_syscall)
        await trio.sleep(self._fate.delay(delay_s))
        return reply

    def _stopping(self, frame: Run, answer: AnswerSyscall) -> AnswerSyscall:
        request: Any = unpack(frame.calls[0].request)
        running = self._running.get(request["requestId"])
        if running is None:
            return answer

        async def stop_and_answer(syscall: Syscall) -> SyscallReply:
            return await running.answer(syscall, answer)

        return stop_and_answer


@attrs.define(eq=False)
class TestPool:
    """Implements `sandbox.pool.Pool`."""

    __test__ = False  # no class of tests

    layers: Report = attrs.field(init=False)
    _inner: InProcessPool
    _fate: Fate
    _running: Mapping[str, Running]

    def __attrs_post_init__(self) -> None:
        self.layers = self._inner.layers

    @classmethod
    def build(
        cls, build: Callable[[], ThriftyHandler], size: int, fate: Fate, running: Mapping[str, Running]
    ) -> TestPool:
        return cls(InProcessPool(build_handler=build, size=size), fate, running)

    def running(self) -> AbstractAsyncContextManager[None]:
        return self._inner.running()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self._inner.run(task_status)

    @asynccontextmanager
    async def lease(self, code: str | None = None) -> AsyncIterator[LeasedWorker]:
        async with self._inner.lease(code) as worker:
            yield _Worker(worker, self._fate, self._running)

    def retire_all(self) -> None:
        self._inner.retire_all()
