"""`ctx.db` by the tables of function-semantics 5, 8, 9 and 11, over both databases."""

from __future__ import annotations

from typing import Any

import pytest

from tidewell.ids import encode_id
from tidewell.values import unpack

from ..sandbox.guest_app import GuestApp
from .conftest import MakeApp

APP = {
    "schema.py": """
        from tidewell import Id, Schema, table, v

        schema = Schema(
            users=table(name=str, key=str).index("by_key", "key", unique=True),
            posts=table(author=v.any(), n=v.any(), at=v.optional(v.any()), tags=v.optional(list[str]))
                .index("by_author", "author", "n")
                .index("by_n", "n")
                .index("by_place", "at.place"),
        )
    """,
    "db.py": """
        from tidewell import AppError, Id, MISSING, mutation, query

        @mutation
        def insert(ctx, table: str, documents: list):
            return [ctx.db.insert(table, document) for document in documents]

        @mutation
        def patch(ctx, id: str, fields: dict, remove: list = None):
            for name in remove or []:
                fields[name] = MISSING
            ctx.db.patch(id, fields)
            return ctx.db.get(id)

        @mutation
        def replace(ctx, id: str, document: dict):
            ctx.db.replace(id, document)
            return ctx.db.get(id)

        @mutation
        def delete(ctx, id: str):
            ctx.db.delete(id)
            return ctx.db.get(id)

        @query
        def get(ctx, id: str, table: str = None):
            return ctx.db.get(id) if table is None else ctx.db.get(table, id)

        @query
        def normalize(ctx, table: str, text: str):
            return ctx.db.normalize_id(table, text)

        @query
        def all(ctx, table: str = "posts", order: str = "asc"):
            return [post["n"] for post in ctx.db.query(table).order(order)]

        @query
        def take(ctx, n: int):
            return [post["n"] for post in ctx.db.query("posts").take(n)]

        @query
        def by_author(ctx, author: str):
            rows = ctx.db.query("posts").with_index("by_author", lambda q: q.eq("author", author))
            return [post["n"] for post in rows.collect()]

        @query
        def places(ctx, present: bool):
            posts = ctx.db.query("posts")
            if present:
                return posts.with_index("by_place", lambda q: q.gt("at.place", MISSING)).count()
            return posts.with_index("by_place", lambda q: q.eq("at.place", MISSING)).count()

        @query
        def filtered(ctx):
            posts = ctx.db.query("posts")
            wanted = posts.filter(lambda q: q.and_(q.gt(q.field("n"), 1), q.ne(q.field("author"), "b")))
            return [post["n"] for post in wanted.collect()]

        @query
        def first_and_unique(ctx, author: str):
            def rows():
                return ctx.db.query("posts").with_index("by_author", lambda q: q.eq("author", author))
            return [rows().first(), rows().unique()]

        @query
        def twice(ctx):
            rows = ctx.db.query("posts")
            rows.collect()
            return rows.first()

        @query
        def moved(ctx):
            rows = ctx.db.query("posts")
            rows.order("desc")
            return rows.collect()

        @mutation
        def delete_while_iterating(ctx):
            seen = []
            for post in ctx.db.query("posts").with_index("by_n"):
                seen.append(post["n"])
                ctx.db.delete(post["_id"])
                if post["n"] < 3:
                    ctx.db.insert("posts", {"author": "z", "n": post["n"] + 10})
            return seen

        @mutation
        def sees_own_writes(ctx):
            ctx.db.insert("posts", {"author": "me", "n": 2.5})
            return [post["n"] for post in ctx.db.query("posts").with_index("by_n").collect()]

        @mutation
        def changes_nothing(ctx, id: str):
            document = ctx.db.get(id)
            document["n"] = "changed in my own copy"
            ctx.db.patch(id, {"author": document["author"]})
            ctx.db.replace(id, {**document, "n": ctx.db.get(id)["n"]})

        @mutation
        def nested_rolls_back(ctx, id: str):
            try:
                ctx.run_mutation("db:write_and_fail", {"id": id})
            except Exception as error:
                told = error.message
            return [told, ctx.db.get(id)["n"], ctx.db.query("posts").count(), ctx.db.query("fresh").count()]

        @mutation
        def write_and_fail(ctx, id: str):
            ctx.db.patch(id, {"n": -1})
            ctx.db.insert("posts", {"author": "x", "n": 0})
            ctx.db.insert("fresh", {"n": 0})
            raise ValueError("undo this")

        @mutation
        def times(ctx, count: int):
            ids = [ctx.db.insert("posts", {"author": "t", "n": n}) for n in range(count)]
            return [ctx.db.get(id)["_creationTime"] for id in ids]

        @query
        def system(ctx):
            return ctx.db.system.query("_storage").collect()

        @query
        def system_as_user_table(ctx):
            return ctx.db.query("_storage").collect()

        @query
        def user_table_as_system(ctx):
            return ctx.db.system.query("posts").collect()
    """,
}


