"""`q` in `with_index(name, lambda q: q.eq("author", a).gte("ts", t))`."""

from __future__ import annotations

from typing import Any

from sandbox.convert import Charge, take_in
from sandbox.host import HostObject
from tidewell.errors import InvalidRange
from tidewell.ranges import WHOLE, IndexRange, RangeBuilder
from tidewell.values import MISSING

BOUND_BYTES_MAX = 2**16  # of one operand; keys in the store are bounded too


class GuestRange(HostObject):
    """The guest's face of a `RangeBuilder`. Every method returns the same object, so calls chain."""

    __slots__ = ("_builder", "_charge")
    _exposed_ = frozenset({"eq", "gt", "gte", "lt", "lte"})

    def __init__(self, builder: RangeBuilder, charge: Charge) -> None:
        self._builder = builder
        self._charge = charge

    def eq(self, field: str, value: Any) -> GuestRange:
        self._builder.eq(self._field(field), self._operand(value))
        return self

    def gt(self, field: str, value: Any) -> GuestRange:
        self._builder.gt(self._field(field), self._operand(value))
        return self

    def gte(self, field: str, value: Any) -> GuestRange:
        self._builder.gte(self._field(field), self._operand(value))
        return self

    def lt(self, field: str, value: Any) -> GuestRange:
        self._builder.lt(self._field(field), self._operand(value))
        return self

    def lte(self, field: str, value: Any) -> GuestRange:
        self._builder.lte(self._field(field), self._operand(value))
        return self

    def _field(self, field: Any) -> str:
        if type(field) is not str:  # before anything shows it in a message
            raise InvalidRange(f"a field name must be a string, found a {type(field).__name__}")
        return field

    def _operand(self, value: Any) -> Any:
        return MISSING if value is MISSING else take_in(value, "q", self._charge, bytes_max=BOUND_BYTES_MAX)


def range_from(index: str, fields: tuple[str, ...], fn: Any, charge: Charge) -> IndexRange:
    """Return the range that the guest's lambda builds; without one, the whole index."""
    if fn is None:
        return WHOLE
    if not callable(fn):
        raise InvalidRange("with_index() takes a function: .with_index(name, lambda q: q.eq('field', value))")
    builder = RangeBuilder(index, fields)
    fn(GuestRange(builder, charge))
    return builder.finish()
