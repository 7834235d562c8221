"""Invariant: a counter holds the sum of the additions that were committed to it, each once."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from fuzz.client import SimulatedClient
from fuzz.workloads.base import End, Workload

NAMES: Final = ("a", "b", "c")

APP: Final = """
from tidewell import mutation, query

def find(ctx, name):
    return ctx.db.query("counters").with_index("by_name", lambda q: q.eq("name", name)).unique()

@mutation
def add(ctx, name: str, amount: int) -> int:
    row = find(ctx, name)
    if row is None:
        ctx.db.insert("counters", {"name": name, "n": amount})
        return amount
    ctx.db.patch(row["_id"], {"n": row["n"] + amount})
    return row["n"] + amount

@query
def get(ctx, name: str) -> int:
    row = find(ctx, name)
    return 0 if row is None else row["n"]

@query
def total(ctx) -> int:
    return sum(row["n"] for row in ctx.db.query("counters").collect())
"""

SCHEMA: Final = """
from tidewell import Schema, table

schema = Schema(counters=table(name=str, n=int).index("by_name", "name"))
"""


async def set_up(client: SimulatedClient) -> None:
    await client.mutate("counters:add", name="a", amount=1)


async def step(client: SimulatedClient, random: Random) -> None:
    name = random.choice(NAMES)
    for _ in range(random.choice([1, 1, 1, 3])):
        request = client.start("counters:add", name=name, amount=random.randint(1, 9))
    if random.random() < 0.5:
        await client.caught_up(request)
    else:
        await client.settled(request)


def check(end: End) -> list[str]:
    problems = []
    for name in NAMES:
        committed = sum(each.args["amount"] for each in end.committed if each.args["name"] == name)
        answered = sum(
            request.args["amount"]
            for request in end.history.requests
            if request.status == "ok" and request.args["name"] == name
        )
        found = end.query("counters:get", name=name)
        if not found == committed == answered:
            problems.append(f"{name} is {found}, the log adds up to {committed}, the answers to {answered}")
    return problems


def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
    return [("counters:get", {"name": random.choice(NAMES)}), ("counters:total", {})]


class Counters:
    def __init__(self) -> None:
        self.counters: dict[str, float] = {}

    def apply(self, path: str, args: Mapping[str, Any]) -> Any:
        name = args["name"]
        self.counters[name] = self.counters.get(name, 0) + args["amount"]
        return self.counters[name]


WORKLOAD: Final = Workload(
    "counter",
    {"counters.py": APP, "schema.py": SCHEMA},
    set_up,
    step,
    check,
    watched,
    Counters,
)
