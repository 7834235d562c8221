"""Methods whose cost depends on sizes: loaded through `_getattr_`, which charges first.

`policy.COSTED_ATTRIBUTES` names them. For a builtin type the guard returns a
method that checks its arguments by exact type and charges; on any other object
the attribute is loaded as it is. Text methods that read their text once charge
by its length when they are loaded, since nothing else about them depends on
the arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any, Final

from sandbox import costs, policy
from sandbox.faces import Face
from sandbox.guards import Structure
from sandbox.meter import Meter
from sandbox.sets import VIEWS

INT_TEXT_MAX: Final = 5_000  # digits in any base; a decimal of INTEGER_BITS_MAX bits has 4,933
_NOTHING: dict[Any, Any] = {}
_VALUES: Final[type] = type(_NOTHING.values())
_TEXTS: Final = frozenset({str, bytes})
CODECS: Final = frozenset({"utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1"})
_ERRORS: Final = frozenset({"strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace"})

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


def merge_order(keys: list[Any], reverse: bool) -> list[int]:
    """Return the stable order of `keys`, by our own merges.

    Keys of the host and of dataclasses take steps when they are compared, and how
    often the interpreter's sort compares differs between versions.
    """
    order = list(range(len(keys)))
    if reverse:
        order.reverse()
    width = 1
    while width < len(order):
        merged: list[int] = []
        for start in range(0, len(order), 2 * width):
            left, right = order[start : start + width], order[start + width : start + 2 * width]
            i = j = 0
            while i < len(left) and j < len(right):
                if keys[right[j]] < keys[left[i]]:
                    merged.append(right[j])
                    j += 1
                else:
                    merged.append(left[i])
                    i += 1
            merged += left[i:] or right[j:]
        order = merged
        width *= 2
    if reverse:
        order.reverse()
    return order


class Methods:
    """The guarded methods of one worker."""

    def __init__(self, meter: Meter, structure: Structure) -> None:
        self._meter = meter
        self._charge = meter.charge
        self._structure = structure
        text: dict[str, Method] = {
            "join": self._join,
            "replace": self._replace,
            "center": self._pad("center"),
            "ljust": self._pad("ljust"),
            "rjust": self._pad("rjust"),
            "zfill": self._zfill,
            "expandtabs": self._expandtabs,
            "translate": self._translate,
            "split": self._split("split"),
            "rsplit": self._split("rsplit"),
            "startswith": self._edge("startswith"),
            "endswith": self._edge("endswith"),
            "count": self._scan("count"),
            "find": self._scan("find"),
            "rfind": self._scan("rfind"),
            "index": self._scan("index"),
            "rindex": self._scan("rindex"),
        }
        self._readers = {name: self._reading(name) for name in policy.COSTED_ATTRIBUTES}
        self.table: dict[type, dict[str, Method]] = {
            str: {**text, "encode": self._encode, "maketrans": self._maketrans},
            bytes: {**text, "decode": self._decode, "hex": self._hex, "fromhex": self._fromhex_on},
            float: {"fromhex": self._float_fromhex_on},
            list: {
                "extend": self._extend, "sort": self._sort, "index": self._index,
                "count": self._list_scan("count"), "remove": self._list_scan("remove"),
                "insert": self._linear("insert"), "pop": self._linear("pop"),
                "clear": self._linear("clear"), "reverse": self._linear("reverse"),
                "copy": self._linear("copy"),
            },
            tuple: {"index": self._index, "count": self._list_scan("count")},
            dict: {
                "update": self._update, "clear": self._linear("clear"), "get": self._keyed("get"),
                "pop": self._keyed("pop"),
                "setdefault": self._setdefault, "copy": self._linear("copy"),
                "fromkeys": self._fromkeys_on,
            },
            **{view: {"isdisjoint": self._isdisjoint, "mapping": self._no_mapping} for view in (*VIEWS,
            _VALUES)},
            range: {"index": self._range_scan("index"), "count": self._range_scan("count")},
            int: {"to_bytes": self._to_bytes, "from_bytes": self._from_bytes_on},
        }  # fmt: skip

    def load(self, value: Any, name: str) -> Any:
        """`value.name` for a name of the table.

        What is returned is a bound method, whose insides have names that start with an
        underscore. A `functools.partial` would show its arguments.
        """
        kind = type(value)
        if kind in _TEXTS:
            special = self.table[kind].get(name)
            if special is not None:
                return MethodType(special, value)
            if len(value) > costs.COPY_BYTES and name in self._readers:
                return MethodType(self._readers[name], value)
            return getattr(value, name)
        methods = self.table.get(kind)
        if methods is not None:
            method = methods.get(name)
            if method is not None and name == "mapping":
                raise AttributeError(f"{kind.__name__}.mapping is not available in functions; use the dict")
            if method is not None:
                return MethodType(method, value)
        elif isinstance(value, int) and name in self.table[int]:
            return MethodType(self.table[int][name], value)
        return getattr(value, name)

    # ---- text --------------------------------------------------------------------

    def _own(self, value: Any, other: Any) -> None:
        if type(other) is not type(value):
            raise TypeError(f"a {type(value).__name__} is required, not {type(other).__name__}")

    def _scanned(self, value: Any) -> None:
        if len(value) > costs.SCAN_BYTES:
            self._charge(len(value) // costs.SCAN_BYTES)

    def _reading(self, method: str) -> Method:
        """A method that reads its text once, charged at every call."""

        def read(value: Any, *args: Any, **kwargs: Any) -> Any:
            self._scanned(value)
            return getattr(value, method)(*args, **kwargs)

        return titled(read, method)

    def _edge(self, method: str) -> Method:
        def edge_of(value: Any, edge: Any, *bounds: Any) -> Any:
            if type(edge) is tuple:
                self._charge(len(edge))
            return getattr(value, method)(edge, *bounds)

        return titled(edge_of, method)

    def _join(self, value: Any, items: Any) -> Any:
        kind = type(value)
        parts = self._structure.listed(items)
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

    def _replace(self, value: Any, old: Any, new: Any, count: int = -1) -> Any:
        self._own(value, old)
        self._own(value, new)
        if type(count) is not int:
            raise TypeError("replace: the count must be an int")
        self._scanned(value)
        if len(new) > len(old):
            times = value.count(old) if count < 0 else min(count, value.count(old))
            if len(value) + times * (len(new) - len(old)) > policy.TEXT_LENGTH_MAX:
                raise too_long(type(value))
            self._charge(times * len(new) // costs.COPY_BYTES)
        return value.replace(old, new, count)

    def _width(self, value: Any, width: Any) -> None:
        if type(width) is not int:
            raise TypeError("a width must be an int")
        if width > policy.TEXT_LENGTH_MAX:
            raise too_long(type(value))
        self._charge(max(width, len(value)) // costs.COPY_BYTES)

    def _pad(self, method: str) -> Method:
        def pad(value: Any, width: Any, *fill: Any) -> Any:
            self._width(value, width)
            return getattr(value, method)(width, *fill)

        return titled(pad, method)

    def _zfill(self, value: Any, width: Any) -> Any:
        self._width(value, width)
        return value.zfill(width)

    def _expandtabs(self, value: Any, tabsize: Any = 8) -> Any:
        if type(tabsize) is not int:
            raise TypeError("a tab size must be an int")
        tab = "\t" if type(value) is str else b"\t"
        if len(value) + value.count(tab) * max(tabsize, 0) > policy.TEXT_LENGTH_MAX:
            raise too_long(type(value))
        self._scanned(value)
        return value.expandtabs(tabsize)

    def _translate(self, value: Any, table: Any, *rest: Any, **kwargs: Any) -> Any:
        self._charge(len(value) // 4 + 1)
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

    def _split(self, method: str) -> Method:
        def split(value: Any, sep: Any = None, maxsplit: int = -1) -> Any:
            if sep is not None:
                self._own(value, sep)
            self._scanned(value)
            result = getattr(value, method)(sep, maxsplit)
            self._charge(len(result))
            return result

        return titled(split, method)

    def _scan(self, method: str) -> Method:
        def scan(value: Any, sub: Any, *bounds: Any) -> Any:
            self._scanned(value)
            return getattr(value, method)(sub, *bounds)

        return titled(scan, method)

    def _encode(self, value: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        codec(encoding, errors)
        self._scanned(value)
        result = value.encode(encoding, errors)
        if len(result) > policy.TEXT_LENGTH_MAX:
            raise too_long(bytes)
        return result

    def _decode(self, value: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
        codec(encoding, errors)
        self._scanned(value)
        return value.decode(encoding, errors)

    def _hex(self, value: bytes, *args: Any) -> str:
        if len(value) * 3 > policy.TEXT_LENGTH_MAX:
            raise too_long(str)
        self._scanned(value)
        return value.hex(*args)

    def _maketrans(self, _value: str, *args: Any) -> dict[int, Any]:
        return self.maketrans(*args)

    def maketrans(self, *args: Any) -> dict[int, Any]:
        for arg in args:
            if type(arg) not in (str, dict):
                raise TypeError("maketrans takes texts or one dict")
            self._charge(len(arg) + 1)
        return str.maketrans(*args)

    # ---- lists -------------------------------------------------------------------

    def _extend(self, value: list[Any], source: Any) -> None:
        room = policy.ITEMS_MAX - len(value)
        items = self._structure.listed(source)
        if len(items) > room:
            raise ValueError(f"a list of more than {policy.ITEMS_MAX} items")
        value.extend(items)

    def ordered(self, items: list[Any], key: Any, reverse: Any) -> list[Any]:
        """Return the sorted list. Keys are computed by C, and charged where they are guest functions."""
        self._charge(costs.sort_steps(len(items)))
        if key is None:
            if self._structure.walk_plain(items):
                return sorted(items, reverse=bool(reverse))
            return [items[i] for i in merge_order(items, bool(reverse))]
        if isinstance(key, Face):
            key = key.__call__
        self._charge(len(items))
        keys = list(map(key, items))
        if self._structure.walk_plain(keys):
            return sorted(items, key=partial(next, iter(keys)), reverse=bool(reverse))  # the keys in turn
        return list(map(items.__getitem__, merge_order(keys, bool(reverse))))

    def _sort(self, value: list[Any], *, key: Any = None, reverse: Any = False) -> None:
        result = self.ordered(list(value), key, reverse)
        if len(value) != len(result):
            raise ValueError("list modified during sort")
        value[:] = result

    def _list_scan(self, method: str) -> Method:
        def scan(value: Any, item: Any, *bounds: Any) -> Any:
            self._structure.find(item, value)
            return getattr(value, method)(item, *bounds)

        return titled(scan, method)

    def _index(self, value: Any, item: Any, start: int = 0, stop: int | None = None) -> int:
        """Not by the interpreter's method, whose error shows the item: that text has no bound."""
        self._structure.find(item, value)
        part = value if start == 0 and stop is None else value[start:stop]
        if item not in part:
            raise ValueError("the item is not in the list")
        return int(part.index(item)) + (start if start >= 0 else max(len(value) + start, 0))

    def _range_scan(self, method: str) -> Method:
        def scan(value: range, item: Any) -> Any:
            if not isinstance(item, int):
                raise ValueError(f"{type(item).__name__} is not in range")
            return getattr(value, method)(item)

        return titled(scan, method)

    def _linear(self, method: str) -> Method:
        def run(value: Any, *args: Any) -> Any:
            self._charge(len(value) // costs.COPY_ITEMS)
            return getattr(value, method)(*args)

        return titled(run, method)

    # ---- dicts -------------------------------------------------------------------

    def _keyed(self, method: str) -> Method:
        def run(value: dict[Any, Any], key: Any, *default: Any) -> Any:
            self._structure.lookup(key)
            return getattr(value, method)(key, *default)

        return titled(run, method)

    def _setdefault(self, value: dict[Any, Any], key: Any, default: Any = None) -> Any:
        return value.setdefault(self._structure.key(key), default)

    def _isdisjoint(self, value: Any, other: Any) -> bool:
        return not any(self._structure.lookup(item) in value for item in self._meter.items(other))

    def _no_mapping(self, value: Any) -> None:
        """Views lead back to a proxy of their dict, which no guard knows."""

    def pairs(self, source: Any) -> dict[Any, Any]:
        """Return a dict of whatever `dict(source)` accepts."""
        if type(source) is dict:
            self._charge(len(source) // costs.COPY_ITEMS)
            return source
        if hasattr(type(source), "_dict_"):
            return type(source)._dict_(source)  # type: ignore[no-any-return]  # by the host class
        result: dict[Any, Any] = {}
        for pair in self._meter.items(source):
            if type(pair) not in (tuple, list) or len(pair) != 2:
                raise ValueError("dictionary update sequence elements must be pairs")
            result[self._structure.key(pair[0])] = pair[1]
        return result

    def _update(self, value: dict[Any, Any], source: Any = (), /, **more: Any) -> None:
        new = self.pairs(source)
        if len(value) + len(new) + len(more) > policy.ITEMS_MAX:
            raise ValueError(f"a dict of more than {policy.ITEMS_MAX} items")
        value.update(new, **more)

    def fromkeys(self, source: Any, value: Any = None) -> dict[Any, Any]:
        return {self._structure.key(item): value for item in self._structure.listed(source)}

    def _fromkeys_on(self, _value: dict[Any, Any], source: Any, value: Any = None) -> dict[Any, Any]:
        return self.fromkeys(source, value)

    # ---- numbers -----------------------------------------------------------------

    def from_bytes(self, data: Any, byteorder: Any = "big", *, signed: Any = False) -> int:
        if type(data) is not bytes:
            items = self._structure.listed(data)
            if not all(isinstance(item, int) for item in items):
                raise TypeError("from_bytes() takes bytes or numbers")
            data = bytes(items)
        if len(data) * 8 > policy.INTEGER_BITS_MAX:
            raise OverflowError(f"an integer of more than {policy.INTEGER_BITS_MAX} bits")
        return int.from_bytes(data, byteorder, signed=bool(signed))

    def fromhex(self, text: Any) -> bytes:
        if type(text) is not str:
            raise TypeError("fromhex() argument must be str")
        self._charge(len(text) // costs.SCAN_BYTES)
        return bytes.fromhex(text)

    def _fromhex_on(self, _value: bytes, text: Any) -> bytes:
        return self.fromhex(text)

    def float_fromhex(self, text: Any) -> float:
        if type(text) is not str or len(text) > INT_TEXT_MAX:
            raise ValueError("invalid hexadecimal floating-point string")
        return float.fromhex(text)

    def _float_fromhex_on(self, _value: float, text: Any) -> float:
        return self.float_fromhex(text)

    def _from_bytes_on(self, _value: int, *args: Any, **kwargs: Any) -> int:
        return self.from_bytes(*args, **kwargs)

    def _to_bytes(self, value: int, length: Any = 1, byteorder: Any = "big", *, signed: Any = False) -> bytes:
        if type(length) is not int or length > policy.INTEGER_BITS_MAX:
            raise OverflowError("to_bytes: too many bytes")
        return value.to_bytes(length, byteorder, signed=bool(signed))
