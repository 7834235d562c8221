"""Named tuples: `collections.namedtuple` and classes with `NamedTuple` as base.

An instance is a host object over a plain tuple; it unpacks, indexes, compares and
hashes like one. A class of them is a face, so that calls and `isinstance` work.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sandbox import costs, policy
from sandbox.faces import Face
from sandbox.host import HostObject

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

_FIELDS_MAX = 255
_NAME_MAX = 200


class NamedTuple(HostObject):
    """Each class of named tuples is a subclass without members of its own."""

    __slots__ = ("_names", "_runtime", "_values")

    def __init__(self, runtime: GuestRuntime, names: dict[str, int], values: tuple[Any, ...]) -> None:
        self._runtime = runtime
        self._names = names
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            index = self._names.get(name)
            if index is not None:
                return self._values[index]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __contains__(self, item: Any) -> bool:
        self._runtime.structure.find(item, self._values)
        return item in self._values

    def _other(self, other: Any) -> tuple[Any, ...] | None:
        values = other._values if isinstance(other, NamedTuple) else other
        if type(values) is not tuple:
            return None
        self._runtime.meter.charge(1)
        self._runtime.structure.pair(self._values, values)
        return values

    def _compared(self, operate: Callable[[Any, Any], Any], values: tuple[Any, ...] | None) -> Any:
        """Compare in a place of the count of nested calls: values may hold others of this kind."""
        if values is None:
            return NotImplemented
        return self._runtime.meter.counted(lambda: operate(self._values, values))

    def __eq__(self, other: object) -> Any:
        values = self._other(other)
        return self._compared(operator.eq, values)

    def __lt__(self, other: Any) -> Any:
        values = self._other(other)
        return self._compared(operator.lt, values)

    def __le__(self, other: Any) -> Any:
        values = self._other(other)
        return self._compared(operator.le, values)

    def __gt__(self, other: Any) -> Any:
        values = self._other(other)
        return self._compared(operator.gt, values)

    def __ge__(self, other: Any) -> Any:
        values = self._other(other)
        return self._compared(operator.ge, values)

    def __hash__(self) -> int:
        self._runtime.meter.charge(1)
        self._runtime.structure.measure(self._values)
        return self._runtime.meter.counted(lambda: hash(self._values))  # type: ignore[no-any-return]  # a hash

    def __add__(self, other: Any) -> Any:
        values = self._other(other)
        return NotImplemented if values is None else self._runtime.add(self._values, values)

    def _repr_(self) -> str:
        texts = self._runtime.texts
        inner = ", ".join(f"{name}={texts.repr(self._values[i])}" for name, i in self._names.items())
        return f"{type(self).__name__}({inner})"

    def _value_(self) -> tuple[Any, ...]:
        return self._values

    def _dict_(self) -> dict[str, Any]:
        return {name: self._values[i] for name, i in self._names.items()}


def make_named(runtime: GuestRuntime, title: str, fields: list[str], defaults: dict[str, Any]) -> Face:
    """Return the face of a new class of named tuples."""
    runtime.meter.charge(costs.CLASS + len(fields))
    if len(fields) > _FIELDS_MAX:
        raise ValueError(f"more than {_FIELDS_MAX} fields")
    for name in (title, *fields):
        if type(name) is not str or len(name) > _NAME_MAX or not name.isidentifier() or name.startswith("_"):
            raise ValueError("names of fields are identifiers without a leading underscore")
        if name in policy.DENIED_ATTRIBUTES:
            raise ValueError(policy.DENIED_ATTRIBUTES[name].text(f"the field {name}"))
    names = {name: i for i, name in enumerate(fields)}
    if len(names) != len(fields):
        raise ValueError("a field name twice")
    kind = type(title, (NamedTuple,), {"__slots__": ()})

    def make(*args: Any, **kwargs: Any) -> Any:
        runtime.meter.charge(2 + len(fields) // 4)
        if len(args) > len(fields):
            raise TypeError(f"{title}() takes {len(fields)} values, {len(args)} were given")
        values = dict(zip(fields, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(f"{title}() got an unexpected argument '{name}'")
            values[name] = value
        missing = [name for name in fields if name not in values and name not in defaults]
        if missing:
            raise TypeError(f"{title}() misses {', '.join(missing)}")
        return kind(runtime, names, tuple(values.get(name, defaults.get(name)) for name in fields))

    return Face(title, kind, make, annotation=tuple)


def namedtuple(runtime: GuestRuntime) -> Any:
    def build(typename: Any, field_names: Any, *, defaults: Any = ()) -> Face:
        if type(field_names) is str:
            runtime.meter.charge(len(field_names) // costs.TABLE_ITEMS)
            fields = field_names.replace(",", " ").split()
        else:
            fields = list(runtime.structure.listed(field_names))
        given = list(runtime.structure.listed(defaults))
        if len(given) > len(fields):
            raise TypeError("more default values than fields")
        tail = fields[len(fields) - len(given) :]
        return make_named(runtime, typename, fields, dict(zip(tail, given, strict=True)))

    return build


def from_class(runtime: GuestRuntime, title: str, body: dict[str, Any]) -> Face:
    """Make the class of `class Title(NamedTuple): ...`."""
    fields = list(body.get("_fields_", ()))
    return make_named(runtime, title, fields, {name: body[name] for name in fields if name in body})
