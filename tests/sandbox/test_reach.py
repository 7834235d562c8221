"""Everything a guest can reach by loading attributes, walked object by object.

The recorded surface lists names of types. This follows values: from every name of a
guest's namespace, every facade and the SDK, through every attribute that the policy
lets a guest load, and through what calling the harmless ones gives. Nothing on the way
may be a module, a class that is not listed, a plain function of the host, or a way into
the interpreter.
"""

# ruff: noqa: E501  (rows of the program are kept on one line)

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox import policy
from sandbox.classes import is_guest_class, is_guest_instance
from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime
from sandbox.host import HostObject, Named
from sandbox.lazy import LAZY_TYPES, Lazies
from sandbox.sdk import EXCEPTIONS, build_module

OBJECTS_MAX = 100_000
GENERATORS = {id(constant) for constant in Lazies.generator.__code__.co_consts}  # stand for guests' own
SCALARS = (type(None), bool, int, float, str, bytes, type(Ellipsis), type(NotImplemented), range)
CONTAINERS = (list, tuple, dict, type({}.keys()), type({}.values()), type({}.items()), types.GeneratorType)
# What C code hands out to be called. None of them shows a public attribute, which the walk checks.
CALLABLES = (
    types.BuiltinFunctionType, types.MethodType, types.MethodDescriptorType, types.MethodWrapperType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)  # fmt: skip

# What a guest makes and keeps: one of everything that calls, constructors and patterns give.
PROGRAM = """
import base64, collections, dataclasses, datetime, decimal, functools, hashlib, hmac, itertools, json, math
import random, re, statistics, string, textwrap, time, typing, uuid
from urllib.parse import urlsplit
class Plain:
    def __init__(self): self.own = [1]
    def method(self): return self
class Mine(Exception): pass
@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
@dataclasses.dataclass(frozen=True)
class Fixed:
    x: int
@functools.cache
def cached(n): return n
def generator():
    yield 1
def caught(f):
    try: f()
    except Exception as e: return e
kept = [
    Plain(), Plain().method, Plain, Mine("a"), Mine, Point(1), Fixed(1), Point, cached, generator(), generator,
    lambda: 1, (i for i in [1]), {1, 2}, frozenset([1]), {"a": 1}.items(), {"a": 1}.keys(), {"a": 1}.values(),
    "a".join, "a".upper, ("a" * 1000).upper, "a".split, [].sort, [].append, {}.get, {}.update, {}.keys().isdisjoint,
    b"".hex, b"".decode, (5).to_bytes, (5).from_bytes, (1.5).fromhex, range(3).index, str.join, list.append,
    iter([]), map(len, []), filter(None, []), zip(), enumerate([]), reversed([]), itertools.count(),
    itertools.chain([]), itertools.accumulate([]), itertools.groupby([]), itertools.tee([]),
    collections.Counter("a"), collections.defaultdict(list), collections.OrderedDict(), collections.deque([1]),
    collections.namedtuple("P", "a b")(1, 2), collections.namedtuple("P", "a b"),
    datetime.datetime.now(), datetime.date.today(), datetime.timedelta(1), datetime.timezone.utc,
    datetime.time(1, 2), decimal.Decimal("1.5"), functools.partial(len), functools.lru_cache(maxsize=2),
    functools.cmp_to_key(lambda a, b: 0), functools.cmp_to_key(lambda a, b: 0)(1), functools.wraps(len),
    hashlib.sha256(b"a"), hmac.new(b"a", b"b", "sha256"), re.compile("(?P<n>a)"), re.match("(?P<n>a)", "a"),
    re.finditer("a", "aa"), uuid.uuid4(), urlsplit("http://h/a?b#c"), random.random, typing.Optional[int],
    int | None, list[int], dataclasses.field(default=1), dataclasses.fields(Point), json.dumps,
    caught(lambda: 1 / 0), caught(lambda: [].nope), caught(lambda: {}["a"]), caught(lambda: int("a")),
    caught(lambda: json.loads("{")), caught(lambda: b"\\xff".decode()), caught(lambda: next(iter([]))),
    caught(lambda: decimal.Decimal("x")), caught(lambda: re.compile("(")), caught(lambda: cached([])),
]
"""


