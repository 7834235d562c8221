"""Taking values in from guests: the same as `normalize`, paid for, capped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.convert import refuse_wide, take_in, take_in_wide
from sandbox.faults import Terminated
from sandbox.meter import Meter
from tidewell.errors import InvalidValue, LimitExceeded
from tidewell.values import MISSING, Int64, normalize, pack

from .guest_app import GuestApp

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(Int64, st.integers(-(2**63), 2**63 - 1)),
)
odd_leaves = st.sampled_from([2**60, "\ud800", {1, 2}, object(), MISSING, 1j])
keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=4)
odd_keys = st.sampled_from(["", "$x", "é", "a\n", "k" * 1025, 3, None])


def trees(leaf: st.SearchStrategy[Any], key: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(key, inner, max_size=4)
        ),
        max_leaves=12,
    )


def charge(steps: int) -> None:
    assert steps >= 0


@given(trees(leaves | st.just(MISSING), keys) | trees(leaves | odd_leaves, keys | odd_keys))
def test_a_value_is_taken_in_as_normalize_does(value: Any) -> None:
    try:
        expected = normalize(value, "x")
    except InvalidValue:
        with pytest.raises(InvalidValue) as caught:
            refuse_wide(take_in_wide(value, "x", charge, is_document=True)[0], "x")
        assert caught.value.path.startswith("x")
    else:
        assert pack(take_in_wide(value, "x", charge, is_document=True)[0]) == pack(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, {"b": {3}}]}, "x.a[1].b: an object of type set is not a value"),
        ({"a": {"$b": 1}}, "x.a: the key '$b' starts with '$'"),
        ([MISSING], "x[0]: MISSING stands for an absent field"),
        ({"a": {"b": MISSING}}, "x.a.b: MISSING stands for an absent field"),
        ({"a": 2**53 + 1}, "x.a: the integer 9007199254740993 is outside"),
        ([[[[1]]]], "x[0][0][0]: nested too deeply"),
        (["y" * 2000], "TooLargeValue: x is larger than 1000 bytes"),
        ([0] * 8193, "x: an array of 8193 elements, at most 8192"),
    ],
)
def test_a_refusal_names_the_place(value: Any, message: str) -> None:
    with pytest.raises((InvalidValue, LimitExceeded)) as caught:
        take_in(value, "x", charge, depth_max=3, bytes_max=1000)
    assert str(caught.value).startswith(message)


def test_shared_parts_are_paid_for_each_time_they_are_met() -> None:
    bomb: Any = [0]
    for _ in range(40):
        bomb = [bomb, bomb]
    meter = Meter(fuel=100_000)
    with pytest.raises(Terminated):
        take_in(bomb, "x", meter.charge)


def test_a_value_that_contains_itself_nests_too_deeply() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(InvalidValue, match="nested too deeply"):
        take_in(ring, "x", charge)


def test_large_texts_cost_by_their_length() -> None:
    spent: list[int] = []
    take_in("x" * 2**20, "x", spent.append)
    assert sum(spent) >= 2**20 // 512


APP = {
    "m.py": """
        from dataclasses import dataclass, field
        from datetime import datetime
        from tidewell import MISSING, query

        @dataclass
        class Point:
            x: int
            tags: list[str] = field(default_factory=list)

        @query
        def points(ctx):
            return {"all": (Point(1), Point(2, ["a"]))}

        @query
        def a_set(ctx):
            return [{1, 2}]

        @query
        def a_query(ctx):
            return ctx.db.query("x")

        @query
        def a_moment(ctx):
            return {"at": datetime.now()}

        @query
        def missing(ctx):
            return {"a": MISSING}

        @query
        def missing_argument(ctx):
            return ctx.run_query("m:takes", {"point": {"x": 1}, "b": MISSING})

        @query
        def takes(ctx, point: Point) -> int:
            return point["x"]
    """
}


def test_a_guests_dataclass_is_the_dict_of_its_fields() -> None:
    app = GuestApp(APP)
    assert app.query("m:points") == {"all": [{"x": 1, "tags": []}, {"x": 2, "tags": ["a"]}]}
    assert app.query("m:takes", point={"x": 3}) == 3
    assert app.outcome("query", "m:takes", {"point": {"tags": []}}).code == "ArgumentValidation"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("m:a_set", "ReturnsValidationError: returns[0]: a set is not a value; use sorted(...) or list(...)"),
        ("m:a_query", "ReturnsValidationError: returns: a query is not a value; end it with .collect()"),
        ("m:a_moment", "ReturnsValidationError: returns.at: a datetime is not a value; use x.isoformat() or"),
        ("m:missing", "ReturnsValidationError: returns.a: MISSING stands for an absent field"),
        ("m:missing_argument", "Uncaught InvalidValue: args.b: MISSING stands for an absent field"),
    ],
)
def test_a_result_that_is_no_value_says_what_to_do(path: str, message: str) -> None:
    assert GuestApp(APP).outcome("query", path).error.startswith(message)


CONTAINERS = {
    "m.py": """
        from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
        from decimal import Decimal
        from typing import NamedTuple
        from tidewell import mutation, query

        Point = namedtuple("Point", "x y")

        class Row(NamedTuple):
            name: str
            sizes: tuple = ()

        @query
        def containers(ctx):
            grouped = defaultdict(list)
            grouped["b"].append(Counter("aab"))
            grouped["a"].append(Point(1, Row("n", (Point(2, 3),))))
            return [grouped, OrderedDict(z=1, y=OrderedDict()), {"p": Point(None, [])}]

        @query
        def odd(ctx, which: str):
            d = defaultdict(list)
            if which == "keys":
                return Counter([1, 2])
            if which == "deque":
                return {"a": deque([1])}
            if which == "decimal":
                return [Decimal(1)]
            if which == "itself":
                d["d"] = d
                return d
            if which == "inside":
                d["p"] = Point(1, {"q": {3}})
                return d
            d["big"] = "a" * 10 ** 6
            return [d] * 30

        @mutation
        def keep(ctx):
            id = ctx.db.insert("rows", defaultdict(int, n=Point(1, 2)))
            return ctx.db.get(id)["n"]
        """,
}


def test_containers_of_the_facades_stand_for_dicts_and_tuples() -> None:
    app = GuestApp(CONTAINERS)
    assert app.query("m:containers") == [
        {"a": [[1, ["n", [[2, 3]]]]], "b": [{"a": 2, "b": 1}]},
        {"z": 1, "y": {}},
        {"p": [None, []]},
    ]
    assert app.mutate("m:keep") == [1, 2]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ("keys", "object keys must be strings, found a int"),
        ("deque", "a deque is not a value; use list(...)"),
        ("decimal", "a Decimal is not a value; use str(...) or float(...)"),
        ("itself", "nested too deeply"),
        ("inside", ".p[1].q: a set is not a value; use sorted(...) or list(...)"),
        ("size", "TooLargeValue"),
    ],
)
def test_a_container_that_holds_no_values_is_an_error_with_its_place(which: str, message: str) -> None:
    outcome = GuestApp(CONTAINERS).outcome("query", "m:odd", {"which": which})
    assert outcome.kind == "function"
    assert message in outcome.error
