"""Every transition is one snapshot: all that a client shows at a timestamp is what the queries give at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fuzz.history import Failed, Query, Shown

Result = Callable[[Query, int], Any]


def check(shown: Iterable[Shown], result: Result) -> list[str]:
    """
    Args:
      result: gives a query's result at a timestamp, by means of its own.
    """
    problems = []
    for each in shown:
        for query, value in each.results.items():
            expected = result(query, each.ts)
            if is_other(value, expected):
                problems.append(
                    f"{each.client} was shown {value!r} for {query} at {each.ts}, where it is {expected!r}"
                )
    return problems


def is_other(shown: Any, expected: Any) -> bool:
    if isinstance(shown, Failed) or isinstance(expected, Failed):
        return type(shown) is not type(expected)
    return bool(shown != expected)
