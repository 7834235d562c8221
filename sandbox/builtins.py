"""The builtins of guests: the allow-list of `policy`, each metered where it works on many items.

Guests hold bound methods of one frozen object, or functions of the interpreter
that cannot be written to; types are faces.
"""

from __future__ import annotations

import builtins
import functools
import operator
import sys
from collections.abc import Callable
from typing import Any, Final

from sandbox import costs, policy
from sandbox.faces import Face, kinds_of
from sandbox.host import HostObject
from sandbox.lazy import Lazies
from sandbox.meter import Meter
from sandbox.methods import INT_TEXT_MAX, Methods
from sandbox.operators import bounded_ends, operator_guards, too_long, whole
from sandbox.sets import FrozenSet, Set, SetMaker
from sandbox.structure import Structure
from sandbox.text import Texts
from sandbox.text_methods import codec

_MISSING: Final = object()
ROUND_MAX: Final = 400
_MISSED: Final = 3  # steps for an attribute that is not there: an error is made and caught


def attribute_name(name: Any) -> str:
    """Check a computed attribute name by the tables that serve written ones."""
    if type(name) is not str:
        raise TypeError("attribute name must be a string")
    if name.startswith("_"):
        raise AttributeError(
            policy.CONSTRUCTS["attribute with a leading underscore"].text("such an attribute")
        )
    if name in policy.DENIED_ATTRIBUTES:
        raise AttributeError(policy.DENIED_ATTRIBUTES[name].text(f"the attribute {name}"))
    return name


