"""What each part of the debugger's screen shows, as text with styles."""

from __future__ import annotations

from typing import Final

import attrs
from prompt_toolkit.data_structures import Point
from prompt_toolkit.formatted_text import StyleAndTextTuples

from engine.debugging.printing import headline
from engine.debugging.reel import Level, State
from engine.debugging.session import CannotGo, Session
from engine.debugging.subject import Subject
from engine.showing import printable

HELP: Final = """
  →  s   to the next stop                 ←  S   to the stop before
     n   over what this line calls           p   the same, backwards
     o   out of this call                    O   to where it was called
     c   on to the next break                C   back to the break before
     g   to the first stop                   G   to the last one
  PgDn   ten stops on                     PgUp   ten stops back

     b   break at this line, or no longer
     w   break at writes to a document, or to a table
     v   a variable in full
  ↑  ↓   look at the calls further out, and in again
     :   a stop's number; b FILE:LINE; w DOCUMENT; v VARIABLE; clear
     ?   this, and away again                q   leave

  A stop is a line about to run, or a call that begins, ends, pauses or goes on, or
  an exception. Variables are as they are just before the line runs; those in
  yellow have changed since the last stop of the same call.

  The call runs in the sandbox, on its own snapshot, with its own clock and
  chance. Nothing that happens here is kept.
"""
_DOCUMENTS_SHOWN: Final = 200
_VERBS_FAINT: Final = frozenset({"read", "missing", "count"})


@attrs.define
class Panes:
    """The texts for where the session is."""

    session: Session
    subject: Subject
    log_lines: list[str]
    _out: int = 0  # how many calls further out the person looks
    _known: State | None = None

    def state(self) -> State:
        if self._known is None or self._known.number != self.session.at:
            self._known = self.session.state()
        return self._known

    def moved(self) -> None:
        """The person went elsewhere: look at the innermost call again."""
        self._out = 0

    def look_at(self, further_out: int) -> None:
        levels = len(self.state().levels)
        out = self._out + further_out
        if not 0 <= out < levels:
            raise CannotGo("there is no call further " + ("out" if further_out > 0 else "in"))
        self._out = out

    def level(self) -> Level:
        return self.state().levels[-1 - self._out]

    def in_full(self, name: str) -> str:
        return printable(self.session.in_full(name, -1 - self._out))

    # ---- the parts ---------------------------------------------------------------------------

    def header(self) -> StyleAndTextTuples:
        session, state = self.session, self.state()
        breaks = len(session.lines) + len(session.documents)
        told = f" · {breaks} break{'s' * (breaks != 1)}" if breaks else ""
        return [
            ("bold", f" {printable(self.subject.function)} "),
            ("", f"{self.subject.title} · stop {session.at:,} of {session.total:,}"),
            ("", f" · {state.stop.steps:,} of {self.subject.steps:,} steps{told}"),
        ]

    def source(self) -> StyleAndTextTuples:
        level = self.level()
        file = level.routine.file
        text: StyleAndTextTuples = [("class:title", f"{printable(file)}\n")]
        for number, line in enumerate(self.subject.lines.get(file, ()), 1):
            is_break = (file, number) in self.session.lines
            text.append(("class:break", "●") if is_break else ("", " "))
            is_current = number == level.line
            text.append(("class:number", f"{'▶' if is_current else ' '}{number:>4}  "))
            text.append(("class:current" if is_current else "", f"{line}\n"))
        return text

    def source_position(self) -> Point:
        return Point(0, self.level().line)

    def variables(self) -> StyleAndTextTuples:
        state, level = self.state(), self.level()
        routine = self.session.reel.routine(self.session.at)
        text: StyleAndTextTuples = []
        if state.stop.kind != "line":
            style = "class:raise" if state.stop.kind in ("raise", "leave") else "class:changed"
            text.append((style, f"{headline(self.subject, routine, state.stop)}\n"))
        text.append(("class:title", f"variables of {printable(level.routine.name)}\n"))
        changed = state.changed if self._out == 0 else frozenset()
        ordered = sorted(level.variables.items(), key=lambda item: item[0] not in changed)
        for name, value in ordered:
            text.append(("class:changed" if name in changed else "class:name", printable(name)))
            text.append(("", f" = {printable(value)}\n"))
        if not ordered:
            text.append(("class:faint", "none yet\n"))
        return text

    def documents(self) -> StyleAndTextTuples:
        state = self.state()
        left_out = self.session.reel.trace.touches_before
        text: StyleAndTextTuples = [("class:title", "documents, the latest first\n")]
        for touch in reversed(state.touches[-_DOCUMENTS_SHOWN:]):
            style = "" if touch.kind in _VERBS_FAINT else "class:changed"
            text.append(("class:number", f"{touch.stop:>5} "))
            text.append((style, f"{self.subject.describe(touch)}\n"))
        if left_out:
            text.append(("class:faint", f"and {left_out:,} before\n"))
        elif not state.touches:
            text.append(("class:faint", "none yet\n"))
        return text

    def calls(self) -> StyleAndTextTuples:
        text: StyleAndTextTuples = [("class:title", "calls, the innermost first\n")]
        for out, level in enumerate(reversed(self.state().levels)):
            mark = "▶ " if out == self._out else "  "
            place = f"{printable(level.routine.file)}:{level.line}"
            text.append(("class:current" if out == self._out else "", mark))
            text.append(("", f"{printable(level.routine.name)}  "))
            text.append(("class:faint", f"{place}\n"))
        return text

    def log(self) -> StyleAndTextTuples:
        text: StyleAndTextTuples = [("class:title", "log, the latest first\n")]
        for line in reversed(self.log_lines[: self.state().stop.logged]):
            text.append(("", f"{printable(line)}\n"))
        return text
