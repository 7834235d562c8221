"""The recorder: what it tells of a run, that the run does not notice, and that it has bounds."""

from __future__ import annotations

import sys
import textwrap
from itertools import pairwise
from typing import Any

import attrs
import pytest

from sandbox.frames import Outcome
from sandbox.tracing import recorder as recorder_module
from sandbox.tracing.shape import MORE, STOPS_MAX, Request, Stop, Trace, decode_trace

from ..guest_app import GuestApp

APP = {
    "posts.py": '''
        from tidewell import Id, internal_mutation, mutation, query

        FACTORS = [n * 2 for n in range(3)]

        @mutation
        def add(ctx, text: str):
            return ctx.db.insert("posts", {"text": text, "likes": 0})

        @query
        def total(ctx):
            return sum(post["likes"] for post in ctx.db.query("posts"))

        @mutation
        def like(ctx, id: str, n: int):
            """Docstrings are no lines that run."""
            post = ctx.db.get(id)
            likes = post["likes"]
            likes += n
            ctx.db.patch(id, {"likes": likes})
            print("liked", likes)
            return likes

        def doubled(n):
            try:
                return n * 2
            finally:
                n = 0

        def counted(n):
            for i in range(n):
                yield i

        class Tally:
            def __init__(self, start):
                self.sum = start

            def add(self, n):
                self.sum += n

        @mutation
        def everything(ctx, id: str):
            tally = Tally(1)
            double = lambda n: n * 2
            for i in counted(2):
                tally.add(doubled(i))
            table = {"rows": []}
            table["rows"] += [double(i) for i in range(2)]
            if 0 < tally.sum < len(table["rows"]) + 10:
                table["rows"][0] = ctx.run_query("posts:total")
            try:
                ctx.run_mutation("posts:broken", {"id": id})
            except Exception as error:
                failure = str(error)
            return table

        @internal_mutation
        def broken(ctx, id: str):
            ctx.db.patch(id, {"likes": -1})
            return {}["missing"]

        @mutation
        def long(ctx, n: int):
            held = []
            for i in range(n):
                held = [i]
            return len(held)

        @mutation
        def endless(ctx):
            while True:
                pass
    ''',
}


@attrs.frozen
class Told:
    """One stop with the names that it stands for."""

    number: int
    kind: str
    function: str
    line: str
    stop: Stop

    def changes(self) -> dict[str, str | None]:
        return dict(self.stop.changes)


@attrs.define
class Run:
    live: Outcome
    traced: Outcome
    trace: Trace
    source: list[str]

    def told(self) -> list[Told]:
        routines = {routine.id: routine for routine in self.trace.routines}
        return [
            Told(
                number,
                stop.kind,
                routines[stop.routine].name,
                self.source[stop.line - 1].strip(),
                stop,
            )
            for number, stop in enumerate(self.trace.stops, self.trace.first)
        ]


def run(
    app: GuestApp, path: str, args: dict[str, Any], request: Request | None = None, **options: Any
) -> Run:
    """Run the same call without a recorder and with one. Commits nothing."""
    (live,) = app.outcomes(app.call("mutation", path, args, seed=bytes(32), **options))
    request = request or Request()
    (traced,) = app.outcomes(app.call("mutation", path, args, seed=bytes(32), trace=request, **options))
    file = path.partition(":")[0] + ".py"
    source = next(module for name, module in app.files.items() if name == file)
    return Run(live, traced, decode_trace(traced.trace), _dedented(source))


def _dedented(source: str) -> list[str]:
    return textwrap.dedent(source).splitlines()


@pytest.fixture(scope="module")
def app() -> GuestApp:
    return GuestApp(APP)


@pytest.fixture(scope="module")
def post(app: GuestApp) -> str:
    post = app.mutate("posts:add", text="hello")
    assert isinstance(post, str)
    return post


