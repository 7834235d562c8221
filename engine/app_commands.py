"""Commands on an app's folder that need no server."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import trio

from engine.app_folder import InvalidAppFolder
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.codegen import generate
from engine.codegen_files import describe_app, outdated, write
from engine.push import PushFailed
from sandbox.analysis import Analysis
from sandbox.pool import PoolFailed
from storage import StoreError


@click.command()
@click.argument("app", type=click.Path(path_type=Path), default=Path("functions"))
@click.option(
    "--ts", "folder", type=click.Path(path_type=Path), required=True, help="Folder for the TypeScript files."
)
@click.option("--check", is_flag=True, help="Write nothing; end with status 1 if a file would change.")
def codegen(app: Path, folder: Path, check: bool) -> None:
    """Write TypeScript types for the functions in APP, for a front end with the npm package convex.

    The files are api.js, api.d.ts and dataModel.d.ts. Commit them, and let --check tell
    when the functions have moved on.
    """
    files = generate(_describe(app))
    try:
        changed = outdated(folder, files) if check else write(folder, files)
    except OSError as error:
        raise click.ClickException(f"{error.filename or folder}: {error.strerror}") from None
    names = ", ".join(changed)
    if check and changed:
        raise click.ClickException(
            f"{names} in {folder} would change; run `tidewell codegen {app} --ts {folder}`"
        )
    click.echo(f"Wrote {names} to {folder}." if changed else f"{folder} is up to date.")


def _describe(app: Path) -> Analysis:
    problems: list[str] = []
    try:
        return trio.run(describe_app, app, SystemClock(), SystemChance())
    except* (InvalidAppFolder, PushFailed, PoolFailed, StoreError) as errors:
        problems.extend(str(error) for error in _leaves(errors))
    raise click.ClickException("\n".join(problems))


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


COMMANDS: Final = (codegen,)
