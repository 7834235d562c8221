"""What a developer is told of the cache: hit, miss or stale, and which commit by which function it was."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.backend import Identity
from engine.explain import Explained

from .deployed import Deployed, call, deployed

APP = {
    "schema.py": """
        from tidewell import Schema, table

        schema = Schema(notes=table(author=str, text=str, likes=int).index("by_author", "author"))
    """,
    "notes.py": """
        from tidewell import mutation, query


        @mutation
        def add(ctx, author: str) -> str:
            return ctx.db.insert("notes", {"author": author, "text": "x", "likes": 0})


        @mutation
        def like(ctx, id: str) -> None:
            ctx.db.patch(id, {"likes": ctx.db.get(id)["likes"] + 1})


        @query
        def by(ctx, author: str):
            rows = ctx.db.query("notes").with_index("by_author", lambda q: q.eq("author", author))
            return [[note["text"], note["likes"]] for note in rows.collect()]


        @query
        def whoami(ctx):
            who = ctx.auth.get_user_identity()
            return None if who is None else who["subject"]
    """,
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


async def explained(it: Deployed, path: str, identity: Identity | None = None, **args: str) -> Explained:
    return await it.deployment.explain(call(path, identity=identity or Identity(), **args))


async def test_a_call_is_a_miss_then_a_hit_then_stale_by_the_commit_that_did_it(it: Deployed) -> None:
    note = await it.run("notes:add", author="ann")
    first = await explained(it, "notes:by", author="ann")
    assert (first.status, str(first).partition(":")[0]) == ("miss", "miss")
    assert (await explained(it, "notes:by", author="ann")).status == "hit"
    await it.run("notes:add", author="bob")
    assert (await explained(it, "notes:by", author="ann")).status == "hit"
    ended = (await it.mutate("notes:like", id=note)).ts
    await it.mutate("notes:like", id=note)  # not the one that ended it
    found = await explained(it, "notes:by", author="ann")
    assert (found.status, found.computed_ts, found.ended_ts) == ("stale", first.outcome.ts, ended)
    assert (found.function, found.table, found.index, found.document_id) == (
        "notes:like",
        "notes",
        "by_author",
        note,
    )
    assert f"commit {ended} of notes:like, which wrote {note} in by_author of notes" in str(found)
    assert json.loads(json.dumps(found.to_json()))["function"] == "notes:like"
    assert found.outcome.value == [["x", 2]]


async def test_a_push_and_a_reader_of_the_identity_are_told_as_such(it: Deployed) -> None:
    ann = Identity({"subject": "ann"})
    shared = await explained(it, "notes:by", ann, author="ann")
    own = await explained(it, "notes:whoami", ann)
    assert (shared.is_own, own.is_own, own.outcome.value) == (False, True, "ann")
    assert (await explained(it, "notes:whoami")).status == "miss"
    await it.push({**APP, "more.py": "more = 1\n"})
    found = await explained(it, "notes:by", author="ann")
    assert (found.status, found.cause) == ("stale", "code")
    assert "ended by a push" in str(found)
