"""Signals to `tidewell dev`, in a process of its own: the first ends in order, the second at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .deployed import write_app

# Waits for answers from itself for much longer than anybody would.
APP = {
    "jobs.py": """
        from tidewell import action, query


        @query
        def one(ctx) -> int:
            return 1


        @action
        def ask_for_ever(ctx) -> int:
            total = 0
            for _ in range(50_000):
                total += ctx.run_query("jobs:one")
            return total
        """
}


class Server:
    def __init__(self, folder: Path) -> None:
        app = write_app(folder / "functions", APP)
        command = [
            sys.executable,
            "-m",
            "engine",
            "dev",
            str(app),
            "--port",
            "0",
            "--data",
            str(folder / "data"),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for(self, text: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if text in line:
                return line
        pytest.fail(f"it ended without saying {text!r}")

    def rest(self) -> str:
        return self.process.communicate()[0]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    with server.process:
        yield server
        server.process.kill()


def ask(url: str) -> None:
    body = b'{"path": "jobs:ask_for_ever", "args": {}, "format": "json"}'
    request = urllib.request.Request(
        f"{url}/api/action", body, {"content-type": "application/json"}, method="POST"
    )
    with suppress(OSError):  # the server goes away, as the test wants
        urllib.request.urlopen(request).read()


def test_second_signal_gives_up_what_is_under_way(server: Server) -> None:
    url = server.wait_for("serving").split(" at ")[-1].strip()
    client = threading.Thread(target=ask, args=(url,))
    client.start()
    server.process.send_signal(signal.SIGINT)
    server.wait_for("Stopping on SIGINT")
    server.process.send_signal(signal.SIGINT)
    rest = server.rest()
    client.join()
    assert server.process.returncode == 0, rest
    assert "Traceback" not in rest
    assert "Stopped." in rest


def test_signal_during_start_up_ends_it_in_order(server: Server, tmp_path: Path) -> None:
    key = tmp_path / "data" / "admin-key"
    while not key.exists():  # long before it serves
        assert server.process.poll() is None
    server.process.send_signal(signal.SIGINT)
    rest = server.rest()
    assert "Traceback" not in rest
    assert server.process.returncode == 0, rest
