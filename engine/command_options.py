"""Options that commands on a served deployment share, and how their errors are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from engine.admin_client import AdminFailed

url_option = click.option("--url", default="http://127.0.0.1:3210", show_default=True, help="The deployment.")
key_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".tidewell"),
    show_default=True,
    help="Data folder of the deployment, for its admin key.",
)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a server refuses into what the command ends with."""
    try:
        yield
    except AdminFailed as error:
        raise click.ClickException(str(error)) from None
