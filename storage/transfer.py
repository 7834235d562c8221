"""Export and import: a deployment's documents in an open format.

The format, `docs/storage-export.md`, is a folder of JSON Lines, one file per table, and a
manifest. Documents keep their ids and creation times, and therefore tables keep
their numbers. History and execution records stay behind; `backup` takes everything.

An export is one snapshot, however long it takes and whatever is committed meanwhile. An
import goes into a store without tables, in small commits, and notes in each how far it
is, so one that was cut short is taken up again by calling it again.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec

from storage.backup import open_shared
from storage.catalog import TableInfo
from storage.catalog_rows import CatalogReader
from storage.commits import Commit, DocumentWrite
from storage.environment import ReaderEnvironment, translated
from storage.errors import InvalidCommit, StoreError, Timestamp
from storage.folder import sync_folder
from storage.handles import Shared
from storage.keys import EVERYTHING
from storage.snapshot import Snapshot
from storage.store import Store
from tidewell.errors import InvalidId, InvalidValue
from tidewell.ids import decode_id
from tidewell.values import from_wire, pack, parse_json, unpack_trusted, wire_json

FORMAT_NAME: Final = "tidewell-export"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
PRIVATE_FILE: Final = "private.jsonl"
BATCH_DOCUMENTS: Final = 1000
PROGRESS_KEY: Final = b"\x00storage/import"  # a private row, there while an import is under way
LINE_BYTES_MAX: Final = 64 << 20  # a document of 1 MiB is far below that, whatever its escapes

OnProgress = Callable[[str, int, int], None]  # table, documents done, documents in all


class InvalidExport(StoreError):
    """The folder does not hold what an export writes. Names file and line."""


@attrs.frozen
class TransferReport:
    tables: int
    documents: int
    ts: Timestamp  # of the snapshot that was exported, or the last commit of an import


def _silent(table: str, done: int, total: int) -> None:
    """Tell nobody."""


# ---- export ------------------------------------------------------------------------------


def export_store(
    path: str | Path,
    destination: str | Path,
    *,
    private: Sequence[bytes] = (),
    on_progress: OnProgress = _silent,
) -> TransferReport:
    """Write the newest state of the store in `path`, which may be in use, to a new folder.

    Args:
      private: prefixes of the engine's rows that are to go along.

    Raises:
      StoreMissing, StoreError
    """
    target = Path(destination)
    if target.exists() and any(target.iterdir()):
        raise StoreError(f"{target} is not empty; choose another folder for the export")
    reader = open_shared(Path(path))
    try:
        with translated(target):
            return _export(reader, target, private, on_progress)
    finally:
        reader.close()


def _export(
    reader: ReaderEnvironment, target: Path, private: Sequence[bytes], on_progress: OnProgress
) -> TransferReport:
    with reader as view:
        ts = view.state.head
    snapshot = Snapshot(ts, Shared(reader), CatalogReader().at)
    (target / "tables").mkdir(parents=True, exist_ok=True)
    tables = []
    total = 0
    for table in snapshot.catalog.tables.values():
        file = f"tables/{table.name}.jsonl"
        documents = _write_table(snapshot, table, target / file, on_progress)
        total += documents
        tables.append(
            {
                "name": table.name,
                "number": table.number,
                "file": file,
                "documents": documents,
                "indexes": [
                    {"name": index.name, "fields": index.fields, "unique": index.unique}
                    for index in table.indexes
                ],
            }
        )
    with (target / PRIVATE_FILE).open("wb") as out:
        for key, value in _private_rows(reader, private):
            row = {"key": base64.b64encode(key).decode(), "value": base64.b64encode(value).decode()}
            out.write(json.dumps(row).encode() + b"\n")
        _sync(out.fileno(), out.flush)
    manifest = {
        "format": FORMAT_NAME,
        "version": FORMAT_VERSION,
        "ts": str(ts),
        "schema": snapshot.catalog.schema,
        "tables": tables,
    }
    # Last, because only a folder with a manifest is an export.
    with (target / MANIFEST).open("w") as text:
        json.dump(manifest, text, indent=2)
        _sync(text.fileno(), text.flush)
    sync_folder(target)
    return TransferReport(len(tables), total, ts)


def _write_table(snapshot: Snapshot, table: TableInfo, file: Path, on_progress: OnProgress) -> int:
    total = snapshot.count(table.kept[0], EVERYTHING)
    done = 0
    with file.open("wb") as out:
        for body in snapshot.documents(table.number):
            if done % BATCH_DOCUMENTS == 0:
                on_progress(table.name, done, total)
            out.write(wire_json(unpack_trusted(body)) + b"\n")
            done += 1
        _sync(out.fileno(), out.flush)
    on_progress(table.name, done, total)
    return done


def _private_rows(reader: ReaderEnvironment, prefixes: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    with reader as view:
        for prefix in prefixes:
            with view.cursor(view.dbs.private) as cursor:
                if cursor.set_range(prefix):
                    for key, value in cursor.iternext():
                        if not key.startswith(prefix):
                            break
                        yield key, value


def _sync(fd: int, flush: Callable[[], object]) -> None:
    flush()
    os.fsync(fd)


# ---- import ------------------------------------------------------------------------------


class _Index(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    fields: tuple[str, ...]
    unique: bool


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    number: int
    file: str
    documents: int
    indexes: tuple[_Index, ...]


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    version: int
    ts: str
    schema: str
    tables: tuple[_Table, ...]


class _Progress(msgspec.Struct, array_like=True):
    """What the private row under `PROGRESS_KEY` holds."""

    manifest: bytes  # digest, so that another export is not taken for the rest of this one
    table: int
    line: int


def import_store(
    store: Store, folder: str | Path, *, now_ns: Timestamp, on_progress: OnProgress = _silent
) -> TransferReport:
    """Bring an export into a store that has no tables; or go on with an import that was cut short.

    Args:
      now_ns: the timestamp of the first commit, if none is newer.

    Raises:
      InvalidExport: with the file and line that is wrong. What came before it is imported; correct
        the line and call again.
      StoreError: the store has tables already.
    """
    source = Path(folder)
    manifest, digest = _load_manifest(source)
    stored = store.private_get(PROGRESS_KEY)
    if stored is None:
        if store.catalog().tables:
            raise StoreError(f"{store.path} has tables already; import into an empty store")
        progress = _Progress(digest, 0, 0)
        _create_tables(store, manifest, progress, max(now_ns, store.head_ts + 1))
    else:
        progress = msgspec.msgpack.decode(stored, type=_Progress)
        if progress.manifest != digest:
            raise StoreError(f"{store.path} holds a part of another import; begin with an empty store")
    while progress.table < len(manifest.tables):
        table = manifest.tables[progress.table]
        _import_table(store, source / table.file, table, progress, on_progress)
        progress.table, progress.line = progress.table + 1, 0
    plan = store.catalog().plan()
    plan.set_schema(manifest.schema)
    rows = (*_read_private(source / PRIVATE_FILE), (PROGRESS_KEY, None))
    store.commit([Commit(store.head_ts + 1, catalog=plan.change(), private=rows)])
    documents = sum(table.documents for table in manifest.tables)
    return TransferReport(len(manifest.tables), documents, store.head_ts)


def _load_manifest(folder: Path) -> tuple[_Manifest, bytes]:
    file = folder / MANIFEST
    try:
        data = file.read_bytes()
        manifest = msgspec.json.decode(data, type=_Manifest)
    except FileNotFoundError:
        raise InvalidExport(f"{file} is missing; the folder holds no finished export") from None
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidExport(f"{file}: {error}") from None
    if manifest.format != FORMAT_NAME or manifest.version != FORMAT_VERSION:
        raise InvalidExport(
            f"{file}: {manifest.format} version {manifest.version}; "
            f"this version reads {FORMAT_NAME} {FORMAT_VERSION}"
        )
    for table in manifest.tables:
        if Path(table.file).is_absolute() or ".." in Path(table.file).parts or "\0" in table.file:
            raise InvalidExport(f"{file}: {table.file!r} is outside of the export")
    return manifest, blake2b(data, digest_size=16).digest()


def _create_tables(store: Store, manifest: _Manifest, progress: _Progress, ts: Timestamp) -> None:
    plan = store.catalog().plan()
    for table in sorted(manifest.tables, key=lambda table: table.number):
        plan.create_table(table.name, table.number)
        for index in table.indexes:
            plan.add_index(table.name, index.name, index.fields, unique=index.unique, state="ready")
    store.commit([Commit(ts, catalog=plan.change(), private=(_progress_row(progress),))])


def _progress_row(progress: _Progress) -> tuple[bytes, bytes]:
    return PROGRESS_KEY, msgspec.msgpack.encode(progress)


def _import_table(
    store: Store, file: Path, table: _Table, progress: _Progress, on_progress: OnProgress
) -> None:
    try:
        lines = file.open("rb")
    except OSError as error:
        raise InvalidExport(f"{file}: {error.strerror}") from None
    with lines:
        for _ in range(progress.line):
            lines.readline(LINE_BYTES_MAX)
        while batch := list(islice(iter(lambda: lines.readline(LINE_BYTES_MAX), b""), BATCH_DOCUMENTS)):
            on_progress(table.name, progress.line, table.documents)
            writes = tuple(
                _document(file, progress.line + place, line, table)
                for place, line in enumerate(batch, start=1)
            )
            progress.line += len(batch)
            try:
                store.commit([Commit(store.head_ts + 1, writes, private=(_progress_row(progress),))])
            except InvalidCommit as error:
                first = progress.line - len(batch) + 1
                raise InvalidExport(f"{file}, lines {first} to {progress.line}: {error}") from error
    if progress.line != table.documents:
        raise InvalidExport(f"{file} has {progress.line} lines, the manifest says {table.documents}")
    on_progress(table.name, progress.line, table.documents)


def _document(file: Path, number: int, line: bytes, table: _Table) -> DocumentWrite:
    try:
        document = from_wire(parse_json(line), "document")
        if type(document) is not dict or type(document.get("_id")) is not str:
            raise InvalidValue("document", "not an object with an _id")
        if type(document.get("_creationTime")) not in (int, float):
            raise InvalidValue("document", "no _creationTime")
        table_number, internal_id = decode_id(document["_id"])
        if table_number != table.number:
            raise InvalidId(f"{document['_id']!r} is not an id of {table.name}")
    except (InvalidValue, InvalidId) as error:
        raise InvalidExport(f"{file}, line {number}: {error}") from None
    return DocumentWrite(table_number, internal_id, pack(document))


def _read_private(file: Path) -> Iterator[tuple[bytes, bytes]]:
    if not file.exists():
        return
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            row: dict[str, Any] = json.loads(line)
            yield base64.b64decode(row["key"], validate=True), base64.b64decode(row["value"], validate=True)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidExport(f"{file}, line {number}: {error}") from None
