"""Keys: values as byte strings whose order is the order of the values.

Asked by indexes for the key of a document, by reads for the interval of a range,
by people for a key in words. Rules K1 to K5 of `function-semantics.md` 4.

Invariants:

* For any two values, `encode(a) < encode(b)` exactly if a sorts before b.
* No tag is 0x00 or 0xFF: 0x00 ends strings, arrays and objects, and 0x00 0xFF is
  an escaped zero byte inside a string. So everything that begins with the value
  `p`, and nothing else, lies in `[encode(p), encode(p) + b"\\xff")`, although
  encode("a") is a prefix of encode("a\\0").
* The full keys of one index are never prefixes of each other: they have the same
  number of parts, each of which knows its own end, and finish with 17 bytes of id.
"""

from __future__ import annotations

import struct
from typing import Final

import attrs

from tidewell.errors import InvalidId
from tidewell.ids import INTERNAL_ID_BYTES, decode_id, encode_id
from tidewell.ranges import IndexRange
from tidewell.values import MISSING, CommitTs, Int64, Value, number

_MISSING: Final = b"\x10"
_NULL: Final = b"\x20"
_INT64_MAX: Final = 2**63 - 1
_INT64_ZERO: Final = 0x34  # 0x30..0x33 negative in 8, 4, 2, 1 bytes; 0x35..0x38 positive in 1, 2, 4, 8
_NUMBER: Final = b"\x40"
_FALSE: Final = b"\x50"
_TRUE: Final = b"\x51"
_STRING: Final = b"\x60"
_BYTES: Final = b"\x70"
_ARRAY: Final = b"\x80"
_OBJECT: Final = b"\x90"
_ID: Final = b"\xa0"  # the last part of an index key: 16 raw bytes

_WIDTHS: Final = (1, 2, 4, 8)
_pack_double = struct.Struct(">d").pack
_SIGN: Final = 1 << 63
_ALL: Final = (1 << 64) - 1
_ID_MAX: Final = (1 << 128) - 1


@attrs.frozen(order=True)
class Interval:
    """The keys from `start` up to, not including, `end`."""

    start: bytes
    end: bytes

    @property
    def is_empty(self) -> bool:
        return self.start >= self.end


EVERYTHING: Final = Interval(b"", b"\xff")  # of any index but by_id, whose keys are bare ids


def successor(key: bytes) -> bytes:
    """Return the first byte string after `key`."""
    return key + b"\x00"


def point(key: bytes) -> Interval:
    return Interval(key, successor(key))


# ---- encoding --------------------------------------------------------------------


def encode(value: Value) -> bytes:
    """Return the key of a canonical value, or of `MISSING`."""
    kind = type(value)
    if kind is str:
        return _STRING + _terminated(value.encode())
    if kind is int or kind is float:
        return _NUMBER + _double(value)
    if value is None:
        return _NULL
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is Int64:
        return _int64(int(value))
    if kind is CommitTs:
        return _int64(_INT64_MAX)  # inside a transaction alone; the key of a commit holds its timestamp
    if kind is bytes:
        return _BYTES + _terminated(value)
    if kind is list:
        return _ARRAY + b"".join(map(encode, value)) + b"\x00"
    if value is MISSING:
        return _MISSING
    assert kind is dict, kind
    parts = [_STRING + _terminated(key.encode()) + encode(item) for key, item in value.items()]
    return _OBJECT + b"".join(parts) + b"\x00"


def _terminated(data: bytes) -> bytes:
    if b"\x00" in data:
        data = data.replace(b"\x00", b"\x00\xff")
    return data + b"\x00"


def _double(value: float) -> bytes:
    bits = int.from_bytes(_pack_double(value), "big")
    return (bits ^ (_ALL if bits & _SIGN else _SIGN)).to_bytes(8, "big")


def _int64(value: int) -> bytes:
    if value == 0:
        return bytes((_INT64_ZERO,))
    magnitude = abs(value)
    rank = next(rank for rank, width in enumerate(_WIDTHS) if magnitude < 1 << 8 * width)
    width = _WIDTHS[rank]
    if value > 0:
        return bytes((_INT64_ZERO + 1 + rank,)) + magnitude.to_bytes(width, "big")
    return bytes((_INT64_ZERO - 1 - rank,)) + ((1 << 8 * width) - magnitude).to_bytes(width, "big")


# ---- index keys ------------------------------------------------------------------

Path = tuple[str, ...]


def field_at(document: dict[str, Value], path: Path) -> Value:
    """Return what stands at a dotted path; `MISSING` if absent or under a non-object."""
    value: Value = document
    for name in path:
        if type(value) is not dict or name not in value:
            return MISSING
        value = value[name]
    return value


def index_key(paths: tuple[Path, ...], document: dict[str, Value], internal_id: bytes) -> bytes:
    """Return the key of a document in an index over `paths` (K5)."""
    parts = [
        encode(document[path[0]] if len(path) == 1 and path[0] in document else field_at(document, path))
        for path in paths
    ]
    return b"".join((*parts, encode(document["_creationTime"]), _ID, internal_id))


