"""A server outside, for actions that fetch: real HTTP on the loopback, in threads."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MEET_S_MAX = 30.0  # a test that waits so long has failed


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    meeting: threading.Barrier


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        name, _, rest = self.path.lstrip("/").partition("/")
        if name == "meet":  # answers two at once, and never one alone
            self.server.meeting.wait(MEET_S_MAX)
            self._answer(200, {"met": rest})
        elif name == "status":
            self._answer(int(rest), {})
        elif name == "bytes":
            self._answer_bytes(200, b"x" * int(rest), "application/octet-stream")
        elif name == "away":
            self.send_response(302)
            self.send_header("location", "/echo")
            self.send_header("content-length", "0")
            self.end_headers()
        elif name.endswith(".json"):
            self._answer(200, {"rate": {"eur.json": 1.0, "usd.json": 1.25}[name]})
        else:
            self._echo()

    def do_POST(self) -> None:
        self._echo()

    def _echo(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self._answer(
            200,
            {
                "body": body.decode(),
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "method": self.command,
                "path": self.path,
            },
        )

    def _answer(self, status: int, told: Any) -> None:
        self._answer_bytes(status, json.dumps(told).encode(), "application/json")

    def _answer_bytes(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (("content-type", kind), ("content-length", str(len(data)))):
            self.send_header(name, value)
        self.send_header("x-many", "one")
        self.send_header("x-many", "two")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def upstream() -> Iterator[str]:
    """Run the server; its URL, without a slash at the end."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.meeting = threading.Barrier(2)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
