"""Exactly once: a request that was answered with success is in the log once, one that failed is not in it,
and whatever was sent again got the same answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fuzz.history import Request
from fuzz.workloads.base import Committed


def check(
    requests: Iterable[Request], committed: Sequence[Committed], actions: Iterable[Request] = ()
) -> list[str]:
    """
    Args:
      actions: each of which calls one mutation at most, and is never started twice.
    """
    problems = []
    counts = Counter(each.request_id for each in committed)
    known = set()
    for action in actions:
        known.add(action.request_id)
        if counts[action.request_id] > 1:
            problems.append(f"{action} committed {counts[action.request_id]} times")
    for request in requests:
        known.add(request.request_id)
        count = counts[request.request_id]
        if count > 1:
            problems.append(f"{request} was committed {count} times")
        if request.status == "failed" and count:
            problems.append(f"{request} was answered with {request.error!r} and is committed")
        if len({repr(answer) for answer in request.answers}) > 1:
            problems.append(f"{request} got different answers: {request.answers}")
    for request_id in counts.keys() - known:
        problems.append(f"nobody sent the request {request_id}, which is committed")
    return problems
