"""Idempotent delivery: a request that is sent again is answered, not run again.

The key is (session id, request number). A success is recorded in the same storage
transaction as the mutation's writes, with its result, log lines and timestamp, and
kept for 14 days (`function-semantics.md` 12.5); a failure leaves nothing. A request
that arrives again while the first is still running waits for that one.

The rows are the engine's own, under two prefixes: by key for the look-up, and by
commit timestamp for taking the old ones out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs
import msgspec

from engine.backend import MutationOutcome
from engine.committer import Rows
from engine.guest_outcomes import GuestOutcome
from engine.promise import Promise
from storage import Store, Timestamp
from tidewell.values import pack, unpack_trusted, wire_json

KEPT_NS: Final = 14 * 24 * 3600 * 10**9
SWEEP_ROWS_MAX: Final = 1000  # removed in one commit
_BY_KEY: Final = b"idempotency/key/"
_BY_TIME: Final = b"idempotency/time/"

Key = tuple[str, int]


class _Row(msgspec.Struct, frozen=True, array_like=True):
    ts: int
    value: bytes  # packed
    log_lines: list[str]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Row)


def _name(key: Key) -> bytes:
    session, number = key
    return session.encode() + b"/" + number.to_bytes(8, "big")


@attrs.define(eq=False)
class Idempotency:
    _store: Store
    _running: dict[Key, Promise[MutationOutcome]] = attrs.field(factory=dict, init=False)

    def find(self, key: Key) -> Promise[MutationOutcome] | None:
        """Return the recorded outcome, or that of the run under way, or None for a new request."""
        running = self._running.get(key)
        if running is not None:
            return running
        data = self._store.private_get(_BY_KEY + _name(key))
        if data is None:
            return None
        row = _decoder.decode(data)
        value = unpack_trusted(row.value)
        settled: Promise[MutationOutcome] = Promise()
        settled.keep(MutationOutcome(row.ts, value, wire_json(value), tuple(row.log_lines), None))
        return settled

    def newest(self, session_id: str) -> tuple[int, Timestamp] | None:
        """Return the number of the newest recorded success of a session, and when it was."""
        prefix = _BY_KEY + session_id.encode() + b"/\0"  # request numbers have fewer than 56 bits
        found = self._store.private_last(prefix)
        if found is None or len(found[0]) != len(prefix) + 7:
            return None  # the second: of a session whose own name goes on like that
        name, data = found
        return int.from_bytes(name[-8:], "big"), _decoder.decode(data).ts

    def start(self, key: Key, promise: Promise[MutationOutcome]) -> None:
        self._running[key] = promise

    def end(self, key: Key) -> None:
        del self._running[key]

    def rows(self, key: Key, guest: GuestOutcome) -> Rows:
        """Return the rows that record the success of `guest` under `key`."""

        def make(begin_ts: Timestamp, commit_ts: Timestamp) -> Iterable[tuple[bytes, bytes | None]]:
            name = _name(key)
            row = _Row(commit_ts, pack(guest.value), list(guest.log_lines))
            yield _BY_KEY + name, _encoder.encode(row)
            yield _BY_TIME + commit_ts.to_bytes(8, "big") + name, b""

        return make

    def expired_rows(self, now_ns: int) -> list[tuple[bytes, bytes | None]]:
        """Return the removals of at most `SWEEP_ROWS_MAX` rows that are older than they are kept."""
        removals: list[tuple[bytes, bytes | None]] = []
        for row_key, _ in self._store.private_items(_BY_TIME, limit=SWEEP_ROWS_MAX):
            stamp = row_key[len(_BY_TIME) :]
            if int.from_bytes(stamp[:8], "big") > now_ns - KEPT_NS:
                break
            removals += [(row_key, None), (_BY_KEY + stamp[8:], None)]
        return removals
