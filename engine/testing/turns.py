"""A trio loop for code without async, which takes turns with it.

The loop has a thread of its own and runs only while somebody waits for it: in between, time
stands still and no task moves. So what happens is decided by the order in which the loop
is asked, and by its seed.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import attrs
import trio

from engine.testing.loop import run

T = TypeVar("T")


@attrs.define(eq=False)
class Turns:
    _seed: int
    _asked: SimpleQueue[Callable[[], Awaitable[Any]] | None] = attrs.field(factory=SimpleQueue)
    _said: SimpleQueue[tuple[Any, BaseException | None]] = attrs.field(factory=SimpleQueue)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="tidewell test server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        assert self._thread is not None
        self._asked.put(None)
        self._thread.join()

    def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """Have the loop run `call` to its end, and everything else as far as it comes meanwhile."""
        self._asked.put(call)
        value, error = self._said.get()
        if error is not None:
            raise error
        result: T = value
        return result

    def _run(self) -> None:
        try:
            run(self._serve, seed=self._seed)
        except BaseException as error:  # the one who asks next is told why nobody answers
            self._said.put((None, error))

    async def _serve(self) -> None:
        while (call := self._asked.get()) is not None:  # the loop stands still here, as it should
            try:
                self._said.put((await call(), None))
            except trio.Cancelled:  # by the engine, in its fall; leaving the server tells of what
                self._said.put((None, RuntimeError("the engine fell over in the middle of this call")))
            except Exception as error:
                self._said.put((None, error))
