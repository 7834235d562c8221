"""Invariant: the nodes form one ring, however three of them at a time are put in another order."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from fuzz.client import SimulatedClient
from fuzz.workloads.base import End, Workload

NODES: Final = 7

APP: Final = """
from tidewell import mutation, query

def node(ctx, name):
    return ctx.db.query("nodes").with_index("by_name", lambda q: q.eq("name", name)).unique()

@mutation
def build(ctx, count: int) -> int:
    for name in range(count):
        ctx.db.insert("nodes", {"name": name, "next": (name + 1) % count})
    return count

@mutation
def swap(ctx, start: int) -> list:
    first = node(ctx, start)
    second = node(ctx, first["next"])
    third = node(ctx, second["next"])
    ctx.db.patch(first["_id"], {"next": third["name"]})
    ctx.db.patch(second["_id"], {"next": third["next"]})
    ctx.db.patch(third["_id"], {"next": second["name"]})
    return [second["name"], third["name"]]

@query
def ring(ctx, start: int) -> list:
    names = [start]
    here = node(ctx, start)
    while here["next"] != start and len(names) < 20:
        names.append(here["next"])
        here = node(ctx, here["next"])
    return names

@query
def before(ctx, name: int) -> list:
    rows = ctx.db.query("nodes").with_index("by_next", lambda q: q.eq("next", name))
    return [row["name"] for row in rows.collect()]
"""

SCHEMA: Final = """
from tidewell import Schema, table

schema = Schema(nodes=table(name=int, next=int).index("by_name", "name").index("by_next", "next"))
"""


async def set_up(client: SimulatedClient) -> None:
    await client.mutate("cycle:build", count=NODES)


async def step(client: SimulatedClient, random: Random) -> None:
    await client.mutate("cycle:swap", start=random.randrange(NODES))


def check(end: End) -> list[str]:
    problems = []
    for shown in end.history.shown:
        for query, value in shown.results.items():
            if query.path == "cycle:ring" and sorted(value) != list(range(NODES)):
                problems.append(f"{shown.client} was shown a ring of {value}")
            if query.path == "cycle:before" and len(value) != 1:
                problems.append(f"{shown.client} was shown {value} before one node")
    ring = end.query("cycle:ring", start=0)
    if sorted(ring) != list(range(NODES)):
        problems.append(f"the ring is {ring} in the end")
    return problems


def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("cycle:ring", {"start": random.randrange(NODES)}),
        ("cycle:before", {"name": random.randrange(NODES)}),
    ]


class Ring:
    def __init__(self) -> None:
        self.next: dict[int, int] = {}

    def apply(self, path: str, args: Mapping[str, Any]) -> Any:
        if path == "cycle:build":
            self.next = {name: (name + 1) % int(args["count"]) for name in range(int(args["count"]))}
            return args["count"]
        first = args["start"]
        second = self.next[first]
        third = self.next[second]
        self.next[first], self.next[second], self.next[third] = third, self.next[third], second
        return [second, third]


WORKLOAD: Final = Workload(
    "cycle", {"cycle.py": APP, "schema.py": SCHEMA}, set_up, step, check, watched, Ring
)
