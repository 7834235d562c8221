"""Serializable in commit order: the workload's model, applied to the log one call at a time, gives the same
answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fuzz.history import Request
from fuzz.workloads.base import Committed, Model, Refused


def check(requests: Iterable[Request], committed: Sequence[Committed], model: Model) -> list[str]:
    problems = []
    asked = {request.request_id: request for request in requests}
    for each in sorted(committed, key=lambda committed: committed.ts):
        expected: Any
        try:
            expected = model.apply(each.path, each.args)
        except Refused as refusal:
            problems.append(f"{each.path}({each.args}) is committed at {each.ts}; alone it fails: {refusal}")
            continue
        request = asked.get(each.request_id)
        if request is not None and request.status == "ok" and request.value != expected:
            problems.append(
                f"{request} gave {request.value!r} at {each.ts}; one at a time it gives {expected!r}"
            )
    return problems
