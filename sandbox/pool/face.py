"""What callers of a pool need of it; real pools and the one in this process both have it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypedDict

import trio

from sandbox.confinement.layers import Report
from sandbox.frames import FromWorker, Syscall, SyscallReply
from sandbox.pool.exchange import Request

AnswerSyscall = Callable[[Syscall], Awaitable[SyscallReply]]


class Terms(TypedDict, total=False):
    """The terms of a request, for who passes one on."""

    wall_s: float
    cpu_s: float
    on_syscall: AnswerSyscall | None


class LeasedWorker(Protocol):
    """A worker in somebody's hands."""

    @property
    def loaded_code(self) -> str | None:
        """The version it has loaded; the caller sends `Load` first when it wants another."""

    async def request(
        self,
        frame: Request,
        *,
        wall_s: float = 5.0,
        cpu_s: float = 1.0,
        on_syscall: AnswerSyscall | None = None,
    ) -> FromWorker:
        """Send a request and return its reply. Raises `WorkerLost`."""

    def retire(self) -> None:
        """Let the worker go when its lease ends."""

    def condemn(self, problem: str) -> None:
        """Kill the worker for what its last reply held, which only unpacking could show."""


class Pool(Protocol):
    """The workers of one deployment."""

    @property
    def layers(self) -> Report:
        """What the walls around its workers are."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Run the pool for the length of a block."""

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; started when a worker is ready."""

    def lease(self, code: str | None = None) -> AbstractAsyncContextManager[LeasedWorker]:
        """Lend a ready worker for the length of a block. Raises `PoolFailed`."""

    def retire_all(self) -> None:
        """Replace every worker."""
