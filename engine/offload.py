"""The off-thread runner: the one way in which the engine makes a blocking call.

Handed in where it is needed, so that a simulation can run the call on the event
loop, in a place of the schedule that it chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")


class RunBlocking(Protocol):
    async def __call__(self, call: Callable[[*Args], T], /, *args: *Args) -> T:
        """Return what `call(*args)` returns, without holding up the event loop."""


async def run_in_thread(call: Callable[[*Args], T], /, *args: *Args) -> T:
    """Run `call` in a thread of trio's."""
    return await trio.to_thread.run_sync(call, *args)
