"""Files over HTTP: uploads to URLs that functions made, downloads from URLs that they gave out."""

from __future__ import annotations

import re
from typing import Final

import attrs
import msgspec

from engine.exchange import Answer, Headers, Refused, Request, Response, Sink, Streamed, Upload, with_cors
from engine.files import FileRefused, FileRow, Files, Incoming
from sandbox.file_links import FILES_PATH, UPLOAD_PATH

PIECE_BYTES: Final = 256 * 1024
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)
_DIGITS_MAX: Final = 15


@attrs.frozen(eq=False)
class FilesApi:
    _files: Files

    # ---- uploads ------------------------------------------------------------------------

    def open_upload(self, request: Request) -> Upload | None:
        """Return who takes the body of a request, None if it is no upload. Raises `Refused`."""
        if request.path != UPLOAD_PATH or request.method != "POST":
            return None
        token = request.parameter("token") or ""
        if not self._files.is_upload_token(token):
            # The body is not waited for.
            problem = "this upload URL is not one of ours, or older than an hour"
            raise Refused(401, "InvalidUploadUrl", problem, with_cors(request, Response(401)).headers)
        return _FileUpload(self._files, request)

    # ---- downloads ----------------------------------------------------------------------

    def serves(self, request: Request) -> bool:
        """Whether a request is for a file."""
        return (
            request.path.startswith(FILES_PATH)
            and request.path != UPLOAD_PATH
            and request.method in ("GET", "HEAD")
        )

    async def respond(self, request: Request) -> Answer:
        """Answer a request for a file."""
        internal_id = self._files.links.read_link(request.path.removeprefix(FILES_PATH))
        row = None if internal_id is None else self._files.row(internal_id)
        if row is None:
            return with_cors(request, _missing().response())
        wanted = _read_range(request.header(b"range"), row.size)
        if wanted is None:
            unmet: Headers = [(b"content-range", f"bytes */{row.size}".encode())]
            refused = Refused(416, "RangeNotSatisfiable", "one range inside the file can be asked for", unmet)
            return with_cors(request, refused.response())
        start, stop = wanted
        is_whole = (start, stop) == (0, row.size) and request.header(b"range") is None
        headers = _headers(row, is_whole)
        if not is_whole:
            headers.append((b"content-range", f"bytes {start}-{stop - 1}/{row.size}".encode()))
        headers += with_cors(request, Response(200)).headers
        status = 200 if is_whole else 206
        return Streamed(lambda sink: self._send(sink, row, status, headers, start, stop))

    async def _send(
        self, sink: Sink, row: FileRow, status: int, headers: Headers, start: int, stop: int
    ) -> Response | None:
        piece = await self._piece(row, start, stop)
        if not piece and start < stop:
            raise _missing()  # swept between the look at the row and this one
        await sink.begin(status, headers, stop - start)
        while piece:
            await sink.write(piece)
            start += len(piece)
            piece = await self._piece(row, start, stop)
        return Response(500) if start < stop else None  # swept in the middle: cut off

    async def _piece(self, row: FileRow, start: int, stop: int) -> bytes:
        size = min(PIECE_BYTES, stop - start)
        return await self._files.read(row.internal_id, start, size) if size else b""


@attrs.define(eq=False)
class _FileUpload:
    _files: Files
    _request: Request
    _incoming: Incoming | None = attrs.field(default=None, init=False)

    async def write(self, data: bytes) -> None:
        try:
            if self._incoming is None:
                self._incoming = await self._files.begin()
            await self._incoming.write(data)
        except FileRefused as refused:
            raise self._refused(refused) from None

    async def finish(self) -> Response:
        request = self._request
        try:
            if self._incoming is None:
                self._incoming = await self._files.begin()
            storage_id = await self._incoming.finish(
                request.header(b"content-type"), _announced_digest(request.header(b"digest"))
            )
        except FileRefused as refused:
            raise self._refused(refused) from None
        return with_cors(request, Response(200, msgspec.json.encode({"storageId": storage_id})))

    def abandon(self) -> None:
        if self._incoming is not None:
            self._incoming.abandon()

    def _refused(self, refused: FileRefused) -> Refused:
        response = with_cors(self._request, Response(400))
        return Refused(400, "FileRefused", str(refused), response.headers)


def _missing() -> Refused:
    return Refused(404, "NotFound", "there is no such file; it may have been deleted")


def _announced_digest(header: str | None) -> str | None:
    """Return the SHA-256 of a `Digest` header, which may list others."""
    for entry in (header or "").split(","):
        name, _, value = entry.strip().partition("=")
        if name.lower() == "sha-256":
            return value
    return None


def _read_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the bytes that are wanted, from and up to; None for what cannot be met."""
    if header is None or not header.startswith("bytes="):
        return 0, size
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None:
        return None
    first, last = match.groups()
    if max(len(first), len(last)) > _DIGITS_MAX or not (first or last):
        return None
    if not first:  # the last so many bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    return (start, stop) if start < stop else None


def _headers(row: FileRow, is_whole: bool) -> Headers:
    headers: Headers = [
        (b"content-type", (row.content_type or "application/octet-stream").encode()),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"private, max-age=2592000"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if is_whole:
        headers.append((b"digest", b"sha-256=" + row.sha256.encode()))
    return headers
