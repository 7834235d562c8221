"""`ctx.db` for a test: the faces that queries have, over one snapshot, in plain Python.

What a test reads is measured by nobody and bound by no limit of transactions.
"""

from __future__ import annotations

import attrs

from sandbox.cursors import CursorCodec, Journal
from sandbox.database import DatabaseReader
from sandbox.determinism import Chance
from sandbox.execution import Execution, Level
from sandbox.limits import DEFAULT_LIMITS, Limits
from storage import Snapshot, Transaction

_UNLIMITED = Limits(**dict.fromkeys(attrs.asdict(DEFAULT_LIMITS), 2**62))


def open_reader(snapshot: Snapshot, now_ms: float) -> DatabaseReader:
    """Return a database that reads from `snapshot`, for as long as that is open."""
    execution = Execution(
        database=Transaction(snapshot),
        now_ms=now_ms,
        charge=lambda steps: None,
        log=lambda level, text: None,
        cursors=CursorCodec(bytes(32)),
        journal=Journal(None),
        schema=None,
        identity=None,
    )
    return DatabaseReader(Level(execution, "query", "", Chance(bytes(32)), _UNLIMITED))
