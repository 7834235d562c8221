"""`tidewell fuzz`, as a person runs it on the example that has a race."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.cli import main
from tidewell.testing import BlockingTestServer

ROOT = Path(__file__).resolve().parents[2]
TICKETS = ROOT / "examples" / "tickets"
SEED = "1"


def fuzz(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["fuzz", *map(str, arguments)])


def test_the_race_of_the_example_is_found_and_its_data_kept(tmp_path: Path) -> None:
    found = fuzz(TICKETS / "functions", "--keep", tmp_path, "--seconds", 60)
    assert found.exit_code == 1, found.output
    assert "no_seat_is_sold_twice is broken" in found.output
    assert "assert len(buyers) <= 1" in found.output
    assert found.output.count(".step()") in (2, 3, 4)
    repeat = re.search(r"tidewell fuzz \S+ --seed (\d+)", found.output)
    assert repeat is not None
    with BlockingTestServer(TICKETS / "functions", folder=tmp_path) as server:
        paid = server.read(lambda db: [row for row in db.query("orders") if row["state"] == "paid"])
    assert len(paid) == 2


def test_what_the_report_says_of_the_data_can_be_done(tmp_path: Path) -> None:
    found = fuzz(TICKETS / "functions", "--seed", SEED, "--keep", tmp_path)
    listed = re.search(r"tidewell (log --data \S+)", found.output)
    stepped = re.search(r"tidewell (debug \d+ --data \S+)", found.output)
    assert listed is not None
    assert stepped is not None
    log = CliRunner().invoke(main, listed[1].split())
    assert log.output.count("box_office:settle") == 2
    trace = CliRunner().invoke(main, [*stepped[1].split(), "--trace"])
    assert trace.exit_code == 0, trace.output
    assert "settle" in trace.output


def test_a_seed_finds_again_what_it_found(tmp_path: Path) -> None:
    once, again = (
        fuzz(TICKETS / "functions", "--seed", SEED, "--keep", tmp_path, "--json") for _ in range(2)
    )
    assert once.exit_code == again.exit_code == 1
    first, second = json.loads(once.stdout), json.loads(again.stdout)
    assert first["broken"] == second["broken"]
    assert len(first["broken"]["moves"]) == 4


def test_a_seed_finds_the_same_in_another_process(tmp_path: Path) -> None:
    """Hypothesis draws from constants of the modules that are loaded; here are all those of pytest."""
    arguments = ["fuzz", str(TICKETS / "functions"), "--seed", SEED, "--json", "--keep"]
    here = CliRunner().invoke(main, [*arguments, str(tmp_path / "here")])
    there = subprocess.run(
        [sys.executable, "-m", "engine", *arguments, str(tmp_path / "there")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    one, other = json.loads(here.stdout), json.loads(there.stdout)
    for told in (one, other):
        del told["seconds"], told["broken"]["data"], told["broken"]["problem"]  # whose path is relative
    assert one == other
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"], (
        "nothing is left lying about"
    )


def test_nothing_is_found_after_the_fix(tmp_path: Path) -> None:
    fixed = fuzz(TICKETS / "fixed", "--seed", SEED)
    assert fixed.exit_code == 0, fixed.output
    assert re.match(r"Nothing is broken after 1\d\d schedules", fixed.stdout)


def test_it_ends_when_its_time_is_up() -> None:
    ended = fuzz(TICKETS / "fixed", "--seconds", 0.01, "--json")
    assert ended.exit_code == 0
    assert json.loads(ended.stdout)["broken"] is None


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "write one (docs/testing.md), or give --rules FILE"),
        ({"fuzz.py": "1 / 0"}, "fuzz.py:1: ZeroDivisionError: division by zero"),
        ({"fuzz.py": "x = 1"}, "declares no @invariant"),
    ],
)
def test_what_is_missing_is_told_in_one_line(tmp_path: Path, files: dict[str, str], told: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "empty.py").write_text("")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    refused = fuzz(tmp_path / "app")
    assert refused.exit_code == 2, refused.output
    assert told in refused.output


def test_an_app_that_cannot_be_pushed_is_told_in_one_line(tmp_path: Path) -> None:
    refused = fuzz(tmp_path / "nowhere", "--rules", TICKETS / "fuzz.py")
    assert refused.exit_code == 2
    assert "is not a folder" in refused.output
