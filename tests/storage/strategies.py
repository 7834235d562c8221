"""Values, documents and a second opinion on their order, for the tests of the store."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from tidewell.values import MISSING, Int64, Value, kind_of, number

LONG_PREFIX = "x" * 600  # longer than an LMDB key; two strings that begin with it differ behind the cut

_KINDS = ("missing", "null", "int64", "number", "boolean", "string", "bytes", "array", "object")


def sort_key(value: Value) -> tuple[Any, ...]:
    """Return what sorts as `function-semantics.md` 4.1 says, written down without any bytes of ours."""
    kind = kind_of(value)
    rank = _KINDS.index(kind)
    if kind in ("missing", "null"):
        return (rank,)
    if kind == "number":
        if value != value:
            return (rank, 1, 0.0, 0.0)
        return (rank, 0, float(value), math.copysign(1.0, value))
    if kind == "string":
        return (rank, value.encode())
    if kind == "array":
        return (rank, tuple(map(sort_key, value)))
    if kind == "object":
        return (rank, tuple((key.encode(), sort_key(item)) for key, item in value.items()))
    return (rank, value)


_text = st.one_of(
    st.text(max_size=6),
    st.text(alphabet="\x00\x01aé\uffff\U00010000", max_size=6),
    st.text(alphabet="\x00ab", max_size=4).map(lambda tail: LONG_PREFIX + tail),
)
_bytes = st.one_of(st.binary(max_size=6), st.lists(st.sampled_from([0, 1, 254, 255]), max_size=5).map(bytes))
_numbers = st.one_of(
    st.integers(-(2**53), 2**53),
    st.integers(-3, 3),
    st.floats().map(number),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, 2.0**60]).map(
        number
    ),
)
_int64s = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-300, 300),
    st.sampled_from(
        [sign * 2**bits + step for sign in (-1, 1) for bits in (8, 16, 32, 62) for step in (-1, 0, 1)]
    ),
).map(Int64)
_names = st.text(alphabet="abz", min_size=1, max_size=3)

scalars = st.one_of(st.none(), st.booleans(), _numbers, _int64s, _text, _bytes)


def _objects(children: st.SearchStrategy[Value]) -> st.SearchStrategy[Value]:
    return st.dictionaries(_names, children, max_size=3).map(
        lambda entries: {key: entries[key] for key in sorted(entries)}
    )


values: st.SearchStrategy[Value] = st.recursive(
    scalars, lambda children: st.one_of(st.lists(children, max_size=3), _objects(children)), max_leaves=8
)
indexed_values: st.SearchStrategy[Value] = st.one_of(values, st.just(MISSING))
