"""Cursors and journals: places in a query, as text that clients keep and cannot make.

A cursor is a position and the fingerprint of its query, sealed with the key of the
deployment: the tag authenticates it and at the same time is the nonce under which
the body is hidden (the SIV construction), so equal positions give equal text. That
matters: running a page again must return the same cursor (P3). A journal is the
list of the end cursors of one execution's pages, in call order (P5).
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum
from typing import Final

from sandbox.url_text import from_url_text, to_url_text
from tidewell.errors import TidewellError

TAG_BYTES: Final = 16
FINGERPRINT_BYTES: Final = 8
CURSOR_LENGTH_MAX: Final = 64 * 1024
JOURNAL_PAGES_MAX: Final = 1024

_END: Final = b"\x00"
_KEY: Final = b"\x01"
_NOTHING_PINNED: Final = "-"


class InvalidCursor(TidewellError):
    """A cursor of another query, another deployment, or of nobody. The client starts again.

    It knows the case by `data`, which reaches it in production too, where the text does not.
    """

    code = "InvalidCursor"
    data: Final = {"isConvexSystemError": True, "paginationError": "InvalidCursor"}

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; start again from the first page")


class End(Enum):
    """The end of the range, as a position."""

    END = "end"


END: Final = End.END

Position = bytes | End  # a full index key, or the end


class CursorCodec:
    """Seals and opens the cursors of one deployment."""

    def __init__(self, key: bytes) -> None:
        assert len(key) >= 16, "a cursor key of at least 16 bytes"
        self._tag_key = hashlib.blake2b(b"tag", key=key[:64]).digest()
        self._mask_key = hashlib.blake2b(b"mask", key=key[:64]).digest()

    def seal(self, fingerprint: bytes, position: Position) -> str:
        assert len(fingerprint) == FINGERPRINT_BYTES
        body = fingerprint + (_END if position is END else _KEY + position)
        tag = self._tag(body)
        return to_url_text(tag + self._masked(tag, body))

    def open(self, text: str, fingerprint: bytes) -> Position:
        """Return the position of a cursor. Raises `InvalidCursor` unless it is one of this very query."""
        if len(text) > CURSOR_LENGTH_MAX:
            raise InvalidCursor("the cursor is too long")
        try:
            data = from_url_text(text)
        except ValueError:
            raise InvalidCursor("this is no cursor") from None
        tag, body = data[:TAG_BYTES], self._masked(data[:TAG_BYTES], data[TAG_BYTES:])
        if len(body) <= FINGERPRINT_BYTES or not hmac.compare_digest(tag, self._tag(body)):
            raise InvalidCursor("the cursor is not one of this deployment")
        if body[:FINGERPRINT_BYTES] != fingerprint:
            raise InvalidCursor("the cursor belongs to another query")
        kind, key = body[FINGERPRINT_BYTES : FINGERPRINT_BYTES + 1], body[FINGERPRINT_BYTES + 1 :]
        return END if kind == _END else key

    def _tag(self, body: bytes) -> bytes:
        return hmac.digest(self._tag_key, body, "sha256")[:TAG_BYTES]

    def _masked(self, tag: bytes, body: bytes) -> bytes:
        mask = hashlib.shake_256(self._mask_key + tag).digest(len(body))
        return (int.from_bytes(body, "big") ^ int.from_bytes(mask, "big")).to_bytes(len(body), "big")


class Journal:
    """The end positions of the pages of one execution: those of an earlier run, and those of this one."""

    def __init__(self, text: str | None) -> None:
        self._earlier = text.split(".") if text else []
        if len(self._earlier) > JOURNAL_PAGES_MAX:
            raise InvalidCursor("the journal is too long")
        self._pages: list[str] = []

    def next_end(self) -> str | None:
        """Return the end cursor that the next page had in the earlier run, None when nothing is pinned."""
        place = len(self._pages)
        if place >= len(self._earlier) or self._earlier[place] == _NOTHING_PINNED:
            return None
        return self._earlier[place]

    def add(self, end: str | None) -> None:
        """Note the end of a page; None for one whose end the client chose."""
        if len(self._pages) >= JOURNAL_PAGES_MAX:
            raise InvalidCursor(f"more than {JOURNAL_PAGES_MAX} pages in one execution")
        self._pages.append(end or _NOTHING_PINNED)

    @property
    def text(self) -> str | None:
        if all(page == _NOTHING_PINNED for page in self._pages):
            return None
        return ".".join(self._pages)
