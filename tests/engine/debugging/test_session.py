"""Going through a run: in both directions, over calls, to breaks, and beyond the window that is held."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest

from engine.debugging.session import CannotGo, Session
from sandbox.tracing.shape import Request, Trace, decode_trace

from ...sandbox.guest_app import GuestApp

POSTS = """
from tidewell import mutation


def doubled(n):
    m = n * 2
    return m


@mutation
def add(ctx, n: int):
    total = 0
    for i in range(n):
        total += doubled(i)
    post = ctx.db.insert("posts", {"likes": 0})
    ctx.db.patch(post, {"likes": total})
    return total


@mutation
def spin(ctx, n: int):
    total = 0
    for i in range(n):
        total += i
    ctx.db.insert("posts", {"likes": total})
    return total
"""
LINES = POSTS.split("\n")


def line(text: str) -> int:
    """Return the number of the one line of the app with `text`."""
    (number,) = [number for number, found in enumerate(LINES, 1) if text in found]
    return number


@attrs.define
class Run:
    """One call that can be recorded again and again; `requests` are what was asked."""

    path: str
    n: int
    requests: list[Request] = attrs.field(factory=list)
    app: GuestApp = attrs.field(factory=lambda: GuestApp({"posts.py": POSTS}))

    def record(self, request: Request) -> Trace:
        self.requests.append(request)
        call = self.app.call("mutation", self.path, {"n": self.n}, seed=bytes(32), trace=request)
        (outcome,) = self.app.outcomes(call)
        return decode_trace(outcome.trace)


def session(path: str = "posts:add", n: int = 2, window: int = 2_000) -> Session:
    return Session(Run(path, n).record, window=window)


def where(session: Session) -> tuple[str, int]:
    state = session.state()
    return state.stop.kind, state.levels[-1].line


def variables(session: Session) -> dict[str, str]:
    return dict(session.state().levels[-1].variables)


def test_every_step_forwards_is_undone_by_one_backwards() -> None:
    it = session()
    seen = [it.state()]
    while it.at < it.total:
        it.step(1)
        seen.append(it.state())
    for earlier in reversed(seen[:-1]):
        it.step(-1)
        assert it.state() == earlier
    assert len({state.number for state in seen}) == it.total


def test_the_ends_of_a_run_refuse_to_be_passed() -> None:
    it = session()
    for move in (it.step, it.next, it.out, it.run_on):
        with pytest.raises(CannotGo, match="beginning"):
            move(-1)
    it.go(10_000)
    assert where(it)[0] == "return"
    for move in (it.step, it.next, it.out, it.run_on):
        with pytest.raises(CannotGo, match="end"):
            move(1)


def test_next_passes_over_what_a_line_calls_in_both_directions() -> None:
    it = session()
    while where(it) != ("line", line("total += doubled(i)")):
        it.next(1)
    before = it.at
    assert variables(it)["total"] == "0"
    it.next(1)
    assert where(it) == ("line", line("total += doubled(i)") - 1)
    assert it.at > before + 3
    it.next(-1)
    assert it.at == before


def test_out_leads_to_where_the_call_has_ended_or_was_made() -> None:
    it = session()
    while where(it) != ("line", line("m = n * 2")):
        it.step(1)
    inside = it.at
    it.out(1)
    assert len(it.state().levels) == 1
    it.go(inside)
    it.out(-1)
    assert where(it) == ("line", line("total += doubled(i)"))


def test_running_on_stops_at_lines_and_at_writes() -> None:
    it = session(n=3)
    assert it.toggle_line("posts.py", line("return m"))
    it.run_on(1)
    assert variables(it) == {"n": "0", "m": "0"}
    it.run_on(1)
    assert variables(it) == {"n": "1", "m": "2"}
    it.run_on(-1)
    assert variables(it) == {"n": "0", "m": "0"}
    assert not it.toggle_line("posts.py", line("return m"))
    assert it.toggle_document("posts")
    it.run_on(1)
    assert where(it) == ("line", line('post = ctx.db.insert("posts", {"likes": 0})'))
    it.run_on(1)
    assert where(it) == ("line", line("ctx.db.patch("))
    document = it.state().touches[-1].document
    it.toggle_document("posts")
    it.toggle_document(document)
    it.go(1)
    it.run_on(1)
    assert where(it) == ("line", line('post = ctx.db.insert("posts", {"likes": 0})'))
    it.go(it.total)
    it.run_on(-1)
    assert where(it) == ("line", line("ctx.db.patch("))


def test_running_on_without_breaks_leads_to_the_ends() -> None:
    it = session()
    it.run_on(1)
    assert it.at == it.total
    it.run_on(-1)
    assert it.at == 1


@pytest.mark.parametrize("window", [1, 2, 7])
def test_small_windows_show_the_same_as_one_large(window: int) -> None:
    large, small = session(), session(window=window)
    moves: list[Callable[[Session], None]] = [
        lambda it: it.step(1),
        lambda it: it.next(1),
        lambda it: it.step(1),
        lambda it: it.out(1),
        lambda it: it.go(25),
        lambda it: it.step(-1),
        lambda it: it.next(-1),
        lambda it: it.out(-1),
        lambda it: it.run_on(1),
    ]
    for move in moves:
        move(large)
        move(small)
        assert small.at == large.at
        mine, theirs = small.state(), large.state()
        assert (mine.stop.kind, mine.stop.line, mine.stop.steps) == (
            theirs.stop.kind,
            theirs.stop.line,
            theirs.stop.steps,
        )
        assert [level.variables for level in mine.levels] == [level.variables for level in theirs.levels]
        assert [level.line for level in mine.levels] == [level.line for level in theirs.levels]


def test_a_long_run_is_searched_in_one_run_and_held_in_one_window() -> None:
    run = Run("posts:spin", 5_000)
    it = Session(run.record)
    it.toggle_line("posts.py", line('ctx.db.insert("posts", {"likes": total})'))
    run.requests.clear()
    it.run_on(1)
    assert variables(it)["i"] == "4999"
    assert (run.requests[0].first, run.requests[0].last) == (1, 0)
    assert len(run.requests) == 2
    assert len(it.reel.trace.stops) <= it.window
    it.run_on(-1)
    assert it.at == 1


def test_a_value_can_be_had_in_full() -> None:
    it = session(n=2)
    it.go(it.total)
    assert it.in_full("total") == variables(it)["total"]
    with pytest.raises(CannotGo, match="no variable"):
        it.in_full("missing")
