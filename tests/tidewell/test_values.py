"""The value rules of `function-semantics.md` 2 and 3 and the wire forms of `sync-protocol.md` 11."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewell.errors import InvalidValue
from tidewell.values import (
    MISSING,
    Int64,
    canonical_text,
    from_wire,
    normalize,
    pack,
    parse_json,
    plain_json,
    size_bytes,
    to_wire,
    unpack,
    wire_json,
)

keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=8).filter(
    lambda key: not key.startswith("$")
)
numbers = st.one_of(
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=12), st.binary(max_size=12))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    """Equality that tells 1 from True, -0.0 from 0 and Int64 from int."""
    return pack(a) == pack(b)


@given(values)
def test_what_is_packed_comes_back(value: object) -> None:
    canonical = normalize(value)
    assert same(unpack(pack(canonical)), canonical)


@given(values)
def test_what_goes_over_the_wire_comes_back(value: object) -> None:
    canonical = normalize(value)
    assert same(from_wire(parse_json(wire_json(canonical))), canonical)


@given(values)
def test_normalizing_twice_changes_nothing(value: object) -> None:
    canonical = normalize(value)
    assert same(normalize(canonical), canonical)


@given(values)
def test_no_bare_integer_leaves_on_the_wire(value: object) -> None:
    def walk(tree: object) -> None:
        assert type(tree) is not int, tree
        if isinstance(tree, dict):
            for item in tree.values():
                walk(item)
        elif isinstance(tree, list):
            for item in tree:
                walk(item)

    walk(json.loads(wire_json(normalize(value))))


@given(st.binary(max_size=64))
def test_unpack_of_anything_is_a_canonical_value_or_a_clear_error(data: bytes) -> None:
    try:
        value = unpack(data)
    except InvalidValue:
        return
    assert same(normalize(value), value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (Int64(1), {"$integer": "AQAAAAAAAAA="}),
        (Int64(-1), {"$integer": "//////////8="}),
        (Int64(2**63 - 1), {"$integer": "/////////38="}),
        (math.inf, {"$float": "AAAAAAAA8H8="}),
        (-math.inf, {"$float": "AAAAAAAA8P8="}),
        (math.nan, {"$float": "AAAAAAAA+H8="}),
        (-0.0, {"$float": "AAAAAAAAAIA="}),
        (b"\x00\xff", {"$bytes": "AP8="}),
    ],
)
def test_the_vectors_of_the_protocol(value: object, wire: object) -> None:
    assert to_wire(normalize(value)) == wire
    assert same(from_wire(wire), normalize(value))


def test_numbers_always_have_a_point_or_an_exponent() -> None:
    assert wire_json([3, -1, 2**53, 1e300, 0.5]) == b"[3.0,-1.0,9007199254740992.0,1e300,0.5]"


@pytest.mark.parametrize(
    ("given_value", "read_back"),
    [(3.0, 3), (1e15, 10**15), (2.5, 2.5), (float(2**53), 2**53), (float(2**54), float(2**54)), (0, 0)],
)
def test_a_number_comes_back_as_the_python_number_that_it_is(given_value: object, read_back: object) -> None:
    value = normalize(given_value)
    assert value == read_back
    assert type(value) is type(read_back)


def test_negative_zero_stays_a_float() -> None:
    assert math.copysign(1, normalize(-0.0)) == -1


def test_there_is_one_nan() -> None:
    odd = struct.unpack("<d", bytes.fromhex("010000000000f8ff"))[0]
    assert pack(normalize(odd)) == pack(normalize(math.nan))


def test_a_large_integral_number_of_a_browser_is_read_as_a_double() -> None:
    assert from_wire(parse_json(b"9007199254740993")) == 2**53
    assert from_wire(parse_json(b"123456789012345678901")) == 123456789012345683968.0


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        (2**53 + 1, "value", "Int64"),
        ({"a": [1, {2, 3}]}, "value.a[1]", "set"),
        ({"a": {1: 2}}, "value.a", "strings"),
        ({"$a": 1}, "value", "reserved"),
        ({"": 1}, "value", "empty"),
        ({"é": 1}, "value", "ASCII"),
        ("\ud800", "value", "surrogate"),
        ([MISSING], "value[0]", "MISSING"),
        (object(), "value", "object"),
    ],
)
def test_what_is_not_a_value_is_refused_with_its_path(value: object, path: str, words: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        normalize(value)
    assert caught.value.path == path
    assert words in caught.value.problem


def test_a_cycle_and_a_deep_nesting_are_refused() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(InvalidValue, match="deep"):
        normalize(cycle)


@pytest.mark.parametrize(
    "wire",
    [
        {"$integer": "AQAAAAAAAAA=", "b": 1},
        {"$foo": 1},
        {"$undefined": None},
        {"$set": []},
        {"$integer": "AQ=="},
        {"$integer": 5},
        {"$float": "AAAAAAAA8D8="},
        {"$bytes": "?"},
        {"a": {"$b": 1}},
    ],
)
def test_malformed_wire_objects_are_refused(wire: object) -> None:
    with pytest.raises(InvalidValue):
        from_wire(wire)


def test_a_lone_surrogate_in_json_is_refused() -> None:
    with pytest.raises(InvalidValue):
        from_wire(parse_json(b'"\\ud800"'))


def test_missing_fields_vanish_and_keys_are_sorted() -> None:
    assert list(normalize({"b": 1, "a": MISSING, "A": 2}).items()) == [("A", 2), ("b", 1)]


def test_sizes_follow_the_formula() -> None:
    assert size_bytes(None) == size_bytes(True) == 1
    assert size_bytes(1) == size_bytes(1.5) == size_bytes(Int64(1)) == 9
    assert size_bytes("é") == 4
    assert size_bytes(b"abc") == 5
    assert size_bytes([1, "a"]) == 2 + 9 + 3
    assert size_bytes({"ab": None}) == 2 + 2 + 1 + 1


def test_plain_json_is_readable() -> None:
    value = normalize({"i": Int64(5), "b": b"\x00\xff", "n": math.nan, "f": -math.inf, "x": [1, 2.5]})
    assert plain_json(value) == {"b": "AP8=", "f": "-Infinity", "i": "5", "n": "NaN", "x": [1, 2.5]}


def test_canonical_text_prints_integral_numbers_without_a_fraction() -> None:
    assert canonical_text({"a": 3, "b": 0.1}) == '{"a":3,"b":0.1}'


def test_int64_is_bounded_and_its_arithmetic_is_plain() -> None:
    with pytest.raises(OverflowError):
        Int64(2**63)
    assert type(Int64(1) + 1) is int
    assert f"{Int64(7)}" == "7"
