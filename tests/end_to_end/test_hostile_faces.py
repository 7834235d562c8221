"""A whole deployment under attack through values, errors, logs, ids, cursors, references and objects.

Every call ends in its own error or a plain value, tells nothing of the host, and leaves
the deployment as it was.
"""

# ruff: noqa: E501  (rows and programs are kept on one line)

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.frames import LoadFailed

from ..sandbox.guest_app import GuestApp
from .harness import APPS, ROOT, Server
from .http_calls import call, fetch, value_of

# Ids and cursors that nobody was given.
FORGED = [
    "",
    "a",
    "0" * 32,
    "\x00" * 32,
    "../../etc/passwd",
    "é" * 40,
    "x" * 10_000,
    "_environment_variables",
    "10001",
]

REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    *(("query", f"returns_{what}", {}) for what in (
        "itself", "depth", "a_bomb", "a_bomb_of_dataclasses", "a_bomb_of_counters", "a_function",
        "a_generator", "the_context", "a_class", "half_a_letter", "half_a_key", "a_key_of_the_wire",
        "numbers_as_keys", "a_long_integer", "a_missing_value",
    )),
    *(("query", f"raises_{what}", {}) for what in (
        "sly", "data_that_is_none", "a_bomb", "depth", "a_class_attribute", "escapes", "half_a_letter",
        "the_host", "many_texts",
    )),
    ("mutation", "writes_data_into_an_error", {}),
    ("query", "logs_without_end", {}),
    ("query", "logs_a_bomb", {}),
    *(("query", "gets_by", {"given": text}) for text in FORGED),
    *(("mutation", "deletes", {"given": text}) for text in FORGED),
    ("query", "gets_by_objects", {}),
    *(("query", "reads_the_system", {"table": table}) for table in ("_conflicts", "_tables", "_x")),
    *(("mutation", "writes_the_system", {"table": table}) for table in ("_environment_variables", "_tables")),
    *(("mutation", "inserts_into", {"table": table}) for table in ("", "_x", "a b", "é", "x" * 1000, "\x00")),
    ("mutation", "forges_fields", {}),
    ("mutation", "inserts_a_bomb", {}),
    *(("query", "pages", {"cursor": cursor}) for cursor in (*FORGED, "{}", "AAAA" * 1000)),
    *(("query", "pages_of", {"count": count}) for count in (-1, 0)),
    *(("query", "calls", {"path": path}) for path in (
        "", "faces", "faces:none", "faces:deep", "../faces:calls", "_system:x", "faces:__class__", "x" * 10_000,
    )),
    ("query", "calls_itself", {}),
    ("query", "calls_by_reference", {}),
    *(("query", "reaches_behind_the_context", {"name": name}) for name in ("class", "dict", "slots", "init")),
    *(("query", "reaches_behind_a_query", {"name": name}) for name in ("_database", "__class__", "format", "args", "x")),
    *(("query", name, {}) for name in (
        "writes_the_context", "keeps_a_query", "filters_by_an_endless_function", "ranges_over_objects",
        "reads_the_environment_by_objects",
    )),
]  # fmt: skip

OF_THE_HOST = ("Traceback", "0x7f", str(ROOT), "site-packages", "sandbox/", "engine/", "<guest>")


def problems_of(server: Server, kind: str, name: str, args: dict[str, Any]) -> str | None:
    """Say what is wrong with how this attack ended."""
    body = json.dumps({"path": f"faces:{name}", "args": args, "format": "json"}).encode()
    answer = fetch(server, f"/api/{kind}", body)
    if answer.status != 200:
        return f"got {answer.status} {answer.body!r}"
    result = answer.json
    if result["status"] != "error":
        return f"succeeded: {result}"
    told = json.dumps(result)
    shown = [word for word in OF_THE_HOST if word in told]
    return f"shows {shown}: {told[:500]}" if shown else None


def test_every_attack_ends_in_an_error_of_its_own(hostile_server: Server) -> None:
    wrong = []
    for kind, name, args in REFUSED:
        problem = problems_of(hostile_server, kind, name, args)
        if problem is not None:
            wrong.append(f"{name} {str(args)[:80]} {problem}")
    assert not wrong, "\n".join(wrong)
    assert value_of(hostile_server, "hostile:innocent") == "still here"
    assert hostile_server.process.popen.poll() is None
    assert "Traceback" not in hostile_server.process.output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("returns_a_named_tuple", [1, {"c": [2]}]),
        ("logs_lines_of_others", "logged"),
    ],
)
def test_what_is_only_odd_becomes_plain(hostile_server: Server, name: str, expected: Any) -> None:
    assert value_of(hostile_server, f"faces:{name}") == expected


