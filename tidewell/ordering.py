"""The total order of values (`function-semantics.md` 4.1), for comparing them one with another.

missing < null < int64 < number < boolean < string < bytes < array < object

It is the order of index keys, which `storage` encodes for itself; a test holds
the two together.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tidewell.values import MISSING, CommitTs, Int64, Value

_RANKS: Final[dict[type, int]] = {
    type(MISSING): 0,
    type(None): 1,
    Int64: 2,
    CommitTs: 2,
    int: 3,
    float: 3,
    bool: 4,
    str: 5,
    bytes: 6,
    list: 7,
    dict: 8,
}
_AFTER_INT64: Final = 2**63  # more than an int64 can be


def order_key(value: Value) -> Any:
    """Return a tuple that compares as the canonical `value`, or MISSING, does."""
    kind = type(value)
    rank = _RANKS[kind]
    if kind is str or kind is bytes or kind is bool:
        return (rank, value)
    if kind is int or kind is float:
        return (rank, _number_key(value))
    if kind is Int64:
        return (rank, int(value))
    if kind is CommitTs:
        return (rank, _AFTER_INT64)
    if kind is list:
        return (rank, [order_key(item) for item in value])
    if kind is dict:
        return (rank, [(key, order_key(item)) for key, item in sorted(value.items())])
    return (rank,)


def _number_key(value: float) -> int:
    """Return the bits of a double as an integer that orders like IEEE's total order."""
    bits: int = struct.unpack(">q", struct.pack(">d", value))[0]
    return bits if bits >= 0 else bits ^ 0x7FFF_FFFF_FFFF_FFFF
