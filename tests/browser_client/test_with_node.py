"""Runs the tests of `engine/static/tidewell.js`, which are written for Node's own test runner."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_browser_client_keeps_its_promises_to_a_scripted_server() -> None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        assert "CI" not in os.environ, "CI must have Node.js and npm"
        pytest.skip("this test needs Node.js and npm, which are not installed")
    if not (HERE / "node_modules" / "ws").exists():
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=HERE, check=True, timeout=300)
    done = subprocess.run(
        [node, "--test", "--test-reporter=spec", "--test-timeout=60000", *sorted(HERE.glob("*.test.js"))],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
