"""Writes over a snapshot, merged into what is read from it in index order.

`Buffer` is what a transaction writes into. With packed write sets put into it, it is
also the *overlay* of commits that are accepted and not yet durable. It reads like a
snapshot, so buffers stack.

Scans look at the buffer at every step: a write made while a scan is under way
shows in what the scan has not reached yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from sortedcontainers import SortedDict

from storage.catalog import Catalog, IndexInfo
from storage.commits import DocumentWrite, WriteSet
from storage.errors import Timestamp
from storage.keys import Interval, successor
from storage.snapshot import Readable, Row, key_of

_Documents = dict[bytes, bytes | None]  # internal id -> packed document; None for deleted


@attrs.define
class _Order:
    """The buffered documents of one table in the order of one index."""

    index: IndexInfo
    ids: Any = attrs.field(factory=SortedDict)  # index key -> internal id
    keys: dict[bytes, bytes] = attrs.field(factory=dict)  # internal id -> index key

    def set(self, internal_id: bytes, body: bytes | None) -> None:
        old = self.keys.pop(internal_id, None)
        if old is not None:
            del self.ids[old]
        if body is not None:
            key = key_of(self.index, internal_id, body)
            self.keys[internal_id] = key
            self.ids[key] = internal_id

    def next_in(self, interval: Interval, reverse: bool) -> bytes | None:
        """Return the first key of an interval, from the end if `reverse`."""
        if interval.is_empty:
            return None
        found = self.ids.irange(interval.start, interval.end, inclusive=(True, False), reverse=reverse)
        key: bytes | None = next(found, None)
        return key


@attrs.define(eq=False)
class Buffer:
    """Changes over `base`. Its `ts` stays that of the base: what is buffered has none yet."""

    base: Readable
    catalog: Catalog = attrs.field(init=False)
    _tables: dict[int, _Documents] = attrs.field(factory=dict, init=False)
    _orders: dict[int, dict[int, _Order]] = attrs.field(factory=dict, init=False)  # per table, per index

    def __attrs_post_init__(self) -> None:
        self.catalog = self.base.catalog

    @classmethod
    def overlay(cls, base: Readable, write_sets: list[WriteSet]) -> Buffer:
        """Return `base` with accepted writes over it, oldest first."""
        buffer = cls(base)
        for write_set in write_sets:
            buffer.add(write_set)
        return buffer

    @property
    def ts(self) -> Timestamp:
        return self.base.ts

    def add(self, write_set: WriteSet) -> None:
        change = write_set.catalog_change
        if change is not None:
            self.catalog = self.catalog.apply(change)
        for write in write_set.documents:
            self.put(write.table, write.internal_id, write.body)

    # ---- writing -----------------------------------------------------------------

    def put(self, table: int, internal_id: bytes, body: bytes | None) -> None:
        self._tables.setdefault(table, {})[internal_id] = body
        for order in self._orders.get(table, {}).values():
            order.set(internal_id, body)

    def forget(self, table: int, internal_id: bytes) -> None:
        """Take a write back, so that the base shows again."""
        del self._tables[table][internal_id]
        for order in self._orders.get(table, {}).values():
            order.set(internal_id, None)

    def holds(self, table: int, internal_id: bytes) -> bool:
        return internal_id in self._tables.get(table, ())

    def writes(self) -> Iterator[DocumentWrite]:
        """Yield what is buffered, table by table in the order of first writes."""
        for table, documents in self._tables.items():
            for internal_id, body in documents.items():
                yield DocumentWrite(table, internal_id, body)

    # ---- reading -----------------------------------------------------------------

    def get(self, table: int, internal_id: bytes) -> bytes | None:
        documents = self._tables.get(table)
        if documents is not None and internal_id in documents:
            return documents[internal_id]
        return self.base.get(table, internal_id)

    def scan(self, index: IndexInfo, interval: Interval, *, reverse: bool = False) -> Iterator[Row]:
        table = index.table
        passed: bytes | None = None  # the last key that is dealt with
        for row in self.base.scan(index, interval, reverse=reverse):
            key = row[0]
            if table in self._tables:
                # Looked at anew at each step: what is buffered may have changed since the last one.
                before = _up_to(_rest(interval, passed, reverse), key, reverse)
                while (found := self._order(index).next_in(before, reverse)) is not None:
                    yield self._row(index, found)
                    before = _rest(before, found, reverse)
                    passed = found
                if self.holds(table, row[1]):
                    # The base's version is not what this document is now. If it still stands at this
                    # key, it is among the buffered ones and comes with the next step.
                    continue
            yield row
            passed = key
        left = _rest(interval, passed, reverse)
        while table in self._tables and (found := self._order(index).next_in(left, reverse)) is not None:
            yield self._row(index, found)
            left = _rest(left, found, reverse)

    def count(self, index: IndexInfo, interval: Interval) -> int:
        if not self._tables.get(index.table):
            return self.base.count(index, interval)
        total = self.base.count(index, interval)
        for internal_id, body in self._tables[index.table].items():
            before = self.base.get(index.table, internal_id)
            total += _is_in(index, interval, internal_id, body) - _is_in(index, interval, internal_id, before)
        return total

    def _row(self, index: IndexInfo, key: bytes) -> Row:
        internal_id: bytes = self._order(index).ids[key]
        body = self._tables[index.table][internal_id]
        assert body is not None, internal_id
        return key, internal_id, body

    def _order(self, index: IndexInfo) -> _Order:
        orders = self._orders.setdefault(index.table, {})
        order = orders.get(index.index_id)
        if order is None:
            order = orders[index.index_id] = _Order(index)
            for internal_id, body in self._tables[index.table].items():
                order.set(internal_id, body)
        return order


def _rest(interval: Interval, passed: bytes | None, reverse: bool) -> Interval:
    """Return what is left of an interval behind a key, in the direction of the scan."""
    if passed is None:
        return interval
    return Interval(interval.start, passed) if reverse else Interval(successor(passed), interval.end)


def _up_to(interval: Interval, key: bytes, reverse: bool) -> Interval:
    """Return what of an interval comes before a key, in the direction of the scan."""
    return Interval(successor(key), interval.end) if reverse else Interval(interval.start, key)


def _is_in(index: IndexInfo, interval: Interval, internal_id: bytes, body: bytes | None) -> bool:
    return body is not None and interval.start <= key_of(index, internal_id, body) < interval.end
