"""`tidewell dev` from start to end: push on save, logs, signals, and data that stays."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import APPS, Process, Server
from .http_calls import call, value_of
from .watcher import Watcher


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_server_cleanly(serve: Callable[..., Server], number: signal.Signals) -> None:
    server = serve(APPS / "counter")
    assert call(server, "mutation", "counters:increment", name="x")["value"] == 1
    assert server.process.stop(number) == 0, server.process.output
    assert "Traceback" not in server.process.output


def test_restart_keeps_the_data(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "counter")
    for _ in range(3):
        call(server, "mutation", "counters:increment", name="x")
    server.process.stop()
    server.start()
    assert value_of(server, "counters:value", name="x") == 3
    assert call(server, "mutation", "counters:increment", name="x")["value"] == 4


def test_printed_text_appears_in_the_log(serve: Callable[..., Server]) -> None:
    server = serve(APPS / "shelves")
    result = call(server, "mutation", "books:say", text="good evening")
    assert result["logLines"] == ["[LOG] 'good evening'"] or result["logLines"] == ["[LOG] good evening"]
    server.process.wait_for_line("good evening")


def test_save_is_pushed_and_reaches_who_watches(
    serve: Callable[..., Server], start_client: Callable[..., Process], tmp_path: Path
) -> None:
    app = tmp_path / "app"
    shutil.copytree(APPS / "greeter", app)
    server = serve(app)
    watcher = Watcher(server, start_client("watch.js", server))
    watcher.watch("greetings:hello")
    watcher.saw("hello/", "good morning")
    source = (app / "greetings.py").read_text()
    (app / "greetings.py").write_text(source.replace("morning", "evening"))
    watcher.saw("hello/", "good evening")


def test_broken_save_keeps_the_old_code_until_mended(serve: Callable[..., Server], tmp_path: Path) -> None:
    app = tmp_path / "app"
    shutil.copytree(APPS / "greeter", app)
    server = serve(app)
    source = (app / "greetings.py").read_text()

    since = len(server.process.lines)
    (app / "greetings.py").write_text(source.replace('return "good morning"', "return ]"))
    server.process.wait_for_line(r"greetings\.py.*\b6\b", since)
    assert value_of(server, "greetings:hello") == "good morning"

    since = len(server.process.lines)
    (app / "greetings.py").write_text(source.replace("morning", "night"))
    server.process.wait_for_line("(?i)pushed", since)
    assert value_of(server, "greetings:hello") == "good night"
