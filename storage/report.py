"""What a check of a store has to say."""

from __future__ import annotations

from collections import Counter
from typing import Final

import attrs

from storage.errors import Timestamp

NOT_CHECKED: Final = (
    "what the engine keeps in private rows and execution records",
    "rows of tables and indexes that were dropped and not yet cleared",
    "entries of indexes from before they were enabled",
    "LMDB's list of free pages",
)
PROBLEMS_MAX: Final = 100  # listed; all are counted


@attrs.define
class Report:
    checked: Counter[str] = attrs.field(factory=Counter)  # what, how many
    problems: list[str] = attrs.field(factory=list)
    problem_count: int = 0
    head: Timestamp = 0
    horizon: Timestamp = 0

    @property
    def is_sound(self) -> bool:
        return self.problem_count == 0

    def add(self, problem: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def to_json(self) -> dict[str, object]:
        return {
            "sound": self.is_sound,
            "head": self.head,
            "horizon": self.horizon,
            "checked": dict(self.checked),
            "not_checked": list(NOT_CHECKED),
            "problem_count": self.problem_count,
            "problems": self.problems,
        }

    def __str__(self) -> str:
        lines = [f"checked {number:,} {what}" for what, number in self.checked.items()]
        lines += [f"not checked: {what}" for what in NOT_CHECKED]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        if self.problem_count > len(self.problems):
            lines.append(f"and {self.problem_count - len(self.problems):,} more problems")
        lines.append("sound" if self.is_sound else f"{self.problem_count:,} problems; restore a backup")
        return "\n".join(lines)


def report_of(message: dict[str, object]) -> Report:
    checked, problems = message["checked"], message["problems"]
    assert isinstance(checked, dict)
    assert isinstance(problems, list)
    count, head, horizon = message["problem_count"], message["head"], message["horizon"]
    assert isinstance(count, int)
    assert isinstance(head, int)
    assert isinstance(horizon, int)
    return Report(Counter(checked), problems, count, head, horizon)
