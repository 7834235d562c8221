"""Which fields a function is seen to look at, and where it is not seen: two lists."""

from __future__ import annotations

import ast
from textwrap import dedent, indent

import pytest

from sandbox.compiler import _bindings, compile_module
from sandbox.field_uses import MARK, mark_field_uses

HELPERS = """
def view(row):
    return [row["a"], row.get("b", 0)]

def nested(rows):
    return [view(row) for row in rows]

def leak(row):
    return row

def twice(row):
    row = dict(row)
    return row["a"]
"""

SEEN = {
    'return [row["a"] for row in q.collect()]': "a",
    'return [row["a"] for row in q.take(5) if row.get("b")]': "a b",
    'for row in ctx.db.query("t"):\n    if "c" in row:\n        return row["a"]': "a c",
    'row = q.first()\nreturn None if row is None else row["a"]': "a",
    'row = ctx.db.get(id)\nreturn row and row["a"]': "a",
    'return ctx.db.get(id)["a"]["deep"]': "a",
    'rows = q.collect()\nreturn [len(rows), rows[0]["a"], rows[-1]["b"]]': "a b",
    "return [view(row) for row in q.collect()]": "a b",
    "return nested(q.collect())": "a b",
    'return [row["a"] for row in sorted(q.collect(), key=lambda r: r["b"], reverse=True)[:3]]': "a b",
    'best = max(q.collect(), key=lambda r: r["a"], default=None)\nreturn best["b"]': "a b",
    'return {row["a"]: i for i, row in enumerate(q.collect())}': "a",
    'page = q.paginate(opts)\nreturn {**page, "page": [row["a"] for row in page["page"]]}': "a",
    'page = q.paginate(opts)\npage["page"] = [row["a"] for row in page["page"]]\nreturn page': "a",
    'row = q.unique()\n\ndef inner():\n    return row["a"]\nreturn inner()': "a",
    "row = q.first()\nother = row\nrow = other\nreturn f\"{row['a']}\"": "a",
    "return len(q.collect())": "",
    "return q.first() is not None": "",
    'assert q.first(), "empty"': "",
}
UNSEEN = (
    "return q.collect()",
    "return [row for row in q.collect()]",
    'row = q.first()\nreturn [row["a"], row]',
    "row = q.first()\nreturn leak(row)",
    "row = q.first()\nreturn twice(row)",
    "return print(q.first())",
    "return str(q.first())",
    'row = q.first()\nreturn f"{row}"',
    "row = q.first()\nkey = id\nreturn row[key]",
    "return q.first().items()",
    'row = q.first()\nrow["a"] = 1',
    'row = q.first()\nreturn row.pop("a")',
    "return [*q.collect()]",
    "return {**q.first()}",
    "return q.first() or {}",
    "return [row for row in q.collect() if row['a']]",
    "return sorted(q.collect(), key=len)",
    "return view(*q.collect())",
    "return view(row=q.first())",
    "return (lambda row: row)(q.first())",
    'return (lambda row=q.first(): row["a"])()',
    'if (row := q.first()) is not None:\n    return row["a"]',
    "a, b = q.take(2)\nreturn a['a']",
    "row = q.first()\na = row\nb = a\na = b\nreturn b",
    "rows = q.collect()\nrows += rows\nreturn len(rows)",
    "page = q.paginate(opts)\nreturn page",
    'page = q.paginate(opts)\nreturn {**page, "size": 1}',
    'page = q.paginate(opts)\nreturn {"page": [], **page}',
    'page = q.paginate(opts)\nif opts:\n    page["page"] = []\nreturn page',
    'page = q.paginate(opts)\nold = [page]\npage["page"] = []\nreturn old',
    "match q.first():\n    case row:\n        return row",
    "for row in q.collect():\n    yield row",
    "row = q.first()\n\nclass Kept:\n    held = row\nreturn 1",
    "return max(q.collect())",
)


def marks(body: str, extra: str = "") -> list[str]:
    function = "def run(ctx, id, opts):\n" + indent(body.replace("q.", 'ctx.db.query("u").'), "    ")
    tree = ast.parse(dedent(HELPERS) + extra + "\n" + function)
    mark_field_uses(tree, _bindings(tree))
    return [" ".join(getattr(node, MARK)) for node in ast.walk(tree) if hasattr(node, MARK)]


@pytest.mark.parametrize("body", SEEN)
def test_what_a_function_looks_at_is_seen(body: str) -> None:
    assert marks(body) == [SEEN[body]]


@pytest.mark.parametrize("body", UNSEEN)
def test_where_a_document_goes_out_of_sight_nothing_is_said(body: str) -> None:
    assert marks(body) == []


def test_names_that_the_module_binds_itself_stand_for_nothing_known() -> None:
    body = "return [len(q.collect()), [view(row) for row in q.collect()]]"
    assert marks(body) == ["", "a b"]
    assert marks(body, "\ndef len(x):\n    return x\n") == ["a b"]
    assert marks(body, "\nview = leak\n") == [""]
    assert marks("global kept\nfor kept in q.collect():\n    kept['a']") == []


def test_a_source_of_any_shape_is_read_in_bounded_time() -> None:
    aliases = "\n".join(f"r{i + 1} = r{i}" for i in range(2_000))
    assert marks(f'r0 = q.first()\n{aliases}\nreturn r2000["a"]') == []
    many = "\n".join('row = q.first()\nrow["a"]' for _ in range(2_000))
    assert len(marks(many)) < 2_000
    marks("page = q.paginate(o)\n" + "not page\n" * 5_000)


def test_a_page_may_stand_where_only_its_error_is_seen() -> None:
    """The key of a display; the compiler once told the address of a node of its own instead."""
    assert marks("page = q.paginate(o)\nreturn {page: 1, **{}}") == []


def test_marked_places_compile_to_a_call_that_says_so() -> None:
    compiled = compile_module("def f(ctx):\n    return ctx.db.get(1)['a']\n", "m.py", "m")
    function = next(each for each in compiled.code.co_consts if hasattr(each, "co_names"))
    assert "_touching_" in function.co_names
    assert ("a",) in function.co_consts
