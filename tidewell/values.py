"""Values: what an argument, a document, a result or a cursor may hold.

A *canonical* value is built from exact types only: `None`, `bool`, `int`,
`float`, `Int64`, `str`, `bytes`, `list`, `dict`. Two canonical values are the
same value exactly if `pack` gives the same bytes, because

* a number that is integral and within ±2**53 is an `int`, any other a `float`
  (negative zero is a `float`, and there is one NaN);
* the keys of a dict stand in UTF-8 order.

`normalize` makes a canonical value from what user code hands over, and raises
with the path of whatever is not a value. Rules V1 to V6 and N1 to N10 are those
of `function-semantics.md` 2 and 3; wire forms are `sync-protocol.md` 11.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec

from tidewell.errors import InvalidValue

NUMBER_INT_MAX: Final = 2**53  # the largest range in which every integer is a double (N2)
DEPTH_MAX: Final = 64  # nesting of a transient value (V3)
DOCUMENT_DEPTH_MAX: Final = 16  # nesting of a stored document (V3)
ARRAY_LENGTH_MAX: Final = 8192
OBJECT_ENTRIES_MAX: Final = 1024
KEY_LENGTH_MAX: Final = 1024

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_NAN: Final = struct.unpack("<d", bytes.fromhex("000000000000f87f"))[0]


class Int64(int):
    """A 64-bit integer that clients see as `bigint`, kept apart from `number`.

    Arithmetic gives a plain `int`; a document that holds an `Int64` gives one
    back. Raises `OverflowError` outside -2**63 .. 2**63 - 1 (N4, N5).
    """

    __slots__ = ()

    def __new__(cls, value: int = 0) -> Int64:
        number = super().__new__(cls, value)
        if not _INT64_MIN <= number <= _INT64_MAX:
            raise OverflowError(f"{int(number)} does not fit in 64 bits")
        return number

    def __repr__(self) -> str:
        return f"Int64({int(self)})"

    __str__ = int.__repr__


class _Missing:
    """The absence of a field, as something to write down. Falsy, with no other operation."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


class CommitTs:
    """The place of a commit timestamp in a document, until the commit has one.

    It is no value: nothing but the write set of a transaction may hold it, and there it is
    greater than every int64, as the timestamp will be greater than those before it.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "commit_ts"

    def __reduce__(self) -> str:
        return "COMMIT_TS"


COMMIT_TS: Final = CommitTs()

Value: TypeAlias = Any  # a canonical value; the recursive type helps no reader and slows the checker


# ---- from user code ---------------------------------------------------------


def normalize(value: object, path: str = "value", depth_max: int = DEPTH_MAX) -> Value:
    """Return the canonical copy of `value`.

    Tuples become lists, bytearrays and memoryviews bytes, dataclasses and attrs
    objects dicts. An object field that holds `MISSING` is left out.

    Raises:
      InvalidValue: with the path of the first thing that is not a value.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _checked_text(value, path)  # type: ignore[arg-type]  # narrowed by the exact type
    if kind is int:
        return _checked_int(value, path)  # type: ignore[arg-type]  # narrowed by the exact type
    if kind is float:
        return number(value)  # type: ignore[arg-type]  # narrowed by the exact type
    if kind is Int64 or kind is bytes:
        return value
    if kind is dict:
        return _normalize_dict(value, path, depth_max)  # type: ignore[arg-type]  # narrowed by the exact type
    if kind is list or kind is tuple:
        return _normalize_list(value, path, depth_max)  # type: ignore[arg-type]  # narrowed by the exact type
    return _normalize_other(value, path, depth_max)


def number(value: float) -> int | float:
    """Return a double as the Python number that stands for it (N3, N9)."""
    if value.is_integer() and -NUMBER_INT_MAX <= value <= NUMBER_INT_MAX:
        if value == 0.0 and math.copysign(1.0, value) < 0:
            return value
        return int(value)
    if value != value:
        return float(_NAN)
    return value


def _checked_int(value: int, path: str) -> int:
    if -NUMBER_INT_MAX <= value <= NUMBER_INT_MAX:
        return value
    raise InvalidValue(
        path,
        f"the integer {short_text(value)} is outside ±2**53 and would lose digits as a number; "
        "store it as Int64(n) or str(n)",
    )


def _checked_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(path, "the string holds a lone surrogate, which is not valid Unicode") from None
    return value


def _checked_key(key: object, path: str) -> str:
    if type(key) is not str:
        raise InvalidValue(path, f"object keys must be strings, found a {type(key).__name__}")
    if not key:
        raise InvalidValue(path, "object keys must not be empty")
    if len(key) > KEY_LENGTH_MAX:
        raise InvalidValue(
            path, f"the key {key[:40]!r}... has {len(key)} characters, at most {KEY_LENGTH_MAX}"
        )
    if key[0] == "$":
        raise InvalidValue(path, f"the key {key!r} starts with '$', which is reserved")
    if not (key.isascii() and key.isprintable()):
        raise InvalidValue(path, f"the key {key!r} must be printable ASCII")
    return key


