"""The counted limits of one transaction, and their use so far (function-semantics 19.2).

The store counts, this module compares. A counter is raised before it is checked,
so the figures show by how much a limit was passed. Nested calls may tighten the
limits, relative to what is used already, and never loosen them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from sandbox.transaction import Usage
from tidewell.errors import LimitExceeded

MIB: Final = 2**20

DEFAULTS: Final = {
    "bytes_read": 16 * MIB,
    "documents_read": 32_000,
    "database_queries": 4_096,
    "bytes_written": 16 * MIB,
    "documents_written": 16_000,
    "functions_scheduled": 1_000,
    "scheduled_function_args_bytes": 16 * MIB,
}
WARNING_SHARE: Final = 0.8  # of a limit; beyond it the log says so

_CODES: Final = {
    "bytes_read": (
        "TooManyBytesRead",
        "read fewer or smaller documents: use an index range, take(n) or paginate",
    ),
    "documents_read": ("TooManyDocumentsRead", "use an index range, take(n) or paginate"),
    "database_queries": ("TooManyReads", "read ranges in place of many single documents"),
    "bytes_written": ("TooManyWrites", "write less at once, in several mutations"),
    "documents_written": ("TooManyWrites", "write less at once, in several mutations"),
    "functions_scheduled": ("TooManyWrites", "schedule one function that does the rest"),
    "scheduled_function_args_bytes": ("TooManyWrites", "store large data and pass its id"),
}


def used(usage: Usage) -> dict[str, int]:
    """Return the counters under the names of the limits."""
    return {
        "bytes_read": usage.bytes_read,
        "documents_read": usage.documents_read,
        "database_queries": usage.intervals,
        "bytes_written": usage.bytes_written,
        "documents_written": usage.documents_written,
        "functions_scheduled": 0,
        "scheduled_function_args_bytes": 0,
    }


@attrs.frozen
class Limits:
    bytes_read: int
    documents_read: int
    database_queries: int
    bytes_written: int
    documents_written: int
    functions_scheduled: int
    scheduled_function_args_bytes: int

    def check_reads(self, usage: Usage) -> None:
        """Raise `LimitExceeded` if a limit on reading is passed. Asked for every row, so it does little."""
        if usage.documents_read > self.documents_read:
            self._raise("documents_read", usage.documents_read)
        if usage.bytes_read > self.bytes_read:
            self._raise("bytes_read", usage.bytes_read)
        if usage.intervals > self.database_queries:
            self._raise("database_queries", usage.intervals)

    def check_writes(self, usage: Usage) -> None:
        if usage.documents_written > self.documents_written:
            self._raise("documents_written", usage.documents_written)
        if usage.bytes_written > self.bytes_written:
            self._raise("bytes_written", usage.bytes_written)

    def _raise(self, name: str, count: int) -> None:
        code, hint = _CODES[name]
        raise LimitExceeded(code, f"{code}: {name} is {count}, at most {getattr(self, name)}; {hint}")

    def tightened(self, wanted: Mapping[str, int], usage: Usage) -> Limits:
        """Return the limits of a nested call.

        Args:
          wanted: what the call may use from now on, by name; checked already.
        """
        now = used(usage)
        return attrs.evolve(
            self, **{name: min(getattr(self, name), now[name] + share) for name, share in wanted.items()}
        )

    def metrics(self, usage: Usage) -> dict[str, dict[str, int]]:
        """Return, by name, what is used and what remains."""
        return {
            name: {"used": count, "remaining": max(getattr(self, name) - count, 0)}
            for name, count in sorted(used(usage).items())
        }

    def warnings(self, usage: Usage) -> list[str]:
        """Return a line for each limit that is nearly reached."""
        return [
            f"{name}: {count} of {limit} used; {_CODES[name][1]}"
            for name, count in used(usage).items()
            if (limit := getattr(self, name)) * WARNING_SHARE < count <= limit
        ]


DEFAULT_LIMITS: Final = Limits(**DEFAULTS)


def in_force(wanted: Mapping[str, int]) -> Limits:
    """Return the limits of a call that names some of its own. Names that are no limits are passed over."""
    if not wanted:
        return DEFAULT_LIMITS
    return attrs.evolve(DEFAULT_LIMITS, **{name: wanted[name] for name in DEFAULTS if name in wanted})
