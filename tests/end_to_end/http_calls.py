"""Calls over HTTP as curl makes them, for tests that need one answer and no client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from email.message import Message
from typing import Any

import attrs

from .harness import DEADLINE_S, Server


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def fetch(server: Server, path: str, body: bytes | None = None) -> Answer:
    request = urllib.request.Request(server.url + path, data=body)
    if body is not None:
        request.add_header("content-type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
            return Answer(response.status, lowered(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, lowered(error.headers), error.read())


def lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


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
