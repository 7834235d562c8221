"""Methods whose cost depends on sizes: loaded through `_getattr_`, which charges first.

`policy.COSTED_ATTRIBUTES` names them. For a builtin type the guard returns a
method that checks its arguments by exact type and charges; on any other object
the attribute is loaded as it is. Those of text and bytes are in `text_methods`.
"""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any, Final

from sandbox import costs, policy
from sandbox.faces import Face
from sandbox.meter import Meter
from sandbox.sets import VIEWS
from sandbox.structure import Structure
from sandbox.text_methods import Method, TextMethods, titled

INT_TEXT_MAX: Final = 5_000  # digits in any base; a decimal of INTEGER_BITS_MAX bits has 4,933
_NOTHING: dict[Any, Any] = {}
_VALUES: Final[type] = type(_NOTHING.values())
_TEXTS: Final = frozenset({str, bytes})


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
        texts = TextMethods(meter, structure)
        self.maketrans = texts.maketrans
        self.fromhex = texts.fromhex
        self._readers = {name: texts.reading(name) for name in policy.COSTED_ATTRIBUTES}
        self.table: dict[type, dict[str, Method]] = {
            str: texts.text,
            bytes: texts.data,
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
                "update": self._update, "clear": self._linear("clear"), "get": self._get,
                "pop": self._pop,
                "setdefault": self._setdefault, "copy": self._copy,
                "fromkeys": self._fromkeys_on,
            },
            **{view: {"isdisjoint": self._isdisjoint, "mapping": self._no_mapping} for view in (*VIEWS,
            _VALUES)},
            range: {"index": self._range_scan("index"), "count": self._range_scan("count")},
            int: {
                "to_bytes": self._to_bytes, "from_bytes": self._from_bytes_on, "bit_count": self._bit_count,
                "is_integer": self.is_integer,
            },
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
            if len(value) > costs.SHORT_TEXT and name in self._readers:
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

    def _get(self, value: dict[Any, Any], key: Any, default: Any = None, /) -> Any:
        return value.get(self._structure.lookup(key), default)

    def _pop(self, value: dict[Any, Any], key: Any, *default: Any) -> Any:
        self._structure.removing(value)
        return value.pop(self._structure.lookup(key), *default)

    def _copy(self, value: dict[Any, Any]) -> dict[Any, Any]:
        self._structure.merging(value)
        return dict(value)

    def _setdefault(self, value: dict[Any, Any], key: Any, default: Any = None) -> Any:
        return value.setdefault(self._structure.key(key), default)

    def _isdisjoint(self, value: Any, other: Any) -> bool:
        return not any(self._structure.lookup(item) in value for item in self._meter.items(other))

    def _no_mapping(self, value: Any) -> None:
        """Views lead back to a proxy of their dict, which no guard knows."""

    def pairs(self, source: Any) -> dict[Any, Any]:
        """Return a dict of whatever `dict(source)` accepts."""
        if type(source) is dict:
            self._structure.rehashing(source)
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
        items = self._structure.listed(source)
        self._charge(len(items))
        return {self._structure.key(item): value for item in items}

    def _fromkeys_on(self, _value: dict[Any, Any], source: Any, value: Any = None) -> dict[Any, Any]:
        return self.fromkeys(source, value)

    # ---- numbers -----------------------------------------------------------------

    def from_bytes(self, data: Any, byteorder: Any = "big", *, signed: Any = False) -> int:
        if type(data) is not bytes:
            items = self._structure.listed(data)
            self._charge(len(items) // costs.TABLE_ITEMS)
            if not all(isinstance(item, int) for item in items):
                raise TypeError("from_bytes() takes bytes or numbers")
            data = bytes(items)
        if len(data) * 8 > policy.INTEGER_BITS_MAX:
            raise OverflowError(f"an integer of more than {policy.INTEGER_BITS_MAX} bits")
        self._charge(len(data) // costs.HASH_BYTES)
        return int.from_bytes(data, byteorder, signed=bool(signed))

    def float_fromhex(self, text: Any) -> float:
        if type(text) is not str or len(text) > INT_TEXT_MAX:
            raise ValueError("invalid hexadecimal floating-point string")
        self._charge(len(text) // costs.SCAN_BYTES)
        return float.fromhex(text)

    def _float_fromhex_on(self, _value: float, text: Any) -> float:
        return self.float_fromhex(text)

    def _from_bytes_on(self, _value: int, *args: Any, **kwargs: Any) -> int:
        return self.from_bytes(*args, **kwargs)

    def _to_bytes(self, value: int, length: Any = 1, byteorder: Any = "big", *, signed: Any = False) -> bytes:
        if type(length) is not int or length > policy.INTEGER_BITS_MAX:
            raise OverflowError("to_bytes: too many bytes")
        self._charge(max(length, 0) // costs.HASH_BYTES)
        return value.to_bytes(length, byteorder, signed=bool(signed))

    def _bit_count(self, value: int) -> int:
        self._charge(value.bit_length() // (4 * costs.INTEGER_BITS))
        return int(value).bit_count()

    def is_integer(self, value: Any) -> bool:
        """Integers have it from 3.12 on."""
        if not isinstance(value, int):
            raise TypeError("is_integer() takes an int")
        return True
