"""Apps through the executor: what their functions see, and what callers are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.frames import Outcome
from tidewell.values import Int64, unpack

from .guest_app import GuestApp

WAYPOINT = Path(__file__).parents[2] / "examples" / "waypoint" / "functions"

APP = {
    "schema.py": """
        from tidewell import Id, Schema, table, v

        schema = Schema(
            users=table(name=str, key=str).index("by_key", "key", unique=True),
            posts=table(author=Id["users"], text=str, likes=int, big=v.optional(v.int64()))
                .index("by_author", "author", "likes"),
        )
    """,
    "posts.py": """
        from tidewell import AppError, Id, Int64, MISSING, api, internal_mutation, mutation, query, v

        @mutation
        def add(ctx, author: Id["users"], text: str, likes: int = 0):
            return ctx.db.insert("posts", {"author": author, "text": text, "likes": likes})

        @query
        def get(ctx, id: Id["posts"]):
            return ctx.db.get(id)

        @query
        def popular(ctx, author: Id["users"], above: int) -> list[dict]:
            posts = ctx.db.query("posts")
            liked = posts.with_index("by_author", lambda q: q.eq("author", author).gt("likes", above))
            return liked.order("desc").collect()

        @mutation
        def like(ctx, id: Id["posts"]) -> int:
            likes = ctx.db.get(id)["likes"] + 1
            ctx.db.patch(id, {"likes": likes})
            return likes

        @mutation
        def grow(ctx, id: Id["posts"], by: Int64):
            ctx.db.patch(id, {"big": 2**60 + by})
            return ctx.db.get(id)["big"]

        @mutation
        def return_wide(ctx):
            return [2**60]

        @mutation
        def insert_wide(ctx):
            ctx.db.insert("free", {"n": 2**60})

        @mutation
        def pass_wide(ctx):
            ctx.run_mutation("posts:anything", {"n": -(2**60)})

        @mutation
        def wide(ctx) -> list[Int64 | str]:
            return [2**60, *ctx.run_mutation("posts:takes_int64", {"n": 2**60})]

        @internal_mutation
        def takes_int64(ctx, n: Int64):
            return ["int64" if isinstance(n, Int64) else "number", n]

        @mutation
        def forget(ctx, id: Id["posts"]):
            ctx.db.patch(id, {"big": MISSING})
            return "big" in ctx.db.get(id)

        @mutation
        def break_schema(ctx, id: Id["posts"]):
            ctx.db.patch(id, {"likes": "many"})

        @mutation
        def fail_after_writing(ctx, id: Id["posts"]):
            ctx.db.delete(id)
            raise ValueError("no")

        @mutation
        def refuse(ctx):
            raise AppError({"code": "FULL", "left": 0})

        @mutation
        def survive_a_failure(ctx, id: Id["posts"]):
            try:
                ctx.run_mutation("posts:fail_after_writing", {"id": id})
            except Exception as error:
                told = (error.path, error.message)
            try:
                ctx.run_mutation(api.posts.refuse)
            except AppError as error:
                return [list(told), error.data, ctx.db.get(id) is not None]

        @internal_mutation
        def secret(ctx):
            return "secret"

        @query
        def from_python(ctx, from_: str, import_: int = 1):
            return [from_, import_]

        @mutation
        def anything(ctx, args):
            return args

        @query(args={"a": v.number(), "b": v.optional(v.string())}, returns=v.string())
        def spelled(ctx, a, b="-"):
            return b if a else a

        @query
        def now(ctx):
            return [ctx.now(), ctx.time_bucket(60), ctx.random.random(), ctx.uuid4()]

        @query
        def who(ctx):
            return ctx.auth.get_user_identity()
    """,
    "users.py": """
        from tidewell import mutation

        @mutation
        def add(ctx, name: str):
            return ctx.db.insert("users", {"name": name, "key": name.lower()})
    """,
}


@pytest.fixture
def app() -> GuestApp:
    return GuestApp(APP)


@pytest.fixture
def post(app: GuestApp) -> Any:
    return app.mutate("posts:add", author=app.mutate("users:add", name="Ada"), text="hi")


def failed(outcome: Outcome) -> tuple[str, str, str]:
    return outcome.kind, outcome.code, outcome.error.splitlines()[0]


def test_waypoint_runs() -> None:
    app = GuestApp({path.name: path.read_text() for path in WAYPOINT.glob("*.py")})
    ada = app.mutate("users:sign_in", name="Ada")
    assert app.mutate("users:sign_in", name="ADA") == ada
    post = app.mutate("posts:create_post", author=ada, place="Oslo", text="hello")
    assert app.mutate("posts:like", post_id=post, user_id=ada) == 1
    assert app.mutate("posts:like", post_id=post, user_id=ada) == 1
    (popular,) = app.query("posts:list_popular", viewer=ada)
    assert (popular["likes"], popular["author_name"], popular["liked"]) == (1, "Ada", True)
    assert "latest post is about Oslo" in app.act("welcome:send_welcome", user_id=ada)
    assert [syscall.operation for syscall in app.syscalls] == ["run_query", "run_mutation"]
    assert len(app.query("welcome:inbox", user_id=ada)) == 1


def test_an_index_range_selects_and_orders(app: GuestApp) -> None:
    ada = app.mutate("users:add", name="Ada")
    for likes in (3, 1, 2):
        app.mutate("posts:add", author=ada, text="x", likes=likes)
    assert [post["likes"] for post in app.query("posts:popular", author=ada, above=1)] == [3, 2]


@pytest.mark.parametrize("by", [5 - 2**60, 1, -(2**61)])
def test_an_int_becomes_an_int64_where_the_schema_says_so(app: GuestApp, post: str, by: int) -> None:
    grown = app.mutate("posts:grow", id=post, by=Int64(by))
    assert (type(grown), grown) == (Int64, 2**60 + by)
    assert type(app.query("posts:get", id=post)["big"]) is Int64


def test_an_int_of_64_bits_that_no_validator_takes_is_refused(app: GuestApp) -> None:
    for path in ("posts:return_wide", "posts:insert_wide", "posts:pass_wide"):
        assert "would lose digits as a number; store it as Int64(n)" in app.outcome("mutation", path).error
    assert app.mutate("posts:wide") == [Int64(2**60), "int64", 2**60]


def test_missing_removes_a_field(app: GuestApp, post: str) -> None:
    assert app.mutate("posts:forget", id=post) is False


def test_a_write_against_the_schema_fails_with_its_path(app: GuestApp, post: str) -> None:
    outcome = app.outcome("mutation", "posts:break_schema", {"id": post})
    assert failed(outcome) == (
        "function",
        "SchemaValidation",
        "Uncaught SchemaValidationError: posts.likes: found the string 'many', expected an integral number",
    )
    assert outcome.writes == b""
    assert "posts.py" in outcome.error


def test_a_failed_nested_call_is_undone_and_its_caller_goes_on(app: GuestApp, post: str) -> None:
    told, data, is_there = app.mutate("posts:survive_a_failure", id=post)
    assert told == ["posts:fail_after_writing", "ValueError: no"]
    assert data == {"code": "FULL", "left": 0}
    assert is_there
    assert app.query("posts:get", id=post) is not None


def test_an_application_error_carries_its_data(app: GuestApp) -> None:
    outcome = app.outcome("mutation", "posts:refuse")
    assert failed(outcome) == ("app_error", "AppError", 'Uncaught ConvexError: {"code":"FULL","left":0}')
    assert outcome.error_data is not None
    assert unpack(outcome.error_data) == {"code": "FULL", "left": 0}


UNKNOWN = "Could not find public function for"


@pytest.mark.parametrize(
    ("kind", "path", "args", "text"),
    [
        ("query", "posts:gte", {}, f"{UNKNOWN} 'posts:gte'. Did you mean 'posts:get'?"),
        ("query", "post:get", {}, f"{UNKNOWN} 'post:get'. Did you mean 'posts:get'?"),
        ("query", "nowhere:x", {}, f"{UNKNOWN} 'nowhere:x'."),
        ("mutation", "posts:secret", {}, f"{UNKNOWN} 'posts:secret'."),
        (
            "mutation",
            "posts:who",
            {},
            "Trying to execute posts:who as Mutation, but it is defined as Query.",
        ),
        (
            "query",
            "posts:spelled",
            {},
            "ArgumentValidationError: args: the field 'a' is missing, expected a number",
        ),
        (
            "query",
            "posts:spelled",
            {"a": "1"},
            "ArgumentValidationError: args.a: found the string '1', expected a number",
        ),
        (
            "query",
            "posts:who",
            {"x": 1},
            "ArgumentValidationError: args: the extra field 'x' (the number 1) is not expected; "
            "the fields are none",
        ),
        (
            "query",
            "posts:spelled",
            {"a": 0},
            "ReturnsValidationError: returns: found the number 0, expected a string",
        ),
    ],
)
def test_a_call_that_cannot_be_says_why(
    app: GuestApp, kind: str, path: str, args: dict[str, Any], text: str
) -> None:
    outcome = app.outcome(kind, path, args)
    code = {"A": "ArgumentValidation", "R": "ReturnValidation"}.get(text[0], "InvalidFunctionCall")
    assert (outcome.code, outcome.error) == (code, f"{text}\n")


def test_an_internal_function_is_reached_by_internal_callers(app: GuestApp) -> None:
    assert unpack(app.outcome("mutation", "posts:secret", internal=True).value) == "secret"


def test_wire_names_that_are_keywords_have_an_underscore_in_python(app: GuestApp) -> None:
    assert app.query("posts:from_python", **{"from": "here"}) == ["here", 1]
    assert app.query("posts:from_python", **{"from": "here", "import": 3}) == ["here", 3]


def test_a_lone_args_is_one_unchecked_dict(app: GuestApp) -> None:
    assert app.mutate("posts:anything", a=1, b=[None]) == {"a": 1, "b": [None]}


def test_what_a_call_looked_at_is_reported(app: GuestApp) -> None:
    first = app.outcome("query", "posts:now", seed=bytes(32))
    again = app.outcome("query", "posts:now", seed=bytes(32))
    assert first.observed == ["bucket:60", "random", "time"]
    assert first.value == again.value
    assert unpack(first.value)[0] == int(app.now_ms)
    assert app.outcome("query", "posts:who").observed == ["identity"]
    assert unpack(app.outcome("query", "posts:who", identity={"subject": "ada"}).value) == {"subject": "ada"}


def test_calls_of_a_batch_see_the_writes_of_those_before_them(app: GuestApp, post: str) -> None:
    like = [app.call("mutation", "posts:like", {"id": post}) for _ in range(3)]
    fail = app.call("mutation", "posts:fail_after_writing", {"id": post})
    outcomes = app.outcomes(like[0], fail, like[1], like[2])
    assert [outcome.kind for outcome in outcomes] == ["value", "function", "value", "value"]
    assert [unpack(outcomes[place].value) for place in (0, 2, 3)] == [1, 2, 3]
    assert outcomes[1].writes == b""
    assert outcomes[1].reads
    for outcome in (outcomes[0], outcomes[2], outcomes[3]):
        app.backing.commit(outcome.writes)
    assert app.query("posts:get", id=post)["likes"] == 3
