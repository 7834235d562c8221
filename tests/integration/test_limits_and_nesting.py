"""Counted limits and sub-transactions over both databases (function-semantics 7.4 and 19.2)."""

from __future__ import annotations

from typing import Any

import pytest

from tidewell.values import unpack

from ..sandbox.guest_app import GuestApp
from .conftest import MakeApp

APP = {
    "schema.py": """
        from tidewell import Schema, table, v

        schema = Schema(rows=table(n=int, text=v.optional(str)).index("by_n", "n"))
    """,
    "m.py": """
        from tidewell import FunctionError, mutation, query

        @mutation
        def fill(ctx, count: int, text: str = ""):
            return [ctx.db.insert("rows", {"n": n, "text": text}) for n in range(count)]

        @query
        def read_all(ctx):
            return len(ctx.db.query("rows").collect())

        @query
        def read_singly(ctx, ids: list):
            return [ctx.db.get(id)["n"] for id in ids]

        @query
        def by_id(ctx, id: str):
            found = ctx.db.query("rows").with_index("by_id", lambda q: q.eq("_id", id)).unique()
            return found and found["n"]

        @query
        def since(ctx, time: float):
            rows = ctx.db.query("rows").with_index("by_creation_time", lambda q: q.gt("_creationTime", time))
            return [row["n"] for row in rows]

        @mutation
        def rewrite(ctx, ids: list):
            before = ctx.meta.transaction_metrics()
            for id in ids[:2]:
                ctx.db.patch(id, {"n": 7})
            ctx.db.replace(ids[2], {"n": 8, "_id": ids[2]})
            ctx.db.replace(ids[3], {"n": 9})
            ctx.db.delete(ids[4])
            after = ctx.meta.transaction_metrics()
            return {name: after[name]["used"] - before[name]["used"] for name in after}

        @mutation
        def limited(ctx, path: str, args: dict, limits: dict):
            before = ctx.meta.transaction_metrics()
            try:
                if path == "m:fill":
                    ctx.run_mutation(path, args, limits=limits)
                else:
                    ctx.run_query(path, args, limits=limits)
                told = None
            except FunctionError as error:
                told = error.message
            return [told, before, ctx.meta.transaction_metrics(), ctx.db.query("rows").count()]

        @mutation
        def tree(ctx, depth: int, fail_at: int):
            ctx.db.insert("rows", {"n": depth})
            if depth:
                try:
                    ctx.run_mutation("m:tree", {"depth": depth - 1, "fail_at": fail_at})
                except FunctionError:
                    pass
            if depth == fail_at:
                raise ValueError("undo this subtree")
            return sorted(row["n"] for row in ctx.db.query("rows"))
    """,
}


@pytest.fixture
def app(make_app: MakeApp) -> GuestApp:
    return make_app(APP)


@pytest.mark.parametrize(
    ("limit", "allowed", "path", "args", "code"),
    [
        ("documents_read", 3, "m:read_all", {}, "TooManyDocumentsRead"),
        ("bytes_read", 2000, "m:read_all", {}, "TooManyBytesRead"),
        ("documents_written", 4, "m:fill", {"count": 5}, "TooManyWrites"),
        ("bytes_written", 3000, "m:fill", {"count": 5, "text": "x" * 1000}, "TooManyWrites"),
    ],
)
def test_each_limit_ends_the_call_that_passes_it_and_its_use_stays_counted(
    app: GuestApp, limit: str, allowed: int, path: str, args: dict[str, Any], code: str
) -> None:
    app.mutate("m:fill", count=5, text="y" * 1000)
    told, before, after, rows = app.mutate("m:limited", path=path, args=args, limits={limit: allowed})
    assert told.startswith(f"LimitExceeded: {code}: {limit} is ")
    assert f"at most {allowed}" in told
    assert after[limit]["used"] - before[limit]["used"] > allowed
    assert rows == 5  # what the failed call wrote is undone
    generous = app.mutate("m:limited", path=path, args=args, limits={limit: 10**9})
    assert generous[0] is None


def test_reading_one_by_one_counts_as_many_queries(app: GuestApp) -> None:
    ids = app.mutate("m:fill", count=6)
    told, *_ = app.mutate(
        "m:limited", path="m:read_singly", args={"ids": ids}, limits={"database_queries": 5}
    )
    assert told.startswith("LimitExceeded: TooManyReads: database_queries is ")


def test_a_write_counts_as_a_write_and_not_as_the_reads_it_makes(app: GuestApp) -> None:
    ids = app.mutate("m:fill", count=5)
    used = app.mutate("m:rewrite", ids=ids)
    assert (used["database_queries"], used["documents_read"], used["bytes_read"]) == (0, 0, 0)
    assert used["documents_written"] == 5
    assert app.query("m:read_all") == 4


def test_the_built_in_indexes_exist_on_every_table(app: GuestApp) -> None:
    (first,) = app.mutate("m:fill", count=1)
    app.now_ms += 10
    app.mutate("m:fill", count=2)
    assert app.query("m:by_id", id=first) == 0
    assert app.query("m:by_id", id=first[:-1] + "x") is None
    assert app.query("m:since", time=app.now_ms - 5) == [0, 1]


@pytest.mark.parametrize(("fail_at", "kept"), [(-1, [0, 1, 2, 3]), (0, [1, 2, 3]), (2, [3]), (1, [2, 3])])
def test_a_failed_level_takes_its_whole_subtree_with_it(app: GuestApp, fail_at: int, kept: list[int]) -> None:
    outcome = app.outcome("mutation", "m:tree", {"depth": 3, "fail_at": fail_at})
    assert unpack(outcome.value) == kept
    assert app.query("m:read_all") == len(kept)


def test_a_failed_call_at_the_top_writes_nothing_and_its_reads_are_told(app: GuestApp) -> None:
    outcome = app.outcome("mutation", "m:tree", {"depth": 3, "fail_at": 3})
    assert (outcome.kind, outcome.writes) == ("function", b"")
    assert outcome.reads
    assert app.query("m:read_all") == 0
