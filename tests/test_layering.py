"""Imports point the way ARCHITECTURE.md draws them, and each foreign library enters by its door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"tidewell", "engine", "sandbox", "storage"}
MAY_IMPORT = {
    "tidewell": {"tidewell"},
    "storage": {"storage", "tidewell"},
    "sandbox": {"sandbox", "tidewell"},
    "engine": OURS,
}

# What users test their apps with is found under `tidewell` and stands above the engine. It is a roof: it may
# look at everything, and nothing of the house leans on it.
ROOF = "tidewell/testing.py"
# Where guests run without a wall and what a person wrote for `tidewell fuzz` is loaded: never in a server.
WITHOUT_WALLS = "engine/testing/"
MAY_LOAD_IT_WHEN_ASKED = {"engine/fuzz_commands.py"}

# library -> the files (or folders) that may import it, and how many of them do at most
DOORS: dict[str, tuple[tuple[str, ...], int]] = {
    "lmdb": (("storage/",), 1),
    "RestrictedPython": (("sandbox/",), 2),
    "trio_websocket": (("engine/connection.py", "tidewell/client/"), 2),
    "cattrs": (("tidewell/protocol.py", "engine/"), 2),
    "h11": (("engine/http.py", "engine/outgoing.py"), 2),
    "httpx": (("engine/fetches.py",), 1),
    "httpcore": (("engine/fetches.py",), 1),
    "jwt": (("engine/jwks.py",), 1),
    "click": (("engine/cli.py", "engine/*_options.py", "engine/*_commands.py"), 16),
    "rich": (("engine/cli.py", "engine/report.py", "engine/*_commands.py"), 12),
    "prompt_toolkit": (("engine/debugging/",), 2),
    "watchfiles": (("engine/dev.py",), 1),
}


def source_files() -> Iterator[Path]:
    for package in sorted(OURS):
        yield from sorted((ROOT / package).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            assert node.module
            yield node.module


@pytest.mark.parametrize("path", list(source_files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    may_import = OURS if str(path.relative_to(ROOT)) == ROOF else MAY_IMPORT[package]
    for module in imported_modules(path):
        top = module.split(".")[0]
        if top in OURS:
            assert top in may_import, f"{package} must not import {module}"


def test_nothing_leans_on_the_roof_and_no_server_loads_what_has_no_walls() -> None:
    for path in source_files():
        relative = str(path.relative_to(ROOT))
        modules = set(imported_modules(path))
        assert "tidewell.testing" not in modules, relative
        if relative == ROOF or relative.startswith(WITHOUT_WALLS):
            continue
        if any(module.startswith("engine.testing") for module in modules):
            assert relative in MAY_LOAD_IT_WHEN_ASKED, relative
            at_the_top = {
                node.module for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)
            }
            assert not any(str(module).startswith("engine.testing") for module in at_the_top), relative


@pytest.mark.parametrize("library", list(DOORS))
def test_a_library_enters_by_its_door(library: str) -> None:
    places, files_max = DOORS[library]
    users = [
        str(path.relative_to(ROOT))
        for path in source_files()
        if any(module.split(".")[0] == library for module in imported_modules(path))
    ]
    assert users, f"{library} is required and nobody imports it"
    assert len(users) <= files_max, users
    assert all(any(fnmatch(user, f"{place}*") for place in places) for user in users), users


def test_only_the_pool_of_the_sandbox_knows_trio_and_storage_knows_none() -> None:
    for path in source_files():
        relative = path.relative_to(ROOT)
        if relative.parts[0] in ("storage", "sandbox", "tidewell") and not str(relative).startswith(
            ("sandbox/pool", "tidewell/client", "tidewell/testing")
        ):
            assert not any(module.split(".")[0] == "trio" for module in imported_modules(path)), relative


def test_only_the_clock_and_the_terminal_read_the_time_in_the_engine() -> None:
    readers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "engine").rglob("*.py")
        if {"time", "datetime", "random", "secrets"} & set(imported_modules(path))
    }
    # report.py stamps lines for a person; deployment.py draws secrets for files; claims.py and
    # moments.py spell a moment that they are given.
    assert readers <= {
        "engine/clock.py",
        "engine/chance.py",
        "engine/claims.py",
        "engine/moments.py",
        "engine/report.py",
        "engine/deployment.py",
        # seeded generators alone
        "engine/testing/chance.py",
        "engine/testing/faults.py",
    }


def test_the_engine_never_parses_or_runs_tenant_material() -> None:
    """G8 and L0: nothing in the engine's process compiles, evaluates, unmarshals or imports by name."""
    forbidden_modules = {"ast", "pickle", "marshal", "importlib", "runpy", "code", "codeop"}
    forbidden_calls = {"compile", "exec", "eval", "__import__"}
    for path in (ROOT / "engine").rglob("*.py"):
        if str(path.relative_to(ROOT)).startswith(WITHOUT_WALLS):
            continue  # it loads what the person at the keyboard wrote for it
        modules = {module for module in imported_modules(path) if module != "importlib.metadata"}
        assert not {module.split(".")[0] for module in modules} & forbidden_modules, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in forbidden_calls, f"{path}:{node.lineno}"
