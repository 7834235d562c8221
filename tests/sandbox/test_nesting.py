"""What is nested too deeply is ended by our own count: at the same step on every version of Python.

The steps are recorded for all versions together: were the interpreter's limit the
first, each version would show another number.
"""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.compiler import compile_module
from sandbox.faults import CompileError, Terminated
from sandbox.guest import GuestRuntime, prepare_process

FUEL = 2_000_000


def ended(source: str) -> tuple[str, int]:
    """Return how a program ends, and how many steps it takes. Every place is given back after it."""
    prepare_process()
    runtime = GuestRuntime(fuel=FUEL)
    namespace: dict[str, Any] = runtime.namespace("work")
    places = len(runtime.meter.frames)
    try:
        runtime.run(compile_module(source, "work.py", "work"), namespace)
        how = "ended"
    except Terminated as error:
        how = error.kind
    assert len(runtime.meter.frames) == places
    return how, runtime.meter.used


TOO_DEEP = {
    "generators that delegate": (
        20300,
        """
def g(n):
    yield n
    for x in g(n+1):
        yield x
for v in g(0): pass
""",
    ),
    "generators by yield from": (
        20300,
        """
def g(n):
    yield n
    yield from g(n+1)
for v in g(0): pass
""",
    ),
    "generators by closure": (
        20500,
        """
def make(n):
    def g():
        yield n
        for x in make(n+1): yield x
    return g()
for v in make(0): pass
""",
    ),
    "generators by next": (
        401,
        """
def g(n):
    yield next(g(n+1))
x = next(g(0))
""",
    ),
    "generators by a list": (
        201,
        """
def g(n):
    yield sum([v for v in g(n+1)])
x = next(g(0))
""",
    ),
    "generators by max": (
        201,
        """
def g(n):
    yield max(g(n+1))
x = next(g(0))
""",
    ),
    "generators that were begun from below": (
        21000,
        """
gens = []
def g(i):
    for x in gens[i+1]: yield x
def bottom():
    while True: yield 1
for i in range(300): gens.append(g(i))
gens.append(bottom())
for i in range(300): next(gens[299-i])
x = next(gens[0])
""",
    ),
    "generator expressions over each other": (
        6000,
        """
g = (x for x in [1,2])
def wrap(g): return (x for x in g)
for i in range(3000): g = wrap(g)
x = list(g)
""",
    ),
    "generator expressions by next": (
        2402,
        """
h = (x for x in range(10**6))
def wrap(h): return (next(h) for x in range(10**6))
for i in range(1000): h = wrap(h)
x = next(h)
""",
    ),
    "generator expressions in an inner clause": (
        2202,
        """
h = (x for x in range(10**6))
def wrap(h): return (y for x in [1] for y in h)
for i in range(1000): h = wrap(h)
x = next(h)
""",
    ),
    "generator expressions in a condition": (
        2402,
        """
h = (x for x in range(10**6))
def wrap(h): return (x for x in [1] if next(h) == 0)
for i in range(1000): h = wrap(h)
x = next(h)
""",
    ),
    "generator expressions by map": (
        2001,
        """
h = (x for x in range(10**6))
def wrap(h): return (x for x in map(str, h))
for i in range(1000): h = wrap(h)
x = next(h)
""",
    ),
    "all kinds of generators": (
        201,
        """
def g(n):
    yield sum(y for y in [max(z for z in (next(w for w in g(n+1)) for q in [1]))])
x = next(g(0))
""",
    ),
    "a generator that is caught": (
        20100,
        """
def g(n):
    yield n
    for x in g(n+1): yield x
def f():
    try:
        for v in g(0): pass
    except Exception as e:
        return str(e)
x = f()
y = 1
""",
    ),
    "equality of instances": (
        10207,
        """
from dataclasses import dataclass
@dataclass
class A:
    x: int = None
a = A(); b = A()
for i in range(3000):
    a = A(a); b = A(b)
x = a == b
""",
    ),
    "order of instances": (
        10207,
        """
from dataclasses import dataclass
@dataclass(order=True)
class A:
    x: int = None
a = A(0); b = A(1)
for i in range(3000):
    a = A(a); b = A(b)
x = a < b
""",
    ),
    "hashes of instances": (
        6805,
        """
from dataclasses import dataclass
@dataclass(frozen=True)
class A:
    x: int = None
a = A(0)
for i in range(3000):
    a = A(a)
x = {a: 1}
""",
    ),
    "equality through lists": (
        11011,
        """
from dataclasses import dataclass
@dataclass
class A:
    x: int = None
a = A(0); b=A(0)
for i in range(3000):
    a = A([a]); b = A([b])
x = a==b
""",
    ),
    "equality of named tuples": (
        16110,
        """
from collections import namedtuple
P = namedtuple("P", "x")
a = P(0); b=P(0)
for i in range(3000): a = P(a); b=P(b)
x = a == b
""",
    ),
    "hashes of named tuples": (
        9707,
        """
from collections import namedtuple
P = namedtuple("P", "x")
a = P(0)
for i in range(3000): a = P(a)
x = {a: 1}
""",
    ),
    "equality of deques": (
        3804,
        """
from collections import deque
a = deque(); b = deque()
for i in range(3000):
    a = deque([a]); b = deque([b])
x = a == b
""",
    ),
    "membership of deques": (
        3805,
        """
from collections import deque
a = deque(); b = deque()
for i in range(3000):
    a = deque([a]); b = deque([b])
x = a in [b]
""",
    ),
    "equality of ordered dicts": (
        9804,
        """
from collections import defaultdict, OrderedDict
a = OrderedDict(); b = OrderedDict()
for i in range(3000):
    a = OrderedDict({1:a}); b = OrderedDict({1:b})
x = a == b
""",
    ),
    "sorting instances": (
        11016,
        """
from dataclasses import dataclass
@dataclass(order=True)
class A:
    x: int = 0
a = A(); b = A(1)
for i in range(3000):
    a = A((a,)); b = A((b,))
x = sorted([a, b, a])
""",
    ),
    "all kinds of values": (
        8777,
        """
from dataclasses import dataclass
from collections import namedtuple, deque
P = namedtuple("P", "x")
@dataclass
class A:
    x: int = 0
a = A(); b = A()
for i in range(1000):
    a = A((P([deque([a])]),)); b = A((P([deque([b])]),))
x = a == b
""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("title", list(TOO_DEEP))
def test_nesting_is_ended_by_our_own_count_at_the_same_step_everywhere(title: str) -> None:
    steps, source = TOO_DEEP[title]
    assert ended(source) == ("depth", steps)


IN_BOUNDS = {
    "150 generators": (
        11639,
        """
def g(n):
    yield n
    if n: yield from g(n-1)
x = sum([v for v in g(150)])
""",
    ),
    "generators begun from below": (
        22926,
        """
gens = []
def g(i):
    for x in gens[i+1]: yield x
def bottom():
    while True: yield 1
for i in range(190): gens.append(g(i))
gens.append(bottom())
for i in range(190): next(gens[189-i])
x = [next(gens[0]) for i in range(10)], [next(gens[3]) for i in range(10)]
""",
    ),
    "generators that end in an error": (
        5150,
        """
def g(n):
    if n == 0: raise ValueError("x")
    for x in g(n - 1): yield x
k = 0
for i in range(50):
    try:
        for v in g(100): pass
    except ValueError:
        k += 1
x = k
""",
    ),
    "errors in generators that C code pulls from": (
        3081,
        """
def g(n):
    if n == 0: raise ValueError("x")
    for x in g(n - 1): yield x
def f(n):
    try:
        return list(g(n))
    except ValueError: return 0
x = sum([f(150) for i in range(20)])
""",
    ),
    "abandoned generators": (
        10000,
        """
def g():
    while True: yield 1
for i in range(1000):
    for x in g(): break
    a, *b = zip(g(), [1, 2])
x = 1
""",
    ),
    "100 instances": (
        1005,
        """
from dataclasses import dataclass
@dataclass
class A:
    x: int = None
a = A(); b = A()
for i in range(100):
    a = A(a); b = A(b)
x = a == b
""",
    ),
}  # fmt: skip


@pytest.mark.parametrize("title", list(IN_BOUNDS))
def test_what_gives_its_places_back_goes_on(title: str) -> None:
    steps, source = IN_BOUNDS[title]
    assert ended(source) == ("ended", steps)


YIELDS = """
def ends(n):
    if n:
        return
    yield 1
def values(xs):
    a = yield xs[0]
    b = yield from xs
    c = yield
    xs.append((a, b, c))
    yield len(xs), [x for x in xs]
    return (yield from ends(0))
def inside(n):
    def plain():
        return n
    yield plain()
    f = lambda: (yield plain())
    yield [x for x in f()]
    for x in (y for y in (str(z) for z in range(n)) if len(y) for _ in range(int(y))):
        yield x
class Tree:
    def __init__(self, value, *children):
        self.value, self.children = value, children
    def walk(self):
        yield self.value
        for child in self.children:
            yield from child.walk()
result = (
    list(ends(0)), list(ends(1)), list(values([1, 2])), list(inside(4)),
    list(Tree(1, Tree(2, Tree(3)), Tree(4)).walk()), max(len(x) for x in ["a", "bc"] if x.strip()),
)
"""


def test_generators_give_what_they_give() -> None:
    plain: dict[str, Any] = {}
    exec(YIELDS, plain)
    runtime = GuestRuntime()
    namespace = runtime.namespace("work")
    runtime.run(compile_module(YIELDS, "work.py", "work"), namespace)
    assert namespace["result"] == plain["result"]


def test_yield_from_has_no_value_to_be_used() -> None:
    for statement in ("print((yield from x))", "x = [(yield from x)]", "f = lambda: (yield from x)"):
        with pytest.raises(CompileError, match="yield from inside an expression"):
            compile_module(f"def g(x):\n    {statement}\n    yield 1", "a.py", "a")
