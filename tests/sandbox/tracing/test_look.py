"""Values as a debugger shows them: short, bounded, and without a word from the guest."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime
from sandbox.tracing.look import look, look_at_exception
from tidewell.values import Int64

PROGRAM = """
import collections
import datetime
import decimal
import uuid
from dataclasses import dataclass
from functools import partial

Pair = collections.namedtuple("Pair", ["left", "right"])

@dataclass
class Point:
    x: int
    y: int

class Sly:
    def __init__(self):
        self.keys = lambda: 1 / 0
        self.items = None
        self.name = "sly"

class Odd(Exception):
    pass

def counting(n):
    for i in range(n):
        yield i

def raised():
    try:
        raise Odd("one", {"two": [3]})
    except Odd as error:
        return error

values = {
    "counter": collections.Counter("abca"),
    "default": collections.defaultdict(list, {"a": [1]}),
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "deque": collections.deque([1, "two", None]),
    "pair": Pair(1, [2]),
    "point": Point(1, 2),
    "sly": Sly(),
    "class": Sly,
    "set": {3, 1, 2},
    "frozen": frozenset(["b", "a"]),
    "date": datetime.datetime(2026, 11, 22, 21, 55),
    "decimal": decimal.Decimal("1.50"),
    "uuid": uuid.UUID("12345678-1234-5678-1234-567812345678"),
    "function": counting,
    "lambda": lambda: 1,
    "generator": counting(3),
    "range": range(1, 10, 2),
    "views": [{"a": 1}.keys()],
    "module": collections,
    "error": raised(),
    "map": map(str, [1]),
    "method": "text".upper,
}
"""
SHOWN = {
    "counter": "Counter({'a': 2, 'b': 1, 'c': 1})",
    "default": "defaultdict({'a': [1]})",
    "ordered": "OrderedDict({'b': 1, 'a': 2})",
    "deque": "deque([1, 'two', None])",
    "pair": "Pair(left=1, right=[2])",
    "point": "Point(x=1, y=2)",
    "sly": "Sly(keys=<function <lambda>>, items=None, name='sly')",
    "class": "<class Sly>",
    "set": "{3, 1, 2}",
    "frozen": "frozenset({'b', 'a'})",
    "date": "datetime.datetime(2026, 11, 22, 21, 55)",
    "decimal": "Decimal('1.50')",
    "uuid": "UUID('12345678-1234-5678-1234-567812345678')",
    "function": "<function counting>",
    "lambda": "<function <lambda>>",
    "range": "range(1, 10, 2)",
    "views": "[<dict_keys>]",
    "error": "Odd('one', {'two': [3]})",
    "method": "<function upper>",
}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    runtime = GuestRuntime()
    namespace = runtime.namespace("m")
    runtime.run(compile_module(PROGRAM, "m.py", "m"), namespace)
    found: dict[str, Any] = namespace["values"]
    return found


@pytest.mark.parametrize("name", list(SHOWN))
def test_values_of_guests_have_a_text(values: dict[str, Any], name: str) -> None:
    assert look(values[name], 240) == SHOWN[name]


def test_looking_neither_charges_nor_moves_an_iterator() -> None:
    runtime = GuestRuntime()
    namespace = runtime.namespace("m")
    runtime.run(compile_module(PROGRAM, "m.py", "m"), namespace)
    used = runtime.steps_used
    texts = [look(value, 16_384) for value in namespace["values"].values()]
    assert runtime.steps_used == used
    assert texts == [look(value, 16_384) for value in namespace["values"].values()]
    assert not any(" at 0x" in text for text in texts)
    assert list(namespace["values"]["generator"]) == [0, 1, 2]


@pytest.mark.parametrize("text_max", [1, 7, 40, 240])
def test_a_text_is_never_longer_than_was_asked_for(values: dict[str, Any], text_max: int) -> None:
    ring: list[Any] = []
    ring.append(ring)
    bomb: list[Any] = []
    for _ in range(60):
        bomb = [bomb, bomb]
    awkward = [
        "x" * 10**6,
        b"y" * 10**6,
        ["z" * 1000] * 10**5,
        dict.fromkeys(range(10**4), "v" * 100),
        ring,
        bomb,
        2**15_000,
        -(2**15_000),
        range(2**15_000),
        Int64(2**62),
        float("nan"),
        "\x1b[2J" * 100,
        "\ud800",
    ]
    for value in [*awkward, *values.values()]:
        text = look(value, text_max)
        assert len(text) <= text_max + 1
        assert text


def test_exceptions_are_spelled_as_in_errors(values: dict[str, Any]) -> None:
    assert look_at_exception(KeyError("x"), 240) == "KeyError: 'x'"
    assert look_at_exception(ValueError("no such channel"), 240) == "ValueError: no such channel"
    assert look_at_exception(ValueError(), 240) == "ValueError"
    assert look_at_exception(values["error"], 240) == "Odd: 'one', {'two': [3]}"
    assert len(look_at_exception(ValueError("x" * 10**6), 240)) == 241
    look_at_exception(ValueError("half a pair \ud800"), 240).encode()
