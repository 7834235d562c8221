"""What a conflict was about: the report of `function-semantics.md` 12.3.

Made when an attempt was overtaken, from the conflicting write, the log record of the
commit that made it, and the lines that both came from where workers were asked for
them. The mutation runs again either way; the report is for the developer, who can often
make it rarer: by an index that narrows the read, or by reading less.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import attrs
import msgspec

from engine.records import unpack_record
from storage import (
    Catalog,
    Conflict,
    IndexInfo,
    IndexKey,
    Interval,
    Place,
    Places,
    Timestamp,
    decode_key,
)
from storage.keys import id_in
from storage.layout import BY_ID, index_id_of, table_of
from tidewell.errors import InvalidValue
from tidewell.ids import decode_id, encode_id
from tidewell.values import MISSING, Value, canonical_text

BOUND_TEXT_MAX = 80  # of one value of a range
FILE_TEXT_MAX = 200
KEYS_MAX = 10_000  # of a commit, that are compared with reads; a few milliseconds


@attrs.frozen
class Participant:
    function: str
    execution: str
    attempt: int
    line: str | None = None  # "posts.py:12" of the read, or of the write


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
    range: str = ""  # what was read, in words

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
            f"through {self.index}{_at(self.reader)}, and {whom} wrote there{_at(self.writer)} in commit "
            f"{self.commit_ts}; it {then}"
        )


def describe_conflict(
    conflict: Conflict,
    catalog: Catalog,
    writer_record: bytes,
    reader: Participant,
    runs_again_after_ms: int | None,
    *,
    written: Sequence[IndexKey] = (),
    read_places: bytes = b"",
    write_places: bytes = b"",
) -> ConflictReport:
    """Put names to a conflict.

    Args:
      written: all keys that the winning commit wrote.
      read_places: what the worker of the attempt that lost said of its lines, if it was asked.
      write_places: the same of the commit that won.
    """
    reads = _places(read_places)
    conflict = _first_read(conflict, reads, written)
    info = catalog.by_number.get(table_of(conflict.index_id))
    document_id = None
    ends: tuple[list[Value], list[Value]] = ([], [])
    found: IndexInfo | None = None
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
    read_at = reads.of_read(conflict.index_id, conflict.key)
    wrote_at = None if document_id is None else _places(write_places).of_write(*decode_id(document_id))
    return ConflictReport(
        table,
        index,
        *ends,
        document_id,
        attrs.evolve(reader, line=_line(read_at)),
        _writer(writer_record, _line(wrote_at)),
        conflict.ts,
        runs_again_after_ms,
        _in_words(document_id, found, *ends),
    )


def _first_read(conflict: Conflict, reads: Places, written: Sequence[IndexKey]) -> Conflict:
    """Return the conflict at the first read, in the order of the program, that meets what was written.

    A commit that changes a document meets every read of it. The query that found the document
    says more about the cause than the `patch` that looked at it once more.
    """
    if not reads.reads or len(written) > KEYS_MAX:
        return conflict
    keys = sorted(written)
    for index_id, start, end, _ in reads.reads:
        place = bisect_left(keys, (index_id, start))
        if place < len(keys) and keys[place][0] == index_id and keys[place][1] < end:
            return Conflict(conflict.ts, index_id, keys[place][1], Interval(start, end))
    return conflict


def _in_words(document_id: str | None, index: IndexInfo | None, start: list[Value], end: list[Value]) -> str:
    """Return a range as a person would say it: equal fields first, then the one that has bounds."""
    if index is None:
        return f"_id = {document_id}" if document_id is not None else "names of tables and indexes"
    said = []
    fields = (*index.fields, "_creationTime")
    for place, field in enumerate(fields):
        low = start[place : place + 1]
        high = end[place : place + 1]
        if low and low == high:
            said.append(f"{field} = {_text(low[0])}")
            continue
        bounds = [f"from {_text(value)}" for value in low] + [f"up to {_text(value)}" for value in high]
        if bounds:
            said.append(f"{field} {' '.join(bounds)}")
        break
    return ", ".join(said) or "all of it"


def _text(value: Value) -> str:
    text = "missing" if value is MISSING else canonical_text(value)
    return text if len(text) <= BOUND_TEXT_MAX else text[: BOUND_TEXT_MAX - 1] + "…"


def _writer(record: bytes, line: str | None) -> Participant | None:
    try:
        read = unpack_record(record)
    except msgspec.DecodeError:
        return None  # the engine's own commits have none
    return Participant(read.function, read.execution, read.attempt, line)


def _places(packed: bytes) -> Places:
    try:
        return Places.unpack(packed) if packed else Places()
    except InvalidValue:
        return Places()  # a worker's nonsense; the report does without


def _line(place: Place | None) -> str | None:
    if place is None:
        return None
    file = "".join(c if c.isprintable() else "?" for c in place[0][:FILE_TEXT_MAX])
    return f"{file}:{place[1]}"


def _at(who: Participant | None) -> str:
    return "" if who is None or who.line is None else f" at {who.line}"
