"""Sets that remember the order of insertion.

The order of a built-in set follows hashes, which differ from process to process
(and for None, types and functions with any hash seed), so a guest never holds
one: displays, comprehensions, constructors and operators on dict views make
these. Keys are checked by the same guard as keys of dicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sandbox import costs, policy
from sandbox.host import HostObject
from sandbox.meter import Meter

if TYPE_CHECKING:
    from sandbox.structure import Structure

_NOTHING: dict[Any, Any] = {}
VIEWS: Final[tuple[type, ...]] = (type(_NOTHING.keys()), type(_NOTHING.items()))


class _Base(HostObject):
    __slots__ = ("_items", "_maker")
    _exposed_ = frozenset(
        {
            "copy",
            "difference",
            "intersection",
            "isdisjoint",
            "issubset",
            "issuperset",
            "symmetric_difference",
            "union",
        }
    )
    _name: ClassVar[str] = "set"
    _items: dict[Any, None]

    def __init__(self, maker: SetMaker, items: dict[Any, None]) -> None:
        self._maker = maker
        self._items = items

    def _same(self, items: dict[Any, None]) -> Any:
        self._maker.charge(costs.SET)
        self._maker.check(items)
        return type(self)(self._maker, items)

    def _operand(self, other: Any) -> dict[Any, None] | None:
        if isinstance(other, _Base):
            return other._items
        if type(other) in VIEWS:
            return self._maker.collect(other)
        return None

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __contains__(self, item: Any) -> bool:
        return self._maker.lookup(item) in self._items

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Base):
            return False
        if len(self._items) == len(other._items):
            self._maker.rehashing(self._items)
        return self._items.keys() == other._items.keys()

    def __le__(self, other: Any) -> Any:
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self._within(theirs)

    def __lt__(self, other: Any) -> Any:
        result = self.__le__(other)
        return result if result is NotImplemented else result and len(self) < len(other)

    def __ge__(self, other: Any) -> Any:
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self._holds(theirs)

    def __gt__(self, other: Any) -> Any:
        result = self.__ge__(other)
        return result if result is NotImplemented else result and len(self) > len(other)

    def __or__(self, other: Any) -> Any:
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self._union(theirs)

    def __and__(self, other: Any) -> Any:
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self._intersection(theirs)

    def __sub__(self, other: Any) -> Any:
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self._difference(theirs)

    def __xor__(self, other: Any) -> Any:
        theirs = self._operand(other)
        return NotImplemented if theirs is None else self._either(theirs)

    def _union(self, theirs: dict[Any, None]) -> Any:
        self._maker.merging(self._items)
        self._maker.rehashing(theirs)
        return self._same({**self._items, **theirs})

    def _intersection(self, theirs: dict[Any, None]) -> Any:
        self._maker.rehashing(self._items)
        return self._same({item: None for item in self._items if item in theirs})

    def _difference(self, theirs: dict[Any, None]) -> Any:
        self._maker.rehashing(self._items)
        return self._same({item: None for item in self._items if item not in theirs})

    def _within(self, theirs: dict[Any, None]) -> bool:
        self._maker.rehashing(self._items)
        return self._items.keys() <= theirs.keys()

    def _holds(self, theirs: dict[Any, None]) -> bool:
        self._maker.rehashing(theirs)
        return self._items.keys() >= theirs.keys()

    def _either(self, theirs: dict[Any, None]) -> Any:
        mine = self._items
        self._maker.rehashing(mine)
        self._maker.rehashing(theirs)
        left = {item: None for item in mine if item not in theirs}
        return self._same({**left, **{item: None for item in theirs if item not in mine}})

    def copy(self) -> Any:
        self._maker.merging(self._items)
        return type(self)(self._maker, dict(self._items))

    def union(self, *others: Any) -> Any:
        result = self.copy()
        for other in others:
            result = result._union(self._maker.collect(other))
        return result

    def intersection(self, *others: Any) -> Any:
        result = self.copy()
        for other in others:
            result = result._intersection(self._maker.collect(other))
        return result

    def difference(self, *others: Any) -> Any:
        result = self.copy()
        for other in others:
            result = result._difference(self._maker.collect(other))
        return result

    def symmetric_difference(self, other: Any) -> Any:
        return self._either(self._maker.collect(other))

    def issubset(self, other: Any) -> bool:
        return self._within(self._maker.collect(other))

    def issuperset(self, other: Any) -> bool:
        return self._holds(self._maker.collect(other))

    def isdisjoint(self, other: Any) -> bool:
        theirs = self._maker.collect(other)
        self._maker.rehashing(theirs)
        return self._items.keys().isdisjoint(theirs)


class Set(_Base):
    """What guests know as `set`."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # mutable, as the built-in
    _exposed_ = _Base._exposed_ | {
        "add", "clear", "difference_update", "discard", "intersection_update", "pop", "remove",
        "symmetric_difference_update", "update",
    }  # fmt: skip

    def add(self, item: Any) -> None:
        self._items[self._maker.key(item)] = None

    def discard(self, item: Any) -> None:
        self._maker.removing(self._items)
        self._items.pop(self._maker.lookup(item), None)

    def remove(self, item: Any) -> None:
        self._maker.removing(self._items)
        del self._items[self._maker.lookup(item)]

    def pop(self) -> Any:
        """Remove and return the item that was added first."""
        self._maker.charge(1)
        self._maker.removing(self._items)
        for item in self._items:
            del self._items[item]
            return item
        raise KeyError("pop from an empty set")

    def clear(self) -> None:
        self._items.clear()

    def update(self, *others: Any) -> None:
        for other in others:
            self._join(self._maker.collect(other))

    def _join(self, theirs: dict[Any, None]) -> None:
        self._maker.charge(costs.SET)
        self._maker.rehashing(theirs)
        self._items.update(theirs)
        self._maker.check(self._items)

    def difference_update(self, *others: Any) -> None:
        self._items = self.difference(*others)._items

    def intersection_update(self, *others: Any) -> None:
        self._items = self.intersection(*others)._items

    def symmetric_difference_update(self, other: Any) -> None:
        self._items = self.symmetric_difference(other)._items

    def __ior__(self, other: Any) -> Any:
        theirs = self._operand(other)
        if theirs is None:
            return NotImplemented
        self._join(theirs)
        return self

    def __iand__(self, other: Any) -> Any:
        theirs = self._operand(other)
        if theirs is None:
            return NotImplemented
        self._items = self._intersection(theirs)._items
        return self

    def __isub__(self, other: Any) -> Any:
        theirs = self._operand(other)
        if theirs is None:
            return NotImplemented
        self._items = self._difference(theirs)._items
        return self

    def __ixor__(self, other: Any) -> Any:
        theirs = self._operand(other)
        if theirs is None:
            return NotImplemented
        self._items = self._either(theirs)._items
        return self


