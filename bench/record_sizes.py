"""What the record of a mutation takes, in bytes of the log: `python bench/record_sizes.py`.

The budget for a small mutation, one that does up to a dozen things with the database, is 1.5 times its
packed arguments and 300 bytes. Each row is a mutation of the same app, run for real in this process;
the last columns are the budget and the share of it that the record takes. The index and the
documents are not counted, they are what the mutation was for; nor are the claims of a caller,
which all records of that caller share.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import trio

from engine.app_folder import read_app_folder
from engine.backend import ANONYMOUS, Call, Identity
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.deployment import Deployment, open_deployment
from engine.records import unpack_record

APP = """
from tidewell import Id, mutation

@mutation
def create(ctx):
    return ctx.db.insert("posts", {"likes": 0})

@mutation
def like(ctx, post: Id["posts"]):
    ctx.db.patch(post, {"likes": ctx.db.get(post)["likes"] + 1})

@mutation
def comment(ctx, post: Id["posts"], text: str):
    author = ctx.auth.get_user_identity()
    ctx.db.insert("comments", {"post": post, "text": text, "at": ctx.now()})
    print("comment of", None if author is None else author["name"])

@mutation
def like_twice(ctx, post: Id["posts"]):
    for _ in range(2):
        ctx.run_mutation("posts:like", {"post": post})

@mutation
def many(ctx):
    for number in range(200):
        ctx.db.insert("posts", {"likes": number})
"""
LARGE = "200 inserts"
ANN = Identity(
    {
        "issuer": "https://issuer.example",
        "name": "Ann",
        "subject": "user|1234",
        "tokenIdentifier": "https://issuer.example|user|1234",
    }
)


async def measure(folder: Path) -> None:
    app = folder / "functions"
    app.mkdir()
    (app / "posts.py").write_text(APP)
    deployment = open_deployment(
        folder / "data", clock=SystemClock(), chance=SystemChance(), on_execution=lambda *_: None
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        await deployment.push(read_app_folder(app), lambda _: None)
        post = await run(deployment, "create")
        print(f"{'mutation':32}{'arguments':>10}{'record':>8}{'budget':>8}{'share':>7}")
        for title, identity, path, args in (
            ("one like", ANONYMOUS, "like", {"post": post}),
            ("a comment of 11 letters", ANONYMOUS, "comment", {"post": post, "text": "hello there"}),
            ("a comment of 1,000 letters", ANONYMOUS, "comment", {"post": post, "text": "x" * 1000}),
            ("a comment of somebody signed in", ANN, "comment", {"post": post, "text": "hello there"}),
            ("no arguments", ANONYMOUS, "create", {}),
            ("two nested calls", ANONYMOUS, "like_twice", {"post": post}),
            (LARGE, ANONYMOUS, "many", {}),
        ):
            await run(deployment, path, identity, args)
            entry = deployment.store.log_entry(deployment.head_ts)
            assert entry is not None
            size, arguments = len(entry.record), len(unpack_record(entry.record).args)
            budget = 1.5 * arguments + 300
            said = "" if size <= budget else "  no small mutation" if title == LARGE else "  OVER BUDGET"
            print(f"{title:32}{arguments:10}{size:8}{budget:8.0f}{size / budget:7.2f}{said}")
        deployment.close()


async def run(
    deployment: Deployment, name: str, identity: Identity = ANONYMOUS, args: dict[str, Any] | None = None
) -> Any:
    outcome = await deployment.mutate(Call(f"posts:{name}", args or {}, identity, "0" * 16, "socket"))
    assert outcome.failure is None, outcome.failure
    return json.loads(outcome.value_json)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
