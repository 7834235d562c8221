"""The deployment of docs/a-bug.md: a post whose likes go missing, and everybody who had a hand in it."""

from __future__ import annotations

import random
from pathlib import Path

import attrs
import trio

from engine.backend import Identity

from .deployed import Deployed, call

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "a-bug.md"
ADA = Identity({"tokenIdentifier": "https://login.example|ada", "email": "ada@example.org"})
BOB = Identity({"tokenIdentifier": "https://login.example|bob", "email": "bob@example.org"})

POSTS = """\
from tidewell import Id, mutation, query


@mutation
def write(ctx, text: str) -> Id["posts"]:
    return ctx.db.insert("posts", {"text": text, "likes": 0, "tags": []})


@mutation
def like(ctx, post_id: Id["posts"]) -> int:
    post = ctx.db.get(post_id)
    likes = post["likes"] + 1
    ctx.db.patch(post_id, {"likes": likes})
    print(f"{likes} likes")
    return likes


@mutation
def edit(ctx, post_id: Id["posts"], post: dict) -> None:
    # The page sends the post back as it was when editing began.
    ctx.db.replace(post_id, post)


@query
def newest(ctx):
    return ctx.db.query("posts").order("desc").first()
"""


@attrs.frozen
class Story:
    post: str
    written: int  # the commits, by what they did
    likes: list[int]
    edited: int


class StoryClock:
    """Stands still between the events of a story, so that its ids and timestamps are the same every time."""

    def __init__(self) -> None:
        self._now_ns = 1_795_168_800 * 10**9  # 2026-11-20 10:00
        self._read = 0

    def pass_by(self, minutes: float) -> None:
        self._now_ns += int(minutes * 60e9)

    def now_ns(self) -> int:
        return self._now_ns

    def now_ms(self) -> float:
        return self._now_ns / 1e6

    def monotonic(self) -> float:
        self._read += 1
        return self._read * 0.0003


class StoryChance:
    def __init__(self) -> None:
        self._random = random.Random(7)

    def token(self, size_bytes: int) -> bytes:
        return self._random.randbytes(size_bytes)

    def uniform(self) -> float:
        return self._random.random()


async def lose_likes(it: Deployed, clock: StoryClock | None = None) -> Story:
    """Ada writes; three people like; Ada, who began to edit after the first like, saves."""

    async def ask(path: str, who: Identity, **args: object) -> tuple[object, int]:
        if clock is not None:
            clock.pass_by(4.17)
        outcome = await it.deployment.mutate(call(path, identity=who, **args))
        assert outcome.failure is None, outcome.failure
        return outcome.value, outcome.ts

    post, written = await ask("posts:write", ADA, text="Trams!")
    likes = []
    for who in (BOB, ADA, BOB):
        likes.append((await ask("posts:like", who, post_id=post))[1])
    stale = {"likes": 1, "tags": ["lisbon"], "text": "Trams in Lisbon!"}
    _, edited = await ask("posts:edit", ADA, post_id=post, post=stale)
    return Story(str(post), written, likes, edited)


async def collide(it: Deployed, post: str, text: str) -> None:
    """Have a like overtaken by an edit."""
    held = it.traffic.hold_after("posts:like")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: it.run("posts:like", post_id=post))
        await held.arrivals()
        await it.run("posts:edit", post_id=post, post={"likes": 2, "tags": ["a", "b"], "text": text})
        del it.traffic.after["posts:like"]
        held.release.set()
