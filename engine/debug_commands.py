"""`tidewell debug`: step through a mutation that ran, forwards and backwards."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
import click

from engine.debugging.printing import cost_lines, trace_json, trace_lines
from engine.debugging.recording import CannotDebug, Player, Recording, player
from engine.debugging.reel import Reel
from engine.debugging.session import Session
from engine.debugging.view import View
from engine.history import History, NoSuchCommit
from engine.replay.capsule import Capsule
from engine.replay.recorded import RecordedCall, read_attempt, read_recorded
from engine.replay.source import Source
from engine.replay_commands import other_code
from engine.showing import printable
from engine.store_commands import data_option, json_option
from sandbox.tracing.shape import STOPS_MAX, Request
from storage import StoreError
from tidewell.values import canonical_text, plain_json

_COUNT_ONLY: Final = 0  # the last stop of a window that holds none


@attrs.frozen
class _Window:
    """Which stops were asked for."""

    first: int | None
    last: int | None
    count: int | None  # of the last ones
    imports: bool

    def record(self, play: Player) -> Recording:
        first, last = self.first or 1, self.last
        if self.count is not None:
            total = play.record(Request(first=1, last=_COUNT_ONLY, imports=self.imports)).trace.total
            first, last = max(1, total - self.count + 1), total
        last = min(last if last is not None else first + STOPS_MAX - 1, first + STOPS_MAX - 1)
        return play.record(Request(first=first, last=last, imports=self.imports))


@click.command()
@click.argument("commit")
@data_option
@click.option("--trace", is_flag=True, help="Print the run, with the variables that each line changed.")
@json_option
@click.option("--profile", is_flag=True, help="Print which lines took the steps.")
@click.option("--from", "first", type=click.IntRange(min=1), metavar="STOP", help="Begin with this stop.")
@click.option("--to", "last", type=click.IntRange(min=1), metavar="STOP", help="End with this stop.")
@click.option(
    "--last", "count", type=click.IntRange(1, STOPS_MAX), metavar="N", help="Show the last N stops."
)
@click.option(
    "--app",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Run the functions in this folder, and not those of then.",
)
@click.option("--imports", is_flag=True, help="Follow the bodies of modules too; they run for every call.")
def debug(
    commit: str,
    data: Path,
    trace: bool,
    as_json: bool,
    profile: bool,
    first: int | None,
    last: int | None,
    count: int | None,
    imports: bool,
    app: Path | None,
) -> None:
    """Step through the mutation that made COMMIT, forwards and backwards.

    COMMIT is a timestamp from `tidewell log`, the start of an execution id, "latest", or a
    file that `tidewell capsule` made. The execution may be one of `tidewell log --failed`.

    The mutation runs again, in the sandbox and on its own snapshot, and nothing of it
    is kept. In a pipe, use --trace or --json. Both show at most 20,000 stops at a time,
    and say so where there are more.
    """
    if count is not None and (first is not None or last is not None):
        raise click.ClickException("--last N is the end of the run; leave --from and --to away")
    if first is not None and last is not None and first > last:
        raise click.ClickException(f"--from {first} is behind --to {last}")
    window = _Window(first, last, count, imports)
    with _playing(data, commit, app) as play:
        if trace or as_json:
            recording = window.record(play)
            if first is not None and 0 < recording.trace.total < first:
                raise click.ClickException(
                    f"--from {first} is behind the last stop, {recording.trace.total:,}"
                )
            _print_trace(play, recording, as_json, profile)
        elif profile:
            recording = play.record(Request(first=1, last=_COUNT_ONLY, imports=imports))
            _print_profile(play, recording)
        else:
            _interact(play, imports, first)


@contextmanager
def _playing(data: Path, commit: str, app: Path | None) -> Iterator[Player]:
    """Give the call that `commit` names, which is a commit or a capsule's file."""
    try:
        with ExitStack() as opened:
            name = commit
            if Path(commit).is_file():
                capsule = Capsule.read_file(Path(commit))
                data, name = opened.enter_context(capsule.opened()), str(capsule.ts)
            source = opened.enter_context(Source.open(data))
            code = None if app is None else other_code(app, source)
            recorded = _recorded(source, name)
            yield opened.enter_context(player(source, recorded, code))
    except OSError as error:
        raise click.ClickException(f"{error.filename or commit}: {error.strerror}") from None
    except (StoreError, CannotDebug) as error:
        raise click.ClickException(str(error)) from None


def _recorded(source: Source, name: str) -> RecordedCall:
    """Return the call of a commit, or of an attempt that was not committed. Raises `StoreError`."""
    history = History(source.store)
    try:
        return read_recorded(source.store, history.find(name).ts, source.versions)
    except NoSuchCommit:
        attempt = history.find_attempt(name)
        if attempt is None:
            raise
        return read_attempt(source.store, attempt, source.versions)


def _print_trace(play: Player, recording: Recording, as_json: bool, profile: bool) -> None:
    differences = play.differences(recording.outcome)
    if as_json:
        found = trace_json(play.subject, Reel(recording.trace), _ending(play, recording, differences))
        click.echo(json.dumps(found))
    else:
        click.echo(_headline(play, recording))
        for line in trace_lines(play.subject, Reel(recording.trace)):
            click.echo(line)
        for line in _result_lines(recording):
            click.echo(line)
        if profile:
            _print_profile(play, recording)
    if differences:
        click.echo(_warning(differences), err=True)
        raise SystemExit(1)


def _print_profile(play: Player, recording: Recording) -> None:
    for line in cost_lines(play.subject, recording.trace, recording.outcome.steps):
        click.echo(line)


def _headline(play: Player, recording: Recording) -> str:
    trace = recording.trace
    return (
        f"{printable(play.subject.function)} of {play.subject.title}: {trace.total:,} stops, "
        f"{recording.outcome.steps:,} steps; documents: {trace.reads:,} read, {trace.writes:,} written"
    )


def _result_lines(recording: Recording) -> Iterator[str]:
    outcome = recording.outcome
    for line in outcome.log_lines:
        yield f"log: {printable(line)}"
    if outcome.failure is None:
        yield f"result: {printable(canonical_text(outcome.value))}"
    else:
        yield from (printable(line) for line in outcome.failure.message.splitlines())


def _ending(play: Player, recording: Recording, differences: list[str]) -> dict[str, Any]:
    outcome = recording.outcome
    return {
        "steps": outcome.steps,
        "recorded_steps": play.subject.steps,
        "differs_in": differences,
        "result": plain_json(outcome.value) if outcome.failure is None else None,
        "error": None if outcome.failure is None else outcome.failure.message,
        "log": list(outcome.log_lines),
    }


def _warning(differences: list[str]) -> str:
    return (
        f"This run is not the recorded one: {', '.join(differences)} differ. "
        "`tidewell replay` says where they part."
    )


def _interact(play: Player, imports: bool, first: int | None) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException("there is no terminal here; use --trace or --json")
    recording = play.record(Request(first=1, last=_COUNT_ONLY, imports=imports))
    if not recording.trace.total:
        raise click.ClickException("the call ended before its function began; --trace shows its result")
    session = Session(lambda request: play.record(request).trace, imports=imports)
    session.go(first or 1)
    differences = play.differences(recording.outcome)
    warning = _warning(differences) if differences else ""
    View(session, play.subject, list(recording.outcome.log_lines), warning).run()


COMMANDS: Final = (debug,)