def test_lines_run_in_order_with_what_they_changed_and_spent(app: GuestApp, post: str) -> None:
    told = run(app, "posts:like", {"id": post, "n": 2}).told()
    assert [(one.kind, one.line) for one in told] == [
        ("call", "def like(ctx, id: str, n: int):"),
        ("line", "post = ctx.db.get(id)"),
        ("line", 'likes = post["likes"]'),
        ("line", "likes += n"),
        ("line", 'ctx.db.patch(id, {"likes": likes})'),
        ("line", 'print("liked", likes)'),
        ("line", "return likes"),
        ("return", "return likes"),
    ]
    assert told[0].changes() == {"ctx": "<mutationcontext>", "id": repr(post), "n": "2"}
    assert [one.changes().get("likes") for one in told] == [None, None, None, "0", "2", None, None, None]
    assert told[-1].stop.text == "2"
    assert [one.stop.logged for one in told][-3:] == [0, 1, 1]
    steps = [one.stop.steps for one in told]
    assert steps == sorted(steps)
    assert steps[-1] > steps[0]


@pytest.mark.parametrize("path", ["posts:like", "posts:everything", "posts:endless", "posts:long"])
def test_a_traced_run_is_the_live_run_to_the_last_step(app: GuestApp, post: str, path: str) -> None:
    arguments = {
        "posts:like": {"id": post, "n": 2},
        "posts:everything": {"id": post},
        "posts:long": {"n": 30_000},
    }
    seen = run(app, path, arguments.get(path, {}), fuel=50_000)
    for name in Outcome.__struct_fields__:
        if name != "trace":
            assert getattr(seen.traced, name) == getattr(seen.live, name), name
    assert seen.live.steps > 0
    assert seen.trace.stops
    assert max(stop.steps for stop in seen.trace.stops) <= seen.live.steps


def test_generators_comprehensions_lambdas_and_nested_calls_are_followed(app: GuestApp, post: str) -> None:
    told = run(app, "posts:everything", {"id": post}).told()
    kinds = {(one.function, one.kind) for one in told}
    assert {("counted", "call"), ("counted", "yield"), ("counted", "resume"), ("counted", "return")} <= kinds
    assert {("everything.lambda", "call"), ("Tally.__init__", "call"), ("Tally.add", "line")} <= kinds
    assert {("total", "call"), ("total", "return"), ("broken", "raise"), ("broken", "leave")} <= kinds
    raised = next(one for one in told if one.function == "broken" and one.kind == "raise")
    assert raised.stop.text == "KeyError: 'missing'"
    assert raised.line == 'return {}["missing"]'
    assert ("total.generator expression", "yield") in kinds
    added = [
        one.changes().get("self") for one in told if one.function == "Tally.add" and one.kind == "return"
    ]
    assert added == [None, "Tally(sum=3)"]
    assert any(one.changes().get("failure") for one in told)


def test_nothing_that_the_compiler_has_added_is_shown(app: GuestApp, post: str) -> None:
    told = run(app, "posts:everything", {"id": post}).told()
    names = {name for one in told for name in one.changes()}
    assert not {name for name in names if name.startswith(("_", "."))}
    assert {"tally", "double", "i", "table", "failure", "error", "self", "n", "start"} <= names
    for before, after in pairwise(told):
        assert after.kind != "line" or not after.line.startswith("def "), after
        is_repeated = before.stop.line == after.stop.line and before.kind == after.kind == "line"
        assert not (is_repeated and before.line.startswith("return")), after


