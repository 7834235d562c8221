"""A result that is set once and may be awaited by any number of tasks.

The work behind a promise belongs to whoever sets it: a task that is cancelled
while it waits cancels nothing but its own waiting, so a caller who hangs up does
not take back a commit that others may already have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

import trio

T = TypeVar("T")


class Promise(Generic[T]):
    __slots__ = ("_callbacks", "_error", "_event", "_value")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._event = trio.Event()
        self._value: T | None = None
        self._error: Exception | None = None

    @property
    def is_settled(self) -> bool:
        return self._event.is_set()

    def keep(self, value: T) -> None:
        assert not self.is_settled
        self._value = value
        self._settle()

    def fail(self, error: Exception) -> None:
        assert not self.is_settled
        self._error = error
        self._settle()

    def _settle(self) -> None:
        self._event.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call `callback` once there is a value or an error, at once if there is: cheaper than a task."""
        if self.is_settled:
            callback()
        else:
            self._callbacks.append(callback)

    @property
    def error(self) -> Exception | None:
        """What it failed with, if it did."""
        return self._error

    async def wait(self) -> T:
        """Return the value, or raise the error, once there is one."""
        await self._event.wait()
        if self._error is not None:
            raise self._error.with_traceback(None)  # several tasks may raise it: each from its own place
        return cast(T, self._value)
