"""Guards written out in place decide nothing on their own: every form gives what CPython gives."""

# ruff: noqa: E501  (a program per line reads better than a broken one)

from __future__ import annotations

import ast
from typing import Any

import pytest

from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime
from sandbox.inference import Integers, integer_names, rebound_names

VALUES = (
    "0",
    "-7",
    "2**40",
    "1.5",
    "float('nan')",
    "True",
    "None",
    "'ab'",
    "[1, 2]",
    "(1,)",
    "{'ab': 1}",
    "range(3)",
)
OPERATORS = ("+", "-", "*", "%", "//", "/", "&", "|", "^", "==", "!=", "<", ">=", "in", "not in")
PLACES = {
    "names in a function": "def f(a, b):\n    return a {op} b\nresult = f({a}, {b})",
    "expressions in a function": "def f():\n    return ({a}) {op} ({b})\nresult = f()",
    "in place": "def f(a, b):\n    a {op}= b\n    return a\nresult = f({a}, {b})",
    "in place on an item": "def f(a, b):\n    d = {{'k': a}}\n    d['k'] {op}= b\n    return d['k']\nresult = f({a}, {b})",
    "a comprehension": "result = [x {op} y for x in [{a}] for y in [{b}]]",
    "the iterable of a comprehension": "result = [x for x in [({a}) {op} ({b})]]",
    "a comprehension of a class": "class A:\n    r = [(x) {op} ({b}) for x in [{a}]]\nresult = A.r",
    "a class": "class A:\n    r = ({a}) {op} ({b})\nresult = A.r",
    "a lambda": "result = (lambda a, b: a {op} b)({a}, {b})",
    "a lambda in an iterable": "result = [f for f in [(lambda a=({a}): a {op} ({b}))()]]",
    "a generator": "def g(a, b):\n    yield a {op} b\nresult = list(g({a}, {b}))",
    "a constant on the right": "def f(a):\n    return a {op} {b}\nresult = f({a})",
    "a constant on the left": "def f(b):\n    return {a} {op} b\nresult = f({b})",
    "a default": "def f(r=({a}) {op} ({b})):\n    return r\nresult = f()",
    "an f-string": "def f(a, b):\n    return f'{{a {op} b}}'\nresult = f({a}, {b})",
}


def plainly(source: str) -> str:
    namespace: dict[str, Any] = {}
    try:
        exec(source, namespace)
    except Exception as error:
        return type(error).__name__
    return repr(namespace["result"])


def guarded(source: str, runtime: GuestRuntime) -> str:
    runtime.reset(seed=bytes(32), now_ms=0)
    namespace = runtime.namespace("forms")
    try:
        runtime.run(compile_module(source, "forms.py", "forms"), namespace)
    except Exception as error:
        return type(error).__name__
    return runtime.texts.repr(namespace["result"])


@pytest.mark.filterwarnings("ignore::SyntaxWarning")
@pytest.mark.parametrize("place", list(PLACES))
def test_operators_agree_with_cpython(place: str) -> None:
    runtime = GuestRuntime()
    wrong = []
    for op in OPERATORS:
        if place.startswith("in place") and op not in ("+", "-", "*", "%", "//", "/", "&", "|", "^"):
            continue
        for a in VALUES:
            for b in VALUES:
                if op == "%" and a in ("''", "'ab'", "b'x'"):
                    continue  # refused, whatever is on the right
                source = PLACES[place].format(op=op, a=a, b=b)
                expected, got = plainly(source), guarded(source, runtime)
                if expected in ("MemoryError", "OverflowError") and got in ("ValueError", "OverflowError"):
                    continue  # a size that is refused before it is tried
                if expected != got:
                    wrong.append((source, expected, got))
    assert not wrong, f"{len(wrong)} differ, the first: {wrong[0]}"


