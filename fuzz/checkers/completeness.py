"""Subscriptions are complete: when all is quiet, what each client shows is what a fresh query gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fuzz.checkers.snapshots import is_other
from fuzz.history import Query


def check(
    watched: Mapping[str, Iterable[Query]],
    shows: Mapping[str, Mapping[Query, Any]],
    fresh: Callable[[Query], Any],
) -> list[str]:
    """
    Args:
      watched: the queries that each client watches.
      shows: what each client shows of them.
      fresh: runs a query at the newest commit.
    """
    problems = []
    for client, queries in watched.items():
        for query in queries:
            if query not in shows[client]:
                problems.append(f"{client} watches {query} and shows nothing for it")
            elif is_other(shows[client][query], fresh(query)):
                problems.append(
                    f"{client} still shows {shows[client][query]!r} for {query}, which is {fresh(query)!r}"
                )
    return problems
