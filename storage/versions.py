"""One version of a document: what a commit made of it, until another did."""

from __future__ import annotations

import attrs

from storage.errors import Timestamp
from tidewell.values import Value, unpack_trusted


@attrs.frozen
class Version:
    """A document as it was from one commit until another."""

    ts: Timestamp
    until: Timestamp | None  # None while current
    body: bytes

    @property
    def document(self) -> dict[str, Value]:
        value: dict[str, Value] = unpack_trusted(self.body)
        return value
