"""The conformance table names tests that exist, for every line of the checklist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "sync-conformance.md"
CHECKLIST_LENGTH = 17


def rows() -> dict[int, list[str]]:
    found = {}
    for line in TABLE.read_text().splitlines():
        cells = re.fullmatch(r"\| (\d+) \| (.*) \| (.*) \|", line)
        if cells is not None:
            found[int(cells[1])] = re.findall(r"`(\w+)`", cells[3])
    return found


def test_every_line_of_the_checklist_has_a_test() -> None:
    table = rows()
    assert sorted(table) == list(range(1, CHECKLIST_LENGTH + 1))
    assert all(table.values())


def test_every_test_that_is_named_exists() -> None:
    sources = [path.read_text() for path in (ROOT / "tests").rglob("test_*.py")]
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(sources), re.MULTILINE))
    defined |= set(re.findall(r"^(Test\w+) =", "\n".join(sources), re.MULTILINE))
    named = set(re.findall(r"`((?:test_|Test)\w+)`", TABLE.read_text()))
    assert named <= defined, sorted(named - defined)
