"""The clock: the one place where the engine learns what time it is.

Everything that needs time is handed a `Clock`, so that a simulation can hand
out another. Wall-clock time may jump; `monotonic` never falls.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch."""

    def now_ms(self) -> float:
        """Milliseconds since the Unix epoch, with their fraction."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; only differences mean anything."""


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def now_ms(self) -> float:
        return time.time_ns() / 1e6

    def monotonic(self) -> float:
        return time.monotonic()
