"""Executors that have compiled an app, kept for the next server that is to run just the same.

A search and a suite of tests open hundreds of servers on one app, and compiling it takes
longer than what they do with it. What an executor gives depends on the code that it has
loaded and on the call alone; each call has fresh namespaces. So one that has loaded the very
frame that is asked for is as good as a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from sandbox.executor import Executor
from sandbox.frames import Load, Loaded, LoadFailed, Ran, Refused, Run, Syscall, SyscallReply
from sandbox.transaction import OpenDatabase, OpenedDatabase

KEPT_MAX: Final = 64  # executors, the oldest go first


@attrs.define(eq=False)
class _Kept:
    cursor_key: bytes
    frame: Load
    reply: Loaded
    executor: Executor
    database: _Rebound


@attrs.define(eq=False)
class _Rebound:
    """Opens databases of whichever store the executor works for at the time."""

    open: OpenDatabase

    def __call__(self, begin_ts: int, txn_id: int, overlay: list[bytes]) -> OpenedDatabase:
        return self.open(begin_ts, txn_id, overlay)


_free: Final[list[_Kept]] = []


@attrs.define(eq=False)
class ThriftyHandler:
    """Implements `sandbox.worker.RequestHandler` with an executor that is kept, or a new one."""

    _open_database: OpenDatabase
    _cursor_key: bytes
    _mine: _Kept | None = None

    def load(self, frame: Load) -> Loaded | LoadFailed:
        self.give_back()
        for kept in reversed(_free):
            if kept.cursor_key == self._cursor_key and kept.frame == frame:
                _free.remove(kept)
                kept.database.open = self._open_database
                self._mine = kept
                return kept.reply
        database = _Rebound(self._open_database)
        executor = Executor(database, cursor_key=self._cursor_key)
        reply = executor.load(frame)
        if isinstance(reply, Loaded):
            self._mine = _Kept(self._cursor_key, frame, reply, executor, database)
        return reply

    def run(self, frame: Run, syscall: Callable[[Syscall], SyscallReply]) -> Ran | Refused:
        if self._mine is None:
            return Refused(reason="unknown_code")
        return self._mine.executor.run(frame, syscall)

    def give_back(self) -> None:
        """Leave the executor to the next server. Nothing runs in it any more."""
        if self._mine is not None:
            _free.append(self._mine)
            del _free[:-KEPT_MAX]
            self._mine = None
