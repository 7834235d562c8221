"""Pushes on a whole deployment: all of one or nothing, whatever runs beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from engine.push import PushFailed
from storage import DiskFull

from .deployed import Deployed, Disk, call, deployed


def app(schema: str, extra: str = "", greeting: str = "hello") -> dict[str, str]:
    return {
        "schema.py": f"from tidewell import Id, Schema, table\n\nschema = Schema({schema})\n",
        "notes.py": f"""
from typing import Any

from tidewell import mutation, query


@mutation
def add(ctx, fields: Any) -> str:
    return ctx.db.insert("notes", fields)


@mutation
def remove_all(ctx) -> None:
    for note in ctx.db.query("notes").collect():
        ctx.db.delete(note["_id"])


@query
def all(ctx) -> Any:
    return [note["text"] for note in ctx.db.query("notes").collect()]


@query
def greet(ctx) -> str:
    return "{greeting}"


{extra}
""",
    }


BY_AUTHOR = """
@query
def by(ctx, name: str) -> Any:
    found = ctx.db.query("notes").with_index("by_author", lambda q: q.eq("author", name)).collect()
    return [note["text"] for note in found]
"""
PLAIN = "notes=table(text=str, author=str)"
INDEXED = 'notes=table(text=str, author=str).index("by_author", "author")'
INDEXED_OTHERWISE = 'notes=table(text=str, author=str).index("by_author", "author", "text")'
RENAMED = 'notes=table(text=str, author=str).index("of_author", "author")'
UNIQUE = 'notes=table(text=str, author=str).index("by_author", "author", unique=True)'
STRICTER = "notes=table(text=int, author=str)"


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def it(tmp_path: Path, disk: Disk) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, app(PLAIN), run_blocking=disk) as it:
        yield it


async def add(it: Deployed, text: Any, author: str = "ann") -> None:
    await it.run("notes:add", fields={"author": author, "text": text})


async def test_new_index_finds_documents_from_before_and_after_it(it: Deployed) -> None:
    await add(it, "before")
    report = await it.push(app(INDEXED, BY_AUTHOR))
    await add(it, "after")
    await add(it, "other", "bob")
    assert report.changed
    assert await it.value("notes:by", name="ann") == ["before", "after"]


async def test_index_can_be_given_other_fields_under_its_name(it: Deployed) -> None:
    await it.push(app(INDEXED, BY_AUTHOR))
    for text in ("b", "c", "a"):
        await add(it, text)
    assert await it.value("notes:by", name="ann") == ["b", "c", "a"]
    report = await it.push(app(INDEXED_OTHERWISE, BY_AUTHOR))
    assert report.warnings == ()
    assert await it.value("notes:by", name="ann") == ["a", "b", "c"]


async def test_index_can_be_given_another_name(it: Deployed) -> None:
    await it.push(app(INDEXED, BY_AUTHOR))
    await add(it, "a")
    report = await it.push(app(RENAMED, BY_AUTHOR.replace("by_author", "of_author")))
    assert await it.value("notes:by", name="ann") == ["a"]
    assert report.warnings == (
        "the index by_author of notes is no longer in the schema and was removed; "
        "the version before used it in by (notes.py:31)",
    )


async def test_a_removed_index_is_told_with_the_functions_that_use_it(it: Deployed) -> None:
    await it.push(app(INDEXED, BY_AUTHOR))
    [warning] = (await it.push(app(PLAIN, BY_AUTHOR))).warnings
    assert warning.endswith("; this version asks for it in by (notes.py:31), which fails now")
    failed = await it.query("notes:by", name="ann")
    assert failed.failure is not None
    assert "there is no index 'by_author' on the table 'notes'" in failed.failure.message
    await it.push(app(INDEXED))
    [warning] = (await it.push(app(PLAIN))).warnings
    assert warning == "the index by_author of notes is no longer in the schema and was removed"


async def test_index_that_is_served_is_used_until_its_successor_is_full(it: Deployed, disk: Disk) -> None:
    await it.push(app(INDEXED, BY_AUTHOR))
    await add(it, "a")
    seen: list[Any] = []

    async def look() -> None:
        seen.append(await it.value("notes:by", name="ann"))

    async with trio.open_nursery() as nursery:

        def on_progress(text: str) -> None:
            nursery.start_soon(look)

        await it.push(app(INDEXED_OTHERWISE, BY_AUTHOR), on_progress)
    assert seen
    assert all(value == ["a"] for value in seen)


async def test_failed_push_names_the_document_and_changes_nothing(it: Deployed) -> None:
    await add(it, "text")
    before = it.deployment.code
    catalog = it.deployment.store.catalog()
    with pytest.raises(PushFailed, match=r"notes .*text"):
        await it.push(app(STRICTER, greeting="hi"))
    assert it.deployment.code is before
    assert it.deployment.store.catalog().tables == catalog.tables
    assert await it.value("notes:greet") == "hello"


async def test_unique_index_over_duplicates_fails_the_push_and_leaves_no_index(it: Deployed) -> None:
    await add(it, "a")
    await add(it, "b")
    with pytest.raises(PushFailed, match="unique"):
        await it.push(app(UNIQUE))
    assert it.deployment.store.catalog().tables["notes"].indexes == ()
    await add(it, "c")
    assert await it.value("notes:all") == ["a", "b", "c"]


async def test_syntax_error_names_file_and_line(it: Deployed) -> None:
    with pytest.raises(PushFailed, match=r"broken\.py:2"):
        await it.push({**app(PLAIN), "broken.py": "x = 1\ndef f(:\n"})
    assert await it.value("notes:greet") == "hello"


async def test_document_written_after_the_check_is_checked_at_the_switch(it: Deployed, disk: Disk) -> None:
    """The old code may go on breaking the new schema until the moment of the switch."""
    await it.push(app("notes=table(text=str | int, author=str)", greeting="both"))
    await add(it, 1)
    checked, held = disk.hold("_check_changed"), it.traffic.hold_before("notes:add")

    async def push() -> None:
        with pytest.raises(PushFailed, match="notes"):
            await it.push(app(STRICTER, greeting="never"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await checked.arrivals()
        nursery.start_soon(add, it, "text")
        await held.arrivals()
        checked.release.set()
        await trio.testing.wait_all_tasks_blocked()
        held.release.set()
    assert await it.value("notes:greet") == "both"


async def test_push_races_writes_and_no_active_schema_is_violated(it: Deployed) -> None:
    both = "notes=table(text=str | int, author=str)"
    await it.push(app(both, greeting="both"))
    outcomes: list[bool] = []

    async def write(value: Any) -> None:
        for _ in range(20):
            outcome = await it.mutate("notes:add", fields={"author": "ann", "text": value})
            outcomes.append(outcome.failure is None)

    async def push() -> None:
        for round_ in range(5):
            try:
                await it.push(app(STRICTER, greeting=f"strict {round_}"))
            except PushFailed:
                await it.run("notes:remove_all")
            else:
                assert all(type(text) is int for text in await it.value("notes:all"))
                await it.push(app(both, greeting=f"both {round_}"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "text")
        nursery.start_soon(write, 1)
        nursery.start_soon(push)
    assert any(outcomes)


async def test_mutations_that_run_end_before_the_code_switches(it: Deployed) -> None:
    held = it.traffic.hold_before("notes:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, it, "a")
        await held.arrivals()
        nursery.start_soon(it.push, app(PLAIN, greeting="new"))
        await trio.testing.wait_all_tasks_blocked()
        assert await it.value("notes:greet") == "hello"
        held.release.set()
    assert await it.value("notes:greet") == "new"
    assert await it.value("notes:all") == ["a"]


async def test_mutations_that_wait_run_the_new_code(it: Deployed) -> None:
    held = it.traffic.hold_before("notes:add")
    results: list[Any] = []

    async def remove() -> None:
        outcome = await it.mutate("notes:purge")
        results.append(outcome.failure)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, it, "a")
        await held.arrivals()
        nursery.start_soon(it.push, app(PLAIN, "@mutation\ndef purge(ctx) -> None:\n    pass\n"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(remove)
        await trio.testing.wait_all_tasks_blocked()
        held.release.set()
    assert results == [None]


async def test_watched_query_is_rung_and_runs_the_new_code(it: Deployed) -> None:
    rings: list[int] = []
    deployment = it.deployment
    watch = deployment.watch(call("notes:greet"), None, lambda: rings.append(deployment.head_ts))
    await deployment.evaluate([watch], deployment.head_ts)
    await it.push(app(PLAIN, greeting="new"))
    assert rings
    assert not watch.is_current
    [outcome] = await deployment.evaluate([watch], deployment.head_ts)
    assert outcome.value == "new"


async def test_query_that_ran_across_the_switch_is_not_taken_for_current(it: Deployed) -> None:
    deployment = it.deployment
    watch = deployment.watch(call("notes:greet"), None, lambda: None)
    held = it.traffic.hold_after("notes:greet")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deployment.evaluate, [watch], deployment.head_ts)
        await held.arrivals()
        await it.push(app(PLAIN, greeting="new"))
        held.release.set()
    assert not watch.is_current
    [outcome] = await deployment.evaluate([watch], deployment.head_ts)
    assert outcome.value == "new"


async def test_pushes_take_turns_and_the_last_one_stays(it: Deployed) -> None:
    """Going back to the active version while another push waits for its turn once did nothing."""
    held = it.traffic.hold_before("notes:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(add, it, "a")
        await held.arrivals()
        nursery.start_soon(it.push, app(PLAIN, greeting="second"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(it.push, app(PLAIN))
        await trio.testing.wait_all_tasks_blocked()
        held.release.set()
    assert await it.value("notes:greet") == "hello"


async def test_full_disk_fails_the_push_and_the_next_one_succeeds(it: Deployed, disk: Disk) -> None:
    disk.errors.append(DiskFull("no room"))
    with pytest.raises(PushFailed, match="no room"):
        await it.push(app(INDEXED, BY_AUTHOR))
    assert await it.value("notes:greet") == "hello"
    await it.push(app(INDEXED, BY_AUTHOR))
    assert await it.value("notes:by", name="ann") == []


async def test_unchanged_code_is_not_pushed_again(it: Deployed) -> None:
    head = it.deployment.head_ts
    report = await it.push(app(PLAIN))
    assert not report.changed
    assert it.deployment.head_ts == head


async def test_restart_serves_the_code_that_was_active(tmp_path: Path) -> None:
    async with deployed(tmp_path, app(INDEXED, BY_AUTHOR)) as it:
        await add(it, "kept")
    async with deployed(tmp_path) as it:
        assert await it.value("notes:by", name="ann") == ["kept"]
