"""Attempts of mutations that were not committed, kept for whoever asks why (function-semantics 13.6).

A mutation that failed leaves no commit, and one that was overtaken leaves the commit of a later
attempt. Their records are collected here and written to private rows every now and then, away
from the commit path.

Best effort: what was not yet written when the engine stops hard is gone, what comes faster
than it can be written is dropped, and the oldest go when there are more than
`KEPT_MAX` or their history is gone. Nothing waits for them and no answer depends on them.

Rows: `attempt/` + time in ns, 8 bytes + execution id + attempt, 2 bytes -> `Attempt`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final, Literal, Protocol

import attrs
import msgspec
import trio

from engine.clock import Clock
from engine.offload import RunBlocking
from engine.records import Record, unpack_record
from storage import CommitOutcomeUnknown, Conflict, Store, StoreError, Timestamp

PREFIX: Final = b"attempt/"
KEPT_MAX: Final = 10_000
PENDING_MAX: Final = 2_000  # between two writes
ROW_BYTES_MAX: Final = 16 * 2**10  # an attempt with larger arguments is not kept
OUTDATED_MAX: Final = 100  # removed with one write because their history is gone
PAUSE_S: Final = 1.0  # between two writes: a busy store is synced that often for attempts, an idle one never
ATTEMPT_VERSION: Final = 1

Reason = Literal["failed", "conflict", "lost"]

_log = logging.getLogger("tidewell.engine")


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    version: int
    reason: Reason
    code: str
    message: str
    conflict_ts: int
    conflict_index: int
    conflict_key: bytes
    record: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


@attrs.frozen
class Attempt:
    """
    Attributes:
      reason: "failed" by an error of the function, overtaken by a "conflict", or its worker was "lost".
      code, message: of the failure, for people.
      conflict_ts: the commit that was in the way, 0 without one; `conflict_index` and `conflict_key`
        say which of the keys it wrote had been read.
      record: its `begin_ts` is the snapshot that shows what the attempt saw.
    """

    reason: Reason
    code: str
    message: str
    record: Record
    conflict_ts: Timestamp = 0
    conflict_index: int = 0
    conflict_key: bytes = b""
    at_ns: int = 0


@attrs.define(eq=False)
class Attempts:
    _store: Store
    _clock: Clock
    _run_blocking: RunBlocking
    _pending: list[tuple[bytes, bytes]] = attrs.field(factory=list, init=False)
    _last_ns: int = attrs.field(default=0, init=False)
    _kept: int | None = attrs.field(default=None, init=False)  # rows in the store, once counted
    _wake: trio.Event = attrs.field(factory=trio.Event, init=False)
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    dropped: int = attrs.field(default=0, init=False)

    def note(self, attempt: Attempt) -> None:
        """Keep `attempt`, if there is room. Returns at once."""
        self._last_ns = max(self._clock.now_ns(), self._last_ns + 1)
        data = _pack(attempt)
        if len(self._pending) == PENDING_MAX or len(data) > ROW_BYTES_MAX:
            self.dropped += 1
            return
        record = attempt.record
        key = self._last_ns.to_bytes(8, "big") + bytes.fromhex(record.execution)
        self._pending.append((PREFIX + key + record.attempt.to_bytes(2, "big"), data))
        self._wake.set()

    async def run(self) -> None:
        """Write what is collected, until cancelled."""
        while True:
            await self._wake.wait()
            await self.flush()
            await trio.sleep(PAUSE_S)

    async def flush(self) -> None:
        """Write what is collected by now, and see out a write under way. A store that refuses loses it."""
        # Shielded like a commit: it is one, and the store must not be closed under it.
        with trio.CancelScope(shield=True):
            async with self._one_at_a_time:
                await self._flush()

    async def _flush(self) -> None:
        rows, self._pending = self._pending, []
        if self._wake.is_set():  # one that is not has `run` waiting for it
            self._wake = trio.Event()
        if rows:
            try:
                await self._run_blocking(self._write, rows)
            except CommitOutcomeUnknown:
                raise
            except StoreError as error:
                self.dropped += len(rows)
                _log.warning("attempts that failed are not kept for now: %s", error)

    def _write(self, rows: list[tuple[bytes, bytes]]) -> None:
        if self._kept is None:
            self._kept = len(self._store.private_items(PREFIX))
        removals = self._outdated(self._kept + len(rows) - KEPT_MAX)
        self._store.write_private([*rows, *removals])
        self._kept += len(rows) - len(removals)

    def _outdated(self, surplus: int) -> list[tuple[bytes, None]]:
        """Return the removals of the `surplus` oldest rows, and of those whose snapshots are gone."""
        removals: list[tuple[bytes, None]] = []
        horizon = self._store.horizon
        for key, data in self._store.private_items(PREFIX, limit=max(surplus, 0) + OUTDATED_MAX):
            if len(removals) >= surplus and unpack_record(_decoder.decode(data).record).begin_ts >= horizon:
                break
            removals.append((key, None))
        return removals


class PrivateItems(Protocol):
    def private_items(self, prefix: bytes) -> list[tuple[bytes, bytes]]: ...


def read_attempts(store: PrivateItems) -> Iterator[Attempt]:
    """Yield the attempts that a store keeps, oldest first."""
    for key, data in store.private_items(PREFIX):
        stored = _decoder.decode(data)
        at_ns = int.from_bytes(key[len(PREFIX) : len(PREFIX) + 8], "big")
        yield Attempt(
            stored.reason,
            stored.code,
            stored.message,
            unpack_record(stored.record),
            stored.conflict_ts,
            stored.conflict_index,
            stored.conflict_key,
            at_ns,
        )


def overtaken_by(record: Record, conflict: Conflict) -> Attempt:
    message = f"commit {conflict.ts} wrote what the attempt had read"
    return Attempt("conflict", "Conflict", message, record, conflict.ts, conflict.index_id, conflict.key)


def _pack(attempt: Attempt) -> bytes:
    return _encoder.encode(
        _Stored(
            ATTEMPT_VERSION,
            attempt.reason,
            attempt.code,
            attempt.message,
            attempt.conflict_ts,
            attempt.conflict_index,
            attempt.conflict_key,
            attempt.record.pack(),
        )
    )