def test_an_error_carries_the_data_it_was_given_and_no_other(hostile_server: Server) -> None:
    result = call(hostile_server, "query", "faces:raises_a_class_attribute")
    assert result.get("errorData") == {"kind": "real"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b"null", b"[]", b'{"path": 1}', b'{"path": "faces:calls", "args": []}',
        b'{"path": "faces:pages", "args": {"cursor": 1, "more": 2}}', b'{"path": "faces:calls", "args": {"path": NaN}}',
        b'{"path": "faces:gets_by", "args": {"given": "\\ud800"}}', b"[" * 100_000, b'{"a":' * 100_000,
        b'{"path": "faces:calls", "args": {"$x": 1}}', b"\xff\xfe", b'{"path": "' + b"x" * 100_000 + b'"}',
    ],
    ids=range(14),
)  # fmt: skip
def test_a_hostile_body_is_answered_and_harms_nobody(hostile_server: Server, body: bytes) -> None:
    answer = fetch(hostile_server, "/api/query", body)
    assert answer.status in (200, 400, 413), answer
    if answer.status == 200:
        assert answer.json["status"] == "error"
    assert b"Traceback" not in answer.body
    assert value_of(hostile_server, "hostile:innocent") == "still here"


PUSHES = {
    "a validator of itself": "d = {}\nd['a'] = d\nx = v.object(d)",
    "a deep validator": "x = v.string()\nfor i in range(100000): x = v.array(x)\nschema = Schema(t=table(a=x))",
    "a bomb of unions": "x = v.union(v.string(), v.null())\nfor i in range(60): x = v.union(x, x)\nschema = Schema(t=table(a=x))",
    "a bomb of objects": "x = v.string()\nfor i in range(60): x = v.object({'a': x, 'b': x})\nschema = Schema(t=table(a=x))",
    "a literal that is no value": "x = v.literal(lambda: 1)",
    "a validator's inside": "x = getattr(v.string(), '_validator')",
    "a validator written": "v.string = v.null",
    "a table that is none": "schema = Schema(t=1)",
    "a table of the system": "schema = Schema(_t=table(a=v.string()))",
    "a table with a path": "schema = Schema(**{'../x': table(a=v.string())})",
    "a field of the system": "schema = Schema(t=table(_id=v.string()))",
    "an index of nothing": "schema = Schema(t=table(a=v.string()).index('by_b', 'b'))",
    "an index of objects": "schema = Schema(t=table(a=v.string()).index(['x'], v))",
    "a thousand indexes": "t = table(a=v.string())\nfor i in range(1000): t = t.index(f'i{i}', 'a')\nschema = Schema(t=t)",
    "twenty thousand tables": "schema = Schema({f't{i}': table(a=v.string()) for i in range(20000)})",
    "a long name": "schema = Schema({'t' * 100000: table(a=v.string())})",
    "a schema of a class": "class S: pass\nschema = S()",
    "retries by an object": "from tidewell import mutation\n@mutation(retries=[10**9])\ndef f(ctx): pass",
    "a decorator on a class": "from tidewell import query\n@query\nclass A: pass",
    "a long name of a class": "class " + "A" * 200_000 + "(Exception): pass\nraise " + "A" * 200_000,
    "a long name that is refused": "x = _" + "a" * 200_000,
    "an error on a long line": "x = 1 / 0 if True else " + repr("a" * 200_000),
    "half a letter in an error": "raise ValueError('\\ud800')",
    "a decorator on a facade": "from tidewell import query\nimport math\nf = query(math.gcd)",
}  # fmt: skip


@pytest.mark.parametrize("title", list(PUSHES))
def test_a_hostile_schema_is_refused_when_it_is_pushed(push: Callable[[str], str], title: str) -> None:
    refused = push("from tidewell import Schema, table, v\n" + PUSHES[title] + "\n")
    assert refused
    assert not [word for word in OF_THE_HOST if word in refused], refused


@pytest.fixture
def push() -> Callable[[str], str]:
    """Push a schema to an executor as a worker has one, and return what it says against it."""
    app = GuestApp({"hostile.py": (APPS / "hostile" / "hostile.py").read_text()})

    def push_schema(source: str) -> str:
        reply = app.push({"schema.py": source})
        return str(reply.errors) if isinstance(reply, LoadFailed) else ""

    return push_schema
