"""What a commit costs the engine beside subscriptions that it does not touch: 1,000 of them against 10.

    python bench/idle_subscriptions.py [ROUNDS] [COMMITS]

One deployment with confined workers, in this process. Rounds with 10 and with 1,000 subscriptions take
turns; each makes the same commits with 32 under way at a time, and what is compared is the processor
time of this process alone, which is the engine's. Every subscription is another query: one document by
its id, one equality of an index, or a wide range that overlaps all the others. A run in which a
subscription was rung or rerun fails. Durable: each group of commits is synced before its answers.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import trio

from engine.app_folder import read_app_folder
from engine.backend import ANONYMOUS, Call
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.collector import spare_the_event_loop
from engine.deployment import Deployment, open_deployment
from engine.queries import QueryWatch
from tidewell.values import Value

ROUNDS = 7
COMMITS = 1_500
SMALL, LARGE = 10, 1_000
AT_ONCE = 32
RATIO_MAX = 1.5  # what is promised
SCHEMA = """
from tidewell import Schema, table

schema = Schema(
    posts=table(author=str, rank=int, text=str).index("by_author", "author").index("by_rank", "rank")
)
"""
POSTS = """
from tidewell import mutation, query


@mutation
def add(ctx, author: str, rank: int) -> str:
    return ctx.db.insert("posts", {"author": author, "rank": rank, "text": "hello"})


@query
def get(ctx, id: str):
    return ctx.db.get(id)


@query
def by_author(ctx, author: str):
    return ctx.db.query("posts").with_index("by_author", lambda q: q.eq("author", author)).collect()


@query
def by_rank(ctx, low: int, high: int):
    rows = ctx.db.query("posts").with_index("by_rank", lambda q: q.gte("rank", low).lt("rank", high))
    return rows.collect()
"""


def call(path: str, **args: Value) -> Call:
    return Call(path, dict(sorted(args.items())), ANONYMOUS, "0" * 16, "internal")


async def subscribe(deployment: Deployment, count: int, post: str, rung: list[int]) -> list[QueryWatch]:
    watches = []
    for number in range(count):
        asked = (
            call("posts:get", id=post) if number == 0 else call("posts:by_author", author=f"nobody {number}"),
            call("posts:by_author", author=f"a{number}"),
            call("posts:by_rank", low=number, high=1_000_000 + number),
        )[number % 3]
        watches.append(deployment.watch(asked, None, lambda: rung.append(1)))
    await deployment.evaluate(watches, deployment.head_ts)
    return watches


async def commit(deployment: Deployment, commits: int) -> float:
    """Return the processor seconds of this process per commit."""
    left = commits

    async def client() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            outcome = await deployment.mutate(call("posts:add", author="somebody", rank=-1))
            assert outcome.failure is None, outcome.failure

    began = time.process_time()
    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(client)
    return (time.process_time() - began) / commits


async def measure(folder: Path, rounds: int, commits: int) -> float:
    app = folder / "functions"
    app.mkdir()
    (app / "schema.py").write_text(SCHEMA)
    (app / "posts.py").write_text(POSTS)
    spare_the_event_loop()
    deployment = open_deployment(
        folder / "data", clock=SystemClock(), chance=SystemChance(), on_execution=lambda *_: None
    )
    costs: dict[int, list[float]] = {SMALL: [], LARGE: []}
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        await deployment.push(read_app_folder(app), lambda _: None)
        post = (await deployment.mutate(call("posts:add", author="first", rank=-2))).value
        await commit(deployment, commits)  # to warm up
        for _ in range(rounds):
            for count in (SMALL, LARGE):
                rung: list[int] = []
                watches = await subscribe(deployment, count, post, rung)
                ran = deployment.queries.executions
                costs[count].append(await commit(deployment, commits))
                assert not rung, "a subscription was rung"
                assert deployment.queries.executions == ran, "a subscription was rerun"
                for watch in watches:
                    watch.close()
        deployment.close()
    for count, found in costs.items():
        print(f"{count:6,} subscriptions: {statistics.median(found) * 1e6:7.1f} µs of processor per commit")
    return statistics.median(large / small for small, large in zip(costs[SMALL], costs[LARGE], strict=True))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    commits = int(sys.argv[2]) if len(sys.argv) > 2 else COMMITS
    with tempfile.TemporaryDirectory() as folder:
        ratio = trio.run(measure, Path(folder), rounds, commits)
    print(f"ratio {ratio:.2f}, at most {RATIO_MAX} is promised")
    sys.exit(ratio > RATIO_MAX)


if __name__ == "__main__":
    main()
