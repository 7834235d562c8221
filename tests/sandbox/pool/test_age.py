"""A pool grows old. The limit of time to become warm once also ended every zygote after a
minute, and with it the server: no test, and no run by hand, had lasted that long.
"""

from __future__ import annotations

import trio.testing
from harness import ENTRIES, run_frame

from sandbox.frames import Ran
from sandbox.pool import WorkerPool


async def test_pool_serves_long_after_it_became_warm(mock_clock: trio.testing.MockClock) -> None:
    pool = WorkerPool(entry="toy_entry:serve_toy", import_paths=(ENTRIES,))
    async with pool.running():
        zygote_pid = pool.zygote_pid
        for _ in range(3):
            async with pool.lease() as worker:
                assert isinstance(await worker.request(run_frame("echo", 1)), Ran)
            mock_clock.jump(100)
            await trio.testing.wait_all_tasks_blocked()
        assert pool.zygote_pid == zygote_pid
