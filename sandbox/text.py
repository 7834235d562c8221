"""Text of values, the same in every process: `str`, `repr`, the fields of f-strings, log lines.

Nothing here calls a method of a guest. Functions, classes and instances get a
text without addresses; containers are walked with fuel and only so deep; numbers
and strings are formatted by the host with bounded width and precision.
"""

from __future__ import annotations

import re
import types
from typing import Any, Final, TypeAlias

from sandbox import costs, policy
from sandbox.classes import arguments_of, inherited_fields, is_guest_class, is_guest_instance
from sandbox.host import HostObject
from sandbox.messages import steady
from sandbox.meter import Meter
from sandbox.sets import FrozenSet, Set

Text: TypeAlias = str  # `Texts.str` hides the name inside the class
FORMAT_WIDTH_MAX: Final = 1024
_SPEC: Final = re.compile(
    r"(?:.?[<>=^])?[-+ ]?z?#?0?(\d{0,9})[,_]?(?:\.(\d{1,9}))?[bcdeEfFgGosxX%]?", re.DOTALL
)
_NEAR_ZERO: Final = 1e-9  # floats between these are written at the price of what writes them
_FAR: Final = 1e9
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_PLAIN: Final = (int, float, bool, type(None), bytes)
_FUNCTIONS: Final = (
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
)


def scrub(text: Text) -> Text:
    """Remove addresses and the runtime's own file prefix."""
    return _ADDRESS.sub("", text).replace("<guest>/", "")


