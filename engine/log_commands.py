"""`tidewell log`, `show`, `history`: what was committed, by whom, and what it changed.

They read the data folder alone, and so work beside a running server, on a stopped
deployment and on a backup.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.text import Text

from engine.attempts import Attempt
from engine.clock import SystemClock
from engine.history import Change, Committed, Difference, History, NoSuchCommit, Wanted, check_document_id
from engine.moments import HELP as MOMENT_HELP
from engine.moments import InvalidMoment, read_moment, write_moment
from engine.showing import (
    FAILED_HEADER,
    LOG_HEADER,
    Line,
    attempt_line,
    attempt_lines,
    change_differences,
    commit_lines,
    difference_lines,
    first_line,
    log_line,
    printable,
    title,
)
from engine.store_commands import STORE, data_option, json_option
from storage import SharedStore, StoreError, Timestamp
from tidewell.values import MISSING, Value, canonical_text, unpack_trusted

FOLLOW_S: Final = 0.25  # between two looks at the log; a look without news costs microseconds
PIPE_WIDTH: Final = 1_000  # of lines where there is no terminal


@contextmanager
def opened(data: Path) -> Iterator[History]:
    """Give the history of a data folder; what is wrong is the one line the command ends with."""
    try:
        with SharedStore.open(data / STORE) as store:
            yield History(store)
    except StoreError as error:
        raise click.ClickException(str(error)) from None


def moment_option(name: str, text: str) -> Callable[[Any], Any]:
    return click.option(name, callback=_moment, metavar="WHEN", help=text)


def _moment(context: click.Context, parameter: click.Parameter, value: str | None) -> Timestamp | None:
    if value is None:
        return None
    try:
        return read_moment(value, SystemClock().now_ns())
    except InvalidMoment as error:
        raise click.BadParameter(str(error)) from None


class Paper:
    """Where lines go: painted on a terminal, plain in a pipe, kept whole in both."""

    def __init__(self) -> None:
        console = Console()
        self._console = console if console.is_terminal else Console(width=PIPE_WIDTH, color_system=None)

    def print(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._console.print(Text.assemble(*line), soft_wrap=True, highlight=False)


# ---- log ---------------------------------------------------------------------------------


@click.command()
@click.option("-n", "count", type=click.IntRange(1), default=20, show_default=True, help="How many commits.")
@click.option(
    "--function", metavar="NAME", help='Calls of it: "posts:like", a module, or a pattern "posts:*".'
)
@click.option("--document", metavar="ID", help="Commits that wrote this document.")
@click.option("--table", metavar="NAME", help="Commits that wrote to this table.")
@moment_option("--since", f"Not before: {MOMENT_HELP}.")
@moment_option("--until", "Not after.")
@click.option("--identity", metavar="TEXT", help='Calls by people with TEXT in a claim, or by "nobody".')
@click.option("--all", "everything", is_flag=True, help="The engine's own commits too.")
@click.option("--failed", is_flag=True, help="Attempts that were not committed instead, and why.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing commits as they come.")
@json_option
@data_option
def log(
    count: int,
    function: str | None,
    document: str | None,
    table: str | None,
    since: Timestamp | None,
    until: Timestamp | None,
    identity: str | None,
    everything: bool,
    failed: bool,
    follow: bool,
    as_json: bool,
    data: Path,
) -> None:
    """List the newest commits: when, which function, who called, what it took and what it wrote.

    Documents are counted as +new ~changed -deleted. `tidewell show COMMIT` has one in full.
    With --json, one object per line.
    """
    with opened(data) as history:
        if document is not None:
            check_document_id(document)
        if table is not None and table not in history.store.catalog().tables:
            known = ", ".join(sorted(history.store.catalog().tables)) or "none"
            raise click.ClickException(f"there is no table {table!r}; the tables are {known}")
        wanted = Wanted(function, document, table, since, until, identity, everything)
        paper = Paper()
        if failed:
            if follow or document is not None or table is not None:
                raise click.UsageError("--failed goes with --function, --identity, --since and --until only")
            _list_failed(list(islice(history.failed(wanted), count)), as_json)
            return

        def show(commit: Committed) -> None:
            if as_json:
                click.echo(json.dumps(commit_json(commit)))
            else:
                paper.print([log_line(commit)])

        newest = list(islice(history.newest(wanted), count))
        if newest and not as_json:
            paper.print([LOG_HEADER])
        for commit in reversed(newest):
            show(commit)
        if follow:
            _follow(history, wanted, newest[0].ts if newest else history.store.head_ts, show)
        elif not newest and not as_json:
            what = (
                "nothing was committed that is asked for"
                if history.store.head_ts
                else "nothing was committed yet"
            )
            click.echo(f"{what} in {data}", err=True)


def _list_failed(attempts: list[Attempt], as_json: bool) -> None:
    if as_json:
        for attempt in reversed(attempts):
            click.echo(json.dumps(attempt_json(attempt)))
    elif attempts:
        Paper().print([FAILED_HEADER, *map(attempt_line, reversed(attempts))])
    else:
        click.echo("every attempt that is known of was committed", err=True)


def _follow(history: History, wanted: Wanted, seen: Timestamp, show: Callable[[Committed], None]) -> None:
    async def watch() -> None:
        position = seen
        while True:
            for commit in list(history.after(position, wanted)):
                show(commit)
            position = max(position, history.store.head_ts)
            await trio.sleep(FOLLOW_S)
            history.store.refresh()

    try:
        trio.run(watch)
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # how following ends


# ---- show --------------------------------------------------------------------------------


@click.command()
@click.argument("commit")
@json_option
@data_option
def show(commit: str, as_json: bool, data: Path) -> None:
    """Show one COMMIT in full, with what it changed in each document.

    COMMIT is a timestamp from `tidewell log`, the start of an execution id, or "latest". The
    execution may be one of `tidewell log --failed`.
    """
    with opened(data) as history:
        try:
            found = history.find(commit)
        except NoSuchCommit:
            attempt = history.find_attempt(commit)
            if attempt is None:
                raise
            if as_json:
                click.echo(json.dumps(attempt_json(attempt)))
            else:
                Paper().print(attempt_lines(attempt))
            return
        changes = history.changes(found)
        lost = [] if found.record is None else history.attempts(found.record.execution)
    if as_json:
        told = {**commit_json(found), "changes": [change_json(change) for change in changes]}
        click.echo(json.dumps({**told, "lostAttempts": [attempt_json(attempt) for attempt in lost]}))
        return
    lines = commit_lines(found, changes)
    if lost:
        lines.append([("attempts before it", "bold")])
        lines += [_attempt_line(attempt) for attempt in lost]
    Paper().print(lines)


def _attempt_line(attempt: Attempt) -> Line:
    why = f"overtaken by commit {attempt.conflict_ts}" if attempt.conflict_ts else first_line(attempt.message)
    return [(f"  {attempt.record.attempt + 1}  ", "magenta"), (f"{attempt.reason}: {why}", "")]


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt that was not committed for programs."""
    record = attempt.record
    return {
        "time": write_moment(attempt.at_ns),
        "kind": "attempt",
        "function": record.function,
        "caller": record.caller,
        "identity": for_programs(unpack_trusted(record.identity)),
        "args": for_programs(unpack_trusted(record.args)),
        "execution": record.execution,
        "request": record.request,
        "durationMs": record.duration_us / 1000,
        "steps": record.steps,
        "logLines": record.log_lines,
        "attempt": attempt.record.attempt + 1,
        "reason": attempt.reason,
        "message": attempt.message,
        "overtakenBy": str(attempt.conflict_ts) if attempt.conflict_ts else None,
        "beginTs": str(attempt.record.begin_ts),
    }


