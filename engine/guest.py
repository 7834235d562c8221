"""What runs inside a worker: `sandbox` to run guests, `storage` to read for them.

The one place where the two meet. It is imported by the zygote, before any tenant
exists, and called in each worker that is forked; the store is opened before the
worker confines itself, and only read from then on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NoReturn

import attrs

from sandbox.executor import Executor
from sandbox.guest import prepare_process
from sandbox.transaction import CannotServe, Database
from sandbox.worker import Channel, serve
from storage import Buffer, MapOutgrown, ReaderStale, SnapshotReader, Transaction, WriteSet


@attrs.define
class _GuestStore:
    """Gives every call of a worker its transaction."""

    path: str
    _reader: SnapshotReader | None = None
    _unpacked: dict[bytes, WriteSet] = attrs.field(factory=dict)  # of the request under way

    def open(self) -> int:
        """Open the store while files can still be opened; return the transaction that was read in."""
        self._reader = SnapshotReader.open(self.path)
        return self._reader.refresh()

    def begin(self, begin_ts: int, txn_id: int, overlay: Sequence[bytes]) -> Database:
        """Return a transaction on the snapshot at `begin_ts` with the write sets of `overlay` over it."""
        assert self._reader is not None
        try:
            self._reader.refresh(txn_id)
            snapshot = self._reader.snapshot(begin_ts)
        except MapOutgrown:
            raise CannotServe("map_outgrown") from None
        except ReaderStale:
            raise CannotServe("stale_snapshot") from None
        if not overlay:
            return Transaction(snapshot)
        self._unpacked = {packed: self._unpacked.get(packed) or WriteSet.unpack(packed) for packed in overlay}
        return Transaction(Buffer.overlay(snapshot, [self._unpacked[packed] for packed in overlay]))


def serve_guest(channel: Channel, argument: str) -> NoReturn:
    """The entry of the zygote's workers. `argument` is the JSON that `engine.deployment` writes."""
    prepare_process()
    settings = json.loads(argument)
    store = _GuestStore(settings["store"])
    handler = Executor(store.begin, cursor_key=bytes.fromhex(settings["cursor_key"]))
    serve(channel, store.open, handler)
