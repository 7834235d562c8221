"""Values on their way from a guest to the host: paid for, capped, copied.

What a guest hands over may share substructure, nest without end or contain
itself. One walk makes the canonical copy, charges every node at its expanded size
as it goes, and stops at a cap of bytes. It keeps no path; if it meets something
that is no value, a second walk looks for the same thing to say where it is.

The rules are those of `tidewell.values.normalize`, for the types that guests have:
a guest's dataclass stands for the dict of its fields, a `Counter`, `defaultdict` or
`OrderedDict` for a dict of its items, and a named tuple for a tuple, as in JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

from sandbox.classes import is_guest_instance
from sandbox.costs import COPY_BYTES
from sandbox.host import HostObject
from tidewell.errors import InvalidValue, LimitExceeded
from tidewell.values import (
    ARRAY_LENGTH_MAX,
    COMMIT_TS,
    DEPTH_MAX,
    MISSING,
    NUMBER_INT_MAX,
    OBJECT_ENTRIES_MAX,
    Int64,
    Value,
    normalize,
    number,
)

Charge = Callable[[int], None]

VALUE_BYTES_MAX: Final = 16 * 2**20  # arguments and results (function-semantics 19.2)
DOCUMENT_BYTES_MAX: Final = 2**20
STEPS_BEFORE_CHARGE: Final = 256  # nodes walked on credit
SHORT_TEXT: Final = 64  # characters; their copy is in the price of the node

INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1

_KEYS_KNOWN_MAX: Final = 4096
_keys_known: set[str] = set()  # keys that passed the checks of `normalize`; a cache, never more than a hint

_REMEDIES: Final = {
    "Set": "a set is not a value; use sorted(...) or list(...)",
    "FrozenSet": "a set is not a value; use sorted(...) or list(...)",
    "Deque": "a deque is not a value; use list(...)",
    "Decimal": "a Decimal is not a value; use str(...) or float(...)",
    "DateTime": "a datetime is not a value; use x.isoformat() or x.timestamp()",
    "Date": "a date is not a value; use x.isoformat()",
    "Time": "a time is not a value; use x.isoformat()",
    "Delta": "a timedelta is not a value; use x.total_seconds()",
    "Uuid": "a UUID is not a value; use str(...)",
    "generator": "a generator is not a value; use list(...)",
    "Query": "a query is not a value; end it with .collect(), .take(n), .first() or .unique()",
    "Declared": "a function is not a value; pass its path as text",
}


class _NoValue(Exception):
    """Somewhere in the value is something that is none."""


def take_in(
    value: object,
    path: str,
    charge: Charge,
    *,
    bytes_max: int = VALUE_BYTES_MAX,
    depth_max: int = DEPTH_MAX,
) -> Value:
    """Return the canonical copy of a guest's value.

    Raises:
      InvalidValue: it is no value, or nests too deeply.
      LimitExceeded: it is larger than `bytes_max`.
    """
    copy, has_wide = take_in_wide(value, path, charge, bytes_max=bytes_max, depth_max=depth_max)
    if has_wide:
        refuse_wide(copy, path)
    return copy


def take_in_wide(
    value: object,
    path: str,
    charge: Charge,
    *,
    bytes_max: int = VALUE_BYTES_MAX,
    depth_max: int = DEPTH_MAX,
    is_document: bool = False,
) -> tuple[Value, bool]:
    """Like `take_in`, and let integers through that need 64 bits; the second result says if there are any.

    A validator may make an int64 of such an integer (N4). What it leaves as it is
    would lose digits as a number (N2), so `refuse_wide` must see the value after it.

    Args:
      is_document: it is going to be written, so it may hold `COMMIT_TS`, and fields of it may be `MISSING`.
    """
    walk = _Walk(charge, bytes_max, is_document)
    try:
        copy = walk.copy(value, depth_max)
        walk.settle()
    except _NoValue:
        _explain(value, path, depth_max, is_document)
    except OverflowError:
        raise too_large(path, bytes_max) from None
    return copy, walk.has_wide


def refuse_wide(value: Value, path: str) -> None:
    """Raise `InvalidValue` if an integer outside ±2**53 is left in a value that is canonical otherwise."""
    kind = type(value)
    if kind is int:
        normalize(value, path)
    elif kind is dict:
        for key, item in value.items():
            refuse_wide(item, f"{path}.{key}")
    elif kind is list:
        for index, item in enumerate(value):
            refuse_wide(item, f"{path}[{index}]")


def too_large(path: str, bytes_max: int) -> LimitExceeded:
    return LimitExceeded("TooLargeValue", f"TooLargeValue: {path} is larger than {bytes_max} bytes")


class _Walk:
    __slots__ = ("_bytes_left", "_charge", "_is_document", "_steps", "has_wide")

    def __init__(self, charge: Charge, bytes_max: int, is_document: bool) -> None:
        self.has_wide = False
        self._is_document = is_document
        self._charge = charge
        self._bytes_left = bytes_max
        self._steps = 1

    def settle(self) -> None:
        if self._bytes_left < 0:
            raise OverflowError
        self._charge(self._steps)
        self._steps = 0

    def _took(self, size: int, steps: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise OverflowError
        self._steps += steps
        if self._steps >= STEPS_BEFORE_CHARGE:
            self.settle()

    def copy(self, value: Any, depth_left: int) -> Value:
        kind = type(value)
        if kind is str:
            size = len(value)
            self._took(size, size // COPY_BYTES)
            if not value.isascii():
                try:
                    value.encode()
                except UnicodeEncodeError:
                    raise _NoValue from None
            return value
        if kind is int:
            if not -NUMBER_INT_MAX <= value <= NUMBER_INT_MAX:
                if not INT64_MIN <= value <= INT64_MAX:
                    raise _NoValue
                self.has_wide = True
            return value
        if value is None or kind is bool or kind is Int64:
            return value
        if kind is dict:
            return self._copy_dict(value, depth_left)
        if kind is list or kind is tuple:
            if depth_left <= 0 or len(value) > ARRAY_LENGTH_MAX:
                raise _NoValue
            self._took(len(value), len(value) + 1)
            return [self.copy(item, depth_left - 1) for item in value]
        if kind is float:
            return number(value)
        if kind is bytes:
            self._took(len(value), len(value) // COPY_BYTES)
            return value
        if value is COMMIT_TS and self._is_document:
            return value
        plain = _plain_of(value)
        if plain is None:
            raise _NoValue
        return self.copy(plain, depth_left)

    def _copy_dict(self, value: dict[Any, Any], depth_left: int) -> Value:
        count = len(value)
        if depth_left <= 0 or count > OBJECT_ENTRIES_MAX:
            raise _NoValue
        self._took(count, count + 1)
        if not _keys_known.issuperset(value):
            _learn_keys(value)
        copy = {}
        for key in sorted(value):
            item = value[key]
            kind = type(item)
            # The leaves that documents are mostly made of, without a call for each.
            if kind is int and -NUMBER_INT_MAX <= item <= NUMBER_INT_MAX:
                copy[key] = item
            elif kind is str and len(item) < SHORT_TEXT and item.isascii():
                self._bytes_left -= len(item)
                copy[key] = item
            elif item is not MISSING:
                copy[key] = self.copy(item, depth_left - 1)
            elif not self._is_document:
                raise _NoValue
        return copy


def _learn_keys(value: dict[Any, Any]) -> None:
    for key in value:
        if type(key) is not str:
            raise _NoValue
    try:
        normalize(dict.fromkeys(value))
    except InvalidValue:
        raise _NoValue from None
    if len(_keys_known) + len(value) > _KEYS_KNOWN_MAX:
        _keys_known.clear()
    _keys_known.update(value)


def _plain_of(value: object) -> dict[Any, Any] | tuple[Any, ...] | None:
    """Return what an object stands for: the fields of a guest's dataclass, the items of a container of
    the host. None for anything else.
    """
    if isinstance(value, HostObject):
        stands_for = getattr(type(value), "_value_", None)
        return None if stands_for is None else stands_for(value)
    if not is_guest_instance(value) or not hasattr(type(value), "_dataclass_"):
        return None
    held = value.__dict__
    return {name: held[name] for name in type(value)._dataclass_ if name in held}  # type: ignore[attr-defined]  # looked at just before


def _explain(value: Any, path: str, depth_left: int, is_document: bool) -> NoReturn:
    """Raise `InvalidValue` for the first thing in `value` that is none. The walk before has ended in it."""
    _find(value, path, depth_left, is_document)
    raise AssertionError(f"{path} was refused and is a value")


def _find(value: Any, path: str, depth_left: int, is_document: bool) -> None:
    kind = type(value)
    plain = None if kind in (dict, list, tuple) else _plain_of(value)
    if plain is not None:
        _find(plain, path, depth_left, is_document)
    elif kind is dict:
        fields = value
        if depth_left <= 0:
            raise InvalidValue(path, "nested too deeply")
        if len(fields) > OBJECT_ENTRIES_MAX:
            raise InvalidValue(path, f"an object of {len(fields)} entries, at most {OBJECT_ENTRIES_MAX}")
        normalize(dict.fromkeys(fields), path)
        for key in sorted(fields):
            if fields[key] is not MISSING or not is_document:
                _find(fields[key], f"{path}.{key}", depth_left - 1, is_document)
    elif kind is list or kind is tuple:
        if depth_left <= 0:
            raise InvalidValue(path, "nested too deeply")
        if len(value) > ARRAY_LENGTH_MAX:
            raise InvalidValue(path, f"an array of {len(value)} elements, at most {ARRAY_LENGTH_MAX}")
        for index, item in enumerate(value):
            _find(item, f"{path}[{index}]", depth_left - 1, is_document)
    elif kind.__name__ in _REMEDIES:
        raise InvalidValue(path, _REMEDIES[kind.__name__])
    elif (kind is int and INT64_MIN <= value <= INT64_MAX) or (value is COMMIT_TS and is_document):
        return
    else:
        normalize(value, path)
