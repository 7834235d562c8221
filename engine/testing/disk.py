"""The off-thread runner of a test: calls run on the event loop, in virtual time; commits may be refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import attrs
import trio

from engine.testing.faults import Fate
from storage import DiskFull

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.frozen
class TestDisk:
    """Its `run_blocking` implements `engine.offload.RunBlocking`."""

    __test__ = False  # no class of tests

    _fate: Fate

    async def run_blocking(self, call: Callable[[*Args], T], /, *args: *Args) -> T:
        await trio.sleep(self._fate.delay(self._fate.faults.sync_delay_s))
        if getattr(call, "__name__", "") == "commit" and self._fate.refuses_commit():
            raise DiskFull("the test refuses this commit, as a full disk does; free some room and retry")
        return call(*args)
