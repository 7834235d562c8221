"""What processes cost: starting a worker, its memory, a call and its way back.

    python bench/sandbox_process.py

Everything is measured on real, fully confined workers. The budgets are those of
the threat model: ready in 10 ms from a warm zygote, 8 MB of proportional memory
each. The floor of a call is the same bytes between the same two kinds of
process, without frames, checks, budgets and confinement: a bare trio loop that
waits, reads and writes, and a bare process that echoes.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from sandbox.frames import Call, Ping, Run, encode
from sandbox.pool import Rules, WorkerPool
from storage import Store
from tidewell.values import pack

STARTS = 200
AT_ONCE = 8
ROUNDS = 5
CALLS = 2_000
UNLIMITED = Rules(starts_burst=10**6, zygote_starts_max=10**6)


def main() -> None:
    trio.run(_main)


async def _main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        Store.open(store).close()
        guest = json.dumps({"store": store, "cursor_key": "00" * 32})
        await _starts_and_memory("guest (sandbox and storage)", "engine.guest:serve_guest", guest)
    await _starts_and_memory("echo (frames only)", "sandbox_process_entry:serve_echo", "")
    await _round_trips()


def _pool(entry: str, argument: str, size: int) -> WorkerPool:
    here = str(Path(__file__).resolve().parent)
    return WorkerPool(entry=entry, argument=argument, size=size, rules=UNLIMITED, import_paths=(here,))


async def _starts_and_memory(title: str, entry: str, argument: str) -> None:
    print(f"\n{title}")
    began = time.perf_counter()
    pool = _pool(entry, argument, AT_ONCE)
    async with pool.running():
        print(f"  cold start, self-test included: {1e3 * (time.perf_counter() - began):.0f} ms")
        took = []
        for _ in range(STARTS):
            began = time.perf_counter()
            worker = await pool.start_worker()
            took.append(1e3 * (time.perf_counter() - began))
            worker.process.kill()
            await worker.process.ended()
        _print("ready from a warm zygote", took, "ms", goal=10.0)

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(_start_many, pool, STARTS // AT_ONCE)
        rate = STARTS / (time.perf_counter() - began)
        print(f"  workers started and ended, {AT_ONCE} at once: {rate:.0f}/s")

        await _memory(pool)


async def _start_many(pool: WorkerPool, count: int) -> None:
    for _ in range(count):
        worker = await pool.start_worker()
        worker.process.kill()
        await worker.process.ended()


async def _memory(pool: WorkerPool) -> None:
    """Proportional memory of a worker: what the zygote and all its workers have, less what it has alone."""
    assert pool.zygote_pid is not None
    family = [pool.zygote_pid, *_children(pool.zygote_pid)]
    alone = sum(_pss_mb(pid) for pid in _descendants(pool.zygote_pid) if pid not in pool.pids)
    workers = [await pool.start_worker() for _ in range(AT_ONCE)]
    for worker in workers:
        await worker.request(Ping())
    pids = [worker.process.pid for worker in workers]
    together = sum(_pss_mb(pid) for pid in _descendants(pool.zygote_pid))
    print(f"  zygote: {alone:.1f} MB of proportional memory in {len(family)} processes")
    each = (together - alone) / len(pids)
    print(f"  each worker: {each:.1f} MB beyond the zygote (goal 8)")
    for worker in workers:
        worker.process.kill()
        await worker.process.ended()


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _descendants(pid: int) -> list[int]:
    return [pid, *(each for child in _children(pid) for each in _descendants(child))]


def _pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


# ---- round trips -------------------------------------------------------------------


def _frame(count: int) -> Run:
    args = pack({"id": "k57c2d0w5n4mjr8y1qv9x3hz6t", "text": "x" * 200, "likes": 3})
    call = Call(
        execution="e", kind="mutation", path="a:b", args=args, identity=pack(None), seed=bytes(32), now_ms=0
    )
    return Run(code="c", begin_ts=1, txn_id=1, overlay=[], calls=[call] * count)


async def _round_trips() -> None:
    print("\na request and its reply, interleaved rounds")
    pool = _pool("sandbox_process_entry:serve_echo", "", 1)
    taken: dict[str, list[float]] = {}
    frames = {"1 call": _frame(1), "16 calls": _frame(16), "64 calls": _frame(64)}
    same_size = bytes(len(encode(frames["1 call"])))
    async with pool.running(), pool.lease() as worker:
        with _Echo() as floor:
            for _ in range(ROUNDS):
                taken.setdefault("floor", []).extend(await _time(partial(floor.exchange, same_size)))
                for name, frame in frames.items():
                    taken.setdefault(name, []).extend(await _time(partial(worker.request, frame)))
    for name, values in taken.items():
        _print(name, values, "µs")
    print(f"  1 call over the floor: {_p50(taken['1 call']) / _p50(taken['floor']):.1f}x")
    print(f"  each call of 64: {_p50(taken['64 calls']) / 64:.1f} µs")


async def _time(once: Callable[[], Any]) -> list[float]:
    taken = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await once()
        taken.append(1e6 * (time.perf_counter() - began))
    return taken


class _Echo:
    """The floor: a forked process that sends back what it reads."""

    def __enter__(self) -> _Echo:
        self.channel, its = socket.socketpair()
        self.channel.setblocking(False)
        self.pid = os.fork()
        if self.pid == 0:
            self.channel.close()
            while data := its.recv(65536):
                its.sendall(data)
            os._exit(0)
        its.close()
        return self

    async def exchange(self, data: bytes) -> bytes:
        self.channel.send(data)
        await trio.lowlevel.wait_readable(self.channel)
        return self.channel.recv(65536)

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        os.waitpid(self.pid, 0)


def _p50(values: list[float]) -> float:
    return statistics.median(values)


def _print(name: str, values: list[float], unit: str, goal: float | None = None) -> None:
    ordered = sorted(values)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    against = "" if goal is None else f" (goal {goal:g})"
    print(f"  {name}: p50 {_p50(values):.1f} {unit}, p99 {p99:.1f} {unit}{against}")


if __name__ == "__main__":
    main()
