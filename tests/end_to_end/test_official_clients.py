"""The official clients, unmodified, against the real server."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .harness import APPS, HERE, Process, Server


def test_npm_client_under_node(serve: Callable[..., Server], run_node_tests: Callable[..., None]) -> None:
    server = serve(APPS / "values")
    run_node_tests("npm_client.test.js", TIDEWELL_URL=server.url)


def test_pypi_client(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "values")
    client = Process.start([sys.executable, HERE / "clients" / "python_client.py", server.url])
    try:
        client.wait_for_line("^all holds$")
        assert client.wait() == 0, client.output
    finally:
        client.end()
