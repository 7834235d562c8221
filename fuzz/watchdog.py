"""Ends a process that hangs, and says where it hung.

Time is virtual in a simulation, so its own patience (`fuzz.world.STUCK_S`) cannot notice a task that
never gives up the thread, or a lock in C. This one counts real seconds and needs no cooperation: it
is a thread of the interpreter's C code.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

HANG_S: Final = 600.0  # of real time; a simulation takes about one, and hunts for a canary up to twenty


@contextmanager
def watched(seconds: float = HANG_S) -> Iterator[None]:
    """End this process with all its tracebacks on standard error unless the body ends within `seconds`."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