class Texts:
    """The text routines of one worker."""

    def __init__(self, meter: Meter) -> None:
        self._charge = meter.charge

    def limit(self, text: Text) -> Text:
        size = len(text)
        if size > policy.TEXT_LENGTH_MAX:
            raise ValueError(f"a text of {size} characters; at most {policy.TEXT_LENGTH_MAX}")
        if size > costs.COPY_BYTES:
            self._charge(size // costs.COPY_BYTES)
        return text

    def str(self, value: Any) -> Text:
        kind = type(value)
        if kind is str:
            return value  # type: ignore[no-any-return]  # exactly a str
        if kind is int or kind is float:
            self._digits(value)
            return repr(value)
        if isinstance(value, BaseException):
            return self.exception(value)
        if isinstance(value, HostObject) and hasattr(kind, "_text_"):
            return self.limit(kind._text_(value))
        return self.repr(value)

    def _digits(self, number: float) -> None:
        """Charge for the decimal digits of a number."""
        if type(number) is float:
            if number and not _NEAR_ZERO < abs(number) < _FAR:
                self._charge(costs.float_steps(number))
            return
        bits = number.bit_length()  # type: ignore[attr-defined]  # an int
        if bits > costs.INTEGER_BITS:
            self._charge(costs.product_steps(bits, bits))

    def repr(self, value: Any) -> Text:
        parts: list[Text] = []
        self._write(value, parts, 0, 0)
        return self.limit("".join(parts))

    def exception(self, error: BaseException) -> Text:
        args = arguments_of(error)
        if not args:
            return ""
        if len(args) == 1:
            if isinstance(error, KeyError):
                return self.repr(args[0])
            return self.limit(steady(scrub(self.str(args[0]))))
        if isinstance(error, OSError) and len(args) == 2:
            return self.limit(f"[Errno {self.str(args[0])}] {self.str(args[1])}")
        if isinstance(error, UnicodeError) and len(args) == 5:
            return self._codec_error(args)
        return self.repr(args)

    def _codec_error(self, args: tuple[Any, ...]) -> Text:
        """Written here, because the interpreter's own text reads outside of its bounds on 3.11 to 3.13.0."""
        codec, source, start, _, reason = args
        if type(source) not in (str, bytes) or type(start) is not int or not 0 <= start < len(source):
            return self.repr(args)
        if type(source) is bytes:
            what = f"decode byte 0x{source[start]:02x}"
        else:
            what = f"encode character {source[start]!a}"
        return self.limit(f"{self.repr(codec)} codec can't {what} in position {start}: {self.str(reason)}")

    def _write(self, value: Any, parts: list[Text], depth: int, size: int) -> int:
        """Append the text of `value`; return the size so far, so that a bomb ends before it is built."""
        self._charge(1)
        if depth > policy.DEPTH_MAX:
            raise ValueError(f"a value nested deeper than {policy.DEPTH_MAX}")
        kind = type(value)
        if kind is str or kind in _PLAIN:
            if kind is int or kind is float:
                self._digits(value)
            elif kind is not bool and value is not None:
                self._charge(len(value) // costs.SCAN_BYTES)
            piece = repr(value)
        elif kind is list:
            return self._sequence("[", value, "]", parts, depth, size)
        elif kind is tuple:
            return self._sequence("(", value, ",)" if len(value) == 1 else ")", parts, depth, size)
        elif kind is dict:
            return self._dict(value, parts, depth, size)
        elif kind is Set or kind is FrozenSet:
            return self._set(value, parts, depth, size)
        elif is_guest_instance(value) and "_dataclass_" in kind.__dict__:
            return self._dataclass(value, parts, depth, size)
        else:
            piece = self._opaque(value, depth)
        parts.append(piece)
        size += len(piece)
        if size > policy.TEXT_LENGTH_MAX:
            raise ValueError(f"a text of more than {policy.TEXT_LENGTH_MAX} characters")
        self._charge(len(piece) // costs.SCAN_BYTES)
        return size

    def _sequence(self, start: Text, items: Any, end: Text, parts: list[Text], depth: int, size: int) -> int:
        parts.append(start)
        for i, item in enumerate(items):
            if i:
                parts.append(", ")
            size = self._write(item, parts, depth + 1, size + 2)
        parts.append(end)
        return size + 2

    def _dict(self, items: dict[Any, Any], parts: list[Text], depth: int, size: int) -> int:
        parts.append("{")
        for i, (key, item) in enumerate(items.items()):
            if i:
                parts.append(", ")
            size = self._write(key, parts, depth + 1, size + 2)
            parts.append(": ")
            size = self._write(item, parts, depth + 1, size + 2)
        parts.append("}")
        return size + 2

    def _set(self, items: Set | FrozenSet, parts: list[Text], depth: int, size: int) -> int:
        frozen = type(items) is FrozenSet
        if not len(items):
            parts.append("frozenset()" if frozen else "set()")
            return size + 11
        start, end = ("frozenset({", "})") if frozen else ("{", "}")
        return self._sequence(start, items, end, parts, depth, size + len(start))

    def _dataclass(self, value: Any, parts: list[Text], depth: int, size: int) -> int:
        kind = type(value)
        parts.append(f"{kind.__name__}(")
        held = value.__dict__
        shown = [name for name in inherited_fields(kind) if name in held]
        for i, name in enumerate(shown):
            parts.append(f", {name}=" if i else f"{name}=")
            size = self._write(held[name], parts, depth + 1, size + len(name) + 3)
        parts.append(")")
        return size + len(kind.__name__)

    def _opaque(self, value: Any, depth: int) -> Text:
        kind = type(value)
        if isinstance(value, BaseException):
            inside = (
                ", ".join(self.repr(arg) for arg in arguments_of(value))
                if depth < policy.DEPTH_MAX // 4
                else "..."
            )
            return f"{kind.__name__}({inside})"
        if is_guest_class(value) or isinstance(value, type):
            return f"<class '{value.__name__}'>"
        if is_guest_instance(value):
            return f"<{kind.__name__} object>"
        if isinstance(value, HostObject):
            return kind._repr_(value) if hasattr(kind, "_repr_") else f"<{kind.__name__.lower()}>"
        if isinstance(value, types.MethodWrapperType):
            value = getattr(value, "__self__", None)
        if isinstance(value, _FUNCTIONS):
            return f"<function {value.__name__.strip('_')}>"
        if isinstance(value, int):
            self._digits(value)
            return repr(value)
        if value is Ellipsis or value is NotImplemented:
            return repr(value)
        if kind is range:
            return repr(value)
        return f"<{kind.__name__}>"

    # ---- fields of f-strings -----------------------------------------------------

    def field(self, value: Any, conversion: int = -1, spec: Text = "") -> Text:
        kind = type(value)
        if conversion == -1:
            if not spec:
                return value if kind is str else self.str(value)
        elif conversion == 115:
            value, kind = self.str(value), str
        elif conversion == 114:
            value, kind = self.repr(value), str
        else:
            shown = self.repr(value)
            self._charge(len(shown) // costs.SCAN_BYTES)
            value, kind = self.limit(shown.encode("ascii", "backslashreplace").decode()), str
        return self.format(value, spec)

    def format(self, value: Any, spec: Any = "") -> Text:
        if type(spec) is not str:
            raise TypeError("a format specification must be a str")
        kind = type(value)
        if not spec:
            return self.str(value)
        if isinstance(value, HostObject) and hasattr(kind, "_format_"):
            return self.limit(kind._format_(value, spec))
        if kind not in (str, int, float, bool) and not isinstance(value, int):
            raise TypeError(f"unsupported format string passed to {kind.__name__}")
        match = _SPEC.fullmatch(spec)
        if match is None:
            raise ValueError(f"invalid format specification {spec[:40]!r}")
        asked = 0
        for number in match.groups():
            if number and int(number) > FORMAT_WIDTH_MAX:
                raise ValueError(f"a width or precision of more than {FORMAT_WIDTH_MAX}")
            asked += int(number or 0)
        self._charge(asked // costs.FLOAT_DIGITS)
        if kind is str and len(value) > costs.COPY_BYTES:
            self._charge(len(value) // costs.COPY_BYTES)
        elif kind is not str:
            self._digits(value)
        return format(value, spec)
