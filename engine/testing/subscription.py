"""The results of one query as they change, straight from the query cache, for a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs
import trio

from engine.backend import Call, QueryOutcome, Watch
from engine.deployment import Deployment
from tidewell.values import Value

WITHIN_S: Final = 60.0  # of virtual time, which costs nothing


@attrs.define(eq=False)
class TestSubscription:
    """`anext` and `async for` give the result, and each one after a change, as those of a client do."""

    __test__ = False  # no class of tests

    _call: Call
    _value_of: Callable[[QueryOutcome], Value]
    _deployment: Deployment
    _watch: Watch = attrs.field(init=False)
    _seen: QueryOutcome | None = None
    _bell: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.move_to(self._deployment)

    def __aiter__(self) -> TestSubscription:
        return self

    async def __anext__(self) -> Value:
        return await self.next()

    async def next(self, within_s: float = WITHIN_S) -> Value:
        """Wait for a result that this subscription has not given yet; the first is there at once.

        Raises:
          TimeoutError: nothing new within so many virtual seconds.
          AppError, FunctionError: the query fails now.
        """
        with trio.move_on_after(within_s):
            while True:
                if not self._watch.is_current:
                    deployment = self._deployment
                    [outcome] = await deployment.evaluate([self._watch], deployment.head_ts)
                    if self._seen is None or outcome.digest != self._seen.digest:
                        self._seen = outcome
                        return self._value_of(outcome)
                else:
                    await self._bell.wait()
        raise TimeoutError(f"{self._call.path} gave no new result within {within_s:g} virtual seconds")

    def move_to(self, deployment: Deployment) -> None:
        """Watch at another life of the server, as a client does that has connected again."""
        self._deployment = deployment
        self._watch = deployment.watch(self._call, None, self._ring)
        self._ring()

    def close(self) -> None:
        self._watch.close()

    def _ring(self) -> None:
        self._bell.set()
        self._bell = trio.Event()