def test_documents_read_and_written_are_told_with_the_stop_of_it(app: GuestApp, post: str) -> None:
    seen = run(app, "posts:like", {"id": post, "n": 3})
    told = {one.number: one for one in seen.told()}
    assert [(touch.kind, touch.document, told[touch.stop].line) for touch in seen.trace.touches] == [
        ("read", post, "post = ctx.db.get(id)"),
        ("read", post, 'ctx.db.patch(id, {"likes": likes})'),
        ("replace", post, 'ctx.db.patch(id, {"likes": likes})'),
    ]
    assert "'likes': 3" in seen.trace.touches[-1].text
    assert (seen.trace.reads, seen.trace.writes) == (2, 1)
    undone = run(app, "posts:everything", {"id": post}).trace.touches
    assert [touch.kind for touch in undone][-3:] == ["read", "replace", "undo"]


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="bodies have no lines there; see code_maps")
def test_module_bodies_are_followed_when_asked_for(app: GuestApp, post: str) -> None:
    without = run(app, "posts:like", {"id": post, "n": 1}).told()
    assert "module" not in {one.function for one in without}
    told = run(app, "posts:like", {"id": post, "n": 1}, Request(imports=True)).told()
    assert ("module", "FACTORS = [n * 2 for n in range(3)]") in {(one.function, one.line) for one in told}


# ---- windows -------------------------------------------------------------------------


def test_any_window_tells_the_same_as_the_whole(app: GuestApp, post: str) -> None:
    whole = run(app, "posts:everything", {"id": post})
    states = _states(whole.trace)
    total = whole.trace.total
    assert total == len(states)
    for first in range(1, total + 1):
        part = run(app, "posts:everything", {"id": post}, Request(first=first, last=first + 3)).trace
        assert (part.total, part.first) == (total, first)
        assert _states(part) == states[first - 1 : first + 3]


def _states(trace: Trace) -> list[tuple[str, int, dict[str, str | None]]]:
    """Return (kind, line, variables of the routine) at each stop."""
    variables = {row.routine: dict(row.variables) for row in trace.opening}
    states = []
    for stop in trace.stops:
        mine = variables.setdefault(stop.routine, {})
        mine.update(stop.changes)
        for name in [name for name, text in mine.items() if text is None]:
            del mine[name]
        states.append((stop.kind, stop.line, dict(mine)))
    return states


def test_lines_and_written_documents_are_found_on_both_sides_of_a_stop(app: GuestApp, post: str) -> None:
    whole = run(app, "posts:everything", {"id": post})
    at = [one.number for one in whole.told() if one.kind == "line" and one.line == "yield i"]
    line = next(one.stop.line for one in whole.told() if one.line == "yield i")
    assert len(at) == 2
    request = Request(first=1, last=0, pivot=at[0] + 1, lines=[("posts.py", line)])
    found = run(app, "posts:everything", {"id": post}, request).trace
    assert (found.found_before, found.found_after) == (at[0], at[1])
    request = Request(first=1, last=0, pivot=0, documents=[post])
    found = run(app, "posts:everything", {"id": post}, request).trace
    assert found.found_after == next(t.stop for t in whole.trace.touches if t.kind == "replace")
    assert not found.stops


def test_what_each_line_cost_is_exact(app: GuestApp) -> None:
    seen = run(app, "posts:long", {"n": 1_000})
    costs = {seen.source[cost.line - 1].strip(): (cost.times, cost.steps) for cost in seen.trace.costs}
    assert costs["for i in range(n):"] == (1_001, 1_000)
    assert costs["held = [i]"][0] == 1_000
    assert sum(cost.steps for cost in seen.trace.costs) <= seen.live.steps


# ---- bounds --------------------------------------------------------------------------

HOSTILE = {
    "hostile.py": """
        from tidewell import AppError, mutation

        class Sly:
            def __init__(self, n):
                self.n = n

            def keys(self):
                raise ValueError("called")

        @mutation
        def huge(ctx):
            text = "x" * 1_000_000
            number = 2 ** 16_000
            rows = [text] * 1_000
            nested = []
            for i in range(100):
                nested = [nested, nested]
            ring = []
            ring.append(ring)
            sly = Sly(text)
            steering = "\\x1b]0;title\\x07\\x1b[2J"
            return 1

        @mutation
        def deep(ctx):
            return fall(1)

        def fall(n):
            a = b = c = d = "y" * 1000
            return fall(n + 1) if n < 150 else n

        @mutation
        def spin(ctx, n: int):
            total = 0
            for i in range(n):
                total += i
            return total

        @mutation
        def throw(ctx):
            class Odd(Exception):
                pass
            try:
                raise Odd(*[["z" * 100_000]] * 1_000)
            except Odd as error:
                held = error
            raise AppError({"big": "w" * 10_000})

        @mutation
        def towers(ctx):
            def tower(n):
                yield from tower(n + 1)
            return next(iter(tower(0)))
    """,
}


