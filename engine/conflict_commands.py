"""`tidewell conflicts`: which functions run into each other, where, and how often."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import attrs
import click

from engine.conflicts import TABLE
from engine.log_commands import Paper, for_programs, moment_option, opened
from engine.moments import HELP as MOMENT_HELP
from engine.moments import write_moment
from engine.showing import Line, printable
from engine.store_commands import data_option, json_option
from storage import Timestamp, Transaction
from tidewell.values import Value

Document = dict[str, Value]


@attrs.define
class Offence:
    """Conflicts that are alike: the same two functions, at the same lines, through the same index."""

    newest: Document
    times: int = 0
    attempt_max: int = 0

    def add(self, conflict: Document) -> None:
        self.newest = conflict
        self.times += conflict["times"]
        self.attempt_max = max(self.attempt_max, conflict["reader"]["attempt"])


def offences(conflicts: Iterable[Document]) -> list[Offence]:
    """Return what happened most first. `conflicts` come in the order in which they happened."""
    found: dict[tuple[Value, ...], Offence] = {}
    for conflict in conflicts:
        reader, writer = conflict["reader"], conflict["writer"]
        sides = (reader["function"], reader["line"], writer["function"], writer["line"])
        kind = (conflict["table"], conflict["index"], *sides)
        found.setdefault(kind, Offence(conflict)).add(conflict)
    return sorted(found.values(), key=lambda offence: -offence.times)


@click.command()
@click.option("-n", "count", type=click.IntRange(1), default=10, show_default=True, help="How many kinds.")
@moment_option("--since", f"Not before: {MOMENT_HELP}.")
@json_option
@data_option
def conflicts(count: int, since: Timestamp | None, as_json: bool, data: Path) -> None:
    """List the conflicts between mutations: top offenders first, with the lines of both sides.

    A mutation whose reads were overtaken runs again by itself. That is correct and costs time;
    reading less, or through an index that narrows the read, makes it rarer. Source lines are
    known in development, and in production for functions that conflict often.
    """
    with opened(data) as history:
        transaction = Transaction(history.store.snapshot())
        found: list[Document] = []
        if transaction.table_exists(TABLE):
            earliest_ms = 0 if since is None else since / 1e6
            found = [each for each in transaction.scan(TABLE) if each["_creationTime"] >= earliest_ms]
    kinds = offences(found)
    if as_json:
        click.echo(json.dumps([_json(offence) for offence in kinds[:count]]))
        return
    if not kinds:
        click.echo("No mutation was overtaken by another.", err=True)
        return
    lines: list[Line] = []
    for offence in kinds[:count]:
        lines += _lines(offence)
    if len(kinds) > count:
        lines.append([(f"and {len(kinds) - count} more kinds; -n shows them", "dim")])
    Paper().print(lines)


def _lines(offence: Offence) -> list[Line]:
    newest = offence.newest
    reader, writer = newest["reader"], newest["writer"]
    whom = "another call of it" if newest["sameFunction"] else writer["function"] or "the engine itself"
    again = newest["retriedAfterMs"]
    return [
        [
            (f"{offence.times:>6,} x  ", "red bold"),
            (printable(reader["function"]), "bold"),
            (" was overtaken by ", ""),
            (printable(whom), "bold"),
        ],
        _fact("read", _side(f"{newest['table']}.{newest['index']}: {newest['range']}", reader["line"])),
        _fact("written", _side(str(newest["documentId"] or newest["table"]), writer["line"])),
        _fact(
            "newest",
            f"{write_moment(int(newest['_creationTime'] * 1e6))}, execution {reader['execution']} attempt "
            f"{reader['attempt']}, by commit {writer['commitTs']}",
        ),
        _fact("outcome", "ran again alone" if again is None else f"ran again after {again} ms"),
    ]


def _fact(name: str, text: str) -> Line:
    return [(f"          {name:<9}", "dim"), (printable(text), "")]


def _side(what: str, line: str | None) -> str:
    return what if line is None else f"{what}  at {line}"


def _json(offence: Offence) -> dict[str, Any]:
    return {"times": offence.times, "attemptMax": offence.attempt_max, "newest": for_programs(offence.newest)}


COMMANDS: Final = (conflicts,)
