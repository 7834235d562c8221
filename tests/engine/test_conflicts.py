"""Conflicts as they are kept: the documents of `_conflicts`, with the lines of the read and of the write."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import attrs
import msgspec
import pytest
import trio

from engine import conflicts
from engine.committer import Committer, Overtaken
from storage import Places, ReadSet, Transaction
from tidewell.ids import decode_id, encode_id

from .deployed import Deployed, deployed

POSTS = """
    from tidewell import mutation, query


    def most_liked(ctx, place):
        return (
            ctx.db.query("posts")
            .with_index("by_place", lambda q: q.eq("place", place))
            .order("desc")
            .first()  # READ
        )


    @mutation
    def add(ctx, place: str) -> str:
        return ctx.db.insert("posts", {"place": place, "likes": 0})  # INSERT


    @mutation
    def like_newest(ctx, place: str) -> int:
        post = most_liked(ctx, place)
        ctx.db.patch(post["_id"], {"likes": post["likes"] + 1})
        return post["likes"] + 1


    @mutation
    def like(ctx, post: str) -> None:
        likes = ctx.db.get(post)["likes"]  # GET
        ctx.db.patch(post, {"title": "liked"})
        ctx.db.patch(post, {"likes": likes + 1})  # PATCH
        try:
            ctx.run_mutation("posts:fail", {"post": post})
        except Exception:
            print("as before")


    @mutation
    def fail(ctx, post: str) -> None:
        ctx.db.patch(post, {"likes": 99})
        raise ValueError("no")


    @query
    def seen(ctx):
        return ctx.db.system.query("_conflicts").order("desc").take(5)
    """
SCHEMA = """
    from tidewell import Schema, table
    from typing import NotRequired

    schema = Schema(
        posts=table(place=str, likes=int, title=NotRequired[str]).index("by_place", "place")
    )
    """
APP = {"posts.py": POSTS, "schema.py": SCHEMA}


def line_of(mark: str) -> str:
    lines = dedent(POSTS).splitlines()
    return f"posts.py:{next(number for number, text in enumerate(lines, 1) if f'# {mark}' in text)}"


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as running:
        yield running


async def overtake(it: Deployed, held_path: str, by: str, held_args: Any, args: Any) -> None:
    held = it.traffic.hold_after(held_path)
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await it.run(held_path, **held_args)

        nursery.start_soon(run)
        await held.arrivals()
        await it.run(by, **args)
        del it.traffic.after[held_path]
        held.release.set()


def documents(it: Deployed) -> list[dict[str, Any]]:
    with it.deployment.store.snapshot() as snapshot:
        return list(Transaction(snapshot).scan(conflicts.TABLE))


async def test_conflict_is_kept_with_both_executions_and_both_lines(it: Deployed) -> None:
    post = await it.run("posts:add", place="Lisbon")
    assert await it.value("posts:seen") == []  # cached: what comes has to invalidate it
    await overtake(it, "posts:like_newest", "posts:like", {"place": "Lisbon"}, {"post": post})
    await it.deployment.conflicts.flush()
    [found] = await it.value("posts:seen")
    assert (found["table"], found["index"], found["documentId"]) == ("posts", "by_place", post)
    assert re.fullmatch(r'place = "Lisbon", _creationTime from \d+(\.\d+)?', found["range"])
    assert found["reader"]["function"] == "posts:like_newest"
    assert (found["reader"]["line"], found["writer"]["line"]) == (line_of("READ"), line_of("PATCH"))
    assert (found["reader"]["attempt"], found["writer"]["function"]) == (1, "posts:like")
    assert (found["sameFunction"], found["times"]) == (False, 1)
    assert it.deployment.store.log_entry(int(found["writer"]["commitTs"])) is not None


async def test_phantom_is_reported_at_the_line_of_its_insert(it: Deployed) -> None:
    await it.run("posts:add", place="Lisbon")
    await overtake(it, "posts:like_newest", "posts:add", {"place": "Lisbon"}, {"place": "Lisbon"})
    await it.deployment.conflicts.flush()
    [found] = documents(it)
    assert (found["reader"]["line"], found["writer"]["line"]) == (line_of("READ"), line_of("INSERT"))


async def test_read_by_id_names_the_document(it: Deployed) -> None:
    post = await it.run("posts:add", place="Lisbon")
    await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    await it.deployment.conflicts.flush()
    [found] = documents(it)
    assert (found["index"], found["range"], found["reader"]["line"]) == (
        "by_id",
        f"_id = {post}",
        line_of("GET"),
    )


def remember_reads(reads: list[bytes], frame: Any, reply: Any) -> Any:
    reads.append(reply.outcomes[-1].reads)
    return reply


async def test_document_that_is_named_was_both_read_and_written(it: Deployed) -> None:
    """Random pairs of calls, one of which overtakes the other (function-semantics 22, number 20)."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    posts = [await it.run("posts:add", place=draw.choice("ab")) for _ in range(6)]
    named = 0
    for pair in range(1000):
        if pair >= 25 and named:
            break  # few pairs conflict: one of six posts is the newest of its place
        calls = [
            draw.choice(
                [("posts:like", {"post": draw.choice(posts)}), ("posts:like_newest", {"place": place})]
            )
            for place in draw.choices("ab", k=2)
        ]
        reports: list[Any] = []
        it.deployment.conflicts.on_report = reports.append
        reads: list[Any] = []
        it.deployment.mutations._queue._hot_until.clear()  # functions that conflict run in one lane otherwise
        (held, held_args), (by, by_args) = calls
        if held == by:
            continue  # a run of the same function would be held as well
        it.traffic.tamper = partial(remember_reads, reads)
        await overtake(it, held, by, held_args, by_args)
        for report in reports:
            named += 1
            number, internal_id = decode_id(report.document_id)
            entry = it.deployment.store.log_entry(report.commit_ts)
            assert entry is not None
            assert (number, internal_id) in [(write.table, write.internal_id) for write in entry.writes]
            keys = it.deployment.committer.keys_of(report.commit_ts)
            assert any(
                ReadSet.unpack(reads[0]).covers(index_id, key)
                for index_id, key in keys
                if index_id >> 24 == number and key.endswith(internal_id)
            )
    assert named


