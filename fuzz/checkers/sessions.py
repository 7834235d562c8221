"""Session guarantees: a client never goes back in time, its requests commit in the order sent, and no effect
of a request is shown before its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from fuzz.history import Request, Shown


def check(
    requests: Iterable[Request],
    shown: Iterable[Shown],
    writes: Callable[[Request], bool] = lambda request: True,
) -> list[str]:
    """
    Args:
      writes: whether a request that was answered with success has written something.
    """
    problems = []
    shown_to: dict[str, list[Shown]] = {}
    for each in shown:
        shown_to.setdefault(each.client, []).append(each)
    sent_by: dict[str, list[Request]] = {}
    for request in requests:
        sent_by.setdefault(request.client, []).append(request)
    for client, seen in shown_to.items():
        problems += _check_time(client, seen)
        for request in sent_by.get(client, ()):
            if request.status == "ok" and writes(request):
                problems += _check_order_of_answer(request, seen)
    for client, sent in sent_by.items():
        answered = [request for request in sent if request.ts is not None]
        for one, next_ in pairwise(sorted(answered, key=lambda request: request.number)):
            assert one.ts is not None
            assert next_.ts is not None
            if next_.ts < one.ts:
                problems.append(f"{client}: {next_} took effect at {next_.ts}, {one} before it at {one.ts}")
    return problems


def _check_time(client: str, seen: list[Shown]) -> list[str]:
    problems = []
    for one, next_ in pairwise(seen):
        if next_.ts < one.ts:
            problems.append(f"{client} was taken back from {one.ts} to {next_.ts}")
        if next_.socket == one.socket and next_.start != one.end:
            problems.append(f"{client} is at {one.end} and was sent a transition from {next_.start}")
    problems += [
        f"{client}: a version fell from {each.start} to {each.end}"
        for each in seen
        if any(new < old for old, new in zip(each.start, each.end, strict=True))
    ]
    return problems


def _check_order_of_answer(request: Request, seen: list[Shown]) -> list[str]:
    if request.ts is None or request.answered is None or len(request.sockets) > 1:
        # A server cannot hold a state back for an answer that it is only going to be asked for again.
        return []
    return [
        f"{request.client} was shown the state at {each.ts} before the answer to {request}, of {request.ts}"
        for each in seen
        if request.invoked < each.step < request.answered and each.ts >= request.ts
    ][:1]
