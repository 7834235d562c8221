"""`tidewell env`: the environment variables of a deployment that is being served."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click

from engine.admin_client import Admin
from engine.command_options import key_option, one_line_errors, url_option
from engine.store_commands import json_option


@click.group()
def env() -> None:
    """Show and change the environment variables that functions see as ctx.env.

    A change takes effect at once: queries that read the variable run again.
    """


@env.command("list")
@json_option
@url_option
@key_option
def list_(as_json: bool, url: str, data: Path) -> None:
    """List the variables as NAME=VALUE."""
    variables = _variables(url, data)
    if as_json:
        click.echo(json.dumps(variables))
    for name, value in variables.items() if not as_json else ():
        click.echo(f"{name}={value}")


@env.command()
@click.argument("name")
@url_option
@key_option
def get(name: str, url: str, data: Path) -> None:
    """Print the value of the variable NAME."""
    variables = _variables(url, data)
    if name not in variables:
        raise click.ClickException(f"there is no environment variable {name!r}; see `tidewell env list`")
    click.echo(variables[name])


@env.command("set")
@click.argument("name")
@click.argument("value", required=False)
@url_option
@key_option
def set_(name: str, value: str | None, url: str, data: Path) -> None:
    """Set NAME to VALUE, or to what comes on standard input: secrets stay out of the shell's history.

    NAME=VALUE in one word works as well.
    """
    if value is None and "=" in name:
        name, _, value = name.partition("=")
    if value is None:
        if sys.stdin.isatty():
            value = click.prompt(f"Value of {name}", hide_input=True, type=str)
        else:
            value = sys.stdin.read().removesuffix("\n")
    _change(url, data, name, value)
    click.echo(f"Set {name}.")


@env.command()
@click.argument("name")
@url_option
@key_option
def remove(name: str, url: str, data: Path) -> None:
    """Remove the variable NAME."""
    _change(url, data, name, None)
    click.echo(f"Removed {name}.")


def _variables(url: str, data: Path) -> dict[str, str]:
    with one_line_errors():
        answer: dict[str, Any] = Admin.of(url, data).get("list_environment_variables")
    return dict(answer["environmentVariables"])


def _change(url: str, data: Path, name: str, value: str | None) -> None:
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        raise click.ClickException(f"the value of {name} is not UTF-8") from None
    with one_line_errors():
        Admin.of(url, data).post(
            "update_environment_variables", {"changes": [{"name": name, "value": value}]}
        )


COMMANDS: Final = (env,)
