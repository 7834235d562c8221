"""No acknowledged commit is lost: what a client was told, by an answer or by what it was shown, is in the log
that the last recovery found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fuzz.history import Request, Shown
from fuzz.workloads.base import Committed


def check(
    requests: Iterable[Request],
    shown: Iterable[Shown],
    committed: Sequence[Committed],
    head_ts: int,
    writes: Callable[[Request], bool] = lambda request: True,
) -> list[str]:
    """
    Args:
      writes: whether a request that was answered with success has written something.
    """
    problems = []
    found = {each.request_id: each.ts for each in committed}
    for request in requests:
        if request.status != "ok" or not writes(request):
            continue
        if request.request_id not in found:
            problems.append(f"{request} was acknowledged at {request.ts} and is not in the log")
        elif found[request.request_id] != request.ts:
            problems.append(
                f"{request} was acknowledged at {request.ts} and committed at {found[request.request_id]}"
            )
    newest = max((each.ts for each in shown), default=0)
    if newest > head_ts:
        problems.append(f"a client was shown the state at {newest}, the newest commit is {head_ts}")
    return problems
