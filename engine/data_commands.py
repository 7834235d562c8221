"""`tidewell data`: look at documents, and change them by hand.

Looking reads the data folder, whether it is served or not, as of any commit that is
kept. Changing goes through the server, which checks it like a function's write.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from engine.admin_client import Admin
from engine.browse import Condition, documents, tables
from engine.command_options import key_option, one_line_errors, url_option
from engine.edits import Edit
from engine.store_commands import STORE, data_option, json_option
from storage import SharedStore, Snapshot, StoreError
from tidewell.errors import InvalidId, InvalidValue, TidewellError
from tidewell.ids import decode_id
from tidewell.values import Value, canonical_text, from_wire, parse_json, unpack_trusted

as_of_option = click.option(
    "--as-of", type=int, metavar="TS", help="As of the commit with this timestamp; `tidewell log` lists them."
)
LIMIT: Final = 50


@click.group(invoke_without_command=True)
@click.pass_context
def data(context: click.Context) -> None:
    """Look at documents, and change them by hand.

    Values are JSON; what JSON has no word for is written as clients send it, such as
    {"$integer": "AQAAAAAAAAA="} for an int64.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# ---- looking -----------------------------------------------------------------------------


@data.command("tables")
@as_of_option
@json_option
@data_option
def tables_(as_of: int | None, as_json: bool, data: Path) -> None:
    """List the tables, with the number of their documents and their indexes."""
    with _snapshot(data, as_of) as snapshot:
        found = tables(snapshot)
    if as_json:
        rows = [{"name": each.name, "documents": each.documents, "indexes": each.indexes} for each in found]
        click.echo(json.dumps(rows))
        return
    shown = Table("table", "documents", "indexes", box=None)
    for each in found:
        shown.add_row(each.name, f"{each.documents:,}", ", ".join(each.indexes))
    Console(soft_wrap=True).print(shown)


@data.command("list")
@click.argument("table")
@click.option(
    "--where",
    "conditions",
    metavar="FIELD=VALUE",
    multiple=True,
    help="Only documents in which this holds; also !=, <, <=, > and >=. Several must all hold.",
)
@click.option("--index", default="by_creation_time", show_default=True, help="Whose order to list in.")
@click.option("--desc", is_flag=True, help="The last ones first.")
@click.option("--limit", type=click.IntRange(min=1), default=LIMIT, show_default=True)
@as_of_option
@json_option
@data_option
def list_(
    table: str,
    conditions: tuple[str, ...],
    index: str,
    desc: bool,
    limit: int,
    as_of: int | None,
    as_json: bool,
    data: Path,
) -> None:
    """List documents of TABLE, one line of JSON each; with --json, one array."""
    with _snapshot(data, as_of) as snapshot:
        wanted = tuple(map(Condition.read, conditions))
        known = sorted(snapshot.catalog.tables)
        if table not in known:
            raise click.ClickException(f"there is no table {table!r}.{_nearest(table, known)}")
        found = documents(snapshot, table, index=index, descending=desc, conditions=wanted)
        listed = list(islice(found, limit + 1))
    shown = [canonical_text(document) for document in listed[:limit]]
    click.echo(f"[{','.join(shown)}]" if as_json else "\n".join(shown), nl=as_json or bool(shown))
    if len(listed) > limit and not as_json:
        click.echo(f"There are more than {limit}; see --limit and --where.", err=True)


@data.command()
@click.argument("id")
@as_of_option
@data_option
def show(id: str, as_of: int | None, data: Path) -> None:  # noqa: A002 - as in ctx.db
    """Print the document ID, as JSON over several lines."""
    click.echo(_pretty(_load(id, data, as_of)))


# ---- changing ------------------------------------------------------------------------------


@data.command()
@click.argument("table")
@click.argument("document")
@url_option
@key_option
def insert(table: str, document: str, url: str, data: Path) -> None:
    """Add DOCUMENT, a JSON object, to TABLE, and print its id."""
    click.echo(_send(url, data, Edit("insert", table=table), document))


@data.command()
@click.argument("id")
@click.argument("fields", default="{}")
@click.option("--remove", metavar="FIELD", multiple=True, help="A field that the document shall not have.")
@url_option
@key_option
def patch(id: str, fields: str, remove: tuple[str, ...], url: str, data: Path) -> None:  # noqa: A002 - as in ctx.db
    """Set the FIELDS, a JSON object, of the document ID, and leave its others as they are."""
    _send(url, data, Edit("patch", id=id, remove=remove), fields)
    click.echo(f"Changed {id}.")


@data.command()
@click.argument("id")
@click.argument("document")
@url_option
@key_option
def replace(id: str, document: str, url: str, data: Path) -> None:  # noqa: A002 - as in ctx.db
    """Give the document ID the body DOCUMENT, a JSON object."""
    _send(url, data, Edit("replace", id=id), document)
    click.echo(f"Changed {id}.")


@data.command()
@click.argument("id")
@url_option
@key_option
def edit(id: str, url: str, data: Path) -> None:  # noqa: A002 - as in ctx.db
    """Change the document ID in your editor ($EDITOR): what you save is what it becomes."""
    before = _pretty(_load(id, data, None))
    after = click.edit(before + "\n", extension=".json")
    if after is None or after.strip() == before:
        click.echo("Nothing changed.")
        return
    _send(url, data, Edit("replace", id=id), after)
    click.echo(f"Changed {id}.")


@data.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@url_option
@key_option
def delete(ids: tuple[str, ...], url: str, data: Path) -> None:
    """Delete the documents ID..., each in a commit of its own."""
    for each in ids:
        _send(url, data, Edit("delete", id=each), "{}")
        click.echo(f"Deleted {each}.")


# ---- what they share -----------------------------------------------------------------------


@contextmanager
def _snapshot(data: Path, as_of: int | None) -> Iterator[Snapshot]:
    try:
        with SharedStore.open(data / STORE) as store:
            yield store.snapshot(as_of)
    except (StoreError, TidewellError) as error:
        raise click.ClickException(str(error)) from None


def _load(document_id: str, data: Path, as_of: int | None) -> dict[str, Value]:
    with _snapshot(data, as_of) as snapshot:
        number, internal_id = decode_id(document_id)
        table = snapshot.catalog.by_number.get(number)
        if table is None:
            raise InvalidId(f"{document_id!r} belongs to no table")
        body = snapshot.get(number, internal_id)
    if body is None:
        when = "" if as_of is None else f" as of {as_of}"
        raise click.ClickException(f"there is no document {document_id} in {table.name}{when}")
    document: dict[str, Value] = unpack_trusted(body)
    return document


def _send(url: str, data: Path, edit: Edit, document: str) -> str:
    """Have the server do it; return the id of the document."""
    try:
        tree = parse_json(document)
        if type(from_wire(tree, "DOCUMENT")) is not dict:
            raise InvalidValue("DOCUMENT", "is one JSON object, such as '{\"likes\": 3}'")
    except InvalidValue as error:
        raise click.ClickException(str(error)) from None
    with one_line_errors():
        answer: dict[str, Any] = Admin.of(url, data).post("edit", {**edit.to_wire(), "document": tree})
    return str(answer["id"])


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" There are {', '.join(names)}." if names else " There are no tables yet."


def _pretty(document: dict[str, Value]) -> str:
    return msgspec.json.format(canonical_text(document).encode(), indent=2).decode()


COMMANDS: Final = (data,)
