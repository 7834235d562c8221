"""A pool of real workers: how calls end, what is replaced, and that the next call always succeeds."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from harness import ENTRIES, run_frame

from sandbox.confinement.limits import Budgets
from sandbox.frames import (
    Broken,
    Load,
    Loaded,
    LoadFailed,
    Module,
    Ping,
    Pong,
    Ran,
    Refused,
    Syscall,
    SyscallReply,
)
from sandbox.pool import PoolFailed, Rules, Worker, WorkerLost, WorkerPool
from sandbox.pool.wire import Closed
from tidewell.values import pack, unpack

SMALL = Budgets(memory_bytes=24 * 2**20)


def pool_of(entry: str = "toy_entry:serve_toy", **settings: Any) -> WorkerPool:
    return WorkerPool(entry=entry, import_paths=(ENTRIES,), **settings)


@asynccontextmanager
async def toy_pool(**settings: Any) -> AsyncIterator[WorkerPool]:
    """A pool, and at its end the proof that no process of it is left."""
    pool = pool_of(**settings)
    with trio.fail_after(60):
        async with pool.running():
            yield pool
            pids = [*pool.pids, pool.zygote_pid]
    assert not [pid for pid in pids if pid is not None and os.path.exists(f"/proc/{pid}")]


async def call(pool: WorkerPool, path: str, args: Any = None, **budgets: Any) -> Any:
    async with pool.lease() as worker:
        return await value_of(worker, path, args, **budgets)


async def value_of(worker: Worker, path: str, args: Any = None, **budgets: Any) -> Any:
    reply = await worker.request(run_frame(path, args), **budgets)
    assert isinstance(reply, Ran), reply
    return unpack(reply.outcomes[0].value)


def load_frame(code: str, *modules: Module) -> Load:
    return Load(code=code, modules=list(modules), analyse=False, now_ms=0, seed=b"")


MODULE = Module(path="a.py", source=b"")


async def test_call_is_answered() -> None:
    async with toy_pool() as pool:
        assert await call(pool, "echo", {"a": [1, None, "ä"]}) == {"a": [1, None, "ä"]}


async def test_worker_reports_the_transaction_of_its_first_read() -> None:
    async with toy_pool(argument="42") as pool, pool.lease() as worker:
        assert worker.txn_id == 42


async def test_ping_is_answered() -> None:
    async with toy_pool() as pool, pool.lease() as worker:
        assert await worker.request(Ping()) == Pong()


async def test_large_arguments_and_results_travel() -> None:
    async with toy_pool() as pool:
        data = bytes(range(256)) * 4 * 2**12
        assert await call(pool, "echo", data) == data


@pytest.mark.parametrize(
    ("path", "args", "kind"),
    [
        ("spin", None, "cpu"),
        ("read", None, "wall"),
        ("hog", None, "memory"),
        ("crash", None, "crash"),
        ("exit", 0, "crash"),
        ("exit", 3, "crash"),
        ("exit", 70, "memory"),
        ("fault", None, "crash"),
        ("open", None, "security"),
        ("pid", None, "security"),
        ("write", b"nonsense", "protocol"),
    ],
)
async def test_lost_worker_is_an_error_of_one_call(path: str, args: Any, kind: str) -> None:
    async with toy_pool(budgets=SMALL, size=1) as pool:
        with pytest.raises(WorkerLost) as lost:
            await call(pool, path, args, cpu_s=0.1, wall_s=0.3 if kind == "wall" else 30.0)
        assert lost.value.kind == kind
        assert await call(pool, "echo", 1) == 1


async def test_fault_of_the_host_in_a_worker_names_file_and_line() -> None:
    async with toy_pool() as pool:
        with pytest.raises(WorkerLost, match=r"(?s)ZeroDivisionError.*toy_entry\.py:\d+"):
            await call(pool, "fault")


async def test_worker_killed_from_outside_is_a_crash() -> None:
    async with toy_pool() as pool:
        async with pool.lease() as worker:
            os.kill(worker.process.pid, signal.SIGKILL)
            with pytest.raises(WorkerLost) as lost:
                await worker.request(Ping())
        assert lost.value.kind == "crash"
        assert await call(pool, "echo", 1) == 1


async def test_end_that_is_reported_before_the_channel_shows_it_ends_the_wait() -> None:
    """The zygote's report closes the channel under whoever waits for it, who once waited for good."""
    async with toy_pool() as pool:
        async with pool.lease() as worker:
            process = worker.process

            async def report() -> None:
                await trio.testing.wait_all_tasks_blocked()
                process.has_died(signal.SIGSEGV, 0.0)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(report)
                with pytest.raises(WorkerLost) as lost:
                    await worker.request(run_frame("read"))
        assert lost.value.kind == "crash"


