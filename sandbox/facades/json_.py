"""`json`: encoded and decoded by our own walk, so that size, depth and fuel are checked as it goes.

No hooks: `default`, `cls` and `object_hook` would run guest code inside the walk,
and nobody who stores documents needs them.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs, policy
from sandbox.facades.base import Facade, integer, text
from sandbox.facades.collections_ import DictLike
from sandbox.facades.named import NamedTuple

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

CALL_STEPS: Final = 3  # of reading or writing, beside the text
_INDENT_MAX: Final = 16
_PUT_CHARACTERS: Final = 16  # of a long piece per step
_encode_text: Final = json.encoder.encode_basestring_ascii
_encode_text_plain: Final = json.encoder.encode_basestring


class JSONDecodeError(ValueError):
    """What `json.loads` raises on text that is not JSON."""


def _steady(error: json.JSONDecodeError) -> json.JSONDecodeError:
    """Return the error of a comma before the end as versions before 3.13 tell it: by what follows."""
    if not error.msg.startswith("Illegal trailing comma"):
        return error
    at = error.pos + 1
    while error.doc[at] in " \t\n\r":
        at += 1
    what = "Expecting value" if error.doc[at] == "]" else "Expecting property name enclosed in double quotes"
    return json.JSONDecodeError(what, error.doc, at)


class Writer:
    def __init__(
        self,
        runtime: GuestRuntime,
        *,
        ensure_ascii: bool,
        indent: str | None,
        separators: tuple[str, str],
        sort: bool,
    ) -> None:
        self._charge = runtime.meter.charge
        self._quote = _encode_text if ensure_ascii else _encode_text_plain
        self._indent = indent
        self._comma, self._colon = separators
        self._sort = sort
        self._size = 0
        self.parts: list[str] = []

    def put(self, piece: str) -> None:
        size = len(piece)
        if size > costs.COPY_BYTES:  # a key, or a number of many digits
            self._charge(size // _PUT_CHARACTERS)
        self._size += size
        if self._size > policy.TEXT_LENGTH_MAX:
            raise ValueError(f"JSON of more than {policy.TEXT_LENGTH_MAX} characters")
        self.parts.append(piece)

    def write(self, value: Any, depth: int = 0) -> None:
        self._charge(costs.JSON_NODE)
        if depth > policy.DEPTH_MAX:
            raise ValueError(f"a value nested deeper than {policy.DEPTH_MAX}")
        kind = type(value)
        if kind is str:
            self._charge(len(value) // costs.SCAN_BYTES)
            self.put(self._quote(value))
        elif kind is dict:
            self._object(value, depth)
        elif kind is list or kind is tuple:
            self._array(value, depth)
        elif isinstance(value, DictLike):
            self._object(value._dict_(), depth)
        elif isinstance(value, NamedTuple):
            self._array(list(value), depth)
        else:
            self.put(self._scalar(value))

    def _scalar(self, value: Any) -> str:
        if value is None:
            return "null"
        if value is True:
            return "true"
        if value is False:
            return "false"
        if isinstance(value, int):
            self._charge(costs.product_steps(value.bit_length(), value.bit_length()))
            return int.__repr__(value)
        if type(value) is float:
            self._charge(costs.float_steps(value) if math.isfinite(value) else 0)
            if math.isfinite(value):
                return float.__repr__(value)
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    def _line(self, depth: int) -> None:
        if self._indent is not None:
            self.put("\n" + self._indent * depth)

    def _array(self, items: Any, depth: int) -> None:
        if not items:
            self.put("[]")
            return
        self.put("[")
        for i, item in enumerate(items):
            if i:
                self.put(self._comma)
            self._line(depth + 1)
            self.write(item, depth + 1)
        self._line(depth)
        self.put("]")

    def _object(self, items: dict[Any, Any], depth: int) -> None:
        if not items:
            self.put("{}")
            return
        self.put("{")
        pairs = list(items.items())
        if self._sort:
            self._charge(costs.sort_steps(len(pairs)))
            pairs.sort(key=lambda pair: self._key(pair[0]))
        for i, (key, item) in enumerate(pairs):
            if i:
                self.put(self._comma)
            self._line(depth + 1)
            self.put(self._quote(self._key(key)))
            self.put(self._colon)
            self.write(item, depth + 1)
        self._line(depth)
        self.put("}")

    def _key(self, key: Any) -> str:
        if type(key) is str:
            return key
        if key is None or isinstance(key, (int, float)):
            return self._scalar(key)
        raise TypeError(f"keys must be str, int, float, bool or None, not {type(key).__name__}")


def build(runtime: GuestRuntime) -> Facade:
    charge = runtime.meter.charge

    def dumps(
        obj: Any,
        *,
        ensure_ascii: Any = True,
        indent: Any = None,
        separators: Any = None,
        sort_keys: Any = False,
    ) -> str:
        if type(indent) is int:
            indent = " " * integer(indent, "indent", low=0, high=_INDENT_MAX)
        elif indent is not None and len(text(indent, "indent")) > _INDENT_MAX:
            raise ValueError("indent is too long")
        if separators is None:
            separators = (", " if indent is None else ",", ": ")
        comma, colon = separators
        pair = (text(comma, "separator"), text(colon, "separator"))
        if max(map(len, pair)) > _INDENT_MAX:
            raise ValueError("a separator is too long")
        charge(CALL_STEPS)
        writer = Writer(
            runtime, ensure_ascii=bool(ensure_ascii), indent=indent, separators=pair, sort=bool(sort_keys)
        )
        writer.write(obj)
        return "".join(writer.parts)

    def shallow(source: str) -> None:
        """Refuse text nested deeper than values may be, before the C decoder recurses into it."""
        depth = 0
        in_text = False
        escaped = False
        for character in source:
            if in_text:
                if escaped:
                    escaped = False
                elif character == "\\":
                    escaped = True
                elif character == '"':
                    in_text = False
            elif character == '"':
                in_text = True
            elif character in "[{":
                depth += 1
                if depth > policy.DEPTH_MAX:
                    raise ValueError(f"JSON nested deeper than {policy.DEPTH_MAX}")
            elif character in "]}":
                depth -= 1

    def whole_number(digits: str) -> int:
        if len(digits) > 4_000:
            raise ValueError("an integer of too many digits")
        return int(digits)

    def loads(s: Any) -> Any:
        if type(s) is not bytes:
            text(s, "the JSON")
        charge(len(s) // 4 + CALL_STEPS)
        source = s.decode() if type(s) is bytes else s
        if source.count("[") + source.count("{") > policy.DEPTH_MAX:
            shallow(source)
        try:
            return json.loads(source, parse_int=whole_number)
        except json.JSONDecodeError as error:
            error = _steady(error)
            raise JSONDecodeError(
                f"{error.msg}: line {error.lineno} column {error.colno} (char {error.pos})"
            ) from None

    return Facade("json", {"JSONDecodeError": JSONDecodeError, "dumps": dumps, "loads": loads})
