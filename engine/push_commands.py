"""`tidewell push`: a folder of functions onto a deployment that is being served."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any, Final

import click
import trio
from rich.console import Console

from engine.admin_client import Admin, AdminFailed
from engine.app_folder import InvalidAppFolder, find_functions, read_app_folder, read_app_settings, read_auth
from engine.command_options import key_option, one_line_errors, url_option
from engine.store_commands import json_option
from sandbox.frames import Module

PROGRESS_EVERY_S: Final = 0.25


@click.command()
@click.argument("app", type=click.Path(path_type=Path), default=Path("functions"))
@json_option
@url_option
@key_option
def push(app: Path, as_json: bool, url: str, data: Path) -> None:
    """Make the functions in APP the code of a deployment, or change nothing and say why.

    Compiles and checks the code, fills new indexes and checks every document against the
    schema while the old code serves, and then switches code and schema in one step.
    """
    app = find_functions(app)
    with one_line_errors():
        admin = Admin.of(url, data)
        try:
            modules = read_app_folder(app)
            variables = admin.get("list_environment_variables")["environmentVariables"]
            auth = read_auth(app, {**os.environ, **variables})
            settings = read_app_settings(app)
        except InvalidAppFolder as error:
            raise click.ClickException(str(error)) from None
        report = trio.run(_push, admin, modules, auth, settings)
    if as_json:
        click.echo(json.dumps(report))
        return
    for warning in report["warnings"]:
        click.echo(f"warning: {warning}", err=True)
    if not report["changed"]:
        click.echo(f"{url} runs this version already.")
    else:
        count = report["functions"]
        click.echo(
            f"Pushed {count} function{'s' * (count != 1)}, version {report['version'][:12]}, to {url}."
        )


async def _push(admin: Admin, modules: list[Module], auth: bytes, settings: bytes) -> Any:
    """Push, and show meanwhile how far the server is, if somebody watches."""
    sources = [(module.path, base64.b64encode(module.source).decode()) for module in modules]
    body = {
        "modules": sources,
        "auth": base64.b64encode(auth).decode(),
        "settings": base64.b64encode(settings).decode(),
    }
    console = Console(stderr=True)
    if not console.is_terminal:
        return await trio.to_thread.run_sync(admin.post, "push", body)
    failed: AdminFailed | None = None
    with console.status("pushing") as status:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_show_progress, admin, lambda text: status.update(text or "pushing"))
            try:
                return await trio.to_thread.run_sync(admin.post, "push", body)
            except AdminFailed as error:
                failed = error
            finally:
                nursery.cancel_scope.cancel()
    assert failed is not None
    raise failed


async def _show_progress(admin: Admin, show: Any) -> None:
    while True:
        await trio.sleep(PROGRESS_EVERY_S)
        try:
            answer = await trio.to_thread.run_sync(admin.get, "push_progress")
        except AdminFailed:
            continue  # what is wrong, the push itself will say
        show(answer["progress"])


COMMANDS: Final = (push,)
