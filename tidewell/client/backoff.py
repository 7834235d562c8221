"""How long to wait before the next attempt to connect. Pure: chance is handed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

DELAY_S_MAX: Final = 16.0
USUAL_S: Final = 0.1  # a server that restarts is back within a few of these
FAULT_S: Final = 1.0
OVERLOADED_S: Final = 3.0

_FAULTS: Final = (
    "InternalServerError",
    "VectorIndexesUnavailable",
    "SearchIndexesUnavailable",
    "TableSummariesUnavailable",
)
_OVERLOADS: Final = (
    "SubscriptionsWorkerFullError",
    "TooManyConcurrentRequests",
    "CommitterFullError",
    "AwsTooManyRequestsException",
    "ExecuteFullError",
    "SystemTimeoutError",
    "ExpiredInQueue",
    "VectorIndexTooLarge",
    "SearchIndexTooLarge",
    "TooManyWritesInTimePeriod",
)


def delay_s(failures: int, reason: str, uniform: Callable[[float, float], float]) -> float:
    """Return the pause after the `failures`-th loss in a row (protocol, 8.4); jitter keeps clients apart.

    Args:
      reason: why the server or the network ended the last connection.
    """
    base = (
        FAULT_S if reason.startswith(_FAULTS) else OVERLOADED_S if reason.startswith(_OVERLOADS) else USUAL_S
    )
    return min(base * 2.0 ** min(failures - 1, 16), DELAY_S_MAX) * uniform(0.5, 1.5)