def _normalize_dict(value: dict[object, object], path: str, depth_max: int) -> dict[str, Value]:
    _check_depth(path, depth_max)
    if len(value) > OBJECT_ENTRIES_MAX:
        raise InvalidValue(path, f"an object of {len(value)} entries, at most {OBJECT_ENTRIES_MAX}")
    result = {}
    for key in sorted(value, key=lambda key: _checked_key(key, path)):
        item = value[key]
        if item is not MISSING:
            result[key] = normalize(item, f"{path}.{key}", depth_max - 1)
    return result  # type: ignore[return-value]  # every key went through _checked_key


def _normalize_list(value: list[object] | tuple[object, ...], path: str, depth_max: int) -> list[Value]:
    _check_depth(path, depth_max)
    if len(value) > ARRAY_LENGTH_MAX:
        raise InvalidValue(path, f"an array of {len(value)} elements, at most {ARRAY_LENGTH_MAX}")
    return [normalize(item, f"{path}[{index}]", depth_max - 1) for index, item in enumerate(value)]


def _check_depth(path: str, depth_left: int) -> None:
    if depth_left <= 0:
        raise InvalidValue(path, "nested too deeply")


def _normalize_other(value: object, path: str, depth_max: int) -> Value:
    kind = type(value)
    if kind is bytearray or kind is memoryview:
        return bytes(value)  # type: ignore[call-overload]  # narrowed by the exact type
    names = [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    names = names or list(getattr(kind, "__dataclass_fields__", ()))
    if names:
        return _normalize_dict({name: getattr(value, name) for name in names}, path, depth_max)
    if value is MISSING:
        raise InvalidValue(path, "MISSING stands for an absent field and is not a value; leave it out")
    if value is COMMIT_TS:
        raise InvalidValue(
            path, "a commit timestamp is not known before the commit; it can be written, no more"
        )
    raise InvalidValue(path, f"{_kind_name(value)} is not a value; {_remedy(value)}")


def _remedy(value: object) -> str:
    remedies = {
        "set": "use sorted(...) or list(...)",
        "frozenset": "use sorted(...) or list(...)",
        "Decimal": "use str(...) or an integer number of minor units",
        "datetime": "use milliseconds since the epoch",
        "date": "use its isoformat()",
        "range": "use list(...)",
        "UUID": "use str(...)",
    }
    return remedies.get(type(value).__name__, "use None, bool, int, float, Int64, str, bytes, list or dict")


def _kind_name(value: object) -> str:
    name = type(value).__name__
    return f"an object of type {name}"


# ---- names for people --------------------------------------------------------


def kind_of(value: object) -> str:
    """Return the name of a value's kind as `function-semantics.md` 2.1 gives it."""
    if value is None:
        return "null"
    if value is MISSING:
        return "missing"
    names = {
        bool: "boolean",
        int: "number",
        float: "number",
        Int64: "int64",
        CommitTs: "commit timestamp to come",
        str: "string",
        bytes: "bytes",
        list: "array",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def short_text(value: object, length_max: int = 60) -> str:
    """Return a text of `value` for an error message, cut to `length_max` characters."""
    if type(value) is int and value.bit_length() > 256:
        return f"of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= length_max else text[: length_max - 3] + "..."


# ---- size --------------------------------------------------------------------


def size_bytes(value: Value) -> int:
    """Return the size of a canonical value by the formula of `function-semantics.md` 2.1."""
    kind = type(value)
    if kind is str:
        return 2 + (len(value) if value.isascii() else len(value.encode()))
    if kind is int or kind is float or kind is Int64 or kind is CommitTs:
        return 9
    if value is None or kind is bool:
        return 1
    if kind is dict:
        return 2 + sum(len(key) + 1 + size_bytes(item) for key, item in value.items())
    if kind is list:
        return 2 + sum(map(size_bytes, value))
    assert kind is bytes, kind
    return 2 + len(value)


# ---- the binary form -----------------------------------------------------------

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
        _check_depth("value", depth_left)
        previous = ""
        if len(value) > OBJECT_ENTRIES_MAX:  # type: ignore[arg-type]  # an exact dict
            raise InvalidValue("value", "an object of too many entries")
        for key, item in value.items():  # type: ignore[attr-defined]  # an exact dict
            _checked_key(key, "value")
            if key <= previous:
                raise InvalidValue("value", "object keys out of order")
            previous = key
            _check_canonical(item, depth_left - 1)
    elif kind is list:
        _check_depth("value", depth_left)
        if len(value) > ARRAY_LENGTH_MAX:  # type: ignore[arg-type]  # an exact list
            raise InvalidValue("value", "an array of too many elements")
        for item in value:  # type: ignore[attr-defined]  # an exact list
            _check_canonical(item, depth_left - 1)
    else:
        raise InvalidValue("value", f"a {kind.__name__} is not a value")


# ---- the wire form ---------------------------------------------------------------


def to_wire(value: Value) -> object:
    """Return the JSON tree of `sync-protocol.md` 11.1; every number in it is a float."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return value
    if kind is int:
        return float(value)
    if kind is dict:
        return {key: to_wire(item) for key, item in value.items()}
    if kind is list:
        return [to_wire(item) for item in value]
    if kind is float:
        if math.isfinite(value) and value != 0.0:
            return value
        return {"$float": _b64(struct.pack("<d", value))}
    if kind is Int64:
        return {"$integer": _b64(struct.pack("<q", value))}
    assert kind is bytes, kind
    return {"$bytes": _b64(value)}


_json = msgspec.json.Encoder()


def wire_json(value: Value) -> bytes:
    """Return the JSON text of `to_wire`; numbers always have a point or an exponent."""
    return _json.encode(to_wire(value))


def from_wire(tree: object, path: str = "value", depth_max: int = DEPTH_MAX) -> Value:
    """Return the canonical value of a JSON tree as the clients send it.

    JSON integers are first read as doubles, as the browser meant them (N8).

    Raises:
      InvalidValue: an unknown `$` object, a lone surrogate, a bad key, too deep.
    """
    kind = type(tree)
    if kind is str:
        return _checked_text(tree, path)  # type: ignore[arg-type]  # narrowed by the exact type
    if tree is None or kind is bool:
        return tree
    if kind is float:
        return number(tree)  # type: ignore[arg-type]  # narrowed by the exact type
    if kind is int:
        try:
            return number(float(tree))  # type: ignore[arg-type]  # narrowed by the exact type
        except OverflowError:
            raise InvalidValue(path, "a number too large for a double") from None
    _check_depth(path, depth_max)
    if kind is list:
        items: list[object] = tree  # type: ignore[assignment]  # narrowed by the exact type
        if len(items) > ARRAY_LENGTH_MAX:
            raise InvalidValue(path, f"an array of {len(items)} elements, at most {ARRAY_LENGTH_MAX}")
        return [from_wire(item, f"{path}[{index}]", depth_max - 1) for index, item in enumerate(items)]
    if kind is not dict:
        raise InvalidValue(path, f"{_kind_name(tree)} is not a JSON value")
    entries: dict[str, object] = tree  # type: ignore[assignment]  # JSON objects have text keys
    if len(entries) == 1:
        ((key, item),) = entries.items()
        if key in _TAGGED:
            return _TAGGED[key](item, path)
    if len(entries) > OBJECT_ENTRIES_MAX:
        raise InvalidValue(path, f"an object of {len(entries)} entries, at most {OBJECT_ENTRIES_MAX}")
    return {
        key: from_wire(entries[key], f"{path}.{key}", depth_max - 1)
        for key in sorted(entries, key=lambda key: _checked_key(key, path))
    }


def _from_integer(item: object, path: str) -> Int64:
    return Int64(struct.unpack("<q", _unb64(item, path, 8))[0])


def _from_float(item: object, path: str) -> float:
    value: float = struct.unpack("<d", _unb64(item, path, 8))[0]
    if math.isfinite(value) and not (value == 0.0 and math.copysign(1.0, value) < 0):
        raise InvalidValue(path, "$float holds an ordinary number, which must be written as one")
    return _NAN if value != value else value


def _from_bytes(item: object, path: str) -> bytes:
    return _unb64(item, path, None)


_TAGGED: Final = {"$integer": _from_integer, "$float": _from_float, "$bytes": _from_bytes}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _unb64(item: object, path: str, length: int | None) -> bytes:
    if type(item) is not str:
        raise InvalidValue(path, "expected base64 text")
    try:
        data = base64.b64decode(item.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidValue(path, "malformed base64") from None
    if length is not None and len(data) != length:
        raise InvalidValue(path, f"expected {length} bytes of base64, found {len(data)}")
    return data


def plain_json(value: Value) -> object:
    """Return the readable, lossy JSON tree of `sync-protocol.md` 11.3."""
    kind = type(value)
    if kind is dict:
        return {key: plain_json(item) for key, item in value.items()}
    if kind is list:
        return [plain_json(item) for item in value]
    if kind is Int64:
        return str(int(value))
    if kind is bytes:
        return _b64(value)
    if kind is float and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


def canonical_text(value: Value) -> str:
    """Return the one text of a canonical value, for keys, hashes and records (N10)."""
    return wire_text(_tagged_tree(value))


def _tagged_tree(value: Value) -> object:
    kind = type(value)
    if kind is dict:
        return {key: _tagged_tree(item) for key, item in value.items()}
    if kind is list:
        return [_tagged_tree(item) for item in value]
    return value if kind is int else to_wire(value)


def wire_text(tree: object) -> str:
    return _json.encode(tree).decode()


def parse_json(data: bytes | str) -> object:
    """Return the tree of a JSON text. Raises `InvalidValue` with the place of the mistake."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise InvalidValue("body", f"malformed JSON: {error}") from None


def object_of(value: Mapping[str, Value]) -> dict[str, Value]:
    """Return a canonical object of entries whose values are canonical already."""
    return {key: value[key] for key in sorted(value)}
