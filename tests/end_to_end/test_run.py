"""`tidewell run`: functions of every kind from a shell, and errors of one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import APPS, DEADLINE_S, Process, Server


def command(server: Server, *words: str) -> list[str]:
    where = ["--url", server.url, "--data", str(server.data)]
    return [sys.executable, "-m", "engine", "run", *words, *where]


def run(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(server, *words), capture_output=True, text=True, timeout=DEADLINE_S)


@pytest.mark.parametrize(
    ("path", "printed"),
    [
        ("values:echo", '{"$integer":"BQAAAAAAAAA="}'),  # a query
        ("values:act", '{"$integer":"BQAAAAAAAAA="}'),  # an action
        ("values:hidden", '{"$integer":"BQAAAAAAAAA="}'),  # internal
    ],
)
def test_functions_of_every_kind_are_called(values_server: Server, path: str, printed: str) -> None:
    done = run(values_server, path, '{"value": {"$integer": "BQAAAAAAAAA="}}')
    assert (done.returncode, done.stdout) == (0, printed + "\n"), done.stderr


def test_a_mutation_is_run_once(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "counter")
    for count in (1, 2):
        done = run(server, "counters:increment", '{"name": "a"}')
        assert (done.returncode, done.stdout) == (0, f"{count}\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["values:nope"], "Could not find function for 'values:nope'"),
        (["value:ehco"], "Did you mean 'values:echo'?"),
        (["values:echo", "--as-of", "1", "--watch"], "--watch follows changes"),
        (["values:fail"], "Uncaught ValueError: no such channel"),
        (["values:refuse", '{"data": {"code": "FULL"}}'], 'AppError: {"code":"FULL"}'),
        (["values:echo", "{"], "ARGS-JSON: malformed JSON"),
        (["values:echo", "[1]"], "ARGS-JSON is one JSON object"),
        (["values:echo", "--as", "3"], "CLAIMS-JSON is one JSON object"),
        (["values:echo", "--url", "http://127.0.0.1:9"], "http://127.0.0.1:9: "),
        (["values:echo", "--url", "nowhere"], "'nowhere' is not the URL of a deployment"),
        (["values:echo", "--as", "{}", "--data", "nowhere"], "--as needs the admin key"),
    ],
)
def test_what_goes_wrong_is_one_line(values_server: Server, words: list[str], told: str) -> None:
    where = [option for option in ("--url", "--data") if option not in words]
    given = {"--url": values_server.url, "--data": str(values_server.data)}
    options = [word for option in where for word in (option, given[option])]
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", *words, *options],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_function_is_called_as_a_person(serve: Callable[..., Server], tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "people.py").write_text(
        "from tidewell import query\n\n@query\ndef me(ctx):\n    return ctx.auth.get_user_identity()\n"
    )
    server = serve(app)
    claims = {"issuer": "https://example.com", "name": "Ada", "subject": "ada"}
    done = run(server, "people:me", "--as", json.dumps(claims))
    assert done.returncode == 0, done.stderr
    assert claims.items() <= json.loads(done.stdout).items()
    assert run(server, "people:me").stdout == "null\n"


def test_watching_prints_each_result(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "counter")
    watching = Process.start(command(server, "counters:value", '{"name": "a"}', "--watch"))
    try:
        watching.wait_for_line("^0$")
        assert run(server, "counters:increment", '{"name": "a"}').returncode == 0
        watching.wait_for_line("^1$")
        assert watching.stop(signal.SIGINT) == 130
    finally:
        watching.end()
    assert watching.lines == ["0", "1"]
