"""Invariant: every message that was sent is taken at most once, and is in a box until then, once."""

from __future__ import annotations

from random import Random
from typing import Any, Final

from fuzz.client import SimulatedClient
from fuzz.workloads.base import End, Workload

BOXES: Final = ("red", "blue")

APP: Final = """
from tidewell import action, internal, internal_mutation, mutation, query

def waiting(ctx, box):
    return ctx.db.query("messages").with_index("by_box", lambda q: q.eq("box", box).eq("state", "new"))

@mutation
def send(ctx, box: str, text: str) -> str:
    ctx.db.insert("messages", {"box": box, "state": "new", "text": text})
    return text

@mutation
def take(ctx, box: str) -> str | None:
    message = waiting(ctx, box).first()
    if message is None:
        return None
    ctx.db.patch(message["_id"], {"state": "taken"})
    return message["text"]

@mutation
def forward(ctx, source: str, target: str) -> str | None:
    message = waiting(ctx, source).order("desc").first()
    if message is None:
        return None
    ctx.db.delete(message["_id"])
    ctx.db.insert("messages", {"box": target, "state": "new", "text": message["text"]})
    return message["text"]

@action
def relay(ctx, box: str, text: str) -> str:
    there = ctx.run_query("inbox:counts", {"box": box})
    return ctx.run_mutation(internal.inbox.deliver, {"box": box, "text": text, "there": there[0]})

@internal_mutation
def deliver(ctx, box: str, text: str, there: int) -> str:
    return send(ctx, box, text)

@query
def new(ctx, box: str) -> list:
    return [message["text"] for message in waiting(ctx, box).take(10)]

@query
def counts(ctx, box: str) -> list:
    taken = ctx.db.query("messages").with_index("by_box", lambda q: q.eq("box", box).eq("state", "taken"))
    return [waiting(ctx, box).count(), len(taken.collect())]
"""

SCHEMA: Final = """
from tidewell import Schema, table

schema = Schema(messages=table(box=str, state=str, text=str).index("by_box", "box", "state"))
"""


async def set_up(client: SimulatedClient) -> None:
    await client.mutate("inbox:send", box="red", text="welcome")


async def step(client: SimulatedClient, random: Random) -> None:
    box = random.choice(BOXES)
    choice = random.random()
    text = f"{client.name}-{random.randrange(10**9)}"
    if choice < 0.4:
        await client.mutate("inbox:send", box=box, text=text)
    elif choice < 0.5:
        await client.act("inbox:relay", box=box, text=text)
    elif choice < 0.8:
        await client.caught_up(client.start("inbox:take", box=box))
    else:
        source, target = random.sample(BOXES, 2)
        await client.mutate("inbox:forward", source=source, target=target)


def check(end: End) -> list[str]:
    sent = [each.args["text"] for each in end.committed if each.path in ("inbox:send", "inbox:deliver")]
    taken = [
        request.value
        for request in end.history.requests
        if request.path == "inbox:take" and request.status == "ok" and request.value is not None
    ]
    problems = [f"{text} was taken twice" for text in sorted(set(taken)) if taken.count(text) > 1]
    problems += [f"{text} was taken and never sent" for text in sorted(set(taken) - set(sent))]
    relayed = [action.args["text"] for action in end.history.actions if action.status == "ok"]
    problems += [f"{text} was relayed {sent.count(text)} times" for text in relayed if sent.count(text) != 1]
    left = sum(sum(end.query("inbox:counts", box=box)) for box in BOXES)
    if left != len(sent):
        problems.append(f"{len(sent)} messages were sent and {left} are there")
    return problems


def watched(random: Random) -> list[tuple[str, dict[str, Any]]]:
    return [
        ("inbox:new", {"box": random.choice(BOXES)}),
        ("inbox:counts", {"box": random.choice(BOXES)}),
    ]


WORKLOAD: Final = Workload(
    "inbox",
    {"inbox.py": APP, "schema.py": SCHEMA},
    set_up,
    step,
    check,
    watched,
    writes=lambda request: request.value is not None,
)
