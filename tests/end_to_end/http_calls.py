"""Calls over HTTP as curl makes them, for tests that need one answer and no client."""

from __future__ import annotations

import http.client
import json
from email.message import Message
from typing import Any
from urllib.parse import urlsplit

import attrs

from .harness import DEADLINE_S, Server


@attrs.frozen
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(method: str, url: str, body: Any = None, **headers: str) -> Answer:
    """Make one request; the names of headers are given with `_` for `-`."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=DEADLINE_S)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body, named)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def fetch(server: Server, path: str, body: bytes | None = None) -> Answer:
    if body is None:
        return ask("GET", server.url + path)
    return ask("POST", server.url + path, body, Content_Type="application/json")


def call(server: Server, kind: str, path: str, **arguments: Any) -> dict[str, Any]:
    """Call a function and return the whole result, be it a success or an error."""
    body = json.dumps({"path": path, "args": arguments, "format": "json"}).encode()
    answer = fetch(server, f"/api/{kind}", body)
    assert answer.status == 200, answer
    result: dict[str, Any] = answer.json
    return result


def value_of(server: Server, path: str, **arguments: Any) -> Any:
    result = call(server, "query", path, **arguments)
    assert result["status"] == "success", result
    return result["value"]
