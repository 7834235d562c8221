"""The workers of one deployment: start, lend, watch, replace.

The pool keeps up to `size` processes, a few of them ready before they are asked
for. Everything runs inside `run`'s nursery; when that ends, no process is left.

Invariants:

* A worker is idle, or leased to one caller, or dead. It serves this deployment only.
* What comes back from a lease unfit is killed, never lent again.
* Starts are limited (`rules.StartLimiter`), and each pool has a zygote of its
  own, so that the storm of one deployment's dying workers delays its own calls alone.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

import attrs
import trio

from sandbox.confinement.layers import Report
from sandbox.confinement.limits import Budgets
from sandbox.launch import Settings
from sandbox.pool.death import PoolFailed
from sandbox.pool.lease import Worker
from sandbox.pool.rules import Rules, StartLimiter
from sandbox.pool.starts import Starter

_TICK_S: Final = 0.05  # how often budgets are looked at; a request can use this much more
_FAILURES_MAX: Final = 3  # failed starts in a row before waiting callers are told
_log = logging.getLogger("tidewell.sandbox")


class Clock(Protocol):
    """What the pool asks for the time. The engine's clock is one."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""


class _TrioClock:
    def monotonic(self) -> float:
        return trio.current_time()


@attrs.define(eq=False)
class _Waiter:
    """A caller who waits for a worker. Starts with none; served with one, or without when the pool fails."""

    code: str | None
    served: trio.Event = attrs.field(factory=trio.Event)
    worker: Worker | None = None


