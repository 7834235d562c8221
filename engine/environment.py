"""The environment variables of a deployment: rows of a system table.

Functions ask for them with `ctx.env`. Queries and mutations read the rows, by
name, like any document: so a variable is part of what a call has read, and a change
runs again exactly the queries that asked for that name, set or not. Actions are in no
transaction and get the variables as they are when they start.

Invariants:

* a change of several variables is one commit, or none;
* `variables` shows what is durable, and moves in the step in which the head moves;
* guests cannot write the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import attrs

from engine.app_settings import Declared, problems
from engine.chance import Chance
from engine.clock import Clock
from engine.own_writes import OwnWrites
from sandbox.context import ENVIRONMENT_INDEX, ENVIRONMENT_TABLE
from storage import CatalogPlan, Store, Timestamp, Transaction
from tidewell.ids import INTERNAL_ID_BYTES

VARIABLES_MAX: Final = 512  # function-semantics 19.3, as are the next three
NAME_LENGTH_MAX: Final = 256
VALUE_BYTES_MAX: Final = 8 * 1024
TOTAL_BYTES_MAX: Final = 512 * 1024
RESERVED: Final = "CONVEX_"  # begins the names that the server itself sets
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

Changes = Mapping[str, str | None]  # None removes


class InvalidEnvironment(Exception):
    """The variables cannot be so, and nothing has changed. One line that names the variable."""


@attrs.define(eq=False)
class Environment:
    _store: Store
    _writes: OwnWrites
    _clock: Clock
    _chance: Chance
    _declared: Callable[[], Declared]  # by the active code
    variables: Mapping[str, str] = attrs.field(init=False)

    @variables.default
    def _stored(self) -> Mapping[str, str]:
        with self._store.snapshot() as snapshot:
            rows = Transaction(snapshot).scan(ENVIRONMENT_TABLE)
            return {row["name"]: row["value"] for row in rows}

    async def change(self, changes: Changes, *, by_server: bool = False) -> None:
        """Set variables, or remove those that are given as None.

        Raises:
          InvalidEnvironment: a name or a value cannot be, or there would be too many.
          BackendFault, StoreError: the store refused it.
        """
        for name, value in changes.items():
            _check(name, value, by_server)
        after: dict[str, str] = {}

        def write(transaction: Transaction) -> None:
            rows = {row["name"]: row for row in transaction.scan(ENVIRONMENT_TABLE, ENVIRONMENT_INDEX)}
            after.update({name: row["value"] for name, row in rows.items()})
            for name, value in changes.items():
                if value is not None:
                    after[name] = value
                elif after.pop(name, None) is None:
                    raise InvalidEnvironment(f"there is no environment variable {name!r} to remove")
            _check_all(after)
            wrong = {} if by_server else problems(self._declared(), after)
            for name in changes:  # what another one should have been is not the concern of this change
                if name in wrong:
                    raise InvalidEnvironment(wrong[name])
            now_ms = self._clock.now_ms()
            for name, value in changes.items():
                if value is None:
                    transaction.delete(rows[name]["_id"])
                elif name in rows:
                    transaction.replace(rows[name]["_id"], {"name": name, "value": value})
                else:
                    row = {"name": name, "value": value}
                    transaction.insert(ENVIRONMENT_TABLE, row, self._chance.token(INTERNAL_ID_BYTES), now_ms)

        await self._writes.run(write, prepare=_make_table, on_head=partial(self._show, after))

    def _show(self, after: dict[str, str], ts: Timestamp) -> None:
        self.variables = after


def _has_table(tables: Mapping[str, object]) -> bool:
    return ENVIRONMENT_TABLE in tables


def _make_table(plan: CatalogPlan) -> None:
    if not _has_table(plan.catalog.tables):
        plan.create_table(ENVIRONMENT_TABLE)
        plan.add_index(ENVIRONMENT_TABLE, ENVIRONMENT_INDEX, ("name",), unique=True, state="ready")


def _check(name: str, value: str | None, by_server: bool) -> None:
    shown = name if len(name) <= 40 else f"{name[:40]}..."
    if not _NAME.fullmatch(name):
        raise InvalidEnvironment(
            f"{shown!r} is not a name for an environment variable: letter first, then letters, digits and _"
        )
    if len(name) > NAME_LENGTH_MAX:
        raise InvalidEnvironment(f"{shown!r} has {len(name)} characters, at most {NAME_LENGTH_MAX}")
    if name.startswith(RESERVED) and not by_server:
        raise InvalidEnvironment(f"{shown!r}: names that begin with {RESERVED} are set by the server itself")
    if value is None:
        return
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidEnvironment(f"the value of {shown} holds a lone surrogate, which is not text") from None
    if size > VALUE_BYTES_MAX:
        raise InvalidEnvironment(f"the value of {shown} has {size:,} bytes, at most {VALUE_BYTES_MAX:,}")


def _check_all(variables: Mapping[str, str]) -> None:
    set_by_users = {name: value for name, value in variables.items() if not name.startswith(RESERVED)}
    if len(set_by_users) > VARIABLES_MAX:
        raise InvalidEnvironment(f"{len(set_by_users)} environment variables, at most {VARIABLES_MAX}")
    total = sum(len(name) + len(value.encode()) for name, value in set_by_users.items())
    if total > TOTAL_BYTES_MAX:
        raise InvalidEnvironment(
            f"the environment variables have {total:,} bytes together, at most {TOTAL_BYTES_MAX:,}"
        )
