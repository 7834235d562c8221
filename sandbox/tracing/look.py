"""Values of a guest as short texts, for a person who debugs.

The rules of `sandbox.text` hold here too: no method of the guest is called, and
nothing shows an address. Two things differ. Nothing is charged, because a run under
a debugger spends exactly the steps that it spends without; so everything is bounded
here, in characters, in items and in depth. And it never fails: what cannot be shown
is named by its class.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from sandbox.classes import arguments_of, is_guest_class, is_guest_instance
from sandbox.facades.collections_ import Deque, DictLike
from sandbox.facades.datetime_ import Date, Delta, Time, Zone
from sandbox.facades.decimal_ import Decimal
from sandbox.facades.encodings_ import Uuid
from sandbox.facades.named import NamedTuple
from sandbox.faults import Terminated
from sandbox.host import HostObject
from sandbox.sets import FrozenSet, Set
from sandbox.text import scrub
from sandbox.tracing.shape import MORE, NAME_MAX
from tidewell.values import Int64

DEPTH_MAX: Final = 6
ITEMS_MAX: Final = 40  # of one container
INTEGER_BITS_MAX: Final = 1_024

SCALARS: Final = frozenset(
    {int, float, bool, type(None), str, bytes, Int64}
)  # the same object has the same text
_SHOWN_BY_HOST: Final = (
    Date,
    Delta,
    Time,
    Zone,
    Decimal,
    Uuid,
)  # their `_repr_` is short, and charges nothing
_TITLES: Final = {"DefaultDict": "defaultdict", "DictLike": "OrderedDict"}  # as users call them
_FUNCTIONS: Final = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)
_ENDS: Final = {"fuel": "OutOfFuel", "depth": "CallDepth", "memory": "OutOfMemory"}


def name_of(name: str) -> str:
    return name if len(name) <= NAME_MAX else name[:NAME_MAX] + MORE


def look(value: Any, text_max: int) -> str:
    """Return a text of at most `text_max` characters, and one more where it was cut."""
    return _Looker(text_max).whole(value)


def look_at_exception(error: BaseException, text_max: int) -> str:
    """Return `KeyError: 'x'`, as traces spell it."""
    kind = _ENDS[error.kind] if isinstance(error, Terminated) else name_of(type(error).__name__)
    args = arguments_of(error)
    if isinstance(error, Terminated):
        message = error.message
    elif len(args) == 1 and type(args[0]) is str and not isinstance(error, KeyError):
        message = scrub(args[0][:text_max]).encode(errors="replace").decode()  # half a pair has no bytes
    else:
        message = ", ".join(look(arg, text_max) for arg in args[:ITEMS_MAX])
    return _cut(f"{kind}: {message}" if message else kind, text_max)


def _cut(text: str, text_max: int) -> str:
    return text if len(text) <= text_max else text[:text_max] + MORE


class _Full(Exception):
    """As many characters are there as were asked for."""


class _Looker:
    def __init__(self, text_max: int) -> None:
        self._max = text_max
        self._left = text_max
        self._parts: list[str] = []

    def whole(self, value: Any) -> str:
        try:
            self._look(value, 0)
        except _Full:
            pass
        except Exception:
            return f"<{name_of(type(value).__name__)}>"
        return _cut("".join(self._parts), self._max)

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._left -= len(text)
        if self._left < 0:
            raise _Full

    def _look(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind is str or kind is bytes:
            self._put(self._text(value))
        elif kind is int or kind is Int64:
            self._put(_integer(value, kind))
        elif kind in (float, bool, type(None)):
            self._put(repr(value))
        elif depth > DEPTH_MAX:
            self._put(MORE)
        elif kind is list:
            self._items("[", value, len(value), "]", depth)
        elif kind is tuple:
            self._items("(", value, len(value), ",)" if len(value) == 1 else ")", depth)
        elif kind is dict:
            self._pairs("{", value, "}", depth)
        elif kind is Set or kind is FrozenSet:
            start, end = ("{", "}") if kind is Set else ("frozenset({", "})")
            self._items(start, value._items, len(value._items), end, depth)
        elif isinstance(value, BaseException):
            self._items(f"{name_of(kind.__name__)}(", arguments_of(value), 0, ")", depth)
        elif is_guest_instance(value):
            self._fields(value, depth)
        elif isinstance(value, HostObject):
            self._host(value, kind, depth)
        else:
            self._put(_opaque(value, kind))

    def _text(self, value: str | bytes) -> str:
        room = max(self._left, 0) + 1
        return repr(value) if len(value) <= room else repr(value[:room])

    def _items(self, start: str, items: Iterable[Any], count: int, end: str, depth: int) -> None:
        self._put(start)
        for i, item in enumerate(islice(items, ITEMS_MAX)):
            self._put(", " if i else "")
            self._look(item, depth + 1)
        if count > ITEMS_MAX:
            self._put(f", {MORE} {count:,} items")
        self._put(end)

    def _pairs(self, start: str, pairs: dict[Any, Any], end: str, depth: int) -> None:
        self._put(start)
        for i, (key, item) in enumerate(islice(pairs.items(), ITEMS_MAX)):
            self._put(", " if i else "")
            self._look(key, depth + 1)
            self._put(": ")
            self._look(item, depth + 1)
        if len(pairs) > ITEMS_MAX:
            self._put(f", {MORE} {len(pairs):,} items")
        self._put(end)

    def _named(self, title: str, values: Iterable[tuple[str, Any]], depth: int) -> None:
        self._put(f"{name_of(title)}(")
        for i, (name, item) in enumerate(islice(values, ITEMS_MAX)):
            self._put(f"{', ' if i else ''}{name_of(name)}=")
            self._look(item, depth + 1)
        self._put(")")

    def _fields(self, value: Any, depth: int) -> None:
        held = object.__getattribute__(value, "__dict__")
        shown = ((name, item) for name, item in held.items() if not name.startswith("_"))
        self._named(type(value).__name__, shown, depth)

    def _host(self, value: Any, kind: Any, depth: int) -> None:
        if isinstance(value, DictLike):
            self._pairs(f"{_TITLES.get(kind.__name__, kind.__name__)}({{", value._items, "})", depth)
        elif isinstance(value, Deque):
            items: deque[Any] = value._items
            self._items("deque([", items, len(items), "])", depth)
        elif isinstance(value, NamedTuple):
            self._named(kind.__name__, ((name, value._values[i]) for name, i in value._names.items()), depth)
        elif isinstance(value, _SHOWN_BY_HOST):
            self._put(kind._repr_(value))
        else:
            self._put(f"<{kind.__name__.lower()}>")


def _integer(value: int, kind: type) -> str:
    bits = value.bit_length()
    text = f"<an int of {bits:,} bits>" if bits > INTEGER_BITS_MAX else int.__repr__(value)
    return f"Int64({text})" if kind is Int64 else text


def _opaque(value: Any, kind: type) -> str:
    if is_guest_class(value) or isinstance(value, type):
        return f"<class {name_of(value.__name__)}>"
    if isinstance(value, _FUNCTIONS):
        return f"<function {name_of(value.__name__)}>"
    if kind is range:
        bits = max(part.bit_length() for part in (value.start, value.stop, value.step))
        return repr(value) if bits <= INTEGER_BITS_MAX else "<range>"
    if kind is types.GeneratorType:
        return f"<generator {name_of(value.__name__)}>"
    return f"<{name_of(kind.__name__)}>"
