"""Hostile programs against the language side: every class of attack, each payload in a process of its own.

What is shown is how each ends with the language layer alone. `cpu` is the outer
limit's kill, allowed only where the payload says so: where single operations of the
interpreter cannot be priced.

On another version of Python, with the packages of `pyproject.toml` installed there:

    python3.13 -m pytest tests/sandbox/test_attacks.py tests/sandbox/test_tour.py \
        tests/sandbox/test_determinism.py tests/sandbox/test_policy.py tests/sandbox/test_reach.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FILES = sorted(path.name for path in (HERE / "attacks").glob("*.txt"))
CLASSES = {
    "object graph", "attribute-name confusion", "format traversal", "frame access", "exception carriers",
    "process-ending exceptions", "dynamic code", "imports", "guard shadowing", "host mutation",
    "persistence: the second call must be like the first", "hostile values", "fuel evasion", "bulk CPU",
    "memory",
    "native crash", "compile bombs",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_attack_ends_as_it_must(name: str) -> None:
    command = [sys.executable, str(HERE / "attack_runner.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    escaped = [row for row in rows if row["ended"] not in row["allowed"]]
    assert not escaped, "\n".join(map(str, escaped))


def test_the_corpus_covers_every_class_of_the_language_side() -> None:
    from attack_runner import FOLDER, read_attacks

    attacks = [attack for name in FILES for attack in read_attacks(FOLDER / name)]
    assert {attack.attack_class for attack in attacks} >= CLASSES
    assert len(attacks) >= 450
    assert len({(attack.attack_class, attack.title) for attack in attacks}) == len(attacks)


def test_the_runner_notices_an_escape(tmp_path: Path) -> None:
    """The corpus proves nothing unless a payload that gets through is seen."""
    from attack_runner import Attack, confined

    ended, _ = confined(Attack("object graph", "canary", ("compile",), "x = 1\n"))
    assert ended == "value 1"
    ended, _ = confined(Attack("persistence", "canary", ("same",), "import time\ndef attack(): return 1\n"))
    assert ended == "same"
