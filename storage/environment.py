"""The one door to LMDB: opening a file, reading views of it, writing to it.

Two ways in. `Environment` is the writer's: it holds the folder's lock, takes part
in LMDB's reader table, and grows the map when it is full. `ReaderEnvironment` is
a worker's: read-only and lock-less, so it touches no shared memory but the map,
and after `open` it makes no system call at all; somebody else has to pin what it reads
(`Environment.pin`).

Invariants:

* Every write transaction ends by writing the *state row*, which holds the
  transaction's own number. A reader that finds another number there has met a
  meta page in the middle of being written, and begins again.
* The map moves only while `gate` is held and no read is in progress. Reads inside
  the writer's process hold `gate` for a moment each, and begin their LMDB
  transaction anew when `generation` says that the map has moved.
* A commit has either happened or not when `write` returns or raises, except for
  `CommitOutcomeUnknown`, after which the environment refuses everything.

The commit point is LMDB's write of its meta page, inside `Transaction.commit`. LMDB
syncs the data pages before it, so an error before that write leaves the file as it
was; an error in it can be told from LMDB refusing further transactions. Only a lack of
room is taken for such a clean failure. Any other error of the disk while committing
counts as an unknown outcome, because a disk that fails is not one to go on with.
"""

from __future__ import annotations

import errno
import os
import resource
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import lmdb

from storage.errors import (
    CommitOutcomeUnknown,
    DiskFull,
    MapOutgrown,
    ReaderStale,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreNotWritable,
)
from storage.layout import DATABASES
from storage.pins import Pin
from storage.state import STATE_BYTES, State
from storage.zones import Zones

DATA_FILE: Final = "data.mdb"  # LMDB's name
MAP_SIZE: Final = 1 << 30  # address space, not memory or disk
MAP_STEP_MAX: Final = 64 << 30  # the map doubles up to this, then grows by it
READERS_MAX: Final = 1024  # pins, snapshots and backups at one time
READER_MAP_FACTOR: Final = 4  # how far the file may grow before a lock-less reader must be replaced
READER_ATTEMPTS: Final = 1000  # each costs microseconds; a torn meta page lasts for less than one
_SHORT_BYTES: Final = 64 << 20  # less room than that, and a cut write is put down to a full disk
_FULL: Final = 0.75  # of the map, at which it grows ahead of need when nothing is pinned

if TYPE_CHECKING:
    Db = lmdb._Database
    Cursor = lmdb.Cursor[bytes]  # generic for the type checker alone
else:
    Db = Cursor = object
T = TypeVar("T")

_STATE_KEY: Final = b"state"


@attrs.frozen
class Databases:
    """Handles of the named databases of `layout.py`."""

    meta: Db
    documents: Db
    documents_history: Db
    index: Db
    index_history: Db
    log: Db
    catalog: Db
    private: Db
    backfill: Db
    garbage: Db


@attrs.define(eq=False)
class View:
    """One LMDB read transaction: a consistent picture of the whole file."""

    txn: lmdb.Transaction[bytes]
    dbs: Databases
    state: State
    far_ts: int = -1  # snapshots up to it are known to be far behind this view
    zones: Zones = attrs.field(factory=Zones)

    def get(self, db: Db, key: bytes) -> bytes | None:
        return self.txn.get(key, None, db)

    def cursor(self, db: Db) -> Cursor:
        return self.txn.cursor(db)


@attrs.define(eq=False)
class Writer:
    """One LMDB write transaction. Tests pass a subclass that fails or kills at a chosen step."""

    txn: lmdb.Transaction[bytes]
    dbs: Databases
    state: State

    def get(self, db: Db, key: bytes) -> bytes | None:
        return self.txn.get(key, None, db)

    def put(self, db: Db, key: bytes, value: bytes) -> None:
        self.txn.put(key, value, db=db)

    def put_new(self, db: Db, key: bytes, value: bytes) -> bool:
        """Put unless there is a row already. False if there is."""
        return self.txn.put(key, value, overwrite=False, db=db)

    def pop(self, db: Db, key: bytes) -> bytes | None:
        return self.txn.pop(key, db=db)

    def delete(self, db: Db, key: bytes) -> bool:
        return self.txn.delete(key, db=db)

    def cursor(self, db: Db) -> Cursor:
        return self.txn.cursor(db)

    def before_commit(self) -> None:
        """Called when everything is put, before LMDB commits."""

    def after_commit(self) -> None:
        """Called when the commit is durable, before anybody is told."""


