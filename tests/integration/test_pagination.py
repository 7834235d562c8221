"""Pages: complete, adjacent, repeatable, and bound to their query (function-semantics 10)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidewell.values import unpack

from ..sandbox.guest_app import GuestApp
from ..sandbox.memory_database import MemoryBacking
from .conftest import MakeApp

APP = {
    "schema.py": """
        from tidewell import Schema, table

        schema = Schema(rows=table(n=int, keep=bool).index("by_n", "n"))
    """,
    "rows.py": """
        from tidewell import Id, PaginationOpts, mutation, query, v

        @mutation
        def add(ctx, n: int, keep: bool = True):
            return ctx.db.insert("rows", {"n": n, "keep": keep})

        @mutation
        def edit(ctx, n: int, to: int = None):
            for row in ctx.db.query("rows").with_index("by_n", lambda q: q.eq("n", n)):
                if to is None:
                    ctx.db.delete(row["_id"])
                else:
                    ctx.db.patch(row["_id"], {"n": to})

        @query
        def page(ctx, paginationOpts: PaginationOpts, order: str = "asc", above: int = -1):
            rows = ctx.db.query("rows").with_index("by_n", lambda q: q.gt("n", above)).order(order)
            result = rows.filter(lambda q: q.field("keep")).paginate(paginationOpts)
            result["page"] = [row["n"] for row in result["page"]]
            return result

        @query
        def two_pages(ctx):
            first = ctx.db.query("rows").with_index("by_n").paginate(num_items=1)
            second = ctx.db.query("rows").with_index("by_n").order("desc").paginate(num_items=1)
            return [[row["n"] for row in page["page"]] for page in (first, second)]

        @query
        def page_of_another(ctx, cursor: str):
            return ctx.run_query("rows:page", {"paginationOpts": {"numItems": 1, "cursor": cursor}})

        @query
        def all(ctx, order: str = "asc"):
            return [row["n"] for row in ctx.db.query("rows").with_index("by_n").order(order) if row["keep"]]
    """,
}


@pytest.fixture
def app(make_app: MakeApp) -> GuestApp:
    app = make_app(APP)
    for n in range(10):
        app.mutate("rows:add", n=n)
    return app


def options(items: float = 3, cursor: str | None = None, **more: Any) -> dict[str, Any]:
    return {"numItems": items, "cursor": cursor, "id": 7, **more}


def test_pages_one_after_another_are_the_whole_range(app: GuestApp) -> None:
    for order in ("asc", "desc"):
        found: list[int] = []
        cursor, pages, is_done = None, 0, False
        while not is_done:
            page = app.query("rows:page", paginationOpts=options(cursor=cursor), order=order)
            found += page["page"]
            cursor, is_done, pages = page["continueCursor"], page["isDone"], pages + 1
        assert found == app.query("rows:all", order=order)
        assert pages == 4
        after_the_end = app.query("rows:page", paginationOpts=options(cursor=cursor), order=order)
        assert (after_the_end["page"], after_the_end["isDone"]) == ([], True)


def test_a_filter_counts_matches_not_rows(app: GuestApp) -> None:
    for n in range(3):
        app.mutate("rows:add", n=n, keep=False)
    page = app.query("rows:page", paginationOpts=options(4))
    assert page["page"] == [0, 1, 2, 3]


def test_soft_limits_stop_a_page_after_at_least_one_row(app: GuestApp) -> None:
    page = app.query("rows:page", paginationOpts=options(10, maximumRowsRead=2))
    assert (page["page"], page["isDone"], page["pageStatus"]) == ([0, 1], False, "SplitRequired")
    page = app.query("rows:page", paginationOpts=options(10, maximumBytesRead=1))
    assert (page["page"], page["pageStatus"]) == ([0], "SplitRequired")
    page = app.query("rows:page", paginationOpts=options(4, maximumRowsRead=5))
    assert page["pageStatus"] == "SplitRecommended"
    assert app.query("rows:page", paginationOpts=options(3, maximumRowsRead=5))["pageStatus"] is None


def test_a_page_splits_at_its_split_cursor(app: GuestApp) -> None:
    whole = app.query("rows:page", paginationOpts=options(5))
    ends = (None, whole["splitCursor"], whole["continueCursor"])
    halves = [
        app.query("rows:page", paginationOpts=options(1, start, endCursor=end))
        for start, end in pairwise(ends)
    ]
    assert [half["page"] for half in halves] == [[0, 1, 2], [3, 4]]
    assert halves[1]["continueCursor"] == whole["continueCursor"]
    assert app.query("rows:page", paginationOpts=options(1))["splitCursor"] is None


def rerun(app: GuestApp, opts: dict[str, Any], journal: str | None) -> tuple[dict[str, Any], str | None]:
    outcome = app.outcome("query", "rows:page", {"paginationOpts": opts}, journal=journal)
    assert outcome.kind == "value", outcome.error
    page: dict[str, Any] = unpack(outcome.value)
    return page, outcome.journal


def test_a_live_page_grows_and_shrinks_between_its_ends(app: GuestApp) -> None:
    page, journal = rerun(app, options(4), None)
    assert page["page"] == [0, 1, 2, 3]
    app.mutate("rows:add", n=2)
    app.mutate("rows:edit", n=0)
    app.mutate("rows:add", n=4)
    again, same = rerun(app, options(4), journal)
    assert again["page"] == [1, 2, 2, 3]
    assert (again["continueCursor"], same) == (page["continueCursor"], journal)


def test_a_page_keeps_its_end_over_a_failure(app: GuestApp) -> None:
    _, journal = rerun(app, options(4), None)
    call: Mapping[str, Any] = {"paginationOpts": options(4), "nonsense": 1}
    assert app.outcome("query", "rows:page", call, journal=journal).journal == journal


def test_the_last_page_takes_what_is_appended(app: GuestApp) -> None:
    page, journal = rerun(app, options(20), None)
    assert page["isDone"]
    app.mutate("rows:add", n=50)
    again, _ = rerun(app, options(20), journal)
    assert (again["page"][-1], again["isDone"]) == (50, True)


def test_several_pages_in_one_execution_have_an_end_each(app: GuestApp) -> None:
    first = app.outcome("query", "rows:two_pages")
    assert unpack(first.value) == [[0], [9]]
    app.mutate("rows:add", n=-5)
    app.mutate("rows:add", n=50)
    again = app.outcome("query", "rows:two_pages", journal=first.journal)
    assert unpack(again.value) == [[-5, 0], [50, 9]]
    assert again.journal == first.journal


def test_a_cursor_of_another_query_is_refused(app: GuestApp) -> None:
    cursor = app.query("rows:page", paginationOpts=options())["continueCursor"]
    flipped = ("A" if cursor[20] != "A" else "B").join((cursor[:20], cursor[21:]))
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (options(cursor=cursor), {"order": "desc"}),
        (options(cursor=cursor), {"above": 2}),
        (options(cursor=flipped), {}),
        (options(cursor="nonsense"), {}),
        (options(cursor=""), {}),
        (options(cursor="é"), {}),
        (options(endCursor=cursor[:-4]), {}),
    ]
    for opts, more in cases:
        outcome = app.outcome("query", "rows:page", {"paginationOpts": opts, **more})
        assert outcome.code == "InvalidCursor"
        assert outcome.error.startswith("Uncaught InvalidCursor: ")
        assert outcome.error_data is not None
        assert unpack(outcome.error_data) == {
            "isConvexSystemError": True,
            "paginationError": "InvalidCursor",
        }


def test_a_nested_query_tells_of_an_invalid_cursor_too(app: GuestApp) -> None:
    outcome = app.outcome("query", "rows:page_of_another", {"cursor": "nonsense"})
    assert (outcome.code, outcome.kind) == ("InvalidCursor", "app_error")


def test_a_journal_of_another_query_is_refused(app: GuestApp) -> None:
    _, journal = rerun(app, options(), None)
    call: Mapping[str, Any] = {"paginationOpts": options(), "order": "desc"}
    for wrong in (journal, "nonsense", "."):
        outcome = app.outcome("query", "rows:page", call, journal=wrong)
        assert (outcome.code, outcome.journal) == ("InvalidCursor", None)


@pytest.mark.parametrize("opts", [options(0), options(-1), options(float("nan")), {"numItems": 1}, {}])
def test_options_that_make_no_sense_are_refused(app: GuestApp, opts: dict[str, Any]) -> None:
    assert app.outcome("query", "rows:page", {"paginationOpts": opts}).kind == "function"


@attrs.frozen
class Edit:
    n: int
    to: int | None  # another key, None to delete; equal to `n` inserts


edits = st.builds(Edit, st.integers(0, 30), st.none() | st.integers(0, 30))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.lists(st.integers(0, 30), max_size=12),
    items=st.integers(1, 4),
    steps=st.lists(edits, max_size=6),
    order=st.sampled_from(["asc", "desc"]),
)
def test_live_pages_joined_are_the_range_after_every_edit(
    start: list[int], items: int, steps: list[Edit], order: str
) -> None:
    app = GuestApp(APP, MemoryBacking())
    for n in start:
        app.mutate("rows:add", n=n)
    pages: list[tuple[dict[str, Any], str | None]] = []  # options and journal of each live page

    def run(opts: dict[str, Any], journal: str | None) -> tuple[dict[str, Any], str | None]:
        outcome = app.outcome("query", "rows:page", {"paginationOpts": opts, "order": order}, journal=journal)
        assert outcome.kind == "value", outcome.error
        return unpack(outcome.value), outcome.journal

    def load_all() -> None:
        cursor, is_done = None, False
        while not is_done:
            opts = options(items, cursor)
            page, journal = run(opts, None)
            pages.append((opts, journal))
            cursor, is_done = page["continueCursor"], page["isDone"]

    load_all()
    for edit in [None, *steps]:
        if edit is not None and edit.to == edit.n:
            app.mutate("rows:add", n=edit.n)
        elif edit is not None:
            arguments = {} if edit.to is None else {"to": edit.to}
            app.mutate("rows:edit", n=edit.n, **arguments)
        joined: list[int] = []
        for opts, journal in pages:
            page, produced = run(opts, journal)
            assert produced == journal
            joined += page["page"]
        assert joined == app.query("rows:all", order=order)
