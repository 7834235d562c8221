"""The stops of a run, a window at a time, and the state at each of them.

Pure: it is made of a trace, and knows neither where traces come from nor who looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs

from sandbox.tracing.shape import ENTERS, LEAVES, Routine, Stop, Touch, Trace


@attrs.frozen
class Level:
    """One call that is under way at a stop."""

    routine: Routine
    line: int
    variables: Mapping[str, str]


@attrs.frozen
class State:
    """What there is at one stop, just before its line runs.

    Args:
      levels: the calls under way, outermost first; the last one is the stop's own.
      touches: what was done to the documents so far, as far as it is kept.
    """

    number: int
    stop: Stop
    levels: tuple[Level, ...]
    touches: tuple[Touch, ...]

    @property
    def changed(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.stop.changes)


@attrs.define
class _Open:
    routine: Routine
    line: int


class Reel:
    """One window.

    `depths` has for each stop how many calls are under way at it, its own included.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.first = trace.first
        self.last = trace.first + len(trace.stops) - 1
        self.routines = {routine.id: routine for routine in trace.routines}
        self.depths = list(self._depths())

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last

    def stop(self, number: int) -> Stop:
        return self.trace.stops[number - self.first]

    def routine(self, number: int) -> Routine:
        return self.routines[self.stop(number).routine]

    def depth(self, number: int) -> int:
        return self.depths[number - self.first]

    def touched_at(self, number: int) -> list[Touch]:
        """Return what the line of a stop did to the documents."""
        return [touch for touch in self.trace.touches if touch.stop == number]

    def _depths(self) -> Iterator[int]:
        depth = len(self.trace.opening)
        for stop in self.trace.stops:
            depth += stop.kind in ENTERS
            yield depth
            depth -= stop.kind in LEAVES

    def state(self, number: int) -> State:
        """Return the state at a stop of the window. Linear in the stops before it."""
        stack = [_Open(self.routines[row.routine], row.line) for row in self.trace.opening]
        variables: dict[int, dict[str, str]] = {}
        for row in self.trace.opening:
            _apply(variables.setdefault(row.routine, {}), row.variables)
        has_left = False  # the innermost call ended at the stop before
        for stop in self.trace.stops[: number - self.first + 1]:
            if has_left:
                stack.pop()
            if stop.kind in ENTERS:
                stack.append(_Open(self.routines[stop.routine], stop.line))
            stack[-1].line = stop.line
            has_left = stop.kind in LEAVES
            _apply(variables.setdefault(stop.routine, {}), stop.changes)
        levels = tuple(Level(one.routine, one.line, variables.get(one.routine.id, {})) for one in stack)
        touches = tuple(touch for touch in self.trace.touches if touch.stop < number)
        return State(number, self.stop(number), levels, touches)


def _apply(variables: dict[str, str], changes: list[tuple[str, str | None]]) -> None:
    for name, text in changes:
        if text is None:
            variables.pop(name, None)
        else:
            variables[name] = text