INTEGERS = {
    "total": "def f():\n    total = 0\n    for i in range(9):\n        total += i * 2\n    return total",
    "n": "def f(xs):\n    n = len(xs)\n    n -= 1",
    "a": "def f():\n    a, b = 1, 'x'",
    "i": "def f(xs):\n    for i, x in enumerate(xs): pass",
}
NOT_INTEGERS = {
    "parameter": "def f(x): x += 1",
    "other binding": "def f():\n    x = 0\n    x = 'a'",
    "division": "def f():\n    x = 1\n    x = x / 2",
    "division in place": "def f():\n    x = 1\n    x /= 2",
    "power": "def f():\n    x = 2\n    x = x ** -1",
    "nonlocal inside": "def f():\n    x = 0\n    def g():\n        nonlocal x\n        x = 'a'",
    "walrus in a comprehension": "def f():\n    x = 0\n    [(x := 'a') for _ in 'b']",
    "walrus in an argument": "def f():\n    x = 0\n    print(x := 'a')",
    "global": "def f():\n    global x\n    x = 0",
    "except": "def f():\n    x = 0\n    try: pass\n    except ValueError as x: pass",
    "match": "def f(v):\n    x = 0\n    match v:\n        case [x, *_]: pass",
    "match rest": "def f(v):\n    x = 0\n    match v:\n        case {**x}: pass",
    "for over others": "def f(xs):\n    x = 0\n    for x in xs: pass",
    "unpacking": "def f(v):\n    x, y = v",
    "star": "def f(v):\n    *x, y = v",
    "function": "def f():\n    x = 0\n    def x(): pass",
    "class": "def f():\n    x = 0\n    class x: pass",
    "from another": "def f(p):\n    y = p\n    x = 0\n    x = y",
    "bool": "def f():\n    x = True",
    "range with a shadow": "def f(range):\n    for x in range(3): pass",
    "nested target": "def f(v):\n    x = 0\n    for (a, (x, b)) in v: pass",
    "deleted": "def f():\n    x = 0\n    del x",
}


@pytest.mark.parametrize("name", list(INTEGERS))
def test_a_name_that_only_holds_integers_is_known(name: str) -> None:
    assert name in _integers(INTEGERS[name]).names


@pytest.mark.parametrize("title", list(NOT_INTEGERS))
def test_a_name_that_may_hold_something_else_is_not(title: str) -> None:
    shadowed = frozenset({"range"}) if "shadow" in title else frozenset()
    assert "x" not in _integers(NOT_INTEGERS[title], shadowed).names


SMALL = {
    "a literal": "def f():\n    x = 7\n    x = -7",
    "a length": "def f(v):\n    x = len(v)",
    "a range": "def f(v):\n    for x in range(v): pass",
    "a range from a literal": "def f(v):\n    for x in range(5, v, -2): pass",
    "a count": "def f(v):\n    for x, y in enumerate(v): pass",
}
NOT_SMALL = {
    "a sum": "def f():\n    x = 1\n    x = x + x",
    "in place": "def f():\n    x = 1\n    x += x",
    "another name": "def f():\n    y = 1\n    y += y\n    x = y",
    "a long literal": f"def f():\n    x = {10**40}",
    "a range from a name": "def f(v):\n    for x in range(v, v + 1): pass",
    "a range by a name": "def f(v):\n    for x in range(0, v + v, v): pass",
    "a range of unpacked arguments": "def f(v):\n    for x in range(*v): pass",
    "a count of unpacked arguments": "def f(v):\n    for x, y in enumerate(*v): pass",
    "a count from a name": "def f(v):\n    for x, y in enumerate(v, 10**40): pass",
    "a parameter": "def f(x):\n    x = 1",
}


@pytest.mark.parametrize("title", list(SMALL))
def test_a_name_that_no_arithmetic_makes_is_small(title: str) -> None:
    assert "x" in _integers(SMALL[title]).small


@pytest.mark.parametrize("title", list(NOT_SMALL))
def test_a_name_that_may_grow_is_not_small(title: str) -> None:
    assert "x" not in _integers(NOT_SMALL[title]).small


def test_sums_of_a_name_that_only_looks_small_stay_below_the_bound_of_integers() -> None:
    source = """
def work(i):
    x = 1
    for i in range(x, x + 1):
        for k in range(20000):
            x = x + i
            i = x
    return x
result = work(0)
"""
    assert guarded(source, GuestRuntime()) == "OverflowError"


def _integers(source: str, shadowed: frozenset[str] = frozenset()) -> Integers:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    return integer_names(node, shadowed, rebound_names(node))
