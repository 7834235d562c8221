"""A whole trace as lines for a person or a pipe, and as JSON for a program.

In the lines, what a line of the program has changed stands under it, and what a call
did stands under the line that made it, further in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from engine.debugging.reel import Reel
from engine.debugging.subject import Subject
from engine.showing import printable
from sandbox.tracing.shape import ENTERS, LEAVES, Routine, Stop, Trace

_INDENT: Final = "  "
_MARGIN: Final = " " * 16  # under the numbers of stop and steps
_LEVELS_SHOWN: Final = 20  # of indentation
_VERBS: Final = {
    "call": "call",
    "resume": "resume",
    "yield": "yields",
    "return": "returns",
    "raise": "raises",
    "leave": "leaves",
}


def trace_lines(subject: Subject, reel: Reel) -> Iterator[str]:
    """Yield the lines of a trace."""
    trace = reel.trace
    yield f"{'stop':>6} {'steps':>7}"
    if trace.opening:
        yield f"{_MARGIN}under way before stop {trace.first}:"
        for depth, row in enumerate(trace.opening, 1):
            indent = _MARGIN + _INDENT * min(depth, _LEVELS_SHOWN)
            yield f"{indent}{_place(reel.routines[row.routine], row.line)}"
            for name, text in row.variables:
                yield f"{indent}{_INDENT}{printable(name)} = {printable(text or '')}"
    for number in range(reel.first, reel.last + 1):
        stop, routine = reel.stop(number), reel.routine(number)
        indent = _INDENT * min(reel.depth(number) - 1, _LEVELS_SHOWN)
        changes = [f"{_MARGIN}{indent}{_INDENT}{_INDENT}{change}" for change in changes_of(stop)]
        if stop.kind not in ENTERS:
            yield from changes
        yield f"{number:>6} {stop.steps:>7}  {indent}{headline(subject, routine, stop)}"
        if stop.kind in ENTERS:
            yield from changes
        for touch in reel.touched_at(number):
            yield f"{_MARGIN}{indent}{_INDENT}{_INDENT}{subject.describe(touch)}"
    yield from closing_lines(trace, reel)


def headline(subject: Subject, routine: Routine, stop: Stop) -> str:
    """Return one stop in one line."""
    file = printable(routine.file)
    if stop.kind == "line":
        return f"{file}:{stop.line}  {subject.line(routine.file, stop.line).strip()}"
    verb, name = _VERBS[stop.kind], printable(routine.name)
    place = f"({file}:{stop.line})"
    if stop.kind in ENTERS:
        return f"{verb} {name} {place}"
    what = "by the exception" if stop.kind == "leave" else printable(stop.text or "")
    return f"{name} {verb} {what} {place}"


def changes_of(stop: Stop) -> list[str]:
    """Return what has changed since the last stop of the same call, a variable a line."""
    return [
        f"{printable(name)} is gone" if text is None else f"{printable(name)} = {printable(text)}"
        for name, text in stop.changes
    ]


def _place(routine: Routine, line: int) -> str:
    return f"{printable(routine.name)} ({printable(routine.file)}:{line})"


def closing_lines(trace: Trace, reel: Reel) -> Iterator[str]:
    """Say where the trace ends before the run does, and how to have the rest."""
    if trace.touches_before:
        yield f"The first {trace.touches_before:,} reads and writes are left out; the latest are shown."
    if trace.cut:
        shown = f"stops {reel.first:,} to {reel.last:,}" if trace.stops else "no stop"
        why = " (their values are large)" if trace.cut == "bytes" else ""
        yield (
            f"Cut: this shows {shown} of {trace.total:,}{why}. "
            f"--from {reel.last + 1} shows what follows, --last N the end."
        )


def cost_lines(subject: Subject, trace: Trace, steps: int, rows_max: int = 20) -> Iterator[str]:
    """Yield which lines took the steps of the run, the costliest first."""
    yield f"{'steps':>10} {'share':>6} {'times':>9}  line"
    for cost in trace.costs[:rows_max]:
        share = cost.steps / steps if steps else 0.0
        place = f"{printable(cost.file)}:{cost.line}  {subject.line(cost.file, cost.line).strip()}"
        yield f"{cost.steps:>10,} {share:>6.1%} {cost.times:>9,}  {place}"
    rest = steps - sum(cost.steps for cost in trace.costs[:rows_max])
    if rest > 0:
        others = "other lines, modules' bodies, and checking of arguments and results"
        yield f"{rest:>10,} {rest / steps:>6.1%} {'':>9}  ({others})"


def trace_json(subject: Subject, reel: Reel, ending: dict[str, Any]) -> dict[str, Any]:
    """Return the trace as JSON says it. Texts are as they came: JSON escapes what a terminal must not see."""
    trace = reel.trace
    return {
        "function": subject.function,
        "ts": str(subject.ts) if subject.ts else None,
        **ending,
        "total": trace.total,
        "first": trace.first,
        "cut": trace.cut or None,
        "opening": [
            {
                "function": reel.routines[row.routine].name,
                "file": reel.routines[row.routine].file,
                "line": row.line,
                "variables": dict(row.variables),
            }
            for row in trace.opening
        ],
        "stops": [_stop_json(reel, number) for number in range(reel.first, reel.last + 1)],
        "touches": [
            {
                "stop": touch.stop,
                "kind": touch.kind,
                "table": touch.name or subject.tables.get(touch.table, "") or None,
                "id": touch.document or None,
                "text": touch.text,
            }
            for touch in trace.touches
        ],
        "touches_left_out": trace.touches_before,
        "reads": trace.reads,
        "writes": trace.writes,
        "costs": [
            {"file": cost.file, "line": cost.line, "times": cost.times, "steps": cost.steps}
            for cost in trace.costs
        ],
    }


def _stop_json(reel: Reel, number: int) -> dict[str, Any]:
    stop, routine = reel.stop(number), reel.routine(number)
    found: dict[str, Any] = {
        "stop": number,
        "kind": stop.kind,
        "function": routine.name,
        "call": routine.id,
        "depth": reel.depth(number),
        "file": routine.file,
        "line": stop.line,
        "steps": stop.steps,
        "logged": stop.logged,
        "changes": dict(stop.changes),
    }
    if stop.kind in LEAVES | {"raise"} and stop.text is not None:
        found["text"] = stop.text
    return found
