"""A pool of real workers for one who has no privilege; prints what it saw as JSON."""

from __future__ import annotations

import json
import os
import select
import signal
import sys

import trio
from harness import ENTRIES, run_frame

from sandbox.pool import WorkerLost, WorkerPool


async def main(with_namespaces: bool) -> None:
    kinds = {}
    pool = WorkerPool(
        entry="toy_entry:serve_toy", import_paths=(ENTRIES,), with_namespaces=with_namespaces, size=1
    )
    async with pool.running():
        for path in ("echo", "open", "spin", "hog"):
            async with pool.lease() as worker:
                try:
                    await worker.request(run_frame(path), cpu_s=0.1)
                    kinds[path] = "answered"
                except WorkerLost as lost:
                    kinds[path] = lost.kind
        kinds["spin, engine stuck"] = await spin_while_the_loop_stands_still(pool)
    print(
        json.dumps(
            {"uid": os.geteuid(), "kinds": kinds, "layers": pool.layers.in_force, "notes": pool.layers.notes}
        )
    )


async def spin_while_the_loop_stands_still(pool: WorkerPool) -> str:
    """Return the signal that ended the worker, and the soft limit it had."""
    async with pool.lease() as worker:
        process = worker.process
        process.allow_cpu(process.cpu_s() + 0.1)
        await worker.wire.send(run_frame("spin"))
        assert select.select([process.descriptor], [], [], 45)[0]
        status = await process.ended()
        assert status is not None
        return signal.Signals(os.WTERMSIG(status)).name


trio.run(main, sys.argv[1] == "namespaces")
