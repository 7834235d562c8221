"""Runs recorded calls again, one by one, and has the worker tell which lines read and wrote.

For tools on a data folder; they hold it open as a `SharedStore`, whose view keeps the pages that
workers read. Guests run in the same confined processes as in a server.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
import trio

from engine.clock import SystemClock
from engine.deployment import WORKER_ENTRY
from engine.replay.recorded import RecordedCall
from sandbox import frames
from sandbox.pool import Pool, WorkerLost, WorkerPool
from storage import SharedStore

CPU_S: Final = 5.0
WALL_S: Final = 20.0
NO_KEY: Final = "00" * 32  # of cursors, where a backup came without it


def worker_argument(store: Path, data: Path) -> str:
    """Return the argument of `WORKER_ENTRY` for the store of a data folder."""
    try:
        key = (data / "cursor-key").read_text().strip()
    except OSError:
        key = ""
    return json.dumps({"store": str(store.resolve()), "cursor_key": key or NO_KEY})


@attrs.frozen(eq=False)
class Rerunner:
    _store: SharedStore
    _pool: Pool

    async def run(self, recorded: RecordedCall) -> frames.Outcome | None:
        """Return how a call ends this time, with its lines; None when no worker got through it."""
        code = recorded.code
        try:
            async with self._pool.lease(code.hash) as worker:
                if worker.loaded_code != code.hash:
                    loaded = await worker.request(code.load_frame(), wall_s=WALL_S, cpu_s=CPU_S)
                    if isinstance(loaded, frames.LoadFailed):
                        return None
                run = frames.Run(
                    code=code.hash,
                    begin_ts=recorded.begin_ts,
                    txn_id=self._store.txn_id,
                    overlay=[],
                    calls=[recorded.call],
                    production=recorded.production,
                    places=True,
                )
                reply = await worker.request(run, wall_s=WALL_S, cpu_s=CPU_S)
        except WorkerLost:
            return None
        return reply.outcomes[0] if isinstance(reply, frames.Ran) else None


@asynccontextmanager
async def rerunner(store: SharedStore, data: Path) -> AsyncIterator[Rerunner]:
    """Give a `Rerunner` on the data folder `data`. Raises `PoolFailed` where guests cannot be confined."""
    argument = worker_argument(store.path, data)
    pool = WorkerPool(entry=WORKER_ENTRY, argument=argument, size=1, clock=SystemClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        yield Rerunner(store, pool)
        nursery.cancel_scope.cancel()
