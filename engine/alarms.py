"""Calls that are due at a time: the ends of time buckets, doorbells that were put off.

One task runs them all, however many there are.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator

import attrs
import trio


@attrs.define(eq=False)
class Alarms:
    _due: list[tuple[float, int, Callable[[], None]]] = attrs.field(factory=list, init=False)  # a heap
    _serial: Iterator[int] = attrs.field(factory=itertools.count, init=False)  # breaks ties, first come first
    _sooner: trio.Event = attrs.field(factory=trio.Event, init=False)

    def set(self, deadline: float, call: Callable[[], None]) -> None:
        """Have `call` made at `deadline`, in trio's time; at the next occasion if that is past."""
        is_first = not self._due or deadline < self._due[0][0]
        heapq.heappush(self._due, (deadline, next(self._serial), call))
        if is_first:
            self._sooner.set()

    async def run(self) -> None:
        """Make the calls, each when it is due, until cancelled."""
        while True:
            self._sooner = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else math.inf):
                await self._sooner.wait()
            while self._due and self._due[0][0] <= trio.current_time():
                heapq.heappop(self._due)[2]()
                await trio.lowlevel.checkpoint()  # what one call sets going has its turn before the next
