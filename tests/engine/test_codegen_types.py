"""Every kind of validator as TypeScript, and names that try to get out of their quotes."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from engine.codegen_types import LINE_MAX, Types, field_paths
from tidewell import Int64, v
from tidewell.annotations import to_validator
from tidewell.validators import (
    Int64Validator,
    LiteralValidator,
    ObjectValidator,
    RecordValidator,
    UnionValidator,
    Validator,
    walk,
)

TABLE: list[tuple[Validator, str]] = [
    (v.null(), "null"),
    (v.number(), "number"),
    (to_validator(int), "number"),
    (v.int64(), "bigint"),
    (Int64Validator(is_commit_ts=True), "bigint"),
    (v.boolean(), "boolean"),
    (v.string(), "string"),
    (v.bytes(), "ArrayBuffer"),
    (v.any(), "any"),
    (v.id("users"), 'Id<"users">'),
    (v.literal("a"), '"a"'),
    (v.literal('"; evil(); //'), '"\\"; evil(); //"'),
    (v.literal("line\nbreak\u2028é"), '"line\\nbreak\\u2028\\u00e9"'),
    (v.literal(True), "true"),
    (v.literal(False), "false"),
    (v.literal(3), "3"),
    (v.literal(-2.5), "-2.5"),
    (v.literal(1e300), "1e+300"),
    (v.literal(float("inf")), "number"),
    (v.literal(float("nan")), "number"),
    (v.literal(-0.0), "number"),
    (v.literal(Int64(5)), "5n"),
    (v.literal(Int64(-5)), "-5n"),
    (v.array(v.string()), "Array<string>"),
    (v.array(v.union(v.string(), v.null())), "Array<string | null>"),
    (v.record(v.id("users"), v.number()), 'Record<Id<"users">, number>'),
    (v.record(v.string(), v.any()), "Record<string, any>"),
    (v.union(v.literal("a"), v.literal("b")), '"a" | "b"'),
    (v.union(v.number(), to_validator(int)), "number"),
    (v.union(), "never"),
    (v.object({}), "Record<string, never>"),
    (v.object({"a": v.string(), "b": v.optional(v.number())}), "{ a: string; b?: number }"),
    (v.object({"two words": v.null(), "1": v.null()}), '{ "two words": null; "1": null }'),
    (v.object({"}; evil(": v.null()}), '{ "}; evil(": null }'),
    (v.object({"a": v.object({"b": v.array(v.bytes())})}), "{ a: { b: Array<ArrayBuffer> } }"),
    (to_validator(dict[str, Any]), "Record<string, any>"),
    (to_validator(Literal["x", None]), '"x" | null'),
]


@pytest.mark.parametrize(("validator", "text"), TABLE)
def test_a_validator_becomes_its_type(validator: Validator, text: str) -> None:
    assert Types().text(validator) == text


def test_the_table_leaves_no_kind_of_validator_out() -> None:
    shown = {type(node) for validator, _ in TABLE for node in walk(validator)}
    assert shown == set(Validator.__subclasses__())


def test_a_long_object_has_a_line_for_each_field() -> None:
    inner = v.object({f"field_{number}": v.string() for number in range(8)})
    assert Types().text(v.object({"outer": v.array(inner)})) == "\n".join(
        [
            "{",
            "  outer: Array<{",
            *(f"    field_{number}: string;" for number in range(8)),
            "  }>;",
            "}",
        ]
    )


def test_no_line_of_plain_fields_is_longer_than_it_may_be() -> None:
    for width in range(1, 60):
        validator = v.object({"a" * width: v.string(), "b" * width: v.string()})
        assert all(len(line) <= LINE_MAX for line in Types().text(validator, 3).splitlines())


def test_ids_take_the_name_they_have_where_the_text_goes() -> None:
    assert Types("GenericId").text(v.array(v.id("users"))) == 'Array<GenericId<"users">>'


def test_field_paths_go_through_objects_and_unions_and_end_where_fields_are_not_known() -> None:
    document = UnionValidator(
        (
            ObjectValidator({"kind": LiteralValidator("a"), "at": v.object({"x": v.number()})}),
            ObjectValidator({"kind": LiteralValidator("b"), "tags": v.optional(v.any())}),
            ObjectValidator({"counts": RecordValidator(v.string(), v.number())}),
        )
    )
    assert field_paths(document) == [
        '"kind"',
        '"at"',
        '"at.x"',
        '"tags"',
        "`tags.${string}`",
        '"counts"',
        "`counts.${string}`",
    ]
    assert field_paths(v.any()) == ["string"]


def test_a_field_cannot_leave_the_template_of_its_path() -> None:
    hostile = ObjectValidator({"`; evil(); ${x} \\": v.any()})
    assert field_paths(hostile)[1] == "`\\`; evil(); \\${x} \\\\.${string}`"
