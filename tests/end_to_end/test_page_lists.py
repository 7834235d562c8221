"""A list that grows, on a page without a build step: rows come and go in every page of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .harness import Server

SCHEMA = """
from tidewell import Schema, table

schema = Schema(rows=table(number=float).index("by_number", "number"))
"""
MODULE = """
from tidewell import PaginationOpts, mutation, query


@query
def page(ctx, paginationOpts: PaginationOpts):
    return ctx.db.query("rows").with_index("by_number").paginate(paginationOpts)


@mutation
def fill(ctx, numbers: list[float]) -> None:
    for number in numbers:
        ctx.db.insert("rows", {"number": number})


@mutation
def remove(ctx, number: float) -> None:
    for row in ctx.db.query("rows").with_index("by_number", lambda q: q.eq("number", number)).collect():
        ctx.db.delete(row["_id"])
"""
PAGE = """
<!doctype html>
<title>Rows</title>
<p id="rows"></p>
<p id="status"></p>
<script type="module">
  import { TidewellClient } from "/tidewell.js";

  const show = (id, text) => (document.getElementById(id).textContent = text);
  window.client = new TidewellClient(location.origin);
  window.told = [];
  window.list = client.paginate("rows:page", {}, { pageSize: 3 }, ({ items, status }) => {
    const numbers = items.map(({ number }) => number).join(" ");
    told.push(numbers);
    show("rows", numbers);
    show("status", status);
  });
</script>
"""


def test_list_grows_and_stays_whole_in_a_browser(
    tmp_path: Path, serve: Callable[..., Server], run_node_tests: Callable[..., None], chromium: str
) -> None:
    functions, page = tmp_path / "app" / "functions", tmp_path / "app" / "page"
    functions.mkdir(parents=True)
    page.mkdir()
    (functions / "schema.py").write_text(SCHEMA)
    (functions / "rows.py").write_text(MODULE)
    (page / "index.html").write_text(PAGE)
    server = serve(functions)
    run_node_tests("page_list.test.js", TIDEWELL_URL=server.url, CHROMIUM=chromium)
