"""The pool without processes behaves like the one with them, as far as calls can tell."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import trio
from harness import run_frame
from toy_entry import ToyHandler

from sandbox.frames import Load, Loaded, Module, Ping, Pong, Ran, Refused, Syscall, SyscallReply
from sandbox.pool import InProcessPool, Pool, Request, WorkerLost
from sandbox.pool.in_process import InProcessWorker
from tidewell.values import pack, unpack


def toy_pool(**settings: Any) -> InProcessPool:
    return InProcessPool(build_handler=ToyHandler, **settings)


async def call(pool: Pool, path: str, args: Any = None, **options: Any) -> Any:
    async with pool.lease() as worker:
        reply = await worker.request(run_frame(path, args), **options)
    assert isinstance(reply, Ran), reply
    return unpack(reply.outcomes[0].value)


async def test_call_is_answered() -> None:
    pool = toy_pool()
    async with pool.running():
        assert await call(pool, "echo", {"a": 1}) == {"a": 1}


async def test_ping_is_answered() -> None:
    async with toy_pool().lease() as worker:
        assert await worker.request(Ping()) == Pong()


async def test_request_without_syscalls_runs_on_the_loops_thread() -> None:
    class Here(ToyHandler):
        def run(self, frame: Any, syscall: Any) -> Any:
            assert threading.current_thread() is threading.main_thread()
            return super().run(frame, syscall)

    assert await call(InProcessPool(build_handler=Here), "echo", 1) == 1


async def test_syscalls_are_answered_in_order() -> None:
    async def answer(syscall: Syscall) -> SyscallReply:
        await trio.lowlevel.checkpoint()
        return SyscallReply(number=syscall.number, ok=True, value=pack(syscall.number * 10))

    assert await call(toy_pool(), "ask", 3, on_syscall=answer) == [10, 20, 30]


async def test_syscall_in_a_request_without_them_is_a_violation() -> None:
    with pytest.raises(WorkerLost) as lost:
        await call(toy_pool(), "ask", 1)
    assert lost.value.kind == "protocol"


async def test_request_given_up_in_a_syscall_leaves_no_thread_and_no_worker() -> None:
    async def never(syscall: Syscall) -> SyscallReply:
        await trio.sleep_forever()
        raise AssertionError

    pool = toy_pool(size=1)
    async with pool.lease() as worker:
        with trio.move_on_after(0.01) as scope:
            await worker.request(run_frame("ask", 1), on_syscall=never)
        assert scope.cancelled_caught
    assert "guest in process" not in {thread.name for thread in threading.enumerate()}
    async with pool.lease() as other:
        assert other is not worker


async def test_fault_of_the_handler_is_raised_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await call(toy_pool(), "fault")


@pytest.mark.parametrize("path", ["fuel"])
async def test_worker_is_replaced_after_an_outcome_that_is_not_ordinary(path: str) -> None:
    pool = toy_pool(size=1)
    async with pool.lease() as worker:
        await worker.request(run_frame(path))
    async with pool.lease() as other:
        assert other is not worker


async def test_worker_whose_map_is_outgrown_is_replaced() -> None:
    pool = toy_pool(size=1)
    async with pool.lease() as worker:
        frame = run_frame("echo")
        frame.code = "outgrown"
        assert await worker.request(frame) == Refused(reason="map_outgrown")
    async with pool.lease() as other:
        assert other is not worker


async def test_injected_death_is_an_error_of_one_call() -> None:
    deaths = [None, WorkerLost("crash", "as the simulation wants"), None]

    def lose(request: Request) -> WorkerLost | None:
        return deaths.pop(0)

    pool = toy_pool(lose=lose)
    assert await call(pool, "echo", 1) == 1
    with pytest.raises(WorkerLost):
        await call(pool, "echo", 2)
    assert await call(pool, "echo", 3) == 3


async def test_lease_gives_no_worker_that_has_loaded_another_version() -> None:
    def load(code: str) -> Load:
        return Load(code=code, modules=[Module(path="a.py", source=b"")], analyse=False, now_ms=0, seed=b"")

    pool = toy_pool(size=1)
    async with pool.lease("c1") as one:
        assert isinstance(await one.request(load("c1")), Loaded)
        assert one.loaded_code == "c1"
    async with pool.lease("c1") as again:
        assert again is one
    async with pool.lease("c2") as two:
        assert two is not one


async def test_retire_all_replaces_the_idle_and_the_leased() -> None:
    pool = toy_pool(size=2)
    async with pool.lease() as one:
        async with pool.lease() as two:
            pass
        pool.retire_all()
    async with pool.lease() as three, pool.lease() as four:
        assert not {one, two} & {three, four}


async def test_leases_wait_for_their_turn() -> None:
    pool = toy_pool(size=1)
    held: list[InProcessWorker] = []

    async def hold() -> None:
        async with pool.lease() as worker:
            held.append(worker)
            await trio.lowlevel.checkpoint()
            assert held.pop() is worker
            assert not held

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(hold)


async def test_no_layer_is_claimed() -> None:
    assert not any(toy_pool().layers.in_force.values())
