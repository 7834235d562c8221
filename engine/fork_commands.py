"""`tidewell fork`: a deployment as it was, or as it would be without one mutation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import trio
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.backend import BackendFault
from engine.clock import SystemClock
from engine.deployment import WORKER_ENTRY, kept_secret
from engine.fork import FILES_FOLDER, STORE_FOLDER, fork_files, fork_state, new_folder
from engine.history import LATEST, Committed, History, NoSuchCommit
from engine.log_commands import Paper, call_line, change_json, commit_json, opened
from engine.moments import InvalidMoment, read_moment, write_moment
from engine.rerun import worker_argument
from engine.showing import Line, change_lines, many, printable
from engine.store_commands import data_option, json_option
from engine.suffix import ChangedCall, Suffix, SuffixReport
from sandbox.pool import PoolFailed, WorkerPool
from storage import Store, StoreError, Timestamp

CURSOR_KEY: Final = "cursor-key"  # one of its own, so that all tools work on the fork
SHOWN_MAX: Final = 20  # calls, and documents; --json has all
_HOW: Final = {
    "writes": "writes something else",
    "result": "returns something else",
    "fails": "fails",
    "lost": "gets lost",
}


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--at", metavar="WHEN", help='As of a commit, a moment (see `tidewell log --help`) or "latest".'
)
@click.option("--without", "left_out", metavar="COMMIT", help="As of now, had this mutation not been.")
@json_option
@data_option
def fork(folder: Path | None, at: str | None, left_out: str | None, as_json: bool, data: Path) -> None:
    """Make a new deployment folder DIR of this one's past, or of what might have been.

    --at WHEN copies the state as of then: documents, indexes, environment and code. Serve it with
    `tidewell dev APP --data DIR`. The original is only read, and may be served meanwhile.

    --without COMMIT runs everything after that mutation again, without it, and reports which calls
    would have come out otherwise and which documents would be different: what an undo would do.
    The result stays in DIR, or nowhere if that is not given.
    """
    if (at is None) == (left_out is None):
        raise click.UsageError("give one of --at WHEN and --without COMMIT")
    if at is not None:
        if folder is None:
            raise click.UsageError("--at needs the folder DIR to write to")
        _fork_at(folder, at, as_json, data)
    else:
        assert left_out is not None
        _fork_without(folder, left_out, as_json, data)


# ---- as of then --------------------------------------------------------------------------


def _fork_at(folder: Path, at: str, as_json: bool, data: Path) -> None:
    with opened(data) as history, _progress() as progress:
        ts = _commit_at(history, at)
        task = progress.add_task("copying", total=None)

        def show(table: str, done: int, total: int) -> None:
            progress.update(task, description=f"copying {table}", completed=done, total=total)

        with new_folder(folder) as partial:
            report = fork_state(history.store, ts, partial, show)
            kept_secret(partial / CURSOR_KEY)
            missing = fork_files(data / FILES_FOLDER, partial)
    if as_json:
        told = {"ts": str(report.ts), "tables": report.tables, "documents": report.documents}
        click.echo(json.dumps({**told, "filesMissing": missing, "path": str(folder)}))
        return
    click.echo(
        f"Forked {many(report.documents, 'document')} of {many(report.tables, 'table')} as of commit {ts} "
        f"({write_moment(ts)[:19]}) to {folder}."
    )
    if missing:
        click.echo(
            f"{many(missing, 'file')} of then have been deleted since; their rows are there.", err=True
        )
    click.echo(f"Serve it with `tidewell dev APP --data {folder}`.")


def _commit_at(history: History, at: str) -> Timestamp:
    """Return the newest commit that is not after a moment."""
    store = history.store
    if at == LATEST:
        return store.head_ts
    try:
        moment = read_moment(at, SystemClock().now_ns())
    except InvalidMoment as error:
        raise click.BadParameter(str(error), param_hint="--at") from None
    found = store.commit_before(moment + 1)
    if found is None or found < store.horizon:
        first = store.horizon or store.commit_after(0) or 0
        raise NoSuchCommit(
            f"the state at {at} is not kept: history begins at {first} ({write_moment(first)[:19]})"
        )
    return found


# ---- as it would be ----------------------------------------------------------------------


def _fork_without(folder: Path | None, name: str, as_json: bool, data: Path) -> None:
    with opened(data) as history, _progress() as progress:
        left_out = history.find(name)
        if left_out.record is None:
            raise NoSuchCommit(f"commit {left_out.ts} is no mutation; `tidewell log` lists those that are")
        with _target(folder) as partial:
            report = _replay(history, left_out, partial, data, progress)
            if folder is not None:
                fork_files(data / FILES_FOLDER, partial)
                kept_secret(partial / CURSOR_KEY)
    if as_json:
        click.echo(json.dumps(_report_json(left_out, report)))
        return
    Paper().print(_report_lines(left_out, report))
    if folder is not None:
        click.echo(f"That state is in {folder}; serve it with `tidewell dev APP --data {folder}`.")


@contextmanager
def _target(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        with new_folder(folder) as partial:
            yield partial
    else:
        with tempfile.TemporaryDirectory(prefix="tidewell-fork-") as nowhere:
            yield Path(nowhere)


def _replay(
    history: History, left_out: Committed, folder: Path, data: Path, progress: Progress
) -> SuffixReport:
    source = history.store
    fork_state(source, left_out.entry.previous_ts, folder, lambda *_: None)
    task = progress.add_task("running again", total=sum(1 for _ in source.log(left_out.ts)))

    async def run() -> SuffixReport:
        with Store.open(folder / STORE_FOLDER) as store:
            # With the keys of the original: cursors and links in results are to be the same.
            argument = worker_argument(folder / STORE_FOLDER, data)
            pool = WorkerPool(entry=WORKER_ENTRY, argument=argument, size=1, clock=SystemClock())
            async with trio.open_nursery() as nursery:
                await nursery.start(pool.run)
                suffix = Suffix(
                    source, left_out.entry, store, pool, lambda done: progress.update(task, completed=done)
                )
                report = await suffix.run()
                nursery.cancel_scope.cancel()
            return report

    try:
        return trio.run(run)
    except* (PoolFailed, BackendFault, StoreError) as failures:
        error: BaseException = failures
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise click.ClickException(str(error)) from None


def _report_lines(left_out: Committed, report: SuffixReport) -> list[Line]:
    lines: list[Line] = [[("without", "bold")], [("  ", ""), *call_line(left_out, left_out.ts)]]
    count = len(report.changed)
    lines.append(
        [(f"{many(report.calls, 'call')} after it, {count:,} would have come out otherwise", "bold")]
    )
    for changed in report.changed[:SHOWN_MAX]:
        lines.append(
            [("  ", ""), *call_line(changed.commit, changed.commit.ts), ("  ", ""), (_how(changed), "red")]
        )
    lines += _more(count)
    lines.append([(f"{many(len(report.documents), 'document')} would be different", "bold")])
    for change in report.documents[:SHOWN_MAX]:
        lines += change_lines(change)
    return lines + _more(len(report.documents))


def _more(count: int) -> list[Line]:
    return [[(f"  and {count - SHOWN_MAX:,} more; --json has all", "dim")]] if count > SHOWN_MAX else []


def _how(changed: ChangedCall) -> str:
    said = " and ".join(_HOW[each] for each in changed.how)
    first = changed.message.partition("\n")[0].removeprefix("Uncaught ")
    return f"{said}: {printable(first)}" if first else said


def _report_json(left_out: Committed, report: SuffixReport) -> dict[str, Any]:
    changed = [
        {**commit_json(each.commit), "how": list(each.how), "message": each.message}
        for each in report.changed
    ]
    return {
        "leftOut": commit_json(left_out),
        "calls": report.calls,
        "changed": changed,
        "documents": [change_json(change) for change in report.documents],
    }


def _progress() -> Progress:
    """A progress bar on standard error; it shows nothing where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


COMMANDS: Final = (fork,)