@pytest.fixture(scope="module")
def hostile() -> GuestApp:
    names = ", ".join(f"v{i}" for i in range(300))
    wide = f"""
from tidewell import mutation

@mutation
def wide(ctx):
    {names.replace(",", " =")} = 1
    for i in range(3000):
        v0 = v299 = i
    return v0

def {"f" * 5_000}():
    {"n" * 5_000} = 1
    return 1

@mutation
def long(ctx):
    return {"f" * 5_000}()
"""
    return GuestApp({**HOSTILE, "wide.py": wide})


@pytest.mark.parametrize(
    "path", ["hostile:huge", "hostile:throw", "hostile:deep", "hostile:towers", "wide:wide"]
)
def test_a_hostile_function_cannot_make_its_trace_large(hostile: GuestApp, path: str) -> None:
    seen = run(hostile, path, {}, Request(text_max=16_384))
    assert (seen.traced.kind, seen.traced.steps) == (seen.live.kind, seen.live.steps)
    assert len(seen.traced.trace) < 6 * 2**20
    assert not seen.trace.fault


def test_values_are_shown_short_and_without_asking_them(hostile: GuestApp) -> None:
    told = run(hostile, "hostile:huge", {}).told()
    shown = {name: text or "" for one in told for name, text in one.changes().items()}
    assert shown["number"] == "<an int of 16,001 bits>"
    assert shown["ring"].startswith("[[[")
    assert shown["sly"].startswith("Sly(n='xxx")
    assert all(len(text) <= 241 for text in shown.values())


def test_names_and_variables_have_a_cap(hostile: GuestApp) -> None:
    told = run(hostile, "wide:wide", {}, Request(last=100)).told()
    assert told[2].changes()[MORE] == "237 more variables"
    assert len(told[2].changes()) == 64
    long = run(hostile, "wide:long", {})
    assert max(len(routine.name) for routine in long.trace.routines) == 101
    assert max(len(name) for one in long.told() for name in one.changes()) == 101


def test_a_long_run_is_cut_and_says_so_and_its_end_can_be_had(hostile: GuestApp) -> None:
    seen = run(hostile, "hostile:spin", {"n": 40_000}).trace
    assert (seen.cut, len(seen.stops), seen.total) == ("window", STOPS_MAX, 80_005)
    last = run(hostile, "hostile:spin", {"n": 40_000}, Request(first=80_001, last=80_005))
    assert [one.kind for one in last.told()] == ["line", "line", "line", "line", "return"]
    assert last.trace.cut == ""
    assert dict(last.trace.opening[0].variables)["i"] == "39998"


def test_a_window_ends_where_its_bytes_do(hostile: GuestApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "STOP_BYTES_MAX", 10_000)
    trace = run(hostile, "hostile:spin", {"n": 1_000}).trace
    assert trace.cut == "bytes"
    assert 10 < len(trace.stops) < 200
    assert trace.total == 2_005


def test_a_recorder_that_fails_ends_the_recording_and_not_the_run(
    hostile: GuestApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(value: Any, text_max: int) -> str:
        raise RuntimeError("out of order")

    monkeypatch.setattr(recorder_module, "look", broken)
    seen = run(hostile, "hostile:spin", {"n": 10})
    assert seen.traced.value == seen.live.value
    assert "out of order" in seen.trace.fault
    assert not seen.trace.stops
