"""Commands for whoever writes an app: types for its front end, calls of its functions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
import trio

from engine.admin_client import Admin, AdminFailed
from engine.app_folder import InvalidAppFolder, find_functions
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.codegen import generate
from engine.codegen_files import describe_app, outdated, write
from engine.push import PushFailed
from engine.run import Run, explain
from engine.run import run as run_function
from sandbox.analysis import Analysis
from sandbox.pool import PoolFailed
from storage import StoreError
from tidewell.client import AppError, ClientError, FunctionError
from tidewell.errors import InvalidValue
from tidewell.protocol import TS_MAX
from tidewell.values import Value, canonical_text, from_wire, parse_json


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
    files = generate(_describe(find_functions(app)))
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


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    leaves: list[Exception] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return leaves


@click.command()
@click.argument("path")
@click.argument("args", metavar="[ARGS-JSON]", default="{}")
@click.option("--watch", is_flag=True, help="Keep watching a query, and print each of its results.")
@click.option(
    "--as", "claims", metavar="CLAIMS-JSON", help="Call as a person: tokenIdentifier, name, and so on."
)
@click.option(
    "--as-of",
    type=click.IntRange(0, TS_MAX),
    metavar="TS",
    help="Run a query on the data as of the commit with this timestamp, with the code of now.",
)
@click.option(
    "--explain",
    "explains",
    is_flag=True,
    help="Say what the cache did for a query, too: hit, miss or stale, and which commit it was.",
)
@click.option("--url", default="http://127.0.0.1:3210", show_default=True, help="The deployment.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".tidewell"),
    show_default=True,
    help="Data folder of the deployment, for its admin key; without one, call as nobody.",
)
def run(
    path: str,
    args: str,
    watch: bool,
    claims: str | None,
    as_of: int | None,
    explains: bool,
    url: str,
    data: Path,
) -> None:
    """Call the function PATH, such as posts:list, and print its result as JSON.

    Works on a deployment that is being served. With its admin key, internal functions can be called too.
    """
    try:
        key = (data / "admin-key").read_text().strip()
    except OSError:
        key = None
    if claims is not None and key is None:
        raise click.ClickException(f"--as needs the admin key, and there is none in {data}; give --data")
    acting_as = None if claims is None else _object(claims, "CLAIMS-JSON")
    what = Run(url, path, _object(args, "ARGS-JSON"), key, acting_as, watch)
    if as_of is not None or explains:
        if watch:
            raise click.ClickException("--watch follows changes; --as-of and --explain are about one run")
        try:
            _ask(Admin(url, key, acting_as), what, as_of)
        except (AppError, FunctionError, AdminFailed) as error:
            raise click.ClickException(explain(error)) from None
        return
    try:
        trio.run(run_function, what, click.echo)
    except* (AppError, FunctionError, ClientError, AdminFailed, ValueError) as errors:
        raise click.ClickException(explain(_leaves(errors)[0])) from None
    except* KeyboardInterrupt:
        raise SystemExit(130) from None  # how watching ends


def _ask(admin: Admin, what: Run, as_of: int | None) -> None:
    if as_of is not None:
        click.echo(canonical_text(admin.query_at(as_of, what.path, what.args)))
        return
    value, told = admin.explain(what.path, what.args)
    click.echo(canonical_text(value))
    click.echo(told, err=True)


def _object(text: str, name: str) -> dict[str, Value]:
    try:
        value = from_wire(parse_json(text), name)
    except InvalidValue as error:
        raise click.ClickException(f"{name}: {error.problem}") from None
    if type(value) is not dict:
        raise click.ClickException(f"{name} is one JSON object, such as '{{\"limit\": 3}}'")
    return value


COMMANDS: Final = (codegen, run)
