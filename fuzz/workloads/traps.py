"""Invariant: somebody is always on call (write skew), and no two bookings of a room overlap (phantoms)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any, Final

from fuzz.client import SimulatedClient
from fuzz.workloads.base import End, Workload

DOCTORS: Final = 3
SLOTS: Final = 15
LENGTH: Final = 3

APP: Final = """
from tidewell import mutation, query

def on_call(ctx):
    return ctx.db.query("doctors").with_index("by_state", lambda q: q.eq("state", "on"))

def doctor(ctx, name):
    return ctx.db.query("doctors").with_index("by_name", lambda q: q.eq("name", name)).unique()

def around(ctx, start, length):
    def overlapping(q):
        return q.gt("start", start - length).lt("start", start + length)
    return ctx.db.query("bookings").with_index("by_start", overlapping)

@mutation
def hire(ctx, count: int) -> int:
    for name in range(count):
        ctx.db.insert("doctors", {"name": name, "state": "on"})
    return count

@mutation
def leave(ctx, name: int) -> bool:
    if on_call(ctx).count() < 2:
        return False
    found = doctor(ctx, name)
    if found["state"] == "off":
        return False
    ctx.db.patch(found["_id"], {"state": "off"})
    return True

@mutation
def come_back(ctx, name: int) -> bool:
    found = doctor(ctx, name)
    if found["state"] == "on":
        return False
    ctx.db.patch(found["_id"], {"state": "on"})
    return True

@mutation
def book(ctx, start: int, length: int) -> bool:
    if around(ctx, start, length).first() is not None:
        return False
    ctx.db.insert("bookings", {"start": start})
    return True

@mutation
def cancel(ctx, start: int, length: int) -> bool:
    rows = around(ctx, start, length).collect()
    for row in rows:
        ctx.db.delete(row["_id"])
    return len(rows) > 0

@query
def roster(ctx) -> list:
    return sorted(row["name"] for row in on_call(ctx).collect())

@query
def bookings(ctx) -> list:
    return [row["start"] for row in ctx.db.query("bookings").with_index("by_start").collect()]
"""

SCHEMA: Final = """
from tidewell import Schema, table

schema = Schema(
    doctors=table(name=int, state=str).index("by_name", "name").index("by_state", "state"),
    bookings=table(start=int).index("by_start", "start"),
)
"""


async def set_up(client: SimulatedClient) -> None:
    await client.mutate("traps:hire", count=DOCTORS)


async def step(client: SimulatedClient, random: Random) -> None:
    name, start = random.randrange(DOCTORS), random.randrange(SLOTS)
    choice = random.random()
    if choice < 0.35:
        await client.mutate("traps:leave", name=name)
    elif choice < 0.6:
        await client.mutate("traps:come_back", name=name)
    elif choice < 0.9:
        await client.caught_up(client.start("traps:book", start=start, length=LENGTH))
    else:
        await client.mutate("traps:cancel", start=start, length=LENGTH)


def check(end: End) -> list[str]:
    problems = []
    rosters = [end.query("traps:roster")]
    booked = [end.query("traps:bookings")]
    for shown in end.history.shown:
        for query, value in shown.results.items():
            (rosters if query.path == "traps:roster" else booked).append(value)
    if [] in rosters:
        problems.append("nobody was on call")
    problems += [
        f"bookings overlap: {starts}"
        for starts in booked
        if any(later - earlier < LENGTH for earlier, later in pairwise(starts))
    ]
    return problems


def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
    return [("traps:roster", {}), ("traps:bookings", {})]


class Hospital:
    def __init__(self) -> None:
        self.on: set[int] = set()
        self.booked: set[int] = set()

    def apply(self, path: str, args: Mapping[str, Any]) -> Any:
        name, start = args.get("name"), args.get("start", 0)
        near = {other for other in self.booked if abs(other - start) < LENGTH}
        match path.partition(":")[2]:
            case "hire":
                self.on = set(range(int(args["count"])))
                return args["count"]
            case "leave":
                is_done = name in self.on and len(self.on) > 1
                self.on -= {name} if is_done else set()
                return is_done
            case "come_back":
                is_done = name not in self.on
                self.on.add(name)  # type: ignore[arg-type]  # a name is there
                return is_done
            case "book":
                self.booked |= set() if near else {start}
                return not near
        self.booked -= near
        return bool(near)


WORKLOAD: Final = Workload(
    "traps",
    {"traps.py": APP, "schema.py": SCHEMA},
    set_up,
    step,
    check,
    watched,
    Hospital,
    writes=lambda request: bool(request.value),
)
