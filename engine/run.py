"""`tidewell run`: call one function of a deployment that is being served, whatever its kind.

A stranger cannot ask a deployment of which kind a function is. So it is called as a
query first; a mutation or an action is not run by that, and the refusal names its kind.
In production it names nothing, but there an admin may call functions of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import trio

from engine.admin_client import Admin
from tidewell.client import AppError, Client, FunctionError, connect
from tidewell.values import Value, canonical_text

_KIND: Final = re.compile(
    r"^Trying to execute \S+ as Query, but it is defined as (Mutation|Action)\.", re.MULTILINE
)

_WITHHELD: Final = re.compile(r"\[Request ID: \w+\] Server Error")


@attrs.frozen
class Run:
    url: str
    path: str
    args: Mapping[str, Value]
    admin_key: str | None
    acting_as: Mapping[str, Any] | None  # the claims of a person to call as; needs the key
    watch: bool


async def run(what: Run, show: Callable[[str], object]) -> None:
    """Call the function and show its result as a line of JSON; with `watch`, each result until cancelled.

    Raises:
      AppError, FunctionError, ClientError, AdminFailed, ValueError: `explain` has the line.
    """
    async with connect(what.url) as client:
        if what.admin_key is not None:
            client.set_admin_auth(what.admin_key, what.acting_as)
        if not what.watch:
            show(canonical_text(await _call(client, what)))
            return
        async with client.subscribe(what.path, what.args) as results:
            async for value in results:
                show(canonical_text(value))


async def _call(client: Client, what: Run) -> Value:
    try:
        return await client.query(what.path, what.args)
    except FunctionError as error:
        found = _KIND.search(error.message)
        if found is None:
            if what.admin_key is None or not _WITHHELD.fullmatch(error.message.strip()):
                raise
            admin = Admin(what.url, what.admin_key, what.acting_as)
            return await trio.to_thread.run_sync(admin.call, what.path, what.args)
    call = client.mutation if found[1] == "Mutation" else client.action
    return await call(what.path, what.args)


def explain(error: Exception) -> str:
    """Return what went wrong in one line."""
    if isinstance(error, AppError):
        return f"AppError: {canonical_text(error.data)}"
    if isinstance(error, FunctionError):
        lines = error.message.splitlines()
        told = lines[1:] if len(lines) > 1 else lines  # the first is the number of the request
        return " ".join(line.strip() for line in told)
    return " ".join(str(error).split())
