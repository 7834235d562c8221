"""Hypothesis strategies from validators: small values mostly, so that calls meet on the same things.

An id stands for a document that exists when the call is made, so it is drawn as a
`Pick`: which one of the table's documents, counted round.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from tidewell.validators import (
    AnyValidator,
    ArrayValidator,
    IdValidator,
    Int64Validator,
    KindValidator,
    LiteralValidator,
    NumberValidator,
    ObjectValidator,
    OptionalValidator,
    RecordValidator,
    UnionValidator,
    Validator,
)
from tidewell.values import NUMBER_INT_MAX, Int64

Strategy = st.SearchStrategy[Any]

PICKS: Final = 3  # documents of a table that ids are drawn from
ELEMENTS_MAX: Final = 3


@attrs.frozen
class Pick:
    """The document number `index` of a table, counted round by creation, when the call is made."""

    table: str
    index: int


def documents(table: str) -> Strategy:
    """Return ids of documents that exist in `table` when the call is made; it waits until there is one."""
    return st.builds(Pick, st.just(table), st.integers(0, PICKS - 1))


_TEXT: Final = st.sampled_from(["a", "b", ""]) | st.text(max_size=6)
_KEYS: Final = st.text("abc", min_size=1, max_size=3)
_INTEGER: Final = st.integers(0, 4) | st.integers(-3, 100) | st.integers(-NUMBER_INT_MAX, NUMBER_INT_MAX)
_NUMBER: Final = _INTEGER | st.floats(allow_nan=False, width=16)
_INT64: Final = (st.integers(-1, 4) | st.integers(-(2**63), 2**63 - 1)).map(Int64)
_KINDS: Final[Mapping[str, Strategy]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "string": _TEXT,
    "bytes": st.binary(max_size=4),
}
_ANYTHING: Final = st.none() | st.booleans() | _INTEGER | _TEXT


def strategy_of(validator: Validator) -> Strategy:
    """Return a strategy whose values `validator` accepts, ids put in for picks."""
    match validator:
        case KindValidator():
            return _KINDS[validator.name]
        case NumberValidator():
            return _INTEGER if validator.integral else _NUMBER
        case Int64Validator():
            return _INT64
        case IdValidator():
            return documents(validator.table)
        case LiteralValidator():
            return st.just(validator.value)
        case ArrayValidator():
            return st.lists(strategy_of(validator.element), max_size=ELEMENTS_MAX)
        case RecordValidator():
            keys, values = _keys_of(validator.keys), strategy_of(validator.values)
            return st.dictionaries(keys, values, max_size=ELEMENTS_MAX)
        case OptionalValidator():
            return strategy_of(validator.inner)
        case ObjectValidator():
            return arguments_of(validator, {})
        case UnionValidator():
            return st.one_of([strategy_of(member) for member in validator.members])
        case _:
            assert isinstance(validator, AnyValidator), validator
            return _ANYTHING


def _keys_of(validator: Validator) -> Strategy:
    """Return a strategy of keys of a record: not every text can be one (function-semantics 2.1)."""
    if isinstance(validator, UnionValidator):
        return st.one_of([_keys_of(member) for member in validator.members])
    return strategy_of(validator) if isinstance(validator, IdValidator | LiteralValidator) else _KEYS


def arguments_of(validator: ObjectValidator | None, given: Mapping[str, Any]) -> Strategy:
    """Return a strategy of argument objects; what is `given` stands in for what a validator says."""
    required: dict[str, Strategy] = {name: as_strategy(value) for name, value in given.items()}
    optional: dict[str, Strategy] = {}
    fields: Mapping[str, Validator] = {} if validator is None else validator.fields
    for name, field in fields.items():
        if name not in given:
            kind = optional if isinstance(field, OptionalValidator) else required
            kind[name] = strategy_of(field)
    return st.fixed_dictionaries(required, optional=optional)


def as_strategy(value: Any) -> Strategy:
    return value if isinstance(value, st.SearchStrategy) else st.just(value)