@attrs.define(eq=False)
class Environment:
    """The writer's side. `gate` and `generation` are explained at the head of the module."""

    path: Path
    _env: lmdb.Environment
    _dbs: Databases
    _writer: type[Writer]
    _sync: bool
    gate: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    generation: int = attrs.field(default=0, init=False)
    _write_lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _pins: weakref.WeakSet[Pin] = attrs.field(factory=weakref.WeakSet, init=False)
    _refusal: str | None = attrs.field(default=None, init=False)

    @classmethod
    def open(
        cls, path: Path, *, map_size: int = MAP_SIZE, writer: type[Writer] = Writer, sync: bool = True
    ) -> Environment:
        with translated(path):
            file = path / DATA_FILE
            size = file.stat().st_size if file.exists() else 0
            env = lmdb.Environment(
                str(path),
                map_size=max(map_size, 2 * size),
                max_dbs=len(DATABASES),
                max_readers=READERS_MAX,
                max_spare_txns=4,
                sync=sync,
                metasync=sync,
                readahead=True,
            )
            try:
                env.reader_check()
                dbs = Databases(*(env.open_db(name.encode()) for name in DATABASES))
            except BaseException:
                env.close()
                raise
        return cls(path, env, dbs, writer, sync)

    # ---- reading -------------------------------------------------------------------

    @contextmanager
    def view(self) -> Iterator[View]:
        """Give a view for a short read. The map cannot move meanwhile."""
        with self.gate:
            view = self.begin()
            try:
                yield view
            finally:
                view.txn.abort()

    def state(self) -> State:
        with self.view() as view:
            return view.state

    def begin(self) -> View:
        """Begin a read transaction. The caller holds `gate`."""
        self._check_open()
        with translated(self.path):
            txn = self._env.begin()
            row = txn.get(_STATE_KEY, None, self._dbs.meta)
        return View(txn, self._dbs, State() if row is None else State.unpack(row))

    def pin(self) -> Pin:
        with self.gate:
            view = self.begin()
            pin = Pin(view.txn.id(), view.state.head, self, view)
            self._pins.add(pin)
            return pin

    def release(self, pin: Pin) -> None:
        with self.gate:
            self._pins.discard(pin)
            view, pin.view = pin.view, None
            if view is not None and not pin.lost and self._refusal is None:
                view.txn.abort()

    # ---- writing -------------------------------------------------------------------

    def write(self, body: Callable[[Writer], T]) -> T:
        """Run `body` in one write transaction and make it durable.

        `body` may run several times: again from the start, on a larger map, when the map is full.

        Raises:
          DiskFull: nothing was written.
          CommitOutcomeUnknown: it may have been.
        """
        with self._write_lock:
            while True:
                self._check_open()
                try:
                    result = self._attempt(body)
                except lmdb.MapFullError:
                    self._grow()
                else:
                    self._grow_ahead()
                    return result

    def _attempt(self, body: Callable[[Writer], T]) -> T:
        with translated(self.path):
            txn = self._env.begin(write=True)
            try:
                row = txn.get(_STATE_KEY, None, self._dbs.meta)
                state = State() if row is None else State.unpack(row)
                writer = self._writer(txn, self._dbs, attrs.evolve(state, txn_id=txn.id()))
                result = body(writer)
                writer.put(self._dbs.meta, _STATE_KEY, writer.state.pack())
                writer.before_commit()
            except BaseException:
                txn.abort()
                raise
        self._commit(txn, writer)
        return result

    def _commit(self, txn: lmdb.Transaction[bytes], writer: Writer) -> None:
        try:
            txn.commit()
        except lmdb.MapFullError:
            raise  # found while LMDB saved its list of free pages, before it wrote anything
        except lmdb.Error as error:
            is_short = error.code in _NO_ROOM or (error.code == errno.EIO and _is_room_short(self.path))
            if is_short and self._newest_txn_id() == writer.state.txn_id - 1:
                raise DiskFull(
                    f"no room to write in {self.path}: {error.reason}; free some and retry"
                ) from error
            self._refusal = f"the outcome of a commit to {self.path} is unknown; restart and recover"
            raise CommitOutcomeUnknown(f"{self._refusal} ({error})") from error
        writer.after_commit()

    def _newest_txn_id(self) -> int | None:
        """Return the number of the newest transaction, or None if LMDB refuses to say."""
        try:
            txn = self._env.begin()
        except lmdb.Error:
            return None
        try:
            return txn.id()
        finally:
            txn.abort()

    def _grow_ahead(self) -> None:
        """Grow while nobody is in the way, rather than in the middle of a commit."""
        info = self._env.info()
        if (info["last_pgno"] + 1) * self.page_size > _FULL * info["map_size"] and not self._pins:
            with self.gate:
                if not self._pins:
                    self._grow()

    def _grow(self) -> None:
        with self.gate, translated(self.path):
            self._env.reader_check()  # readers that were killed keep pages from being reused
            size = self._env.info()["map_size"]
            for pin in self._pins:
                pin.lost = True
            self._pins.clear()
            self.generation += 1
            self._env.set_mapsize(size + min(size, MAP_STEP_MAX))

    # ---- the rest -------------------------------------------------------------------

    @property
    def page_size(self) -> int:
        size: int = self._env.stat()["psize"]
        return size

    def last_page(self) -> int:
        return self._env.info()["last_pgno"]

    def map_size(self) -> int:
        return self._env.info()["map_size"]

    def sizes_bytes(self) -> dict[str, int]:
        """Return the bytes of pages in use by each named database."""
        sizes = {}
        with self.view() as view:
            for name in DATABASES:
                stat = view.txn.stat(getattr(self._dbs, name))
                pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
                sizes[name] = pages * stat["psize"]
        return sizes

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise StoreClosed(self._refusal)

    def close(self) -> None:
        with self._write_lock, self.gate:
            if self._refusal is None:
                self._refusal = f"the store in {self.path} is closed"
            for pin in self._pins:
                pin.lost = True
            self._pins.clear()
            self.generation += 1
            self._env.close()


