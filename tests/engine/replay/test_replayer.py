"""Replays: what was recorded comes out again, in other processes, whatever happened to the store."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import trio

from engine.deployment import WORKER_ENTRY
from engine.replay.divergence import Replayed
from engine.replay.recorded import RecordedCall
from engine.replay.replayer import Replayer
from engine.replay.source import Source
from sandbox.pool import WorkerPool
from storage import RetentionPolicy, Store

from ..deployed import deployed
from .replaying import divergences, replay_all, replayer

APP = {
    "schema.py": """
        from tidewell import Id, Schema, table

        schema = Schema(
            people=table(name=str, friends=list[str]).index("by_name", "name", unique=True),
            notes=table(person=Id["people"], text=str, rank=float).index("by_person", "person", "rank"),
        )
    """,
    "people.py": """
        import math
        import random
        import uuid

        from tidewell import AppError, Id, internal_mutation, mutation, query


        @mutation
        def join(ctx, name: str) -> Id["people"]:
            print("welcome", name, ctx.now())
            return ctx.db.insert("people", {"name": name, "friends": []})


        @mutation
        def note(ctx, person: Id["people"], words: list[str]) -> dict:
            text = " ".join(sorted(set(words)))
            rank = math.sin(len(text)) + random.random()
            note_id = ctx.db.insert("notes", {"person": person, "text": text, "rank": rank})
            best = ctx.db.query("notes").with_index("by_person", lambda q: q.eq("person", person)).first()
            return {"id": note_id, "best": best["_id"], "token": str(uuid.uuid4())}


        @mutation
        def befriend(ctx, one: str, other: str) -> int:
            people = {p["name"]: p for p in ctx.db.query("people").collect()}
            ctx.run_mutation("people:add_friend", {"person": people[one]["_id"], "name": other})
            try:
                ctx.run_mutation("people:add_friend", {"person": people[other]["_id"], "name": ""})
            except AppError as error:
                print("refused:", error.data)
            return len(people)


        @internal_mutation
        def add_friend(ctx, person: Id["people"], name: str) -> None:
            found = ctx.db.get(person)
            ctx.db.patch(person, {"friends": sorted({*found["friends"], name})})
            if not name:
                raise AppError("nobody")


        @mutation
        def page(ctx) -> dict:
            first = ctx.db.query("notes").paginate({"numItems": 2, "cursor": None})
            ctx.db.patch(first["page"][0]["_id"], {"text": "first"})
            return {"cursor": first["continueCursor"], "count": ctx.db.query("notes").count()}


        @mutation
        def leave(ctx, name: str) -> None:
            person = ctx.db.query("people").with_index("by_name", lambda q: q.eq("name", name)).unique()
            notes = ctx.db.query("notes")
            for note in notes.with_index("by_person", lambda q: q.eq("person", person["_id"])):
                ctx.db.delete(note["_id"])
            ctx.db.delete(person["_id"])
    """,
}


COMMITS = 23  # of `lived`: what writes nothing is not in the log


async def lived(folder: Path) -> Path:
    """Return the data folder of a deployment that has seen a little life and is closed."""
    async with deployed(folder, APP) as it:
        names = ["ann", "ben", "cleo", "dan"]
        people = {name: await it.run("people:join", name=name) for name in names}
        for number in range(12):
            name = names[number % 4]
            await it.run("people:note", person=people[name], words=["b", "a", "c", str(number)])
            await it.run("people:befriend", one=name, other=names[(number + 1) % 4])
        await it.run("people:page")
        await it.push({**APP, "people.py": APP["people.py"].replace("welcome", "hello")})
        await it.run("people:join", name="eve")
        await it.run("people:leave", name="ann")
        await it.mutate("people:leave", name="ann")
    return folder / "data"


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    return await lived(tmp_path)


async def test_every_recorded_mutation_comes_out_again(data: Path) -> None:
    done = await replay_all(data)
    assert len(done) == COMMITS
    assert divergences(done) == []


@pytest.mark.parametrize("hash_seed", [1, 4242])
async def test_hash_seed_of_the_workers_makes_no_difference(data: Path, hash_seed: int) -> None:
    assert divergences(await replay_all(data, hash_seed=hash_seed)) == []


async def test_copy_of_the_store_on_another_path_replays_as_well(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "copy"
    shutil.copytree(data, other)
    shutil.rmtree(data)
    done = await replay_all(other)
    assert (len(done), divergences(done)) == (COMMITS, [])


async def test_replay_reaches_back_to_the_horizon(data: Path) -> None:
    """Retention moved right up to a record leaves the snapshot that it began on."""
    with Store.open(data / "store") as store:
        entries = [entry for entry in store.log(0) if entry.record]
        first = entries[15]
        step = store.retain(RetentionPolicy(age_ns=0), now_ns=store.head_ts, keep_from=first.previous_ts)
        while not step.is_done:
            step = store.retain(RetentionPolicy(age_ns=0), now_ns=store.head_ts, keep_from=first.previous_ts)
        assert store.horizon == first.previous_ts
    done = await replay_all(data)
    assert [replayed.ts for replayed in done] == [entry.ts for entry in entries[15:]]
    assert divergences(done) == []


async def test_single_call_is_replayed_by_its_timestamp(data: Path) -> None:
    async with replayer(data) as it:
        recorded = list(it.source.recorded())
        result = await it.replay(recorded[7])
        assert (result.ts, result.function, result.divergence) == (
            recorded[7].ts,
            recorded[7].record.function,
            None,
        )


async def test_history_that_is_dropped_meanwhile_is_told_and_is_no_fault(data: Path) -> None:
    drop = """
import sys
from storage import RetentionPolicy, Store

with Store.open(sys.argv[1]) as store:
    keep_from = int(sys.argv[2])
    while not store.retain(RetentionPolicy(age_ns=0), now_ns=store.head_ts, keep_from=keep_from).is_done:
        pass
"""
    done: list[Replayed] = []
    with Source.open(data) as source:
        recorded = [each for each in source.recorded() if isinstance(each, RecordedCall)]
        arguments = ["-c", drop, str(data / "store"), str(recorded[9].begin_ts)]
        await trio.run_process([sys.executable, *arguments])
        pool = WorkerPool(entry=WORKER_ENTRY, argument=source.worker_argument, size=1)
        async with pool.running():  # its workers open the store as it is now
            await Replayer(source, pool).replay_all(recorded, 1, done.append)
    done.sort(key=lambda replayed: replayed.ts)
    kinds = [None if each.divergence is None else each.divergence.kind for each in done]
    assert kinds == ["gone"] * 9 + [None] * (COMMITS - 9)
    assert not any(each.divergence is not None and each.divergence.is_fault for each in done)
