"""The commands of docs/data.md, run as they stand there, and what they say when something is wrong."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.cli import main
from storage import Snapshot, Store, Transaction

ROOT = Path(__file__).resolve().parent.parent.parent
COMMANDS = re.findall(r"^tidewell (.+)$", (ROOT / "docs" / "data.md").read_text(), re.MULTILINE)

Run = Callable[[str], Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line in a folder that has a deployment with two documents."""
    monkeypatch.chdir(tmp_path)
    with Store.open(tmp_path / ".tidewell" / "store") as store, store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        for number in range(2):
            transaction.insert("notes", {"number": number}, bytes([number]) * 16, 1000.0 + number)
        store.commit([transaction.write_set().commit(1)])
    (tmp_path / ".tidewell" / "admin-key").write_text("secret\n")
    return lambda line: CliRunner().invoke(main, shlex.split(line))


def numbers(snapshot: Snapshot) -> list[object]:
    return [document["number"] for document in Transaction(snapshot).scan("notes", "by_creation_time")]


def test_the_commands_of_the_page_run_in_their_order(run: Run, tmp_path: Path) -> None:
    assert len(COMMANDS) == 5
    for line in COMMANDS:
        result = run(line)
        assert result.exit_code == 0, (line, result.output)
    for copy in ("backups/monday", "elsewhere"):
        with Store.open(tmp_path / copy / "store") as store, store.snapshot() as snapshot:
            assert numbers(snapshot) == [0, 1]
    assert (tmp_path / "backups" / "monday" / "admin-key").read_text() == "secret\n"


def test_verify_tells_a_program_and_its_status(run: Run, tmp_path: Path) -> None:
    sound = run("verify --json")
    assert (sound.exit_code, json.loads(sound.stdout)["sound"]) == (0, True)
    file = tmp_path / ".tidewell" / "store" / "data.mdb"
    with file.open("r+b") as out:
        out.truncate(file.stat().st_size // 2)
    broken = run("verify --json")
    assert (broken.exit_code, json.loads(broken.stdout)["sound"]) == (1, False)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("verify --data nowhere", "no store in nowhere"),
        ("backup .tidewell", "exists already"),
        ("backup copy --data nowhere", "no store in nowhere"),
        ("export .tidewell", "is not empty"),
        ("import nowhere", "manifest.json is missing"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, line: str, words: str) -> None:
    result = run(line)
    assert result.exit_code == 1
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not isinstance(result.exception, AssertionError)
