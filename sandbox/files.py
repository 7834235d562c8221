"""`ctx.storage`: files, whose rows are in the system table `_storage` (app-api 10).

Queries and mutations look at rows like at any document, so a URL in a result is a read
of the file's row. What is in a file is for actions, which ask the engine for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from sandbox.costs import COPY_BYTES
from sandbox.database import NotAllowed, SystemReader
from sandbox.execution import Level
from sandbox.file_links import FILES_PATH, FILES_TABLE, NONCE_BYTES, UPLOAD_PATH, FileLinks
from sandbox.host import HostObject
from tidewell.errors import InvalidId, NotFound
from tidewell.ids import decode_id
from tidewell.values import Value

PIECE_BYTES: Final = 2**20  # of a file, on the way between a worker and the engine
WHOLE_BYTES_MAX: Final = 16 * 2**20  # of a file that is handed over in one piece

# (operation, arguments) -> the engine's answer; the operations are those of `engine/files.py`
AskFiles = Callable[[str, dict[str, Value]], Value]
FindVariable = Callable[[str], Any]


class Storage(HostObject):
    """What every kind has; what one cannot do says where it is done."""

    __slots__ = ("_level", "_links", "_origin")
    _exposed_ = frozenset(
        {"delete", "generate_upload_url", "get", "get_metadata", "get_url", "open", "store"}
    )

    def __init__(self, level: Level, links: FileLinks, find_variable: FindVariable) -> None:
        self._level = level
        self._links = links
        self._origin = find_variable

    def get_url(self, storage_id: Any) -> str | None:
        """Where a browser finds the file, None when there is none. Who has the URL has the file."""
        row = self.get_metadata(storage_id)
        if row is None:
            return None
        _, internal_id = decode_id(storage_id)
        return f"{self._origin_url()}{FILES_PATH}{self._links.link(internal_id)}"

    def get_metadata(self, storage_id: Any) -> dict[str, Value] | None:
        """The row of the file: its size, its digest, its type."""
        return SystemReader(self._level).get(FILES_TABLE, _checked(storage_id))

    def generate_upload_url(self) -> str:
        """A URL that takes one POST with the file as its body, within an hour."""
        self._refuse("generate_upload_url", "a mutation or an action")

    def delete(self, storage_id: Any) -> None:
        self._refuse("delete", "a mutation or an action")

    def store(self, data: Any, content_type: Any = None, sha256: Any = None) -> str:
        self._refuse("store", "an action")

    def get(self, storage_id: Any) -> bytes | None:
        self._refuse("get", "an action")

    def open(self, storage_id: Any) -> Any:
        self._refuse("open", "an action")

    def _refuse(self, operation: str, where: str) -> NoReturn:
        raise NotAllowed(f"a {self._level.kind} cannot use ctx.storage.{operation}(); do it in {where}")

    def _origin_url(self) -> str:
        return str(self._origin("CONVEX_CLOUD_URL") or "")

    def _upload_url(self) -> str:
        nonce = self._level.chance.ids.bytes(NONCE_BYTES)
        token = self._links.upload_token(self._level.execution.now_ms, nonce)
        return f"{self._origin_url()}{UPLOAD_PATH}?token={token}"


class MutationStorage(Storage):
    __slots__ = ()
    _exposed_ = Storage._exposed_

    def generate_upload_url(self) -> str:
        return self._upload_url()

    def delete(self, storage_id: Any) -> None:
        if self.get_metadata(storage_id) is None:
            raise _no_file(storage_id)
        self._level.database.delete(storage_id)
        self._level.limits.check_writes(self._level.database.usage)


class ActionStorage(Storage):
    __slots__ = ("_ask",)
    _exposed_ = Storage._exposed_

    def __init__(self, level: Level, links: FileLinks, find_variable: FindVariable, ask: AskFiles) -> None:
        super().__init__(level, links, find_variable)
        self._ask = ask

    def get_metadata(self, storage_id: Any) -> dict[str, Value] | None:
        row = self._ask("metadata", {"id": _checked(storage_id)})
        assert row is None or type(row) is dict
        return row

    def generate_upload_url(self) -> str:
        return self._upload_url()

    def delete(self, storage_id: Any) -> None:
        if not self._ask("delete", {"id": _checked(storage_id)}):
            raise _no_file(storage_id)

    def store(self, data: Any, content_type: Any = None, sha256: Any = None) -> str:
        """Keep bytes, or an iterable of bytes, as a file; return its id. A digest that differs raises."""
        for name, value in (("content_type", content_type), ("sha256", sha256)):
            if value is not None and type(value) is not str:
                raise TypeError(f"{name} is text, found a {type(value).__name__}")
        if type(data) is bytes:
            pieces: Any = iter([data])
        elif hasattr(data, "__iter__") and type(data) is not str:
            pieces = iter(data)
        else:
            raise TypeError(f"store() takes bytes or an iterable of bytes, found a {type(data).__name__}")
        handle = self._ask("begin", {})
        waiting = bytearray()  # small pieces travel together
        for piece in pieces:
            if type(piece) is not bytes:
                raise TypeError(f"store() takes bytes, found a {type(piece).__name__}")
            self._level.execution.charge(1 + len(piece) // COPY_BYTES)
            waiting += piece
            while len(waiting) >= PIECE_BYTES:
                self._ask("write", {"data": bytes(waiting[:PIECE_BYTES]), "handle": handle})
                del waiting[:PIECE_BYTES]
        if waiting:
            self._ask("write", {"data": bytes(waiting), "handle": handle})
        wanted: dict[str, Value] = {"contentType": content_type, "handle": handle, "sha256": sha256}
        stored = self._ask("finish", wanted)
        assert type(stored) is str
        return stored

    def get(self, storage_id: Any) -> bytes | None:
        """What is in the file, None when there is none."""
        row = self.get_metadata(storage_id)
        if row is None:
            return None
        if row["size"] > WHOLE_BYTES_MAX:
            raise ValueError(f"get() reads files of at most {WHOLE_BYTES_MAX} bytes; open() reads in pieces")
        return b"".join(iter(StoredFile(self._ask, storage_id, row["size"]).read, b""))

    def open(self, storage_id: Any) -> StoredFile:
        """The file, to be read in pieces."""
        row = self.get_metadata(storage_id)
        if row is None:
            raise _no_file(storage_id)
        return StoredFile(self._ask, storage_id, row["size"])


class StoredFile(HostObject):
    """An open file: `read(size)` gives the next bytes, b"" at the end; iterating gives pieces."""

    __slots__ = ("_ask", "_id", "_offset", "_size")
    _exposed_ = frozenset({"read"})

    def __init__(self, ask: AskFiles, storage_id: str, size: int) -> None:
        self._ask = ask
        self._id = storage_id
        self._size = size
        self._offset = 0

    def read(self, size: Any = PIECE_BYTES) -> bytes:
        if type(size) is not int or not 0 <= size <= PIECE_BYTES:
            raise ValueError(f"read() takes a size from 0 to {PIECE_BYTES}")
        size = min(size, self._size - self._offset)
        if size == 0:
            return b""
        piece = self._ask("read", {"id": self._id, "offset": self._offset, "size": size})
        if type(piece) is not bytes or len(piece) != size:
            raise _no_file(self._id)  # deleted meanwhile
        self._offset += size
        return piece

    def __iter__(self) -> StoredFile:
        return self

    def __next__(self) -> bytes:
        piece = self.read()
        if not piece:
            raise StopIteration
        return piece


def _checked(storage_id: Any) -> str:
    if type(storage_id) is not str:
        raise InvalidId(f"an id of a file is text, found a {type(storage_id).__name__}")
    return storage_id


def _no_file(storage_id: str) -> NotFound:
    return NotFound(f"there is no file {storage_id!r}; it may have been deleted")
