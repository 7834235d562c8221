"""Replays told to people. One line for a match, some for a divergence, a summary for a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import attrs

from engine.replay.divergence import Replayed
from engine.replay.what_if import WhatIf
from engine.showing import many

SHOWN_MAX: Final = 10  # divergences of a log that are told in full; all are counted


@attrs.define
class Summary:
    """A whole log, replayed. Keeps the first divergences, by timestamp, and counts of the rest."""

    matches: int = 0
    diverged: int = 0
    may_differ: int = 0
    steps: int = 0
    kinds: Counter[str] = attrs.field(factory=Counter)
    functions: Counter[str] = attrs.field(factory=Counter)
    first: list[Replayed] = attrs.field(factory=list)

    def note(self, replayed: Replayed) -> None:
        self.steps += replayed.steps
        if replayed.divergence is None:
            self.matches += 1
            return
        if replayed.divergence.is_fault:
            self.diverged += 1
        else:
            self.may_differ += 1
        self.kinds[replayed.divergence.kind] += 1
        self.functions[replayed.function] += 1
        self.first.append(replayed)
        if len(self.first) > 2 * SHOWN_MAX:
            self._keep_first()

    def _keep_first(self) -> None:
        """Results come in any order; the earliest divergence is the one to begin with."""
        self.first.sort(key=lambda replayed: replayed.ts)
        del self.first[SHOWN_MAX:]

    @property
    def total(self) -> int:
        return self.matches + self.diverged + self.may_differ

    @property
    def is_clean(self) -> bool:
        return self.diverged == 0

    def shown(self) -> list[Replayed]:
        self._keep_first()
        return self.first

    def to_json(self, seconds: float) -> dict[str, Any]:
        return {
            "replayed": self.total,
            "matches": self.matches,
            "diverged": self.diverged,
            "mayDiffer": self.may_differ,
            "steps": self.steps,
            "seconds": round(seconds, 3),
            "kinds": dict(self.kinds),
            "functions": dict(self.functions),
            "first": [replayed.to_json() for replayed in self.shown()],
        }

    def lines(self, seconds: float) -> Iterator[str]:
        for replayed in self.shown():
            yield from lines_of(replayed)
        more = self.diverged + self.may_differ - len(self.shown())
        if more > 0:
            yield f"... and {more:,} more"
        rate = f"{self.total / seconds:,.0f} a second" if seconds > 0 else "at once"
        if not self.total:
            yield "There is no mutation to replay."
            return
        if self.diverged == self.may_differ == 0:
            yield f"{many(self.total, 'mutation')} replayed, all as recorded ({rate})."
            return
        yield (
            f"{many(self.total, 'mutation')} replayed ({rate}): {self.matches:,} as recorded, "
            f"{self.diverged:,} diverged, {self.may_differ:,} may differ."
        )
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.kinds.most_common())
        functions = ", ".join(f"{name} {count:,}" for name, count in self.functions.most_common(5))
        yield f"Kinds: {kinds}. Functions: {functions}."


def what_if_lines(found: WhatIf) -> Iterator[str]:
    for name, report in sorted(found.functions.items()):
        if not report.differ:
            continue
        what = ", ".join(f"{what} {count:,}" for what, count in report.what.most_common())
        yield f"{name}: {report.differ:,} of {many(report.calls, 'call')} would have been different ({what})"
        for example in report.examples:
            yield f"    {example.ts} {example.args}"
            for difference in example.differences:
                yield f"        {difference.what}: was {difference.recorded}, would be {difference.replayed}"
    if found.unreadable:
        yield f"{many(found.unreadable, 'commit')} could not be read."
    yield from _steps_lines(found)
    if not found.calls:
        yield "There is no mutation to run."
    elif found.differ == 0:
        yield f"{many(found.calls, 'call')}, none would have been different."
    else:
        yield f"{many(found.calls, 'call')}, {found.differ:,} would have been different."


def _steps_lines(found: WhatIf) -> Iterator[str]:
    for name, report in sorted(found.functions.items()):
        if report.cheaper or report.dearer:
            share = report.steps_after / max(report.steps_before, 1)
            yield (
                f"{name}: {report.steps_before:,} steps before, {report.steps_after:,} after "
                f"({share:.2f} times); {report.cheaper:,} calls cheaper, {report.dearer:,} dearer"
            )


def lines_of(replayed: Replayed) -> Iterator[str]:
    """Yield what there is to say of one replay."""
    divergence = replayed.divergence
    name = f"{replayed.ts} {replayed.function}" if replayed.ts else replayed.function
    if divergence is None:
        yield f"{name}: as recorded, {replayed.steps:,} steps"
        return
    word = "diverged" if divergence.is_fault else "may differ"
    yield f"{name}: {word} ({divergence.kind})"
    yield f"    {divergence.meaning}"
    if divergence.place is not None:
        yield f"    it began {divergence.place}"
    if not divergence.is_steady:
        yield "    run once more, it came out as recorded"
    if divergence.aspects:
        yield f"    differs in {', '.join(divergence.aspects)}"
    for difference in divergence.differences:
        yield f"    {difference.what}: recorded {difference.recorded}, now {difference.replayed}"
