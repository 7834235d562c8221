"""Workers of a test: the guest in this process, through the same frames, where calls can be held and killed.

There is no wall around it: the only app to run here is one's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import attrs
import trio

from engine.guest import GuestStore
from engine.testing.compiled import ThriftyHandler
from engine.testing.faults import Fate
from engine.testing.passing import PassingPool, PassingWorker
from engine.testing.stepping import Running
from sandbox.frames import FromWorker, Run, Syscall, SyscallReply
from sandbox.pool import AnswerSyscall, InProcessPool, LeasedWorker, Request, Terms, WorkerLost
from storage import ReaderStale, Snapshot, Store, Timestamp
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

    def snapshot(self, ts: Timestamp) -> Snapshot:
        if self._snapshot is not None:
            self._snapshot.close()
        self._snapshot = self._store.snapshot(ts)
        return self._snapshot


def make_handler(store: Store, argument: str) -> ThriftyHandler:
    """Return what a worker of `store` runs guests with; `argument` is that of the workers' entry."""
    cursor_key = bytes.fromhex(json.loads(argument)["cursor_key"])
    return ThriftyHandler(GuestStore("", StoreReader(store)).begin, cursor_key)


@attrs.define(eq=False)
class _Worker(PassingWorker):
    """A worker whose requests take time, may be its last, and stop where a `Running` call says so."""

    _fate: Fate
    _running: Mapping[str, Running]  # calls that run step by step, by request id

    async def request(self, frame: Request, **terms: Unpack[Terms]) -> FromWorker:
        if not isinstance(frame, Run):
            return await super().request(frame, **terms)
        delay_s = self._fate.faults.worker_delay_s
        await trio.sleep(self._fate.delay(delay_s))
        deaths = [self._fate.kills_worker_of(call.path) for call in frame.calls]  # of all, to draw for all
        if any(deaths):
            self._inner.retire()
            raise WorkerLost("crash", "the test killed it")
        answer = terms.get("on_syscall")
        if answer is not None:
            terms["on_syscall"] = self._stopping(frame, answer)
        reply = await super().request(frame, **terms)
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
class TestPool(PassingPool):
    """A pool that lends such workers."""

    __test__ = False  # no class of tests

    _fate: Fate
    _running: Mapping[str, Running]

    @classmethod
    def build(
        cls, build: Callable[[], ThriftyHandler], size: int, fate: Fate, running: Mapping[str, Running]
    ) -> TestPool:
        return cls(InProcessPool(build_handler=build, size=size), fate, running)

    def wrap(self, worker: LeasedWorker) -> LeasedWorker:
        return _Worker(worker, self._fate, self._running)
