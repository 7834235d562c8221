"""`time`: the frozen clock of the call, in the units of the standard module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.facades.base import Facade

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime


def build(runtime: GuestRuntime) -> Facade:
    def seconds() -> float:
        runtime.observed.add("time")
        return int(runtime.now_ms) / 1000

    def nanoseconds() -> int:
        runtime.observed.add("time")
        return int(runtime.now_ms) * 1_000_000

    return Facade(
        "time",
        {
            "time": seconds,
            "time_ns": nanoseconds,
            "monotonic": seconds,
            "monotonic_ns": nanoseconds,
            "perf_counter": seconds,
            "perf_counter_ns": nanoseconds,
        },
    )
