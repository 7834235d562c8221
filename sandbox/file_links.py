"""What makes a URL of a file, and a URL to upload to: text that clients keep and cannot make.

Both sides of the wall have the key: a function makes the text without asking the
engine, so that a query that shows a picture needs nothing but the picture's row, and
the engine reads it when a browser comes with it.

A link is the file's internal id under a keyed permutation (Feistel, four rounds): who
has only the id, which apps hand out freely, cannot guess the URL.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import uuid
from typing import Final

from sandbox.url_text import from_url_text, to_url_text

FILES_TABLE: Final = "_storage"
UPLOAD_VALID_MS: Final = 3_600_000
NONCE_BYTES: Final = 16
UPLOAD_PATH: Final = "/api/storage/upload"
FILES_PATH: Final = "/api/storage/"

_EXPIRY: Final = struct.Struct(">Q")
_TAG_BYTES: Final = 16
_ROUNDS: Final = 4
_HALF: Final = 8


class FileLinks:
    """Of one deployment, whose secret `key` is."""

    def __init__(self, key: bytes) -> None:
        self._link_key = hashlib.blake2b(b"file link", key=key[:64]).digest()
        self._upload_key = hashlib.blake2b(b"file upload", key=key[:64]).digest()

    def link(self, internal_id: bytes) -> str:
        """Return the last part of a file's URL."""
        left, right = internal_id[:_HALF], internal_id[_HALF:]
        for number in range(_ROUNDS):
            left, right = right, self._mixed(left, right, number)
        return str(uuid.UUID(bytes=left + right))

    def read_link(self, text: str) -> bytes | None:
        """Return the internal id that `link` made `text` of; None for what it never made."""
        try:
            data = uuid.UUID(text).bytes
        except ValueError:
            return None
        if str(uuid.UUID(bytes=data)) != text:
            return None
        left, right = data[:_HALF], data[_HALF:]
        for number in reversed(range(_ROUNDS)):
            left, right = self._mixed(right, left, number), left
        return left + right

    def upload_token(self, now_ms: float, nonce: bytes) -> str:
        body = _EXPIRY.pack(int(now_ms) + UPLOAD_VALID_MS) + nonce
        return to_url_text(body + self._tag(body))

    def is_upload_token(self, text: str, now_ms: float) -> bool:
        """Whether `text` was made here, and less than an hour ago."""
        try:
            data = from_url_text(text)
        except ValueError:
            return False
        body, tag = data[:-_TAG_BYTES], data[-_TAG_BYTES:]
        if len(body) != _EXPIRY.size + NONCE_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            return False
        expires_ms: int = _EXPIRY.unpack_from(body)[0]
        return now_ms < expires_ms

    def _mixed(self, changed: bytes, key: bytes, number: int) -> bytes:
        mask = hmac.digest(self._link_key, bytes([number]) + key, "sha256")[:_HALF]
        return bytes(a ^ b for a, b in zip(changed, mask, strict=True))

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._upload_key, body, "sha256")[:_TAG_BYTES]
