"""Values walked with fuel, before C code walks them without: compared, hashed, searched, copied, taken apart.

A price is an upper bound by size: C code may stop at the first difference, and the
walk does not know where that is. Shared parts are charged each time they are met.
What compares by methods of the host takes a step for each comparison, and more by
itself where it does more.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection
from itertools import islice
from typing import Any, Final

from sandbox import costs, policy
from sandbox.keys import APART, Keys
from sandbox.meter import Meter
from sandbox.sets import VIEWS, FrozenSet, Set

NUMBERS: Final = frozenset({int, float, bool, type(None)})
CONTAINERS: Final = frozenset({list, tuple, dict, Set, FrozenSet})
_TEXTS: Final = frozenset({str, bytes})
_SCALARS: Final = NUMBERS | _TEXTS
_INTEGERS: Final = frozenset({int, bool})
_ORDERED: Final = frozenset({list, tuple})
_FEW: Final = 5  # items that are looked at one by one
_SHORT_TEXT: Final = costs.COPY_BYTES // 8
_DEAR: Final = 4  # steps for an item; what sorting compares beyond them is charged for every comparison


def _are_short(values: Collection[Any]) -> bool:
    """Whether all are integers that fit in 64 bits: comparing such is in the price of an item.

    C says so in half the time that looking at the classes takes. Nothing that a guest holds says
    that it is an integer (`__index__`) but integers and truth values.
    """
    try:
        array("q", values)
    except (TypeError, OverflowError):
        return False
    return True


class Structure:
    """Walks values with fuel, before C code walks them without."""

    __slots__ = ("_charge", "_items", "_meter", "_removals", "_seed", "_step", "keys")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._charge = meter.charge
        self._items = meter.items
        self._step = meter.step
        self.keys = Keys(meter)
        self._seed = b""
        self._removals = 0  # until a dict is made anew; 0 before the first

    def reset(self, seed: bytes) -> None:
        """Begin another call."""
        self.keys.forget()
        self._seed = seed
        self._removals = 0

    # ---- walking -----------------------------------------------------------------

    def measure(self, value: Any, depth: int = 0) -> None:
        """Charge for a walk of `value`, shared parts each time they are met."""
        if depth > policy.DEPTH_MAX:
            raise ValueError(f"a value nested deeper than {policy.DEPTH_MAX}")
        kind = type(value)
        if kind is list or kind is tuple:
            if len(value) < _FEW and self._is_short(value):
                self._step()
                return
            self._charge(len(value) // costs.WALK_ITEMS + 1)
            kinds = set(map(type, value))
            if kinds <= _SCALARS:
                self._scalars(value, kinds)
                return
            for item in value:
                self._charge(1)
                self.measure(item, depth + 1)
        elif kind is dict:
            self._charge(len(value) + 1)
            for key, item in value.items():
                self.measure(key, depth + 1)
                self.measure(item, depth + 1)
        elif kind is str or kind is bytes:
            if len(value) > costs.COPY_BYTES:
                self._charge(len(value) // costs.COPY_BYTES)
        elif kind is int:
            self._charge(value.bit_length() // costs.INTEGER_BITS)
        elif kind is Set or kind is FrozenSet:
            self._charge(len(value) + 1)
            for item in value:
                self.measure(item, depth + 1)

    def _is_short(self, values: Any) -> bool:
        """Whether `values` are numbers and texts of few bytes: most keys are such tuples."""
        for value in values:
            kind = type(value)
            if kind is str:
                if len(value) > _SHORT_TEXT:
                    return False
            elif kind not in NUMBERS or (kind is int and not -APART < value < APART):
                return False
        return True

    def _scalars(self, values: Collection[Any], kinds: set[type]) -> None:
        """Charge for the sizes of numbers and texts, whose classes are `kinds`."""
        if int in kinds:
            numbers = values if kinds <= _INTEGERS else [value for value in values if type(value) is int]
            bits = sum(map(int.bit_length, numbers))
            if bits >= costs.INTEGER_BITS:
                self._charge(bits // costs.INTEGER_BITS)
        if not kinds.isdisjoint(_TEXTS):
            texts = values if kinds <= _TEXTS else [value for value in values if type(value) in _TEXTS]
            size = sum(map(len, texts))
            if size >= costs.COPY_BYTES:
                self._charge(size // costs.COPY_BYTES)

    def walk_plain(self, values: list[Any]) -> bool:
        """Charge for comparing what is in the list `values` in sorting it, and say whether it is plain."""
        if _are_short(values):
            self._charge(len(values) // costs.COPY_ITEMS + 1)
            return True
        before = self._meter.left
        kinds = set(map(type, values))
        if kinds <= NUMBERS:
            self._charge(len(values) // costs.COPY_ITEMS + 1)
            self._scalars(values, kinds)
        else:
            self.measure(values)
        dear = before - self._meter.left - _DEAR * len(values)
        if dear > 0:
            self._charge(dear * (len(values).bit_length() - 1) // 2)
        return kinds <= _SCALARS or self.is_plain(values)

    def is_plain(self, values: Any, depth: int = 0) -> bool:
        """Whether `values` are numbers, texts and sequences of such: comparing them runs C code alone."""
        kinds = set(map(type, values))
        if kinds <= _SCALARS:
            return True
        if depth > policy.DEPTH_MAX or not kinds <= _SCALARS | _ORDERED:
            return False
        return all(self.is_plain(value, depth + 1) for value in values if type(value) in _ORDERED)

    # ---- keys --------------------------------------------------------------------

    def lookup(self, key: Any) -> Any:
        """Return `key`, walked if hashing it recurses."""
        kind = type(key)
        if kind is tuple or kind is FrozenSet:
            self.measure(key)
            if self.keys.crowded:
                self.keys.meet((key,))
        return key

    def key(self, key: Any) -> Any:
        """Return `key`, which is about to be stored: walked, and counted if its hash can be chosen."""
        kind = type(key)
        if kind is str or (kind is int and -APART < key < APART):
            return key
        if kind is tuple or kind is FrozenSet:
            self.measure(key)
        if not self.keys.is_tame(key):
            self.keys.count(key)
        return key

    def merging(self, keys: Collection[Any]) -> None:
        """Charge for keys that are put from one table into an empty one, which need not look at them."""
        self._charge(len(keys) // costs.TABLE_ITEMS)
        if self.keys.crowded:
            self.keys.meet(keys)

    def rehashing(self, keys: Collection[Any]) -> None:
        """Charge for keys of one table that are looked up in another: hashed again, or compared."""
        self._charge(len(keys) // costs.TABLE_ITEMS + 1)
        kinds = set(map(type, keys))
        if kinds <= _SCALARS:
            self._scalars(keys, kinds)
            return
        for key in keys:
            self._step()
            self.measure(key)
        if self.keys.crowded:
            self.keys.meet(keys)

    def removing(self, table: dict[Any, Any]) -> None:
        """A key is about to be taken from `table`, which leaves a hole that iteration passes over.

        A large dict is made anew after about `costs.HOLES` of them, and every removal
        takes its share of that. Which one it is that does it, a guest cannot tell
        beforehand: by choosing, it would keep the holes of another dict.
        """
        if len(table) >= costs.REMOVED_ITEMS:
            self._charge(len(table) // costs.REMOVED_ITEMS)
        if self.keys.crowded:
            self._charge(self.keys.spent // costs.HOLES)
        if table.__sizeof__() <= costs.HOLES_BYTES:
            return
        if self._removals == 1:
            fresh: dict[Any, Any] = {}
            fresh.update(table)
            table.clear()
            table.update(fresh)
        if self._removals <= 1:
            drawn = hashlib.blake2b(self._seed, digest_size=32, person=b"tidewell-holes").digest()
            self._seed = drawn
            self._removals = int.from_bytes(drawn[:4], "big") % (2 * costs.HOLES) + 2
        self._removals -= 1

    # ---- comparing ---------------------------------------------------------------

    def pair(self, a: Any, b: Any) -> None:
        """Charge for comparing `a` with `b`."""
        kind = type(a)
        if kind in NUMBERS or type(b) in NUMBERS:
            return
        if kind is str or kind is bytes:
            if len(a) > costs.COPY_BYTES:
                self._charge(len(a) // costs.COPY_BYTES)
        elif kind in CONTAINERS and type(b) in CONTAINERS:
            self.measure(a)
            self.measure(b)
        elif kind in VIEWS and type(b) in VIEWS:
            self.rehashing(a)
            self.rehashing(b)

    def equal(self, a: Any, b: Any) -> bool:
        """Compare `a` with `b`, charged for."""
        self.pair(a, b)
        return a is b or bool(a == b)

    def find(self, item: Any, holder: Collection[Any]) -> None:
        """Charge for comparing `item` with every item of `holder`, a list or the like."""
        count = len(holder)
        self._charge(count // costs.COPY_ITEMS + 1)
        kind = type(item)
        if kind in CONTAINERS:
            for other in holder:
                self._charge(1)
                self.pair(item, other)
        elif kind not in _SCALARS or not _SCALARS.issuperset(set(map(type, holder))):
            self._charge(count)  # methods of the host
        elif kind in _TEXTS:
            self._charge(count * (len(item) // costs.COPY_BYTES))
        elif kind is int:
            self._charge(count * (item.bit_length() // (4 * costs.INTEGER_BITS)))

    def among(self, item: Any, source: Any) -> bool:
        """Return whether `item` is one of the items of `source`, which are pulled, a step each."""
        kind = type(item)
        if kind in NUMBERS or (kind in _TEXTS and len(item) <= costs.COPY_BYTES):
            return item in self._items(source)
        return any(self.equal(item, other) for other in self._items(source))

    # ---- lists -------------------------------------------------------------------

    def listed(self, source: Any) -> Any:
        """Return `source` as a list or tuple, a step per item when it has to be pulled.

        What works on a list as a whole begins here, and takes a step however short the list is.
        """
        if type(source) in _ORDERED:
            self._charge(len(source) // costs.COPY_ITEMS + 1)
            return source
        return self.pull(source)

    def pull(self, source: Any) -> list[Any]:
        """Return a new list of the items of `source`, a step each."""
        pulled = list(islice(self._items(source), policy.ITEMS_MAX + 1))
        if len(pulled) > policy.ITEMS_MAX:
            raise ValueError(f"a list of more than {policy.ITEMS_MAX} items")
        return pulled


class SliceTarget:
    """Stands for a list in `xs[a:b] = ...` and `del xs[a:b]`."""

    __slots__ = ("_structure", "_target")

    def __init__(self, target: list[Any], structure: Structure) -> None:
        self._target = target
        self._structure = structure

    def __setitem__(self, index: slice, value: Any) -> None:
        items = self._structure.listed(value)
        self._structure.listed(self._target)
        if len(self._target) + len(items) > policy.ITEMS_MAX:
            raise ValueError(f"a list of more than {policy.ITEMS_MAX} items")
        self._target[index] = items

    def __delitem__(self, index: slice) -> None:
        self._structure.listed(self._target)
        del self._target[index]
