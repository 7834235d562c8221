"""The methods of text and bytes that cost what their arguments say: searching, trimming, padding, recoding.

The table of these methods for `methods.Methods`. Each charges before it works, by
what the interpreter does at worst: searching backwards compares every place with the
whole of what is looked for, and so does searching forwards in short texts and where
little room is left; trimming looks every character up in the set of characters.
A result may be longer than the text, so whatever can grow is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox import costs, policy
from sandbox.meter import Meter
from sandbox.structure import Structure

CODECS: Final = frozenset({"utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1"})
_ERRORS: Final = frozenset({"strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace"})
_WRITTEN_OUT: Final = frozenset({"backslashreplace", "xmlcharrefreplace"})  # an exception for every character
_WRITTEN_STEPS: Final = 2  # characters of those per step
_TABLE_CHARACTERS: Final = 4  # translated per step
_PAIR_ITEMS: Final = 8  # of a list that is joined, per step: they are looked at three times
_LINES: Final = 8  # split off per step
_GROWING: Final = ("upper", "lower", "title", "capitalize", "casefold", "swapcase")
_PADDING: Final = ("center", "ljust", "rjust", "zfill")
_TRIMMING: Final = ("strip", "lstrip", "rstrip")
_FORWARDS: Final = ("count", "find", "index")
_BACKWARDS: Final = ("rfind", "rindex")

Method = Callable[..., Any]


def too_long(kind: type) -> ValueError:
    return ValueError(f"a {kind.__name__} of more than {policy.TEXT_LENGTH_MAX} characters")


def codec(encoding: Any, errors: Any) -> None:
    if type(encoding) is not str or encoding.lower().replace("_", "-") not in CODECS:
        raise LookupError("unknown encoding; utf-8, ascii and latin-1 exist in functions")
    if type(errors) is not str or errors not in _ERRORS:
        raise LookupError("unknown error handler name")


def titled(method: Method, name: str) -> Method:
    """Return `method` with the name that its text shows."""
    method.__name__ = method.__qualname__ = name
    return method


class TextMethods:
    """The guarded methods of `str` and `bytes` of one worker, in `common`, `text` and `data`."""

    def __init__(self, meter: Meter, structure: Structure) -> None:
        self._charge = meter.charge
        self._structure = structure
        common: dict[str, Method] = {
            "join": self._join,
            "replace": self._replace,
            "expandtabs": self._expandtabs,
            "translate": self._translate,
            "split": self._split("split", costs.forward_steps),
            "rsplit": self._split("rsplit", costs.backward_steps),
            "partition": self._part("partition", costs.forward_steps),
            "rpartition": self._part("rpartition", costs.backward_steps),
            "splitlines": self._splitlines,
            "startswith": self._edge("startswith"),
            "endswith": self._edge("endswith"),
            **{name: self._pad(name) for name in _PADDING},
            **{name: self._trim(name) for name in _TRIMMING},
            **{name: self._scan(name, costs.forward_steps) for name in _FORWARDS},
            **{name: self._scan(name, costs.backward_steps) for name in _BACKWARDS},
        }
        self.text: dict[str, Method] = {**common, "encode": self._encode, "maketrans": self._maketrans}
        self.data: dict[str, Method] = {
            **common,
            "decode": self._decode,
            "hex": self._hex,
            "fromhex": self._fromhex_on,
        }

    def scanned(self, value: Any) -> None:
        if len(value) > costs.SHORT_TEXT:
            self._charge(len(value) // costs.SCAN_BYTES)

    def reading(self, method: str) -> Method:
        """A method that reads its text once, charged at every call."""
        grows = method in _GROWING

        def read(value: Any, *args: Any, **kwargs: Any) -> Any:
            self.scanned(value)
            result = getattr(value, method)(*args, **kwargs)
            return self._bounded(result) if grows else result

        return titled(read, method)

    def _own(self, value: Any, other: Any) -> None:
        if type(other) is not type(value):
            raise TypeError(f"a {type(value).__name__} is required, not {type(other).__name__}")

    def _bounded(self, result: Any) -> Any:
        if len(result) > policy.TEXT_LENGTH_MAX:
            raise too_long(type(result))
        return result

    # ---- searching ---------------------------------------------------------------

    def _scan(self, method: str, steps: Callable[[int, int], int]) -> Method:
        def scan(value: Any, sub: Any, *bounds: Any) -> Any:
            size = len(value)
            if bounds:
                size = len(range(size)[slice(*bounds)])
            self._charge(steps(size, len(sub) if type(sub) is type(value) else 1))
            return getattr(value, method)(sub, *bounds)

        return titled(scan, method)

    def _split(self, method: str, steps: Callable[[int, int], int]) -> Method:
        def split(value: Any, sep: Any = None, maxsplit: int = -1) -> Any:
            if sep is not None:
                self._own(value, sep)
            self._charge(steps(len(value), 1 if sep is None else len(sep)))
            result = getattr(value, method)(sep, maxsplit)
            self._charge(len(result))
            return result

        return titled(split, method)

    def _splitlines(self, value: Any, keepends: Any = False) -> Any:
        self.scanned(value)
        result = value.splitlines(bool(keepends))  # 3.11 takes integers alone
        self._charge(len(result) // _LINES)
        return result

    def _part(self, method: str, steps: Callable[[int, int], int]) -> Method:
        def part(value: Any, sep: Any, /) -> Any:
            self._own(value, sep)
            self._charge(steps(len(value), len(sep)))
            return getattr(value, method)(sep)

        return titled(part, method)

    def _replace(self, value: Any, old: Any, new: Any, count: int = -1) -> Any:
        self._own(value, old)
        self._own(value, new)
        if type(count) is not int:
            raise TypeError("replace: the count must be an int")
        self._charge(costs.forward_steps(len(value), len(old)))
        if len(new) > len(old):
            times = value.count(old) if count < 0 else min(count, value.count(old))
            self._charge(times)
            if len(value) + times * (len(new) - len(old)) > policy.TEXT_LENGTH_MAX:
                raise too_long(type(value))
            self._charge(times * len(new) // costs.COPY_BYTES)
        return value.replace(old, new, count)

    def _edge(self, method: str) -> Method:
        def edge_of(value: Any, edge: Any, *bounds: Any) -> Any:
            size, kind = len(value), type(value)
            if type(edge) is tuple:
                self._charge(len(edge))
                compared = sum(len(one) for one in edge if type(one) is kind and len(one) <= size)
            else:
                compared = len(edge) if type(edge) is kind and len(edge) <= size else 0
            self._charge(compared // costs.COPY_BYTES)
            return getattr(value, method)(edge, *bounds)

        return titled(edge_of, method)

    def _trim(self, method: str) -> Method:
        def trim(value: Any, characters: Any = None, /) -> Any:
            count = 1 if characters is None or type(characters) is not type(value) else len(characters)
            self._charge(costs.trim_steps(len(value), count))
            return getattr(value, method)(characters)

        return titled(trim, method)

    # ---- growing -----------------------------------------------------------------

    def _join(self, value: Any, items: Any) -> Any:
        kind = type(value)
        parts = self._structure.listed(items)
        self._charge(len(parts) // _PAIR_ITEMS)
        if not {kind}.issuperset(map(type, parts)):
            i, odd = next((i, part) for i, part in enumerate(parts) if type(part) is not kind)
            raise TypeError(
                f"sequence item {i}: expected {kind.__name__} instance, {type(odd).__name__} found"
            )
        size = len(value) * max(len(parts) - 1, 0) + sum(map(len, parts))
        if size > policy.TEXT_LENGTH_MAX:
            raise too_long(kind)
        self._charge(size // costs.COPY_BYTES)
        return value.join(parts)

    def _pad(self, method: str) -> Method:
        def pad(value: Any, width: Any, *fill: Any) -> Any:
            if type(width) is not int:
                raise TypeError("a width must be an int")
            if width > policy.TEXT_LENGTH_MAX:
                raise too_long(type(value))
            self._charge(max(width, len(value)) // costs.COPY_BYTES)
            return getattr(value, method)(width, *fill)

        return titled(pad, method)

    def _expandtabs(self, value: Any, tabsize: Any = 8) -> Any:
        if type(tabsize) is not int:
            raise TypeError("a tab size must be an int")
        self.scanned(value)
        size = len(value) + value.count("\t" if type(value) is str else b"\t") * max(tabsize, 0)
        if size > policy.TEXT_LENGTH_MAX:
            raise too_long(type(value))
        self._charge(size // costs.COPY_BYTES)
        return value.expandtabs(tabsize)

    def _translate(self, value: Any, table: Any, *rest: Any, **kwargs: Any) -> Any:
        self._charge(len(value) // _TABLE_CHARACTERS + 1)
        if type(value) is str:
            if type(table) is not dict:
                raise TypeError("translate: the table must be a dict; make it with str.maketrans")
            longest = 1
            for item in table.values():
                self._charge(1)
                if type(item) is str:
                    longest = max(longest, len(item))
                elif item is not None and type(item) is not int:
                    raise TypeError("translate: values must be text, numbers or None")
            if len(value) * longest > policy.TEXT_LENGTH_MAX:
                raise too_long(str)
        return value.translate(table, *rest, **kwargs)

    def _maketrans(self, _value: str, *args: Any) -> dict[int, Any]:
        return self.maketrans(*args)

    def maketrans(self, *args: Any) -> dict[int, Any]:
        for arg in args:
            if type(arg) not in (str, dict):
                raise TypeError("maketrans takes texts or one dict")
            self._charge(len(arg) + 1)
        return str.maketrans(*args)

    # ---- recoding ----------------------------------------------------------------

    def _recoded(self, value: Any, errors: str) -> None:
        if errors in _WRITTEN_OUT and not value.isascii():
            self._charge(len(value) // _WRITTEN_STEPS)
        else:
            self.scanned(value)

    def _encode(self, value: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        codec(encoding, errors)
        self._recoded(value, errors)
        result: bytes = self._bounded(value.encode(encoding, errors))
        return result

    def _decode(self, value: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
        codec(encoding, errors)
        self._recoded(value, errors)
        result: str = self._bounded(value.decode(encoding, errors))
        return result

    def _hex(self, value: bytes, *args: Any) -> str:
        if len(value) * 3 > policy.TEXT_LENGTH_MAX:
            raise too_long(str)
        self.scanned(value)
        return value.hex(*args)

    def fromhex(self, text: Any) -> bytes:
        if type(text) is not str:
            raise TypeError("fromhex() argument must be str")
        self._charge(len(text) // costs.SCAN_BYTES)
        return bytes.fromhex(text)

    def _fromhex_on(self, _value: bytes, text: Any) -> bytes:
        return self.fromhex(text)
