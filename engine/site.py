"""Static pages: a folder with an `index.html`, and single files at fixed paths.

Only regular files that really lie inside the folder are served; names that
begin with a dot never are. Nothing is kept in memory, so that a page being
edited is served as it is on disk; an unchanged one costs the browser a 304.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

import attrs
import trio

from engine.exchange import Headers, Refused, Request, Response

FILE_BYTES_MAX: Final = 64 * 1024 * 1024

# Written out, because the system's own table differs from machine to machine,
# and a module under a wrong type does not run.
_CONTENT_TYPES: Final[Mapping[str, bytes]] = {
    ".html": b"text/html; charset=utf-8",
    ".htm": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".json": b"application/json",
    ".map": b"application/json",
    ".webmanifest": b"application/manifest+json",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".jpg": b"image/jpeg",
    ".jpeg": b"image/jpeg",
    ".gif": b"image/gif",
    ".webp": b"image/webp",
    ".avif": b"image/avif",
    ".ico": b"image/x-icon",
    ".woff": b"font/woff",
    ".woff2": b"font/woff2",
    ".txt": b"text/plain; charset=utf-8",
    ".md": b"text/markdown; charset=utf-8",
    ".xml": b"application/xml",
    ".pdf": b"application/pdf",
    ".wasm": b"application/wasm",
    ".mp3": b"audio/mpeg",
    ".mp4": b"video/mp4",
    ".webm": b"video/webm",
}


@attrs.frozen
class StaticSite:
    """What a server shows at paths that are not the API's.

    Args:
      folder: the page, served from `/`; None for no page.
      files: files at fixed paths, such as `/tidewell.js`; they win over the folder.
    """

    folder: Path | None = None
    files: Mapping[str, Path] = attrs.field(factory=dict)

    async def respond(self, request: Request) -> Response:
        """Answer a request. Raises `Refused`."""
        if request.method not in ("GET", "HEAD"):
            raise Refused(
                405, "MethodNotAllowed", f"{request.path} takes GET, HEAD", [(b"allow", b"GET, HEAD")]
            )
        return await trio.to_thread.run_sync(self._respond_from_disk, request)

    def _respond_from_disk(self, request: Request) -> Response:
        found = self._find(request.path)
        if found is None:
            raise Refused(404, "NotFound", f"nothing is served at {request.path}")
        path, needs_slash = found
        if needs_slash:
            # Relative links of the page inside would otherwise lead elsewhere.
            return Response(308, headers=[(b"location", request.path.encode("latin-1") + b"/")])
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                raise Refused(404, "NotFound", f"{request.path} is too large to be served")
            data = path.read_bytes()
        except OSError:
            raise Refused(404, "NotFound", f"nothing is served at {request.path}") from None
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers: Headers = [
            (b"etag", tag.encode()),
            (b"cache-control", b"no-cache"),
            (b"x-content-type-options", b"nosniff"),
        ]
        content_type = _CONTENT_TYPES.get(path.suffix.lower(), b"application/octet-stream")
        if tag in (request.header(b"if-none-match") or ""):
            return Response(304, b"", content_type, headers)
        return Response(200, data, content_type, headers)

    def _find(self, url_path: str) -> tuple[Path, bool] | None:
        """Return the file at a path, and whether the path lacks a slash at its end."""
        fixed = self.files.get(url_path)
        if fixed is not None:
            return fixed, False
        if self.folder is None:
            return None
        try:
            parts = unquote_to_bytes(url_path).decode().split("/")
        except UnicodeDecodeError:
            return None
        names = [part for part in parts if part]
        if any(name.startswith(".") or "\\" in name or "\0" in name for name in names):
            return None
        try:
            root = self.folder.resolve(strict=True)
            path = root.joinpath(*names).resolve(strict=True)
            if not path.is_relative_to(root):
                return None
            if path.is_dir():
                index = (path / "index.html").resolve(strict=True)
                if not index.is_relative_to(root):
                    return None
                return (index, False) if parts[-1] == "" else (index, True)
        except OSError:
            return None
        # "/a.html/" names a folder, and there is none of that name.
        return (path, False) if path.is_file() and parts[-1] != "" else None
