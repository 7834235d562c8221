"""A worker in somebody's hands: one request and its reply, within two budgets.

Invariants:

* One request is outstanding. Before the next one is sent, nothing may be waiting
  on the channel: a frame that nobody asked for is a violation.
* Whatever ends a request early, the cancellation of its caller included, ends
  the worker. A worker that still runs an abandoned call is nobody's.
* What was received is decoded as hostile bytes; any violation kills the worker.
"""

from __future__ import annotations

import logging
from typing import Final

import attrs
import trio

from sandbox.frames import (
    CALLS_MAX,
    Broken,
    FromWorker,
    Load,
    Loaded,
    ProtocolViolation,
    Run,
    Syscall,
    SyscallReply,
)
from sandbox.pool.death import WorkerLost
from sandbox.pool.exchange import Request, check_reply, check_syscall
from sandbox.pool.face import AnswerSyscall
from sandbox.pool.process import WorkerProcess
from sandbox.pool.rules import Rules, is_ordinary
from sandbox.pool.wire import Closed, Wire

_REST_CPU_S: Final = 0.5  # far above what collecting after the last reply takes
OVER_WALL: Final = "no reply within the time of one request"
_log = logging.getLogger("tidewell.sandbox")


@attrs.frozen
class Deadline:
    """Where a request must have ended."""

    wall: float  # on trio's clock
    cpu_s: float  # on the worker's CPU clock


async def _no_syscalls(syscall: Syscall) -> SyscallReply:
    raise ProtocolViolation("a syscall in a request that has none")


@attrs.define(eq=False)
class Worker:
    """A confined process that serves one deployment. Used through `WorkerPool.lease`."""

    wire: Wire
    layers: dict[str, bool]
    notes: dict[str, str]
    txn_id: int  # of the worker's first read of the database
    _rules: Rules
    loaded_code: str | None = attrs.field(default=None, init=False)
    requests: int = attrs.field(default=0, init=False)
    deadline: Deadline | None = attrs.field(default=None, init=False)  # None between requests
    idle_since: float = attrs.field(default=0.0, init=False)
    _cpu_s_at_rest: float = attrs.field(default=0.0, init=False)
    _is_retired: bool = attrs.field(default=False, init=False)
    _private_bytes_at_start: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._private_bytes_at_start = self.process.private_bytes()

    @property
    def process(self) -> WorkerProcess:
        return self.wire.process

    @property
    def is_fit(self) -> bool:
        """Whether it may serve another request."""
        return not (self._is_retired or self.process.is_dead or self.process.verdict is not None)

    def retire(self) -> None:
        """Let the worker go when its lease ends."""
        self._is_retired = True

    def condemn(self, problem: str) -> None:
        """Kill the worker for what its last reply held, which only unpacking could show."""
        self.process.kill("protocol", problem)
        _log.warning("security event in worker %d: protocol: %s", self.process.pid, problem)

    def look_at_growth(self) -> None:
        """Retire the worker when it has grown too much since it was ready."""
        if self.process.private_bytes() - self._private_bytes_at_start > self._rules.growth_bytes_max:
            self.retire()

    async def request(
        self,
        frame: Request,
        *,
        wall_s: float = 5.0,
        cpu_s: float = 1.0,
        on_syscall: AnswerSyscall | None = None,
    ) -> FromWorker:
        """Send a request and return its reply.

        Args:
          wall_s: from now to the reply, the answers to syscalls included.
          cpu_s: CPU time of the worker, all its parts of this request together.
          on_syscall: answers what the worker asks meanwhile. Without it, asking is a violation.

        Raises:
          WorkerLost: there is no reply and will be none; the worker is gone.
        """
        assert self.deadline is None, "one request at a time"
        assert not isinstance(frame, Run) or len(frame.calls) <= CALLS_MAX, len(frame.calls)
        process = self.process
        used_s = process.cpu_s()
        self.deadline = Deadline(trio.current_time() + wall_s, used_s + cpu_s)
        process.allow_cpu(self.deadline.cpu_s)
        self.requests += 1
        try:
            if on_syscall is None:
                reply = await self._exchange(frame, _no_syscalls)
            else:
                reply = await self._exchange_within(wall_s, frame, on_syscall)
        except Closed:
            raise await self._lost() from None
        except ProtocolViolation as violation:
            process.kill("protocol", str(violation))
            raise await self._lost() from None
        except BaseException:
            process.kill("crash", "its request was given up")
            raise
        finally:
            self.deadline = None
        self._judge(frame, reply, used_s)
        return reply

    async def _exchange_within(self, wall_s: float, frame: Request, on_syscall: AnswerSyscall) -> FromWorker:
        """Exchange under a deadline of our own: killing the worker would not end an answer to its syscall."""
        with trio.move_on_after(wall_s):
            return await self._exchange(frame, on_syscall)
        self.process.kill("wall", OVER_WALL)
        raise Closed

    def rests(self, now: float) -> None:
        """Note that it has come back from a lease."""
        self.idle_since = now
        self._cpu_s_at_rest = self.process.cpu_s()

    def look_at_rest(self) -> None:
        """Kill the worker if it computes although nobody asked it anything."""
        if self.process.cpu_s() - self._cpu_s_at_rest > _REST_CPU_S:
            self.process.kill("security", "computed between requests")
            _log.warning("security event in worker %d: it computes between requests", self.process.pid)

    def enforce(self, now: float) -> None:
        """Kill the worker if its request is over a budget. The pool calls this a few times a second,
        which is cheaper than a timer for every request; whoever waits finds the channel closed."""
        if self.deadline is None:
            return
        if now > self.deadline.wall:
            self.process.kill("wall", OVER_WALL)
        elif self.process.cpu_s() > self.deadline.cpu_s:
            self.process.kill("cpu", "over the CPU time of one request")

    def _judge(self, frame: Request, reply: FromWorker, cpu_s: float) -> None:
        """Decide from a good reply whether this worker goes on."""
        if isinstance(frame, Load):
            if self.loaded_code not in (None, frame.code):
                self.retire()
            if isinstance(reply, Loaded):
                self.loaded_code = frame.code
        is_old = self.requests >= self._rules.requests_max
        is_worn = cpu_s > self.process.cpu_life_s - self._rules.cpu_reserve_s
        if is_old or is_worn or not is_ordinary(reply):
            self.retire()

    async def _exchange(self, frame: Request, on_syscall: AnswerSyscall) -> FromWorker:
        wire = self.wire
        wire.require_silence()
        await wire.send(frame)
        syscalls = 0
        while True:
            reply = await wire.receive()
            if isinstance(reply, Broken):
                self.process.kill("crash", f"a fault of the host in the worker: {reply.message}")
                raise Closed
            if not isinstance(reply, Syscall):
                wire.require_end()
                check_reply(frame, reply)
                return reply
            syscalls += 1
            check_syscall(frame, reply, syscalls)
            answer = await on_syscall(reply)
            assert answer.number == reply.number, (answer.number, reply.number)
            wire.require_silence()
            await wire.send(answer)

    async def _lost(self) -> WorkerLost:
        """See the worker off. What looks like an attack, and what is a fault of ours, is logged."""
        lost = await self.process.lost()
        if lost.kind in ("security", "protocol"):
            _log.warning("security event in worker %d: %s", self.process.pid, lost)
        elif lost.kind == "crash":
            _log.error("worker %d: %s", self.process.pid, lost)
        return lost
