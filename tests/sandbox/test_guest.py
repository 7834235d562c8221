"""The runtime of a worker: calls one after another, nested calls, what the outcome tells."""

from __future__ import annotations

import pytest

from sandbox.compiler import compile_module
from sandbox.faults import Terminated
from sandbox.guest import GuestModule, GuestRuntime
from sandbox.traces import describe

POSTS = """
import random
from helpers import double

class Missing(Exception):
    pass

def like(post, by=1):
    post["likes"] += double(by)
    print("liked", post["likes"])
    return post

def draw():
    return random.random()

def fail(n):
    if n == 0:
        raise Missing("no such channel")
    return fail(n - 1)

def forever():
    while True:
        pass

def covered():
    try:
        forever()
    finally:
        raise Missing("cover")

def deep(n):
    return deep(n + 1)

def loops():
    for i in range(1000):
        for j in range(100):
            pass
    return 1
"""
HELPERS = "def double(n):\n    return n * 2\n"


def started(**options: object) -> tuple[GuestRuntime, dict[str, object], list[str]]:
    log: list[str] = []
    modules: dict[str, GuestModule] = {}
    runtime = GuestRuntime(import_hook=modules.get)
    runtime.reset(seed=bytes(32), now_ms=1000, log=log.append, **options)  # type: ignore[arg-type]  # passed on
    helpers = runtime.namespace("helpers")
    runtime.run(compile_module(HELPERS, "helpers.py", "helpers"), helpers)
    modules["helpers"] = GuestModule("helpers", helpers)
    namespace = runtime.namespace("posts")
    runtime.run(compile_module(POSTS, "posts.py", "posts"), namespace)
    return runtime, namespace, log


def test_a_function_runs_with_its_imports_and_its_log() -> None:
    runtime, posts, log = started()
    assert runtime.call(posts["like"], {"likes": 1}, by=2) == {"likes": 5}  # type: ignore[arg-type]  # a function
    assert log == ["liked 5"]


@pytest.mark.parametrize("name", ["forever", "covered"])
def test_an_endless_loop_ends_the_call_whatever_the_guest_raises_after_it(name: str) -> None:
    runtime, posts, _ = started(fuel=5000)
    with pytest.raises(Terminated) as ended:
        runtime.call(posts[name])  # type: ignore[arg-type]  # a function
    assert ended.value.kind == "fuel"
    assert runtime.steps_used == 5000
    assert runtime.ended is not None


def test_the_next_call_after_an_exhausted_one_is_like_any_other() -> None:
    runtime, posts, _ = started(fuel=5000)
    with pytest.raises(Terminated):
        runtime.call(posts["forever"])  # type: ignore[arg-type]  # a function
    runtime.close()
    fresh, fresh_posts, _ = started()
    runtime.reset(seed=bytes(32), now_ms=1000)
    assert runtime.call(posts["loops"]) == 1  # type: ignore[arg-type]  # a function
    used = runtime.steps_used
    fresh.reset(seed=bytes(32), now_ms=1000)
    fresh.call(fresh_posts["loops"])  # type: ignore[arg-type]  # a function
    assert used == fresh.steps_used


def test_the_smallest_budget_that_suffices_is_the_steps_used_plus_one() -> None:
    runtime, posts, _ = started()
    runtime.reset(seed=bytes(32), now_ms=0)
    runtime.call(posts["loops"])  # type: ignore[arg-type]  # a function
    used = runtime.steps_used
    runtime.reset(seed=bytes(32), now_ms=0, fuel=used + 1)
    assert runtime.call(posts["loops"]) == 1  # type: ignore[arg-type]  # a function
    runtime.reset(seed=bytes(32), now_ms=0, fuel=used)
    with pytest.raises(Terminated):
        runtime.call(posts["loops"])  # type: ignore[arg-type]  # a function


def test_deep_recursion_ends_the_call_with_its_own_kind() -> None:
    runtime, posts, _ = started()
    with pytest.raises(Terminated) as ended:
        runtime.call(posts["deep"], 0)  # type: ignore[arg-type]  # a function
    assert ended.value.kind == "depth"