class Builtins(HostObject):
    """Holds what builtin functions need. Guests get the methods one by one, never this object."""

    __slots__ = (
        "_charge",
        "_lazies",
        "_log",
        "_meter",
        "_methods",
        "_operators",
        "_structure",
        "_texts",
    )

    def __init__(
        self,
        meter: Meter,
        structure: Structure,
        methods: Methods,
        sets: SetMaker,
        texts: Texts,
        log: Callable[[str], None],
    ) -> None:
        self._meter = meter
        self._charge = meter.charge
        self._structure = structure
        self._methods = methods
        self._texts = texts
        self._lazies = Lazies(meter)
        self._operators = operator_guards(meter, sets)
        self._log = log

    # ---- attributes --------------------------------------------------------------

    def _getattr(self, value: Any, name: Any, default: Any = _MISSING, /) -> Any:
        name = attribute_name(name)
        try:
            return self._methods.load(value, name)
        except AttributeError as error:
            self._charge(_MISSED)
            if default is _MISSING:
                raise AttributeError(str(error)) from None
            return default

    def _hasattr(self, value: Any, name: Any, /) -> bool:
        try:
            self._getattr(value, name)
        except AttributeError:
            return False
        return True

    # ---- many items --------------------------------------------------------------

    def _all(self, items: Any, /) -> bool:
        return all(self._meter.items(items))

    def _any(self, items: Any, /) -> bool:
        return any(self._meter.items(items))

    def _sum(self, items: Any, /, start: Any = 0) -> Any:
        """Left to right, as 3.11 does; later versions add floats in another way."""
        if type(start) is str:
            raise TypeError("sum() can't sum strings; use ''.join(items)")
        listed = self._structure.listed(items)
        kinds = set(map(type, listed)) | {type(start)}
        if kinds <= {int, bool}:
            digits = sum(map(int.bit_length, listed)) + len(listed) * start.bit_length()
            self._charge(digits // costs.INTEGER_BITS)
            return whole(sum(listed, start))
        if kinds <= {int, bool, float}:
            self._charge(len(listed) // costs.COPY_ITEMS)
            return functools.reduce(operator.add, listed, start)
        add = self._operators["_add_"]
        self._charge(2 * len(listed))
        for item in listed:
            start = add(start, item)
        return start

    def _extreme(self, pick: Callable[..., Any], args: tuple[Any, ...], key: Any, default: Any) -> Any:
        if len(args) == 1:
            items = self._structure.listed(args[0])
            if not len(items) and default is not _MISSING:
                return default
        elif default is not _MISSING:
            raise TypeError("a default is for a single iterable")
        else:
            items = args
        self._charge(len(items) // 4)
        if key is None:
            self._structure.measure(items)
            return pick(items)
        keys = [key(item) for item in self._meter.items(items)]
        self._structure.measure(keys)
        return items[pick(range(len(keys)), key=keys.__getitem__)]

    def _max(self, *args: Any, key: Any = None, default: Any = _MISSING) -> Any:
        return self._extreme(max, args, key, default)

    def _min(self, *args: Any, key: Any = None, default: Any = _MISSING) -> Any:
        return self._extreme(min, args, key, default)

    def _sorted(self, items: Any, /, *, key: Any = None, reverse: Any = False) -> list[Any]:
        return self._methods.ordered(list(self._structure.listed(items)), key, reverse)

    def _reversed(self, items: Any, /) -> Any:
        return self._lazies.reversed(items)

    def _iter(self, items: Any, /) -> Any:
        return self._lazies.items(items)

    def _next(self, items: Any, default: Any = _MISSING, /) -> Any:
        self._charge(1)
        return next(items) if default is _MISSING else next(items, default)

    def _enumerate(self, items: Any, start: Any = 0) -> Any:
        return self._lazies.enumerate(items, start)

    def _zip(self, *items: Any, strict: Any = False) -> Any:
        return self._lazies.zip(*items, strict=bool(strict))

    def _map(self, function: Any, /, *items: Any) -> Any:
        return self._lazies.map(function, *items)

    def _filter(self, function: Any, items: Any, /) -> Any:
        return self._lazies.filter(function, items)

    # ---- numbers -----------------------------------------------------------------

    def _round(self, number: Any, digits: Any = None) -> Any:
        if digits is not None and (type(digits) is not int or abs(digits) > ROUND_MAX):
            raise ValueError(f"round: digits must be an int up to {ROUND_MAX}")
        if isinstance(number, int):
            self._charge(costs.product_steps(number.bit_length(), number.bit_length()))
        elif digits is not None and type(number) is float:
            self._charge(costs.float_steps(number, abs(digits)))
        return round(number) if digits is None else round(number, digits)

    def _divmod(self, a: Any, b: Any, /) -> Any:
        if isinstance(a, int) and isinstance(b, int):
            self._charge(costs.product_steps(a.bit_length() - b.bit_length(), b.bit_length()))
        return divmod(a, b)

    def _pow(self, base: Any, exponent: Any, modulus: Any = None) -> Any:
        if modulus is None:
            return self._operators["_pow_"](base, exponent)
        if not all(isinstance(number, int) for number in (base, exponent, modulus)):
            raise TypeError("pow() with three arguments takes integers")
        width = modulus.bit_length() // costs.INTEGER_BITS + 1
        self._charge(costs.product_steps(base.bit_length(), modulus.bit_length()))
        self._charge(exponent.bit_length() * width * width)
        if exponent < 0:
            self._charge(modulus.bit_length() * width)  # for the inverse
        return pow(base, exponent, modulus)

    def _chr(self, code: Any, /) -> str:
        if isinstance(code, int) and not 0 <= code <= sys.maxunicode:
            raise ValueError("chr() arg not in range(0x110000)")
        return chr(code)

    def _hex(self, number: Any, /) -> str:
        return hex(self._digits(number))

    def _bin(self, number: Any, /) -> str:
        return bin(self._digits(number))

    def _oct(self, number: Any, /) -> str:
        return oct(self._digits(number))

    def _digits(self, number: Any) -> int:
        if not isinstance(number, int):
            raise TypeError(f"'{type(number).__name__}' object cannot be interpreted as an integer")
        self._charge(number.bit_length() // costs.HASH_BYTES)
        return number

    # ---- text --------------------------------------------------------------------

    def _format(self, value: Any, spec: Any = "", /) -> str:
        return self._texts.format(value, spec)

    def _repr(self, value: Any, /) -> str:
        return self._texts.repr(value)

    def _print(self, *values: Any, sep: Any = None, end: Any = None, flush: Any = False) -> None:
        """One log line per call; `end` and `flush` are accepted, since habit writes them."""
        if sep is not None and type(sep) is not str:
            raise TypeError("sep must be None or a string")
        self._charge(len(values) // costs.TABLE_ITEMS)
        text = self._texts.limit(
            (" " if sep is None else sep).join([self._texts.str(value) for value in values])
        )
        self._log(text)

    # ---- classes -----------------------------------------------------------------

    def _isinstance(self, value: Any, classes: Any, /) -> bool:
        if type(classes) is Face:
            return isinstance(value, classes._kinds)
        self._structure.measure(classes)
        kinds = kinds_of(classes)
        self._charge(len(kinds))
        return isinstance(value, kinds)

    def _issubclass(self, value: Any, classes: Any, /) -> bool:
        self._structure.measure(classes)
        if type(value) is tuple:
            raise TypeError("issubclass() arg 1 must be a class")
        kinds, others = kinds_of(value), kinds_of(classes)
        self._charge(len(kinds) + len(others))
        return bool(kinds) and issubclass(kinds[0], others)

    # ---- constructors ------------------------------------------------------------

    def _int(self, value: Any = 0, /, base: Any = _MISSING) -> int:
        if type(value) in (str, bytes):
            if len(value) > INT_TEXT_MAX:
                raise ValueError(f"int() of a text of more than {INT_TEXT_MAX} digits")
            self._charge(len(value) // costs.SCAN_BYTES + costs.product_steps(3 * len(value), 3 * len(value)))
        result = int(value) if base is _MISSING else int(value, base)
        return whole(result)

    def _float(self, value: Any = 0.0, /) -> float:
        if type(value) in (str, bytes):
            if len(value) > INT_TEXT_MAX:
                raise ValueError(f"float() of a text of more than {INT_TEXT_MAX} digits")
            self._charge(len(value) // costs.PARSED_DIGITS)
        return float(value)

    def _range(self, *ends: Any) -> range:
        bounded_ends(*ends)
        return range(*ends)

    def _bool(self, value: Any = False, /) -> bool:
        return bool(value)

    def _str(self, value: Any = "", encoding: Any = _MISSING, errors: Any = "strict") -> str:
        if encoding is not _MISSING:
            if type(value) is not bytes:
                raise TypeError("decoding is for bytes")
            return self._methods.table[bytes]["decode"](value, encoding, errors)  # type: ignore[no-any-return]  # text
        return self._texts.str(value)

    def _bytes(self, value: Any = b"", encoding: Any = _MISSING, errors: Any = "strict") -> bytes:
        if type(value) is str:
            if encoding is _MISSING:
                raise TypeError("string argument without an encoding")
            codec(encoding, errors)
            return self._methods.table[str]["encode"](value, encoding, errors)  # type: ignore[no-any-return]  # bytes
        if type(value) is bytes:
            return value
        if isinstance(value, int):
            if value > policy.TEXT_LENGTH_MAX:
                raise too_long("bytes", policy.TEXT_LENGTH_MAX)
            self._charge(max(value, 0) // costs.COPY_BYTES)
            return bytes(value)
        items = self._structure.listed(value)
        self._charge(len(items) // costs.TABLE_ITEMS)
        if not all(isinstance(item, int) for item in items):
            raise TypeError("bytes() takes numbers, text with an encoding, or bytes")
        return bytes(items)

    def _list(self, items: Any = (), /) -> list[Any]:
        if type(items) is list or type(items) is tuple:
            return list(self._structure.listed(items))
        return self._structure.pull(items)

    def _tuple(self, items: Any = (), /) -> tuple[Any, ...]:
        return tuple(self._structure.listed(items))

    def _dict(self, items: Any = (), /, **more: Any) -> dict[Any, Any]:
        result = dict(self._methods.pairs(items))
        result.update(more)
        if len(result) > policy.ITEMS_MAX:
            raise too_long("dict", policy.ITEMS_MAX)
        return result

    def _from_bytes(self, data: Any, byteorder: Any = "big", *, signed: Any = False) -> int:
        return self._methods.from_bytes(data, byteorder, signed=signed)


def _members(kind: type, methods: Methods, own: dict[str, Any]) -> dict[str, Any]:
    """Return the methods of a builtin type as a guest may pass them around: `key=str.lower`."""
    members: dict[str, Any] = dict(own)
    for name in dir(kind):
        if name.startswith("_") or name in policy.DENIED_ATTRIBUTES or name in members:
            continue
        if name in policy.COSTED_ATTRIBUTES:
            members[name] = Costed(methods, kind, name)
        else:
            members[name] = getattr(kind, name)
    return members


class Costed(HostObject):
    """A guarded method without its object: `str.join`. Not a `functools.partial`, whose `args` a guest
    can read: they would hand out the guards and the class, and with these the interpreter.
    """

    __slots__ = ("_kind", "_methods", "_name")

    def __init__(self, methods: Methods, kind: type, name: str) -> None:
        self._methods = methods
        self._kind = kind
        self._name = name

    def __call__(self, value: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(value, self._kind):
            raise TypeError(f"{self._kind.__name__}.{self._name} takes a {self._kind.__name__}")
        return self._methods.load(value, self._name)(*args, **kwargs)

    def _repr_(self) -> str:
        return f"<method '{self._name}' of '{self._kind.__name__}' objects>"


def guest_builtins(host: Builtins, methods: Methods, sets: SetMaker) -> dict[str, Any]:
    """Return the names that every module of a guest sees."""
    makers: dict[str, tuple[type, Callable[..., Any], Any, dict[str, Any]]] = {
        "bool": (bool, host._bool, bool, {"is_integer": methods.is_integer}),
        "bytes": (bytes, host._bytes, bytes, {"fromhex": methods.fromhex}),
        "dict": (dict, host._dict, dict, {"fromkeys": methods.fromkeys}),
        "float": (float, host._float, float, {"fromhex": methods.float_fromhex}),
        "int": (int, host._int, int, {"from_bytes": host._from_bytes, "is_integer": methods.is_integer}),
        "list": (list, host._list, list, {}),
        "str": (str, host._str, str, {"maketrans": methods.maketrans}),
        "tuple": (tuple, host._tuple, tuple, {}),
    }
    names: dict[str, Any] = {}
    for name, (kind, make, annotation, own) in makers.items():
        names[name] = Face(name, kind, make, _members(kind, methods, own), annotation)
    names["set"] = Face("set", Set, sets.make, annotation=set)
    names["frozenset"] = Face("frozenset", FrozenSet, sets.freeze, annotation=frozenset)
    for name in policy.BUILTIN_FUNCTIONS:
        own_version = getattr(host, f"_{name}", None)
        names[name] = own_version if own_version is not None else getattr(builtins, name)
    names["range"] = Face("range", range, host._range, annotation=range)
    for name in policy.BUILTIN_CONSTANTS:
        names[name] = getattr(builtins, name)
    for name in policy.BUILTIN_EXCEPTIONS:
        names[name] = getattr(builtins, name)
    return names
