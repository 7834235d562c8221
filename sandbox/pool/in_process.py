"""The guest in this process, behind the face of a pool: for simulation, never for tenants.

There is no wall, so the only code to run here is code one would run anyway.
Frames go through the same encoding, decoding and checks as between processes,
and a worker's life follows the same rules of loading and retiring.

Everything is deterministic. A request without syscalls runs inside `request`,
without a checkpoint in its middle. A request with syscalls has a thread, as the
handler waits for its answers in the middle of its stack; the thread runs only
while the event loop stands still and waits for it, so nothing is concurrent.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from queue import SimpleQueue

import attrs
import trio

from sandbox.confinement.layers import LAYERS, Report
from sandbox.frames import (
    LENGTH,
    FromWorker,
    Load,
    Loaded,
    Ping,
    Pong,
    ProtocolViolation,
    Run,
    Syscall,
    SyscallReply,
    ToWorker,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from sandbox.pool.death import WorkerLost
from sandbox.pool.exchange import Request, check_reply, check_syscall
from sandbox.pool.face import AnswerSyscall
from sandbox.pool.rules import is_ordinary
from sandbox.worker import RequestHandler


class _Abandoned(BaseException):
    """Unwinds a handler whose request was given up while it waited for an answer."""


def _to_worker(frame: ToWorker) -> ToWorker:
    return decode_to_worker(encode(frame)[LENGTH.size :])


def _from_worker(frame: FromWorker) -> FromWorker:
    return decode_from_worker(encode(frame)[LENGTH.size :])


@attrs.define(eq=False)
class InProcessWorker:
    handler: RequestHandler
    lose: Callable[[Request], WorkerLost | None]
    loaded_code: str | None = attrs.field(default=None, init=False)
    is_fit: bool = attrs.field(default=True, init=False)

    def retire(self) -> None:
        self.is_fit = False

    def condemn(self, problem: str) -> None:
        raise ProtocolViolation(problem)  # no process has been broken into here, so this is a mistake of ours

    async def request(
        self,
        frame: Request,
        *,
        wall_s: float = 5.0,
        cpu_s: float = 1.0,
        on_syscall: AnswerSyscall | None = None,
    ) -> FromWorker:
        """Send a request and return its reply. The budgets have no meaning here. Raises `WorkerLost`."""
        await trio.lowlevel.checkpoint()
        fate = self.lose(frame)
        if fate is not None:
            self.retire()
            raise fate
        is_fit, self.is_fit = self.is_fit, False  # until there is a good reply
        try:
            if on_syscall is None:
                reply = _from_worker(self._handle(frame, _no_syscalls))
            else:
                reply = await self._run_with_syscalls(frame, on_syscall)
            check_reply(frame, reply)
        except MemoryError:
            raise WorkerLost("memory", "out of memory") from None
        except ProtocolViolation as violation:
            raise WorkerLost("protocol", str(violation)) from None
        is_other_code = isinstance(frame, Load) and self.loaded_code not in (None, frame.code)
        if isinstance(frame, Load) and isinstance(reply, Loaded):
            self.loaded_code = frame.code
        self.is_fit = is_fit and is_ordinary(reply) and not is_other_code
        return reply

    def _handle(self, frame: Request, ask: Callable[[Syscall], SyscallReply]) -> FromWorker:
        received = _to_worker(frame)
        match received:
            case Run():
                return self.handler.run(received, ask)
            case Load():
                return self.handler.load(received)
            case _:
                assert isinstance(frame, Ping), frame
                return Pong()

    async def _run_with_syscalls(self, frame: Request, on_syscall: AnswerSyscall) -> FromWorker:
        """Run the handler on a thread, taking turns with it."""
        said: SimpleQueue[FromWorker | BaseException] = SimpleQueue()
        answers: SimpleQueue[SyscallReply | None] = SimpleQueue()

        def ask(syscall: Syscall) -> SyscallReply:
            said.put(_from_worker(syscall))
            answer = answers.get()
            if answer is None:
                raise _Abandoned
            received = _to_worker(answer)
            assert isinstance(received, SyscallReply), received
            return received

        def handle() -> None:
            try:
                said.put(_from_worker(self._handle(frame, ask)))
            except BaseException as error:
                said.put(error)

        thread = threading.Thread(target=handle, name="guest in process", daemon=True)
        thread.start()
        syscalls = 0
        try:
            while True:
                message = said.get()
                if isinstance(message, BaseException):
                    raise message
                if not isinstance(message, Syscall):
                    return message
                syscalls += 1
                check_syscall(frame, message, syscalls)
                answers.put(await on_syscall(message))
        finally:
            answers.put(None)
            thread.join()


def _no_syscalls(syscall: Syscall) -> SyscallReply:
    raise ProtocolViolation("a syscall in a request that has none")


def _never(_: Request) -> WorkerLost | None:
    return None


@attrs.define(eq=False, kw_only=True)
class InProcessPool:
    """A pool whose workers are handlers in this process.

    `build_handler` is called once per worker. `lose` is asked before each request
    whether its worker dies of it; a simulation injects deaths there.
    """

    build_handler: Callable[[], RequestHandler]
    size: int = 2
    lose: Callable[[Request], WorkerLost | None] = _never

    layers: Report = attrs.field(init=False)
    _idle: list[InProcessWorker] = attrs.field(factory=list, init=False)
    _leased: list[InProcessWorker] = attrs.field(factory=list, init=False)
    _places: trio.Semaphore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.layers = Report(
            in_force=dict.fromkeys(LAYERS, False),
            notes=dict.fromkeys(LAYERS, "the guest runs in the engine's process"),
        )
        self._places = trio.Semaphore(self.size)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()

    @asynccontextmanager
    async def lease(self, code: str | None = None) -> AsyncIterator[InProcessWorker]:
        async with self._places:
            worker = self._pick(code)
            self._leased.append(worker)
            try:
                yield worker
            finally:
                self._leased.remove(worker)
                if worker.is_fit:
                    self._idle.append(worker)

    def _pick(self, code: str | None) -> InProcessWorker:
        for position in range(len(self._idle) - 1, -1, -1):
            if code is None or self._idle[position].loaded_code in (None, code):
                return self._idle.pop(position)
        if len(self._idle) + len(self._leased) >= self.size:
            self._idle.pop(0)  # it has loaded another version
        return InProcessWorker(self.build_handler(), self.lose)

    def retire_all(self) -> None:
        self._idle.clear()
        for worker in self._leased:
            worker.retire()