async def test_last_frame_of_an_ended_worker_is_read_after_the_report_of_its_end() -> None:
    """It says what the fault was. The report used to close the channel with the frame still in it."""
    async with toy_pool() as pool, pool.lease() as worker:
        await worker.wire.send(run_frame("fault"))
        await worker.process.ended()
        frame = await worker.wire.receive()
        assert isinstance(frame, Broken)
        assert "ZeroDivisionError" in frame.message
        for _ in range(2):
            with pytest.raises(Closed):
                await worker.wire.receive()
            with pytest.raises(Closed):
                await worker.wire.send(Ping())


async def test_idle_worker_killed_from_outside_is_not_lent() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease() as worker:
            first = worker.process
        os.kill(first.pid, signal.SIGKILL)
        await first.ended()
        async with pool.lease() as worker:
            assert worker.process is not first


async def test_killed_zygote_is_replaced() -> None:
    async with toy_pool(size=1) as pool:
        first = pool.zygote_pid
        assert first is not None
        async with pool.lease() as worker:
            os.kill(first, signal.SIGKILL)
            await worker.process.ended()
            with pytest.raises(WorkerLost):
                await worker.request(Ping())
        assert await call(pool, "echo", 1) == 1
        assert pool.zygote_pid != first


async def test_worker_goes_on_after_ordinary_outcomes() -> None:
    async with toy_pool(size=1) as pool:
        for _ in range(3):
            await call(pool, "echo")
        async with pool.lease() as worker:
            assert worker.requests == 3


# ---- syscalls ----------------------------------------------------------------------


async def test_syscalls_are_answered_in_order() -> None:
    asked: list[int] = []

    async def answer(syscall: Syscall) -> SyscallReply:
        await trio.lowlevel.checkpoint()
        asked.append(syscall.number)
        return SyscallReply(number=syscall.number, ok=True, value=pack(syscall.number * 10))

    async with toy_pool() as pool:
        assert await call(pool, "ask", 3, on_syscall=answer) == [10, 20, 30]
    assert asked == [1, 2, 3]


async def test_syscall_in_a_request_without_them_is_a_violation() -> None:
    async with toy_pool() as pool:
        with pytest.raises(WorkerLost) as lost:
            await call(pool, "ask", 1)
        assert lost.value.kind == "protocol"


async def test_answer_to_a_syscall_that_takes_too_long_ends_at_the_wall() -> None:
    async def answer(syscall: Syscall) -> SyscallReply:
        await trio.sleep_forever()
        raise AssertionError

    async with toy_pool() as pool:
        with pytest.raises(WorkerLost) as lost:
            await call(pool, "ask", 1, on_syscall=answer, wall_s=0.05)
        assert lost.value.kind == "wall"


async def test_failure_of_the_answer_reaches_the_caller_and_costs_the_worker() -> None:
    async def answer(syscall: Syscall) -> SyscallReply:
        raise LookupError

    async with toy_pool(size=1) as pool:
        with pytest.raises(LookupError):
            await call(pool, "ask", 1, on_syscall=answer)
        assert await call(pool, "echo", 1) == 1


# ---- life cycle ----------------------------------------------------------------------


async def first_and_second(pool: WorkerPool, path: str, args: Any = None, count: int = 1) -> bool:
    """Whether a worker still serves after `count` calls of `path`."""
    async with pool.lease() as worker:
        for _ in range(count):
            await worker.request(run_frame(path, args))
    async with pool.lease() as other:
        return other is worker


async def test_worker_is_replaced_after_an_outcome_that_is_not_ordinary() -> None:
    async with toy_pool(size=1) as pool:
        assert not await first_and_second(pool, "fuel")


async def test_worker_is_replaced_after_its_number_of_requests() -> None:
    async with toy_pool(size=1, rules=Rules(requests_max=3)) as pool:
        assert await first_and_second(pool, "echo", count=2)
        assert not await first_and_second(pool, "echo", count=1)


async def test_worker_that_has_grown_is_replaced() -> None:
    async with toy_pool(size=1, rules=Rules(growth_bytes_max=8 * 2**20)) as pool:
        async with pool.lease() as worker:
            await value_of(worker, "grow", 20 * 2**20)
            worker.look_at_growth()
        async with pool.lease() as other:
            assert other is not worker


