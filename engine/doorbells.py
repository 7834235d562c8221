"""When a watch is told that its outcome may have changed: at once, or at a time that is set.

Put off is what would make trouble in a crowd (S7) and what a subscription asked to have
merged (S12). Whoever asks before its turn is not told otherwise: the watch knows already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import attrs
import trio

from engine.alarms import Alarms
from engine.query_entries import Entry, Watcher

SPREAD_ABOVE: Final = 200  # distinct queries that one commit may have rerun at once (14.2, S7)
SPREAD_S_EACH: Final = 0.005
SLICE: Final = 64  # watches of one query rung at once


@attrs.define(eq=False)
class Doorbells:
    _alarms: Alarms
    _uniform: Callable[[], float]  # draws from [0, 1)

    def ring(self, entry: Entry) -> None:
        """Ring for all who watch `entry`; of a crowd, for some at a time.

        An update goes through a socket's objects several times. With the whole crowd taken one
        step further at a time, none of them would be in the processor's caches any more for the next.
        """
        if len(entry.watches) <= SLICE:
            for watch in list(entry.watches):
                self.ring_for(watch)
        else:
            self._ring_slices(deque(entry.watches))

    def _ring_slices(self, watches: deque[Watcher]) -> None:
        for _ in range(min(SLICE, len(watches))):
            watch = watches.popleft()
            if watch in watch.entry.watches and not watch.is_current:
                self.ring_for(watch)
        if watches:
            self._alarms.set(trio.current_time(), partial(self._ring_slices, watches))

    def ring_for(self, watch: Watcher) -> None:
        if watch.min_interval_s and trio.current_time() < watch.quiet_until:
            if not watch.is_ring_due:
                watch.is_ring_due = True
                self._alarms.set(watch.quiet_until, partial(self._ring_late, watch))
        else:
            watch.doorbell()

    def ring_by_and_by(self, entries: Sequence[Entry]) -> None:
        """Ring at random over some time, so that a commit which touches very many reruns does not hold up
        everything else. A session that updates before its turn, for a mutation of its own say, does not
        wait for it."""
        now, window_s = trio.current_time(), len(entries) * SPREAD_S_EACH
        for entry in entries:
            if entry.watches:
                self._alarms.set(now + window_s * self._uniform(), partial(self._ring_stale, entry))

    def _ring_late(self, watch: Watcher) -> None:
        watch.is_ring_due = False
        if watch in watch.entry.watches and not watch.is_current:
            self.ring_for(watch)

    def _ring_stale(self, entry: Entry) -> None:
        for watch in list(entry.watches):
            if not watch.is_current:  # the query may have been rerun for another one
                self.ring_for(watch)
