"""Schemas: how they are written, what is refused, and how they travel."""

from __future__ import annotations

from typing import Any

import pytest

from tidewell import Id, Schema, table, v
from tidewell.schema import from_json, to_json
from tidewell.validators import InvalidValidator

USER_ID: Any = Id["users"]  # type: ignore[name-defined]  # the name of a table
EVENTS = v.union(v.object({"kind": v.literal("a"), "at": v.number()}), v.object({"kind": v.literal("b")}))


def whole_schema() -> Schema:
    return Schema(
        users=table(name=str, email=str | None).index("by_email", "email", unique=True),
        posts=table(author=USER_ID, text=str, likes=int, tags=v.optional(list[str]))
        .index("by_author", "author", "likes")
        .index("by_likes", "likes", staged=True)
        .search_index("by_text", search_field="text", filter_fields=["author"]),
        events=table(EVENTS).index("by_kind", "kind", "at"),
        free=table({"from": v.any()}).index("by_depth", "from.a.b"),
        anything=table(v.any()).index("by_x", "x"),
    )


def test_a_schema_reads_back_from_its_data() -> None:
    schema = whole_schema()
    assert from_json(to_json(schema)) == schema
    assert from_json(to_json(Schema({}, schema_validation=False))).schema_validation is False


def test_doc_adds_the_system_fields_to_every_member() -> None:
    system = {"_id": v.id("events"), "_creationTime": v.number()}
    assert whole_schema().doc("events") == v.union(
        *(member.extend(system) for member in EVENTS.members)  # type: ignore[attr-defined]  # a union of objects
    )
    assert whole_schema().id("users") == v.id("users")
    with pytest.raises(InvalidValidator, match="no table of that name; the tables are users"):
        whole_schema().id("nope")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: table(_x=str), "starts with '_'"),
        (lambda: table({"a b": str}), "not an identifier"),
        (lambda: table(v.string()), "a document is an object"),
        (lambda: table(a=str).index("by_b", "b"), "no document of the table has a field 'b'"),
        (lambda: table(a=str).index("by_a"), "names no field"),
        (lambda: table(a=str).index("by_a", "a", "a"), "names a field twice"),
        (lambda: table(a=str).index("by_a", "a").index("again", "a"), "have the same fields"),
        (lambda: table(a=str, b=str).index("by_a", "a").index("by_a", "b"), "two indexes named"),
        (lambda: table(a=str).index("by_id", "a"), "exists on every table"),
        (lambda: table(a=str).index("_a", "a"), "not a name for an index"),
        (lambda: table(a=str).index("by_a", "a", "_creationTime"), "part of every index already"),
        (lambda: table(a=v.any()).index("x", *(f"a.f{n}" for n in range(16))), "at most 15"),
        (lambda: Schema(_users=table(a=str)), "not a name for a table"),
        (lambda: Schema(users="x"), "must be table"),  # type: ignore[arg-type]  # the mistake
    ],
)
def test_a_mistake_in_a_schema_says_what_is_wrong(build: Any, message: str) -> None:
    with pytest.raises(InvalidValidator, match=message):
        build()


def test_a_table_has_at_most_32_indexes() -> None:
    wide = table({f"f{n}": v.any() for n in range(40)})
    for n in range(32):
        wide = wide.index(f"by_{n}", f"f{n}")
    with pytest.raises(InvalidValidator, match="more than 32"):
        wide.index("one_more", "f32")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("tables"),
        lambda data: data.update(tables=3),
        lambda data: data["tables"].append(data["tables"][0]),
        lambda data: data["tables"][0].update(name="_secret"),
        lambda data: data["tables"][0]["indexes"].append({"name": "by_q", "fields": ["_id"]}),
        lambda data: data["tables"][0].update(document={"type": "string"}),
        lambda data: data["tables"][0].update(indexes=[3]),
        lambda data: data.update(schemaValidation=3),
    ],
)
def test_damaged_data_is_refused(damage: Any) -> None:
    data = to_json(whole_schema())
    damage(data)
    with pytest.raises(InvalidValidator):
        from_json(data)
