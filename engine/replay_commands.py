"""`tidewell replay`, `what-if`, `capsule`: recorded mutations, run again.

They read the data folder alone and run what they read in confined workers of their own; so they
work beside a running server, on a stopped deployment and on a backup, and change none of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, TypeVar

import attrs
import click
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from engine.app_folder import InvalidAppFolder, read_app_folder
from engine.backend import BackendFault
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.code import CodeVersion, hash_modules
from engine.codegen_files import compile_app
from engine.deployment import WORKER_ENTRY
from engine.history import History
from engine.log_commands import Paper, moment_option
from engine.push import PushFailed, load_active
from engine.replay.capsule import Capsule
from engine.replay.divergence import Replayed
from engine.replay.encapsulate import encapsulate, replay_capsule
from engine.replay.recorded import RecordedCall, read_recorded
from engine.replay.replayer import Replayer
from engine.replay.report import Summary, lines_of, what_if_lines
from engine.replay.source import Source
from engine.replay.what_if import WhatIf
from engine.replay.what_if import what_if as compare_with
from engine.showing import many, printable
from engine.store_commands import data_option, json_option
from sandbox.pool import PoolFailed, WorkerPool
from storage import StoreError, Timestamp

T = TypeVar("T")

workers_option = click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    help="Worker processes.  [default: one per processor]",
)


class LogProgress:
    """A bar on standard error for something that goes through the log; none where that is no terminal."""

    def __init__(self, title: str, source: Source, since: Timestamp | None, until: Timestamp | None) -> None:
        self._start = max(since or 0, source.store.horizon)
        self._end = min(until or source.store.head_ts, source.store.head_ts)
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._title = title
        self._task: TaskID | None = None
        self._count = 0
        self._newest = self._start

    def __enter__(self) -> LogProgress:
        self._progress.start()
        # A log has no length that is known before it is read; it has a beginning and an end in time.
        self._task = self._progress.add_task(self._title, total=max(self._end - self._start, 1))
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, ts: Timestamp) -> None:
        self._count += 1
        self._newest = max(self._newest, ts)
        if self._task is not None:
            self._progress.update(
                self._task,
                completed=self._newest - self._start,
                description=f"{self._title} {self._count:,}",
            )


@asynccontextmanager
async def replaying(source: Source, workers: int) -> AsyncIterator[Replayer]:
    """Give a replayer with confined workers that read what `source` reads."""
    pool = WorkerPool(entry=WORKER_ENTRY, argument=source.worker_argument, size=workers)
    async with pool.running():
        yield Replayer(source, pool)


def run_to_end(work: Callable[[], Awaitable[T]]) -> T:
    """Run async `work`; what goes wrong is the one line the command ends with."""
    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        error = _first(group)
    except (StoreError, PoolFailed, BackendFault) as raised:
        error = raised
    if isinstance(error, (StoreError, PoolFailed, BackendFault)):
        raise click.ClickException(str(error)) from None
    raise error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner


def print_lines(lines: Iterable[str]) -> None:
    Paper().print([(printable(line), "")] for line in lines)


# ---- replay ------------------------------------------------------------------------------


@click.command()
@click.argument("commits", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Replay everything that the log has.")
@moment_option("--since", "With --all: begin there.")
@moment_option("--until", "With --all: end there.")
@data_option
@workers_option
@json_option
def replay(
    commits: tuple[str, ...],
    is_all: bool,
    since: Timestamp | None,
    until: Timestamp | None,
    data: Path,
    workers: int,
    as_json: bool,
) -> None:
    """Run logged mutations again, and compare with what was recorded.

    COMMITS are timestamps from `tidewell log`, starts of execution ids, "latest", or capsule
    files. A replay runs the recorded code with the recorded arguments, time and chance on the
    snapshot that the mutation saw, and compares its result, writes, log lines, reads and steps.
    Nothing is written.

    Ends with status 1 if anything diverged. docs/replay.md explains what a divergence means.
    """
    if is_all == bool(commits):
        both = ", not both" if is_all else ""
        raise click.ClickException(f"name some commits (`tidewell log` lists them), or give --all{both}")
    if not is_all and (since is not None or until is not None):
        raise click.ClickException("--since and --until go with --all")
    try:
        is_clean = (
            _replay_log(data, since, until, workers, as_json)
            if is_all
            else _replay_some(data, commits, as_json)
        )
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    if not is_clean:
        raise SystemExit(1)


def _replay_log(
    data: Path, since: Timestamp | None, until: Timestamp | None, workers: int, as_json: bool
) -> bool:
    summary, clock = Summary(), SystemClock()
    with Source.open(data) as source, LogProgress("replayed", source, since, until) as progress:

        def note(replayed: Replayed) -> None:
            summary.note(replayed)
            progress.note(replayed.ts)

        async def work() -> float:
            async with replaying(source, workers) as replayer:
                started = clock.monotonic()
                await replayer.replay_all(source.recorded(since, until), workers, note)
                return clock.monotonic() - started

        seconds = run_to_end(work)
    if as_json:
        click.echo(json.dumps(summary.to_json(seconds)))
    else:
        print_lines(summary.lines(seconds))
    return summary.is_clean


def _replay_some(data: Path, names: tuple[str, ...], as_json: bool) -> bool:
    results = []
    commits = [name for name in names if not Path(name).is_file()]
    for name in names:
        if name not in commits:
            results.append(_replay_capsule(Path(name)))
    if commits:
        with Source.open(data) as source:
            history = History(source.store)
            calls = [read_recorded(source.store, history.find(name).ts, source.versions) for name in commits]
            results += run_to_end(lambda: _replay_each(source, calls))
    _print_results(results, as_json)
    return all(result.divergence is None or not result.divergence.is_fault for result in results)


def _replay_capsule(path: Path) -> Replayed:
    capsule = Capsule.read_file(path)
    return run_to_end(lambda: replay_capsule(capsule, one_worker))


async def _replay_each(source: Source, calls: list[RecordedCall]) -> list[Replayed]:
    async with replaying(source, 1) as replayer:
        return [await replayer.replay(call) for call in calls]


def _print_results(results: list[Replayed], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([result.to_json() for result in results]))
    else:
        for result in results:
            print_lines(lines_of(result))


# ---- what-if -----------------------------------------------------------------------------


@click.command("what-if")
@click.argument("app", type=click.Path(path_type=Path), default=Path("functions"))
@moment_option("--since", "Begin with the calls of then.")
@moment_option("--until", "End with the calls of then.")
@data_option
@workers_option
@json_option
def what_if(
    app: Path, since: Timestamp | None, until: Timestamp | None, data: Path, workers: int, as_json: bool
) -> None:
    """Run logged mutations against the functions in APP, and show what would have been different.

    Each call runs on the snapshot that it saw then: the log as a regression test for code that
    is not deployed yet. Nothing is written, to the store or elsewhere.

    Ends with status 1 if any call would have returned or written or logged something else,
    or failed. A different number of steps is shown, and is no such difference.
    """
    try:
        with Source.open(data) as source:
            code = other_code(app, source)
            with LogProgress("compared", source, since, until) as progress:
                found = run_to_end(lambda: _what_if(source, code, since, until, workers, progress.note))
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_lines(what_if_lines(found))
    if not found.is_clean:
        raise SystemExit(1)


async def _what_if(
    source: Source,
    code: CodeVersion,
    since: Timestamp | None,
    until: Timestamp | None,
    workers: int,
    on_call: Callable[[Timestamp], None],
) -> WhatIf:
    async with replaying(source, workers) as replayer:
        return await compare_with(replayer, code, source.recorded(since, until), workers, on_call)


def other_code(app: Path, source: Source) -> CodeVersion:
    """Return the code in a folder, with the clock and the chance that the active version is imported with."""
    problems: list[str] = []
    try:
        active = load_active(source.store)
        modules = read_app_folder(app)
        if active is not None and hash_modules(modules) == hash_modules(active.modules):
            return active
        code = trio.run(compile_app, app, SystemClock(), SystemChance())
        return code if active is None else attrs.evolve(code, now_ms=active.now_ms, seed=active.seed)
    except* (InvalidAppFolder, PushFailed, PoolFailed) as errors:
        problems.append(str(_first(errors)))
    raise click.ClickException("\n".join(problems))


# ---- capsule -----------------------------------------------------------------------------


@click.command()
@click.argument("commit")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write.",
)
@click.option("--redact", is_flag=True, help="Replace string values, equal ones by equal ones.")
@data_option
@json_option
def capsule(commit: str, output: Path, redact: bool, data: Path, as_json: bool) -> None:
    """Put one logged mutation into a file: its record, its code, and the documents it read.

    `tidewell replay FILE` runs it again anywhere, with no database. The file holds the
    source of all functions, and every document in the read set; --redact takes the words
    out of the documents, not out of the code.

    COMMIT is a timestamp from `tidewell log`, the start of an execution id, or "latest".
    """
    try:
        with Source.open(data) as source:
            recorded = read_recorded(source.store, History(source.store).find(commit).ts, source.versions)
            made = run_to_end(lambda: encapsulate(source, recorded, one_worker, redact=redact))
        packed = made.capsule.pack()
        output.write_bytes(packed)
    except OSError as error:
        raise click.ClickException(f"{error.filename or output}: {error.strerror}") from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    steps = made.capsule.record.steps
    if as_json:
        told = {
            "path": str(output),
            "bytes": len(packed),
            "ts": str(recorded.ts),
            "documents": len(made.capsule.read),
            "redacted": None if made.redaction is None else made.redaction.count,
            "resealed": made.is_resealed,
            "steps": steps,
            "recordedSteps": recorded.record.steps,
        }
        click.echo(json.dumps(told))
        return
    click.echo(
        f"Wrote {recorded.record.function} at {recorded.ts} with {many(len(made.capsule.read), 'document')} "
        f"to {output} ({len(packed):,} bytes)."
    )
    if made.is_resealed:
        click.echo("Its result shows cursors or links. In the file they are sealed with another key.")
    if made.redaction is not None:
        were = "was" if made.redaction.count == 1 else "were"
        click.echo(
            f"{many(made.redaction.count, 'string')} {were} replaced. The source code was not changed."
        )
        if steps != recorded.record.steps:
            click.echo(
                f"Without its words the call goes another way: {steps:,} steps, not "
                f"{recorded.record.steps:,}."
            )


def one_worker(source: Source) -> AbstractAsyncContextManager[Replayer]:
    return replaying(source, 1)


COMMANDS: Final = (replay, what_if, capsule)