async def test_worker_near_the_end_of_its_cpu_life_is_replaced() -> None:
    async with toy_pool(size=1, rules=Rules(cpu_reserve_s=10.0**6)) as pool:
        assert not await first_and_second(pool, "echo")


async def test_worker_whose_map_is_outgrown_is_replaced() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease() as worker:
            frame = run_frame("echo")
            frame.code = "outgrown"
            assert await worker.request(frame) == Refused(reason="map_outgrown")
        async with pool.lease() as other:
            assert other is not worker


async def test_retired_worker_is_not_lent_again() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease() as worker:
            worker.retire()
        async with pool.lease() as other:
            assert other is not worker


async def test_retire_all_replaces_the_idle_and_the_leased() -> None:
    async with toy_pool(size=2) as pool:
        async with pool.lease() as one:
            async with pool.lease() as two:
                pass
            pool.retire_all()
            assert await value_of(one, "echo", 1) == 1  # a lease is honoured to its end
        async with pool.lease() as three, pool.lease() as four:
            assert not {one, two} & {three, four}


async def test_lease_prefers_a_worker_that_has_loaded_the_version() -> None:
    async with toy_pool(size=2) as pool:
        async with pool.lease() as one, pool.lease():
            assert isinstance(await one.request(load_frame("c1", MODULE)), Loaded)
        for _ in range(3):
            async with pool.lease("c1") as worker:
                assert worker is one
                assert worker.loaded_code == "c1"


async def test_lease_gives_no_worker_that_has_loaded_another_version() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease("c1") as one:
            await one.request(load_frame("c1", MODULE))
        async with pool.lease("c2") as two:
            assert two is not one
            assert two.loaded_code is None


async def test_worker_that_failed_to_load_is_replaced() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease() as one:
            assert isinstance(await one.request(load_frame("c1")), LoadFailed)
            assert one.loaded_code is None
        async with pool.lease() as two:
            assert two is not one


async def test_idle_workers_are_let_go_and_come_back_on_demand() -> None:
    async with toy_pool(rules=Rules(idle_s=0.2)) as pool:
        async with pool.lease() as worker:
            process = worker.process
        await process.ended()
        while pool.pids:  # the process has ended; the pool is about to hear of it
            await trio.lowlevel.checkpoint()
        assert await call(pool, "echo", 1) == 1


async def test_worker_that_computes_between_requests_is_killed() -> None:
    """A forged reply, and then a loop that nobody asked for."""
    async with toy_pool(size=1) as pool:
        async with pool.lease() as worker:
            await worker.request(run_frame("answer_and_spin"))
        assert await worker.process.ended() is not None
        assert worker.process.verdict is not None
        assert worker.process.verdict.kind == "security"
        assert await call(pool, "echo", 1) == 1


# ---- cancellation -------------------------------------------------------------------


async def test_cancelled_request_ends_its_worker_and_nothing_else() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease() as worker:
            with trio.move_on_after(0.02) as scope:
                await worker.request(run_frame("read"))
            assert scope.cancelled_caught
            await worker.process.ended()
        assert await call(pool, "echo", 1) == 1


async def test_cancelled_wait_for_a_worker_loses_none() -> None:
    async with toy_pool(size=1) as pool:
        async with pool.lease():
            with trio.move_on_after(0.02):
                async with pool.lease():
                    raise AssertionError
        assert await call(pool, "echo", 1) == 1


async def test_callers_wait_for_their_turn() -> None:
    async with toy_pool(size=2) as pool, trio.open_nursery() as nursery:
        values: list[int] = []

        async def one(number: int) -> None:
            values.append(await call(pool, "echo", number))

        for number in range(20):
            nursery.start_soon(one, number)
    assert sorted(values) == list(range(20))
    assert len(values) == 20


async def test_callers_are_served_in_the_order_they_came() -> None:
    """A caller that returns a worker and asks again at once used to get it back every time."""
    async with toy_pool(size=1) as pool, trio.open_nursery() as nursery:
        served: list[str] = []
        async with pool.lease():
            for name in ("first", "second"):
                nursery.start_soon(serve_once, pool, name, served)
                await trio.testing.wait_all_tasks_blocked()
        async with pool.lease():
            served.append("the one that came back")
    assert served == ["first", "second", "the one that came back"]


