"""`collections`: the containers as host objects, charged and capped like the built-in ones.

`defaultdict` and `OrderedDict` are one class of dict-like objects; a plain dict
keeps its order anyway. `_dict_` lets `dict(...)`, `**` and encoders take them apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from sandbox import costs, policy
from sandbox.facades.base import Facade, integer, number
from sandbox.facades.named import NamedTuple, namedtuple
from sandbox.faces import Face
from sandbox.host import HostObject
from sandbox.policy import words
from sandbox.sets import FrozenSet, Set

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_MISSING: Final = object()
_DICT_METHODS: Final = frozenset(
    words("clear copy get items keys pop popitem setdefault update values move_to_end")
)


class DictLike(HostObject):
    """A dict with a default for missing keys, or `OrderedDict` when there is none."""

    __slots__ = ("_factory", "_items", "_runtime")
    _items: dict[Any, Any]
    _exposed_ = _DICT_METHODS
    _writable_ = True
    __hash__ = None  # type: ignore[assignment]  # mutable, as the built-in
    _title = "OrderedDict"

    def __init__(self, runtime: GuestRuntime, items: dict[Any, Any], factory: Any = None) -> None:
        self._runtime = runtime
        self._items = items
        self._factory = factory

    def _dict_(self) -> dict[Any, Any]:
        self._runtime.structure.rehashing(self._items)
        return self._items

    def _each(self, items: dict[Any, Any]) -> dict[Any, Any]:
        """Return `items`, a step taken for each."""
        self._runtime.meter.charge(len(items))
        return items

    def _value_(self) -> dict[Any, Any]:
        return self._dict_()

    def _key(self, key: Any) -> Any:
        return self._runtime.structure.lookup(key)

    def _stored(self, key: Any) -> Any:
        return self._runtime.structure.key(key)

    def _like(self, items: dict[Any, Any]) -> Any:
        return type(self)(self._runtime, items, self._factory)

    def __getitem__(self, key: Any) -> Any:
        found = self._items.get(self._key(key), _MISSING)
        if found is not _MISSING:
            return found
        return self._missing(key)

    def _missing(self, key: Any) -> Any:
        if self._factory is None:
            raise KeyError(key)
        value = self._runtime.meter.counted(self._factory)
        self._items[self._stored(key)] = value
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[self._stored(key)] = value

    def __delitem__(self, key: Any) -> None:
        self._runtime.structure.removing(self._items)
        del self._items[self._key(key)]

    def __contains__(self, key: Any) -> bool:
        return self._key(key) in self._items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[Any]:
        backwards: Iterator[Any] = reversed(self._items)
        return backwards

    def __eq__(self, other: object) -> Any:
        items = other._items if isinstance(other, DictLike) else other
        if type(items) is not dict:
            return NotImplemented
        self._runtime.structure.pair(self._items, items)
        return self._runtime.meter.counted(lambda: self._items == items)

    def __or__(self, other: Any) -> Any:
        return self._like({**self._dict_(), **self._runtime.methods.pairs(other)})

    def get(self, key: Any, default: Any = None) -> Any:
        return self._items.get(self._key(key), default)

    def keys(self) -> Any:
        return self._items.keys()

    def values(self) -> Any:
        return self._items.values()

    def items(self) -> Any:
        return self._items.items()

    def copy(self) -> Any:
        return self._like(dict(self._dict_()))

    def clear(self) -> None:
        self._items.clear()

    def pop(self, key: Any, default: Any = _MISSING) -> Any:
        self._runtime.structure.removing(self._items)
        if default is _MISSING:
            return self._items.pop(self._key(key))
        return self._items.pop(self._key(key), default)

    def popitem(self, last: Any = True) -> Any:
        if last or not self._items:
            return self._items.popitem()
        self._runtime.meter.charge(1)
        self._runtime.structure.removing(self._items)
        key = next(iter(self._items))
        return key, self._items.pop(key)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        return self._items.setdefault(self._stored(key), default)

    def update(self, source: Any = (), /, **more: Any) -> None:
        new = self._runtime.methods.pairs(source)
        if len(self._items) + len(new) + len(more) > policy.ITEMS_MAX:
            raise ValueError(f"a dict of more than {policy.ITEMS_MAX} items")
        self._items.update(new, **more)

    def move_to_end(self, key: Any, last: Any = True) -> None:
        self._runtime.meter.charge(1)
        self._runtime.structure.removing(self._items)
        value = self._items.pop(self._key(key))
        if last:
            self._items[key] = value
        else:
            self._dict_()  # twice: it is taken out and put back
            rest = dict(self._dict_())
            self._items.clear()
            self._items[key] = value
            self._items.update(rest)

    def _repr_(self) -> str:
        inner = self._runtime.texts.repr(self._items)
        if type(self) is DefaultDict:
            return f"defaultdict({self._runtime.texts.repr(self._factory)}, {inner})"
        return f"{self._title}({inner if self._items else ''})"


class DefaultDict(DictLike):
    __slots__ = ()
    _exposed_ = _DICT_METHODS


class Counter(DictLike):
    __slots__ = ()
    _exposed_ = _DICT_METHODS | {"elements", "most_common", "subtract", "total"}
    _title = "Counter"

    def _missing(self, key: Any) -> Any:
        return 0

    def _counts(self, source: Any) -> dict[Any, Any]:
        if type(source) is dict or isinstance(source, DictLike):
            return self._runtime.methods.pairs(source)
        counts: dict[Any, Any] = {}
        for item in self._runtime.meter.items(source):
            item = self._stored(item)
            counts[item] = counts.get(item, 0) + 1
        return counts

    def _merge(self, source: Any, sign: int) -> None:
        self._runtime.meter.charge(1)
        add, multiply = self._runtime.add, self._runtime.multiply
        counts = self._counts(source)
        self._runtime.structure.rehashing(self._each(counts))
        for key, count in counts.items():
            self._items[key] = add(self._items.get(key, 0), multiply(count, sign))
        if len(self._items) > policy.ITEMS_MAX:
            raise ValueError(f"a dict of more than {policy.ITEMS_MAX} items")

    def update(self, source: Any = (), /, **more: Any) -> None:
        self._merge(source, 1)
        self._merge(more, 1)

    def subtract(self, source: Any = (), /, **more: Any) -> None:
        self._merge(source, -1)
        self._merge(more, -1)

    def total(self) -> Any:
        total: Any = 0
        for count in self._each(self._items).values():
            total = self._runtime.add(total, count)
        return total

    def most_common(self, n: Any = None) -> list[tuple[Any, Any]]:
        pairs = list(self._dict_().items())
        pairs = self._runtime.methods.ordered(pairs, lambda pair: number(pair[1], "a count"), True)
        return pairs if n is None else pairs[: integer(n, "n", low=0)]

    def elements(self) -> Any:
        counts = [max(integer(count), 0) for count in self._each(self._items).values()]
        if sum(counts) > policy.ITEMS_MAX:
            raise ValueError(f"a list of more than {policy.ITEMS_MAX} items")
        self._runtime.meter.charge(sum(counts) // costs.COPY_ITEMS)
        rows = [[key] * count for key, count in zip(self._items, counts, strict=True)]
        return self._runtime.lazies.chain(*rows)

    def _combine(self, other: Any, pick: Any) -> Any:
        if type(other) is not Counter:
            return NotImplemented
        keys = {**self._dict_(), **other._dict_()}
        self._runtime.structure.rehashing(self._each(self._each(keys)))
        counts = {
            key: pick(number(self._items.get(key, 0)), number(other._items.get(key, 0))) for key in keys
        }
        return self._like({key: count for key, count in counts.items() if count > 0})

    def __add__(self, other: Any) -> Any:
        return self._combine(other, self._runtime.add)

    def __sub__(self, other: Any) -> Any:
        return self._combine(other, lambda a, b: a - b)

    def __or__(self, other: Any) -> Any:
        return self._combine(other, max)

    def __and__(self, other: Any) -> Any:
        return self._combine(other, min)

    def _repr_(self) -> str:
        pairs = dict(self.most_common()) if self._items else {}
        return f"Counter({self._runtime.texts.repr(pairs) if pairs else ''})"


class Deque(HostObject):
    __slots__ = ("_items", "_runtime", "maxlen")
    _exposed_ = frozenset(
        words(
            "append appendleft clear copy count extend extendleft index maxlen pop popleft remove "
            "reverse rotate"
        )
    )
    _writable_ = True
    __hash__ = None  # type: ignore[assignment]  # mutable, as the built-in

    def __init__(self, runtime: GuestRuntime, items: Any = (), maxlen: Any = None) -> None:
        self._runtime = runtime
        self.maxlen = None if maxlen is None else integer(maxlen, "maxlen", low=0)
        self._items: deque[Any] = deque(runtime.structure.listed(items), self.maxlen)

    def _scan(self, item: Any) -> None:
        self._runtime.structure.find(item, self._items)

    def _room(self, more: int) -> None:
        if len(self._items) + more > policy.ITEMS_MAX:
            raise ValueError(f"a deque of more than {policy.ITEMS_MAX} items")

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __reversed__(self) -> Iterator[Any]:
        backwards: Iterator[Any] = reversed(self._items)
        return backwards

    def __contains__(self, item: Any) -> bool:
        self._scan(item)
        return item in self._items

    def __getitem__(self, index: Any) -> Any:
        self._runtime.meter.charge(len(self._items) // 1024)
        return self._items[integer(index, "index")]

    def __setitem__(self, index: Any, value: Any) -> None:
        self._runtime.meter.charge(len(self._items) // 1024)
        self._items[integer(index, "index")] = value

    def __delitem__(self, index: Any) -> None:
        self._runtime.meter.charge(len(self._items) // costs.COPY_ITEMS)
        del self._items[integer(index, "index")]

    def __eq__(self, other: object) -> Any:
        if type(other) is not Deque:
            return NotImplemented
        self._runtime.structure.pair(list(self._items), list(other._items))
        return self._runtime.meter.counted(lambda: self._items == other._items)

    def append(self, item: Any) -> None:
        self._items.append(item)

    def appendleft(self, item: Any) -> None:
        self._items.appendleft(item)

    def pop(self) -> Any:
        return self._items.pop()

    def popleft(self) -> Any:
        return self._items.popleft()

    def clear(self) -> None:
        self._items.clear()

    def copy(self) -> Deque:
        return Deque(self._runtime, list(self._items), self.maxlen)

    def extend(self, items: Any) -> None:
        listed = self._runtime.structure.listed(items)
        self._room(len(listed))
        self._items.extend(listed)

    def extendleft(self, items: Any) -> None:
        listed = self._runtime.structure.listed(items)
        self._room(len(listed))
        self._items.extendleft(listed)

    def rotate(self, n: Any = 1) -> None:
        self._runtime.meter.charge(len(self._items) // costs.COPY_ITEMS)
        self._items.rotate(integer(n, "n"))

    def reverse(self) -> None:
        self._runtime.meter.charge(len(self._items) // costs.COPY_ITEMS)
        self._items.reverse()

    def count(self, item: Any) -> int:
        self._scan(item)
        return self._items.count(item)

    def index(self, item: Any) -> int:
        self._scan(item)
        if item not in self._items:
            raise ValueError("the item is not in the deque")
        return self._items.index(item)

    def remove(self, item: Any) -> None:
        self._scan(item)
        self._items.remove(item)

    def _repr_(self) -> str:
        bound = "" if self.maxlen is None else f", maxlen={self.maxlen}"
        return f"deque({self._runtime.texts.repr(list(self._items))}{bound})"


def build(runtime: GuestRuntime) -> Facade:
    pairs = runtime.methods.pairs

    def default_dict(default_factory: Any = None, items: Any = (), /, **more: Any) -> DefaultDict:
        if default_factory is not None and not callable(default_factory):
            raise TypeError("first argument must be callable or None")
        return DefaultDict(runtime, {**pairs(items), **more}, default_factory)

    def ordered_dict(items: Any = (), /, **more: Any) -> DictLike:
        return DictLike(runtime, {**pairs(items), **more})

    def counter(items: Any = (), /, **more: Any) -> Counter:
        made = Counter(runtime, {})
        made.update(items, **more)
        return made

    def make_deque(iterable: Any = (), maxlen: Any = None) -> Deque:
        return Deque(runtime, iterable, maxlen)

    return Facade(
        "collections",
        {
            "Counter": Face("Counter", Counter, counter, annotation=dict),
            "OrderedDict": Face("OrderedDict", DictLike, ordered_dict, annotation=dict),
            "abc": build_abc(runtime),
            "defaultdict": Face("defaultdict", DefaultDict, default_dict, annotation=dict),
            "deque": Face("deque", Deque, make_deque, annotation=list),
            "namedtuple": namedtuple(runtime),
        },
    )


def build_abc(runtime: GuestRuntime) -> Facade:
    import collections.abc

    mappings: tuple[type, ...] = (dict, DictLike)
    sequences: tuple[type, ...] = (list, tuple, str, bytes, range, NamedTuple)
    sets: tuple[type, ...] = (Set, FrozenSet)
    containers = (*mappings, *sequences, *sets, Deque)
    kinds: dict[str, tuple[type, ...]] = {
        "Callable": (),
        "Collection": containers,
        "Container": containers,
        "Generator": (),
        "Hashable": (),
        "Iterable": containers,
        "Iterator": (),
        "Mapping": mappings,
        "MutableMapping": mappings,
        "MutableSequence": (list, Deque),
        "MutableSet": (Set,),
        "Sequence": sequences,
        "Set": sets,
        "Sized": containers,
    }
    members = {
        name: Face(name, kind, annotation=getattr(collections.abc, name)) for name, kind in kinds.items()
    }
    return Facade("collections.abc", members)
