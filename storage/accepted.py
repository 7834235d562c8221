"""Commits that are accepted and not yet durable: what the next one is judged against.

The committer asks which index keys a proposed write set changes. Old keys come from the
documents as they are, which is the newest snapshot with everything accepted since laid over it.
Index keys are never taken from a worker.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import attrs

from storage.apply import written_keys
from storage.buffer import Buffer
from storage.catalog import Catalog, CatalogChange
from storage.commits import WriteSet
from storage.errors import InvalidCommit, Timestamp, UniqueConflict
from storage.field_reads import Change, Changes
from storage.keys import Interval, fields_part
from storage.read_set import IndexKey
from storage.snapshot import Snapshot
from tidewell.ids import encode_id
from tidewell.values import unpack_trusted


@attrs.define
class Overlay:
    """The last base of `changes_of`, kept because the next call mostly adds one layer to it."""

    snapshot: Snapshot
    _layers: list[Timestamp] = attrs.field(factory=list, init=False)
    _buffer: Buffer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._buffer = Buffer(self.snapshot)

    def extends_to(self, layers: Sequence[tuple[Timestamp, WriteSet]]) -> bool:
        """Whether all layers in here are still wanted.

        Timestamps are never used twice, and accepted layers become durable from the oldest on, so the
        first, the last and the number of them tell.
        """
        count, first = len(self._layers), self._first_newer(layers)
        if count == 0:
            return True
        return (
            first + count <= len(layers)
            and layers[first][0] == self._layers[0]
            and layers[first + count - 1][0] == self._layers[-1]
        )

    def over(self, layers: Sequence[tuple[Timestamp, WriteSet]]) -> Buffer:
        for place in range(self._first_newer(layers) + len(self._layers), len(layers)):
            ts, layer = layers[place]
            self._buffer.add(layer)
            self._layers.append(ts)
        return self._buffer

    def _first_newer(self, layers: Sequence[tuple[Timestamp, WriteSet]]) -> int:
        return bisect_right(layers, self.snapshot.ts, key=lambda layer: layer[0])


def changes_of(base: Buffer, writes: WriteSet, change: CatalogChange | None) -> Changes:
    keys: dict[IndexKey, None] = {}
    in_place: dict[IndexKey, Change] = {}
    catalog = base.catalog
    plan = catalog.plan()
    for name, number in writes.new_tables:
        # A worker could use up the numbers by leaving some out.
        if plan.create_table(name) != number:
            raise InvalidCommit(f"the new table {name!r} has the number {number}, out of sequence")
    for each in (writes.catalog_change, change):
        if each is not None:
            keys.update(dict.fromkeys(each.keys(catalog)))
            catalog = catalog.apply(each)
    for write in writes.documents:
        old = base.get(write.table, write.internal_id)
        if old is None and write.body is None:
            raise InvalidCommit(f"a delete of {write.id}, which does not exist")
        written = written_keys(catalog, write, old)
        keys.update(dict.fromkeys(written.keys))
        in_place.update(written.in_place)
    _check_unique(base, catalog, writes)
    return Changes(tuple(keys), in_place)


def _check_unique(base: Buffer, catalog: Catalog, writes: WriteSet) -> None:
    """See that no write takes a unique key that another document has after all of them."""
    unique = {
        table: [index for index in catalog.by_number[table].indexes if index.unique and index.is_ready]
        for table in {write.table for write in writes.documents}
    }
    if not any(unique.values()):
        return
    after = Buffer(base)
    after.catalog = catalog
    for write in writes.documents:
        after.put(write.table, write.internal_id, write.body)
    for write in writes.documents:
        if write.body is None:
            continue
        document = unpack_trusted(write.body)
        for index in unique[write.table]:
            part = fields_part(index.paths, document)
            if part is None:
                continue
            for _, internal_id, _ in after.scan(index, Interval(part, part + b"\xff")):
                if internal_id != write.internal_id:
                    holder = encode_id(write.table, internal_id)
                    raise UniqueConflict(
                        f"the index {index.name!r} is unique, and {holder} already has the key of {write.id}"
                    )
