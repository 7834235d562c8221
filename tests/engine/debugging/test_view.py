"""The terminal of the debugger, with keys that are really pressed, on input that is a pipe."""

from __future__ import annotations

import textwrap

import attrs
import pytest
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.formatted_text.utils import fragment_list_to_text
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from engine.debugging.session import CannotGo, Session
from engine.debugging.subject import Subject, lines_of
from engine.debugging.view import View
from sandbox.frames import Module
from sandbox.tracing.shape import Request, Trace, decode_trace

from ...sandbox.guest_app import GuestApp

POSTS = textwrap.dedent(
    """
    from tidewell import mutation


    def doubled(n):
        m = n * 2
        return m


    @mutation
    def add(ctx, n: int):
        title = "steer \\x1b[2J the terminal"
        total = doubled(n)
        post = ctx.db.insert("posts", {"likes": total, "title": title})
        print("added", total)
        if total > 5:
            raise ValueError("too many")
        return total
    """
)


@attrs.define
class Run:
    n: int = 2
    app: GuestApp = attrs.field(factory=lambda: GuestApp({"posts.py": POSTS}))
    fails: str = ""

    def record(self, request: Request) -> Trace:
        if self.fails:
            raise CannotGo(self.fails)
        call = self.app.call("mutation", "posts:add", {"n": self.n}, seed=bytes(32), trace=request)
        (outcome,) = self.app.outcomes(call)
        return decode_trace(outcome.trace)


def view_of(run: Run) -> View:
    module = Module(path="posts.py", source=POSTS.encode())
    subject = Subject("posts:add", "commit 17", 17, 40, lines_of([module]), {10001: "posts"})
    return View(Session(run.record), subject, ["[LOG] added 4"])


def pressed(keys: str, run: Run | None = None) -> View:
    """Return the view after `keys`, and `q`, were pressed."""
    view = view_of(run or Run())
    with create_pipe_input() as pipe:
        pipe.send_text(keys + "q")
        view.run(input=pipe, output=DummyOutput())
    return view


def text(fragments: StyleAndTextTuples) -> str:
    return fragment_list_to_text(fragments)


def test_it_begins_where_the_function_is_entered() -> None:
    view = pressed("")
    assert "posts:add commit 17 · stop 1 of 12 · 0 of 40 steps" in text(view.panes.header())
    assert "call add (posts.py:11)" in text(view.panes.variables())
    assert "n = 2" in text(view.panes.variables())
    assert "▶  11  def add(ctx, n: int):" in text(view.panes.source())


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ("s", 2),
        ("sss", 4),
        ("sssS", 3),
        ("\x1b[C\x1b[C\x1b[D", 2),  # right, right, left
        ("ssn", 8),
        ("ssnp", 3),
        ("ssso", 8),
        ("sssO", 3),
        ("G", 12),
        ("Gg", 1),
        ("c", 12),
        (":7\r", 7),
        (":b posts.py:7\rc", 6),
        (":b posts.py:7\rGC", 6),
        ("w posts\x1b", 1),
        ("wposts\rc", 8),
        ("s?sssqs", 3),  # in the help, keys scroll
    ],
)
def test_keys_lead_to_stops(keys: str, at: int) -> None:
    assert pressed(keys).session.at == at


def test_lines_show_breaks_and_what_changed() -> None:
    view = pressed("sssssb")
    assert view.message == "stops at posts.py:7"
    assert view.session.lines == [("posts.py", 7)]
    assert "●▶   7      return m" in text(view.panes.source())
    changed = [name for style, name in view.panes.variables() if style == "class:changed"]
    assert changed == ["m"]
    assert "1 break" in text(view.panes.header())
    assert pressed("sssssbb").session.lines == []


def test_calls_further_out_can_be_looked_at() -> None:
    view = pressed("ssss\x1b[A")  # up
    assert "variables of add" in text(view.panes.variables())
    assert "▶ add  posts.py:13" in text(view.panes.calls())
    assert "▶  13      total = doubled(n)" in text(view.panes.source())
    view = pressed("ssss\x1b[A\x1b[A")
    assert view.message == "there is no call further out"
    assert "variables of doubled" in text(pressed("ssss\x1b[As").panes.variables())


def test_documents_and_the_log_are_those_so_far() -> None:
    before, after = pressed(":7\r"), pressed(":10\r")
    assert "none yet" in text(before.panes.documents())
    assert "inserted posts" in text(after.panes.documents())
    assert "'likes': 4" in text(after.panes.documents())
    assert "added" not in text(pressed(":9\r").panes.log())
    assert "[LOG] added 4" in text(after.panes.log())


def test_nothing_of_the_user_steers_the_terminal() -> None:
    view = pressed("ss")
    shown = text(view.panes.variables()) + text(view.panes.source()) + text(view.panes.documents())
    assert "\\x1b[2J" in shown
    assert "\x1b" not in shown


def test_an_exception_is_shown_where_it_is_raised() -> None:
    view = pressed("G", Run(n=3))
    assert "leaves by the exception" in text(view.panes.variables())
    view = pressed("GS", Run(n=3))
    assert "ValueError: too many" in text(view.panes.variables())


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("nonsense", "is no command"),
        ("b posts.py:9999", "there is no line 9999 in posts.py"),
        ("b nowhere", "is no place"),
        ("v missing", "no variable missing"),
        ("clear", "no breaks"),
    ],
)
def test_what_cannot_be_done_is_told(typed: str, told: str) -> None:
    assert told in pressed(f":{typed}\r").message


def test_it_says_so_while_the_call_runs_again() -> None:
    run = Run()
    view = view_of(run)
    told: list[str] = []
    record = run.record

    def listening(request: Request) -> Trace:
        told.append(view.message)
        return record(request)

    view.session._record = listening
    with create_pipe_input() as pipe:
        pipe.send_text("sscq")
        view.run(input=pipe, output=DummyOutput())
    assert told == ["running the call again …"]
    assert view.message == ""
    assert view.session.at == view.session.total


def test_a_run_that_cannot_be_repeated_is_told_and_not_raised() -> None:
    run = Run()
    view = view_of(run)
    run.fails = "the worker ran out of memory"
    with create_pipe_input() as pipe:
        pipe.send_text("c:5\rq")
        view.run(input=pipe, output=DummyOutput())
    assert view.session.at == 5
    with create_pipe_input() as pipe:
        pipe.send_text("wposts\rcq")
        view.run(input=pipe, output=DummyOutput())
    assert view.message == "the worker ran out of memory"
