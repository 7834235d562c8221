"""HTTP actions of a served app, asked as anybody's HTTP client asks."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import shared
from .harness import APPS, DEADLINE_S, ROOT, Server
from .http_calls import Answer, ask


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from shared(APPS / "site", tmp_path_factory)


def site_of(server: Server) -> str:
    return server.process.wait_for_line(r"HTTP actions at http://(\S+)")[1]


def ask_site(server: Server, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    return ask(method, f"http://{site_of(server)}{path}", body, **headers)


def test_hook_of_another_module_writes_and_answers(server: Server) -> None:
    answer = ask_site(server, "POST", "/hook", json.dumps({"text": "hi"}))
    assert (answer.status, answer.headers["x-count"]) == (201, "1")
    assert answer.text == "1 texts"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_request_is_shown_as_it_came(server: Server) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        body = None if method == "GET" else b"\x00\xff"
        answer = ask_site(server, method, "/echo/a/b?q=1&q=%C3%A9", body, User_Agent="tester")
        assert answer.json == {
            "method": method,
            "path": "/echo/a/b",
            "url": f"http://{site_of(server)}/echo/a/b?q=1&q=%C3%A9",
            "all": ["1", "é"],
            "first": "1",
            "none": "nothing",
            "agent": "tester",
            "size": 0 if method == "GET" else 2,
        }


def test_exact_path_wins_and_then_the_longest_prefix(server: Server) -> None:
    assert ask_site(server, "GET", "/echo/exact").text == "exact"
    assert ask_site(server, "GET", "/echo/exact").headers.get_all("set-cookie") == ["a=1", "b=2"]
    assert ask_site(server, "GET", "/echo/longer/than").text == "longer"
    assert ask_site(server, "GET", "/echo/else").headers["x-route"] == "echo"
    assert ask_site(server, "PUT", "/echo/exact").headers["x-route"] == "echo"
    assert ask_site(server, "GET", "/echo").status == 404
    assert ask_site(server, "GET", "/nothing").json["code"] == "NotFound"


def test_head_is_answered_by_the_route_for_get(server: Server) -> None:
    answer = ask_site(server, "HEAD", "/echo/exact")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")
    assert ask_site(server, "HEAD", "/stream?count=1").body == b""


def test_app_owns_cors(server: Server) -> None:
    answer = ask_site(server, "OPTIONS", "/who", Origin="https://page.example")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["access-control-allow-credentials"] is None
    assert ask_site(server, "OPTIONS", "/hook").status == 404


def test_bad_token_reaches_the_handler_and_only_asking_who_calls_fails(server: Server) -> None:
    assert ask_site(server, "GET", "/who").text == "nobody"
    for authorization in ("Bearer nonsense", "Basic abc", "Convex abc"):
        answer = ask_site(server, "GET", "/who", Authorization=authorization)
        assert answer.status == 403
        assert answer.text.startswith("refused: the token of this request was refused: ")
        assert ask_site(server, "GET", "/echo/exact", Authorization=authorization).text == "exact"


def test_form_is_read(server: Server) -> None:
    kind = "application/x-www-form-urlencoded"
    assert ask_site(server, "POST", "/form", "name=a+b&tag=%31&tag=2", Content_Type=kind).text == "a b, 1, 2"
    answer = ask_site(server, "POST", "/form", "{}", Content_Type="application/json")
    assert "form() reads application/x-www-form-urlencoded, found application/json" in answer.text
    answer = ask_site(server, "POST", "/form", "name=" + "%41" * 400_000, Content_Type=kind)
    assert "form() reads at most 1048576 characters, found 1200005" in answer.text


def test_pieces_of_a_stream_leave_while_the_rest_is_made(server: Server) -> None:
    connection = http.client.HTTPConnection(site_of(server), timeout=DEADLINE_S)
    connection.request("GET", "/stream?count=300")
    response = connection.getresponse()
    assert response.getheader("transfer-encoding") == "chunked"
    assert response.readline() == b"0\n"
    ended = server.process.count(r"A http:stream")
    rest = response.read()
    connection.close()
    assert rest == b"".join(b"%d\n" % number for number in range(1, 300))
    server.process.wait_for_line(r"A http:stream", 0)
    assert server.process.count(r"A http:stream") >= ended


def test_client_that_leaves_ends_its_stream(server: Server) -> None:
    since = len(server.process.lines)
    connection = http.client.HTTPConnection(site_of(server), timeout=DEADLINE_S)
    connection.request("GET", "/stream?count=1000000")
    assert connection.getresponse().readline() == b"0\n"
    connection.close()
    server.process.wait_for_line(r"the client has gone", since)
    assert ask_site(server, "GET", "/echo/exact").text == "exact"


def test_what_is_thrown_before_the_head_is_told(server: Server) -> None:
    answer = ask_site(server, "GET", "/fail")
    assert answer.status == 500
    assert answer.json["code"].endswith("Server Error: ValueError: no such channel")
    assert answer.json["code"].startswith("[Request ID: ")
    assert "at fail (http.py:" in answer.json["trace"]
    assert ask_site(server, "GET", "/fail?kind=data").json["data"] == {"code": "NO"}
    assert "an HTTP action returns Response(...)" in ask_site(server, "GET", "/fail?kind=none").json["code"]
    assert "is no header" in ask_site(server, "GET", "/fail?kind=header").json["code"]


def test_what_is_thrown_after_the_head_cuts_the_answer_off(server: Server) -> None:
    with pytest.raises(http.client.IncompleteRead):
        ask_site(server, "GET", "/fail?kind=stream")


def test_bodies_of_20_mib_pass_and_larger_ones_do_not(server: Server) -> None:
    assert ask_site(server, "POST", "/echo/large", bytes(20 * 2**20)).json["size"] == 20 * 2**20
    assert ask_site(server, "POST", "/echo/large", bytes(20 * 2**20 + 1)).status == 413
    assert len(ask_site(server, "GET", f"/bytes?size={2**20}").body) == 2**20
    answer = ask_site(server, "POST", "/mirror", bytes(20 * 2**20))
    assert (len(answer.body), answer.headers["content-length"]) == (20 * 2**20, str(20 * 2**20))


def test_main_origin_has_the_routes_below_http(server: Server) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=DEADLINE_S)
    connection.request("GET", "/http/echo/exact")
    assert connection.getresponse().read() == b"exact"
    connection.close()


@pytest.mark.parametrize("path", ["inbox:hook", "http:echo"])
def test_nobody_calls_an_http_action_but_requests(server: Server, path: str) -> None:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=DEADLINE_S)
    key = (server.data / "admin-key").read_text().strip()
    body = json.dumps({"path": path, "args": {}})
    for address, headers in (("/api/action", {}), ("/api/function", {"authorization": f"Convex {key}"})):
        connection.request("POST", address, body, headers)
        told = json.load(connection.getresponse())
        assert f"Could not find public function for '{path}'" in told["errorMessage"], told
    connection.close()


def test_socket_is_not_served_on_the_port_of_the_site(server: Server) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Version": "13",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    assert ask_site(server, "GET", "/echo/upgrade", **upgrade).status == 404


def test_app_of_the_guide_does_what_it_says(serve: Callable[..., Server], tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "http-actions.md").read_text()
    functions = tmp_path / "app" / "functions"
    functions.mkdir(parents=True)
    for name, code in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", guide, re.DOTALL):
        (functions / name).write_text(code)
    server = serve(functions)
    commands = re.findall(r"^curl http://127\.0\.0\.1:\d+(\S+)(?: -d '(.*)')?$", guide, re.MULTILINE)
    [(hook, text), (feed, _)] = commands
    assert ask_site(server, "POST", hook, text).text == "1 so far"
    assert ask_site(server, "GET", feed.removeprefix("/http")).text == "hello\n"


def test_routes_that_cannot_be_are_errors_of_the_push(serve: Callable[..., Server], tmp_path: Path) -> None:
    functions = tmp_path / "app" / "functions"
    functions.mkdir(parents=True)
    twice = 'router.route(path="/a", method="GET", handler=h)\n' * 2
    head = "from tidewell import Response, Router, http_action\n\nrouter = Router()\n\n\n@http_action\n"
    (functions / "http.py").write_text(head + 'def h(ctx, request):\n    return Response("")\n\n\n' + twice)
    server = serve(functions)
    server.process.wait_for_line(r"http\.py:12: the route GET /a is there twice")
    since = len(server.process.lines)
    (functions / "http.py").write_text(head + "def h(ctx):\n    return None\n")
    server.process.wait_for_line(r"http\.py:7: an HTTP action takes ctx and request", since)
    (functions / "http.py").write_text("router = 7\n")
    server.process.wait_for_line(r"http\.py: the variable router must be Router\(\)", since)
