"""Fixtures that start the server, Node programs and a browser, and end them all."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .harness import APPS, DEADLINE_S, HERE, WAYPOINT, Process, Server


def need(*names: str) -> str:
    """Find a program. Without it the tests that need it are skipped, except where CI promises it."""
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    message = f"this test needs {names[0]}, which is not installed"
    if "CI" in os.environ:
        pytest.fail(message)
    pytest.skip(message)


def install_packages(folder: Path) -> None:
    """Install what the lock file names, unless just that is installed already."""
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    command = [need("npm"), "ci", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers: `serve(app)`, with a data folder of its own or a given one."""
    servers: list[Server] = []

    def start(app: Path, *options: str | Path, data: Path | None = None) -> Server:
        server = Server(app, data or tmp_path / "data", options)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.process.end()


@pytest.fixture(scope="module")
def values_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of the app `values` for tests that leave it as they found it."""
    yield from shared(APPS / "values", tmp_path_factory)


@pytest.fixture(scope="module")
def hostile_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server of the app `hostile`; that it survives every test is what these tests are about."""
    yield from shared(APPS / "hostile", tmp_path_factory)


def shared(app: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(app, tmp_path_factory.mktemp("data"), ())
    server.start()
    yield server
    server.process.end()


@pytest.fixture(scope="session")
def node() -> str:
    path = need("node")
    install_packages(HERE)
    return path


@pytest.fixture
def start_client(node: str) -> Iterator[Callable[..., Process]]:
    """Start a Node program of `clients/` for a server or a URL: `start_client("name.js", server, ...)`."""
    processes: list[Process] = []

    def start(script: str, server: Server | str, *arguments: str, **environment: str) -> Process:
        url = server if isinstance(server, str) else server.url
        command: list[str | Path] = [node, HERE / "clients" / script, url, *arguments]
        processes.append(Process.start(command, environment))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


@pytest.fixture
def run_node_tests(node: str) -> Callable[..., None]:
    """Run a file of node:test cases against a server, and fail with their report if one fails."""

    def run(script: str, **environment: str) -> None:
        done = subprocess.run(
            [node, "--test", "--test-reporter=spec", HERE / "clients" / script],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=4 * DEADLINE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    return need("chromium", "chromium-browser", "google-chrome")


VITE = WAYPOINT / "web" / "node_modules" / "vite" / "bin" / "vite.js"


def build_front_end(node: str, web: Path, out: Path, server: Server) -> None:
    """Build a Vite project, with the packages that Waypoint's has, for a server."""
    done = subprocess.run(
        [node, VITE, "build", "--outDir", out, "--emptyOutDir"],
        cwd=web,
        env={**os.environ, "VITE_CONVEX_URL": server.url},
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def built_web(node: str, tmp_path: Path) -> Iterator[Callable[[Server], str]]:
    """Build the React front end for a server and serve it as `vite preview` does; gives its URL."""
    web = WAYPOINT / "web"
    previews: list[Process] = []

    def build(server: Server) -> str:
        install_packages(web)
        dist = tmp_path / "dist"
        build_front_end(node, web, dist, server)
        command = [node, VITE, "preview", web, "--outDir", dist, "--host", "127.0.0.1", "--port", "0"]
        previews.append(Process.start(command))
        return previews[-1].wait_for_line(r"(http://127\.0\.0\.1:\d+)")[1]

    yield build
    for preview in previews:
        preview.end()