@pytest.fixture
def app(make_app: MakeApp) -> GuestApp:
    return make_app(APP)


def insert(app: GuestApp, *documents: dict[str, Any], table: str = "posts") -> list[str]:
    ids: list[str] = app.mutate("db:insert", table=table, documents=list(documents))
    return ids


def error_of(app: GuestApp, kind: str, path: str, /, **args: Any) -> tuple[str, str]:
    outcome = app.outcome(kind, path, args)
    assert outcome.kind == "function", outcome
    assert outcome.writes == b""
    return outcome.code, outcome.error.splitlines()[0].removeprefix("Uncaught ")


def test_a_document_comes_back_with_its_system_fields(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1.0, "tags": ["x"]})
    document = app.query("db:get", id=post)
    assert document == {
        "_id": post, "_creationTime": document["_creationTime"], "author": "a", "n": 1, "tags": ["x"],
    }  # fmt: skip
    assert type(document["n"]) is int
    assert app.query("db:get", id=post, table="posts") == document


def test_a_patch_merges_and_missing_removes(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1, "tags": []})
    patched = app.mutate("db:patch", id=post, fields={"n": None}, remove=["tags", "at"])
    assert {name: patched[name] for name in patched if name[0] != "_"} == {"author": "a", "n": None}


def test_a_replace_keeps_id_and_creation_time(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1})
    before = app.query("db:get", id=post)
    after = app.mutate("db:replace", id=post, document={"author": "b", "n": 2, "_id": post})
    assert after == {**before, "author": "b", "n": 2}


def test_a_deleted_document_is_gone_and_cannot_be_written(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1})
    assert app.mutate("db:delete", id=post) is None
    assert app.query("db:get", id=post) is None
    for path, more in (
        ("db:patch", {"fields": {}}),
        ("db:replace", {"document": {"author": 1, "n": 1}}),
        ("db:delete", {}),
    ):
        code, text = error_of(app, "mutation", path, id=post, **more)
        assert code == "NotFound"
        assert post in text


def test_writes_that_change_nothing_write_nothing(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1})
    outcome = app.outcome("mutation", "db:changes_nothing", {"id": post})
    assert outcome.kind == "value", outcome.error
    assert outcome.writes == b""


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "missing field": (
        {"n": 1},
        "SchemaValidationError: posts: the field 'author' is missing, expected any value",
    ),
    "wrong kind": (
        {"author": 1, "n": 1, "tags": [1]},
        "SchemaValidationError: posts.tags[0]: found the number 1, expected a string",
    ),
    "extra field": (
        {"author": 1, "n": 1, "x": 1},
        "SchemaValidationError: posts: the extra field 'x' (the number 1) is not expected; "
        "the fields are author, n, at, tags",
    ),
    "underscore": (
        {"author": 1, "n": 1, "_x": 1},
        "InvalidValue: posts: the field '_x' starts with '_', which is kept for system fields",
    ),
    "system field": (
        {"author": 1, "n": 1, "_id": "x"},
        "InvalidValue: posts._id: is a system field, which the database sets",
    ),
    "too large": (
        {"author": 1, "n": "x" * 2**20},
        "LimitExceeded: TooLargeValue: posts is larger than 1048576 bytes",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_document_that_may_not_be_is_refused(app: GuestApp, mistake: str) -> None:
    document, text = REFUSED[mistake]
    assert error_of(app, "mutation", "db:insert", table="posts", documents=[document])[1] == text


def test_documents_nest_16_deep_and_no_deeper(app: GuestApp) -> None:
    def nested(depth: int) -> Any:
        return {"in": nested(depth - 1)} if depth else 1

    insert(app, {"author": 1, "n": nested(15)})
    code, text = error_of(
        app, "mutation", "db:insert", table="posts", documents=[{"author": 1, "n": nested(16)}]
    )
    assert code == "InvalidValue"
    assert "nested too deeply" in text


def test_a_unique_index_refuses_a_second_document(app: GuestApp) -> None:
    insert(app, {"name": "Ada", "key": "ada"}, table="users")
    code, _ = error_of(app, "mutation", "db:insert", table="users", documents=[{"name": "X", "key": "ada"}])
    assert code == "UniqueViolated"


def test_ids_are_of_one_table_and_of_no_system_table(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1})
    assert app.query("db:normalize", table="posts", text=post) == post
    assert app.query("db:normalize", table="users", text=post) is None
    assert app.query("db:normalize", table="posts", text="nonsense") is None
    assert app.query("db:normalize", table="nowhere", text=post) is None
    assert error_of(app, "query", "db:get", id=post, table="users")[0] == "WrongTable"
    assert error_of(app, "query", "db:get", id="nonsense")[0] == "WrongTable"
    system = encode_id(7, bytes(16))
    assert error_of(app, "query", "db:get", id=system)[0] == "WrongTable"
    assert error_of(app, "mutation", "db:delete", id=system)[0] == "WrongTable"
    assert error_of(app, "mutation", "db:insert", table="_storage", documents=[{}])[0] == "WrongTable"


