"""docs/auth.md, done as it says: its declaration, its functions, its token, its call, its answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.auth_config import read_providers

from .conftest import need
from .harness import DEADLINE_S, ROOT, Server

PAGE = (ROOT / "docs" / "auth.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_oidc_declaration_is_one() -> None:
    [provider] = read_providers(snippets("json")[0].encode())
    assert provider.is_oidc


def test_page_works_as_it_stands(
    tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, declaration, answer = snippets("json")
    functions = tmp_path / "functions"
    functions.mkdir()
    (functions / "auth.config.json").write_text(declaration)
    for source in snippets("python"):
        name = source.partition("\n")[0].removeprefix("# ")
        (tmp_path / name if name == "make_token.py" else functions / name).write_text(source)

    start, curl = snippets("sh")
    make_token, dev = start.splitlines()
    assert make_token == "TOKEN=$(python make_token.py)"
    made = subprocess.run(
        [sys.executable, "make_token.py"], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert made.returncode == 0, made.stderr
    setting, *command = dev.split()
    assert command == ["tidewell", "dev", "functions"]
    monkeypatch.setenv(*setting.split("="))
    server = serve(functions)

    need("curl")
    done = subprocess.run(
        ["sh", "-c", curl.replace("http://127.0.0.1:3210", server.url)],
        env={**os.environ, "TOKEN": made.stdout.strip()},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert json.loads(done.stdout) == json.loads(answer), done.stderr
