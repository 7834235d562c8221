"""Chance is fresh: no two executions have the same seed (function-semantics 12.4, C1)."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.workloads.base import Committed


def check(committed: Sequence[Committed]) -> list[str]:
    problems = []
    seen: dict[bytes, Committed] = {}
    for each in committed:
        if each.seed in seen:
            problems.append(f"the commits at {seen[each.seed].ts} and {each.ts} ran with the same seed")
        seen[each.seed] = each
    return problems
