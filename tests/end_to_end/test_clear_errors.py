"""Every mistake of a caller or an operator gets one clear line."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import APPS, DEADLINE_S, ROOT, Server, dev_command
from .http_calls import call, fetch, value_of

UNKNOWN = "Could not find public function for '{}'."


@pytest.mark.parametrize(
    "body",
    [
        b"{not json",
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"args": {}}',
        b'{"path": "values:echo", "args": {"value": NaN}}',
        b'{"path": "values:echo", "args": {"value": 1}, "format": "xml"}',
        b"[" * 100_000,
    ],
)
def test_malformed_request_is_a_400_with_one_line(values_server: Server, body: bytes) -> None:
    answer = fetch(values_server, "/api/query", body)
    assert answer.status == 400, answer
    assert answer.json["code"]
    assert answer.json["message"]
    assert "\n" not in answer.json["message"].strip()
    assert value_of(values_server, "values:echo", value=1) == 1


@pytest.mark.parametrize(
    ("kind", "path", "arguments", "text"),
    [
        (
            "query",
            "values:ecko",
            {},
            "Could not find public function for 'values:ecko'. Did you mean 'values:echo'?",
        ),
        ("query", "nothing like it", {}, UNKNOWN.format("nothing like it")),
        ("query", "values:typed", {"count": "x"}, "ArgumentValidationError: "),
        ("query", "values:typed", {}, "ArgumentValidationError: "),
        ("mutation", "values:echo", {"value": 1}, "Trying to execute values:echo as Mutation"),
    ],
)
def test_wrong_call_is_answered_with_its_reason(
    values_server: Server, kind: str, path: str, arguments: dict[str, object], text: str
) -> None:
    result = call(values_server, kind, path, **arguments)
    assert result["status"] == "error"
    assert text in result["errorMessage"]


@pytest.mark.parametrize("arguments", [b"7", b"[{}, {}]", b'{"value": {"$integer": "AQ=="}}'])
def test_arguments_that_are_no_values_are_refused_like_wrong_ones(
    values_server: Server, arguments: bytes
) -> None:
    answer = fetch(values_server, "/api/query", b'{"path": "values:echo", "args": %s}' % arguments)
    assert answer.status == 200
    assert "ArgumentValidationError: args" in answer.json["errorMessage"]


def refusal(command: list[str | Path]) -> str:
    """Run a command that must fail, and return the one line that it says."""
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert done.returncode not in (0, None), done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_second_server_on_the_same_data_is_refused(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "greeter")
    line = refusal(dev_command(APPS / "greeter", server.data, "--port", "0"))
    assert str(server.data) in line
    assert value_of(server, "greetings:hello") == "good morning"


def test_busy_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        line = refusal(dev_command(APPS / "greeter", tmp_path / "data", "--port", port))
    assert port in line


def test_unwritable_data_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file" / "data", Path("/proc/tidewell")):  # root may write anywhere else
        assert str(folder) in refusal(dev_command(APPS / "greeter", folder, "--port", "0"))


def test_missing_app_folder_is_named(tmp_path: Path) -> None:
    line = refusal(dev_command(tmp_path / "nowhere", tmp_path / "data", "--port", "0"))
    assert str(tmp_path / "nowhere") in line


def test_bad_json_on_a_socket_ends_that_socket_alone(values_server: Server) -> None:
    """By hand, since no client sends it: the answer is a FatalError, then the close."""
    host, port = values_server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as connection:
        connection.sendall(
            b"GET /api/sync HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        text = b"{not json"
        connection.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)  # masked with zeros
        received = b""
        while piece := connection.recv(65536):
            received += piece
            if b'"FatalError"' in received:
                break
    start = received.index(b'{"')
    message, _ = json.JSONDecoder().raw_decode(received[start:].decode("utf-8", "replace"))
    assert message["type"] == "FatalError"
    assert message["error"]
    assert value_of(values_server, "values:echo", value=1) == 1
