"""What is nested too deeply is ended by our own count, and never by the interpreter's limit.

That limit lies elsewhere in every version of Python, so what it ends takes other
steps in each.
"""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from sandbox.compiler import compile_module
from sandbox.faults import CompileError, Terminated
from sandbox.guest import GuestRuntime, prepare_process

FUEL = 2_000_000


def ended(source: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return how a program ends. Every place is given back after it."""
    prepare_process()
    runtime = GuestRuntime(fuel=FUEL)
    namespace: dict[str, Any] = runtime.namespace("work")
    places = len(runtime.meter.frames)
    by_count = runtime.meter.too_deep
    asked = 0

    def too_deep() -> NoReturn:
        nonlocal asked
        asked += 1
        by_count()

    monkeypatch.setattr(runtime.meter, "too_deep", too_deep)
    try:
        runtime.run(compile_module(source, "work.py", "work"), namespace)
        how = "ended"
    except Terminated as error:
        how = f"{error.kind} by {'our count' if asked else 'the interpreter'}"
    assert len(runtime.meter.frames) == places
    return how


TOO_DEEP = {
    "generators that delegate": """
def g(n):
    yield n
    for x in g(n+1):
        yield x
for v in g(0): pass
""",
    "generators by yield from": """
def g(n):
    yield n
    yield from g(n+1)
for v in g(0): pass
""",
    "generators by closure": """
def make(n):
    def g():
        yield n
        for x in make(n+1): yield x
    return g()
for v in make(0): pass
""",
    "generators by next": """
def g(n):
    yield next(g(n+1))
x = next(g(0))
""",
    "generators by a list": """
def g(n):
    yield sum([v for v in g(n+1)])
x = next(g(0))
""",
    "generators by max": """
def g(n):
    yield max(g(n+1))
x = next(g(0))
""",
    "generators that were begun from below": """
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
    "generator expressions over each other": """
g = (x for x in [1,2])
def wrap(g): return (x for x in g)
for i in range(3000): g = wrap(g)
x = list(g)
""",
    "generator expressions by next": """
h = (x for x in range(10**6))
def wrap(h): return (next(h) for x in range(10**6))
for i in range(1000): h = wrap(h)
x = next(h)
""",
    "generator expressions in an inner clause": """
h = (x for x in range(10**6))
def wrap(h): return (y for x in [1] for y in h)
for i in range(1000): h = wrap(h)
x = next(h)
""",
    "generator expressions in a condition": """
h = (x for x in range(10**6))
def wrap(h): return (x for x in [1] if next(h) == 0)
for i in range(1000): h = wrap(h)
x = next(h)
""",
    "generator expressions by map": """
h = (x for x in range(10**6))
def wrap(h): return (x for x in map(str, h))
for i in range(1000): h = wrap(h)
x = next(h)
""",
    "all kinds of generators": """
def g(n):
    yield sum(y for y in [max(z for z in (next(w for w in g(n+1)) for q in [1]))])
x = next(g(0))
""",
    "a generator that is caught": """
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
    "equality of instances": """
from dataclasses import dataclass
@dataclass
class A:
    x: int = None
a = A(); b = A()
for i in range(3000):
    a = A(a); b = A(b)
x = a == b
""",
    "order of instances": """
from dataclasses import dataclass
@dataclass(order=True)
class A:
    x: int = None
a = A(0); b = A(1)
for i in range(3000):
    a = A(a); b = A(b)
x = a < b
""",
    "hashes of instances": """
from dataclasses import dataclass
@dataclass(frozen=True)
class A:
    x: int = None
a = A(0)
for i in range(3000):
    a = A(a)
x = {a: 1}
""",
    "equality through lists": """
from dataclasses import dataclass
@dataclass
class A:
    x: int = None
a = A(0); b=A(0)
for i in range(3000):
    a = A([a]); b = A([b])
x = a==b
""",
    "equality of named tuples": """
from collections import namedtuple
P = namedtuple("P", "x")
a = P(0); b=P(0)
for i in range(3000): a = P(a); b=P(b)
x = a == b
""",
    "hashes of named tuples": """
from collections import namedtuple
P = namedtuple("P", "x")
a = P(0)
for i in range(3000): a = P(a)
x = {a: 1}
""",
    "equality of deques": """
from collections import deque
a = deque(); b = deque()
for i in range(3000):
    a = deque([a]); b = deque([b])
x = a == b
""",
    "membership of deques": """
from collections import deque
a = deque(); b = deque()
for i in range(3000):
    a = deque([a]); b = deque([b])
x = a in [b]
""",
    "equality of ordered dicts": """
from collections import defaultdict, OrderedDict
a = OrderedDict(); b = OrderedDict()
for i in range(3000):
    a = OrderedDict({1:a}); b = OrderedDict({1:b})
x = a == b
""",
    "sorting instances": """
from dataclasses import dataclass
@dataclass(order=True)
class A:
    x: int = 0
a = A(); b = A(1)
for i in range(3000):
    a = A((a,)); b = A((b,))
x = sorted([a, b, a])
""",
    "all kinds of values": """
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
}  # fmt: skip


@pytest.mark.parametrize("title", list(TOO_DEEP))
def test_nesting_is_ended_by_our_own_count(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(TOO_DEEP[title], monkeypatch) == "depth by our count"


IN_BOUNDS = {
    "150 generators": """
def g(n):
    yield n
    if n: yield from g(n-1)
x = sum([v for v in g(150)])
""",
    "generators begun from below": """
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
    "generators that end in an error": """
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
    "errors in generators that C code pulls from": """
def g(n):
    if n == 0: raise ValueError("x")
    for x in g(n - 1): yield x
def f(n):
    try:
        return list(g(n))
    except ValueError: return 0
x = sum([f(150) for i in range(20)])
""",
    "abandoned generators": """
def g():
    while True: yield 1
for i in range(1000):
    for x in g(): break
    a, *b = zip(g(), [1, 2])
x = 1
""",
    "100 instances": """
from dataclasses import dataclass
@dataclass
class A:
    x: int = None
a = A(); b = A()
for i in range(100):
    a = A(a); b = A(b)
x = a == b
""",
}  # fmt: skip


@pytest.mark.parametrize("title", list(IN_BOUNDS))
def test_what_gives_its_places_back_goes_on(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended(IN_BOUNDS[title], monkeypatch) == "ended"


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


def test_elements_of_generator_expressions_may_assign() -> None:
    """A guard that is written in place keeps its result in a name, where Python allows no such thing."""
    prepare_process()
    runtime = GuestRuntime(fuel=FUEL)
    namespace: dict[str, Any] = runtime.namespace("work")
    source = """
def shown(xs):
    return list(str(x + x) + "a" for x in xs), list((y := str(x)) + y for x in xs)
x = shown([1, 2])
a, b = ({i + 1 for i in range(2)} for j in "ab")
"""
    runtime.run(compile_module(source, "work.py", "work"), namespace)
    assert namespace["x"] == (["2a", "4a"], ["11", "22"])
    assert list(namespace["a"]) == list(namespace["b"]) == [1, 2]
