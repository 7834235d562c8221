"""When a worker is replaced, and how fast replacements may be started. Pure decisions, no clock."""

from __future__ import annotations

import attrs

from sandbox.frames import FromWorker, LoadFailed, Ran, Refused

# Outcomes after which a worker goes on. The others are limits: their cause may have left traces.
_ORDINARY = frozenset({"value", "app_error", "function", "compile"})


@attrs.frozen
class Rules:
    """The life cycle of the workers of one pool."""

    requests_max: int = 20_000  # a worker's whole life; bounds what a slow leak can gather
    growth_bytes_max: int = 48 * 2**20  # private memory since it was ready
    cpu_reserve_s: float = 120.0  # a worker with less left of its life's allowance is replaced
    idle_s: float = 300.0  # after this long without a request a worker is let go, the last one included
    spares: int = 1  # ready workers kept while the pool is in use, within its size
    starts_burst: int = 16  # starts that may follow each other at once,
    starts_per_s: float = 25.0  # and how many more each second brings: a storm's share of the machine
    start_s: float = 20.0  # a worker that is not ready by then is given up
    zygote_starts_max: int = 2_000  # workers of one zygote share its address layout


def is_ordinary(reply: FromWorker) -> bool:
    """Whether the worker that gave this reply may serve another request."""
    match reply:
        case Ran():
            return all(outcome.kind in _ORDINARY for outcome in reply.outcomes)
        case Refused():
            return reply.reason != "map_outgrown"
        case LoadFailed():
            return False
        case _:
            return True


@attrs.define
class StartLimiter:
    """Tokens for starts: a burst at once, then a steady rate.

    One deployment's workers may die as fast as its calls can kill them. Starting
    replacements at that speed would take the machine from everybody else.
    """

    burst: int
    per_s: float
    _tokens: float = attrs.field(init=False)
    _updated: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = float(self.burst)

    def delay_s(self, now: float) -> float:
        """Take a token, and return how long to wait before using it."""
        if self._updated is not None:
            self._tokens = min(float(self.burst), self._tokens + (now - self._updated) * self.per_s)
        self._updated = now
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self.per_s)
