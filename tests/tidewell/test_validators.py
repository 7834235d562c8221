"""Validators against function-semantics 6: what each accepts, and how a refusal reads."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, NotRequired, Optional, TypedDict, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewell import Id, Int64, PaginationOpts, v
from tidewell.annotations import to_validator
from tidewell.errors import ValidationFailed
from tidewell.ids import encode_id
from tidewell.validator_json import from_json, to_json
from tidewell.validators import InvalidValidator, Scope, Validator, accepts, check
from tidewell.values import normalize

USER = encode_id(10_001, bytes(16))
POST = encode_id(10_002, bytes(16))
TABLES = Scope(table_number={"users": 10_001, "posts": 10_002}.get)
FROM_CLIENT = Scope(table_number=TABLES.table_number, coerces=False)

USER_ID: Any = Id["users"]  # type: ignore[name-defined]  # the name of a table

VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    1.5,
    float("inf"),
    -0.0,
    Int64(1),
    "",
    "a",
    b"",
    [],
    ["a"],
    {},
    {"a": 1},
]


@pytest.mark.parametrize(
    ("validator", "accepted"),
    [
        (v.null(), [None]),
        (v.boolean(), [True]),
        (v.number(), [0, 1, 1.5, float("inf"), -0.0]),
        (v.float64(), [0, 1, 1.5, float("inf"), -0.0]),
        (v.int64(), [Int64(1)]),
        (v.commit_ts(), [Int64(1)]),
        (v.string(), ["", "a"]),
        (v.bytes(), [b""]),
        (v.array(v.string()), [[], ["a"]]),
        (v.array(v.number()), [[]]),
        (v.object({}), [{}]),
        (v.object({"a": v.number()}), [{"a": 1}]),
        (v.object({"a": v.optional(v.number())}), [{}, {"a": 1}]),
        (v.record(v.string(), v.number()), [{}, {"a": 1}]),
        (v.union(), []),
        (v.union(v.null(), v.string()), [None, "", "a"]),
        (v.nullable(v.boolean()), [None, True]),
        (v.literal("a"), ["a"]),
        (v.literal(1), [1]),
        (v.literal(True), [True]),
        (v.any(), VALUES),
    ],
    ids=repr,
)
def test_a_client_value_is_accepted_by_its_own_kind_only(validator: Validator, accepted: list[Any]) -> None:
    found = [value for value in VALUES if accepts(validator, value, FROM_CLIENT)]
    assert list(map(repr, found)) == list(map(repr, accepted))


def test_a_plain_int_from_python_becomes_an_int64_where_the_validator_says_so() -> None:
    document = check(v.object({"n": v.array(v.int64())}), {"n": [1, Int64(2)]})
    assert document == {"n": [1, 2]}
    assert [type(item) for item in document["n"]] == [Int64, Int64]


def test_checking_never_changes_the_value_it_was_given() -> None:
    given_value = {"n": [1]}
    check(v.object({"n": v.array(v.int64())}), given_value)
    assert type(given_value["n"][0]) is int


def test_an_id_is_of_its_table_and_need_not_exist() -> None:
    assert check(v.id("users"), USER, "id", TABLES) == USER
    for wrong in (POST, "nonsense", 3, None):
        assert not accepts(v.id("users"), wrong, TABLES)
    assert not accepts(v.id("nowhere"), USER, TABLES)


@pytest.mark.parametrize(
    ("validator", "value", "message"),
    [
        (v.string(), 3, "args: found the number 3, expected a string"),
        (
            v.object({"items": v.array(v.object({"price": v.number()}))}),
            {"items": [{"price": 1}, {"price": "2"}]},
            "args.items[1].price: found the string '2', expected a number",
        ),
        (v.object({"a": v.string()}), {}, "args: the field 'a' is missing, expected a string"),
        (
            v.object({"a": v.string()}),
            {"a": "x", "b": 1},
            "args: the extra field 'b' (the number 1) is not expected; the fields are a",
        ),
        (v.record(v.string(), v.null()), {"a b": 1}, "args['a b']: found the number 1, expected null"),
        (v.nullable(v.string()), 5, "args: found the number 5, expected a string or null"),
        (to_validator(int), 1.5, "args: found the number 1.5, expected an integral number"),
    ],
)
def test_a_refusal_names_path_found_and_expected(validator: Validator, value: Any, message: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        check(validator, value, "args")
    assert str(caught.value) == message


def test_a_union_reports_the_member_that_got_furthest() -> None:
    shape = v.union(
        v.object({"kind": v.literal("circle"), "radius": v.number(), "label": v.string()}),
        v.object({"kind": v.literal("box"), "sides": v.array(v.number()), "label": v.string()}),
    )
    with pytest.raises(ValidationFailed) as caught:
        check(shape, {"kind": "box", "sides": [1, "2"], "label": "x"}, "args")
    assert str(caught.value) == "args.sides[1]: found the string '2', expected a number"
    with pytest.raises(ValidationFailed) as caught:
        check(shape, {"kind": "cone"}, "args")
    assert str(caught.value) == (
        "args.kind: found the string 'cone', expected the literal 'circle' or the literal 'box'"
    )


def test_a_union_inside_an_object_merges_what_it_expects_too() -> None:
    shape = v.object({"is": v.union(v.object({"a": v.literal("x")}), v.object({"a": v.literal("y")}))})
    with pytest.raises(ValidationFailed) as caught:
        check(shape, {"is": {"a": "z"}}, "args")
    assert str(caught.value) == "args.is.a: found the string 'z', expected the literal 'x' or the literal 'y'"


def test_unions_in_unions_take_no_time_without_end() -> None:
    validator, value = v.string(), cast(Any, 1)
    for _ in range(30):
        validator = v.union(v.array(validator), v.array(v.array(validator)), v.array(validator))
        value = [value]
    with pytest.raises(ValidationFailed, match="more than 200000 alternatives"):
        check(validator, value)
    spent: list[int] = []
    check(v.union(v.null(), v.string()), "x", scope=Scope(spend=spent.append))
    assert spent == [1, 1]


def test_a_refusal_of_a_large_value_stays_short() -> None:
    with pytest.raises(ValidationFailed) as caught:
        check(v.null(), {"a" * 500: ["x" * 10_000] * 8000}, "args")
    assert len(str(caught.value)) < 200


class Options(TypedDict):
    name: str
    limit: NotRequired[int]


@dataclasses.dataclass
class Place:
    name: str
    stars: float = 0


@attrs.frozen
class Point:
    x: float
    y: float = 0


@pytest.mark.parametrize(
    ("annotation", "validator"),
    [
        (str, v.string()),
        (bytes, v.bytes()),
        (bool, v.boolean()),
        (None, v.null()),
        (float, v.number()),
        (Int64, v.int64()),
        (USER_ID, v.id("users")),
        (list[str], v.array(v.string())),
        (list, v.array(v.any())),
        (dict[str, float], v.record(v.string(), v.number())),
        (str | None, v.nullable(v.string())),
        (Optional[str], v.nullable(v.string())),  # noqa: UP045  # the spelling is what is tested
        (USER_ID | None, v.nullable(v.id("users"))),
        (str | float | None, v.union(v.string(), v.number(), v.null())),
        (Literal["a", "b"], v.union(v.literal("a"), v.literal("b"))),
        (Literal["a"], v.literal("a")),
        (Literal["a", "b"] | None, v.nullable(v.union(v.literal("a"), v.literal("b")))),
        (Optional[Literal["a", "b", None]], v.nullable(v.union(v.literal("a"), v.literal("b")))),  # noqa: UP045
        (Literal[1, True] | None, v.union(v.literal(1), v.literal(True), v.null())),
        (Any, v.any()),
        (Options, v.object({"name": str, "limit": v.optional(int)})),
        (Place, v.object({"name": str, "stars": v.optional(v.number())})),
        (Point, v.object({"x": float, "y": v.optional(float)})),
        (PaginationOpts, v.pagination_opts()),
        (v.array(list[str]), v.array(v.array(v.string()))),
    ],
    ids=repr,
)
def test_an_annotation_builds_the_tree_that_v_builds(annotation: Any, validator: Validator) -> None:
    assert to_validator(annotation) == validator


@pytest.mark.parametrize("annotation", [set, list[set[str]], 5, "text", tuple[int, ...], dict[int, str]])
def test_an_annotation_that_is_no_value_is_refused(annotation: Any) -> None:
    with pytest.raises(InvalidValidator):
        to_validator(annotation)


@pytest.mark.parametrize(
    "build",
    [
        lambda: v.array(v.optional(v.string())),
        lambda: v.union(v.optional(v.string())),
        lambda: v.record(v.literal("a"), v.any()),
        lambda: v.record(v.string(), v.optional(v.any())),
        lambda: v.literal([]),
        lambda: v.literal(2**60),
        lambda: v.object({"$x": v.any()}),
        lambda: v.object({3: v.any()}),  # type: ignore[dict-item]  # the mistake
        lambda: v.object({"a": v.string()}).pick("b"),
        lambda: v.id(""),
    ],
)
def test_a_validator_that_cannot_be_is_refused(build: Any) -> None:
    with pytest.raises(InvalidValidator):
        build()


def test_objects_pick_omit_extend_and_go_partial() -> None:
    base = v.object({"a": v.string(), "b": v.number()})
    assert base.pick("a") == v.object({"a": v.string()})
    assert base.omit("a") == v.object({"b": v.number()})
    assert base.extend({"c": bool}) == v.object({"a": str, "b": float, "c": bool})
    assert base.partial() == v.object({"a": v.optional(str), "b": v.optional(float)})


leaves = st.sampled_from(
    [
        v.any(), v.null(), v.boolean(), v.string(), v.bytes(), v.number(), v.int64(), v.commit_ts(),
        v.id("users"), v.literal("a"), v.literal(1.5), v.literal(Int64(-(2**63))), v.literal(True),
        to_validator(int),
    ]
)  # fmt: skip
names = st.sampled_from(["a", "b", "long name", "c_1"])
validators = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(v.array, inner),
        st.lists(inner, max_size=3).map(lambda members: v.union(*members)),
        st.builds(lambda values: v.record(v.string(), values), inner),
        st.dictionaries(names, st.one_of(inner, st.builds(v.optional, inner)), max_size=3).map(v.object),
    ),
    max_leaves=8,
)
values = st.recursive(
    st.sampled_from([value for value in VALUES if not isinstance(value, list | dict)] + [USER]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
).map(normalize)


@given(validators)
def test_json_of_a_validator_reads_back_as_the_same_tree(validator: Validator) -> None:
    assert from_json(to_json(validator)) == validator


@given(validators, values)
def test_a_check_is_idempotent_and_its_refusals_have_a_path(validator: Validator, value: Any) -> None:
    if not accepts(validator, value, TABLES):
        with pytest.raises(ValidationFailed, match=r"^args") as caught:
            check(validator, value, "args", TABLES)
        assert caught.value.found
    else:
        result = check(validator, value, "args", TABLES)
        assert check(validator, result, "args", FROM_CLIENT) is result


json_trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["array", "object", "id"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "value", "keys", "values", "fieldType", "optional", "tableName", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(json_trees)
def test_data_that_is_no_validator_is_refused_and_never_breaks(data: Any) -> None:
    try:
        validator = from_json(data)
    except InvalidValidator:
        return
    assert to_json(validator) == data or data.get("integral") is False


def test_json_that_nests_without_end_is_refused() -> None:
    data: Any = {"type": "any"}
    for _ in range(200):
        data = {"type": "array", "value": data}
    with pytest.raises(InvalidValidator, match="nested too deeply"):
        from_json(data)
