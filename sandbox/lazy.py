"""Lazy iterators: C-level, metered, and nested only so deep.

Each is a subclass of the C iterator with one slot for its depth. Pulling from a
tower of C iterators recurses on the C stack, unseen by the interpreter's own
limit; the depth is what keeps such a tower from crashing the worker.

Whatever consumes an iterator takes a step per item. An iterator that may pull many
items before it yields one (`filter`) takes its steps on the way in as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from sandbox import costs, policy
from sandbox.meter import Meter

_WIDE = 8  # sources pulled together for one step
_EXPRESSION_DEPTH = 4  # of a generator expression; generator functions count by themselves
_GENERATOR = type(_ for _ in ())


class LazyItems(itertools.compress):  # type: ignore[type-arg]  # not generic at run time
    __slots__ = ("_depth",)


class LazyMap(map):  # type: ignore[type-arg]  # not generic at run time
    __slots__ = ("_depth",)


class LazyZip(zip):  # type: ignore[type-arg]  # not generic at run time
    __slots__ = ("_depth",)


class LazyEnumerate(enumerate):  # type: ignore[type-arg]  # not generic at run time
    __slots__ = ("_depth",)


class LazyWhole(itertools.islice):  # type: ignore[type-arg]  # not generic at run time
    """All items of another iterator. Not a chain: that shows a constructor, `from_iterable`.

    It holds what it iterates over a second time. The interpreter's iterators let go of
    their source at its first error, which frees it while it runs, if it was the source
    that asked (`it = g()` where `g` calls `next(it)`): the worker would crash.
    """

    __slots__ = ("_depth", "_held")


LAZY_TYPES = (LazyItems, LazyMap, LazyZip, LazyEnumerate, LazyWhole)


def depth_of(source: Any) -> int:
    kind = type(source)
    if kind in LAZY_TYPES:
        return int(source._depth)
    return _EXPRESSION_DEPTH if kind is _GENERATOR else 0


class Lazies:
    """Makes lazy iterators over the meter's units."""

    def __init__(self, meter: Meter) -> None:
        self._units = meter.units
        self._charge = meter.charge
        self._enter = meter.enter
        self._frames = meter.frames

    def _deeper(self, lazy: Any, *sources: Any) -> Any:
        self._charge(costs.LAZY + len(sources) // costs.TABLE_ITEMS)
        depth = 1 + max((depth_of(source) for source in sources), default=0)
        if depth > policy.LAZY_DEPTH_MAX:
            raise ValueError("iterators over iterators are nested too deeply; make a list in between")
        lazy._depth = depth
        return lazy

    def items(self, source: Any) -> Any:
        """`iter(source)`, a step for each item."""
        return self._deeper(LazyItems(source, self._units), source)

    def metered(self, sources: tuple[Any, ...]) -> Any:
        """Many sources take a step for each item of each: one pull would otherwise do the work of all."""
        if len(sources) <= _WIDE:
            return sources
        self._charge(len(sources))
        return [LazyItems(source, self._units) for source in sources]

    def wrap(self, iterator: Any, *sources: Any) -> Any:
        """Return an iterator of the host as a guest may hold it. Every iterator below it is a source."""
        lazy: Any = LazyWhole(iterator, None)
        lazy._held = (iterator, *sources)
        return self._deeper(lazy, *sources)

    def counted(self, source: Any) -> Any:
        """Return what a generator expression iterates over: another one takes a place among nested calls."""
        return self._held(source) if depth_of(source) >= _EXPRESSION_DEPTH else source

    def _held(self, source: Any) -> Iterator[Any]:
        bool(self._enter())
        for item in source:
            self._frames.append(self._units)
            yield item
            bool(self._enter())
        self._frames.append(self._units)

    def generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a generator function of a guest, so that what it makes counts in the nesting of its arguments.

        A tower of bare generators would be resumed, and freed, by recursion in C.
        """

        def start(*args: Any, **kwargs: Any) -> Any:
            return self.wrap(function(*args, **kwargs), *args, *kwargs.values())

        start.__name__ = function.__name__
        return start

    def map(self, function: Callable[..., Any], *sources: Any) -> Any:
        return self._deeper(LazyMap(function, *self.metered(sources)), *sources)

    def zip(self, *sources: Any, strict: bool = False) -> Any:
        return self._deeper(LazyZip(*self.metered(sources), strict=strict), *sources)

    def enumerate(self, source: Any, start: int = 0) -> Any:
        return self._deeper(LazyEnumerate(source, start), source)

    def reversed(self, source: Any) -> Any:
        return self.wrap(reversed(source))

    def filter(self, function: Callable[[Any], Any] | None, source: Any) -> Any:
        kept = filter(function, LazyItems(source, self._units))
        return self._deeper(LazyItems(kept, self._units), source)

    def chain(self, *sources: Any) -> Any:
        self._charge(len(sources))
        return self.wrap(itertools.chain(*sources), *sources)