async def serve_once(pool: WorkerPool, name: str, served: list[str]) -> None:
    async with pool.lease():
        served.append(name)


async def test_zygote_is_replaced_after_its_number_of_starts() -> None:
    async with toy_pool(size=1, rules=Rules(zygote_starts_max=12)) as pool:
        first = pool.zygote_pid
        assert first is not None
        its_end = os.pidfd_open(first)
        for _ in range(10):
            async with pool.lease() as worker:
                worker.retire()
        assert await call(pool, "echo", 1) == 1
        assert pool.zygote_pid != first
        await trio.lowlevel.wait_readable(its_end)  # it ends when its last worker has
        os.close(its_end)


async def test_ending_the_pool_ends_requests_and_processes() -> None:
    pool = pool_of(size=2)
    async with pool.running(), pool.lease() as worker:
        process = worker.process
    assert process.is_dead
    with pytest.raises(PoolFailed):
        async with pool.lease():
            pass


# ---- storms ------------------------------------------------------------------------


async def test_storm_of_dying_workers_is_slowed_and_leaves_another_pool_alone() -> None:
    """Starts beyond the burst are spaced; the count says so, not the clock."""
    rules = Rules(starts_burst=4, starts_per_s=5.0)
    async with toy_pool(size=2, rules=rules) as storm, toy_pool(size=1) as quiet:
        before = storm.started

        async def die_again_and_again() -> None:
            while True:
                with pytest.raises(WorkerLost):
                    await call(storm, "crash")

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(die_again_and_again)
            nursery.start_soon(die_again_and_again)
            for number in range(400):
                assert await call(quiet, "echo", number) == number
            nursery.cancel_scope.cancel()
        took_s = trio.current_time() - began
        assert storm.started - before <= 4 + 5.0 * took_s + 2
        assert quiet.started == 1


# ---- starts that fail -----------------------------------------------------------------


async def test_pool_without_a_mandatory_layer_does_not_start() -> None:
    pool = pool_of("broken_walls:serve_with_unavailable_filter")
    with pytest.raises(PoolFailed, match="filter"):
        await run_alone(pool)


async def test_pool_whose_self_test_finds_a_hole_does_not_start() -> None:
    pool = pool_of("broken_walls:serve_with_sockets")
    with pytest.raises(PoolFailed, match="not stopped by the kernel: socket"):
        await run_alone(pool)


async def test_pool_does_not_take_a_workers_word_for_its_filter() -> None:
    pool = pool_of("broken_walls:serve_without_filter")
    with pytest.raises(PoolFailed, match="the kernel denies it"):
        await run_alone(pool)


async def test_pool_whose_entry_cannot_be_imported_says_so() -> None:
    with pytest.raises(PoolFailed, match="no_such_entry"):
        await run_alone(pool_of("no_such_entry:serve"))


async def run_alone(pool: WorkerPool) -> None:
    with trio.fail_after(30):
        await pool.run()


async def test_callers_are_told_when_workers_can_no_longer_start() -> None:
    async with toy_pool(size=1, argument="1") as pool:
        starter = pool._starter
        assert starter is not None
        # The next zygote's workers cannot open their database.
        starter.settings = attrs.evolve(starter.settings, argument="no number")
        assert pool.zygote_pid is not None
        os.kill(pool.zygote_pid, signal.SIGKILL)
        async with pool.lease() as worker:
            await worker.process.ended()
        with pytest.raises(PoolFailed, match="database: ValueError"):
            async with pool.lease():
                pass


# ---- what a worker is ---------------------------------------------------------------


async def test_worker_has_an_empty_environment_and_none_of_the_engine() -> None:
    async with toy_pool() as pool:
        assert await call(pool, "environment") == []
        assert await call(pool, "modules") is False


async def test_hash_seed_is_random_unless_given() -> None:
    seen = []
    for seed in (None, None, 7, 7):
        async with toy_pool(hash_seed=seed) as pool:
            seen.append(await call(pool, "hash", "text"))
    assert seen[0] != seen[1]
    assert seen[2] == seen[3]
    assert len(set(seen)) == 3


async def test_what_was_not_imported_in_time_is_an_import_error() -> None:
    async with toy_pool() as pool:
        with pytest.raises(WorkerLost, match="ModuleNotFoundError"):
            await call(pool, "import", "antigravity")


async def test_all_layers_are_reported() -> None:
    async with toy_pool() as pool:
        assert pool.layers.in_force["filter"]
        assert pool.layers.in_force["limits"]
