"""A clock that a test sets. Implements `engine.clock.Clock`."""

from __future__ import annotations

import attrs


@attrs.define
class SetClock:
    ns: int = 1_800_000_000 * 10**9

    def now_ns(self) -> int:
        return self.ns

    def now_ms(self) -> float:
        return self.ns / 1e6

    def monotonic(self) -> float:
        return self.ns / 1e9
