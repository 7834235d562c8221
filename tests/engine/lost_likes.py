"""The deployment of docs/a-bug.md: a post whose likes go missing, and everybody who had a hand in it."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

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


async def lose_likes(it: Deployed) -> Story:
    """Ada writes; three people like; Ada, who began to edit after the first like, saves."""

    async def ask(path: str, who: Identity, **args: object) -> tuple[object, int]:
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


def commands_of(page: Path) -> list[str]:
    return re.findall(r"^tidewell (.+)$", page.read_text(), re.MULTILINE)
