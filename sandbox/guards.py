"""Guards of reach and of structure: iteration, items, writes, keys, comparison, handlers.

None of these can be named by a guest. They are built once per worker, over one
meter, and hold no state of a call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from sandbox import costs, policy
from sandbox.classes import FrozenGuestType, GuestType, arguments_of, set_arguments
from sandbox.faults import Terminated
from sandbox.host import HostObject
from sandbox.keys import APART, Keys
from sandbox.meter import Meter
from sandbox.sets import VIEWS, FrozenSet, Set
from sandbox.text import scrub

_NUMBERS: Final = frozenset({int, float, bool, type(None)})
_SCALARS: Final = _NUMBERS | {str, bytes}
_CONTAINERS: Final = frozenset({list, tuple, dict, Set, FrozenSet})
_JUST_TEXT: Final = frozenset({str})
_ORDERED: Final = frozenset({list, tuple})


class Structure:
    """Walks values with fuel, before C code walks them without."""

    __slots__ = ("_charge", "_items", "keys")

    def __init__(self, meter: Meter) -> None:
        self._charge = meter.charge
        self._items = meter.items
        self.keys = Keys(meter.charge)

    def measure(self, value: Any, depth: int = 0) -> None:
        """Charge for a walk of `value`, shared parts each time they are met."""
        if depth > policy.DEPTH_MAX:
            raise ValueError(f"a value nested deeper than {policy.DEPTH_MAX}")
        kind = type(value)
        if kind is list or kind is tuple:
            self._charge(len(value) // costs.COPY_ITEMS + 1)
            kinds = set(map(type, value))
            if kinds <= _NUMBERS:
                return
            if kinds == _JUST_TEXT:
                self._charge(sum(map(len, value)) // costs.COPY_BYTES)
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
        elif kind is Set or kind is FrozenSet:
            self._charge(len(value) + 1)
            for item in value:
                self.measure(item, depth + 1)

    def walk_plain(self, values: list[Any]) -> bool:
        """Measure the list `values`, and say whether it is plain."""
        kinds = set(map(type, values))
        if kinds <= _NUMBERS:
            self._charge(len(values) // costs.COPY_ITEMS + 1)
            return True
        self.measure(values)
        return kinds <= _SCALARS or self.is_plain(values)

    def is_plain(self, values: Any, depth: int = 0) -> bool:
        """Whether `values` are numbers, texts and sequences of such: comparing them runs C code alone."""
        kinds = set(map(type, values))
        if kinds <= _SCALARS:
            return True
        if depth > policy.DEPTH_MAX or not kinds <= _SCALARS | _ORDERED:
            return False
        return all(self.is_plain(value, depth + 1) for value in values if type(value) in _ORDERED)

    def lookup(self, key: Any) -> Any:
        """Return `key`, walked if hashing it recurses."""
        kind = type(key)
        if kind is tuple or kind is FrozenSet:
            self.measure(key)
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

    def pair(self, a: Any, b: Any) -> None:
        """Charge for comparing `a` with `b`."""
        kind = type(a)
        if kind in _NUMBERS or type(b) in _NUMBERS:
            return
        if kind is str or kind is bytes:
            if len(a) > costs.COPY_BYTES:
                self._charge(len(a) // costs.COPY_BYTES)
        elif kind in _CONTAINERS and type(b) in _CONTAINERS:
            self.measure(a)
            self.measure(b)
        elif kind in VIEWS and type(b) in VIEWS:
            self._view(a)
            self._view(b)

    def _view(self, view: Any) -> None:
        """Charge for the keys or the items of a dict, which are compared as a set is."""
        self._charge(len(view) + 1)
        for item in view:
            self.measure(item)

    def equal(self, a: Any, b: Any) -> bool:
        """Compare `a` with `b`, charged for."""
        self.pair(a, b)
        return bool(a == b)

    def find(self, item: Any, holder: Any) -> None:
        """Charge for comparing `item` with every item of the list or tuple `holder`."""
        count = len(holder)
        kind = type(item)
        self._charge(count // costs.COPY_ITEMS)
        if kind in _NUMBERS:
            return
        if kind is str or kind is bytes:
            if len(item) > costs.COPY_BYTES:
                self._charge(count * (len(item) // costs.COPY_BYTES))
        elif kind in _CONTAINERS:
            for other in holder:
                self._charge(1)
                self.pair(item, other)

    def listed(self, source: Any) -> Any:
        """Return `source` as a list or tuple, a step per item when it has to be pulled."""
        if type(source) in _ORDERED:
            self._charge(len(source) // costs.COPY_ITEMS)
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


def structure_guards(meter: Meter, structure: Structure) -> dict[str, Callable[..., Any]]:
    """Return the guards by their injected names."""
    charge = meter.charge
    frames = meter.frames
    lookup = structure.lookup

    def slice_(value: Any, start: Any, stop: Any, step: Any) -> Any:
        result = value[start:stop:step]
        kind = type(result)
        if kind is str or kind is bytes:
            charge(len(result) // costs.COPY_BYTES)
        elif kind in _ORDERED:
            charge(len(result) // costs.COPY_ITEMS)
        return result

    def items(value: Any) -> Any:
        kind = type(value)
        if kind is dict or kind is list or (isinstance(value, HostObject) and kind._writable_):
            return value
        raise TypeError(f"items of a {_name(kind)} cannot be written")

    def deletable(value: Any) -> Any:
        """`del xs[i]` moves what comes after it."""
        if type(value) is list:
            charge(len(value) // costs.COPY_ITEMS)
        return items(value)

    def slices(value: Any) -> Any:
        if type(value) is not list:
            raise TypeError(f"slices of a {_name(type(value))} cannot be written")
        return SliceTarget(value, structure)

    def attributes(value: Any) -> Any:
        kind: Any = type(value)
        if type(kind) is GuestType:
            return value
        if type(kind) is FrozenGuestType:
            raise AttributeError(f"a {kind.__name__} is frozen; make another with dataclasses.replace")
        raise AttributeError(f"attributes of a {_name(type(value))} cannot be written")

    def mapping(value: Any) -> Any:
        if type(value) is dict:
            charge(len(value) // costs.COPY_ITEMS)
            return value
        if isinstance(value, HostObject) and hasattr(type(value), "_dict_"):
            return type(value)._dict_(value)  # type: ignore[attr-defined]  # found just now
        raise TypeError(f"a {_name(type(value))} cannot be unpacked with **")

    def keywords(value: Any) -> Any:
        value = mapping(value)
        for name in value:
            if type(name) is not str:
                raise TypeError("keywords must be strings")
            if name.startswith("_"):
                raise TypeError(f"the keyword {name} starts with an underscore")
        return value

    def unpacked(source: Any) -> Any:
        return map(structure.listed, meter.items(source))

    def contains(item: Any, holder: Any) -> bool:
        kind = type(holder)
        if kind is dict:
            return lookup(item) in holder
        if kind is list or kind is tuple:
            structure.find(item, holder)
            return item in holder
        if kind is str or kind is bytes:
            charge(costs.forward_steps(len(holder), len(item) if type(item) is kind else 1))
            return item in holder
        if kind is range:
            if type(item) is float and item.is_integer():
                item = int(item)
            return isinstance(item, int) and item in holder
        if isinstance(holder, HostObject):
            return item in holder  # type: ignore[operator]  # a TypeError where it has no __contains__
        if kind is _KEYS:
            return lookup(item) in holder
        if type(item) in _CONTAINERS:
            return any(structure.equal(item, other) for other in meter.items(holder))
        return item in meter.items(holder)

    def compare(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def guard(a: Any, b: Any) -> Any:
            if type(a) not in _NUMBERS:
                structure.pair(a, b)
            return operate(a, b)

        return guard

    def chain(guards: tuple[Callable[[Any, Any], Any], ...], left: Any, right: Any, *later: Any) -> Any:
        result = guards[0](left, right)
        for guard, thunk in zip(guards[1:], later, strict=True):
            if not result:
                return result
            left, right = right, thunk()
            result = guard(left, right)
        return result

    def level() -> int:
        return len(frames)

    def caught(at: int) -> None:
        """Runs first in every handler: what ends a call is not caught, and calls that were left are
        forgotten.
        """
        missing = at - len(frames)
        if missing > 0:
            frames.extend([meter.units] * missing)
        charge(costs.ENTRY)
        error = sys.exception()
        if isinstance(error, MemoryError):
            meter.end("memory")
        if isinstance(error, RecursionError):
            meter.end("depth")
        if isinstance(error, Terminated):
            raise error
        clean(error)

    def subject(value: Any) -> Any:
        """What `match` looks at is walked first: patterns compare and copy without guards."""
        if type(value) in _CONTAINERS:
            structure.measure(value)
        elif type(value) in VIEWS:
            raise TypeError("a view of a dict cannot be matched; make a list of it")
        return value

    return {
        "_getiter_": meter.items,
        "_budget_": meter.units,  # type: ignore[dict-item]  # iterated, not called
        "_next_": next,
        "_enter_": meter.enter,
        "_calls_": frames,  # type: ignore[dict-item]  # appended to when a call is left
        "_level_": frames.__len__,
        "_caught_": caught,
        "_subject_": subject,
        "_slice_": slice_,
        "_items_": items,
        "_deletable_": deletable,
        "_slices_": slices,
        "_attributes_": attributes,
        "_key_": lookup,
        "_stored_": structure.key,
        "_star_": structure.listed,
        "_mapping_": mapping,
        "_keywords_": keywords,
        "_unpacked_": unpacked,
        "_in_": contains,
        "_not_in_": lambda item, holder: not contains(item, holder),
        "_is_": lambda a, b: a is b,
        "_is_not_": lambda a, b: a is not b,
        "_eq_": compare(lambda a, b: a == b),
        "_ne_": compare(lambda a, b: a != b),
        "_lt_": compare(lambda a, b: a < b),
        "_le_": compare(lambda a, b: a <= b),
        "_gt_": compare(lambda a, b: a > b),
        "_ge_": compare(lambda a, b: a >= b),
        "_chain_": chain,
    }


_NOTHING: dict[Any, Any] = {}
_KEYS: Final[type] = type(_NOTHING.keys())


def clean(error: BaseException | None) -> None:
    """Remove addresses from the message, and the way back to the object that failed."""
    if error is None:
        return
    if isinstance(error, AttributeError) and error.obj is not None:
        error.obj = None
    args = arguments_of(error)
    if args and type(args[0]) is str and " at 0x" in args[0]:
        set_arguments(error, (scrub(args[0]), *args[1:]))


def _name(kind: type) -> str:
    return kind.__name__.lower() if issubclass(kind, HostObject) else kind.__name__
