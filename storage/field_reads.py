"""Which fields of documents were looked at, and which were changed (`function-semantics.md` S14).

A query that takes a few fields of its documents and nothing else is told apart from one
that hands whole documents on. What it read is then two things: a read set, where any
write counts, and `FieldReads`, intervals of indexes in which a write counts unless it
left the document at its key and changed other fields alone.

Only subscriptions and the query cache use it: a mutation conflicts by whole documents.

Invariants of `FieldReads`:

* A write that is not one in place (an insert, a delete, a document that moved in the
  index) counts like one inside a `ReadSet`.
* `fields` are names at the top of a document; what lies below one belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import attrs
import msgspec

from storage.read_set import READ_INTERVALS_MAX, IndexKey, ReadSet
from tidewell.errors import InvalidValue
from tidewell.values import Int64, Value, pack

Document = Mapping[str, Value]

FIELD_SETS_MAX: Final = 1_000  # different sets of fields in one execution; far above what sources hold
_PLAIN: Final = frozenset({str, int, bool, bytes, type(None), Int64})  # not float: NaN is not equal to itself
_ABSENT: Final = object()


@attrs.frozen
class Change:
    """A write that left its document at the same key."""

    fields: frozenset[str]  # that differ, were added or removed
    growth: int  # bytes by which the packed document has become larger; negative for smaller


@attrs.frozen
class Changes:
    """What a commit writes, by index key."""

    keys: tuple[IndexKey, ...]  # old and new ones, no repeats
    in_place: Mapping[IndexKey, Change] = attrs.field(factory=dict)  # of the keys that stay the same


def changed_fields(old: Document, new: Document) -> frozenset[str]:
    """Return the names whose values are not the same in both, by the identity of stored values."""
    return frozenset(
        name
        for name in old.keys() | new.keys()
        if not _is_same(old.get(name, _ABSENT), new.get(name, _ABSENT))
    )


def _is_same(a: object, b: object) -> bool:
    if type(a) is not type(b):
        return False  # True is not 1, and 1 is not Int64(1)
    if type(a) in _PLAIN:
        return a == b
    return pack(a) == pack(b)


@attrs.frozen
class FieldReads:
    """Reads that looked at some fields only, one read set for each set of fields."""

    parts: tuple[tuple[frozenset[str], ReadSet], ...] = ()

    @classmethod
    def of(cls, reads: Iterable[tuple[frozenset[str], tuple[int, bytes, bytes]]]) -> FieldReads:
        """Return the reads of (fields, (index id, start, end)) in any order, overlapping ones included."""
        by_fields: dict[frozenset[str], list[tuple[int, bytes, bytes]]] = {}
        for fields, interval in reads:
            by_fields.setdefault(fields, []).append(interval)
        parts = ((fields, ReadSet.of(intervals)) for fields, intervals in by_fields.items())
        return cls(tuple(sorted((part for part in parts if len(part[1])), key=lambda part: sorted(part[0]))))

    def __bool__(self) -> bool:
        return bool(self.parts)

    def whole(self) -> ReadSet:
        """Return the same intervals, as if every field had been looked at."""
        return ReadSet.of(interval for _, reads in self.parts for interval in reads.intervals())

    def __iter__(self) -> Iterator[tuple[frozenset[str], ReadSet]]:
        return iter(self.parts)

    def pack(self) -> bytes:
        return _packer.encode([(sorted(fields), reads.pack()) for fields, reads in self.parts])

    @classmethod
    def unpack(cls, data: bytes) -> FieldReads:
        """Return the reads in `data`, which may come from an untrusted process.

        Raises:
          InvalidValue: malformed, or not exactly what `pack` writes.
        """
        try:
            rows = _unpacker.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise InvalidValue("field_reads", f"malformed bytes: {error}") from None
        if len(rows) > FIELD_SETS_MAX:
            raise InvalidValue("field_reads", f"more than {FIELD_SETS_MAX} sets of fields")
        parts = []
        previous: list[str] | None = None
        count = 0
        for names, packed in rows:
            if names != sorted(set(names)) or (previous is not None and names <= previous):
                raise InvalidValue("field_reads", "sets of fields out of order")
            reads = ReadSet.unpack(packed)
            count += len(reads)
            if not len(reads) or count > READ_INTERVALS_MAX:
                raise InvalidValue("field_reads", f"no intervals, or over {READ_INTERVALS_MAX}")
            parts.append((frozenset(names), reads))
            previous = names
        return cls(tuple(parts))


NO_FIELD_READS: Final = FieldReads()

_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(list[tuple[list[str], bytes]])
