"""Every snippet of README.md runs: as functions, in a plain page, in a React component."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import build_front_end, install_packages
from .harness import DEADLINE_S, ROOT, WAYPOINT, Process, Server
from .http_calls import call, value_of

README = (ROOT / "README.md").read_text()

SEED = """
from tidewell import mutation

@mutation
def plant(ctx) -> list[str]:
    user = ctx.db.insert("users", {"name": "Ada", "key": "ada"})
    post = {"author": user, "place": "Lisbon", "text": "Trams!", "likes": 0}
    return [user, ctx.db.insert("posts", post)]
"""

REACT_MAIN = """
import React from "react";
import {{ createRoot }} from "react-dom/client";
import {{ ConvexProvider, ConvexReactClient }} from "convex/react";
{imports}

function Places() {{
  {body}
  return <button onClick={{() => like({{ post_id: posts[0]._id, user_id: posts[0].author }})}}>
    {{posts === undefined ? "loading" : `likes: ${{posts[0].likes}}`}}
  </button>;
}}

const client = new ConvexReactClient(import.meta.env.VITE_CONVEX_URL);
createRoot(document.body).render(<ConvexProvider client={{client}}><Places /></ConvexProvider>);
"""


def snippets(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no {language} snippet"
    return found


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The modules of the README as an app, with one more that plants a post."""
    folder = tmp_path / "app" / "functions"
    folder.mkdir(parents=True)
    for source in snippets("python"):
        name = re.match(r"# (\w+\.py)\n", source)
        assert name, f"a snippet does not say which file it is:\n{source}"
        (folder / name[1]).write_text(source)
    (folder / "seed.py").write_text(SEED)
    (tmp_path / "app" / "page").mkdir()
    [page] = snippets("html")
    (tmp_path / "app" / "page" / "index.html").write_text(f"<!doctype html><title>README</title>{page}")
    return folder


def planted(server: Server) -> list[str]:
    result: dict[str, Any] = call(server, "mutation", "seed:plant")
    assert result["status"] == "success", result
    ids: list[str] = result["value"]
    return ids


def test_the_functions_do_what_they_say(app: Path, serve: Callable[..., Server]) -> None:
    server = serve(app)
    user, post = planted(server)
    for _ in range(2):
        assert call(server, "mutation", "posts:like", post_id=post, user_id=user)["status"] == "success"
    [shown] = value_of(server, "posts:list_at_place", place="Lisbon")
    assert (shown["_id"], shown["likes"]) == (post, 1)
    assert value_of(server, "posts:list_at_place", place="Porto") == []


def test_the_page_without_a_build_step_is_live(
    app: Path, serve: Callable[..., Server], start_client: Callable[..., Process], chromium: str
) -> None:
    server = serve(app)
    page = start_client("console.js", server, CHROMIUM=chromium)
    page.wait_for_line(r"^console: \[\]$")
    planted(server)
    page.wait_for_line(r"^console: \[.*Trams!.*\]$")
    page.tell("enough")
    assert page.wait() == 0, page.output


def test_the_react_snippet_is_live(
    app: Path,
    serve: Callable[..., Server],
    start_client: Callable[..., Process],
    node: str,
    chromium: str,
    tmp_path: Path,
) -> None:
    server = serve(app)
    planted(server)
    web = tmp_path / "web"
    web.mkdir()
    install_packages(WAYPOINT / "web")
    (web / "node_modules").symlink_to(WAYPOINT / "web" / "node_modules")
    [snippet] = snippets("jsx")
    imports, body = snippet.split("\n\n", 1)
    (web / "index.html").write_text(
        '<!doctype html><body></body><script type="module" src="./main.jsx"></script>'
    )
    (web / "main.jsx").write_text(REACT_MAIN.format(imports=imports, body=body))
    build_front_end(node, web, app.parent / "page", server)
    page = start_client("console.js", server, "likes: 0", "likes: 1", CHROMIUM=chromium)
    page.wait_for_line("^shown: likes: 1$")
    page.tell("enough")
    assert page.wait() == 0, page.output


def test_the_command_for_an_app_of_ones_own_is_the_one_that_exists() -> None:
    command = next(block for block in snippets("sh") if "tidewell dev" in block).split()
    assert command[:2] == [".venv/bin/tidewell", "dev"]
    help_command = [sys.executable, "-m", "engine", "dev", "--help"]
    shown = subprocess.run(help_command, capture_output=True, text=True, timeout=DEADLINE_S, cwd=ROOT)
    assert shown.returncode == 0
    assert "3210" in shown.stdout
