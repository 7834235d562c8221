"""What subscriptions cost, counted: nothing where a commit does not touch them, and one run and one
encoding for all who watch the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine import guest_outcomes
from engine.backend import Identity
from engine.queries import QueryWatch
from tidewell.values import Value

from .deployed import Deployed, call, deployed

APP = {
    "schema.py": """
        from tidewell import Schema, table

        schema = Schema(posts=table(author=str, text=str).index("by_author", "author"))
    """,
    "posts.py": """
        from tidewell import mutation, query


        @mutation
        def add(ctx, author: str) -> str:
            return ctx.db.insert("posts", {"author": author, "text": "x"})


        @mutation
        def edit(ctx, id: str, text: str) -> None:
            ctx.db.patch(id, {"text": text})


        @query
        def get(ctx, id: str):
            return ctx.db.get(id)


        @query
        def by(ctx, author: str):
            return ctx.db.query("posts").with_index("by_author", lambda q: q.eq("author", author)).collect()


        @query
        def mine(ctx):
            who = ctx.auth.get_user_identity()
            return None if who is None else who["subject"]
    """,
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


async def evaluated(it: Deployed, watches: list[QueryWatch]) -> list[Value]:
    return [outcome.value for outcome in await it.deployment.evaluate(watches, it.deployment.head_ts)]


async def test_a_thousand_idle_subscriptions_cost_nothing_per_commit_that_does_not_touch_them(
    it: Deployed,
) -> None:
    ids = [await it.run("posts:add", author=f"a{number}") for number in range(20)]
    rings: list[int] = []
    asked = [call("posts:get", id=ids[0])] + [call("posts:by", author=f"a{n}") for n in range(1, 1000)]
    watches = [it.deployment.watch(each, None, lambda: rings.append(1)) for each in asked]
    await evaluated(it, watches)
    ran = dict(it.traffic.runs)
    rings.clear()
    for number in range(50):
        await it.run("posts:add", author="somebody else")
        await it.run("posts:edit", id=ids[0], text=f"{number}") if number == 49 else None
    assert len(rings) == 1  # for the one query that the last edit was about
    assert sum(not watch.is_current for watch in watches) == 1
    await evaluated(it, watches)
    assert it.traffic.runs["posts:get"] == ran["posts:get"] + 1
    assert it.traffic.runs["posts:by"] == ran["posts:by"]


async def test_a_changed_result_is_computed_and_encoded_once_however_many_watch(
    it: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Value] = []
    encode = guest_outcomes.wire_json

    def count(value: Value) -> bytes:
        if isinstance(value, dict):
            encoded.append(value)
        return encode(value)

    monkeypatch.setattr(guest_outcomes, "wire_json", count)
    post = await it.run("posts:add", author="ann")
    people = [Identity({"subject": f"u{number}"}) for number in range(300)]
    watches = [
        it.deployment.watch(call("posts:get", identity=who, id=post), None, lambda: None) for who in people
    ]
    for number in range(3):
        await it.run("posts:edit", id=post, text=f"{number}")
        encoded.clear()
        ran = it.traffic.runs["posts:get"]
        outcomes = [(await it.deployment.evaluate([watch], it.deployment.head_ts))[0] for watch in watches]
        assert len(encoded) == 1
        assert it.traffic.runs["posts:get"] == ran + 1
        assert len({id(outcome.value_json) for outcome in outcomes}) == 1


async def test_a_new_identity_reruns_only_the_queries_that_read_it(it: Deployed) -> None:
    post = await it.run("posts:add", author="ann")

    def watch(who: str) -> list[QueryWatch]:
        identity = Identity({"subject": who})
        asked = [call("posts:get", identity=identity, id=post), call("posts:mine", identity=identity)]
        return [it.deployment.watch(each, None, lambda: None) for each in asked]

    ann = watch("ann")
    first = await evaluated(it, ann)
    bob = watch("bob")
    for each in ann:
        each.close()
    assert await evaluated(it, bob) == [first[0], "bob"]
    assert (it.traffic.runs["posts:get"], it.traffic.runs["posts:mine"]) == (1, 2)
