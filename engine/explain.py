"""What the query cache did for a call, in words: a hit, nothing there, or an outcome that had ended, and how.

Made on request, for a developer who wonders why a query runs, or why it does not. The facts
are those that the cache keeps anyway; who wrote is in the record of the commit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from engine.backend import QueryOutcome
from engine.query_entries import Ended, Lookup
from engine.records import unpack_record
from storage import Catalog, IndexKey, Timestamp
from storage.keys import id_in
from storage.layout import BY_ID, index_id_of, table_of
from tidewell.ids import encode_id

_CAUSES: Final = {"code": "a push", "time": "time: it had read the clock, or its bucket was over"}


@attrs.frozen
class Explained:
    """A query's outcome, and how it came about."""

    outcome: QueryOutcome
    status: str  # "hit", "miss" or "stale"
    is_own: bool  # the outcome is this caller's alone, because the function read the identity
    computed_ts: Timestamp | None = None  # of what the cache had
    cause: str = ""  # what ended that: "commit", "code" or "time"
    ended_ts: Timestamp | None = None
    function: str | None = None  # that made the commit; None for the engine itself
    table: str | None = None
    index: str | None = None
    document_id: str | None = None

    def to_json(self) -> dict[str, Any]:
        fields = attrs.asdict(self, filter=lambda field, value: field.name != "outcome" and value is not None)
        return {**fields, "ts": self.outcome.ts}

    def __str__(self) -> str:
        if self.status == "hit":
            told = f"hit: computed at {self.computed_ts} and still the result at {self.outcome.ts}"
        elif self.status == "miss":
            told = f"miss: nothing was cached; computed at {self.outcome.ts}"
        else:
            told = (
                f"stale: what was computed at {self.computed_ts} was ended by {self._end()}; "
                f"computed anew at {self.outcome.ts}"
            )
        whose = "the caller's own, since it read the identity" if self.is_own else "the same for every caller"
        return f"{told}; {whose}"

    def _end(self) -> str:
        if self.cause != "commit":
            return _CAUSES[self.cause]
        told = f"commit {self.ended_ts} of {self.function or 'the engine itself'}"
        if self.table is None:
            return told
        return f"{told}, which wrote {self.document_id or 'a name'} in {self.index} of {self.table}"


def explain(
    outcome: QueryOutcome,
    lookup: Lookup,
    is_own: bool,
    catalog: Catalog,
    record_of: Callable[[Timestamp], bytes],
) -> Explained:
    """Put names to what the cache knows of a call."""
    explained = Explained(outcome, lookup.status, is_own, lookup.computed_ts)
    ended = lookup.ended
    if ended is None:
        return explained
    explained = attrs.evolve(explained, cause=ended.cause, ended_ts=ended.ts)
    if ended.key is None:
        return explained
    table, index, document_id = _place_of(ended.key, catalog)
    return attrs.evolve(
        explained, function=_writer_of(ended, record_of), table=table, index=index, document_id=document_id
    )


def _writer_of(ended: Ended, record_of: Callable[[Timestamp], bytes]) -> str | None:
    record = record_of(ended.ts)
    return unpack_record(record).function if record else None  # the engine's own commits have none


def _place_of(key: IndexKey, catalog: Catalog) -> tuple[str, str, str | None]:
    """Return table, index and document of a written key, as far as they have names."""
    index_id, written = key
    table = catalog.by_number.get(table_of(index_id))
    if table is None:
        return "the catalog", "the names", None
    if index_id == index_id_of(table.number, BY_ID):
        return table.name, "by_id", encode_id(table.number, written)
    index = catalog.index(index_id)
    return (
        table.name,
        "an index that is gone" if index is None else index.name,
        encode_id(table.number, id_in(written)),
    )
