"""Guards of reach and of structure: iteration, items, writes, keys, comparison, handlers.

None of these can be named by a guest. They are built once per worker, over one
meter, and hold no state of a call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

from sandbox import costs, policy
from sandbox.classes import FrozenGuestType, GuestType, arguments_of, set_arguments
from sandbox.faults import Terminated
from sandbox.host import HostObject
from sandbox.messages import steady
from sandbox.meter import Meter
from sandbox.operators import bounded_ends
from sandbox.sets import VIEWS
from sandbox.structure import CONTAINERS, NUMBERS, SliceTarget, Structure
from sandbox.text import scrub

_ORDERED: Final = frozenset({list, tuple})
_PORTIONS: Final = 4  # of the largest container may exist at once, before the size of a sum is known


def structure_guards(meter: Meter, structure: Structure) -> dict[str, Callable[..., Any]]:
    """Return the guards by their injected names."""
    charge = meter.charge
    frames = meter.frames
    lookup = structure.lookup

    def slice_(value: Any, start: Any, stop: Any, step: Any) -> Any:
        kind = type(value)
        if kind is range:
            bounded_ends(step)
        if type(value) is dict:
            raise TypeError("unhashable type: 'slice'")  # it is hashable from 3.12 on
        result = value[start:stop:step]
        if kind is str or kind is bytes:
            charge(len(result) // costs.COPY_BYTES)
        elif kind in _ORDERED:
            charge(len(result) // costs.COPY_ITEMS)
        elif kind is range:
            bounded_ends(result.start, result.stop, result.step)
        return result

    def items(value: Any) -> Any:
        kind = type(value)
        if kind is dict or kind is list or (isinstance(value, HostObject) and kind._writable_):
            return value
        raise TypeError(f"items of a {_name(kind)} cannot be written")

    def deletable(value: Any) -> Any:
        """`del xs[i]` moves what comes after it, `del d[key]` leaves a hole."""
        if type(value) is list:
            charge(len(value) // costs.COPY_ITEMS)
        elif type(value) is dict:
            structure.removing(value)
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

    def portion(source: Any, stars: int) -> Any:
        """Return the items of one of `stars` sources that are put together, before their sum is known."""
        items = structure.listed(source)
        if len(items) > policy.ITEMS_MAX * _PORTIONS // stars:
            raise ValueError(f"together more than {policy.ITEMS_MAX} items")
        return items

    def mapping(value: Any) -> Any:
        if type(value) is dict:
            structure.rehashing(value)
            return value
        if isinstance(value, HostObject) and hasattr(type(value), "_dict_"):
            return type(value)._dict_(value)  # type: ignore[attr-defined]  # found just now
        raise TypeError(f"a {_name(type(value))} cannot be unpacked with **")

    def keywords(value: Any) -> Any:
        value = mapping(value)
        charge(len(value))
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
        return structure.among(item, holder)

    def compare(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def guard(a: Any, b: Any) -> Any:
            if type(a) not in NUMBERS:
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

    def subject(value: Any, rests: int = 0) -> Any:
        """What `match` looks at is walked first: patterns compare and copy without guards.

        Each of the `rests` (`*rest`, `**rest`) may copy all of it, whether its pattern matches or not.
        """
        if type(value) in CONTAINERS:
            before = meter.used
            structure.measure(value)
            charge(rests * (meter.used - before) * costs.WALK_ITEMS // costs.COPY_ITEMS)
        elif type(value) in VIEWS:
            raise TypeError("a view of a dict cannot be matched; make a list of it")
        return value

    return {
        "_getiter_": meter.items,
        "_budget_": meter.units,  # type: ignore[dict-item]  # iterated, not called
        "_next_": next,
        "_enter_": meter.enter,
        "_charge_": charge,
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
        "_portion_": portion,
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
    """Bring the message into one form, without addresses, and remove the way back to what failed."""
    if error is None:
        return
    if isinstance(error, AttributeError) and error.obj is not None:
        error.obj = None
    args = arguments_of(error)
    if args and type(args[0]) is str:
        message = steady(scrub(args[0]) if " at 0x" in args[0] else args[0])
        if message is not args[0]:
            set_arguments(error, (message, *args[1:]))


def _name(kind: type) -> str:
    return kind.__name__.lower() if issubclass(kind, HostObject) else kind.__name__
