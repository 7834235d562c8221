"""Both front ends of Waypoint, each in two windows of a real browser."""

from __future__ import annotations

from collections.abc import Callable

from .harness import WAYPOINT, Process, Server
from .http_calls import fetch


def test_page_in_two_windows(
    serve: Callable[..., Server], run_node_tests: Callable[..., None], chromium: str
) -> None:
    server = serve(WAYPOINT / "functions")
    run_node_tests("page.test.js", TIDEWELL_URL=server.url, CHROMIUM=chromium)


def test_page_survives_a_restart_of_the_server(
    serve: Callable[..., Server],
    start_client: Callable[..., Process],
    chromium: str,
) -> None:
    server = serve(WAYPOINT / "functions")
    page = start_client("page_over_restart.js", server, CHROMIUM=chromium)
    page.wait_for_line("ready for the stop")
    server.kill()
    page.tell("stopped")
    page.wait_for_line("ready for the start")
    server.start()
    page.tell("started")
    page.wait_for_line("all holds")
    assert page.wait() == 0, page.output


def test_react_front_end_in_two_windows(
    serve: Callable[..., Server],
    built_web: Callable[[Server], str],
    run_node_tests: Callable[..., None],
    chromium: str,
) -> None:
    server = serve(WAYPOINT / "functions")
    run_node_tests("web.test.js", WEB_URL=built_web(server), CHROMIUM=chromium)


def test_server_serves_the_page_and_the_module_it_imports(serve: Callable[..., Server]) -> None:
    server = serve(WAYPOINT / "functions")
    page = fetch(server, "/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert b"<title>Waypoint</title>" in page.body
    for path in ("/tidewell.js", "/app.js"):
        script = fetch(server, path)
        assert script.status == 200
        assert script.headers["content-type"].startswith("text/javascript")  # or browsers refuse a module
    assert fetch(server, "/style.css").headers["content-type"].startswith("text/css")
    assert fetch(server, "/icon.svg").headers["content-type"].startswith("image/svg+xml")


def test_nothing_outside_the_page_folder_is_served(serve: Callable[..., Server]) -> None:
    server = serve(WAYPOINT / "functions")
    for path in (
        "/../functions/posts.py",
        "/%2e%2e/functions/posts.py",
        "/..%2ffunctions/posts.py",
        "//etc/passwd",
    ):
        answer = fetch(server, path)
        assert answer.status in (400, 404), path
        assert b"def " not in answer.body
        assert b"root:" not in answer.body


def test_official_react_client_under_jsdom(
    serve: Callable[..., Server], run_node_tests: Callable[..., None]
) -> None:
    server = serve(WAYPOINT / "functions")
    run_node_tests("react_jsdom.test.js", TIDEWELL_URL=server.url)
