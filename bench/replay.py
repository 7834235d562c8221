"""How fast a log is run again, against how fast it came about: `python bench/replay.py [COMMITS] [--queue]`.

A deployment with confined workers executes COMMITS mutations (20,000 by default) for many callers
at once. Then the log is replayed with as many workers as the engine had for quick calls. Printed
are the rates per worker, their ratio (goal: at least 1), and by how much the memory of the
replaying process grew over the last half of the log (goal: not with the log).

With `--queue`, a third of the calls put into a table or take out what is first in it: as of each
snapshot, that row lies behind all that had been taken out before and in front of all that came later.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from engine.app_folder import read_app_folder
from engine.backend import ANONYMOUS, Call
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.deployment import WORKER_ENTRY, Deployment, open_deployment
from engine.replay.divergence import Replayed
from engine.replay.replayer import Replayer
from engine.replay.source import Source
from sandbox.pool import WorkerPool

KINDS = ("like", "like", "like", "answer", "create")
QUEUE_KINDS = ("like", "like", "like", "answer", "push", "pull")
QUICK_LANES = 2  # workers that run quick calls in a live engine
CALLERS = 256
SEED = 7
APP = {
    "schema.py": """
from tidewell import Id, Schema, table

schema = Schema(
    posts=table(text=str, likes=int, channel=str).index("by_channel", "channel"),
    queue=table(job=str),
)
""",
    "posts.py": """
from tidewell import Id, mutation

@mutation
def create(ctx, channel: str):
    return ctx.db.insert("posts", {"text": "hello there", "likes": 0, "channel": channel})

@mutation
def like(ctx, post: Id["posts"]):
    ctx.db.patch(post, {"likes": ctx.db.get(post)["likes"] + 1})

@mutation
def answer(ctx, channel: str):
    posts = ctx.db.query("posts").with_index("by_channel", lambda q: q.eq("channel", channel))
    newest = posts.order("desc").take(5)
    return ctx.db.insert("posts", {"text": f"answer to {len(newest)}", "likes": 0, "channel": channel})

@mutation
def push(ctx, job: str):
    ctx.db.insert("queue", {"job": job})

@mutation
def pull(ctx):
    first = ctx.db.query("queue").first()
    if first is not None:
        ctx.db.delete(first["_id"])
""",
}


def memory_mib() -> float:
    """Return what this process has taken for itself, the mapped store left out."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


async def live(folder: Path, commits: int, kinds: tuple[str, ...] = KINDS) -> float:
    """Make a log; return the mutations per second, measured after a start."""
    app = folder / "functions"
    app.mkdir()
    for name, source in APP.items():
        (app / name).write_text(source)
    chance = random.Random(SEED)
    deployment = open_deployment(
        folder / "data", clock=SystemClock(), chance=SystemChance(), on_execution=lambda *_: None
    )
    rate = 0.0
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        await deployment.push(read_app_folder(app), lambda _: None)
        posts = [await mutate(deployment, "create", channel=f"c{n % 20}") for n in range(200)]
        left = commits

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                kind = chance.choice(kinds)
                await mutate(deployment, kind, **arguments(kind, chance, posts))

        started = time.monotonic()
        async with trio.open_nursery() as callers:
            for _ in range(CALLERS):
                callers.start_soon(caller)
        rate = commits / (time.monotonic() - started)
        deployment.close()
    return rate


def arguments(kind: str, chance: random.Random, posts: list[str]) -> dict[str, Any]:
    match kind:
        case "like":
            return {"post": chance.choice(posts)}
        case "answer" | "create":
            return {"channel": f"c{chance.randrange(20)}"}
        case "push":
            return {"job": f"job {chance.randrange(10**6)}"}
        case _:
            return {}


async def mutate(deployment: Deployment, name: str, **args: Any) -> Any:
    outcome = await deployment.mutate(Call(f"posts:{name}", args, ANONYMOUS, "0" * 16, "socket"))
    assert outcome.failure is None, outcome.failure
    return json.loads(outcome.value_json)


async def again(data: Path, workers: int, on_replayed: Callable[[Replayed], None]) -> float:
    """Replay the log; return the seconds."""
    with Source.open(data) as source:
        pool = WorkerPool(entry=WORKER_ENTRY, argument=source.worker_argument, size=workers)
        async with pool.running():
            started = time.monotonic()
            await Replayer(source, pool).replay_all(source.recorded(), workers, on_replayed)
            return time.monotonic() - started


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    commits = numbers[0] if numbers else 20_000
    kinds = QUEUE_KINDS if "--queue" in sys.argv else KINDS
    with tempfile.TemporaryDirectory(prefix="bench-replay-") as name:
        folder = Path(name)
        live_rate = trio.run(live, folder, commits, kinds) / QUICK_LANES
        memory: list[float] = []
        wrong: list[Replayed] = []
        count = 0

        def on_replayed(replayed: Replayed) -> None:
            nonlocal count
            count += 1
            if replayed.divergence is not None:
                wrong.append(replayed)
            if count % 1_000 == 0:
                memory.append(memory_mib())

        seconds = trio.run(again, folder / "data", QUICK_LANES, on_replayed)
    rate = count / seconds / QUICK_LANES
    print(f"live:   {commits:,} mutations, {live_rate:,.0f} per second and worker")
    print(f"replay: {count:,} commits, {rate:,.0f} per second and worker, {len(wrong)} diverge")
    ratio = rate / live_rate
    print(f"replay against live: {ratio:.2f} (goal at least 1) {'ok' if ratio >= 1 else 'MISSED'}")
    grown = memory[-1] - memory[len(memory) // 2] if memory else 0.0
    print(f"memory grew by {grown:.1f} MiB over the last half of the log")
    for replayed in wrong[:3]:
        print(replayed)


if __name__ == "__main__":
    main()
