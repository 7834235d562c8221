"""Loading an app: what it describes, how modules find each other, and where mistakes are reported."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pytest

from sandbox.analysis import Analysis, FunctionSpec, InvalidAnalysis, decode_analysis, encode_analysis
from sandbox.frames import Load, Loaded, LoadFailed
from tidewell import v
from tidewell.validator_json import to_json

from .guest_app import GuestApp, modules_of


@pytest.fixture
def app() -> GuestApp:
    return GuestApp({})


def errors_of(app: GuestApp, files: Mapping[str, str]) -> list[tuple[str, int, str]]:
    reply = app.push(files)
    assert isinstance(reply, LoadFailed), reply
    return [(error.path, error.line, error.message) for error in reply.errors]


def described(app: GuestApp, files: Mapping[str, str]) -> Analysis:
    reply = app.push(files)
    assert isinstance(reply, Loaded), reply
    return decode_analysis(reply.analysis)


def test_functions_are_described_with_kind_visibility_validators_and_line(app: GuestApp) -> None:
    source = """\
        from tidewell import Id, internal_mutation, query, v
        from typing import Literal, Optional

        @query
        def recent(
            ctx, author: Id["users"], order: Literal["asc", "desc"] = "asc", n: Optional[int] = None
        ) -> list[str]:
            return []

        def helper():
            pass

        @internal_mutation(retries=7, args={"x": v.any()})
        def fix(ctx, x): ...

        from_ = query(lambda ctx, args: args)
        """
    analysis = described(app, {"admin/reports.py": source})
    order = v.union(v.literal("asc"), v.literal("desc"))
    assert analysis.functions == [
        FunctionSpec(
            module="admin/reports", name="fix", handler="fix", kind="mutation", visibility="internal",
            file="admin/reports.py", line=14, args=to_json(v.object({"x": v.any()})), retries=7,
        ),
        FunctionSpec(
            module="admin/reports", name="from", handler="from_", kind="query", visibility="public",
            file="admin/reports.py", line=16,
        ),
        FunctionSpec(
            module="admin/reports", name="recent", handler="recent", kind="query", visibility="public",
            file="admin/reports.py", line=5, returns=to_json(v.array(v.string())),
            args=to_json(
                v.object(
                    {
                        "author": v.id("users"),
                        "order": v.optional(order),
                        "n": v.optional(v.nullable(int)),
                    }
                )
            ),
        ),
    ]  # fmt: skip


def test_classes_stand_for_objects_in_annotations(app: GuestApp) -> None:
    source = """
        from dataclasses import dataclass
        from typing import NotRequired, TypedDict
        from tidewell import query

        class Place(TypedDict):
            name: str
            stars: NotRequired[int]

        class City(Place, total=False):
            people: int

        @dataclass
        class Point:
            x: float
            y: float = 0

        @query
        def find(ctx, place: Place, city: City, points: list[Point]): ...
        """
    (spec,) = described(app, {"m.py": source}).functions
    place = v.object({"name": str, "stars": v.optional(int)})
    assert spec.arguments_validator() == v.object(
        {
            "place": place,
            "city": place.extend({"people": v.optional(int)}),
            "points": v.array(v.object({"x": float, "y": v.optional(float)})),
        }
    )


def test_a_class_is_known_to_modules_of_every_name(app: GuestApp) -> None:
    files = {
        "a.py": """
            from tidewell import query
            from shapes import Address, Point
            from zones import Base

            class Person(Base):
                home: Address

            @query
            def find(ctx, person: Person) -> list[Point]:
                return [Point(1)]
            """,
        "shapes.py": """
            from dataclasses import dataclass
            from typing import TypedDict

            class Address(TypedDict):
                street: str

            @dataclass
            class Point:
                x: float
            """,
        "zones.py": """
            from typing import TypedDict

            class Base(TypedDict):
                name: str
            """,
    }
    (find,) = described(app, files).functions
    person = v.object({"name": str, "home": v.object({"street": str})})
    assert find.args == to_json(v.object({"person": person}))
    assert find.returns == to_json(v.array(v.object({"x": float})))
    assert app.query("a:find", person={"name": "Ada", "home": {"street": "Quay"}}) == [{"x": 1}]


def test_a_class_of_fields_that_no_validator_is_for_is_the_authors_own(app: GuestApp) -> None:
    source = """\
        from dataclasses import dataclass
        from datetime import datetime
        from typing import Callable, ClassVar, Required, TypedDict
        from tidewell import query

        @dataclass
        class Window:
            start: datetime
            seen: set[str]
            then: Callable

        @dataclass
        class Open(Window):
            label: str

        @dataclass
        class Point:
            ORIGIN: ClassVar[set[int]] = {0}
            x: int

        class Part(TypedDict, total=False):
            p: int
            q: Required[int]

        @query
        def f(ctx, point: Point, part: Part):
            return Window(datetime.now(), {"a"}, len).then(Point(3).ORIGIN)
    """
    (f,) = described(app, {"m.py": source}).functions
    part = v.object({"p": v.optional(int), "q": int})
    assert f.args == to_json(v.object({"point": v.object({"x": int}), "part": part}))
    assert app.query("m:f", point={"x": 1}, part={"q": 1}) == 1

    uses = textwrap.dedent(source) + "\n@query\ndef g(ctx, window: Open): ...\n"
    ((_, line, message),) = errors_of(app, {"m.py": uses})
    assert line == uses.splitlines().index("def g(ctx, window: Open): ...") + 1
    assert "parameter 'window': Window.start: <class" in message


def test_a_validator_may_stand_in_an_annotation(app: GuestApp) -> None:
    source = """\
        from tidewell import query, v

        COLOR = v.union(v.literal("red"), v.literal("blue"))

        @query
        def paint(ctx, color: COLOR, more: list[COLOR] = [], size: v.number() = 1) -> v.any():
            return color
    """
    (paint,) = described(app, {"m.py": source}).functions
    color = v.union(v.literal("red"), v.literal("blue"))
    fields = {"color": color, "more": v.optional(v.array(color)), "size": v.optional(v.number())}
    assert paint.args == to_json(v.object(fields))
    assert paint.returns is None


def test_modules_import_each_other_and_come_before_facades(app: GuestApp) -> None:
    files = {
        "a.py": """
            from tidewell import query
            from lib.deep.names import NAME
            from lib import text
            import json
            import random

            @query
            def run(ctx):
                return [NAME, text.shout("x"), random.mine(), json.dumps([1])]
            """,
        "lib/deep/names.py": "NAME = 'name'",
        "lib/text.py": "def shout(s): return s.upper()",
        "random.py": "def mine(): return 'mine'",
    }
    assert GuestApp(files).query("a:run") == ["name", "X", "mine", "[1]"]


def test_places_that_name_an_index_are_noted(app: GuestApp) -> None:
    source = """\
        from tidewell import query

        @query
        def mine(ctx, name: str):
            posts = ctx.db.query("posts").with_index("by_author", lambda q: q.eq("author", 1))
            return helper(ctx.db.query(name)) + posts.order("desc").take(2)

        def helper(rows):
            return rows.with_index("by_likes").collect()
        """
    uses = described(app, {"m.py": source}).index_uses
    assert [(use.table, use.index, use.function, use.file, use.line) for use in uses] == [
        ("posts", "by_author", "mine", "m.py", 5),
        ("", "by_likes", "helper", "m.py", 9),
    ]


def test_source_that_the_interpreter_would_warn_about_loads(app: GuestApp) -> None:
    assert described(app, {"m.py": "x = '\\d'\ndef f():\n    assert (x, 'always true')"}).functions == []


def test_a_schema_file_without_a_schema_is_noted(app: GuestApp) -> None:
    assert described(app, {"schema.py": "LIMIT = 3"}).notes == [
        "schema.py has no variable named schema, so documents are not checked"
    ]


def test_a_function_belongs_to_the_module_that_declares_it(app: GuestApp) -> None:
    files = {
        "a.py": "from tidewell import query\n@query\ndef f(ctx): return 1",
        "b.py": "from a import f",
    }
    assert [spec.path for spec in described(app, files).functions] == ["a:f"]


def test_a_function_may_be_wrapped_by_a_helper_of_another_module(app: GuestApp) -> None:
    files = {
        "lib/users.py": """
            from functools import wraps
            from tidewell import query

            def with_user(handler):
                @wraps(handler)
                def wrapper(ctx, args):
                    return handler(ctx, "ada", args)
                return wrapper

            def user_query(**options):
                def decorate(handler):
                    def wrapper(ctx, **args):
                        return handler(ctx, user="ada", **args)
                    return query(**options)(wrapper)
                return decorate
            """,
        "notes.py": """\
            from lib.users import user_query, with_user
            from tidewell import query, v

            @query
            @with_user
            def mine(ctx, user, args):
                return [user, args]

            @user_query(args={"n": v.number(), "to": v.optional(v.string())})
            def some(ctx, user, n, to="all"):
                return [user, n, to]
            """,
        "uses.py": "from lib.users import user_query\nfrom notes import mine, some",
    }
    mine, some = described(app, files).functions
    assert [(spec.path, spec.file, spec.line) for spec in (mine, some)] == [
        ("notes:mine", "notes.py", 6),
        ("notes:some", "notes.py", 10),
    ]
    assert mine.args is None
    assert some.args == to_json(v.object({"n": v.number(), "to": v.optional(v.string())}))
    assert app.query("notes:mine", n=1) == ["ada", {"n": 1}]
    assert app.query("notes:some", n=1) == ["ada", 1, "all"]
    assert "ArgumentValidationError" in app.outcome("query", "notes:some", {"m": 1}).error


def test_what_a_call_does_to_a_module_is_gone_with_the_call() -> None:
    files = {
        "a.py": """
            from tidewell import query
            from b import SEEN

            COUNTS = {"n": 0}

            @query
            def count(ctx):
                COUNTS["n"] += 1
                SEEN.append(COUNTS["n"])
                inner = ctx.run_query("b:seen")
                return [COUNTS["n"], len(SEEN), inner]
            """,
        "b.py": """
            from tidewell import query
            SEEN = []

            @query
            def seen(ctx):
                SEEN.append(0)
                return len(SEEN)
            """,
    }
    app = GuestApp(files)
    assert app.query("a:count") == [1, 1, 1]
    assert app.query("a:count") == [1, 1, 1]


USE = "from tidewell import Schema, query, table, v\n"


def test_a_function_may_be_called_like_a_type_that_annotations_name(app: GuestApp) -> None:
    source = """\
        from tidewell import query

        @query
        def list(ctx, ids: list[str]) -> list[dict]:
            return [{"id": id} for id in ids]

        @query
        def dict(ctx, like: list[int]) -> dict[str, int]:
            return {}
    """
    plain, found = described(app, {"m.py": source}).functions
    assert (plain.path, found.path) == ("m:dict", "m:list")
    assert found.args == to_json(v.object({"ids": v.array(v.string())}))
    assert found.returns == to_json(v.array(v.record(v.string(), v.any())))
    assert app.query("m:list", ids=["a"]) == [{"id": "a"}]


def test_a_function_may_have_a_name_that_is_denied_as_an_attribute() -> None:
    files = {
        "messages.py": """
            from tidewell import api, mutation, query

            @mutation
            def send(ctx): return "sent"

            @query
            def close(ctx): return "closed"

            @mutation
            def both(ctx):
                return [ctx.run_mutation(api.messages.send), ctx.run_query(api.messages.close)]

            @query
            def pretends(ctx):
                api = (n for n in [1])
                return api.send(None)
            """
    }
    app = GuestApp(files)
    assert app.mutate("messages:both") == ["sent", "closed"]
    assert "the attribute send is not available" in app.outcome("query", "messages:pretends").error


MISTAKES: dict[str, tuple[dict[str, str], str, int, str]] = {
    "syntax": ({"m.py": "x = 1\ndef f(:\n"}, "m.py", 2, "syntax error"),
    "refused module": ({"m.py": "x = 1\nimport os\n"}, "m.py", 2, "the module os"),
    "missing module": ({"m.py": "from nowhere import x"}, "m.py", 1, "the module nowhere"),
    "missing name": (
        {"m.py": "\nfrom n import x", "n.py": "y = 1"}, "m.py", 2, "cannot import name 'x' from 'n'",
    ),
    "missing in a folder": (
        {"m.py": "from n import x", "n/o.py": "x = 1"}, "m.py", 1, "from 'n', which is a folder of modules",
    ),
    "missing in tidewell": ({"m.py": "from tidewell import nope"}, "m.py", 1, "cannot import name 'nope'"),
    "for later": ({"m.py": "from tidewell import Crons"}, "m.py", 1, "Crons is not available"),
    "relative": ({"m.py": "from . import x"}, "m.py", 1, "relative import"),
    "inside a handler": (
        {"m.py": USE + "@query\ndef f(ctx):\n    import math\n    return 1"},
        "m.py", 4, "import",
    ),
    "cycle": (
        {"a.py": "from b import x\ny = 1", "b.py": "from a import y\nx = 1"},
        "b.py", 1, "import cycle: a -> b -> a",
    ),
    "raises": ({"m.py": "x = 1\n\nx.nope\n"}, "m.py", 3, "AttributeError"),
    "endless": ({"m.py": "while True:\n    pass\n"}, "m.py", 1, "OutOfFuel"),
    "annotation": (
        {"m.py": USE + "@query\ndef f(ctx, x: set): ..."},
        "m.py", 3, "is not an annotation",
    ),
    "forward name": (
        {"m.py": USE + "@query\ndef f(ctx, x: Nope): ..."},
        "m.py", 3, "name 'Nope' is not defined",
    ),
    "no ctx": ({"m.py": USE + "@query\ndef f(): ..."}, "m.py", 3, "takes ctx as its first"),
    "args and default": (
        {"m.py": USE + "@query(args={'a': v.optional(v.any())})\ndef f(ctx, a): ..."},
        "m.py", 3, "needs a default: a=None",
    ),
    "validator": (
        {"m.py": USE + "\nx = v.array(v.optional(v.any()))"}, "m.py", 3, "cannot be optional",
    ),
    "schema": (
        {"schema.py": USE + "schema = Schema(\n    a=table(x=str).index('i', 'y'),\n)"},
        "schema.py", 3, "no document of the table has a field 'y'",
    ),
    "a bomb for a name": (
        {"m.py": USE + "a = [0]\nfor n in range(60):\n    a = [a, a]\ntable(x=str).index(a, 'x')"},
        "m.py", 5, "the name of an index is text, not a list",
    ),
    "no schema": ({"schema.py": "schema = 3"}, "schema.py", 0, "must be Schema(...)"),
    "tidewell": ({"tidewell.py": ""}, "tidewell.py", 0, "is the name of Tidewell's own module"),
    "hyphen": ({"my-posts.py": ""}, "my-posts.py", 0, "use letters, digits and '_'"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_with_file_and_line(app: GuestApp, mistake: str) -> None:
    files, path, line, message = MISTAKES[mistake]
    ((found_path, found_line, found_message),) = errors_of(app, files)
    assert (found_path, found_line) == (path, line)
    assert message in found_message


def test_every_broken_file_is_reported(app: GuestApp) -> None:
    assert [error[:2] for error in errors_of(app, {"a.py": "(", "b.py": "x = 1", "c.py": "\n)"})] == [
        ("a.py", 1),
        ("c.py", 2),
    ]


def test_a_file_that_is_not_text_is_reported(app: GuestApp) -> None:
    modules = modules_of({"a.py": "x = 1"})
    broken = Load(
        code="v",
        modules=[type(modules[0])(path="a.py", source=b"\xff\xfe")],
        analyse=True,
        now_ms=0,
        seed=bytes(32),
    )
    reply = app.executor.load(broken)
    assert isinstance(reply, LoadFailed)
    assert reply.errors[0].message == "the file is not UTF-8 text"


def test_a_push_that_fails_leaves_the_old_code_running() -> None:
    app = GuestApp({"m.py": USE + "@query\ndef f(ctx): return 1"})
    assert errors_of(app, {"m.py": "("})
    assert app.query("m:f") == 1


def test_a_later_load_believes_the_analysis_it_is_handed() -> None:
    source = textwrap.dedent(
        """
        from tidewell import query
        @query
        def f(ctx, n: int): return n
        """
    )
    app = GuestApp({"m.py": source})
    analysis = encode_analysis(app.analysis)
    frame = Load(
        code="v1",
        modules=modules_of({"m.py": source}),
        analyse=False,
        now_ms=0,
        seed=bytes(32),
        analysis=analysis,
    )
    reply = app.executor.load(frame)
    assert isinstance(reply, Loaded)
    assert reply.analysis == analysis
    assert app.query("m:f", n=3) == 3


@pytest.mark.parametrize(
    "damage",
    [
        {"module": "a-b"},
        {"name": "not a name"},
        {"args": {"type": "string"}},
        {"args": {"type": "nonsense"}},
        {"returns": 3},
        {"retries": -1},
        {"kind": "subscription"},
        {"extra": 1},
    ],
)
def test_an_analysis_that_no_loader_writes_is_refused(damage: dict[str, object]) -> None:
    import msgspec

    spec = {
        "module": "a", "name": "f", "handler": "f", "kind": "query", "visibility": "public",
        "file": "a.py", "line": 1,
    }  # fmt: skip
    assert decode_analysis(msgspec.msgpack.encode({"functions": [spec]})).functions[0].path == "a:f"
    with pytest.raises(InvalidAnalysis):
        decode_analysis(msgspec.msgpack.encode({"functions": [{**spec, **damage}]}))
    with pytest.raises(InvalidAnalysis):
        decode_analysis(msgspec.msgpack.encode({"functions": [spec, spec]}))
