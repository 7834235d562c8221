"""A debugging session: where one is in a run, and how to get elsewhere.

Knows no terminal. It holds one window of the run, and has another recorded when
somebody wants to go where that one does not reach, or looks for something far away.

* *step* goes to the next stop, wherever that is;
* *next* does not go into what the line calls;
* *out* goes to where the call that one is in has ended;
* *run on* goes to the next break: a line, or a write to a document or to a table.

Each of them works in both directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import attrs

from engine.debugging.reel import Reel, State
from sandbox.tracing.shape import BREAKS_MAX, TEXT_CAP, Request, Trace

WINDOW: Final = 2_000  # stops held at a time: a step within takes no time, and one beyond runs the call again

Direction = Literal[1, -1]
Record = Callable[[Request], Trace]


class CannotGo(Exception):
    """A command that makes no sense here. The message says why."""


@attrs.define
class Session:
    """See the module's text.

    Args:
      record: runs the call again, which takes as long as it takes.
      on_run: called before that.
    """

    _record: Record
    imports: bool = False
    window: int = WINDOW
    at: int = 1
    lines: list[tuple[str, int]] = attrs.field(factory=list)  # breaks
    documents: list[str] = attrs.field(factory=list)
    on_run: Callable[[], object] = lambda: None
    reel: Reel = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reel = self._reel_from(1)

    @property
    def total(self) -> int:
        return self.reel.trace.total

    def state(self) -> State:
        return self.reel.state(self.at)

    # ---- going --------------------------------------------------------------------------

    def go(self, number: int) -> None:
        """Go to a stop, or as far in its direction as there are stops."""
        number = min(max(number, 1), self.total)
        if number not in self.reel:
            first = max(1, min(number - self.window // 2, self.total - self.window + 1))
            reel = self._reel_from(first)
            if number not in reel:  # the window was cut for its size before it came to the stop
                reel = self._reel_from(number)
            self.reel = reel
        self.at = number

    def _reel_from(self, first: int) -> Reel:
        request = Request(first=first, last=first + self.window - 1, imports=self.imports)
        return Reel(self._run(request))

    def _run(self, request: Request) -> Trace:
        self.on_run()
        return self._record(request)

    def step(self, direction: Direction) -> None:
        self._end_of_run(direction)
        self.go(self.at + direction)

    def next(self, direction: Direction) -> None:
        self._seek(direction, self.reel.depth(self.at))

    def out(self, direction: Direction) -> None:
        self._seek(direction, self.reel.depth(self.at) - 1)

    def run_on(self, direction: Direction) -> None:
        """Go to the next break, or to the end of the run."""
        self._seek(direction, 0)

    def _end_of_run(self, direction: Direction) -> None:
        if direction == 1 and self.at >= self.total:
            raise CannotGo("this is the end of the run")
        if direction == -1 and self.at <= 1:
            raise CannotGo("this is the beginning of the run")

    def _seek(self, direction: Direction, depth: int) -> None:
        """Go to the nearest stop at most so deep, or at a break."""
        self._end_of_run(direction)
        found = None if self.documents else self._seek_here(direction, depth)
        if found is None:
            request = Request(
                first=1,
                last=0,
                imports=self.imports,
                pivot=self.at,
                lines=self.lines,
                documents=self.documents,
                depth=max(depth, 0),
            )
            trace = self._run(request)
            nearest = trace.found_after if direction == 1 else trace.found_before
            found = nearest or (self.total if direction == 1 else 1)
        self.go(found)

    def _seek_here(self, direction: Direction, depth: int) -> int | None:
        number = self.at + direction
        while number in self.reel:
            if self.reel.depth(number) <= depth or self._is_break(number):
                return number
            number += direction
        return None

    def _is_break(self, number: int) -> bool:
        stop = self.reel.stop(number)
        return stop.kind == "line" and (self.reel.routine(number).file, stop.line) in self.lines

    # ---- breaks -------------------------------------------------------------------------

    def toggle_line(self, file: str, line: int) -> bool:
        """Set or remove a break; return whether there is one now."""
        return self._toggle(self.lines, (file, line))

    def toggle_document(self, document: str) -> bool:
        """Set or remove a break on the writes to a document, or to a table by its name."""
        return self._toggle(self.documents, document)

    def _toggle(self, breaks: list, entry: object) -> bool:  # type: ignore[type-arg]  # of either kind
        if entry in breaks:
            breaks.remove(entry)
            return False
        if len(breaks) >= BREAKS_MAX:
            raise CannotGo(f"there are {BREAKS_MAX} breaks already")
        breaks.append(entry)
        return True

    # ---- looking closely ------------------------------------------------------------------

    def in_full(self, name: str, level: int = -1) -> str:
        """Return the text of a variable here, as long as texts get."""
        request = Request(first=self.at, last=self.at, text_max=TEXT_CAP, imports=self.imports)
        levels = Reel(self._run(request)).state(self.at).levels
        if name not in levels[level].variables:
            raise CannotGo(f"there is no variable {name} here")
        return levels[level].variables[name]
