"""Byte order is value order, for all values, and ranges select what a filter would."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.keys import (
    decode,
    encode,
    field_at,
    fields_part,
    id_in,
    id_interval,
    index_key,
    interval_of,
    point,
)
from tidewell.errors import InvalidRange
from tidewell.ids import encode_id
from tidewell.ranges import RangeBuilder
from tidewell.values import MISSING, Int64

from .strategies import indexed_values, scalars, sort_key, values

ids = st.binary(min_size=16, max_size=16)
few = st.sampled_from(
    [MISSING, None, Int64(-1), 0, 1, 2, True, "", "a", "a\x00", "ab", b"\xff", [], [0], {"k": 1}]
)


@given(a=indexed_values, b=indexed_values)
def test_bytes_sort_as_values_do(a: Any, b: Any) -> None:
    assert (encode(a) < encode(b)) == (sort_key(a) < sort_key(b))
    assert (encode(a) == encode(b)) == (sort_key(a) == sort_key(b))


@given(a=st.lists(values, min_size=2, max_size=2), b=st.lists(values, min_size=2, max_size=2))
def test_compound_keys_sort_part_by_part(a: list[Any], b: list[Any]) -> None:
    joined_a, joined_b = (b"".join(map(encode, parts)) for parts in (a, b))
    assert (joined_a < joined_b) == (tuple(map(sort_key, a)) < tuple(map(sort_key, b)))


@given(parts=st.lists(indexed_values, max_size=4))
def test_a_key_decodes_to_the_values_it_was_made_of(parts: list[Any]) -> None:
    decoded = decode(b"".join(map(encode, parts)))
    assert list(map(sort_key, decoded)) == list(map(sort_key, parts))


@given(
    a=st.lists(indexed_values, min_size=2, max_size=2),
    b=st.lists(indexed_values, min_size=2, max_size=2),
    id_a=ids,
    id_b=ids,
)
def test_no_full_key_of_an_index_is_a_prefix_of_another(
    a: list[Any], b: list[Any], id_a: bytes, id_b: bytes
) -> None:
    paths = (("f",), ("g",))
    first, second = (
        index_key(
            paths,
            {name: value for name, value in zip("fg", each, strict=True) if value is not MISSING}
            | {"_creationTime": 1},
            internal_id,
        )
        for each, internal_id in ((a, id_a), (b, id_b))
    )
    assert first == second or not second.startswith(first)
    assert id_in(first) == id_a


_OPERATIONS = ("gt", "gte", "lt", "lte")


@given(
    rows=st.lists(st.tuples(indexed_values | few, indexed_values | few), max_size=12),
    equal=st.lists(few | scalars, max_size=2),
    lower=st.none() | st.tuples(st.sampled_from(["gt", "gte"]), few | scalars),
    upper=st.none() | st.tuples(st.sampled_from(["lt", "lte"]), few | scalars),
)
def test_a_range_selects_what_a_filter_would(
    rows: list[Any], equal: list[Any], lower: Any, upper: Any
) -> None:
    fields = ("f", "g", "_creationTime")
    builder = RangeBuilder("by_f_g", fields)
    for field, value in zip(fields, equal, strict=False):
        builder.eq(field, value)
    bounded = fields[len(equal)]
    for bound in (lower, upper):
        if bound is not None:
            getattr(builder, bound[0])(bounded, bound[1])
    interval = interval_of(builder.finish())

    for number, (f, g) in enumerate(rows):
        document = {"_creationTime": number}
        document |= {name: value for name, value in (("f", f), ("g", g)) if value is not MISSING}
        key = index_key((("f",), ("g",)), document, bytes(16))
        actual = {"f": f, "g": g, "_creationTime": number}
        wanted = all(
            sort_key(actual[field]) == sort_key(value) for field, value in zip(fields, equal, strict=False)
        )
        for bound in (lower, upper):
            if bound is not None:
                ours, theirs = sort_key(actual[bounded]), sort_key(bound[1])
                wanted &= {
                    "gt": ours > theirs,
                    "gte": ours >= theirs,
                    "lt": ours < theirs,
                    "lte": ours <= theirs,
                }[bound[0]]
        assert (interval.start <= key < interval.end) == wanted, (f, g)


def test_every_combination_of_bounds_is_either_a_range_or_refused_by_name() -> None:
    for names in itertools.product(("f", "g"), repeat=3):
        for calls in itertools.product(("eq", *_OPERATIONS), repeat=3):
            problem = _problem_with(list(zip(calls, names, strict=True)))
            assert problem is None or ("by_f_g" in problem and "f, g, _creationTime" in problem)


def _problem_with(calls: list[tuple[str, str]]) -> str | None:
    builder = RangeBuilder("by_f_g", ("f", "g", "_creationTime"))
    try:
        for call, name in calls:
            getattr(builder, call)(name, 1)
        interval_of(builder.finish())
    except InvalidRange as error:
        return str(error)
    return None


def test_a_contradiction_is_an_empty_interval() -> None:
    builder = RangeBuilder("by_f", ("f", "_creationTime"))
    assert interval_of(builder.gt("f", 5).lt("f", 3).finish()).is_empty


@given(
    internal_ids=st.lists(ids, min_size=1, max_size=20),
    bound=st.one_of(ids.map(lambda each: encode_id(10001, each)), few),
)
def test_ids_are_bounded_as_the_text_that_users_see(internal_ids: list[bytes], bound: Any) -> None:
    for call in _OPERATIONS:
        builder = RangeBuilder("by_id", ("_id", "_creationTime"))
        interval = id_interval(10001, getattr(builder, call)("_id", bound).finish())
        for internal_id in internal_ids:
            ours, theirs = sort_key(encode_id(10001, internal_id)), sort_key(bound)
            wanted = {"gt": ours > theirs, "gte": ours >= theirs, "lt": ours < theirs, "lte": ours <= theirs}[
                call
            ]
            assert (interval.start <= internal_id < interval.end) == wanted


@pytest.mark.parametrize("edge", [bytes(16), b"\xff" * 16])
def test_the_whole_of_by_id_holds_the_first_and_the_last_id(edge: bytes) -> None:
    interval = id_interval(10001, RangeBuilder("by_id", ("_id", "_creationTime")).finish())
    assert interval.start <= edge < interval.end
    only = id_interval(10001, RangeBuilder("by_id", ("_id",)).eq("_id", encode_id(10001, edge)).finish())
    assert (only.start, only.end) == (edge, only.end)
    assert only.start < only.end


def test_a_path_through_something_else_than_an_object_is_missing() -> None:
    document = {"a": {"b": 1}, "c": [1]}
    assert field_at(document, ("a", "b")) == 1
    assert field_at(document, ("a", "x")) is MISSING
    assert field_at(document, ("c", "b")) is MISSING
    assert field_at(document, ("a", "b", "c")) is MISSING


def test_a_document_without_a_value_is_exempt_from_uniqueness() -> None:
    assert fields_part((("a",),), {}) is None
    assert fields_part((("a",),), {"a": None}) is None
    assert fields_part((("a",),), {"a": 0}) is not None


def test_a_point_holds_its_key_alone() -> None:
    assert point(b"k").start == b"k"
    assert b"k\x00" not in (point(b"k").start,)
    assert not point(b"k").start <= b"k\x00" < point(b"k").end
