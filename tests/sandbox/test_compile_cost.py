"""What it takes to compile a module grows with its size, whatever its shape.

Work is counted in instructions that the compiler executes, not in time: a module twice as large
may take a little more than twice as many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from sandbox.compiler import CompileError, compile_module

SIZE = 60
RATIO_MAX = 2.5


def _chain(size: int) -> str:
    names = "".join(f"    v{i + 1} = v{i}\n" for i in range(size * 4))
    return f"def f(p):\n{names}    v0 = p\n"


def _inside(opening: Callable[[int], str], body: str, closing: Callable[[int], str], depth: int) -> str:
    """Return `body` inside `depth` blocks."""
    heads = "".join(" " * i + opening(i) + "\n" for i in range(depth))
    feet = "".join(" " * i + closing(i) + "\n" for i in reversed(range(depth)) if closing(i))
    return heads + " " * depth + body + "\n" + feet


SHAPES: dict[str, Callable[[int], str]] = {
    "a chain of names": _chain,
    "names that are one sum": lambda size: (
        "def f(x):\n    " + " = ".join(f"a{i}" for i in range(size)) + " = " + "+".join("x" * 60)
    ),
    "functions": lambda size: "".join(f"def f{i}(a):\n    return a + {i}\n" for i in range(size)),
    "functions in functions": lambda size: _inside(
        lambda i: f"def f{i}(a):", "a = a.b; " * size, lambda _: "", size // 3
    ),
    "lambdas in lambdas": lambda size: "f = " + "lambda a: " * (size * 2 // 3) + "a",
    "comprehensions": lambda size: "".join(f"f{i} = [x + 1 for x in y]\n" for i in range(size)),
    "tries": lambda size: _inside(
        lambda _: "try:", "a = a.b; " * size, lambda _: "finally: a = 1", size // 8
    ),
    "handlers": lambda size: "try:\n    a\n" + "".join(f"except E{i}:\n    b\n" for i in range(size)),
    "annotations in text": lambda size: (
        "@d\ndef f(a: '" + "list[" * (size // 2) + "int" + "]" * (size // 2) + "'): pass"
    ),
    "a page in a dict": lambda size: (
        "def f(ctx):\n    d = ctx.db.query('t').paginate(p)\n    return {" + "**d, " * size * 4 + "'page': 1}"
    ),
    "uses of a document": lambda size: (
        "def f(ctx):\n    d = ctx.db.query('t').collect()\n" + "    for r in d: g(r['a'])\n" * size
    ),
    "patterns": lambda size: "match x:\n" + "".join(f"    case [{i}, *a]: b\n" for i in range(size)),
    "fields of a text": lambda size: "def f(x):\n    return f'" + "{x}" * size + "'",
}


def instructions_to_compile(source: str) -> int:
    count = 0

    def on_event(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return on_event

    sys._getframe().f_trace_opcodes = True  # 3.12 gives no such events before a frame has asked for them
    outer = sys.gettrace()
    sys.settrace(on_event)
    try:
        compile_module(source, "a.py", "a")
    finally:
        sys.settrace(outer)
    return count


@pytest.mark.parametrize("title", list(SHAPES))
def test_twice_the_source_takes_twice_the_work(title: str) -> None:
    sizes = SIZE, SIZE, 2 * SIZE  # 3.13 counts in full from the second time on
    _, once, twice = (instructions_to_compile(SHAPES[title](size)) for size in sizes)
    assert twice < RATIO_MAX * once, (once, twice)


DEPTH = 50_000
DEEP = {
    "parentheses": "x = " + "(" * DEPTH + "1" + ")" * DEPTH,
    "signs": "x = " + "-" * DEPTH + "1",
    "negations": "x = " + "not " * DEPTH + "1",
    "sums": "x = " + "+".join("1" * DEPTH),
    "powers": "x = " + "**".join("1" * DEPTH),
    "attributes": "x = a" + ".b" * DEPTH,
    "items": "x = a" + "[0]" * DEPTH,
    "calls": "x = a" + "()" * DEPTH,
    "lambdas": "x = " + "lambda:" * 30_000 + "1",
    "conditions": "x = " + "1 if 1 else " * 20_000 + "1",
    "branches": "if 1: pass\n" + "elif 1: pass\n" * 15_000,
    "blocks": "".join(" " * i + "if 1:\n" for i in range(99)) + " " * 99 + "pass\n",
    "functions": "".join(" " * i + f"def f{i}():\n" for i in range(95)) + " " * 95 + "pass\n",
    "patterns": "match x:\n case " + "[" * 150 + "a" + "]" * 150 + ": pass",
    "comprehensions": "x = " + "[" * 150 + "1" + " for a in b]" * 150,
    "annotations": "@d\ndef f(a: '" + "list[" * 20_000 + "int" + "]" * 20_000 + "'): pass",
    "signs in an annotation": "@d\ndef f(a: '" + "-" * DEPTH + "1'): pass",
}


@pytest.mark.parametrize("title", list(DEEP))
def test_what_is_nested_too_deeply_is_a_compile_error_that_says_so(title: str) -> None:
    with pytest.raises(CompileError, match=r"nested|too many|indentation"):
        compile_module(DEEP[title], "a.py", "a")


HUGE = {
    "a repeated text": "'x' * 10**9",
    "a repeated tuple": "(1, 2) * 10**8",
    "repetitions of repetitions": "('a' * 4096) * 4096 * 4096",
    "a power": "10 ** 10 ** 8",
    "a tower": "2 ** 2 ** 2 ** 2 ** 2 ** 2",
    "a shift": "1 << 10 ** 10",
    "a product": "10 ** 4000 * 10 ** 4000 * 10 ** 4000",
    "a power in a text": "f'{10 ** 10 ** 8}'",
    "an item": "((1,) * 10 ** 8)[0]",
    "a membership": "1 in (1,) * 10 ** 9",
    "a slice": "'abc'[10 ** 10 ** 7:]",
}


@pytest.mark.parametrize("title", list(HUGE))
@pytest.mark.parametrize("place", ["x = {}", "def f(a={}): pass", "f = lambda: {}", "class A:\n    x = {}"])
def test_what_would_be_huge_is_not_computed_when_it_is_compiled(title: str, place: str) -> None:
    compiled = compile_module(place.format(HUGE[title]), "a.py", "a")
    pending, constants = [compiled.code], list[Any]()
    while pending:
        code = pending.pop()
        constants += code.co_consts
        pending += [item for item in code.co_consts if hasattr(item, "co_consts")]
    assert all(len(item) <= 4096 for item in constants if isinstance(item, (str, bytes, tuple)))
    assert all(item.bit_length() <= 2**14 for item in constants if isinstance(item, int))
