"""Invariant: transfers keep the sum, in the end and in everything that anybody is ever shown."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from fuzz.client import SimulatedClient
from fuzz.history import Query, Request
from fuzz.workloads.base import End, Refused, Workload

ACCOUNTS: Final = 5
OPENING: Final = 100

APP: Final = """
from tidewell import AppError, mutation, query

def account(ctx, number):
    return ctx.db.query("accounts").with_index("by_number", lambda q: q.eq("number", number)).unique()

@mutation
def open_all(ctx, count: int, opening: int) -> int:
    for number in range(count):
        ctx.db.insert("accounts", {"number": number, "balance": opening})
    return count

@mutation
def transfer(ctx, source: int, target: int, amount: int) -> int:
    giver = account(ctx, source)
    taker = account(ctx, target)
    if giver["balance"] < amount:
        raise AppError("not enough")
    ctx.db.patch(giver["_id"], {"balance": giver["balance"] - amount})
    taker = account(ctx, target)
    ctx.db.patch(taker["_id"], {"balance": taker["balance"] + amount})
    return giver["balance"] - amount

@query
def balance(ctx, number: int) -> int:
    found = account(ctx, number)
    return found["balance"] if found is not None else 0

@query
def balances(ctx) -> list:
    return [row["balance"] for row in ctx.db.query("accounts").with_index("by_number").collect()]

@query
def richest(ctx) -> int:
    row = ctx.db.query("accounts").with_index("by_balance").order("desc").first()
    return -1 if row is None else row["balance"]
"""

SCHEMA: Final = """
from tidewell import Schema, table

schema = Schema(
    accounts=table(number=int, balance=int).index("by_number", "number").index("by_balance", "balance")
)
"""


async def set_up(client: SimulatedClient) -> None:
    await client.mutate("bank:open_all", count=ACCOUNTS, opening=OPENING)


async def step(client: SimulatedClient, random: Random) -> None:
    source, target = random.sample(range(ACCOUNTS), 2)
    amount = random.randint(1, 60)
    await client.caught_up(client.start("bank:transfer", source=source, target=target, amount=amount))


def check(end: End) -> list[str]:
    problems = []
    sums = {sum(shown.results[BALANCES]) for shown in end.history.shown if shown.results.get(BALANCES)}
    sums.add(sum(end.query("bank:balances")))
    if not sums <= {ACCOUNTS * OPENING}:
        problems.append(f"the sum of all balances was seen as {sorted(sums)}")
    singles = [Query.of("bank:balance", {"number": number}) for number in range(ACCOUNTS)]
    for shown in end.history.shown:
        if shown.results.get(BALANCES) and all(single in shown.results for single in singles):
            told = [shown.results[single] for single in singles]
            if told != shown.results[BALANCES]:
                problems.append(f"{shown.client} was shown {told} beside {shown.results[BALANCES]}")
    return problems


BALANCES: Final = Query.of("bank:balances", {})


def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
    singles = [("bank:balance", {"number": number}) for number in range(ACCOUNTS)]
    return [("bank:balances", {}), ("bank:richest", {}), *(singles if random.random() < 0.7 else [])]


class Bank:
    def __init__(self) -> None:
        self.balances: list[int] = []

    def apply(self, path: str, args: Mapping[str, Any]) -> Any:
        if path == "bank:open_all":
            self.balances = [args["opening"]] * args["count"]
            return args["count"]
        if self.balances[args["source"]] < args["amount"]:
            raise Refused("not enough")
        self.balances[args["source"]] -= args["amount"]
        self.balances[args["target"]] += args["amount"]
        return self.balances[args["source"]]


def may_fail(request: Request) -> bool:
    return "not enough" in request.error


WORKLOAD: Final = Workload(
    "bank", {"bank.py": APP, "schema.py": SCHEMA}, set_up, step, check, watched, Bank, may_fail=may_fail
)