def test_system_tables_are_read_through_system_alone(app: GuestApp) -> None:
    assert app.query("db:system") == []
    assert error_of(app, "query", "db:system_as_user_table")[0] == "WrongTable"
    assert error_of(app, "query", "db:user_table_as_system")[0] == "WrongTable"


def test_queries_are_ordered_and_stop_where_they_are_told(app: GuestApp) -> None:
    insert(app, *({"author": "ab"[n % 2], "n": n} for n in range(5)))
    assert app.query("db:all") == [0, 1, 2, 3, 4]
    assert app.query("db:all", order="desc") == [4, 3, 2, 1, 0]
    assert app.query("db:take", n=2) == [0, 1]
    assert app.query("db:take", n=0) == []
    assert app.query("db:by_author", author="a") == [0, 2, 4]
    assert app.query("db:filtered") == [2, 4]
    assert app.query("db:all", table="nowhere") == []
    assert error_of(app, "query", "db:take", n=-1)[0] == "InvalidQuery"
    assert error_of(app, "query", "db:all", order="up")[0] == "InvalidQuery"


def test_missing_in_a_range_is_not_null(app: GuestApp) -> None:
    insert(
        app,
        {"author": 1, "n": 1},
        {"author": 1, "n": 1, "at": 3},
        {"author": 1, "n": 1, "at": {"place": None}},
        {"author": 1, "n": 1, "at": {"place": "x"}},
    )
    assert app.query("db:places", present=False) == 2
    assert app.query("db:places", present=True) == 2


def test_unique_finds_none_one_or_an_error(app: GuestApp) -> None:
    assert app.query("db:first_and_unique", author="a") == [None, None]
    (first,) = insert(app, {"author": "a", "n": 1})
    assert [found["_id"] for found in app.query("db:first_and_unique", author="a")] == [first, first]
    insert(app, {"author": "a", "n": 2})
    code, text = error_of(app, "query", "db:first_and_unique", author="a")
    assert code == "NotUnique"
    assert first in text


def test_a_query_object_is_used_once(app: GuestApp) -> None:
    for path in ("db:twice", "db:moved"):
        code, text = error_of(app, "query", path)
        assert code == "InvalidQuery"
        assert "used already" in text


def test_own_writes_are_merged_into_what_a_scan_has_not_reached(app: GuestApp) -> None:
    insert(app, {"author": "a", "n": 1}, {"author": "a", "n": 2}, {"author": "a", "n": 3})
    assert app.mutate("db:sees_own_writes") == [1, 2, 2.5, 3]
    assert app.mutate("db:delete_while_iterating") == [1, 2, 2.5, 3, 11, 12, 12.5]


def test_a_failed_nested_mutation_leaves_no_write(app: GuestApp) -> None:
    (post,) = insert(app, {"author": "a", "n": 1})
    assert app.mutate("db:nested_rolls_back", id=post) == ["ValueError: undo this", 1, 1, 0]


def test_creation_times_rise_within_a_transaction(app: GuestApp) -> None:
    times = app.mutate("db:times", count=5)
    assert times == sorted(set(times))
    assert times[0] == app.now_ms


def test_reads_that_fail_later_are_still_reported(app: GuestApp) -> None:
    outcome = app.outcome("query", "db:get", {"id": "nonsense"})
    assert outcome.kind == "function"
    assert outcome.reads
    assert unpack(app.outcome("query", "db:take", {"n": 1}).value) == []
