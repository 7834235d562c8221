"""docs/testing.md, run as it stands: its tests under pytest, its rules by `tidewell fuzz`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "testing.md").read_text()
SNIPPETS = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FIXTURE = 'from tidewell.testing import server_fixture\n\nserver = server_fixture("functions")\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "tickets" / "functions", tmp_path / "functions")
    for name, source in SNIPPETS:
        (tmp_path / name).write_text(source)
    (tmp_path / "conftest.py").write_text(FIXTURE)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_the_tests_of_the_page_pass(project: Path) -> None:
    tested = run(project, "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")
    assert tested.returncode == 0, tested.stdout
    written = sum(source.count("\ndef test_") + source.count("\nasync def test_") for _, source in SNIPPETS)
    written += sum(source.startswith("def test_") for _, source in SNIPPETS)
    assert f"{written} passed" in tested.stdout


def test_the_search_of_the_page_finds_what_it_shows_and_the_test_shown_fails(project: Path) -> None:
    [command] = re.findall(r"^tidewell (fuzz .*)$", PAGE, re.MULTILINE)
    found = run(project, "engine", *command.split(), "--seed", "1")
    assert found.returncode == 1, found.stderr
    shown = re.search(r"^    from fuzz import.*?(?=^\S)", found.stdout, re.MULTILINE | re.DOTALL)
    assert shown is not None, found.stdout
    (project / "test_shown.py").write_text(re.sub(r"^    ", "", shown[0], flags=re.MULTILINE))
    failed = run(project, "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py")
    assert failed.returncode == 1
    assert "assert len(buyers) <= 1" in failed.stdout
    assert (project / ".tidewell" / "fuzz-1" / "store").is_dir()
    assert shown[0].count(".step()") == PAGE[PAGE.index("test_no_seat") :].count(".step()")