async def test_conflicts_of_one_moment_are_one_commit_and_alike_ones_are_counted(
    it: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conflicts, "ALIKE_MAX", 2)
    post = await it.run("posts:add", place="Lisbon")
    reports: list[Any] = []
    it.deployment.conflicts.on_report = reports.append
    await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    [report] = reports
    for _ in range(4):
        it.deployment.conflicts.note(report)
    before = it.deployment.head_ts
    await it.deployment.conflicts.flush()
    assert [entry.ts for entry in it.deployment.store.log(before)] == [it.deployment.head_ts]
    assert [found["times"] for found in documents(it)] == [1, 4]


async def test_oldest_conflicts_go(it: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "KEPT_MAX", 3)
    post = await it.run("posts:add", place="Lisbon")
    reports: list[Any] = []
    it.deployment.conflicts.on_report = reports.append
    await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    for attempt in range(1, 6):
        reader = attrs.evolve(reports[0].reader, attempt=attempt)
        it.deployment.conflicts.note(attrs.evolve(reports[0], reader=reader))
        await it.deployment.conflicts.flush()
    assert [found["reader"]["attempt"] for found in documents(it)] == [4, 5, 6]


async def test_what_waits_is_written_before_the_end(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        post = await it.run("posts:add", place="Lisbon")
        await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    async with deployed(tmp_path) as it:
        assert len(documents(it)) == 1


async def test_large_values_are_told_in_few_words(it: Deployed) -> None:
    place = "x" * 10_000
    await it.run("posts:add", place=place)
    await overtake(it, "posts:like_newest", "posts:add", {"place": place}, {"place": place})
    await it.deployment.conflicts.flush()
    [found] = documents(it)
    assert (found["readFrom"], found["readUntil"]) == (None, None)
    assert found["range"].startswith('place = "xxxx')
    assert len(found["range"]) < 200


async def test_what_a_push_overtakes_is_written_the_next_time(
    it: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = await it.run("posts:add", place="Lisbon")
    await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    accept = Committer.accept

    def overtaken(committer: Committer, proposal: Any) -> Any:
        monkeypatch.setattr(Committer, "accept", accept)
        raise Overtaken(None)

    monkeypatch.setattr(Committer, "accept", overtaken)
    await it.deployment.conflicts.flush()
    assert documents(it) == []
    await it.deployment.conflicts.flush()
    assert len(documents(it)) == 1


def without_places(outcome: Any) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in outcome.__struct_fields__ if name != "places"}


async def test_lines_change_nothing_else_of_an_execution(it: Deployed) -> None:
    post = await it.run("posts:add", place="Lisbon")
    pool = it.deployment._pools[0]
    async with pool.lease(it.deployment.code.hash) as worker:
        await it.deployment.mutations._runner._give_code(worker, it.deployment.code)
        await it.run("posts:like", post=post)
        frame = it.traffic.frames[-1]
        with it.deployment.store.pin() as pin:
            frame.txn_id = pin.txn_id
            outcomes = []
            for frame.places in (False, True):
                outcomes += (await worker.request(frame, wall_s=5, cpu_s=5)).outcomes
    plain, placed = outcomes
    assert without_places(plain) == without_places(placed)
    assert plain.places == b""
    [first, last] = Places.unpack(placed.places).writes
    number, internal_id = first.table, first.internal_id
    assert encode_id(number, internal_id) == post
    assert (first.fields, last.fields) == (("title",), ("likes",))
    assert f"{last.place[0]}:{last.place[1]}" == line_of("PATCH")


def test_lines_that_are_remembered_are_bounded() -> None:
    lines = conflicts.RecentLines()
    for ts in range(100):
        lines.keep(ts, bytes(256 * 1024))
    kept = [ts for ts in range(100) if lines.of(ts)]
    assert kept == [*range(68, 100)]
    lines = conflicts.RecentLines()
    for ts in range(conflicts.REMEMBERED_MAX + 10):
        lines.keep(ts, b"x")
    assert not lines.of(9)
    assert lines.of(10)


async def test_too_many_lines_are_left_out(it: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandbox.executor.PLACES_BYTES_MAX", 50)
    replies: list[Any] = []
    it.traffic.tamper = lambda frame, reply: replies.append(reply) or reply
    await it.run("posts:add", place="Lisbon")
    assert replies[-1].outcomes[0].places == b""


async def test_production_asks_for_lines_only_of_what_conflicts(it: Deployed) -> None:
    it.deployment.mutations._runner = attrs.evolve(it.deployment.mutations._runner, production=True)
    post = await it.run("posts:add", place="Lisbon")
    assert not it.traffic.frames[-1].places
    await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    assert [frame.places for frame in it.traffic.frames if frame.calls[0].path == "posts:like"] == [
        False,
        True,
    ]
    await it.run("posts:add", place="Porto")
    assert not it.traffic.frames[-1].places


async def test_nonsense_from_a_worker_costs_the_lines_alone(it: Deployed) -> None:
    post = await it.run("posts:add", place="Lisbon")

    def tamper(frame: Any, reply: Any) -> Any:
        outcomes = [msgspec.structs.replace(outcome, places=b"\xc1nonsense") for outcome in reply.outcomes]
        return msgspec.structs.replace(reply, outcomes=outcomes)

    it.traffic.tamper = tamper
    await overtake(it, "posts:like", "posts:like_newest", {"post": post}, {"place": "Lisbon"})
    await it.deployment.conflicts.flush()
    [found] = documents(it)
    assert found["reader"]["line"] is found["writer"]["line"] is None
    assert found["documentId"] == post
