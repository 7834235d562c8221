"""Simulated time: trio's clock drives it, and the wall clock jumps when it is told to."""

from __future__ import annotations

from typing import Final

import attrs
import trio

EPOCH_NS: Final = 1_800_000_000 * 10**9


@attrs.define
class SimulatedClock:
    """Implements `engine.clock.Clock`."""

    offset_ns: int = 0  # what the wall clock has jumped, all in all

    def now_ns(self) -> int:
        return EPOCH_NS + self.offset_ns + round(trio.current_time() * 1e9)

    def now_ms(self) -> float:
        return self.now_ns() / 1e6

    def monotonic(self) -> float:
        return trio.current_time()

    def jump(self, seconds: float) -> None:
        self.offset_ns += round(seconds * 1e9)