def fields_part(paths: tuple[Path, ...], document: dict[str, Value]) -> bytes | None:
    """Return the part of an index key that a unique index compares, or None if the document is exempt.

    As in SQL, a document that lacks one of the fields or holds null there collides with nothing.
    """
    values = [field_at(document, path) for path in paths]
    if any(value is None or value is MISSING for value in values):
        return None
    return b"".join(map(encode, values))


def id_in(key: bytes) -> bytes:
    """Return the internal id at the end of a full index key."""
    return key[-INTERNAL_ID_BYTES:]


# ---- ranges ----------------------------------------------------------------------


def interval_of(range_: IndexRange) -> Interval:
    """Return the keys that a range selects (X4 to X6). Empty when the bounds contradict each other."""
    prefix = b"".join(map(encode, range_.equal))
    start, end = prefix, prefix + b"\xff"
    if range_.lower is not None:
        start = prefix + encode(range_.lower.value) + (b"" if range_.lower.inclusive else b"\xff")
    if range_.upper is not None:
        end = prefix + encode(range_.upper.value) + (b"\xff" if range_.upper.inclusive else b"")
    return Interval(start, end)


def id_interval(table: int, range_: IndexRange) -> Interval:
    """Return the part of `by_id` that a range selects, whose keys are bare internal ids.

    Ids are compared as the strings that users see. Within a table these sort as
    their 16 bytes do, so a bound is found among the 2**128 ids by bisection.
    Conditions on `_creationTime` are not part of the interval.
    """
    if range_.equal:
        return _one_id(table, range_.equal[0])
    wanted = interval_of(range_)
    return Interval(_first_id_from(table, wanted.start), _first_id_from(table, wanted.end))


def _one_id(table: int, value: Value) -> Interval:
    try:
        number, internal_id = decode_id(value) if type(value) is str else (0, b"")
    except InvalidId:
        number, internal_id = 0, b""
    return point(internal_id) if number == table else Interval(b"", b"")


def _first_id_from(table: int, bound: bytes) -> bytes:
    """Return the first id of a table at or after a bound; what comes after all ids if there is none."""
    if bound <= _id_key(table, 0):
        return bytes(INTERNAL_ID_BYTES)
    if bound > _id_key(table, _ID_MAX):
        return successor(_ID_MAX.to_bytes(INTERNAL_ID_BYTES, "big"))
    low, high = 0, _ID_MAX
    while low < high:
        middle = (low + high) // 2
        if _id_key(table, middle) < bound:
            low = middle + 1
        else:
            high = middle
    return low.to_bytes(INTERNAL_ID_BYTES, "big")


def _id_key(table: int, number: int) -> bytes:
    return encode(encode_id(table, number.to_bytes(INTERNAL_ID_BYTES, "big")))


# ---- for people ------------------------------------------------------------------


def decode(key: bytes) -> list[Value]:
    """Return the values that a key is made of; an id at the end is left out.

    A key cut short, as a bound is, gives the values that are complete.
    """
    values: list[Value] = []
    place = 0
    while place < len(key) and key[place : place + 1] not in (_ID, b"\xff"):
        try:
            value, place = _decode_one(key, place)
        except (IndexError, ValueError):
            break
        values.append(value)
    return values


def _decode_one(key: bytes, place: int) -> tuple[Value, int]:
    tag = key[place]
    place += 1
    if tag == _NUMBER[0]:
        bits = int.from_bytes(_exactly(key, place, 8), "big")
        bits ^= _SIGN if bits & _SIGN else _ALL
        return number(struct.unpack(">d", bits.to_bytes(8, "big"))[0]), place + 8
    if tag in (_STRING[0], _BYTES[0]):
        data, place = _read_terminated(key, place)
        return (data.decode() if tag == _STRING[0] else data), place
    if tag == _ARRAY[0]:
        items = []
        while key[place]:
            item, place = _decode_one(key, place)
            items.append(item)
        return items, place + 1
    if tag == _OBJECT[0]:
        entries = {}
        while key[place]:
            name, place = _decode_one(key, place)
            entries[name], place = _decode_one(key, place)
        return entries, place + 1
    if _INT64_ZERO - 4 <= tag <= _INT64_ZERO + 4:
        return _decode_int64(key, tag - _INT64_ZERO, place)
    simple = {_MISSING[0]: MISSING, _NULL[0]: None, _FALSE[0]: False, _TRUE[0]: True}
    if tag not in simple:
        raise ValueError(f"unknown tag {tag:#x}")
    return simple[tag], place


def _decode_int64(key: bytes, rank: int, place: int) -> tuple[Int64, int]:
    if rank == 0:
        return Int64(0), place
    width = _WIDTHS[abs(rank) - 1]
    magnitude = int.from_bytes(_exactly(key, place, width), "big")
    return Int64(magnitude if rank > 0 else magnitude - (1 << 8 * width)), place + width


def _exactly(key: bytes, place: int, length: int) -> bytes:
    data = key[place : place + length]
    if len(data) != length:
        raise ValueError("the key ends early")
    return data


def _read_terminated(key: bytes, place: int) -> tuple[bytes, int]:
    out = bytearray()
    while True:
        end = key.index(b"\x00", place)
        out += key[place:end]
        if key[end + 1 : end + 2] != b"\xff" or end + 2 == len(key):
            # A bound may add a single 0xFF after a complete value; inside a key a tag follows.
            return bytes(out), end + 1
        out.append(0)
        place = end + 2
