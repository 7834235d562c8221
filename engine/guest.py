"""What runs inside a worker: `sandbox` to run guests, `storage` to read for them.

The one place where the two meet. It is imported and called by the zygote, before any
tenant exists; what that returns is called in each worker that is forked. The store is
opened before the worker confines itself, and only read from then on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol

import attrs

from sandbox.executor import Executor
from sandbox.guest import prepare_process
from sandbox.transaction import CannotServe, OpenedDatabase
from sandbox.worker import Channel, serve
from storage import (
    Buffer,
    MapOutgrown,
    OutOfRetention,
    ReaderStale,
    Snapshot,
    SnapshotReader,
    Timestamp,
    Transaction,
    WriteSet,
)


class StoreReader(Protocol):
    """What calls need of a `SnapshotReader`."""

    def refresh(self, at_least: int = 0) -> int:
        """Look at a state that transaction `at_least` is in. Raises `MapOutgrown`, `ReaderStale`."""

    def snapshot(self, ts: Timestamp) -> Snapshot:
        """Return the database as of `ts`. Raises `OutOfRetention`."""


@attrs.define
class GuestStore:
    """Gives every call of a worker its transaction."""

    path: str
    _reader: StoreReader | None = None
    _request: tuple[int, int] | None = None  # (begin_ts, transaction id) that `_overlaid` belongs to
    _overlaid: Buffer | None = None  # that snapshot with `_applied` over it
    _applied: list[bytes] = attrs.field(factory=list)

    def open(self) -> int:
        """Open the store while files can still be opened; return the transaction that was read in."""
        reader = SnapshotReader.open(self.path)
        self._reader = reader
        return reader.refresh()

    def begin(self, begin_ts: int, txn_id: int, overlay: Sequence[bytes]) -> OpenedDatabase:
        """Return a transaction on the snapshot at `begin_ts` with the write sets of `overlay` over it."""
        assert self._reader is not None
        # The calls of a batch ask for the same snapshot with one more write set each; what was
        # laid over it before stays, so a batch costs what its calls write and not the square of it.
        overlaid, applied = self._overlaid, len(self._applied)
        if (
            overlaid is None
            or self._request != (begin_ts, txn_id)
            or list(overlay[:applied]) != self._applied
        ):
            self._overlaid = None
            try:
                self._reader.refresh(txn_id)
                overlaid = Buffer(self._reader.snapshot(begin_ts))
            except MapOutgrown:
                raise CannotServe("map_outgrown") from None
            except ReaderStale:
                raise CannotServe("stale_snapshot") from None
            except OutOfRetention:
                raise CannotServe("out_of_retention") from None
            applied = 0
        for packed in overlay[applied:]:
            overlaid.add(WriteSet.unpack(packed))
        self._request, self._overlaid, self._applied = (begin_ts, txn_id), overlaid, list(overlay)
        return Transaction(overlaid if overlay else overlaid.base)


def serve_guest(argument: str) -> Callable[[Channel], NoReturn]:
    """The entry of the zygote. `argument` is the JSON that `engine.deployment` writes.

    The executor is built here, once, and every worker is born with it. Built in each, it would
    be a third of the time until a worker is ready, and take pages of its own.
    """
    settings = json.loads(argument)
    store = GuestStore(settings["store"])
    handler = Executor(store.begin, cursor_key=bytes.fromhex(settings["cursor_key"]))

    def serve_one(channel: Channel) -> NoReturn:
        prepare_process()
        serve(channel, store.open, handler)

    return serve_one
