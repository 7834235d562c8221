"""The state row: what is true of the file as a whole, as of one LMDB transaction."""

from __future__ import annotations

import struct

import attrs

from storage.errors import Timestamp

_state = struct.Struct(">QQQQ16s")
STATE_BYTES = _state.size


@attrs.frozen
class State:
    """What is true of the file as a whole, as of one LMDB transaction."""

    txn_id: int = 0
    head: Timestamp = 0  # the newest commit
    horizon: Timestamp = 0  # the oldest readable timestamp
    catalog_ts: Timestamp = 0  # the commit of the newest catalog row
    digest: bytes = bytes(16)  # of the newest log row, which chains all before it

    def pack(self) -> bytes:
        return _state.pack(self.txn_id, self.head, self.horizon, self.catalog_ts, self.digest)

    @classmethod
    def unpack(cls, data: bytes) -> State:
        return cls(*_state.unpack(data))