# ---- history -----------------------------------------------------------------------------


@click.command()
@click.argument("document_id", metavar="ID")
@json_option
@data_option
def history(document_id: str, as_json: bool, data: Path) -> None:
    """List every version of the document ID, oldest first, with the call that wrote it."""
    with opened(data) as past:
        found = past.of_document(check_document_id(document_id))
    if as_json:
        for commit, ts, change in found:
            told = {"ts": str(ts), "time": write_moment(ts)} if commit is None else commit_json(commit)
            click.echo(json.dumps({**told, "change": change_json(change)}))
        return
    lines: list[Line] = []
    for commit, ts, change in found:
        lines.append(call_line(commit, ts))
        lines += difference_lines(change_differences(change), "    ")
        if change.operation == "delete":
            lines.append([("    deleted", "red")])
    Paper().print(lines)


def call_line(commit: Committed | None, ts: Timestamp) -> Line:
    """Return who wrote something, on one line."""
    line: Line = [(f"{ts}  ", "cyan"), (f"{write_moment(ts)}  ", "dim")]
    if commit is None:
        return [*line, ("before the log begins", "dim")]
    if commit.record is None:
        return [*line, (title(commit), "dim")]
    return [*line, (f"{printable(commit.record.function)}  ", "bold"), (printable(commit.caller), "")]


# ---- for programs ------------------------------------------------------------------------


def commit_json(commit: Committed) -> dict[str, Any]:
    """Return a commit for programs; values as clients send them.

    Timestamps are texts: they have more digits than the numbers of most programs that read JSON.
    """
    told: dict[str, Any] = {"ts": str(commit.ts), "time": write_moment(commit.ts), "kind": commit.kind}
    record = commit.record
    if record is not None:
        told |= {
            "function": record.function,
            "caller": record.caller,
            "identity": for_programs(commit.identity),
            "args": for_programs(commit.args),
            "execution": record.execution,
            "request": record.request,
            "attempts": record.attempt + 1,
            "durationMs": record.duration_us / 1000,
            "steps": record.steps,
            "counters": record.counters,
            "beginTs": str(record.begin_ts),
            "code": record.code,
            "logLines": record.log_lines,
        }
    written = [{"id": write.id, "operation": write.kind} for write in commit.entry.writes]
    return told | {"documents": written}


def for_programs(value: Value) -> Any:
    """Return a value as JSON: as clients send it, but whole numbers without a fraction."""
    return json.loads(canonical_text(value))


def change_json(change: Change) -> dict[str, Any]:
    return {
        "table": change.table,
        "id": change.id,
        "operation": change.operation,
        "differences": [difference_json(each) for each in change_differences(change)],
    }


def difference_json(each: Difference) -> dict[str, Any]:
    """Return a difference; `before` or `after` is absent where there was nothing."""
    told: Mapping[str, Value] = {"before": each.before, "after": each.after}
    return {"path": each.path} | {
        name: for_programs(value) for name, value in told.items() if value is not MISSING
    }


COMMANDS: Final = (log, show, history)
