"""The table of function conformance names tests that exist, at least one for every rule."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "docs" / "function-conformance.md"
ROW = re.compile(r"\| ([^|]+) \| [^|]+ \| ([^|]+) \|")


def rows() -> dict[str, list[str]]:
    matches = [ROW.fullmatch(line) for line in TABLE.read_text().splitlines()]
    found = {match[1]: re.findall(r"`(test_\w+)`", match[2]) for match in matches if match is not None}
    return {rule: names for rule, names in found.items() if rule not in ("Rule", "---")}


def test_every_rule_of_the_function_table_has_a_test() -> None:
    assert len(rows()) > 30
    assert [rule for rule, names in rows().items() if not names] == []


def test_every_test_of_the_function_table_exists() -> None:
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))
    named = {name for names in rows().values() for name in names}
    assert named <= defined, sorted(named - defined)
