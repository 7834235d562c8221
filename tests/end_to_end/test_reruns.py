"""A watched query runs again when a commit wrote where it had looked, and only then.

The queries of the app print a line when they run. Since lines are printed in order, a
`sentinel` printed by a later mutation means that all earlier ones are here.
"""

from __future__ import annotations

from collections.abc import Callable

from .harness import APPS, Process, Server
from .watcher import Watcher


def test_commit_elsewhere_does_not_rerun_a_query(
    serve: Callable[..., Server], start_client: Callable[..., Process]
) -> None:
    server = serve(APPS / "shelves")
    watcher = Watcher(server, start_client("watch.js", server))
    watcher.mutate("books:put", shelf="a", title="Ada")
    watcher.watch("books:on_shelf", shelf="a")
    watcher.watch("books:on_shelf", shelf="b")
    watcher.saw("on_shelf/a", ["Ada"])
    watcher.saw("on_shelf/b", [])
    assert watcher.runs("on_shelf a") == 1
    for title in ("Babel", "Beloved", "Brave"):
        watcher.mutate("books:put", shelf="b", title=title)
    watcher.saw("on_shelf/b", ["Babel", "Beloved", "Brave"])
    assert watcher.runs("on_shelf a") == 1
    watcher.mutate("books:put", shelf="a", title="Alice")
    watcher.saw("on_shelf/a", ["Ada", "Alice"])
    assert watcher.runs("on_shelf a") == 2


def test_insert_into_an_empty_range_that_was_scanned_reruns_the_query(
    serve: Callable[..., Server], start_client: Callable[..., Process]
) -> None:
    server = serve(APPS / "shelves")
    watcher = Watcher(server, start_client("watch.js", server))
    watcher.watch("books:on_shelf", shelf="empty")
    watcher.saw("on_shelf/empty", [])
    watcher.mutate("books:put", shelf="empty", title="Emma")
    watcher.saw("on_shelf/empty", ["Emma"])
    assert watcher.runs("on_shelf empty") == 2


def test_insert_beyond_the_last_row_taken_does_not_rerun_the_query(
    serve: Callable[..., Server], start_client: Callable[..., Process]
) -> None:
    server = serve(APPS / "shelves")
    watcher = Watcher(server, start_client("watch.js", server))
    for title in ("A", "C", "E"):
        watcher.mutate("books:put", shelf="s", title=title)
    watcher.watch("books:first_two", shelf="s")
    watcher.saw("first_two/s", ["A", "C"])
    watcher.mutate("books:put", shelf="s", title="D")
    assert watcher.runs("first_two s") == 1
    watcher.mutate("books:put", shelf="s", title="B")
    watcher.saw("first_two/s", ["A", "B"])
    assert watcher.runs("first_two s") == 2


def test_query_runs_once_however_many_connections_watch_it(
    serve: Callable[..., Server], start_client: Callable[..., Process]
) -> None:
    server = serve(APPS / "shelves")
    watcher = Watcher(server, start_client("watch.js", server, "8"))
    watcher.watch("books:on_shelf", shelf="a")
    for connection in range(8):
        watcher.saw("on_shelf/a", [], connection)
    assert watcher.runs("on_shelf a") == 1
    watcher.mutate("books:put", shelf="a", title="Ada")
    for connection in range(8):
        watcher.saw("on_shelf/a", ["Ada"], connection)
    assert watcher.runs("on_shelf a") == 2