@attrs.define(eq=False)
class ReaderEnvironment:
    """The worker's side. Not for threads."""

    path: Path
    _env: lmdb.Environment
    _dbs: Databases
    view: View | None = attrs.field(default=None, init=False)

    @classmethod
    def open(cls, path: Path, *, map_size: int = 0, lock: bool = False) -> ReaderEnvironment:
        """Map the file and read once.

        Args:
          map_size: bytes of address space; by default a multiple of the file's size.
          lock: take part in LMDB's reader table, so that what is read need not be pinned. For tools
            in processes of their own; workers must not.
        """
        with translated(path):
            size = os.stat(path / DATA_FILE).st_size
            env = lmdb.Environment(
                str(path),
                map_size=map_size or max(MAP_SIZE, READER_MAP_FACTOR * size),
                max_dbs=len(DATABASES),
                max_spare_txns=1,
                readonly=True,
                lock=lock,
                create=False,
            )
            dbs = Databases(*(env.open_db(name.encode(), create=False) for name in DATABASES))
        reader = cls(path, env, dbs)
        reader.refresh()
        return reader

    def refresh(self, at_least: int = 0) -> int:
        """Begin a read transaction on the newest state and return its number.

        Raises:
          MapOutgrown: the file has grown past the map; only a new process can read it.
          ReaderStale: the newest state is older than transaction `at_least`.
        """
        if self.view is not None:
            self.view.txn.abort()
            self.view = None
        for _ in range(READER_ATTEMPTS):
            view = self._begin()
            if view is None:
                continue
            self.view = view
            if view.state.txn_id < at_least:
                raise ReaderStale(f"transaction {at_least} is not visible yet, only {view.state.txn_id}")
            return view.state.txn_id
        raise StoreDamaged(f"no consistent state to be read in {self.path}; run verify and restore a backup")

    def _begin(self) -> View | None:
        """Begin, or return None when a commit came in between."""
        txn = None
        try:
            txn = self._env.begin()
            row = txn.get(_STATE_KEY, None, self._dbs.meta)
            if row is not None and len(row) == STATE_BYTES:
                state = State.unpack(row)
                if state.txn_id == txn.id():
                    return View(txn, self._dbs, state)
        except lmdb.MapResizedError:
            raise MapOutgrown(f"{self.path} has grown past this reader's map; replace the reader") from None
        except lmdb.Error:
            pass  # a root page that is being replaced; the next attempt sees the new one
        if txn is not None:
            txn.abort()
        return None

    def __enter__(self) -> View:
        assert self.view is not None, "the last refresh failed"
        return self.view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        retell(self.path, error)

    def needed_bytes(self) -> int:
        """Return how long the file should be."""
        size: int = (self._env.info()["last_pgno"] + 1) * self._env.stat()["psize"]
        return size

    def copy_to(self, folder: Path) -> None:
        """Write a compact and durable copy of the viewed state into an empty folder."""
        assert self.view is not None, "the last refresh failed"
        with translated(folder):
            # Not `copy`: it writes past the page cache, where a full disk comes out as an invalid argument.
            fd = os.open(folder / DATA_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            try:
                self._env.copyfd(fd, compact=True, txn=self.view.txn)
            finally:
                os.close(fd)
            # LMDB numbers a compact copy's transaction anew. Writing once makes the state row agree.
            copy = Environment.open(folder)
            try:
                copy.write(lambda writer: None)
            finally:
                copy.close()

    def close(self) -> None:
        if self.view is not None:
            self.view.txn.abort()
            self.view = None
        self._env.close()


def _is_room_short(path: Path) -> bool:
    """Whether a write that was cut short may have been cut by a full disk; LMDB calls that EIO."""
    system = os.statvfs(path)
    size = (path / DATA_FILE).stat().st_size
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return system.f_bavail * system.f_frsize < _SHORT_BYTES or (
        limit != resource.RLIM_INFINITY and limit - size < _SHORT_BYTES
    )


# ---- errors ------------------------------------------------------------------------

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY: Final = (errno.EACCES, errno.EROFS, errno.EPERM)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn LMDB's and the system's errors into ours, one clear line each."""
    try:
        yield
    except (lmdb.MapFullError, StoreError):
        raise
    except lmdb.MapResizedError:
        raise MapOutgrown(f"{path} was grown by another process; open it again") from None
    except lmdb.ReadersFullError as error:
        raise StoreError(f"more than {READERS_MAX} readers of {path} at one time; close some") from error
    except lmdb.Error as error:
        raise _translate(path, error.code, error.reason or str(error)) from error
    except FileNotFoundError as error:
        raise StoreDamaged(f"{error.filename or path} is missing; restore a backup") from error
    except OSError as error:
        raise _translate(path, error.errno or 0, error.strerror or str(error)) from error


def retell(path: Path, error: BaseException | None) -> None:
    """Raise an error of LMDB as one of ours; leave others to whoever raised them."""
    if isinstance(error, lmdb.Error):
        raise _translate(path, error.code, error.reason or str(error)) from error


def _translate(path: Path, code: int, reason: str) -> StoreError:
    if code in _NO_ROOM:
        return DiskFull(f"no room to write in {path}: {reason}; free some and retry")
    if code in _READ_ONLY:
        return StoreNotWritable(f"cannot write in {path}: {reason}; check its owner, mode and mount")
    if code == errno.ENOMEM:
        return StoreError(f"cannot map {path}: {reason}; raise the limit on address space")
    return StoreDamaged(f"{path / DATA_FILE} cannot be used: {reason}; run verify and restore a backup")
