"""Values as JSON: as clients send and get them, as people read them, and as one text for hashes.

Forms are those of `sync-protocol.md` 11. The wire form holds every value; the plain
form is for readers, and loses what JSON has no word for.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import Final

import msgspec

from tidewell.errors import InvalidValue
from tidewell.values.canonical import (
    ARRAY_LENGTH_MAX,
    DEPTH_MAX,
    NAN,
    OBJECT_ENTRIES_MAX,
    Int64,
    Value,
    check_depth,
    check_key,
    check_text,
    name_kind,
    number,
)


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
        return check_text(tree, path)  # type: ignore[arg-type]  # narrowed by the exact type
    if tree is None or kind is bool:
        return tree
    if kind is float:
        return number(tree)  # type: ignore[arg-type]  # narrowed by the exact type
    if kind is int:
        try:
            return number(float(tree))  # type: ignore[arg-type]  # narrowed by the exact type
        except OverflowError:
            raise InvalidValue(path, "a number too large for a double") from None
    check_depth(path, depth_max)
    if kind is list:
        items: list[object] = tree  # type: ignore[assignment]  # narrowed by the exact type
        if len(items) > ARRAY_LENGTH_MAX:
            raise InvalidValue(path, f"an array of {len(items)} elements, at most {ARRAY_LENGTH_MAX}")
        return [from_wire(item, f"{path}[{index}]", depth_max - 1) for index, item in enumerate(items)]
    if kind is not dict:
        raise InvalidValue(path, f"{name_kind(tree)} is not a JSON value")
    entries: dict[str, object] = tree  # type: ignore[assignment]  # JSON objects have text keys
    if len(entries) == 1:
        ((key, item),) = entries.items()
        if key in _TAGGED:
            return _TAGGED[key](item, path)
    if len(entries) > OBJECT_ENTRIES_MAX:
        raise InvalidValue(path, f"an object of {len(entries)} entries, at most {OBJECT_ENTRIES_MAX}")
    return {
        key: from_wire(entries[key], f"{path}.{key}", depth_max - 1)
        for key in sorted(entries, key=lambda key: check_key(key, path))
    }


def _from_integer(item: object, path: str) -> Int64:
    return Int64(struct.unpack("<q", _unb64(item, path, 8))[0])


def _from_float(item: object, path: str) -> float:
    value: float = struct.unpack("<d", _unb64(item, path, 8))[0]
    if math.isfinite(value) and not (value == 0.0 and math.copysign(1.0, value) < 0):
        raise InvalidValue(path, "$float holds an ordinary number, which must be written as one")
    return NAN if value != value else value


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
