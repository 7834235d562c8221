"""A pool of real workers for one who has no privilege; prints what it saw as JSON."""

from __future__ import annotations

import json
import os
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
    print(
        json.dumps(
            {"uid": os.geteuid(), "kinds": kinds, "layers": pool.layers.in_force, "notes": pool.layers.notes}
        )
    )


trio.run(main, sys.argv[1] == "namespaces")
