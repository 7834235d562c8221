"""The command line. Every error a person can cause is one line that says what to do."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import click
import trio
from rich.console import Console
from rich.table import Table

from engine.app_commands import COMMANDS as APP_COMMANDS
from engine.app_folder import InvalidAppFolder, find_functions
from engine.conflict_commands import COMMANDS as CONFLICT_COMMANDS
from engine.data_commands import COMMANDS as DATA_COMMANDS
from engine.debug_commands import COMMANDS as DEBUG_COMMANDS
from engine.dev import DevOptions, run_dev
from engine.env_commands import COMMANDS as ENV_COMMANDS
from engine.fork_commands import COMMANDS as FORK_COMMANDS
from engine.fuzz_commands import COMMANDS as FUZZ_COMMANDS
from engine.hosting_options import hosting_options, read_hosting
from engine.log_commands import COMMANDS as LOG_COMMANDS
from engine.push_commands import COMMANDS as PUSH_COMMANDS
from engine.replay_commands import COMMANDS as REPLAY_COMMANDS
from engine.report import Report
from engine.serve import ServeOptions, run_serve
from engine.server import CannotListen
from engine.store_commands import COMMANDS as STORE_COMMANDS
from engine.why_commands import COMMANDS as WHY_COMMANDS
from sandbox.doctor import examine
from sandbox.pool import PoolFailed
from storage import StoreError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("tidewell"), prog_name="tidewell")
def main() -> None:
    """Tidewell: a reactive backend whose functions are plain Python.

    Start with `tidewell dev APP`, where APP is a folder of function modules.
    """


@main.command()
@click.argument("app", type=click.Path(path_type=Path), default=Path("functions"))
@hosting_options
@click.option("--data", type=click.Path(path_type=Path), help="Data folder.  [default: .tidewell beside APP]")
@click.option(
    "--page", type=click.Path(path_type=Path), help="Static files for /.  [default: page beside APP, if any]"
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show every query that runs, also those that log nothing."
)
def dev(app: Path, data: Path | None, page: Path | None, verbose: bool, **hosting: Any) -> None:
    """Serve the functions in APP, push again on every save, and show their logs.

    APP is the folder of modules, or a project with the modules in its folder functions.
    """
    app = find_functions(app)
    beside = app.resolve().parent
    options = DevOptions(
        app=app,
        data=data if data is not None else beside / ".tidewell",
        hosting=read_hosting(**hosting),
        page=page if page is not None else (beside / "page" if (beside / "page").is_dir() else None),
    )
    _check_page(options.page)
    console = Console(soft_wrap=True)
    try:
        trio.run(run_dev, options, Report(console, verbose))
    except* (StoreError, CannotListen, InvalidAppFolder, PoolFailed) as errors:
        raise click.ClickException(str(_first(errors))) from None


@main.command()
@hosting_options
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Data folder of the deployment; made if need be.",
)
@click.option("--page", type=click.Path(path_type=Path), help="Static files for /.")
@click.option("--origin", help="URL at which clients reach it, such as that of a proxy with TLS.")
@click.option("--site-origin", help="The same for the HTTP actions.")
@click.option("--fetch-private", is_flag=True, help="Let ctx.fetch reach addresses that are not public.")
@click.option("-v", "--verbose", is_flag=True, help="Log every query that runs, also those that say nothing.")
def serve(
    data: Path,
    page: Path | None,
    origin: str | None,
    site_origin: str | None,
    fetch_private: bool,
    verbose: bool,
    **hosting: Any,
) -> None:
    """Serve the deployment in a data folder, for production.

    Clients are shown no error texts and no logs but a request id, under which they are printed here.
    Functions come with `tidewell push APP --url URL --data DIR`.
    """
    _check_page(page)
    where = attrs.evolve(read_hosting(**hosting), origin=origin, site_origin=site_origin)
    try:
        options = ServeOptions(data, where, page, fetch_private)
        trio.run(run_serve, options, Report(Console(soft_wrap=True), verbose))
    except* (StoreError, CannotListen, PoolFailed) as errors:
        raise click.ClickException(str(_first(errors))) from None


def _check_page(page: Path | None) -> None:
    if page is not None and not page.is_dir():
        raise click.ClickException(f"--page {page} is not a folder")


@main.command()
def doctor() -> None:
    """Show which layers of the sandbox are in force on this machine, and why others are not.

    Ends with status 1 when functions could not be run safely here.
    """
    diagnosis = examine()
    table = Table("layer", "in force", "stops", box=None)
    for layer in diagnosis.layers:
        mark = "yes" if layer.is_in_force else "NO" if layer.is_mandatory else "no"
        table.add_row(layer.name, mark, layer.does + (f" ({layer.why_not})" if layer.why_not else ""))
    console = Console()
    console.print(table)
    for attempt, stopped in diagnosis.attempts.items():
        if not stopped:
            console.print(f"not stopped by the kernel: {attempt}", highlight=False)
    if not diagnosis.would_serve:
        raise click.ClickException(f"workers would not serve here: {diagnosis.fault}")
    console.print(
        f"{len(diagnosis.attempts)} attempts to get out were all stopped; workers serve here.",
        highlight=False,
    )


for command in (
    *STORE_COMMANDS,
    *APP_COMMANDS,
    *PUSH_COMMANDS,
    *DATA_COMMANDS,
    *ENV_COMMANDS,
    *LOG_COMMANDS,
    *REPLAY_COMMANDS,
    *CONFLICT_COMMANDS,
    *DEBUG_COMMANDS,
    *FUZZ_COMMANDS,
    *WHY_COMMANDS,
    *FORK_COMMANDS,
):
    main.add_command(command)


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
