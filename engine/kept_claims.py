"""The claims of callers that records name: each set is kept once, for as long as a record needs it.

Somebody who is signed in calls thousands of mutations, under claims that change once a year. A
record of theirs names the claims by a digest, and the store keeps them in a row of their own:

    record/claims/ + name, 16 bytes -> stamp, 8 bytes + packed claims

The stamp is of a commit that used them; it is renewed, with the next commit that does, once it
is older than `RENEWED_NS`. So no record that is younger than the stamp by more than that names the
row, and the row can go when history begins later.

Names are as long as they are because people choose some of their claims themselves: nobody shall be
able to make up two sets that have one name. Records of attempts and in capsules hold the
claims in themselves, since nothing keeps rows for them.

Invariant: a row is written with, or was written before, the first commit whose record names it, and
it is there until the last such record is gone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Protocol

import attrs

from storage import StoreError, Timestamp

PREFIX: Final = b"record/claims/"
NAME_BYTES: Final = 16
INLINE_MAX: Final = 24  # packed claims that are no longer than their name and its place would be
RENEWED_NS: Final = 3600 * 10**9
SWEEP_ROWS_MAX: Final = 1_000  # looked at in one step
STAMPS_MAX: Final = 65_536  # remembered; more than there can be commits under way
PACKED_KEPT: Final = 4_096  # of a reader
_STAMP_BYTES: Final = 8


class LostClaims(StoreError):
    """A record names claims that the store does not have."""


class PrivateRows(Protocol):
    def private_get(self, key: bytes) -> bytes | None: ...


class SweptRows(PrivateRows, Protocol):
    def private_items(
        self, prefix: bytes, limit: int | None = None, *, start: bytes = b""
    ) -> list[tuple[bytes, bytes]]: ...


def claims_name(identity: bytes) -> bytes:
    """Return the name of packed claims; nothing for those so short that they are not worth one."""
    return b"" if len(identity) <= INLINE_MAX else hashlib.sha256(identity).digest()[:NAME_BYTES]


@attrs.define(eq=False)
class KnownClaims:
    """What a reader of records has looked up. One moment of one store: rows may go later."""

    _rows: PrivateRows
    _packed: OrderedDict[bytes, bytes] = attrs.field(factory=OrderedDict, init=False)

    def packed(self, name: bytes) -> bytes:
        """Return the packed claims of that name. Raises `LostClaims`."""
        found = self._packed.get(name)
        if found is None:
            row = self._rows.private_get(PREFIX + name)
            if row is None:
                raise LostClaims(f"the claims {name.hex()} that a record names are missing; run verify")
            found = self._packed[name] = row[_STAMP_BYTES:]
            if len(self._packed) > PACKED_KEPT:
                self._packed.popitem(last=False)
        self._packed.move_to_end(name)
        return found


@attrs.define(eq=False)
class KeptClaims:
    """What the writer of records keeps. Ask it in the order of the commits."""

    _store: SweptRows
    # Of the rows that were used lately, the commit that is or will be in their stamp.
    _stamps: OrderedDict[bytes, Timestamp] = attrs.field(factory=OrderedDict, init=False)
    _swept: bytes = attrs.field(default=b"", init=False)  # the last row that was looked at

    def rows(self, identity: bytes, ts: Timestamp) -> Iterator[tuple[bytes, bytes]]:
        """Yield the row that the commit at `ts`, whose record has that identity, must take along, if any."""
        name = claims_name(identity)
        if not name:
            return
        stamp = self._stamp(name)
        if stamp is None or stamp + RENEWED_NS < ts:
            self._stamps[name] = ts
            yield PREFIX + name, ts.to_bytes(_STAMP_BYTES, "big") + identity
        self._stamps.move_to_end(name)
        if len(self._stamps) > STAMPS_MAX:
            self._stamps.popitem(last=False)

    def _stamp(self, name: bytes) -> Timestamp | None:
        stamp = self._stamps.get(name)
        if stamp is None:
            row = self._store.private_get(PREFIX + name)
            if row is not None:
                stamp = self._stamps[name] = _stamp_in(row)
        return stamp

    def forget_stamps(self) -> None:
        """What was accepted and not yet durable has been taken back, its rows with it."""
        self._stamps.clear()

    def unneeded_rows(self, horizon: Timestamp) -> list[tuple[bytes, None]]:
        """Return the removals of rows that no record after `horizon` names, of the next few rows.

        To be committed in the same step: a commit that is accepted in between could need one.
        """
        rows = self._store.private_items(PREFIX, SWEEP_ROWS_MAX, start=self._swept)
        self._swept = rows[-1][0] + b"\0" if len(rows) == SWEEP_ROWS_MAX else b""
        removals: list[tuple[bytes, None]] = []
        for key, row in rows:
            name = key[len(PREFIX) :]
            # What is accepted and not yet durable is remembered, and the row does not show it yet.
            stamp = max(self._stamps.get(name, 0), _stamp_in(row))
            if stamp + RENEWED_NS < horizon:
                removals.append((key, None))
                self._stamps.pop(name, None)
        return removals


def _stamp_in(row: bytes) -> Timestamp:
    return int.from_bytes(row[:_STAMP_BYTES], "big")
