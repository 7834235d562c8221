"""Executions of queries on their way: what the cache is told of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.query_entries import QueryKey, QueryRun
from tidewell.values import pack

from .deployed import Deployed, call, deployed
from .set_clock import SetClock

APP = {
    "look.py": """
        from tidewell import internal_query, mutation, query


        @mutation
        def add(ctx) -> None:
            ctx.db.insert("rows", {"n": 1})


        @query
        def buckets(ctx, sizes: list[int]) -> None:
            for size in sizes:
                ctx.time_bucket(size)


        @query
        def drawn(ctx) -> float:
            return ctx.random.random() + 0 * len(ctx.db.query("rows").collect())


        @internal_query
        def hidden(ctx) -> str:
            return "secret"
        """
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP, clock=SetClock(80 * 10**9)) as it:  # 80 seconds after the epoch
        yield it


async def run(it: Deployed, path: str, **args: object) -> QueryRun:
    asked = call(path, **args)
    key = QueryKey(asked.path, pack(asked.args), None, internal=False, journal=None)
    return await it.deployment._query_lanes.run_query(asked, key, it.deployment.head_ts)


@pytest.mark.parametrize(
    ("sizes", "ends_ms"), [([60, 90], 90_000), ([90, 60], 90_000), ([3600, 60], 120_000), ([80], 160_000)]
)
async def test_the_bucket_that_ends_first_ends_the_outcome(
    it: Deployed, sizes: list[int], ends_ms: float
) -> None:
    found = await run(it, "look:buckets", sizes=sizes)
    assert (found.bucket_ends_ms, found.clock_read, found.identity_read) == (ends_ms, False, False)


async def test_everybody_sees_the_same_draw_until_data_changes(it: Deployed) -> None:
    first = await it.value("look:drawn")
    assert await it.value("look:drawn") == first
    await it.run("look:add")
    assert await it.value("look:drawn") != first


async def test_a_cached_result_of_an_internal_function_is_not_for_clients(it: Deployed) -> None:
    ours = await it.deployment.query(call("look:hidden", origin="internal"))
    assert ours.value == "secret"
    theirs = await it.deployment.query(call("look:hidden"))
    assert theirs.failure is not None
    assert theirs.value is None
