"""The life of a schema and its indexes on a whole deployment (function-semantics 6.4, 9 and X10)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from engine.code import decode_version
from engine.push import CODE_PREFIX, PushFailed
from storage import Store, Transaction
from tidewell.errors import ValidationFailed
from tidewell.schema import Schema
from tidewell.validators import check

from .deployed import Deployed, Disk, call, deployed

NOTES = """
from typing import Any

from tidewell import mutation, query


@mutation
def add(ctx, table: str, fields: Any) -> str:
    return ctx.db.insert(table, fields)


@mutation
def patch(ctx, note: str, fields: Any) -> None:
    ctx.db.patch(note, fields)


@mutation
def fill(ctx, count: int) -> None:
    for n in range(count):
        ctx.db.insert("notes", {"n": n, "text": "a"})


@query
def by_n(ctx) -> Any:
    return [note["n"] for note in ctx.db.query("notes").with_index("by_n").order("desc").take(2)]


@query
def version(ctx) -> str:
    return "VERSION"
"""
LOOSE = "notes=table(v.any())"
EXACT = "notes=table(n=int, text=str)"
STAGED = f'{EXACT}.index("by_n", "n", staged=True)'
UNSTAGED = f'{EXACT}.index("by_n", "n")'
UNIQUE_TEXT = f'{EXACT}.index("by_text", "text", unique=True, staged=True)'


def app(schema: str, version: str = "1") -> dict[str, str]:
    source = f"from tidewell import Schema, table, v\n\nschema = Schema({schema})\n"
    return {"schema.py": source, "notes.py": NOTES.replace("VERSION", version)}


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def it(tmp_path: Path, disk: Disk) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, app(LOOSE), run_blocking=disk) as it:
        yield it


async def test_documents_are_checked_while_writes_go_on_and_progress_is_told(
    it: Deployed, disk: Disk
) -> None:
    await it.run("notes:fill", count=1500)
    held = disk.hold("_check_next")
    told: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.push, app(EXACT, "2"), told.append)
        await held.arrivals()
        await it.run("notes:add", table="notes", fields={"n": 1500, "text": "meanwhile"})  # writes go on
        assert await it.value("notes:version") == "1"
        held.release.set()
    assert await it.value("notes:version") == "2"
    assert told == ["checked 1,000 documents of notes", "checked 1,500 documents of notes"]


async def test_a_push_that_fails_names_document_and_field_and_changes_nothing(it: Deployed) -> None:
    await it.run("notes:add", table="notes", fields={"n": 1, "text": "fine"})
    wrong = await it.run("notes:add", table="notes", fields={"n": 1, "text": 7})
    catalog, head = it.deployment.store.catalog(), it.deployment.head_ts
    with pytest.raises(PushFailed, match=f"notes {wrong}.text: found the number 7, expected a string"):
        await it.push(app(EXACT, "2"))
    assert (it.deployment.store.catalog(), it.deployment.head_ts) == (catalog, head)
    assert await it.value("notes:version") == "1"
    await it.run("notes:add", table="notes", fields={"text": 8})  # by the old schema still


async def test_code_schema_and_indexes_switch_in_one_commit(it: Deployed) -> None:
    await it.run("notes:fill", count=3)
    before = it.deployment.head_ts
    await it.push(app(UNSTAGED, "2"))
    changes = [entry.catalog for entry in it.deployment.store.log(before) if entry.catalog is not None]
    [declared, switched] = changes
    assert (declared.schema, len(declared.add_indexes)) == (None, 1)
    assert switched.schema is not None
    assert switched.enable_indexes == (declared.add_indexes[0].index_id,)
    assert await it.value("notes:by_n") == [2, 1]


async def test_every_write_is_checked_as_a_whole_document(it: Deployed) -> None:
    await it.push(app(EXACT))
    note = await it.run("notes:add", table="notes", fields={"n": 1, "text": "a"})
    for path, args in (
        ("notes:add", {"table": "notes", "fields": {"n": 1}}),
        ("notes:patch", {"note": note, "fields": {"more": 1}}),
    ):
        refused = await it.mutate(path, **args)
        assert refused.failure is not None
        assert refused.failure.kind == "SchemaValidation"


async def test_tables_outside_the_schema_are_not_checked_and_checks_can_be_off(it: Deployed) -> None:
    await it.push(app(EXACT))
    await it.run("notes:add", table="others", fields={"anything": ["goes"]})
    await it.push(app(f"{EXACT}, schema_validation=False"))
    await it.run("notes:add", table="notes", fields={"n": "not a number"})
    with pytest.raises(PushFailed, match="expected an integral number"):
        await it.push(app(EXACT))


async def test_a_staged_index_is_filled_behind_the_push_and_answers_nobody_before(
    it: Deployed, disk: Disk
) -> None:
    await it.run("notes:fill", count=1500)
    held = disk.hold("step")
    report = await it.push(app(STAGED, "2"))  # does not wait
    assert report.warnings == ("the index by_n of notes is staged: usable once it is filled",)
    await held.arrivals()
    early = await it.query("notes:by_n")
    assert early.failure is not None
    assert early.failure.kind == "IndexNotReady"
    await it.run("notes:add", table="notes", fields={"n": 9_000, "text": "meanwhile"})
    rung = trio.Event()
    watch = it.deployment.watch(call("notes:by_n"), None, rung.set)
    await it.deployment.evaluate([watch], it.deployment.head_ts)
    held.release.set()
    await rung.wait()  # the query that failed is told that it can be run again
    assert await it.value("notes:by_n") == [9_000, 1_499]
    watch.close()


async def test_other_pushes_leave_a_staged_index_alone(it: Deployed, disk: Disk) -> None:
    await it.run("notes:fill", count=1500)
    held = disk.hold("step")
    await it.push(app(STAGED, "2"))
    [index] = (index for index in it.deployment.store.catalog().tables["notes"].indexes if not index.is_ready)
    await held.arrivals()
    held.release.set()
    await it.push(app(STAGED, "3"))
    with pytest.raises(PushFailed):
        await it.push(app('notes=table(n=str, text=str).index("by_text", "text")'))
    await it.push(app(UNSTAGED, "4"))
    assert [index.index_id] == [
        each.index_id for each in it.deployment.store.catalog().tables["notes"].indexes if each.name == "by_n"
    ]
    assert await it.value("notes:by_n") == [1_499, 1_498]


async def test_a_staged_index_goes_on_being_filled_after_a_restart(tmp_path: Path) -> None:
    disk = Disk()
    async with deployed(tmp_path, app(EXACT), run_blocking=disk) as it:
        await it.run("notes:fill", count=1500)
        held = disk.hold("step")
        await it.push(app(STAGED, "2"))
        await held.arrivals()
    async with deployed(tmp_path) as it:
        store = it.deployment.store

        def is_filled() -> bool:
            # The store knows of a commit before the engine does, and queries are as of its head.
            with store.snapshot(it.deployment.head_ts) as snapshot:
                return all(index.is_ready for index in snapshot.catalog.tables["notes"].indexes)

        while not is_filled():
            await trio.testing.wait_all_tasks_blocked()
        assert await it.value("notes:by_n") == [1_499, 1_498]


async def test_a_push_waits_for_an_index_that_is_staged_no_longer(it: Deployed, disk: Disk) -> None:
    await it.run("notes:fill", count=1500)
    held = disk.hold("step")
    await it.push(app(STAGED, "2"))
    await held.arrivals()
    del disk.gates["step"]
    held.release.set()
    await it.push(app(UNSTAGED, "3"))
    assert await it.value("notes:by_n") == [1_499, 1_498]


async def test_a_staged_unique_index_over_duplicates_is_given_up_and_stops_nobody(
    it: Deployed, caplog: pytest.LogCaptureFixture
) -> None:
    await it.run("notes:fill", count=3)
    await it.push(app(UNIQUE_TEXT, "2"))
    while not caplog.records:
        await trio.testing.wait_all_tasks_blocked()
    assert "the staged index by_text cannot be used: the index 'by_text' is to be unique" in caplog.text
    await it.run("notes:add", table="notes", fields={"n": 1, "text": "a"})
    report = await it.push(app(EXACT, "3"))
    assert report.changed


@pytest.mark.parametrize("seed", range(4))
async def test_no_active_schema_has_a_violating_document_whatever_is_pushed_and_written(
    it: Deployed, seed: int
) -> None:
    """After each commit of a race between pushes and writes, every document fits the schema in force."""
    chance = random.Random(seed)
    kinds = {"int": 1, "str": "a", "int | str": "b", "v.optional(int)": None, "bool": True}
    stores = it.deployment.store
    started = it.deployment.head_ts

    async def write() -> None:
        for _ in range(25):
            kind = chance.choice(list(kinds.values()))
            await it.mutate("notes:add", table="notes", fields={} if kind is None else {"x": kind})

    async def push() -> None:
        for number in range(8):
            try:
                await it.push(app(f"notes=table(x={chance.choice(list(kinds))})", f"{seed}/{number}"))
            except PushFailed:
                for entry in list(stores.log(started)):  # make room for other schemas once in a while
                    for write_ in entry.writes:
                        if write_.kind == "insert" and chance.random() < 0.5:
                            await it.mutate("notes:patch", note=write_.id, fields={"x": 1})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        nursery.start_soon(write)
        nursery.start_soon(write)

    checked = 0
    schemas: dict[str, Schema] = {}
    for entry in stores.log(started):
        with stores.snapshot(entry.ts) as snapshot:
            version = snapshot.catalog.schema
            if version not in schemas:
                schemas[version] = schema_of(stores, version)
            schema = schemas[version]
            for document in Transaction(snapshot).scan("notes"):
                fields = {name: value for name, value in document.items() if name[0] != "_"}
                try:
                    check(schema.tables["notes"].document, fields, "notes")
                except ValidationFailed as error:
                    pytest.fail(f"seed {seed}, commit {entry.ts}: {error}")
                checked += 1
    assert checked


def schema_of(store: Store, version: str) -> Schema:
    stored = store.private_get(CODE_PREFIX + version.encode())
    assert stored is not None, version
    schema = decode_version(stored).described.read_schema()
    assert schema is not None
    return schema