class FrozenSet(_Base):
    """What guests know as `frozenset`. Hashes by its items, as the built-in; nesting is walked by the
    key guard.
    """

    __slots__ = ()
    _exposed_ = _Base._exposed_
    _name = "frozenset"

    def __hash__(self) -> int:
        self._maker.rehashing(self._items)
        return hash(frozenset(self._items))


class SetMaker:
    """Makes sets for one worker: holds the meter and the guards of keys."""

    __slots__ = ("_items", "charge", "key", "lookup", "merging", "rehashing", "removing")

    def __init__(self, meter: Meter, structure: Structure) -> None:
        self.charge = meter.charge
        self._items = meter.items
        self.key = structure.key  # of what is stored
        self.lookup = structure.lookup
        self.merging = structure.merging
        self.rehashing = structure.rehashing
        self.removing = structure.removing

    def check(self, items: dict[Any, None]) -> None:
        if len(items) > policy.ITEMS_MAX:
            raise ValueError(f"a set of more than {policy.ITEMS_MAX} items")

    def collect(self, source: Any) -> dict[Any, None]:
        """Return the items of any iterable, a step for each, in order."""
        if isinstance(source, _Base):
            return source._items
        key = self.key
        items = {key(item): None for item in self._items(source)}
        self.check(items)
        return items

    def _copied(self, source: Any) -> dict[Any, None]:
        items = self.collect(source)
        if isinstance(source, _Base):
            self.merging(items)
            return dict(items)
        return items

    def make(self, source: Any = ()) -> Set:
        return Set(self, self._copied(source))

    def freeze(self, source: Any = ()) -> FrozenSet:
        return FrozenSet(self, self._copied(source))