def names_of(value: Any) -> set[str]:
    """Return every public name that loading may find: those of the type, and those of tables of members."""
    names = {name for name in dir(value) if not name.startswith("_")}
    names |= {name for name in dir(type(value)) if not name.startswith("_")}
    for slot in ("_members", "_names"):
        held = getattr(type(value), slot, None) and getattr(value, slot, None)
        if isinstance(held, dict):
            names |= {name for name in held if not name.startswith("_")}
    names |= set(policy.COSTED_ATTRIBUTES) | {"args", "value", "name", "real", "start", "step", "string"}
    return names


def parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((f"[{i}]", item) for i, item in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
        yield from ((f" key {key!r}", key) for key in value)


def problem_of(value: Any, runtime: GuestRuntime, guests: set[int]) -> str | None:
    kind = type(value)
    if isinstance(value, type):
        exceptions = {runtime.builtins[name] for name in policy.BUILTIN_EXCEPTIONS} | set(EXCEPTIONS)
        if is_guest_class(value) or value in exceptions:
            return None
        if issubclass(value, Exception) and value.__module__.startswith("sandbox.facades."):
            return None
        return "a class that is not listed"
    if kind is types.FunctionType:
        return None if id(value.__code__) in guests | GENERATORS else "a plain function of the host"
    if kind in SCALARS or kind in CONTAINERS or kind in CALLABLES or kind in LAZY_TYPES:
        return None
    if isinstance(value, (HostObject, BaseException)) or is_guest_instance(value) or isinstance(value, int):
        return None
    if kind.__module__ == "tidewell.values.canonical":
        return None
    return f"a {kind.__module__}.{kind.__qualname__}"


def codes_of(code: types.CodeType) -> Iterator[int]:
    yield id(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


def walk(roots: dict[str, Any], runtime: GuestRuntime, guests: set[int]) -> tuple[int, list[str]]:
    """Return how many objects were reached, and what is wrong with those that should not be."""
    pending: list[tuple[str, Any]] = list(roots.items())
    seen: dict[int, Any] = {}
    scalars: set[type] = set()
    wrong: list[str] = []
    while pending:
        path, value = pending.pop()
        if id(value) in seen:
            continue
        seen[id(value)] = value  # kept, so that no other object gets the same id
        assert len(seen) < OBJECTS_MAX
        problem = problem_of(value, runtime, guests)
        if problem is not None:
            wrong.append(f"{path} is {problem}")
            continue
        pending += [(path + step, part) for step, part in parts_of(value)]
        if isinstance(value, Named) or path.count(".") > 5:  # a reference answers to every name
            continue
        if type(value) in SCALARS:
            if type(value) in scalars:
                continue
            scalars.add(type(value))
        for name in names_of(value):
            if name in policy.DENIED_ATTRIBUTES:
                continue
            try:
                found = runtime.methods.load(value, name)
            except (AttributeError, ImportError):
                continue
            pending.append((f"{path}.{name}", found))
    return len(seen), wrong


@pytest.fixture
def reached() -> tuple[int, list[str]]:
    runtime = GuestRuntime(extra_bases=EXCEPTIONS)
    namespace = runtime.namespace("reach")
    compiled = compile_module(PROGRAM, "reach.py", "reach")
    runtime.run(compiled, namespace)
    roots = dict(runtime.builtins)
    roots |= {name: runtime.facade(name) for name in policy.FACADES}
    roots |= {name: value for name, value in namespace.items() if not name.startswith("__")}
    roots["tidewell"] = build_module()
    return walk(roots, runtime, set(codes_of(compiled.code)))


def test_nothing_within_reach_of_a_guest_leads_into_the_interpreter(reached: tuple[int, list[str]]) -> None:
    count, wrong = reached
    assert not wrong, "\n".join(wrong)
    assert count > 1000  # the walk has seen the facades, or it proves nothing


@pytest.mark.parametrize(
    ("name", "planted"),
    [("module", types), ("class", object), ("function", lambda: 1), ("code", (lambda: 1).__code__)],
)
def test_the_walk_notices_what_must_not_be_there(name: str, planted: Any) -> None:
    _, wrong = walk({name: {"inside": [planted]}}, GuestRuntime(), set())
    assert len(wrong) == 1, wrong
