"""Copying a live store: consistent, compact, and complete or not there at all.

The copy is made from one LMDB read transaction, which the writer respects through the
reader table, from any process. It is written beside its destination and renamed when it is
durable; a backup that was cut short is never taken for one. The copy is a store like any
other, with the identity of the original.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs

from storage.environment import DATA_FILE, ReaderEnvironment, translated
from storage.errors import MapOutgrown, StoreError, StoreMissing, StoreNotWritable, Timestamp
from storage.folder import MARKER_FILE, sync_folder

_OPEN_ATTEMPTS = 10  # each fails only if the store has grown past several times its size meanwhile


@attrs.frozen
class BackupReport:
    path: Path
    head: Timestamp
    size_bytes: int


def open_shared(path: Path) -> ReaderEnvironment:
    """Open a store for reading in a process of its own, while it may be in use.

    Raises:
      StoreMissing, StoreError
    """
    if not (path / DATA_FILE).exists():
        raise StoreMissing(f"there is no store in {path}; check the path")
    for _ in range(_OPEN_ATTEMPTS):
        try:
            return ReaderEnvironment.open(path, lock=True)
        except MapOutgrown:
            continue
        except StoreNotWritable:
            # Without the right to write there is no reader table; then there is no writer either.
            return ReaderEnvironment.open(path)
    raise StoreError(f"{path} grows faster than it can be opened; try again")


def backup(path: str | Path, destination: str | Path) -> BackupReport:
    """Copy the store in `path`, which may be in use by another process, to a new folder.

    Raises:
      StoreMissing: there is no store.
      StoreError: the destination exists, or has no room; nothing is left of it then.
    """
    source, target = Path(path), Path(destination)
    if target.exists():
        raise StoreError(f"{target} exists already; choose another folder for the backup")
    reader = open_shared(source)
    try:
        return _copy(reader, source, target)
    finally:
        reader.close()


def _copy(reader: ReaderEnvironment, source: Path, target: Path) -> BackupReport:
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with translated(partial):
            partial.mkdir(parents=True)
            with reader as view:
                head = view.state.head
                reader.copy_to(partial)
            shutil.copyfile(source / MARKER_FILE, partial / MARKER_FILE)
            sync_folder(partial)
            partial.rename(target)
            sync_folder(target.parent)
            return BackupReport(target, head, (target / DATA_FILE).stat().st_size)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
