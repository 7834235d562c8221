"""Workers in the engine's process, through the same frames, that take their time and sometimes die."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from random import Random
from typing import Unpack

import attrs
import trio

import sandbox.loader
from engine.guest import GuestStore
from engine.testing.passing import PassingPool, PassingWorker
from engine.testing.workers import StoreReader
from fuzz.faults import Faults
from sandbox.compiler import compile_module
from sandbox.executor import Executor
from sandbox.frames import FromWorker
from sandbox.pool import InProcessPool, LeasedWorker, Request, Terms, WorkerLost
from sandbox.worker import RequestHandler
from storage import Store

# Every worker compiles the app, and every worker that dies has a successor. What comes out depends on the
# source alone, so in one process once is enough.
sandbox.loader.compile_module = functools.cache(compile_module)  # type: ignore[attr-defined]  # where it is used


@attrs.define(eq=False)
class _Delayed(PassingWorker):
    """A worker whose requests and replies take time on the way."""

    _pause: Callable[[], float]

    async def request(self, frame: Request, **terms: Unpack[Terms]) -> FromWorker:
        await trio.sleep(self._pause())
        reply = await super().request(frame, **terms)
        await trio.sleep(self._pause())
        return reply


@attrs.define(eq=False)
class SimulatedPool(PassingPool):
    """A pool that lends such workers. `is_faulty` goes off when faults are over."""

    _faults: Faults
    _random: Random
    _is_faulty: Callable[[], bool]

    @classmethod
    def build(
        cls,
        store: Store,
        argument: str,
        size: int,
        faults: Faults,
        random: Random,
        is_faulty: Callable[[], bool],
        on_fault: Callable[[str], None],
        wrap: Callable[[RequestHandler], RequestHandler] = lambda handler: handler,
    ) -> SimulatedPool:
        """Args:
        wrap: returns what stands in the place of a handler; for planted bugs.
        """
        cursor_key = bytes.fromhex(json.loads(argument)["cursor_key"])

        def build_handler() -> RequestHandler:
            guest_store = GuestStore("", StoreReader(store))
            return wrap(Executor(guest_store.begin, cursor_key=cursor_key))

        def lose(request: Request) -> WorkerLost | None:
            if is_faulty() and random.random() < faults.worker_death:
                on_fault("worker death")
                return WorkerLost("crash", "the simulation killed it")
            return None

        inner = InProcessPool(build_handler=build_handler, size=size, lose=lose)
        return cls(inner, faults, random, is_faulty)

    def wrap(self, worker: LeasedWorker) -> LeasedWorker:
        return _Delayed(worker, self._pause)

    def _pause(self) -> float:
        mean_s = self._faults.worker_delay_s
        if self._is_faulty() and self._random.random() < self._faults.slow_worker:
            mean_s = mean_s * 20 + 0.02
        return mean_s * self._random.expovariate(1)
