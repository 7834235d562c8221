"""A commit that changes only fields nobody looked at reruns nothing, and no other commit is passed over.

Queries are watched in a whole deployment while documents change. What a watch believes to be
current is compared with a run of the same query at the newest snapshot.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from engine.backend import Call
from engine.queries import QueryWatch
from engine.query_entries import QueryKey
from sandbox.frames import FromWorker, Ran, Run
from tidewell.values import pack

from .deployed import Deployed, call, deployed

HEAD = """
from tidewell import mutation, query


def view(row):
    return [row["a"], row.get("b")]


def leak(row):
    return [row["a"], row]


def total(rows):
    return sum(row["a"] for row in rows)


@mutation
def add(ctx, fields: dict) -> str:
    return ctx.db.insert("t", fields)


@mutation
def edit(ctx, id: str, fields: dict) -> None:
    ctx.db.patch(id, fields)


@mutation
def remove(ctx, id: str) -> None:
    ctx.db.delete(id)


@query
def plain(ctx):
    return [row["c"] for row in ctx.db.query("t").collect()]
"""
SCHEMA = """
from tidewell import Schema, table, v

schema = Schema(t=table(a=v.any(), b=v.any(), c=v.any(), d=v.optional(v.any())).index("by_a", "a"))
"""
LISTS = (
    'rows = ctx.db.query("t").collect()',
    'rows = ctx.db.query("t").take(3)',
    'rows = ctx.db.query("t").with_index("by_a", lambda q: q.gte("a", 3)).order("desc").collect()',
    'rows = ctx.db.query("t").filter(lambda q: q.gt(q.field("b"), 3)).collect()',
    'rows = sorted(ctx.db.query("t").collect(), key=lambda r: r["a"])',
    'rows = list(reversed(ctx.db.query("t").take(4)))[1:]',
)
ROWS = (
    'row = ctx.db.query("t").first()',
    "row = ctx.db.get(id)",
    "row = rows[0] if rows else None",
    'row = max(rows, key=lambda r: r["b"], default=None)',
    'row = ctx.db.query("t").with_index("by_a").order("desc").first()',
)
PAGES = ('page = ctx.db.query("t").paginate({"numItems": 3, "cursor": None})',)
MODEST = (  # what looks at some fields
    'for r in rows:\n    out.append(r["a"])',
    'out.append([r["b"] for r in rows if r["a"] > 2])',
    'out.append({r["a"]: i for i, r in enumerate(rows) if "d" in r} != {})',
    "out.append(len(rows))",
    'out.append(row["a"] if row else None)',
    'other = row\nout.append(other.get("c") if other is not None else 0)',
    'other = row\nrow = other\nout.append(row and row["c"])',
    "out.append(view(row) if row else None)",
    "out.append(total(rows))",
    'out.append({**page, "page": [view(r) for r in page["page"]]})',
    'out.append([page["isDone"], page["continueCursor"] is None])',
    'def inner():\n    return row["b"] if row else None\nout.append(inner())',
    'out.append(ctx.db.query("t").count())',
    'out.append(ctx.run_query("app:plain"))',
    'for r in ctx.db.query("t").order("desc"):\n    if r["a"] > 4:\n        out.append(r["b"])',
)
GREEDY = (  # what looks at whole documents, one way or another
    "out.append(row)",
    "out.append(rows[:1])",
    "out.append(leak(row) if row else None)",
    "out.append([name for name in row] if row else None)",
    "out.append(str(row))",
    'out.append(f"{row}")',
    'match row:\n    case {"a": x, **rest}:\n        out.append([x, len(rest)])',
    "out.append(row == other if rows else 0)",
    "keep = lambda: row\nout.append(keep())",
    'out.append({**page, "page": 0, "was": page["page"]})',
    'page["page"] = [view(r) for r in page["page"]]\nout.append(page)',
    "out.append({**(row or {})})",
    "a, b = row, rows\nout.append(a and a.get('c'))\nout.append(b)",
    'out.append(ctx.meta.transaction_metrics()["bytes_read"])',
    "out.append((lambda *all: all)(row))",
    "out.append([r for r in rows if r['a']])",
    "swap = row\nrow = swap\nheld = [row]\nout.append(held)",
)


def function(chance: random.Random, number: int) -> str:
    lines = [chance.choice(LISTS), chance.choice(ROWS), *PAGES, "other = None"]
    lines += chance.sample(MODEST, chance.randrange(1, 4))
    if chance.random() < 0.4:
        lines.insert(chance.randrange(4, len(lines) + 1), chance.choice(GREEDY))
    body = "\n".join(["out = []", *lines, "return out"]).replace("\n", "\n    ")
    return f"\n\n@query\ndef f{number}(ctx, id: str):\n    {body}\n"


def document(chance: random.Random) -> dict[str, Any]:
    fields: dict[str, Any] = {name: chance.randrange(8) for name in "abc"}
    if chance.random() < 0.5:
        fields["d"] = chance.choice([1, True, "text" * 20, [1, {"x": 2}]])
    return fields


async def test_a_result_that_changes_is_always_told(tmp_path: Path) -> None:
    spared = 0
    for seed in range(3):
        spared += await _follow(tmp_path / str(seed), seed)
    assert spared > 100  # edits that went past a query of the same table


async def _follow(folder: Path, seed: int) -> int:
    chance = random.Random(seed)
    names = [f"f{number}" for number in range(30)]
    source = HEAD + "".join(function(chance, number) for number in range(len(names)))
    async with deployed(folder, {"schema.py": SCHEMA, "app.py": source}) as it:
        ids = [await it.run("app:add", fields=document(chance)) for _ in range(5)]
        first = ids[0]
        calls = {name: call(f"app:{name}", id=first) for name in names}
        watches = {name: it.deployment.watch(calls[name], None, lambda: None) for name in names}
        spared = 0
        for _ in range(25):
            await it.deployment.evaluate(list(watches.values()), it.deployment.head_ts)
            changed = await _write(it, chance, ids)
            for name, watch in watches.items():
                about = f"seed {seed}: {name} after {changed}\n{source}"
                is_current = await _is_right(it, calls[name], watch, about)
                spared += is_current and isinstance(changed, dict)
        return spared


async def _write(it: Deployed, chance: random.Random, ids: list[str]) -> object:
    draw = chance.random()
    if draw < 0.15 or not ids:
        ids.append(await it.run("app:add", fields=document(chance)))
        return "an insert"
    if draw < 0.25:
        await it.run("app:remove", id=ids.pop(chance.randrange(len(ids))))
        return "a delete"
    fields = dict(chance.sample(list(document(chance).items()), chance.randrange(1, 3)))
    await it.run("app:edit", id=chance.choice(ids), fields=fields)
    return fields


async def _is_right(it: Deployed, asked: Call, watch: QueryWatch, what: str) -> bool:
    """Compare with a run of its own; whether the watch was current."""
    if not watch.is_current:
        return False
    key = QueryKey(asked.path, pack(asked.args), None, False, watch.key.journal)
    run = await it.deployment._query_lanes.run_query(asked, key, it.deployment.head_ts)
    assert watch.seen is not None
    assert run.outcome.digest == watch.seen.digest, f"{what}\n{run.outcome.value} {watch.seen.value}"
    return True


TITLES = """
from tidewell import mutation, query


