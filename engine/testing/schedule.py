"""A schedule: which calls were made, and in which order their transactions ran; and the same as code.

The code is what a person would write in a test, and it runs: calls of one
transaction, and actions that nobody came in between of, in one line each; other actions
begun, and moved on a step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from engine.testing.strategies import Pick
from tidewell.values import Value

TEXT_MAX: Final = 60  # of a value in a comment
NAMES: Final = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


@attrs.frozen
class PlannedCall:
    kind: str  # query, mutation or action
    path: str
    args: Mapping[str, Any]  # picks in the place of ids
    user: str | None


@attrs.frozen
class Move:
    """One transaction that ran.

    Attributes:
      call: which of the planned calls it is of.
      ended: how the call ended with it, such as "-> True"; None if it goes on.
    """

    call: int
    operation: str
    path: str
    args: Mapping[str, Value]
    value: Value
    error: str | None
    ts: int | None
    ended: str | None


@attrs.frozen
class Schedule:
    calls: Sequence[PlannedCall]
    moves: Sequence[Move]

    def commits(self) -> list[int]:
        """The timestamps of what was committed, in order."""
        return [move.ts for move in self.moves if move.ts is not None]


@attrs.frozen
class Broken:
    """An invariant that did not hold, with the schedule that it did not survive."""

    invariant: str
    problem: str
    schedule: Schedule
    seed: int


def code_of(broken: Broken, app: str, module: str, setups: Sequence[str]) -> str:
    """Return the schedule as a test."""
    body = [f"{name}(server)" for name in setups]
    body += _lines(broken.schedule)
    body.append(f"server.read({broken.invariant})")
    names = ", ".join(sorted({*setups, broken.invariant}))
    return "\n".join(
        [
            f"from {module} import {names}",
            "from tidewell.testing import BlockingTestServer",
            "",
            f"def test_{broken.invariant}():",
            f"    with BlockingTestServer({quoted(app)}, seed={broken.seed}) as server:",
            *(f"        {line}" for line in body),
        ]
    )


def _lines(schedule: Schedule) -> list[str]:
    names = iter(NAMES)
    called: dict[int, str] = {}  # names of the calls that are under way
    lines: list[tuple[str, str]] = []  # code and comment
    moves = schedule.moves
    position = 0
    while position < len(moves):
        move = moves[position]
        call = schedule.calls[move.call]
        if move.call not in called:
            run = _uninterrupted(moves, position)
            if run is not None:
                lines.append((f"{_caller(call)}.{call.kind}({_arguments(call)})", _comment(run, call)))
                position += len(run)
                continue
            called[move.call] = next(names, f"call_{move.call}")
            lines.append((f"{called[move.call]} = {_caller(call)}.start({_arguments(call)})", ""))
        lines.append((f"{called[move.call]}.step()", _comment([move], call)))
        position += 1
    width = max((len(code) for code, comment in lines if comment and len(code) <= TEXT_MAX), default=0)
    return [f"{code:{width}}  # {comment}" if comment else code for code, comment in lines]


def _uninterrupted(moves: Sequence[Move], start: int) -> list[Move] | None:
    """Return all moves of the call that begins at `start`, if nothing came in between and it ended."""
    run = []
    for move in moves[start:]:
        if move.call != moves[start].call:
            break
        run.append(move)
        if move.ended is not None:
            return run
    return None


def _caller(call: PlannedCall) -> str:
    return "server" if call.user is None else f"server.as_user({quoted(call.user)})"


def _arguments(call: PlannedCall) -> str:
    return quoted(call.path) + (f", {spelled(call.args)}" if call.args else "")


def spelled(value: Any) -> str:
    """Return a value as Python, picks as what finds the document."""
    if isinstance(value, Pick):
        return f"server.id_of({quoted(value.table)}, {value.index})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{spelled(key)}: {spelled(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spelled, value)) + "]"
    return quoted(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """Return a text as Python, in the quotes that formatters like."""
    spelled = repr(text)
    return spelled if '"' in text or spelled[0] == '"' else f'"{spelled[1:-1]}"'


def _comment(run: Sequence[Move], call: PlannedCall) -> str:
    [*_, last] = run
    if len(run) > 1 or last.path == call.path:
        return last.ended or ""
    what = f"{last.operation} {last.path} {ending(last.error, last.value)}"
    return what if last.ended is None else f"{what}; the call ends {last.ended}"


def ending(error: object, value: object) -> str:
    """Return how a call or a transaction ended, for a comment."""
    if error is None:
        return f"-> {_short(repr(value))}"
    lines = str(error).splitlines()
    return f"fails: {_short(lines[0] if lines else repr(error))}"


def _short(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "..."


def resolve(value: Any, id_of: Callable[[str, int], str | None]) -> Any:
    """Return `value` with ids for picks. Raises `LookupError` for a table without documents."""
    if isinstance(value, Pick):
        found = id_of(value.table, value.index)
        if found is None:
            raise LookupError(value.table)
        return found
    if isinstance(value, Mapping):
        return {resolve(key, id_of): resolve(item, id_of) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, id_of) for item in value]
    return value
