"""The folder of a store: whose it is, and whether its file can be opened.

    store.json      format and identity; written once, when the file is known to be good
    writer.lock     held (flock) by the one process that writes; names its pid for people
    data.mdb        the data; lock.mdb is LMDB's table of readers

The lock goes with the process that holds it, also after a kill. `store.json` tells a
new folder from one whose `data.mdb` has gone missing: LMDB would quietly begin an
empty file there.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs

from storage.environment import DATA_FILE, translated
from storage.errors import NewerFormat, StoreBusy, StoreDamaged, StoreMissing, StoreNotWritable
from storage.layout import FORMAT

MARKER_FILE: Final = "store.json"
LOCK_FILE: Final = "writer.lock"


@attrs.define
class Folder:
    """A folder that this process may write to, until `close`."""

    path: Path
    _lock_fd: int
    id: str | None  # None while the store is being made

    @classmethod
    def open(cls, path: Path, *, create: bool) -> Folder:
        """Take the lock and look at what is there.

        Raises:
          StoreMissing, StoreBusy, StoreNotWritable, StoreDamaged, NewerFormat
        """
        if create:
            with translated(path):
                _make(path)
        elif not (path / MARKER_FILE).exists() and not (path / DATA_FILE).exists():
            raise StoreMissing(f"there is no store in {path}; check the path")
        lock_fd = _lock(path)
        try:
            marker = read_marker(path)
            _check_data_file(path, must_exist=marker is not None)
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd, marker)

    def write_marker(self) -> None:
        """Declare the store made: from now on a missing data file is damage."""
        self.id = secrets.token_hex(16)
        with translated(self.path):
            temporary = self.path / f"{MARKER_FILE}.new"
            with temporary.open("w") as file:
                json.dump({"format": FORMAT, "id": self.id}, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / MARKER_FILE)
            sync_folder(self.path)

    def close(self) -> None:
        os.close(self._lock_fd)


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, FileNotFoundError) as error:
        reason = error.strerror or str(error)
        raise StoreNotWritable(f"no folder can be made at {path}: {reason}; choose another path") from error


def _lock(path: Path) -> int:
    file = path / LOCK_FILE
    try:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreNotWritable(
            f"cannot write in {path}: {error.strerror}; check its owner, mode and mount"
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise StoreNotWritable(f"cannot lock {file}: {error.strerror}") from error
        raise StoreBusy(f"{path} is in use by process {holder}; stop it, or use another folder") from None
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        # The pid only helps people; a full disk must not keep a store from being opened.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            os.close(fd)
            raise StoreNotWritable(f"cannot write {file}: {error.strerror}") from error
    return fd


def read_marker(path: Path) -> str | None:
    """Return the store's identity, or None if the folder holds no finished store."""
    file = path / MARKER_FILE
    try:
        marker = json.loads(file.read_bytes())
        found, identity = marker["format"], marker["id"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(f"{file} is unreadable ({error}); restore it from a backup") from None
    if type(found) is not int or type(identity) is not str:
        raise StoreDamaged(f"{file} is unreadable; restore it from a backup")
    if found > FORMAT:
        raise NewerFormat(
            f"{path} has format {found}, and this version reads up to {FORMAT}; use a newer version"
        )
    return identity


def _check_data_file(path: Path, *, must_exist: bool) -> None:
    file = path / DATA_FILE
    size = file.stat().st_size if file.exists() else 0
    if must_exist and size == 0:
        what = "empty" if file.exists() else "missing"
        raise StoreDamaged(f"{file} is {what}; restore a backup")


def check_length(path: Path, pages: int, page_size: int) -> None:
    """See that the file is as long as its newest transaction says.

    LMDB may leave unused pages at the end unwritten, so a short file is read through before it is
    called damaged. That happens in another process: reading past the end of a map kills.
    """
    size = (path / DATA_FILE).stat().st_size
    if size >= pages * page_size:
        return
    result = subprocess.run(
        [sys.executable, "-P", "-m", "storage.probe", str(path)], capture_output=True, check=False
    )
    if result.returncode != 0:
        raise StoreDamaged(
            f"{path / DATA_FILE} is truncated: {size:,} bytes of {pages * page_size:,}; restore a backup"
        )
