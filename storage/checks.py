"""The rules of a sound store, each looked up one way and counted the other.

`verify` runs them; it says what they are. A finding is a line in the report, and none
ends the check, so one pass tells of everything that is wrong.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from storage.backfill import other_holder
from storage.catalog import Catalog, CatalogChange, IndexInfo, InvalidCatalogChange, TableInfo
from storage.catalog_rows import versions
from storage.commit_log import decode_row, read_rows
from storage.environment import Db, View
from storage.errors import StoreDamaged, Timestamp
from storage.keys import Path as FieldPath
from storage.keys import fields_part, index_key
from storage.layout import (
    GARBAGE_INDEX,
    GARBAGE_TABLE,
    document_key,
    index_prefix,
    index_value,
    pack_ts,
    physical_key,
    read_ts,
    row_body,
    row_checksum,
)
from storage.report import Report
from tidewell.errors import InvalidValue
from tidewell.ids import encode_id
from tidewell.values import Value, unpack

_PROGRESS_EVERY: Final = 10_000

OnProgress = Callable[[str, int], None]


@attrs.frozen
class _Version:
    ts: Timestamp
    until: Timestamp | None  # None while current
    document: dict[str, Value] | None  # None if unreadable


@attrs.define
class _Expected:
    """What one index should hold, counted while walking the documents."""

    info: IndexInfo
    since: Timestamp  # readable through this index from here on
    latest: int = 0
    ended: int = 0


@attrs.define(eq=False)
class Check:
    view: View
    report: Report
    on_progress: OnProgress
    catalog: Catalog = attrs.field(factory=Catalog, init=False)
    ready_since: dict[int, Timestamp] = attrs.field(factory=dict, init=False)
    garbage: set[tuple[bytes, int]] = attrs.field(factory=set, init=False)
    # Digests of the catalogs after the horizon that the log has not told of yet, and the one before them.
    catalogs: dict[Timestamp, bytes] = attrs.field(factory=dict, init=False)
    oldest_catalog: Catalog = attrs.field(factory=Catalog, init=False)

    def run(self) -> None:
        self._check_catalog()
        self._load_garbage()
        logged = self._check_log()
        written = self._check_documents()
        for what in ("written", "ended"):
            if logged[what] != written[what]:
                self.report.add(
                    f"the log tells of {logged[what]} versions {what} after the horizon, "
                    f"the documents of {written[what]}"
                )
        self._check_strangers()
        self.report.checked["private rows counted"] = sum(
            1 for _ in self._walk(self.view.dbs.private, "private")
        )

    def _walk(self, db: Db, stage: str, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self.view.cursor(db) as cursor:
            if not cursor.set_range(prefix):
                return
            for number, (key, value) in enumerate(cursor.iternext()):
                if not key.startswith(prefix):
                    return
                if number % _PROGRESS_EVERY == 0:
                    self.on_progress(stage, number)
                yield key, value

    # ---- the catalog ------------------------------------------------------------------

    def _check_catalog(self) -> None:
        newest = 0
        for ts, catalog in versions(self.view):
            self.report.checked["versions of the catalog"] += 1
            if ts <= newest:
                self.report.add(f"the catalog of commit {ts} stands behind that of {newest}")
            newest, self.catalog = ts, catalog
            if ts > self.view.state.horizon:
                self.catalogs[ts] = _digest(catalog)
            else:
                self.oldest_catalog = catalog
            for table in catalog.tables.values():
                for index in table.kept:
                    if index.is_ready:
                        self.ready_since.setdefault(index.index_id, ts)
        if newest != self.view.state.catalog_ts:
            self.report.add(
                f"the newest catalog is of {newest}, and should be of {self.view.state.catalog_ts}"
            )

    def _load_garbage(self) -> None:
        for key, _ in self._walk(self.view.dbs.garbage, "catalog"):
            self.garbage.add((key[8:9], int.from_bytes(key[9:], "big")))

    # ---- the log ----------------------------------------------------------------------

    def _check_log(self) -> Counter[str]:
        """Check the rows of the log and, for each write, the version it left."""
        state = self.view.state
        previous_ts, digest = state.horizon, None
        catalog = self.oldest_catalog
        counts: Counter[str] = Counter()
        for number, (ts, data) in enumerate(read_rows(self.view, 0, 1 << 63)):
            if number % _PROGRESS_EVERY == 0:
                self.on_progress("log", number)
            self.report.checked["log rows"] += 1
            try:
                row = decode_row(ts, data)
            except StoreDamaged as error:
                self.report.add(str(error))
                previous_ts, digest = ts, data[:16]
                continue
            if row.previous_ts != previous_ts:
                self.report.add(f"the log has a gap: {ts} follows {row.previous_ts}, found {previous_ts}")
            if digest is not None and row.previous_digest != digest:
                self.report.add(f"the log row of {ts} was written after another one than {previous_ts}")
            if row.catalog is not None:
                found = self.catalogs.pop(ts, None)
                try:
                    catalog = catalog.apply(CatalogChange.unpack(row.catalog))
                    is_told = found == _digest(catalog)
                except (InvalidCatalogChange, StoreDamaged):
                    is_told = False
                if not is_told:
                    self.report.add(f"the catalog of commit {ts} is not the one that the log tells of")
            for write in row.writes:
                if (GARBAGE_TABLE, write.table) in self.garbage:
                    continue
                counts["written"] += write.kind != "delete"
                counts["ended"] += write.kind != "insert"
                self._check_logged(
                    ts, document_key(write.table, write.internal_id), write.kind, write.checksum
                )
            previous_ts, digest = ts, data[:16]
        for ts in self.catalogs:
            self.report.add(f"there is a catalog of commit {ts}, and the log tells of none")
        if previous_ts != state.head:
            self.report.add(f"the log ends at {previous_ts}, and the newest commit is {state.head}")
        if digest is not None and digest != state.digest:
            self.report.add(f"the last log row, of {previous_ts}, is not the one that was written")
        return counts

    def _check_logged(self, ts: Timestamp, key: bytes, kind: str, checksum: int) -> None:
        dbs = self.view.dbs
        if kind != "insert" and self.view.get(dbs.documents_history, key + pack_ts(ts)) is None:
            self.report.add(f"commit {ts} ended a version of {_name(key)} that is missing from the history")
        if kind == "delete":
            return
        row = self.view.get(dbs.documents, key)
        if row is None or read_ts(row, 1) != ts:
            row = None
            with self.view.cursor(dbs.documents_history) as cursor:
                if cursor.set_range(key + pack_ts(ts + 1)) and cursor.key()[:-8] == key:
                    row = cursor.value()
        if row is None or read_ts(row, 1) != ts:
            self.report.add(f"the version of {_name(key)} that commit {ts} wrote is missing")
        elif row_checksum(row) != checksum:
            self.report.add(f"the version of {_name(key)} is not the one that commit {ts} wrote")

    # ---- documents and indexes -----------------------------------------------------------

    def _check_documents(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        table: TableInfo | None = None
        expected: list[_Expected] = []
        number = -1
        for key, versions_of in self._timelines():
            if int.from_bytes(key[:4], "big") != number:
                self._check_counts(expected)
                number = int.from_bytes(key[:4], "big")
                table = self.catalog.by_number.get(number)
                kept = () if table is None else table.kept
                expected = [_Expected(index, self._since(index)) for index in kept]
            if table is None:
                continue  # dropped, or a stranger: `_check_strangers` says which
            self.report.checked["documents"] += 1
            for version in versions_of:
                self.report.checked["versions of documents"] += 1
                counts["written"] += version.ts > self.view.state.horizon
                counts["ended"] += version.until is not None
            self._check_timeline(key, versions_of)
            for each in expected:
                self._check_entries(each, key[4:], versions_of)
        self._check_counts(expected)
        self._check_empty_tables()
        return counts

    def _since(self, index: IndexInfo) -> Timestamp:
        since = self.ready_since.get(index.index_id, self.view.state.head + 1)
        return max(since, self.view.state.horizon)

    def _timelines(self) -> Iterator[tuple[bytes, list[_Version]]]:
        """Yield (document key, its versions from old to new) in key order."""
        latest = self._walk(self.view.dbs.documents, "documents")
        history = self._walk(self.view.dbs.documents_history, "history")
        current, old = next(latest, None), next(history, None)
        while current is not None or old is not None:
            key = min(row[0][:20] for row in (current, old) if row is not None)
            versions_of = []
            while old is not None and old[0][:20] == key:
                versions_of.append(self._version(key, old[1], read_ts(old[0], 20)))
                old = next(history, None)
            if current is not None and current[0] == key:
                versions_of.append(self._version(key, current[1], None))
                current = next(latest, None)
            yield key, versions_of

    def _version(self, key: bytes, row: bytes, until: Timestamp | None) -> _Version:
        document: dict[str, Value] | None = None
        name = _name(key)
        try:
            value = unpack(row_body(key, row))
            if type(value) is dict and value.get("_id") == name:
                document = value
            else:
                self.report.add(f"the document {name} holds another id")
        except (StoreDamaged, InvalidValue) as error:
            self.report.add(f"the document {name}: {error}")
        return _Version(read_ts(row, 1), until, document)

    def _check_timeline(self, key: bytes, versions_of: list[_Version]) -> None:
        end: Timestamp = 0
        created = {
            version.document.get("_creationTime") for version in versions_of if version.document is not None
        }
        if len(created) > 1:
            self.report.add(f"the document {_name(key)} has changed its creation time")
        for version in versions_of:
            if version.ts < end:
                self.report.add(f"two versions of {_name(key)} are valid at {version.ts}")
            if version.until is not None and not max(version.ts, self.view.state.horizon) < version.until:
                self.report.add(
                    f"a version of {_name(key)} ended at {version.until}, before it could be seen"
                )
            end = version.until or version.ts

    def _check_entries(self, expected: _Expected, internal_id: bytes, versions_of: list[_Version]) -> None:
        """Check the entries of one document in one index."""
        index = expected.info
        for key, begin, until in _entries_of(index.paths, internal_id, versions_of):
            stem = index_prefix(index.index_id) + physical_key(key)
            if until is None:
                expected.latest += 1
                value = self.view.get(self.view.dbs.index, stem)
            elif until > expected.since:
                expected.ended += 1
                value = self.view.get(self.view.dbs.index_history, stem + pack_ts(until))
            else:
                continue
            self.report.checked["index entries"] += 1
            if value is None:
                if index.is_ready:
                    self._add_about(index, internal_id, f"has no entry as of {begin} for")
                else:
                    expected.latest -= until is None
            elif value != index_value(read_ts(value), key):
                self._add_about(index, internal_id, f"has a wrong key as of {begin} for")
            elif index.is_ready and not _is_since(read_ts(value), begin, expected.since):
                self._add_about(index, internal_id, f"shows from {read_ts(value)} on, not from {begin},")
        if index.unique and index.is_ready:
            self._check_unique(index, internal_id, versions_of[-1])

    def _add_about(self, index: IndexInfo, internal_id: bytes, problem: str) -> None:
        self.report.add(f"index {index.name!r} {problem} {encode_id(index.table, internal_id)}")

    def _check_unique(self, index: IndexInfo, internal_id: bytes, newest: _Version) -> None:
        if newest.until is not None or newest.document is None:
            return
        part = fields_part(index.paths, newest.document)
        other = None if part is None else other_holder(self.view, index, part, internal_id)
        if other is not None:
            first, second = encode_id(index.table, internal_id), encode_id(index.table, other)
            self.report.add(f"the unique index {index.name!r} has {first} and {second} under one key")

    def _check_counts(self, expected: list[_Expected]) -> None:
        """See that an index holds no more than what its documents account for."""
        for each in expected:
            index = each.info
            prefix = index_prefix(index.index_id)
            latest = sum(1 for _ in self._walk(self.view.dbs.index, "indexes", prefix))
            ended = sum(
                read_ts(key, len(key) - 8) > each.since
                for key, _ in self._walk(self.view.dbs.index_history, "indexes", prefix)
            )
            self.report.checked["indexes"] += 1
            if latest != each.latest:
                self.report.add(f"index {index.name!r} has {latest} entries for {each.latest} documents")
            if ended != each.ended:
                self.report.add(f"index {index.name!r} has {ended} ended entries, not {each.ended}")

    def _check_empty_tables(self) -> None:
        """See that indexes of tables without any version of a document hold nothing."""
        for table in self.catalog.tables.values():
            with self.view.cursor(self.view.dbs.documents) as cursor:
                prefix = document_key(table.number, b"")
                has_rows = cursor.set_range(prefix) and cursor.key().startswith(prefix)
            with self.view.cursor(self.view.dbs.documents_history) as cursor:
                has_rows = has_rows or (cursor.set_range(prefix) and cursor.key().startswith(prefix))
            if not has_rows:
                self._check_counts([_Expected(index, self._since(index)) for index in table.kept])

    def _check_strangers(self) -> None:
        """See that nothing is stored for tables or indexes that neither exist nor wait to be cleared."""
        dbs = self.view.dbs
        for db, width in (
            (dbs.documents, 4),
            (dbs.documents_history, 4),
            (dbs.index, 7),
            (dbs.index_history, 7),
        ):
            with self.view.cursor(db) as cursor:
                found = cursor.first()
                while found:
                    prefix = cursor.key()[:width]
                    number = int.from_bytes(prefix, "big")
                    if width == 4:
                        known = number in self.catalog.by_number or (GARBAGE_TABLE, number) in self.garbage
                    else:
                        known = (
                            self.catalog.index(number) is not None or (GARBAGE_INDEX, number) in self.garbage
                        )
                    if not known:
                        what = "table" if width == 4 else "index"
                        self.report.add(f"there are rows of {what} {number}, which does not exist")
                    found = cursor.set_range((number + 1).to_bytes(width, "big"))


def _digest(catalog: Catalog) -> bytes:
    return hashlib.blake2b(catalog.pack(), digest_size=16).digest()


def _name(key: bytes) -> str:
    """Return the id of a document by its key in the file."""
    return encode_id(int.from_bytes(key[:4], "big"), key[4:]) if any(key[:4]) else key.hex()


def _entries_of(
    paths: tuple[FieldPath, ...], internal_id: bytes, versions_of: list[_Version]
) -> list[tuple[bytes, Timestamp, Timestamp | None]]:
    """Return (key, begin, until) of the entries that a document's versions call for."""
    entries: list[tuple[bytes, Timestamp, Timestamp | None]] = []
    for version in versions_of:
        if version.document is None or "_creationTime" not in version.document:
            continue
        key = index_key(paths, version.document, internal_id)
        if entries and entries[-1][0] == key and entries[-1][2] == version.ts:
            entries[-1] = (key, entries[-1][1], version.until)
        else:
            entries.append((key, version.ts, version.until))
    return entries


def _is_since(found: Timestamp, begin: Timestamp, visible: Timestamp) -> bool:
    """Whether an entry that says `found` is right for all snapshots from `visible` on."""
    return found == begin if begin > visible else found <= visible
