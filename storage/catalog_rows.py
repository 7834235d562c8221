"""Reading and writing versions of the catalog.

A row of the `catalog` database is either a whole catalog or a change to the one before,
under the timestamp of its commit. Whole ones come every `CHANGES_MAX` rows, so
that creating thousands of tables one by one does not write thousands of whole
catalogs, and reading one stays cheap. The newest row's timestamp stands in the state row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import attrs

from storage.catalog import Catalog, CatalogChange
from storage.environment import View, Writer
from storage.errors import StoreDamaged, Timestamp
from storage.layout import pack_ts, read_ts

CHANGES_MAX: Final = 64
_CACHED_MAX: Final = 8  # as-of reads come in bursts around few timestamps

_WHOLE: Final = b"W"
_CHANGE: Final = b"C"


@attrs.define
class CatalogReader:
    """Gives the catalog as of any timestamp, remembering the last few."""

    _cache: OrderedDict[Timestamp, Catalog] = attrs.field(factory=OrderedDict)

    def at(self, view: View | Writer, ts: Timestamp) -> Catalog:
        version = view.state.catalog_ts if ts >= view.state.catalog_ts else _version_before(view, ts)
        if version == 0:
            return _EMPTY
        catalog = self._cache.get(version)
        if catalog is None:
            catalog = self._cache[version] = _load(view, version)
            if len(self._cache) > _CACHED_MAX:
                self._cache.popitem(last=False)
        return catalog

    def remember(self, version: Timestamp, catalog: Catalog) -> None:
        self._cache[version] = catalog


_EMPTY: Final = Catalog()


def _version_before(view: View | Writer, ts: Timestamp) -> Timestamp:
    """Return the timestamp of the newest row at or below `ts`; 0 if there is none."""
    with view.cursor(view.dbs.catalog) as cursor:
        found = cursor.prev() if cursor.set_range(pack_ts(ts + 1)) else cursor.last()
        return read_ts(cursor.key()) if found else 0


def _load(view: View | Writer, version: Timestamp) -> Catalog:
    changes: list[CatalogChange] = []
    with view.cursor(view.dbs.catalog) as cursor:
        found = cursor.set_key(pack_ts(version))
        while found:
            row = cursor.value()
            if row[:1] == _WHOLE:
                catalog = Catalog.unpack(row[1:])
                for change in reversed(changes):
                    catalog = catalog.apply(change)
                return catalog
            changes.append(CatalogChange.unpack(row[1:]))
            found = cursor.prev()
    raise StoreDamaged(f"the catalog of commit {version} is missing; run verify and restore a backup")


def versions(view: View) -> Iterator[tuple[Timestamp, Catalog]]:
    """Yield (ts, catalog) of all that are kept, oldest first."""
    catalog: Catalog | None = None
    with view.cursor(view.dbs.catalog) as cursor:
        for key, row in cursor.iternext():
            if row[:1] == _WHOLE:
                catalog = Catalog.unpack(row[1:])
            elif catalog is not None:
                catalog = catalog.apply(CatalogChange.unpack(row[1:]))
            else:
                raise StoreDamaged(f"the catalog of commit {read_ts(key)} is a change to none; run verify")
            yield read_ts(key), catalog


def write_change(writer: Writer, ts: Timestamp, change: CatalogChange, after: Catalog) -> None:
    """Put the row of a change that a commit makes."""
    row = _WHOLE + after.pack() if _is_due(writer) else _CHANGE + change.pack()
    writer.put(writer.dbs.catalog, pack_ts(ts), row)
    writer.state = attrs.evolve(writer.state, catalog_ts=ts)


def _is_due(writer: Writer) -> bool:
    """Whether the last `CHANGES_MAX` rows hold no whole catalog."""
    with writer.cursor(writer.dbs.catalog) as cursor:
        found = cursor.last()
        for _ in range(CHANGES_MAX):
            if not found:
                return True
            if cursor.value()[:1] == _WHOLE:
                return False
            found = cursor.prev()
    return True


def forget_before(writer: Writer, horizon: Timestamp) -> int:
    """Drop rows that no timestamp from `horizon` on needs; returns how many."""
    keep = _version_before(writer, horizon)
    with writer.cursor(writer.dbs.catalog) as cursor:
        if not cursor.set_key(pack_ts(keep)):
            return 0
        while cursor.value()[:1] != _WHOLE:
            if not cursor.prev():
                return 0
        oldest_kept = cursor.key()
        dropped = 0
        while cursor.first() and cursor.key() < oldest_kept:
            cursor.delete()
            dropped += 1
    return dropped
