"""`tidewell serve`: a deployment in production, what its clients are told, and what they may take."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import APPS, DEADLINE_S, ROOT, Process

Start = Callable[..., tuple[Process, str, str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Serve `tmp_path/data`; gives the process, its address and its site's."""
    processes: list[Process] = []

    def serve(*options: str) -> tuple[Process, str, str]:
        command = [sys.executable, "-m", "engine", "serve", "--data", tmp_path / "data", "--port", "0"]
        process = Process.start([*command, *options])
        processes.append(process)
        address = process.wait_for_line(r"Tidewell is serving .* at http://(\S+)")[1]
        return process, address, process.wait_for_line(r"HTTP actions at https?://(\S+)")[1]

    yield serve
    for process in processes:
        process.end()


def push(app: Path, address: str, data: Path) -> None:
    command = [sys.executable, "-m", "engine", "push", app, "--url", f"http://{address}", "--data", data]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def call(address: str, kind: str, path: str, **args: Any) -> dict[str, Any]:
    connection = http.client.HTTPConnection(address, timeout=DEADLINE_S)
    connection.request("POST", f"/api/{kind}", json.dumps({"path": path, "args": args}))
    told: dict[str, Any] = json.load(connection.getresponse())
    connection.close()
    return told


def test_pushed_code_is_served_and_errors_are_for_the_log(start: Start, tmp_path: Path) -> None:
    process, address, site = start()
    process.wait_for_line(r"nothing was pushed yet: tidewell push APP --url http://\S+ --data ")
    functions = tmp_path / "functions"
    shutil.copytree(APPS / "values", functions)
    shutil.copytree(APPS / "site", functions, dirs_exist_ok=True)
    push(functions, address, tmp_path / "data")

    assert call(address, "query", "values:echo", value="x")["value"] == "x"
    told = call(address, "mutation", "values:fail")
    text = told["errorMessage"]
    assert text.startswith("[Request ID: ")
    assert text.endswith("] Server Error"), text
    assert told["logLines"] == []
    request_id = text[13:29]
    process.wait_for_line(rf"M values:fail .*request {request_id}")
    process.wait_for_line(r"ValueError: no such channel")
    where = ["--url", f"http://{address}", "--data", str(tmp_path / "data")]
    command = [sys.executable, "-m", "engine", "run", "values:refuse", '{"data": "of a mutation"}', *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.stderr == 'Error: AppError: "of a mutation"\n', done.stdout

    refused = call(address, "mutation", "values:refuse", data={"code": "NO"})
    assert refused["errorData"] == {"code": "NO"}
    assert refused["errorMessage"].endswith("] Server Error")

    connection = http.client.HTTPConnection(site, timeout=DEADLINE_S)
    connection.request("GET", "/fail?kind=data")
    told = json.load(connection.getresponse())
    connection.close()
    assert set(told) == {"code", "data"}
    assert told["code"].endswith("] Server Error")

    assert process.stop() == 0
    _, address, site = start("--site-origin", "https://site.example")
    assert site == "site.example"
    assert call(address, "query", "values:echo", value="still there")["value"] == "still there"


def open_socket(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    stream = socket.create_connection((host, int(port)), timeout=DEADLINE_S)
    stream.sendall(
        b"GET /api/sync HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    return stream


def read_close(stream: socket.socket) -> tuple[int, str]:
    """The code and the reason of the frame that comes next, which is to be a close."""
    kind, size = stream.recv(1), stream.recv(1)[0]
    assert kind == b"\x88"
    payload = b""
    while len(payload) < size:
        payload += stream.recv(size - len(payload))
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


def test_clients_of_a_deployment_are_limited_by_options(start: Start) -> None:
    _, address, _ = start("--max-sockets", "1", "--max-message-bytes", "2000")
    with open_socket(address) as first, open_socket(address) as second:
        assert read_close(second) == (1013, "TooManyConcurrentRequests")
        # A text of 3,000 bytes, masked with zeros.
        first.sendall(b"\x81\xfe" + (3000).to_bytes(2, "big") + bytes(4) + b" " * 3000)
        assert read_close(first)[0] == 1009


def test_page_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "engine", "serve", "--data", tmp_path, "--page", tmp_path / "none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    assert done.stderr == f"Error: --page {tmp_path / 'none'} is not a folder\n"
