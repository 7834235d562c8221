"""Why a value does not fit a validator: found at the leaf, completed on the way up, told on request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

MEMBERS_SHOWN: Final = 8  # of a union, in a message


@attrs.frozen
class Explanation:
    problem: str
    found: str
    expected: str


class Mismatch:
    """What a check returns in place of a value; each level adds its step of the path, innermost first.

    `progress` says how far the value got before it failed: empty for a value of
    the wrong kind, and the longer or larger the tuple, the further. The texts are
    made when somebody asks: most failures are of members of a union that another
    member saves. It is not raised, because an exception keeps the frames it passed
    alive, and a check of many unions would leave all of them to the collector.
    """

    __slots__ = ("explain", "is_merged", "progress", "steps")

    def __init__(self, explain: Callable[[], Explanation], progress: tuple[int, ...] = ()) -> None:
        self.explain = explain
        self.progress = progress
        self.is_merged = False  # it keeps other failures alive, and is not merged again
        self.steps: list[str] = []

    def within(self, step: str, literals: int, index: int) -> Mismatch:
        """Return the failure as the surrounding array, record or object sees it."""
        self.steps.append(step)
        self.progress = (1, literals, index, *self.progress)
        return self


def merged(failures: list[Mismatch]) -> Mismatch:
    """Return one failure for members that failed equally late; at one place they are one expectation."""
    first = failures[0]

    def explain() -> Explanation:
        why = [failure.explain() for failure in failures]
        is_one_place = all(failure.steps == first.steps for failure in failures)
        if not is_one_place or any(each.found != why[0].found for each in why):
            return why[0]
        expected = alternatives([each.expected for each in why])
        problem = why[0].problem.replace(f"expected {why[0].expected}", f"expected {expected}")
        return Explanation(problem, why[0].found, expected)

    whole = Mismatch(explain, first.progress)
    whole.steps = list(first.steps)
    whole.is_merged = True
    return whole


def alternatives(texts: list[str]) -> str:
    distinct = list(dict.fromkeys(texts))
    shown = distinct[:MEMBERS_SHOWN]
    more = len(distinct) - len(shown)
    return " or ".join(shown) + (f" or one of {more} more" if more else "")
