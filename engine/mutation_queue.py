"""The queue of mutations: who waits, and who may travel with whom. Pure decisions, no await.

Lane 0 takes quick calls only, so that slow ones never hold them up, and every call
of a *hot* function, one that met a conflict lately: in one lane they chain instead of
running into each other. The last lane takes slow calls, each alone. The one between
takes either.

A job on its last attempt is *exclusive*: nothing is taken past it, so the lanes run
dry; then it runs with nobody beside it. Others that are exclusive chain behind it.

Invariants:

* A job is in one of the queues, or with whoever took it.
* While an exclusive batch runs, no other does.
* Among the jobs that a lane may take, the oldest goes first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from engine.backend import Call, MutationOutcome
from engine.clock import Clock
from engine.code import CodeVersion
from engine.pace import Pace
from engine.promise import Promise

LANES: Final = 3  # batches in flight; on few cores more lanes for quick calls only make conflicts
QUICK_LANE: Final = 0
SLOW_LANE: Final = 2
BATCH_MAX: Final = (
    64  # calls per message: 1.1 µs of messaging each (performance-notes 1), and a bound on the wait
)
ATTEMPTS: Final = 5  # 12.4, in total, the exclusive last one included
HOT_FOR_S: Final = 10.0  # how long a function stays hot after a conflict


@attrs.define(eq=False)
class Job:
    call: Call
    idempotency: tuple[str, int] | None
    done: Promise[MutationOutcome]
    execution: str
    number: int  # in the order of arrival
    attempt: int = 0  # runs that were overtaken so far


@attrs.define(eq=False)
class MutationQueue:
    _clock: Clock
    _code: Callable[[], CodeVersion | None]
    pace: Pace = attrs.field(init=False)
    _exclusive: deque[Job] = attrs.field(factory=deque, init=False)
    _hot: deque[Job] = attrs.field(factory=deque, init=False)
    _quick: deque[Job] = attrs.field(factory=deque, init=False)
    _slow: deque[Job] = attrs.field(factory=deque, init=False)
    _is_alone: bool = attrs.field(default=False, init=False)  # the batch taken last was an exclusive one
    # Functions that wait for the timestamp of their commit: until they have it, nothing can follow them.
    _last_in_batch: set[str] = attrs.field(factory=set, init=False)
    _hot_until: dict[str, float] = attrs.field(factory=dict, init=False)  # by path, monotonic seconds

    def __attrs_post_init__(self) -> None:
        self.pace = Pace(self._code)

    # ---- in ---------------------------------------------------------------------

    def put(self, job: Job) -> None:
        self._queue_for(job).append(job)

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Put jobs that were taken in this order back in front of the others."""
        for job in reversed(list(jobs)):
            self._queue_for(job).appendleft(job)

    def mark_last(self, path: str) -> None:
        """Note that what a function wrote is not what those behind it in its batch must see."""
        self._last_in_batch.add(path)

    def _is_full(self, batch: Sequence[Job]) -> bool:
        return len(batch) == BATCH_MAX or (bool(batch) and batch[-1].call.path in self._last_in_batch)

    def mark_hot(self, path: str) -> None:
        """Note that a call of a function was overtaken."""
        self._hot_until[path] = self._clock.monotonic() + HOT_FOR_S

    def is_hot(self, path: str) -> bool:
        """Whether a call of a function was overtaken a short while ago."""
        return self._hot_until.get(path, -math.inf) > self._clock.monotonic()

    def is_exclusive(self, job: Job) -> bool:
        """Whether the next attempt of `job` is its last one. With `retries=0` that is the first."""
        code = self._code()
        spec = code.functions.get(job.call.path) if code is not None else None
        attempts = ATTEMPTS if spec is None or spec.retries is None else spec.retries + 1
        return job.attempt >= attempts - 1

    def _queue_for(self, job: Job) -> deque[Job]:
        if self.is_exclusive(job):
            return self._exclusive
        if not self.pace.is_quick(job.call.path):
            return self._slow
        return self._hot if self.is_hot(job.call.path) else self._quick

    # ---- out --------------------------------------------------------------------

    def take(self, lane: int, busy: int) -> list[Job]:
        """Take the next batch for `lane`, while `busy` others run; empty when there is nothing for it now."""
        if busy and (self._is_alone or self._exclusive):
            return []
        self._is_alone = bool(self._exclusive)
        if self._exclusive:
            return self._take_exclusive()
        if lane != QUICK_LANE and self._slow:
            return [self._slow.popleft()]
        if lane == SLOW_LANE:
            return []
        return self._take_hot_or_quick() if lane == QUICK_LANE else self._take_quick()

    def _take_exclusive(self) -> list[Job]:
        batch = [self._exclusive.popleft()]
        if self.pace.is_quick(batch[0].call.path):
            while (
                self._exclusive
                and not self._is_full(batch)
                and self.pace.is_quick(self._exclusive[0].call.path)
            ):
                batch.append(self._exclusive.popleft())
        return batch

    def _take_hot_or_quick(self) -> list[Job]:
        batch: list[Job] = []
        while not self._is_full(batch) and (self._hot or self._quick):
            waiting = [queue for queue in (self._hot, self._quick) if queue]
            batch.append(min(waiting, key=lambda queue: queue[0].number).popleft())
        return batch

    def _take_quick(self) -> list[Job]:
        batch: list[Job] = []
        while not self._is_full(batch) and self._quick:
            job = self._quick.popleft()
            if self.is_hot(job.call.path):
                self._hot.append(job)  # it was not yet when it came
            else:
                batch.append(job)
        return batch