def test_the_profile_names_the_line_that_took_the_steps() -> None:
    runtime, posts, _ = started(fuel=100_000)
    with pytest.raises(Terminated):
        runtime.call(posts["loops"])  # type: ignore[arg-type]  # a function
    file, line, steps = runtime.profile()[0]
    assert (file, POSTS.splitlines()[line - 1].strip()) == ("posts.py", "for j in range(100):")
    assert steps > 50_000


def test_nested_calls_draw_from_streams_of_their_own() -> None:
    runtime, posts, _ = started()
    outer = [runtime.call(posts["draw"])]  # type: ignore[arg-type]  # a function
    with runtime.nested():
        inner = [runtime.call(posts["draw"]) for _ in range(3)]  # type: ignore[arg-type]  # a function
    with runtime.nested():
        other = runtime.call(posts["draw"])  # type: ignore[arg-type]  # a function
    outer.append(runtime.call(posts["draw"]))  # type: ignore[arg-type]  # a function
    runtime.reset(seed=bytes(32), now_ms=0)
    assert [runtime.call(posts["draw"]) for _ in range(2)] == outer  # type: ignore[arg-type]  # a function
    assert len({*outer, *inner, other}) == 6


def test_a_draw_of_the_user_changes_no_ids() -> None:
    runtime, posts, _ = started()
    runtime.reset(seed=bytes(32), now_ms=0)
    before = runtime.chance.ids.bytes(16)
    runtime.reset(seed=bytes(32), now_ms=0)
    runtime.call(posts["draw"])  # type: ignore[arg-type]  # a function
    assert runtime.chance.ids.bytes(16) == before


def test_an_error_shows_the_users_lines_and_nothing_of_the_host() -> None:
    runtime, posts, _ = started()
    with pytest.raises(Exception, match="no such channel") as raised:
        runtime.call(posts["fail"], 2)  # type: ignore[arg-type]  # a function
    described = describe(raised.value, {"posts.py": POSTS}, runtime.texts)
    assert described.text(source=False) == (
        "Uncaught Missing: no such channel\n"
        "    at fail (posts.py:18)\n    at fail (posts.py:19)\n    at fail (posts.py:19)\n"
    )
    assert '        raise Missing("no such channel")\n' in described.text()


def test_an_error_of_the_application_has_the_name_that_clients_know() -> None:
    from tidewell.errors import AppError

    runtime = GuestRuntime(extra_bases=(AppError,), import_hook={"tidewell": Tidewell(AppError)}.get)
    source = "from tidewell import AppError\nclass Full(AppError): pass\nraise Full({'left': 0})\n"
    namespace = runtime.namespace("m")
    with pytest.raises(AppError) as raised:
        runtime.run(compile_module(source, "m.py", "m"), namespace)
    assert raised.value.data == {"left": 0}
    assert describe(raised.value, {}, runtime.texts).kind == "ConvexError"


class Tidewell:
    def __init__(self, error: type[Exception]) -> None:
        self.AppError = error


WAYS_OUT = """
def same(a): return a
def early(a):
    "with a text"
    if a is None: return 0
    if a: return a
    return same(a) + 1
def either(a): return a if a < 2 else same(a)
def number_first(a):
    1
    if a: return a
    return same(a)
"""


@pytest.mark.parametrize(
    ("name", "given", "expected", "steps"),
    [
        ("early", None, 0, 1),
        ("early", 5, 5, 1),
        ("early", 0, 1, 2),
        ("either", 1, 1, 1),
        ("either", 2, 2, 2),
        ("number_first", 3, 3, 1),
        ("number_first", 0, 0, 2),
    ],
)
def test_every_way_out_of_a_function_takes_one_step(
    name: str, given: object, expected: object, steps: int
) -> None:
    runtime = GuestRuntime()
    namespace = runtime.namespace("ways")
    runtime.run(compile_module(WAYS_OUT, "ways.py", "ways"), namespace)
    before, level = runtime.steps_used, len(runtime.meter.frames)
    assert runtime.call(namespace[name], given) == expected
    assert runtime.steps_used - before == steps
    assert len(runtime.meter.frames) == level
