"""The binary form of values: in frames between processes, in documents and in records.

MessagePack with sorted keys, and two extensions: an `Int64`, and the place of a commit
timestamp. Two canonical values are the same value exactly if their bytes are the same.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from tidewell.errors import InvalidValue
from tidewell.values.canonical import (
    ARRAY_LENGTH_MAX,
    COMMIT_TS,
    DEPTH_MAX,
    NUMBER_INT_MAX,
    OBJECT_ENTRIES_MAX,
    CommitTs,
    Int64,
    Value,
    check_depth,
    check_key,
    number,
)

_EXT_INT64: Final = 1
_EXT_COMMIT_TS: Final = 2
_COMMIT_TS_BYTE: Final = b"\x00"  # an extension has at least one
_COMMIT_TS_PACKED: Final = b"\xd4\x02\x00"


def _encode_other(value: object) -> msgspec.msgpack.Ext:
    if type(value) is Int64:
        return msgspec.msgpack.Ext(_EXT_INT64, struct.pack(">q", value))
    if value is COMMIT_TS:
        return msgspec.msgpack.Ext(_EXT_COMMIT_TS, _COMMIT_TS_BYTE)
    raise TypeError(f"{type(value).__name__} is not a canonical value")


def _decode_ext(code: int, data: memoryview) -> Int64 | CommitTs:
    if code == _EXT_COMMIT_TS and bytes(data) == _COMMIT_TS_BYTE:
        return COMMIT_TS
    if code != _EXT_INT64 or len(data) != 8:
        raise ValueError(f"unknown extension {code} of {len(data)} bytes")
    return Int64(struct.unpack(">q", data)[0])


_packer = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_unpacker = msgspec.msgpack.Decoder(ext_hook=_decode_ext)


def pack(value: Value) -> bytes:
    """Return the binary form of a canonical value: MessagePack, with `Int64` as extension 1."""
    return _packer.encode(value)


def unpack(data: bytes | memoryview) -> Value:
    """Return the canonical value that `data` holds.

    Safe on bytes from an untrusted process: nothing is executed, and anything
    that is not a canonical value is refused. Of the spellings that MessagePack has
    for one value, others than the one that `pack` writes are accepted.

    Raises:
      InvalidValue: not MessagePack, or not the packed form of a canonical value.
    """
    try:
        value = _unpacker.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError, struct.error) as error:
        raise InvalidValue("value", f"malformed bytes: {error}") from None
    _check_canonical(value, DEPTH_MAX)
    return value


def unpack_trusted(data: bytes | memoryview) -> Value:
    """Return the value in bytes that this process, or a store it trusts, has packed; no checks."""
    return _unpacker.decode(data)


def stamp(data: bytes, ts: int) -> bytes:
    """Return the packed document `data` with `ts` in the place of every `COMMIT_TS`."""
    if _COMMIT_TS_PACKED not in data:
        return data
    return pack(_stamped(unpack_trusted(data), Int64(ts)))


def _stamped(value: Value, ts: Int64) -> Value:
    kind = type(value)
    if kind is dict:
        return {key: _stamped(item, ts) for key, item in value.items()}
    if kind is list:
        return [_stamped(item, ts) for item in value]
    return ts if kind is CommitTs else value


def _check_canonical(value: object, depth_left: int) -> None:
    kind = type(value)
    if kind is str or value is None or kind is bool or kind is bytes or kind is Int64:
        return  # the decoder has checked that text is UTF-8, which has no surrogates
    if kind is int:
        if not -NUMBER_INT_MAX <= value <= NUMBER_INT_MAX:  # type: ignore[operator]  # an exact int
            raise InvalidValue("value", "an integer outside ±2**53")
    elif kind is float:
        if type(number(value)) is int:  # type: ignore[arg-type]  # an exact float
            raise InvalidValue("value", "an integral float that should have been an int")
    elif kind is dict:
        check_depth("value", depth_left)
        previous = ""
        if len(value) > OBJECT_ENTRIES_MAX:  # type: ignore[arg-type]  # an exact dict
            raise InvalidValue("value", "an object of too many entries")
        for key, item in value.items():  # type: ignore[attr-defined]  # an exact dict
            check_key(key, "value")
            if key <= previous:
                raise InvalidValue("value", "object keys out of order")
            previous = key
            _check_canonical(item, depth_left - 1)
    elif kind is list:
        check_depth("value", depth_left)
        if len(value) > ARRAY_LENGTH_MAX:  # type: ignore[arg-type]  # an exact list
            raise InvalidValue("value", "an array of too many elements")
        for item in value:  # type: ignore[attr-defined]  # an exact list
            _check_canonical(item, depth_left - 1)
    else:
        raise InvalidValue("value", f"a {kind.__name__} is not a value")
