"""Index ranges: what `with_index("by_author", lambda q: q.eq(...).gte(...))` says.

A range is any number of equalities on the first fields of an index, then at most
one lower and one upper bound on the field after them (`function-semantics.md` 9).
This module checks that shape; the store turns it into keys.
"""

from __future__ import annotations

from typing import Final, NoReturn

import attrs

from tidewell.errors import InvalidRange
from tidewell.values import MISSING, Value, normalize


@attrs.frozen
class Bound:
    value: Value  # canonical, or MISSING
    inclusive: bool


@attrs.frozen
class IndexRange:
    """A part of an index. `equal` stands for the first `len(equal)` fields, the bounds for the next one."""

    equal: tuple[Value, ...] = ()
    lower: Bound | None = None
    upper: Bound | None = None


WHOLE: Final = IndexRange()


@attrs.define
class RangeBuilder:
    """Collects the calls on `q` and says which of them breaks a rule.

    Args:
      index: the name of the index, for messages.
      fields: its field paths, `_creationTime` included.
    """

    index: str
    fields: tuple[str, ...]
    _equal: dict[str, Value] = attrs.field(factory=dict, init=False)
    _lower: tuple[str, Bound] | None = attrs.field(default=None, init=False)
    _upper: tuple[str, Bound] | None = attrs.field(default=None, init=False)

    def eq(self, field: str, value: object) -> RangeBuilder:
        if self._lower or self._upper:
            self._refuse(f"eq({field!r}) comes after a bound; write equalities first")
        if field in self._equal:
            self._refuse(f"two equalities on {field!r}")
        self._equal[field] = self._operand(field, value)
        return self

    def gt(self, field: str, value: object) -> RangeBuilder:
        return self._set_lower(field, value, inclusive=False)

    def gte(self, field: str, value: object) -> RangeBuilder:
        return self._set_lower(field, value, inclusive=True)

    def lt(self, field: str, value: object) -> RangeBuilder:
        return self._set_upper(field, value, inclusive=False)

    def lte(self, field: str, value: object) -> RangeBuilder:
        return self._set_upper(field, value, inclusive=True)

    def finish(self) -> IndexRange:
        """Return the range. Raises `InvalidRange` when fields are missing in front of a used one."""
        count = len(self._equal)
        for field in self.fields[:count]:
            if field not in self._equal:
                self._refuse(f"equalities must use the first fields of the index; {field!r} is missing")
        for bound in (self._lower, self._upper):
            if bound and (count >= len(self.fields) or bound[0] != self.fields[count]):
                expected = repr(self.fields[count]) if count < len(self.fields) else "no further field"
                self._refuse(f"a bound on {bound[0]!r}, where the field after the equalities is {expected}")
        return IndexRange(
            equal=tuple(self._equal[field] for field in self.fields[:count]),
            lower=self._lower and self._lower[1],
            upper=self._upper and self._upper[1],
        )

    def _set_lower(self, field: str, value: object, *, inclusive: bool) -> RangeBuilder:
        if self._upper:
            self._refuse("a lower bound comes after an upper bound; write the lower bound first")
        if self._lower:
            self._refuse(f"two lower bounds, on {self._lower[0]!r} and {field!r}")
        self._lower = (field, Bound(self._operand(field, value), inclusive))
        return self

    def _set_upper(self, field: str, value: object, *, inclusive: bool) -> RangeBuilder:
        if self._upper:
            self._refuse(f"two upper bounds, on {self._upper[0]!r} and {field!r}")
        if self._lower and self._lower[0] != field:
            self._refuse(f"bounds on two fields, {self._lower[0]!r} and {field!r}")
        self._upper = (field, Bound(self._operand(field, value), inclusive))
        return self

    def _operand(self, field: object, value: object) -> Value:
        if type(field) is not str:
            self._refuse(f"a field name must be a string, found a {type(field).__name__}")
        if field not in self.fields:
            self._refuse(f"{field!r} is not a field of the index")
        return MISSING if value is MISSING else normalize(value, f"q.{field}")

    def _refuse(self, problem: str) -> NoReturn:
        raise InvalidRange(f"index {self.index!r} ({', '.join(self.fields)}): {problem}")
