"""Workers and pools around others: what passes everything on, for those that change a little of it.

Whoever tests the engine wants requests that are slow, held, counted or answered by nobody. Each of
these is a subclass with its own `request`, or its own way to wrap the workers that are lent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Unpack

import attrs
import trio

from sandbox.confinement.layers import Report
from sandbox.frames import FromWorker
from sandbox.pool import LeasedWorker, Pool, Request, Terms


@attrs.define(eq=False)
class PassingWorker:
    """Implements `sandbox.pool.LeasedWorker`."""

    _inner: LeasedWorker

    @property
    def loaded_code(self) -> str | None:
        return self._inner.loaded_code

    async def request(self, frame: Request, **terms: Unpack[Terms]) -> FromWorker:
        return await self._inner.request(frame, **terms)

    def retire(self) -> None:
        self._inner.retire()

    def condemn(self, problem: str) -> None:
        self._inner.condemn(problem)


@attrs.define(eq=False)
class PassingPool:
    """Implements `sandbox.pool.Pool`."""

    _inner: Pool

    @property
    def layers(self) -> Report:
        return self._inner.layers

    def wrap(self, worker: LeasedWorker) -> LeasedWorker:
        """Return what is lent in the place of `worker`."""
        return worker

    def running(self) -> AbstractAsyncContextManager[None]:
        return self._inner.running()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self._inner.run(task_status)

    @asynccontextmanager
    async def lease(self, code: str | None = None) -> AsyncIterator[LeasedWorker]:
        async with self._inner.lease(code) as worker:
            yield self.wrap(worker)

    def retire_all(self) -> None:
        self._inner.retire_all()
