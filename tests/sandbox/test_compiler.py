"""From source to code: errors with a place, annotations apart, the cache."""

from __future__ import annotations

import typing

import pytest

from sandbox.compiler import CACHE_TAG, CompileError, compile_module, dump, load
from sandbox.guest import GuestRuntime
from sandbox.shapes import shape_of

APP = """
from dataclasses import dataclass
from typing import Literal, NotRequired, Optional, TypedDict

def query(f):
    return f

@dataclass
class Point:
    x: int
    y: float = 0.0

class Row(TypedDict):
    name: str
    age: NotRequired[int]

@query
def near(ctx, points: list[Point], kind: Literal["a", "b"] = "a", *,
limit: "int | None" = None) -> "list[Point]":
    hidden: undefined_name = 1
    return points[:limit]

@query
def count(ctx, by: dict[str, int], row: Optional[Row]): ...

def helper(a: not_evaluated) -> never: ...
"""


def error_of(source: str) -> CompileError:
    with pytest.raises(CompileError) as refused:
        compile_module(source, "admin/posts.py", "admin.posts")
    return refused.value


@pytest.mark.parametrize(
    ("source", "line", "words"),
    [
        ("x = 1\nx = ().__class__", 2, ("__class__", "because")),
        ("import os", 1, ("os", "because", "use ctx")),
        ("\n\ndef f(:", 3, ("syntax error",)),
        ("def f():\n    with a: pass", 2, ("with", "try and finally")),
        ("async def f(): pass", 1, ("async", "without async")),
        ("x = '%s' % 1", 1, ("% on text", "f-string")),
        ("a = b = 1\nx = a is b", 2, ("is between values", "==")),
        ("class A:\n    def __eq__(self, o): pass", 2, ("__eq__", "__init__")),
        ("def f():\n    import math", 2, ("top of the file",)),
        ("x = 'a'.format()", 1, ("format", "f-string")),
        ("_x = 1", 1, ("_x", "without it")),
        ("x = " + "(" * 300 + ")" * 300, 1, ("syntax error",)),
    ],
)
def test_a_refusal_names_place_construct_and_replacement(
    source: str, line: int, words: tuple[str, ...]
) -> None:
    refused = error_of(source)
    assert (refused.filename, refused.line) == ("admin/posts.py", line)
    for word in words:
        assert word in refused.message
    assert "<guest>" not in refused.message


def test_the_first_problem_is_reported() -> None:
    assert error_of("x = 1\ny = eval('1')\nz = exec('1')").line == 2


def test_an_unknown_module_is_refused_when_the_modules_of_the_app_are_known() -> None:
    compile_module("import helpers", "a.py", "a")
    with pytest.raises(CompileError, match="the module helpers"):
        compile_module("import helpers", "a.py", "a", frozenset({"other"}))
    compile_module("from admin.reports import daily", "a.py", "a", frozenset({"admin.reports"}))


def test_imports_and_functions_are_listed_with_their_lines() -> None:
    compiled = compile_module(APP, "posts.py", "posts")
    assert [(item.module, item.line) for item in compiled.imports] == [("dataclasses", 2), ("typing", 3)]
    assert dict(compiled.functions)["near"] == 18


def test_annotations_are_evaluated_apart_and_only_where_they_are_analysed() -> None:
    runtime = GuestRuntime()
    compiled = compile_module(APP, "posts.py", "posts")
    namespace = runtime.namespace("posts")
    runtime.run(compiled, namespace)
    table = runtime.annotations(compiled, namespace)
    point, row = namespace["Point"], namespace["Row"]
    assert table["near"] == {
        "points": list[point],
        "kind": typing.Literal["a", "b"],
        "limit": int | None,
        "return": list[point],
    }
    assert table["count"] == {"by": dict[str, int], "row": row | None}
    assert table["Point"] == {"x": int, "y": float}
    assert table["Row"]["age"] == typing.NotRequired[int]
    assert "helper" not in table
    shape = shape_of(point)
    assert shape is not None
    assert (shape.kind, shape.fields) == ("dataclass", (("x", False), ("y", True)))


def test_the_cache_gives_back_what_was_compiled() -> None:
    compiled = compile_module(APP, "posts.py", "posts")
    assert load(dump(compiled)) == compiled


def test_the_cache_of_another_policy_is_refused() -> None:
    data = dump(compile_module("x = 1", "a.py", "a"))
    assert data.startswith(CACHE_TAG)
    with pytest.raises(ValueError, match="another policy"):
        load(b"0" + data)


def test_compiling_takes_time_in_proportion_to_the_source() -> None:
    """Deep nesting once made every level visit everything below it."""
    inner = " + ".join(["a[b]"] * 55)
    source = "x = " + "f(" * 25 + inner + ")" * 25
    assert compile_module(source, "a.py", "a").code.co_filename == "<guest>/a.py"
