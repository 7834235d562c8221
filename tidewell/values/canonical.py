"""Canonical values: their kinds, and how they are made from what user code hands over.

Rules V1 to V6 and N1 to N10 are those of `function-semantics.md` 2 and 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tidewell.errors import InvalidValue

NUMBER_INT_MAX: Final = 2**53  # the largest range in which every integer is a double (N2)
DEPTH_MAX: Final = 64  # nesting of a transient value (V3)
DOCUMENT_DEPTH_MAX: Final = 16  # nesting of a stored document (V3)
ARRAY_LENGTH_MAX: Final = 8192
OBJECT_ENTRIES_MAX: Final = 1024
KEY_LENGTH_MAX: Final = 1024

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
NAN: Final = struct.unpack("<d", bytes.fromhex("000000000000f87f"))[0]


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
        return check_text(value, path)  # type: ignore[arg-type]  # narrowed by the exact type
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
        return float(NAN)
    return value


def _checked_int(value: int, path: str) -> int:
    if -NUMBER_INT_MAX <= value <= NUMBER_INT_MAX:
        return value
    raise InvalidValue(
        path,
        f"the integer {short_text(value)} is outside ±2**53 and would lose digits as a number; "
        "store it as Int64(n) or str(n)",
    )


def check_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidValue(path, "the string holds a lone surrogate, which is not valid Unicode") from None
    return value


def check_key(key: object, path: str) -> str:
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
    check_depth(path, depth_max)
    if len(value) > OBJECT_ENTRIES_MAX:
        raise InvalidValue(path, f"an object of {len(value)} entries, at most {OBJECT_ENTRIES_MAX}")
    result = {}
    for key in sorted(value, key=lambda key: check_key(key, path)):
        item = value[key]
        if item is not MISSING:
            result[key] = normalize(item, f"{path}.{key}", depth_max - 1)
    return result  # type: ignore[return-value]  # every key went through check_key


def _normalize_list(value: list[object] | tuple[object, ...], path: str, depth_max: int) -> list[Value]:
    check_depth(path, depth_max)
    if len(value) > ARRAY_LENGTH_MAX:
        raise InvalidValue(path, f"an array of {len(value)} elements, at most {ARRAY_LENGTH_MAX}")
    return [normalize(item, f"{path}[{index}]", depth_max - 1) for index, item in enumerate(value)]


def check_depth(path: str, depth_left: int) -> None:
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
    raise InvalidValue(path, f"{name_kind(value)} is not a value; {_remedy(value)}")


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


def name_kind(value: object) -> str:
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


def object_of(value: Mapping[str, Value]) -> dict[str, Value]:
    """Return a canonical object of entries whose values are canonical already."""
    return {key: value[key] for key in sorted(value)}
