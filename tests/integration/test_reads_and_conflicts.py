"""Queries of guests against a brute-force reading, and their read sets against random commits.

The second property is what reactivity and serializability stand on: if a commit
changes the result of a query, a key it wrote lies in the query's read set.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.frames import Outcome
from storage import Changes, FieldReads, ReadSet, WriteSet
from tidewell.ordering import order_key
from tidewell.values import MISSING, Int64, unpack

from ..sandbox.guest_app import GuestApp
from .store_backing import StoreBacking

APP = {
    "schema.py": """
        from tidewell import Schema, table, v

        schema = Schema(rows=table(v.any()).index("by_a_b", "a", "b").index("by_deep", "b.c"))
    """,
    "rows.py": """
        from tidewell import MISSING, mutation, query

        def operand(step):
            return step["value"] if "value" in step else MISSING

        def ranged(rows, index, steps):
            def build(q):
                for step in steps:
                    value = operand(step)
                    if step["op"] == "eq":
                        q = q.eq(step["field"], value)
                    elif step["op"] == "gt":
                        q = q.gt(step["field"], value)
                    elif step["op"] == "gte":
                        q = q.gte(step["field"], value)
                    elif step["op"] == "lt":
                        q = q.lt(step["field"], value)
                    else:
                        q = q.lte(step["field"], value)
                return q
            return rows.with_index(index, build)

        @query
        def read(ctx, index: str, steps: list, order: str, how: str):
            rows = ranged(ctx.db.query("rows"), index, steps).order(order)
            if how == "collect":
                return [row["name"] for row in rows.collect()]
            if how == "count":
                return rows.filter(lambda q: q.eq(1, 1)).count()
            if how == "fast count":
                return ranged(ctx.db.query("rows"), index, steps).count()
            if how == "first":
                row = rows.first()
                return None if row is None else row["name"]
            if how == "take":
                return [row["name"] for row in rows.take(2)]
            if how == "page":
                return [row["name"] for row in rows.paginate(num_items=2)["page"]]
            names = []
            for row in rows:
                names.append(row["name"])
                if len(names) == 3:
                    break
            return names

        @query
        def points(ctx, ids: list):
            return [ctx.db.get(id) is not None for id in ids]

        @query
        def unknown_table(ctx):
            return ctx.db.query("later").count() + len(ctx.db.query("later").collect())

        @query
        def shapes(ctx):
            return ["a" in row for row in ctx.db.query("rows").collect()]

        @query
        def large(ctx):
            rows = ctx.db.query("rows")
            rows = rows.filter(lambda q: q.or_(q.gt(q.field("b"), 1), q.eq(q.field("b.c"), 1)))
            return [row["name"] for row in rows.collect()]

        @query
        def best(ctx):
            row = ctx.db.query("rows").with_index("by_a_b").order("desc").first()
            return row and row.get("b")

        @mutation
        def write(ctx, edits: list):
            made = []
            for edit in edits:
                if "insert" in edit:
                    made.append(ctx.db.insert("rows", edit["insert"]))
                elif "patch" in edit:
                    ctx.db.patch(edit["id"], edit["patch"])
                elif "later" in edit:
                    ctx.db.insert("later", {})
                else:
                    ctx.db.delete(edit["id"])
            return made
    """,
}

values = st.sampled_from(
    [None, False, True, 0, 1, 2, -1, 0.5, float("inf"), -0.0, Int64(0), Int64(5), "", "a", "a\0", "b",
     b"", b"x", [], [1], [1, 2], {}, {"c": 1}, {"c": "x"}]
)  # fmt: skip
documents = st.fixed_dictionaries({}, optional={"a": values, "b": values})
ORDERS = ("asc", "desc")
HOWS = ("collect", "count", "fast count", "first", "take", "page", "iterate")


@st.composite
def ranges(draw: st.DrawFn) -> tuple[str, list[dict[str, Any]]]:
    """Return an index and legal steps on it."""
    index, fields = draw(
        st.sampled_from(
            [("by_a_b", ["a", "b", "_creationTime"]), ("by_deep", ["b.c"]), ("by_creation_time", [])]
        )
    )
    count = draw(st.integers(0, len(fields)))
    steps = [{"op": "eq", "field": field, **draw(operands)} for field in fields[:count]]
    draw(st.randoms(use_true_random=False)).shuffle(steps)
    if count < len(fields):
        for operators in (["gt", "gte"], ["lt", "lte"]):
            operator = draw(st.none() | st.sampled_from(operators))
            if operator is not None:
                steps.append({"op": operator, "field": fields[count], **draw(operands)})
    return index, steps


operands: st.SearchStrategy[dict[str, Any]] = st.one_of(
    values.map(lambda value: {"value": value}), st.just({})
)  # nothing stands for MISSING


def at(document: dict[str, Any], path: str) -> Any:
    found: Any = document
    for step in path.split("."):
        found = found[step] if isinstance(found, dict) and step in found else MISSING
    return found


def brute_force(
    documents_: list[dict[str, Any]], index: str, steps: list[dict[str, Any]], order: str
) -> list[str]:
    fields = {"by_a_b": ["a", "b"], "by_deep": ["b.c"], "by_creation_time": []}[index]
    compare = {
        "eq": lambda a, b: a == b, "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b,
    }  # fmt: skip
    kept = [
        document
        for document in documents_
        if all(
            compare[step["op"]](order_key(at(document, step["field"])), order_key(step.get("value", MISSING)))
            for step in steps
        )
    ]
    kept.sort(
        key=lambda document: [order_key(at(document, field)) for field in (*fields, "_creationTime")],
        reverse=order == "desc",
    )
    return [document["name"] for document in kept]


@contextmanager
def stored_app() -> Iterator[tuple[GuestApp, StoreBacking]]:
    with tempfile.TemporaryDirectory() as folder:
        backing = StoreBacking(Path(folder))
        try:
            yield GuestApp(APP, backing), backing
        finally:
            backing.store.close()


def insert(app: GuestApp, rows: list[dict[str, Any]], first: int = 0) -> list[str]:
    edits = [{"insert": {**row, "name": str(first + place)}} for place, row in enumerate(rows)]
    made: list[str] = app.mutate("rows:write", edits=edits)
    app.now_ms += 1
    return made


def overlaps(outcome: Outcome, written: Changes) -> bool:
    """Whether a query has looked at what a commit changes, by single fields where it says so (S14)."""
    reads = ReadSet.unpack(outcome.reads)
    if any(reads.covers(*key) for key in written.keys):
        return True
    parts = FieldReads.unpack(outcome.fields) if outcome.fields else ()
    return any(
        key not in written.in_place or not fields.isdisjoint(written.in_place[key].fields)
        for fields, narrow in parts
        for key in written.keys
        if narrow.covers(*key)
    )


lenient = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@lenient
@given(
    rows=st.lists(documents, max_size=10),
    asked=st.lists(st.tuples(ranges(), st.sampled_from(ORDERS)), max_size=6),
)
def test_a_range_selects_what_a_brute_force_filter_does(
    rows: list[dict[str, Any]], asked: list[tuple[tuple[str, list[dict[str, Any]]], str]]
) -> None:
    with stored_app() as (app, _):
        ids = insert(app, rows)
        stored = [app.backing.open([]).get(row_id) or {} for row_id in ids]
        for (index, steps), order in asked:
            expected = brute_force(stored, index, steps, order)
            results = {
                how: app.query("rows:read", index=index, steps=steps, order=order, how=how) for how in HOWS
            }
            assert results == {
                "collect": expected,
                "count": len(expected),
                "fast count": len(expected),
                "first": expected[0] if expected else None,
                "take": expected[:2],
                "page": expected[:2],
                "iterate": expected[:3],
            }


@lenient
@given(data=st.data(), rows=st.lists(documents, min_size=1, max_size=8))
def test_a_commit_that_changes_a_result_wrote_inside_its_read_set(
    data: st.DataObject, rows: list[dict[str, Any]]
) -> None:
    with stored_app() as (app, backing):
        ids = insert(app, rows)
        calls = [
            app.call("query", "rows:read", {"index": index, "steps": steps, "order": order, "how": how})
            for index, steps in data.draw(st.lists(ranges(), min_size=1, max_size=4))
            for order, how in [(data.draw(st.sampled_from(ORDERS)), data.draw(st.sampled_from(HOWS)))]
        ]
        calls.append(app.call("query", "rows:points", {"ids": ids[:2]}))
        calls += [app.call("query", f"rows:{name}") for name in ("unknown_table", "shapes", "large", "best")]
        before = app.outcomes(*calls)
        edits: list[dict[str, Any]] = []
        for place in sorted(data.draw(st.sets(st.integers(0, len(ids) - 1), max_size=2))):
            change = data.draw(st.none() | documents)
            edits.append({"id": ids[place]} if change is None else {"id": ids[place], "patch": change})
        for place, row in enumerate(data.draw(st.lists(documents, max_size=2))):
            edits.append({"insert": {**row, "name": f"new {place}"}})
        if data.draw(st.booleans()):
            edits.append({"later": 1})
        (outcome,) = app.outcomes(app.call("mutation", "rows:write", {"edits": edits}))
        assert outcome.kind == "value", outcome.error
        if not outcome.writes:
            return
        written = backing.store.changes(WriteSet.unpack(outcome.writes))
        backing.commit(outcome.writes)
        for call, old, new in zip(calls, before, app.outcomes(*calls), strict=True):
            if (old.value, old.error) != (new.value, new.error):
                assert overlaps(old, written), (call.path, unpack(call.args))


def interval_count(app: GuestApp, how: str) -> int:
    """Return how many rows a query of twenty has read."""
    outcome = app.outcome(
        "query", "rows:read", {"index": "by_creation_time", "steps": [], "order": "asc", "how": how}
    )
    assert outcome.kind == "value", outcome.error
    return outcome.counters["documents_read"]


@pytest.mark.parametrize(
    ("how", "rows_read"),
    [("first", 1), ("take", 2), ("page", 2), ("iterate", 3), ("collect", 20), ("fast count", 0)],
)
def test_no_row_is_read_that_is_not_handed_out(tmp_path: Path, how: str, rows_read: int) -> None:
    backing = StoreBacking(tmp_path)
    app = GuestApp(APP, backing)
    insert(app, [{} for _ in range(20)])
    assert interval_count(app, how) == rows_read
    backing.store.close()


@pytest.mark.parametrize(("how", "last"), [("first", 0), ("take", 1), ("iterate", 2)])
def test_only_a_write_in_the_consumed_prefix_counts(tmp_path: Path, how: str, last: int) -> None:
    backing = StoreBacking(tmp_path)
    app = GuestApp(APP, backing)
    ids = insert(app, [{} for _ in range(6)])
    call = app.call(
        "query", "rows:read", {"index": "by_creation_time", "steps": [], "order": "asc", "how": how}
    )
    (outcome,) = app.outcomes(call)
    for place, id_ in enumerate(ids):
        (write,) = app.outcomes(app.call("mutation", "rows:write", {"edits": [{"id": id_}]}))
        assert overlaps(outcome, backing.store.changes(WriteSet.unpack(write.writes))) is (place <= last)
    backing.store.close()
