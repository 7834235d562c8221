"""Limits on tables, indexes, queries and code: each with its error (function-semantics 19.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import storage.catalog
from engine.push import PushFailed

from .deployed import Deployed, deployed

NOTES = {
    "notes.py": """
        from typing import Any

        from tidewell import mutation, query


        @mutation
        def add(ctx, table: str) -> None:
            ctx.db.insert(table, {})


        @mutation
        def add_if_there_is_room(ctx, table: str) -> str:
            try:
                ctx.db.insert(table, {})
            except Exception as error:
                return str(error)
            return "there was"


        @query
        def chained(ctx, operators: int) -> Any:
            found = ctx.db.query("notes")
            for _ in range(operators):
                found = found.filter(lambda q: q.eq(q.field("a"), 1))
            return found.collect()
    """
}


@pytest.fixture
async def it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Deployed]:
    monkeypatch.setattr(storage.catalog, "TABLES_MAX", 3)
    async with deployed(tmp_path, NOTES) as it:
        yield it


def schema(declaration: str) -> dict[str, str]:
    source = f"from tidewell import Schema, table, v\n\nschema = Schema({declaration})\n"
    return {**NOTES, "schema.py": source}


async def push_problem(it: Deployed, files: dict[str, str]) -> str:
    with pytest.raises(PushFailed) as failed:
        await it.push(files)
    return str(failed.value)


async def test_an_insert_makes_no_table_more_than_there_can_be(it: Deployed) -> None:
    for table in ("a", "b", "c"):
        await it.run("notes:add", table=table)
    refused = await it.mutate("notes:add", table="d")
    assert refused.failure is not None
    assert refused.failure.kind == "TooManyTables"
    assert "'d' would be one table more than the 3 there can be" in refused.failure.message
    assert "3 there can be" in await it.run("notes:add_if_there_is_room", table="d")
    await it.run("notes:add", table="c")
    await it.deployment.environment.change({"A": "1"})  # the system's own do not count


async def test_a_push_makes_no_table_more_than_there_can_be(it: Deployed) -> None:
    for table in ("a", "b"):
        await it.run("notes:add", table=table)
    problem = await push_problem(it, schema("c=table(), d=table()"))
    assert "'d' would be one table more than the 3 there can be" in problem
    await it.push(schema("c=table()"))


async def test_a_table_has_at_most_32_indexes_of_15_fields(it: Deployed) -> None:
    indexes = "".join(f'.index("by_{number}", "f{number}")' for number in range(33))
    assert "more than 32 indexes on one table" in await push_problem(it, schema(f"a=table(v.any()){indexes}"))
    fields = ", ".join(f'"f{number}"' for number in range(16))
    problem = await push_problem(it, schema(f'a=table(v.any()).index("by_all", {fields})'))
    assert "index 'by_all' has 16 fields, at most 15" in problem


async def test_a_query_chains_at_most_256_operators(it: Deployed) -> None:
    assert await it.value("notes:chained", operators=256) == []
    refused = await it.query("notes:chained", operators=257)
    assert refused.failure is not None
    assert "more than 256 operators on one query" in refused.failure.message
