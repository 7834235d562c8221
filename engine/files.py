"""The files of a deployment: their bytes in a folder, their rows in the system table `_storage`.

A file is written under a name of its own, made durable, given its final name, and only
then gets its row: what a row says is there, is there. A row goes in a commit like any
other, of a mutation or of the engine's own; its bytes are swept up after it. So a
crash leaves bytes without a row at worst, and the next sweep takes them.

Bytes are in `files/<internal id in hex>`; what is still arriving, in `files/incoming-...`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import attrs
import trio

from engine.chance import Chance
from engine.clock import Clock
from engine.offload import RunBlocking
from engine.own_writes import OwnWrites
from sandbox.file_links import FILES_TABLE, FileLinks
from sandbox.files import PIECE_BYTES
from storage import CatalogPlan, Store, Transaction
from tidewell.errors import InvalidId, InvalidValue, NotFound
from tidewell.ids import INTERNAL_ID_BYTES, decode_id
from tidewell.values import Value, object_of, unpack_trusted

FILE_BYTES_MAX: Final = 2**30
CONTENT_TYPE_LENGTH_MAX: Final = 256
UPLOADS_MAX: Final = 16  # that one action has open
SWEEP_S: Final = 60.0
_INCOMING: Final = "incoming-"


class FileRefused(Exception):
    """A file cannot be kept, or is not there. The text is for whoever asked."""


@attrs.frozen
class FileRow:
    internal_id: bytes
    size: int
    sha256: str
    content_type: str | None


@attrs.define(eq=False)
class Uploads:
    """The files that one action is writing."""

    _open: dict[int, Incoming] = attrs.field(factory=dict, init=False)
    _made: int = attrs.field(default=0, init=False)

    def add(self, incoming: Incoming) -> int:
        if len(self._open) >= UPLOADS_MAX:
            incoming.abandon()
            raise FileRefused(f"an action writes at most {UPLOADS_MAX} files at a time")
        self._made += 1
        self._open[self._made] = incoming
        return self._made

    def find(self, handle: Value) -> Incoming:
        incoming = self._open.get(handle) if type(handle) is int else None
        if incoming is None:
            raise InvalidValue("handle", "is of no file that is being written")
        return incoming

    def abandon(self) -> None:
        for incoming in self._open.values():
            incoming.abandon()


@attrs.define(eq=False)
class Files:
    _folder: Path
    _store: Store
    _writes: OwnWrites
    _clock: Clock
    _chance: Chance
    links: FileLinks
    run_blocking: RunBlocking
    _unlisted: set[str] = attrs.field(factory=set, init=False)  # names of files whose row is on its way

    @property
    def table(self) -> int | None:
        """The number of the system table; None before the first file."""
        info = self._store.catalog().tables.get(FILES_TABLE)
        return None if info is None else info.number

    # ---- reading ----------------------------------------------------------------------

    def row(self, internal_id: bytes) -> FileRow | None:
        """Return the row of a file as of now."""
        document = self._document(internal_id)
        if document is None:
            return None
        content_type = document.get("contentType")
        return FileRow(
            internal_id,
            int(document["size"]),
            str(document["sha256"]),
            None if content_type is None else str(content_type),
        )

    def path(self, internal_id: bytes) -> Path:
        return self._folder / internal_id.hex()

    async def read(self, internal_id: bytes, offset: int, size: int) -> bytes:
        """Return bytes of a file, fewer at its end and none if it is gone."""
        return await self.run_blocking(_read, self.path(internal_id), offset, size)

    def _document(self, internal_id: bytes) -> dict[str, Value] | None:
        number = self.table
        if number is None:
            return None
        with self._store.snapshot() as snapshot:
            body = snapshot.get(number, internal_id)
        return None if body is None else object_of(unpack_trusted(body))

    # ---- writing ----------------------------------------------------------------------

    def is_upload_token(self, token: str) -> bool:
        return self.links.is_upload_token(token, self._clock.now_ms())

    async def begin(self) -> Incoming:
        """Begin a new file."""
        internal_id = self._chance.token(INTERNAL_ID_BYTES)
        try:
            stream = await self.run_blocking(self._create, internal_id)
        except OSError as error:
            raise FileRefused(f"the file cannot be written: {error.strerror}") from None
        return Incoming(self, internal_id, stream)

    def _create(self, internal_id: bytes) -> BinaryIO:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return (self._folder / f"{_INCOMING}{internal_id.hex()}").open("xb")

    async def list(self, incoming: Incoming, content_type: str | None, sha256: str) -> str:
        """Give a file that has all its bytes its final name and its row. Returns its id."""
        name = incoming.internal_id.hex()
        body: dict[str, Value] = {"sha256": sha256, "size": incoming.size}
        if content_type is not None:
            body = {"contentType": content_type, **body}
        created_ms = self._clock.now_ms()
        self._unlisted.add(name)
        try:
            await self.run_blocking(_settle, self._folder, name)
            return await self._writes.run(
                lambda transaction: transaction.insert(FILES_TABLE, body, incoming.internal_id, created_ms),
                prepare=_make_table,
            )
        except OSError as error:
            raise FileRefused(f"the file cannot be written: {error.strerror}") from None
        finally:
            self._unlisted.discard(name)

    # ---- for actions --------------------------------------------------------------------

    async def answer(self, operation: str, args: dict[str, Value], uploads: Uploads) -> Value:
        """Do what an action asks for (`sandbox/files.py`).

        Raises:
          FileRefused: what the action is told.
          InvalidValue: an honest worker does not ask this.
        """
        match operation:
            case "metadata":
                return self._document(self._internal_id(args))
            case "read":
                offset, size = args.get("offset"), args.get("size")
                if type(offset) is not int or type(size) is not int or not 0 <= size <= PIECE_BYTES:
                    raise InvalidValue("size", "is no size of a piece")
                return await self.read(self._internal_id(args), max(0, offset), size)
            case "delete":
                return await self._delete(self._internal_id(args), str(args["id"]))
            case "begin":
                return uploads.add(await self.begin())
            case "write":
                data = args.get("data")
                if type(data) is not bytes:
                    raise InvalidValue("data", "is not bytes")
                await uploads.find(args.get("handle")).write(data)
                return None
            case "finish":
                incoming = uploads.find(args.get("handle"))
                content_type, sha256 = args.get("contentType"), args.get("sha256")
                return await incoming.finish(
                    content_type if type(content_type) is str else None,
                    sha256 if type(sha256) is str else None,
                )
        raise InvalidValue("operation", f"{operation!r} is nothing that files can do")

    def _internal_id(self, args: dict[str, Value]) -> bytes:
        storage_id = args.get("id")
        if type(storage_id) is not str:
            raise InvalidValue("id", "is not text")
        try:
            number, internal_id = decode_id(storage_id)
        except InvalidId as error:
            raise FileRefused(str(error)) from None
        if number != self.table:
            raise FileRefused(f"{storage_id!r} is not an id of {FILES_TABLE}")
        return internal_id

    async def _delete(self, internal_id: bytes, storage_id: str) -> bool:
        if self._document(internal_id) is None:
            return False

        def remove(transaction: Transaction) -> bool:
            try:
                transaction.delete(storage_id)
            except NotFound:
                return False  # another call was faster
            return True

        return await self._writes.run(remove)

    # ---- sweeping -----------------------------------------------------------------------

    async def run(self) -> None:
        """Remove what no row speaks of: left by a crash at first, and by deletions from then on."""
        await self.run_blocking(self._sweep, True)
        while True:
            await trio.sleep(SWEEP_S)
            await self.run_blocking(self._sweep, False)

    def _sweep(self, is_first: bool) -> None:
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for name in names:
            if name.startswith(_INCOMING):
                is_left = is_first
            else:
                is_left = name not in self._unlisted and self._document(bytes.fromhex(name)) is None
            # A second look at what is on its way: it may have got its row between the two.
            if is_left and name not in self._unlisted:
                (self._folder / name).unlink(missing_ok=True)


@attrs.define(eq=False)
class Incoming:
    """A file whose bytes are arriving."""

    _files: Files
    internal_id: bytes
    _stream: BinaryIO
    size: int = attrs.field(default=0, init=False)
    _digest: hashlib._Hash = attrs.field(factory=hashlib.sha256, init=False)

    async def write(self, data: bytes) -> None:
        """Take the next bytes. Raises `FileRefused`."""
        self.size += len(data)
        if self.size > FILE_BYTES_MAX:
            raise FileRefused(f"a file has at most {FILE_BYTES_MAX:,} bytes")
        self._digest.update(data)
        try:
            await self._files.run_blocking(self._stream.write, data)
        except (OSError, ValueError) as error:
            raise FileRefused(f"the file cannot be written: {error}") from None

    async def finish(self, content_type: str | None, sha256: str | None) -> str:
        """Keep the file; return its id. Raises `FileRefused`, also for another `sha256` (base64 or hex)."""
        digest = self._digest.digest()
        found = base64.b64encode(digest).decode()
        if sha256 is not None and sha256 not in (found, digest.hex()):
            raise FileRefused(f"the file's sha256 is {found}, not {sha256[:100]}")
        if content_type is not None and not _is_content_type(content_type):
            raise FileRefused("the content type is no line of printable ASCII")
        try:
            await self._files.run_blocking(self._sync)
        except (OSError, ValueError) as error:
            raise FileRefused(f"the file cannot be written: {error}") from None
        return await self._files.list(self, content_type, found)

    def _sync(self) -> None:
        with self._stream as stream:
            stream.flush()
            os.fsync(stream.fileno())

    def abandon(self) -> None:
        """Forget the bytes, unless the file was kept."""
        if not self._stream.closed:
            self._stream.close()
        Path(self._stream.name).unlink(missing_ok=True)


def copy_files(source: Path, destination: Path) -> None:
    """Copy what is in files to another folder, without what is there already: files never change."""
    try:
        names = os.listdir(source)
    except FileNotFoundError:
        return
    destination.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        if not name.startswith(_INCOMING) and not (destination / name).exists():
            with suppress(FileNotFoundError):  # swept meanwhile
                shutil.copy(source / name, destination / name)


def _is_content_type(text: str) -> bool:
    return len(text) <= CONTENT_TYPE_LENGTH_MAX and text.isascii() and text.isprintable()


def _make_table(plan: CatalogPlan) -> None:
    if FILES_TABLE not in plan.catalog.tables:
        plan.create_table(FILES_TABLE)


def _settle(folder: Path, name: str) -> None:
    """Give a file its final name, durably."""
    (folder / f"{_INCOMING}{name}").rename(folder / name)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, offset: int, size: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)
    except OSError:
        return b""
