"""Arguments that are derived from validators are ones that they accept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.testing.schedule import resolve, spelled
from engine.testing.strategies import Pick, arguments_of, strategy_of
from tidewell import v
from tidewell.ids import encode_id
from tidewell.validators import ObjectValidator, Validator, accepts
from tidewell.values import normalize

AN_ID = encode_id(10001, bytes(16))

LEAVES: list[Validator] = [
    v.null(),
    v.boolean(),
    v.number(),
    v.int64(),
    v.string(),
    v.bytes(),
    v.any(),
    v.id("users"),
    v.literal("on"),
]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(v.array, inner),
        st.builds(lambda value: v.record(v.string(), value), inner),
        st.builds(lambda one, two: v.union(one, two), inner, inner),
        st.builds(lambda one, two: v.object({"a": one, "b": v.optional(two)}), inner, inner),
    )


VALIDATORS = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(validator=VALIDATORS, data=st.data())
def test_what_is_derived_is_accepted(validator: Validator, data: st.DataObject) -> None:
    drawn = data.draw(strategy_of(validator))
    value = resolve(drawn, lambda table, index: AN_ID)
    assert accepts(validator, normalize(value))
    assert isinstance(spelled(drawn), str)


@given(data=st.data())
def test_what_is_given_stands_in_for_what_a_validator_says(data: st.DataObject) -> None:
    validator = v.object({"name": v.string(), "count": v.number(), "note": v.optional(v.string())})
    assert isinstance(validator, ObjectValidator)
    given_args = {"name": "tea", "count": st.integers(5, 6)}
    drawn = data.draw(arguments_of(validator, given_args))
    assert drawn["name"] == "tea"
    assert drawn["count"] in (5, 6)
    assert drawn.keys() <= {"name", "count", "note"}


def test_an_id_of_an_empty_table_cannot_be_had() -> None:
    with pytest.raises(LookupError):
        resolve({"rows": [Pick("users", 1)]}, lambda table, index: None)
