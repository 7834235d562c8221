"""Short forms of what a run leaves behind, for planting violations in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fuzz.history import Query, Request, Shown
from fuzz.workloads.base import Committed

COUNTER = Query.of("counters:get", {"name": "a"})


def request(
    number: int = 0,
    *,
    client: str = "c",
    steps: tuple[int, int] = (1, 2),
    ts: int | None = 10,
    value: Any = 1,
    amount: int = 1,
    error: str = "",
) -> Request:
    """An answered request: with `ts`, or with an error."""
    made = Request(
        client=client,
        number=number,
        request_id=f"{client}{number}",
        path="counters:add",
        args={"name": "a", "amount": amount},
        invoked=steps[0],
        sockets=[1],
    )
    made.status, made.ts, made.answered = "failed" if error else "ok", ts, steps[1]
    made.value, made.error = value, error
    made.answers = [(not error, error or value, ts)]
    return made


def committed(number: int = 0, ts: int = 10, *, client: str = "c", amount: int = 1) -> Committed:
    seed = f"{client}{number}".encode()
    return Committed(ts, f"{client}{number}", "counters:add", {"name": "a", "amount": amount}, seed)


def shown(
    ts: int, *, before: int = 0, step: int = 1, socket: int = 1, results: Mapping[Query, Any] | None = None
) -> Shown:
    return Shown(step, "c", socket, (0, 0, before), (1, 0, ts), results or {})
