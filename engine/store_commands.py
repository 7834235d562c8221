"""Commands on a deployment's data: check it, copy it, move it in and out.

They work on the data folder, while a server serves it or not (`import` needs it for
itself), and do nothing that `storage` could not do for a plain script.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from engine.clock import SystemClock
from engine.files import copy_files
from storage import Store, StoreError
from storage.backup import backup as back_up
from storage.transfer import export_store, import_store
from storage.verify import verify as verify_store

STORE: Final = "store"
CODE_ROWS: Final = b"code/"  # an export takes the pushed code along, so that an import can be served at once
FILES: Final = "files"
_SECRETS: Final = ("admin-key", "cursor-key")  # a backup keeps them: cursors and admin keys go on working

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".tidewell"),
    show_default=True,
    help="Data folder of the deployment.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what is wrong with a store into the one line that the command ends with."""
    try:
        yield
    except StoreError as error:
        raise click.ClickException(str(error)) from None


def _progress() -> Progress:
    """A progress bar on standard error; it shows nothing where that is not a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _Bars:
    """One bar per table or stage, made when it is first heard of."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, name: str, done: int, total: int | None = None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(self._tasks[name], completed=done, total=total)


@click.command()
@data_option
@json_option
def verify(data: Path, as_json: bool) -> None:
    """Check a whole store, and say what was checked and what was not.

    Works on a live deployment too. Ends with status 1 when something is wrong.
    """
    with _one_line_errors(), _progress() as progress:
        bars = _Bars(progress)
        report = verify_store(data / STORE, lambda stage, done: bars.show(stage, done))
    click.echo(json.dumps(report.to_json()) if as_json else str(report))
    if not report.is_sound:
        raise SystemExit(1)


@click.command()
@click.argument("destination", type=click.Path(path_type=Path))
@data_option
@json_option
def backup(destination: Path, data: Path, as_json: bool) -> None:
    """Copy a deployment to the new folder DESTINATION, consistently, while it is being written.

    The copy is a data folder: `tidewell dev APP --data DESTINATION` serves it.
    """
    with _one_line_errors():
        if destination.exists():
            raise StoreError(f"{destination} exists already; choose another folder for the backup")
        # Files twice: one that is deleted meanwhile is in the first copy, one that comes in the second.
        copy_files(data / FILES, destination / FILES)
        report = back_up(data / STORE, destination / STORE)
        copy_files(data / FILES, destination / FILES)
        for name in _SECRETS:
            if (data / name).exists():
                shutil.copy(data / name, destination / name)
    if as_json:
        click.echo(
            json.dumps({"path": str(destination), "head": str(report.head), "bytes": report.size_bytes})
        )
    else:
        click.echo(f"Backed up {report.size_bytes:,} bytes as of commit {report.head} to {destination}.")


@click.command()
@click.argument("destination", type=click.Path(path_type=Path))
@data_option
@json_option
def export(destination: Path, data: Path, as_json: bool) -> None:
    """Write all documents to the folder DESTINATION: JSON Lines per table, ids and creation times kept.

    One snapshot, also of a live deployment. docs/storage-export.md describes the format.
    """
    with _one_line_errors(), _progress() as progress:
        report = export_store(
            data / STORE, destination, private=[CODE_ROWS], on_progress=_Bars(progress).show
        )
    if as_json:
        click.echo(json.dumps({"tables": report.tables, "documents": report.documents, "ts": str(report.ts)}))
    else:
        click.echo(f"Exported {report.documents:,} documents of {report.tables} tables to {destination}.")


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@data_option
@json_option
def import_(source: Path, data: Path, as_json: bool) -> None:
    """Bring an export into a deployment that has no tables yet, and that no server is serving.

    An import that was cut short goes on where it was when it is called again.
    """
    with _one_line_errors(), Store.open(data / STORE) as store, _progress() as progress:
        report = import_store(store, source, now_ns=SystemClock().now_ns(), on_progress=_Bars(progress).show)
    if as_json:
        click.echo(json.dumps({"tables": report.tables, "documents": report.documents, "ts": str(report.ts)}))
    else:
        click.echo(f"Imported {report.documents:,} documents of {report.tables} tables into {data}.")


COMMANDS: Final = (verify, backup, export, import_)
