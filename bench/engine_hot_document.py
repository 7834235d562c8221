"""Is one hot document as fast as many? 64 clients increment one, and each its own, in turn.

Both run on one deployment with workers in their processes and a sync for every
group of commits; what is left out is the wire. Rounds alternate, so that a machine
that gets slower meanwhile is slower for both. The figure is the ratio; the others are
for finding out what it comes from.

    python -m bench.engine_hot_document [--clients 64] [--calls 40] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import trio

from engine.app_folder import read_app_folder
from engine.backend import ANONYMOUS, Call
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.deployment import Deployment, open_deployment

SCHEMA = """
    from tidewell import Schema, table

    schema = Schema(posts=table(likes=int))
    """
POSTS = """
    from tidewell import Id, mutation


    @mutation
    def create(ctx) -> str:
        return ctx.db.insert("posts", {"likes": 0})


    @mutation
    def like(ctx, post: Id["posts"]) -> int:
        likes = ctx.db.get(post)["likes"] + 1
        ctx.db.patch(post, {"likes": likes})
        return likes
    """


@attrs.frozen
class Round:
    """What one run of all clients took."""

    calls: int
    seconds: float
    messages: int
    syncs: int
    conflicts: int

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds


async def run_round(deployment: Deployment, posts: list[str], calls: int) -> Round:
    """Let one client per entry of `posts` like that post `calls` times, one after another."""
    mutations, committer = deployment.mutations, deployment.committer
    before = mutations.batches, committer.syncs, mutations.conflicts

    async def like(post: str) -> None:
        for _ in range(calls):
            outcome = await deployment.mutate(
                Call("posts:like", {"post": post}, ANONYMOUS, "0" * 16, "socket")
            )
            assert outcome.failure is None, outcome.failure

    started = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for post in posts:
            nursery.start_soon(like, post)
    seconds = time.perf_counter() - started
    after = mutations.batches, committer.syncs, mutations.conflicts
    return Round(len(posts) * calls, seconds, *(b - a for a, b in zip(before, after, strict=True)))


def ignore(*_: Any) -> None:
    """Keep no function log."""


async def measure(folder: Path, clients: int, calls: int, rounds: int) -> None:
    app = folder / "functions"
    app.mkdir()
    (app / "schema.py").write_text(dedent(SCHEMA))
    (app / "posts.py").write_text(dedent(POSTS))
    deployment = open_deployment(
        folder / "data", clock=SystemClock(), chance=SystemChance(), on_execution=ignore
    )
    results: dict[str, list[Round]] = {"one hot document": [], "each its own": []}
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        await deployment.push(read_app_folder(app), ignore)
        create = Call("posts:create", {}, ANONYMOUS, "0" * 16, "socket")
        own = [str((await deployment.mutate(create)).value) for _ in range(clients)]
        for posts in ([own[0]] * clients, own):
            await run_round(deployment, posts, 5)  # warms workers and caches up
        for _ in range(rounds):
            results["one hot document"].append(await run_round(deployment, [own[0]] * clients, calls))
            results["each its own"].append(await run_round(deployment, own, calls))
        deployment.close()
    print(f"{clients} clients, {calls} calls each, {rounds} rounds; medians")
    for name, each in results.items():
        print(
            f"{name:>18}: {statistics.median(r.per_second for r in each):8,.0f} calls/s, "
            f"{statistics.median(r.calls / r.messages for r in each):5.1f} calls per message, "
            f"{statistics.median(r.calls / r.syncs for r in each):5.1f} commits per sync, "
            f"{sum(r.conflicts for r in each)} conflicts"
        )
    hot, cold = (statistics.median(r.per_second for r in each) for each in results.values())
    print(f"{'hot / own':>18}: {hot / cold:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--calls", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trio.run(measure, Path(folder), options.clients, options.calls, options.rounds)


if __name__ == "__main__":
    main()
