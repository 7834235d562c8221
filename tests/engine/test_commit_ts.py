"""Commit timestamps in documents: known to nobody before the commit, and in its order afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from storage import DocumentWrite, WriteSet
from tidewell.errors import InvalidValue
from tidewell.ids import encode_id
from tidewell.ordering import order_key
from tidewell.values import COMMIT_TS, Int64, pack, unpack

from .deployed import Deployed, call, deployed

APP = {
    "schema.py": """
        from tidewell import Schema, table, v

        schema = Schema(
            events=table({
                "name": v.string(),
                "at": v.commit_ts(),
                "big": v.optional(v.int64()),
                "more": v.optional(v.array(v.object({"at": v.commit_ts()}))),
            }).index("by_at", "at"),
            strict=table({"at": v.int64()}),
        )
    """,
    "m.py": """
        from typing import Any

        from tidewell import AppError, mutation, query


        @mutation
        def add(ctx, name: str) -> str:
            return ctx.db.insert("events", {"name": name, "at": ctx.db.vars.commit_ts})


        @mutation
        def add_after(ctx, name: str) -> int:
            '''Says how many events it saw with a timestamp that is known.'''
            seen = [event["at"] for event in ctx.db.query("events").with_index("by_at")]
            ctx.db.insert("events", {"name": name, "at": ctx.db.vars.commit_ts})
            return len([at for at in seen if at > 0])


        @mutation
        def own(ctx) -> Any:
            first = ctx.db.insert("events", {"name": "own", "at": ctx.db.vars.commit_ts, "big": 2**60})
            ctx.db.patch(first, {"more": [{"at": ctx.db.vars.commit_ts}]})
            ctx.db.insert("free", {"deep": {"at": [ctx.db.vars.commit_ts]}})
            print(ctx.db.get(first)["at"])
            newest = ctx.db.query("events").with_index("by_at").order("desc").first()
            ctx.db.replace(first, {**ctx.db.get(first), "name": "again"})
            return newest["name"]


        @mutation
        def tell(ctx, how: str) -> Any:
            ctx.db.insert("events", {"name": "x", "at": ctx.db.vars.commit_ts})
            row = ctx.db.query("events").order("desc").first()
            if how == "return":
                return row
            if how == "error":
                raise AppError(row)
            if how == "argument":
                return ctx.run_query("m:echo", {"value": row["at"]})
            if how == "range":
                return ctx.db.query("events").with_index("by_at", lambda q: q.eq("at", row["at"])).collect()
            if how == "field":
                return ctx.db.insert("strict", {"at": row["at"]})
            return ctx.run_query("m:peek")


        @query
        def echo(ctx, value: Any) -> Any:
            return value


        @query
        def peek(ctx) -> Any:
            return ctx.db.vars.commit_ts


        @query
        def in_order(ctx) -> Any:
            return [[e["name"], e["at"]] for e in ctx.db.query("events").with_index("by_at")]


        @query
        def everything(ctx) -> Any:
            return [ctx.db.query("events").collect(), ctx.db.query("free").collect()]
    """,
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


async def test_a_document_holds_the_timestamp_of_its_commit(it: Deployed) -> None:
    first = await it.mutate("m:add", name="a")
    second = await it.mutate("m:add", name="b")
    assert await it.value("m:in_order") == [["a", first.ts], ["b", second.ts]]


async def test_it_is_resolved_wherever_it_stands(it: Deployed) -> None:
    outcome = await it.mutate("m:own")
    assert outcome.failure is None, outcome.failure
    assert outcome.value == "own"  # its own writes come last in the index
    assert outcome.log_lines == ("[LOG] <CommitTs>",)
    [[event], [free]] = await it.value("m:everything")
    assert event["name"] == "again"
    assert event["at"] == event["more"][0]["at"] == free["deep"]["at"][0] == outcome.ts
    assert event["big"] == 2**60


async def test_calls_that_travel_together_see_each_others_timestamps(it: Deployed) -> None:
    count = 40
    outcomes: dict[str, Any] = {}

    async def add(name: str) -> None:
        outcomes[name] = await it.mutate("m:add_after", name=name)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(add, str(number))
    assert all(outcome.failure is None for outcome in outcomes.values()), outcomes
    in_order = await it.value("m:in_order")
    assert [name for name, _ in in_order] == sorted(outcomes, key=lambda name: outcomes[name].ts)
    assert dict(in_order) == {name: each.ts for name, each in outcomes.items()}
    # Each saw, with timestamps, exactly those before it: nobody read a placeholder of another.
    assert [outcomes[name].value for name, _ in in_order] == list(range(count))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("return", "returns.at: a commit timestamp is not known before the commit"),
        ("error", "data.at: a commit timestamp is not known before the commit"),
        ("argument", "args.value: a commit timestamp is not known before the commit"),
        ("range", "a commit timestamp is not known before the commit"),
        ("field", "strict.at: found the commit timestamp to come"),
        ("peek", "a query cannot use ctx.db.vars"),
    ],
)
async def test_nobody_learns_it_before_the_commit(it: Deployed, how: str, told: str) -> None:
    outcome = await it.mutate("m:tell", how=how)
    assert outcome.failure is not None
    assert told in outcome.failure.message
    assert await it.value("m:in_order") == []


async def test_clients_see_a_bigint_and_restarts_change_nothing(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        outcome = await it.mutate("m:add", name="a")
        shown = await it.query("m:in_order")
        assert b'"$integer"' in shown.value_json
    async with deployed(tmp_path) as it:
        assert await it.value("m:in_order") == [["a", outcome.ts]]
        assert (await it.deployment.query(call("m:in_order"))).failure is None


def test_only_a_write_set_may_wait_for_a_timestamp() -> None:
    row = {"_creationTime": 1, "_id": encode_id(10001, bytes(16)), "at": [COMMIT_TS], "b": b"\xd4\x02\x00"}
    with pytest.raises(InvalidValue):
        unpack(pack(row))
    writes = WriteSet((DocumentWrite(10001, bytes(16), pack(row)),))
    assert WriteSet.unpack(writes.pack()) == writes
    [stamped] = writes.stamped(7).documents
    assert stamped.body is not None
    assert unpack(stamped.body) == {**row, "at": [Int64(7)]}
    assert writes.stamped(7).stamped(8).documents == (stamped,)


def test_a_timestamp_to_come_is_greater_than_every_int64() -> None:
    assert order_key(COMMIT_TS) > order_key(Int64(2**63 - 1))
    assert order_key(COMMIT_TS) < order_key(float("-inf"))
