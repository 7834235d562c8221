"""One execution: the state that a call and everything nested in it share.

Created by the executor for each call of a frame. The objects that guests hold
(`ctx`, `ctx.db`, queries) are thin faces over it and keep no state of their own
beyond it, except what a query object has collected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import attrs

from sandbox.cursors import CursorCodec, Journal
from sandbox.determinism import Chance
from sandbox.frames import Kind
from sandbox.limits import DEFAULT_LIMITS, Limits
from sandbox.transaction import Database, NarrowDatabase
from tidewell.schema import Schema
from tidewell.values import Value, number

NESTED_DEPTH_MAX: Final = 8

# A document costs this much, and one step for so many bytes of it, on top of what the guest does with it.
DOCUMENT_STEPS: Final = 10
BYTES_PER_STEP: Final = 512
ROWS_BEFORE_BYTES: Final = (
    16  # rows are paid for one by one, their bytes together: the sum takes longer than a row
)


@attrs.define(eq=False)
class Execution:
    """What nested calls share with the call at the top."""

    database: Database | None  # None in actions
    now_ms: float
    charge: Callable[[int], None]
    log: Callable[[str, str], None]  # level, text
    cursors: CursorCodec
    journal: Journal
    schema: Schema | None
    identity: dict[str, Value] | None
    observed: set[str] = attrs.field(factory=set)
    narrow: NarrowDatabase | None = None  # in queries: the database, as long as fields are told apart
    _created_ms: float = attrs.field(default=-math.inf, init=False)
    _bytes_charged: int = attrs.field(default=0, init=False)
    _rows_unpaid: int = attrs.field(default=0, init=False)

    def next_creation_time(self) -> float:
        """Return the frozen clock, then the next representable number for each further document."""
        self._created_ms = max(self.now_ms, math.nextafter(self._created_ms, math.inf))
        return number(self._created_ms)

    def charge_documents(self, count: int) -> None:
        """Charge for documents that the database has just handed out or taken."""
        self.charge(DOCUMENT_STEPS * count)
        self._rows_unpaid += count
        if self._rows_unpaid >= ROWS_BEFORE_BYTES:
            self.charge_bytes()

    def charge_bytes(self) -> None:
        """Charge for the bytes of documents since the last time; the end of a call is the last one."""
        assert self.database is not None
        self._rows_unpaid = 0
        usage = self.database.usage
        total = usage.bytes_read + usage.bytes_written + usage.bytes_before
        steps = (total - self._bytes_charged) // BYTES_PER_STEP
        self._bytes_charged += steps * BYTES_PER_STEP
        self.charge(steps)


@attrs.define(eq=False)
class Level:
    """One call of the nest: its kind, its chance and its limits."""

    execution: Execution
    kind: Kind
    path: str
    chance: Chance
    limits: Limits = DEFAULT_LIMITS
    depth: int = 1

    def database_for(self, fields: frozenset[str] | None) -> Database:
        """Return the database to read from when no more than `fields` of documents are looked at."""
        narrow = self.execution.narrow
        return self.database if narrow is None or fields is None else narrow.narrowed(fields)

    def observe_sizes(self) -> None:
        """The call can tell how large its documents are, so that every field of them counts."""
        self.execution.narrow = None

    @property
    def database(self) -> Database:
        database = self.execution.database
        assert database is not None, "actions have no ctx.db"
        return database


def exact(value: Any, kind: type, what: str) -> Any:
    """Return `value` if its type is exactly `kind`; what guests pass is checked before it is used."""
    if type(value) is not kind:
        raise TypeError(f"{what} must be {kind.__name__}, found {type(value).__name__}")
    return value
