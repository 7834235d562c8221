"""`functools`: without the insides of partial functions, and caches that live as long as the call."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs, policy
from sandbox.facades.base import Facade, integer
from sandbox.host import HostObject, shown

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime
    from sandbox.meter import Meter

_MISSING: Final = object()
_DEPTH_MAX: Final = 32  # partial functions of partial functions


class Partial(HostObject):
    __slots__ = ("_args", "_depth", "_function", "_keywords", "_meter")

    def __init__(self, meter: Any, function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if not callable(function):
            raise TypeError("the first argument must be callable")
        self._depth: int = function._depth + 1 if isinstance(function, Partial) else 0
        if self._depth > _DEPTH_MAX:
            raise ValueError("partial functions are nested too deeply")
        self._meter = meter
        self._function = function
        self._args = args
        self._keywords = keywords

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        count, names = len(self._args) + len(args), len(self._keywords) + len(keywords)
        self._meter.charge(count // costs.COPY_ITEMS + names // costs.TABLE_ITEMS + 1)
        return self._function(*self._args, *args, **{**self._keywords, **keywords})


class Cached(HostObject):
    """A function that remembers its results for the rest of the call."""

    __slots__ = ("_function", "_maxsize", "_results", "_runtime")
    _exposed_ = frozenset({"cache_clear"})

    def __init__(self, runtime: GuestRuntime, function: Any, maxsize: int | None) -> None:
        self._runtime = runtime
        self._function = function
        self._maxsize = maxsize
        self._results: OrderedDict[Any, Any] = OrderedDict()  # its head is taken off in one step

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        self._runtime.meter.charge(1)
        key = self._runtime.structure.key((args, tuple(keywords.items()), tuple(map(type, args))))
        results = self._results
        found = results.get(key, _MISSING)
        if found is not _MISSING:
            results.move_to_end(key)
            return found
        value = self._function(*args, **keywords)
        if self._maxsize is None or self._maxsize > 0:
            if len(results) >= (self._maxsize or policy.ITEMS_MAX):
                results.popitem(last=False)
            results[key] = value
        return value

    def cache_clear(self) -> None:
        self._results.clear()


class Key(HostObject):
    """What `cmp_to_key` makes of an item: compared by the guest's function, outside of C containers."""

    __slots__ = ("_compare", "_meter", "_value")

    def __init__(self, meter: Meter, compare: Any, value: Any) -> None:
        self._meter = meter
        self._compare = compare
        self._value = value

    def __lt__(self, other: Any) -> Any:
        if type(other) is not Key:
            return NotImplemented
        order = self._meter.counted(lambda: self._compare(self._value, other._value))
        if not isinstance(order, (int, float)):
            raise TypeError("a comparison gives a number")
        return order < 0


def build(runtime: GuestRuntime) -> Facade:
    meter = runtime.meter

    def partial(function: Any, /, *args: Any, **keywords: Any) -> Partial:
        return Partial(meter, function, args, keywords)

    def reduce(function: Any, iterable: Any, initial: Any = _MISSING, /) -> Any:
        iterator = iter(meter.items(iterable))
        if initial is _MISSING:
            initial = next(iterator, _MISSING)
            if initial is _MISSING:
                raise TypeError("reduce() of empty iterable with no initial value")
        for item in iterator:
            initial = function(initial, item)
        return initial

    def lru_cache(maxsize: Any = 128, typed: Any = False) -> Any:
        if callable(maxsize):
            return Cached(runtime, maxsize, 128)
        size = None if maxsize is None else integer(maxsize, "maxsize", low=0, high=policy.ITEMS_MAX)
        return shown(lambda function: Cached(runtime, function, size))

    def cache(function: Any) -> Cached:
        return Cached(runtime, function, None)

    def cmp_to_key(compare: Any) -> Any:
        return shown(lambda value: Key(meter, compare, value))

    def wraps(wrapped: Any, *_names: Any, **_options: Any) -> Any:
        """Functions have no attributes that could be copied; the decorator form is kept for habit."""
        return shown(lambda function: function)

    return Facade(
        "functools",
        {
            "cache": cache,
            "cmp_to_key": cmp_to_key,
            "lru_cache": lru_cache,
            "partial": partial,
            "reduce": reduce,
            "wraps": wraps,
        },
    )
