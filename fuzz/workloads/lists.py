"""Invariant: transactions that read and append to several lists at once have no cycle of dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from fuzz.checkers import dependencies
from fuzz.checkers.dependencies import Transaction
from fuzz.client import SimulatedClient
from fuzz.history import Request
from fuzz.workloads.base import End, Workload

KEYS: Final = tuple("uvwxyz")

APP: Final = """
from tidewell import mutation, query

def row(ctx, key):
    return ctx.db.query("lists").with_index("by_key", lambda q: q.eq("key", key)).unique()

@mutation
def touch(ctx, reads: list, appends: list, item: str) -> dict:
    seen = {}
    for key in reads:
        found = row(ctx, key)
        seen[key] = [] if found is None else found["items"]
    for key in appends:
        found = row(ctx, key)
        if found is None:
            ctx.db.insert("lists", {"key": key, "items": [item]})
        else:
            ctx.db.patch(found["_id"], {"items": [*found["items"], item]})
    return seen

@query
def lengths(ctx) -> list:
    return [[row["key"], len(row["items"])] for row in ctx.db.query("lists").with_index("by_key").collect()]
"""

SCHEMA: Final = """
from tidewell import Schema, table

schema = Schema(lists=table(key=str, items=list[str]).index("by_key", "key"))
"""


async def set_up(client: SimulatedClient) -> None:
    await client.mutate("lists:touch", reads=[], appends=["u"], item="first")


async def step(client: SimulatedClient, random: Random) -> None:
    reads = random.sample(KEYS, random.randint(0, 3))
    appends = random.sample(KEYS, random.randint(0 if reads else 1, 2))
    item = f"{client.name}-{random.randrange(10**9)}"
    await client.mutate("lists:touch", reads=reads, appends=appends, item=item)


def check(end: End) -> list[str]:
    return dependencies.check([_transaction(request) for request in end.history.requests])


def _transaction(request: Request) -> Transaction:
    is_ok = request.status == "ok"
    return Transaction(
        name=str(request),
        invoked=request.invoked,
        completed=request.answered if is_ok else None,
        status=request.status,
        reads={key: tuple(items) for key, items in request.value.items()} if is_ok else {},
        appends=dict.fromkeys(request.args["appends"], request.args["item"]),
    )


def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
    return [("lists:lengths", {})]


class Lists:
    def __init__(self) -> None:
        self.lists: dict[str, list[str]] = {}

    def apply(self, path: str, args: Mapping[str, Any]) -> Any:
        seen = {key: list(self.lists.get(key, [])) for key in args["reads"]}
        for key in args["appends"]:
            self.lists.setdefault(key, []).append(args["item"])
        return seen


WORKLOAD: Final = Workload(
    "lists",
    {"lists.py": APP, "schema.py": SCHEMA},
    set_up,
    step,
    check,
    watched,
    Lists,
    writes=lambda request: bool(request.args["appends"]),
)