@mutation
def add(ctx, title: str) -> str:
    return ctx.db.insert("posts", {"title": title, "likes": 0, "size": "x"})


@mutation
def edit(ctx, id: str, fields: dict) -> None:
    ctx.db.patch(id, fields)


@query
def titles(ctx):
    return [post["title"] for post in ctx.db.query("posts").collect()]


@query
def posts(ctx):
    return ctx.db.query("posts").collect()


@query
def size(ctx):
    titles = [post["title"] for post in ctx.db.query("posts").collect()]
    return [titles, ctx.meta.transaction_metrics()["bytes_read"]["used"]]
"""


@pytest.mark.parametrize(
    ("path", "fields", "reruns"),
    [
        ("posts:titles", {"likes": 1}, False),
        ("posts:titles", {"new": [1]}, False),
        ("posts:titles", {"title": "b"}, True),
        ("posts:posts", {"likes": 1}, True),
        ("posts:size", {"likes": 1}, True),
    ],
)
async def test_a_commit_reruns_what_looked_at_the_fields_it_changes(
    tmp_path: Path, path: str, fields: dict[str, Any], reruns: bool
) -> None:
    async with deployed(tmp_path, {"posts.py": TITLES}) as it:
        first = await it.run("posts:add", title="a")
        rings: list[int] = []
        watch = it.deployment.watch(call(path), None, lambda: rings.append(1))
        await it.deployment.evaluate([watch], it.deployment.head_ts)
        before = it.traffic.runs[path]
        await it.run("posts:edit", id=first, fields=fields)
        await it.deployment.evaluate([watch], it.deployment.head_ts)
        assert (it.traffic.runs[path] - before, bool(rings)) == (reruns, reruns)


async def test_documents_that_nobody_looks_at_whole_may_not_grow_for_ever_unseen(tmp_path: Path) -> None:
    """A query reads their bytes all the same, and there is a limit to that: it must not stand on a result
    that it could not get any more."""
    async with deployed(tmp_path, {"posts.py": TITLES}) as it:
        ids = [await it.run("posts:add", title="a") for _ in range(30)]
        watch = it.deployment.watch(call("posts:titles"), None, lambda: None)
        await it.deployment.evaluate([watch], it.deployment.head_ts)
        for document_id in ids:
            await it.run("posts:edit", id=document_id, fields={"size": "x" * 900_000})
        [outcome] = await it.deployment.evaluate([watch], it.deployment.head_ts)
        assert outcome.failure is not None
        assert outcome.failure.kind == "TooManyBytesRead"


@pytest.mark.parametrize(("fields", "stays"), [({"likes": 1}, True), ({"likes": 2, "title": "b"}, False)])
async def test_a_change_between_the_snapshot_and_the_end_of_a_run_is_judged_by_fields_too(
    tmp_path: Path, fields: dict[str, Any], stays: bool
) -> None:
    async with deployed(tmp_path, {"posts.py": TITLES}) as it:
        first = await it.run("posts:add", title="a")
        watch = it.deployment.watch(call("posts:titles"), None, lambda: None)
        held = it.traffic.hold_after("posts:titles")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.deployment.evaluate, [watch], it.deployment.head_ts)
            await held.arrivals()
            await it.run("posts:edit", id=first, fields=fields)
            held.release.set()
        assert watch.is_current is stays


async def test_a_worker_whose_fields_make_no_sense_is_condemned_and_its_query_lost(tmp_path: Path) -> None:
    def tamper(frame: Run, reply: FromWorker) -> FromWorker:
        if isinstance(reply, Ran) and frame.calls[0].path == "posts:titles":
            reply.outcomes[0] = msgspec.structs.replace(
                reply.outcomes[0], fields=b"\x91\x92\x91\xa1a\xc4\x00"
            )
        return reply

    async with deployed(tmp_path, {"posts.py": TITLES}) as it:
        it.traffic.tamper = tamper
        outcome = await it.query("posts:titles")
        assert outcome.failure is not None
        assert outcome.failure.kind == "System"
        assert it.traffic.condemned
