"""A planted bug is found, and not where there is none."""

from __future__ import annotations

import attrs

from fuzz.canaries import CANARIES, describe, hunt
from fuzz.plants import Plant

BY_NAME = {canary.name: canary for canary in CANARIES}


def test_skipped_conflict_check_is_found() -> None:
    found = hunt(BY_NAME["skew"])
    assert found.problem is not None, describe(found)


def test_canary_without_a_bug_is_not_found() -> None:
    """A checker that always complains would find every canary."""
    found = hunt(attrs.evolve(BY_NAME["skew"], plant=Plant, seeds_max=1))
    assert found.problem is None
    assert "NOT FOUND" in describe(found)
