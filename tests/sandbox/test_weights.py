"""What stands between two steps has a price, where it is more than an everyday program writes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from sandbox import costs
from sandbox.compiler import compile_module
from sandbox.faults import CompileError
from sandbox.guest import GuestRuntime

TIMES = 20
SIZE = 1500


def steps(source: str) -> int:
    """Return the steps that a program takes to its end."""
    runtime = GuestRuntime(fuel=100_000_000)
    runtime.run(compile_module(source, "work.py", "work"), runtime.namespace("work"))
    return runtime.meter.used


LOOP = f"for i in range({TIMES}):\n    "
HEAVY: dict[str, Callable[[int], str]] = {
    "statements of a loop": lambda size: LOOP + "x = i; " * size,
    "statements of a function": lambda size: "def f(i):\n    " + "x = i; " * size + f"\n{LOOP}f(i)",
    "statements of a generator": lambda size: (
        "def f(i):\n    " + "x = i; " * size + f"\n    yield i\n{LOOP}list(f(i))"
    ),
    "statements before a way out": lambda size: (
        "def f(i):\n    if [" + "i, " * size + f"]: return i\n    return len(i)\n{LOOP}f(i)"
    ),
    "statements of a handler": lambda size: f"{LOOP}try: None.a\n    except Exception: " + "x = i; " * size,
    "a lambda": lambda size: "f = lambda i: [" + "i, " * size + f"]\n{LOOP}f(i)",
    "a list": lambda size: LOOP + "x = [" + "i, " * size + "]",
    "a list of literals": lambda size: LOOP + "x = [" + "1, " * size + "]",
    "a tuple": lambda size: LOOP + "x = (" + "i, " * size + ")",
    "a set": lambda size: LOOP + "x = {" + "i, " * size + "}",
    "a dict": lambda size: LOOP + "x = {" + "i: i, " * size + "}",
    "arguments": lambda size: f"def f(*a): pass\n{LOOP}f(" + "i, " * size + ")",
    "a test of while": lambda size: f"i = 0\nwhile (i := i + 1) < {TIMES} and [" + "i, " * size + "]: pass",
    "the element of a comprehension": lambda size: f"x = [[{'i, ' * size}] for i in range({TIMES})]",
    "a condition of a comprehension": lambda size: f"x = [0 for i in range({TIMES}) if [{'i, ' * size}]]",
    "an inner iterable": lambda size: f"x = [0 for i in range({TIMES}) for j in [{'i, ' * size}][:0]]",
    "a chain of comparisons": lambda size: LOOP + "i" + " < 9" * size,
    "a chain of tests": lambda size: LOOP + "i" + " or 0" * size,
    "fields of a text": lambda size: LOOP + "f'" + "{i}" * size + "'",
    "patterns": lambda size: f"{LOOP}match i:\n" + "        case -1: pass\n" * size,
}


@pytest.mark.parametrize("title", list(HEAVY))
def test_a_heavy_body_is_charged_for_each_time_it_runs(title: str) -> None:
    program = HEAVY[title]
    assert steps(program(SIZE)) - steps(program(1)) >= (TIMES - 1) * SIZE // costs.NODES


@pytest.mark.parametrize("title", [title for title in HEAVY if title != "a set"])  # a set pulls its items
def test_an_everyday_body_takes_its_steps_alone(title: str) -> None:
    program = HEAVY[title]
    assert steps(program(20)) - steps(program(1)) <= TIMES


def test_of_branches_the_largest_counts() -> None:
    branch = "x = i; " * 100
    chosen = "\n    el".join(f"if i == {k}: {branch}" for k in range(20))
    assert steps(LOOP + chosen) < steps(LOOP + branch * 20) / 4


def test_the_module_is_a_body_as_well() -> None:
    assert steps("x = 1\n" * 1600) == 1600 * 3 // costs.NODES


def test_a_long_literal_is_compared_at_its_price() -> None:
    text = "a" * 100_000
    source = f"s = {text!r}\nfor i in range({TIMES}):\n    s == {text!r}"
    assert steps(source) >= TIMES * len(text) // costs.COPY_BYTES
    members = f"for i in range({TIMES}):\n    i in ({'-1, ' * 200})"
    assert steps(members) >= TIMES * (1 + 200 // costs.COPY_ITEMS)


def rests(source: str, count: int) -> int:
    cases = "".join(f"        {source}\n" for _ in range(count))
    return steps(
        f"xs = list(range(100_000))\nd = dict(zip(xs, xs))\ndef f(v):\n    match v:\n{cases}f(xs)\nf(d)"
    )


@pytest.mark.parametrize("pattern", ["case [a, *b, 'x']: pass", "case {1: 'x', **b}: pass"])
def test_every_rest_of_a_pattern_is_charged_for_the_subject(pattern: str) -> None:
    assert rests(pattern, 9) - rests(pattern, 1) >= 8 * 100_000 // costs.COPY_ITEMS
    unnamed = pattern.replace("*b", "*_") if "**" not in pattern else "case {1: 'x'}: pass"
    assert rests(unnamed, 9) == rests(unnamed, 1)


def test_a_rest_is_taken_of_a_value_and_not_of_an_attribute() -> None:
    with pytest.raises(CompileError, match="star inside a class pattern"):
        compile_module("match x:\n    case A(b=[c, *d]): pass", "a.py", "a")
    with pytest.raises(CompileError, match="star inside a class pattern"):
        compile_module("match x:\n    case A(b=list({1: c, **d})): pass", "a.py", "a")
    assert steps("match [1, 2]:\n    case list([a, *b]): pass") >= 0
    assert steps("match (1, [2, 3]):\n    case (str(), [a, *b]) | (int(), [a, *b]): pass") >= 0


MEMORY = {
    "a text of long texts": "s = 'a' * 1_000_000\nx = f'" + "{s}" * 400 + "'",
    "a format of long texts": "s = 'a' * 1_000_000\nx = f'{s:" + "{s}" * 400 + "}'",
    "a list of long lists": "s = list(range(1_000_000))\nx = [" + "*s, " * 400 + "]",
    "a set of long lists": "s = list(range(1_000_000))\nx = {" + "*s, " * 400 + "}",
    "arguments of long lists": "s = list(range(1_000_000))\nprint(" + "*s, " * 400 + ")",
    "a list of a few long lists": "s = list(range(1_000_000))\nx = [*s, *s, *s]",
}


@pytest.mark.parametrize("title", list(MEMORY))
def test_parts_that_are_put_together_are_looked_at_before_there_are_many(title: str) -> None:
    runtime = GuestRuntime(fuel=100_000_000)
    compiled = compile_module(MEMORY[title], "work.py", "work")
    namespace: dict[str, Any] = runtime.namespace("work")
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"more than|at most"):
            runtime.run(compiled, namespace)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


TOGETHER = """
n = list(range(40))
x = f"{n[0]}{n[1]!r:>4}-{n[2]}{n[3]}{n[4]}{n[5]}{n[6]}{n[7]}{n[8]}+{n[9]}{n[10]:{n[4]}}{n[11]}{n[12]}"
def f(*b):
    a = [1, 2]
    y = [*a, 1, *b, *a]
    return (*y, *a), sorted({*a, *b}), f(*a, *b) if len(b) < 3 else 0
y = [f"{i}{i}{i}{i}{i}{i}{i}{i}{i}{i}" for i in n if f"{i}{i}{i}{i}{i}{i}{i}{i}{i}{i}" > "3"]
z = f"{[f'{i}{i}{i}{i}{i}{i}{i}{i}{i}' for i in n]}{n[0]}{n[1]}{n[2]}{n[3]}{n[4]}{n[5]}{n[6]}{n[7]}"
result = x, f(3), y, z
"""


def test_parts_of_a_text_and_stars_give_what_they_give() -> None:
    plain: dict[str, Any] = {}
    exec(TOGETHER, plain)
    runtime = GuestRuntime()
    namespace = runtime.namespace("work")
    runtime.run(compile_module(TOGETHER, "work.py", "work"), namespace)
    assert namespace["result"] == plain["result"]
