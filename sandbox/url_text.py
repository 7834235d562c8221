"""Bytes as text that fits into a URL: base64 without padding, one text for the same bytes.

Asked by what makes texts that clients keep and cannot make: cursors, tokens for uploads.
"""

from __future__ import annotations

import base64


def to_url_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_url_text(text: str) -> bytes:
    """Return the bytes that `text` was made of. Raises ValueError for what was never made here."""
    data = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
    # The last character may have bits to spare, and another one would be read alike.
    if to_url_text(data) != text:
        raise ValueError("not the text of these bytes")
    return data
