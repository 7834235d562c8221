"""What a conflict was about: the report of `function-semantics.md` 12.3.

Made when an attempt was overtaken, from the conflicting write and the log record of
the commit that made it. The mutation runs again either way; the report is for the
developer, who can often make it rarer: by an index that narrows the read, or by
reading less.
"""

from __future__ import annotations

import attrs
import msgspec

from engine.records import unpack_record
from storage import Catalog, Conflict, Timestamp, decode_key
from storage.keys import id_in
from storage.layout import BY_ID, index_id_of, table_of
from tidewell.ids import encode_id
from tidewell.values import Value


@attrs.frozen
class Participant:
    function: str
    execution: str
    attempt: int


@attrs.frozen
class ConflictReport:
    table: str  # "the catalog" for changes of tables, indexes and the schema
    index: str
    read_from: list[Value]  # the values at the two ends of what was read; as many as they name
    read_until: list[Value]
    document_id: str | None  # the first document that was both read and written
    reader: Participant
    writer: Participant | None  # None for the engine itself
    commit_ts: Timestamp
    runs_again_after_ms: int | None  # None: exclusively, as soon as nobody else runs

    @property
    def is_same_function(self) -> bool:
        return self.writer is not None and self.writer.function == self.reader.function

    def __str__(self) -> str:
        what = f"document {self.document_id} of {self.table}" if self.document_id else self.table
        whom = self.writer.function if self.writer is not None else "the engine"
        if self.is_same_function:
            whom = "another call of it"
        then = (
            "runs again with nobody beside it"
            if self.runs_again_after_ms is None
            else f"runs again in {self.runs_again_after_ms} ms"
        )
        return (
            f"{self.reader.function} was overtaken (attempt {self.reader.attempt + 1}): it read {what} "
            f"through {self.index}, and {whom} wrote there; it {then}"
        )


def describe_conflict(
    conflict: Conflict,
    catalog: Catalog,
    writer_record: bytes,
    reader: Participant,
    runs_again_after_ms: int | None,
) -> ConflictReport:
    """Put names to a conflict."""
    info = catalog.by_number.get(table_of(conflict.index_id))
    document_id = None
    ends: tuple[list[Value], list[Value]] = ([], [])
    if info is None:
        table, index = "the catalog", "its names"
    elif conflict.index_id == index_id_of(info.number, BY_ID):
        table, index = info.name, "by_id"
        document_id = encode_id(info.number, conflict.key)
    else:
        found = catalog.index(conflict.index_id)
        table, index = info.name, "an index that is gone" if found is None else found.name
        document_id = encode_id(info.number, id_in(conflict.key))
        ends = decode_key(conflict.interval.start), decode_key(conflict.interval.end)
    return ConflictReport(
        table, index, *ends, document_id, reader, _writer(writer_record), conflict.ts, runs_again_after_ms
    )


def _writer(record: bytes) -> Participant | None:
    try:
        read = unpack_record(record)
    except msgspec.DecodeError:
        return None  # the engine's own commits have none
    return Participant(read.function, read.execution, read.attempt)
