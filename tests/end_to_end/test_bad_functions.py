"""What a careless or wicked function does ends in a clear error of that call, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .harness import APPS, Server
from .http_calls import call, value_of


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("query", "loop_for_ever", ("limit", "steps")),
        ("mutation", "recurse_for_ever", ("limit", "recursion", "deep")),
        ("query", "hoard_small", ("limit", "memory", "more than")),
        ("query", "hoard_doubling", ("limit", "memory", "more than")),
        ("query", "hoard_at_once", ("limit", "memory", "more than")),
        ("query", "reach_for_class", ("__class__", "not allowed", "attribute")),
    ],
)
def test_bad_call_gets_its_error_and_the_next_call_succeeds(
    hostile_server: Server, kind: str, name: str, words: tuple[str, ...]
) -> None:
    result = call(hostile_server, kind, f"hostile:{name}")
    assert result["status"] == "error", result
    message = result["errorMessage"]
    assert any(word in message.lower() for word in words), message
    assert "Traceback" not in message
    assert value_of(hostile_server, "hostile:innocent") == "still here"


def test_others_are_served_while_functions_loop(hostile_server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        looping = [pool.submit(call, hostile_server, "query", "hostile:loop_for_ever") for _ in range(4)]
        innocent = [pool.submit(value_of, hostile_server, "hostile:innocent") for _ in range(20)]
        assert [answer.result() for answer in innocent] == ["still here"] * 20
        assert all(answer.result()["status"] == "error" for answer in looping)


@pytest.mark.parametrize(
    ("source", "line", "word"),
    [
        ("def f(:\n    pass\n", 1, "syntax"),
        ("from tidewell import query\n\nimport os\n", 3, "os"),
        ("from tidewell import query\n\n@query\ndef q(ctx):\n    return ().__class__\n", 5, "__class__"),
        ("from tidewell import query\n\n@query\ndef q(ctx):\n    return eval('1')\n", 5, "eval"),
        ("from tidewell import nothing_of_this_name\n", 1, "nothing_of_this_name"),
        ("1 / 0\n", 1, "ZeroDivisionError"),
        ("while True:\n    pass\n", 1, "steps"),
    ],
)
def test_bad_module_is_refused_with_its_place_and_the_old_code_stays(
    serve: Callable[..., Server], tmp_path: Path, source: str, line: int, word: str
) -> None:
    app = tmp_path / "app"
    shutil.copytree(APPS / "greeter", app)
    server = serve(app)
    since = len(server.process.lines)
    (app / "bad.py").write_text(source)
    server.process.wait_for_line(rf"bad\.py.*\b{line}\b", since)
    server.process.wait_for_line(rf"(?i){word}", since)
    assert "Traceback" not in server.process.output
    assert value_of(server, "greetings:hello") == "good morning"
