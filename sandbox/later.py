"""`ctx.later` and `ctx.parallel`: calls of an action that are made together.

A guest is one sequence of steps, so it cannot wait in several places. It says what it
wants, each as a call that is yet to be made, and the engine makes them side by side:

    rates, user = ctx.parallel(ctx.later.fetch(url), ctx.later.run_query(api.users.get, {"id": id}))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox.host import HostObject
from tidewell.errors import InvalidValue
from tidewell.values import Value

TOGETHER_MAX: Final = 1_000  # calls in one go; function-semantics 17, A1
TOGETHER_BYTES_MAX: Final = 17 * 2**20  # of their packed arguments: one largest body to send, and room


class Later(HostObject):
    """A call that is yet to be made."""

    __slots__ = ("_args", "_is_made", "_operation", "_path", "_take")

    def __init__(
        self, operation: str, path: str, args: dict[str, Value], take: Callable[[Value], Any]
    ) -> None:
        self._is_made = False
        self._operation = operation
        self._path = path
        self._args = args
        self._take = take  # what becomes of the engine's answer


class Laters(HostObject):
    """`ctx.later`: the same calls as on `ctx`, not made yet."""

    __slots__ = ("_run", "_start_fetch")
    _exposed_ = frozenset({"fetch", "run_action", "run_mutation", "run_query"})

    def __init__(self, run: Callable[[str, Any, Any], Later], start_fetch: Callable[..., Later]) -> None:
        self._run = run
        self._start_fetch = start_fetch

    def run_query(self, fn: Any, args: Any = None) -> Later:
        return self._run("run_query", fn, args)

    def run_mutation(self, fn: Any, args: Any = None) -> Later:
        return self._run("run_mutation", fn, args)

    def run_action(self, fn: Any, args: Any = None) -> Later:
        return self._run("run_action", fn, args)

    def fetch(
        self,
        url: Any,
        *,
        method: Any = "GET",
        headers: Any = None,
        body: Any = None,
        json: Any = None,
        timeout: Any = None,
        redirect: Any = "follow",
    ) -> Later:
        return self._start_fetch(
            url, method=method, headers=headers, body=body, json=json, timeout=timeout, redirect=redirect
        )


def checked_laters(calls: tuple[Any, ...]) -> list[Later]:
    if len(calls) > TOGETHER_MAX:
        raise InvalidValue("parallel", f"takes at most {TOGETHER_MAX} calls, found {len(calls)}")
    for call in calls:
        if isinstance(call, Later) and call._is_made:
            raise InvalidValue("parallel", "was given a call that is made already; each is for one time")
        if not isinstance(call, Later):
            raise InvalidValue(
                "parallel",
                "takes calls that are yet to be made, as ctx.later.fetch(url) or "
                f"ctx.later.run_query(fn, args), found a {type(call).__name__}",
            )
        call._is_made = True  # making it costs the engine what preparing it was charged for
    return list(calls)