@attrs.define(eq=False, kw_only=True)
class WorkerPool:
    """See the module. `entry` is called in the zygote with `argument`, what it returns in each worker."""

    entry: str
    argument: str = ""
    size: int = 2
    clock: Clock = attrs.field(factory=_TrioClock)
    rules: Rules = attrs.field(factory=Rules)
    budgets: Budgets = attrs.field(factory=Budgets)
    mandatory: frozenset[str] = frozenset()
    hash_seed: int | None = None
    import_paths: tuple[str, ...] = ()
    with_namespaces: bool = True

    layers: Report = attrs.field(factory=Report, init=False)  # of the newest worker
    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _starter: Starter | None = attrs.field(default=None, init=False)
    _limiter: StartLimiter = attrs.field(init=False)
    _idle: list[Worker] = attrs.field(factory=list, init=False)
    _leased: set[Worker] = attrs.field(factory=set, init=False)
    _starting: int = attrs.field(default=0, init=False)
    _waiting: deque[_Waiter] = attrs.field(factory=deque, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _failure: str = attrs.field(default="", init=False)
    _last_lease: float = attrs.field(default=0.0, init=False)
    _busy: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        assert self.size > 0, self.size
        self._limiter = StartLimiter(self.rules.starts_burst, self.rules.starts_per_s)

    # ---- life ---------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the pool for the length of a block. What the block raises leaves as it is."""
        raised: list[BaseException] = []
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.run)
                try:
                    yield
                except BaseException as error:
                    raised.append(error)
                    raise
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if list(group.exceptions) == raised:
                raise raised[0] from None
            raise

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start, prove the wall, have a worker ready, and go on until cancelled.

        Raises:
          PoolFailed: a mandatory layer is missing, an attempt of the self-test was
            not stopped, or no worker could be started.
        """
        failure: PoolFailed | None = None
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            starter = self._starter = Starter(self._settings(), self.rules, nursery)
            self._last_lease = self.clock.monotonic()
            try:
                self._arrive(await self.start_worker())  # names a missing layer; the next line only misses it
                await starter.prove_the_wall()
                task_status.started()
                nursery.start_soon(self._watch)
                nursery.start_soon(self._keep_house)
                await trio.sleep_forever()
            except PoolFailed as error:
                failure = error
            finally:
                self._nursery = None
                self._close()
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _close(self) -> None:
        for worker in (*self._idle, *self._leased):
            worker.process.kill()
        self._idle.clear()
        self._failure = "the pool is closed"
        self._failures = _FAILURES_MAX
        self._disappoint()

    def _settings(self) -> Settings:
        return Settings(
            entry=self.entry,
            argument=self.argument,
            budgets=self.budgets,
            mandatory=self.mandatory,
            hash_seed=self.hash_seed,
            import_paths=self.import_paths,
            with_namespaces=self.with_namespaces,
        )

    # ---- leases --------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, code: str | None = None) -> AsyncIterator[Worker]:
        """Lend a ready worker for the length of a block.

        Args:
          code: the version that will be run; a worker that has loaded it is preferred,
            and one that has loaded another is not lent.

        Raises:
          PoolFailed: no worker can be started.
        """
        worker = await self._take(code)
        try:
            yield worker
        finally:
            self._take_back(worker)

    def retire_all(self) -> None:
        """Replace every worker: the idle now, the leased when their leases end."""
        for worker in self._leased:
            worker.retire()
        for worker in self._idle:
            worker.process.kill()
        self._idle.clear()
        self._grow()

    async def _take(self, code: str | None) -> Worker:
        """Return an idle worker, or wait for one. First come, first served."""
        self._last_lease = self.clock.monotonic()
        if not self._waiting:
            worker = self._pick(code)
            if worker is not None:
                self._has_lent(worker)
                self._grow()
                return worker
        if self._nursery is None or self._failures >= _FAILURES_MAX:
            raise PoolFailed(self._failure or "the pool does not run")
        waiter = _Waiter(code)
        self._waiting.append(waiter)
        self._grow()
        try:
            await waiter.served.wait()
        except BaseException:
            if waiter.worker is not None:
                self._take_back(waiter.worker)
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise
        if waiter.worker is None:
            raise PoolFailed(self._failure)
        return waiter.worker

    def _pick(self, code: str | None) -> Worker | None:
        """Remove an idle worker and return it: the best by code, the most recently used among equals."""
        self._idle = [worker for worker in self._idle if worker.is_fit]
        if not self._idle:
            return None
        if code is not None:
            for wanted in (code, None):
                for position in range(len(self._idle) - 1, -1, -1):
                    if self._idle[position].loaded_code == wanted:
                        return self._idle.pop(position)
            self._idle.pop(0).process.kill()  # all have loaded other versions: make room
            return None
        return self._idle.pop()

    def _has_lent(self, worker: Worker) -> None:
        self._leased.add(worker)
        self._busy.set()

    def _take_back(self, worker: Worker) -> None:
        self._leased.discard(worker)
        self._arrive(worker)

    def _arrive(self, worker: Worker) -> None:
        """Take a worker in, new or back from a lease: for whoever waits, or to rest.

        It is handed over here and now. Were it put to rest and a waiter told to look,
        a caller that returns one worker and asks for the next would always be faster.
        """
        if not worker.is_fit or self._nursery is None:
            worker.process.kill()
        elif not self._waiting:
            worker.rests(self.clock.monotonic())
            self._idle.append(worker)
        else:
            for waiter in self._waiting:
                if waiter.code is None or worker.loaded_code in (None, waiter.code):
                    self._waiting.remove(waiter)
                    waiter.worker = worker
                    waiter.served.set()
                    self._has_lent(worker)
                    break
            else:
                worker.process.kill()  # everybody wants another version: make room
        self._grow()

    def _disappoint(self) -> None:
        """Tell everybody who waits that there will be no worker."""
        for waiter in self._waiting:
            waiter.served.set()
        self._waiting.clear()

    # ---- starts --------------------------------------------------------------------

    def _grow(self) -> None:
        """Begin as many starts as are wanted now."""
        if self._nursery is None:
            return
        is_in_use = self.clock.monotonic() - self._last_lease < self.rules.idle_s
        wanted = max(len(self._waiting), self.rules.spares if is_in_use else 0)
        while (
            len(self._idle) + self._starting < wanted
            and len(self._idle) + len(self._leased) + self._starting < self.size
        ):
            self._starting += 1
            self._nursery.start_soon(self._start_in_background)

    async def _start_in_background(self) -> None:
        try:
            await trio.sleep(self._limiter.delay_s(self.clock.monotonic()))
            worker = await self.start_worker()
        except PoolFailed as failure:
            self._starting -= 1
            self._has_failed(str(failure))
        except BaseException:
            self._starting -= 1
            raise
        else:
            self._starting -= 1
            self._failures = 0
            self._arrive(worker)

    def _has_failed(self, why: str) -> None:
        """After some failures in a row waiting callers are told; a later one tries again."""
        _log.error("a worker cannot be started: %s", why)
        self._failures += 1
        self._failure = why
        if self._failures >= _FAILURES_MAX:
            self._disappoint()
        else:
            self._grow()

    async def start_worker(self) -> Worker:
        """Start a worker and return it ready, outside of the size. Raises `PoolFailed`."""
        if self._starter is None:
            raise PoolFailed("the pool does not run")
        worker = await self._starter.start()
        self.layers = Report(worker.layers, worker.notes)
        return worker

    # ---- watch ---------------------------------------------------------------------

    async def _watch(self) -> None:
        """Kill whoever is over a budget. Sleeps for good while nobody is leased."""
        while True:
            if not self._leased:
                self._busy = trio.Event()
                await self._busy.wait()
            await trio.sleep(_TICK_S)
            now = trio.current_time()
            for worker in self._leased:
                worker.enforce(now)

    async def _keep_house(self) -> None:
        """Look at what workers have become, let idle ones go, close zygotes that nobody needs."""
        while True:
            await trio.sleep(min(1.0, self.rules.idle_s / 4))
            now = self.clock.monotonic()
            for worker in self._leased:
                worker.look_at_growth()
            for worker in tuple(self._idle):
                worker.look_at_growth()
                worker.look_at_rest()
                if not worker.is_fit or now - worker.idle_since >= self.rules.idle_s:
                    worker.process.kill()
                    self._idle.remove(worker)
            if self._starter is not None:
                self._starter.tidy()
            self._failures = min(self._failures, _FAILURES_MAX - 1)
            self._grow()

    # ---- what it knows ---------------------------------------------------------------

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that live, for tests and for the operator."""
        return [worker.process.pid for worker in (*self._idle, *self._leased)]

    @property
    def zygote_pid(self) -> int | None:
        return None if self._starter is None or self._starter.zygote is None else self._starter.zygote.pid

    @property
    def started(self) -> int:
        """How many workers became ready, ever."""
        return 0 if self._starter is None else self._starter.started
