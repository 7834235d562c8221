"""One worker process as the engine holds it: channel, process descriptor, CPU clock, end.

The process descriptor names the process even after its number has been given to
another one, so a kill always meets the right process. The number is used for
reading only: CPU clock, memory, and what the kernel says of its confinement.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Final

import attrs
import trio

from sandbox.pool.death import DeathKind, Verdict, WorkerLost, explain

_CPU_CLOCK_OF_PROCESS: Final = 2  # CPUCLOCK_SCHED, in the encoding of clock_getcpuclockid(3)
_END_S: Final = 10.0  # a killed process ends at once; this is for a machine in distress
_READ_BYTES: Final = 64 * 1024
_CPU_SLACK_S: Final = 2.0  # limits count whole seconds, and we are the ones to notice first
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@attrs.define(eq=False)
class WorkerProcess:
    serial: int
    channel: socket.socket  # not blocking; the worker's end is another description
    descriptor: int  # pidfd
    pid: int
    cpu_life_s: int
    verdict: Verdict | None = attrs.field(default=None, init=False)
    status: int | None = attrs.field(default=None, init=False)
    is_dead: bool = attrs.field(default=False, init=False)
    remains: bytes = attrs.field(default=b"", init=False)  # received after its end, and not yet taken
    _cpu_s: float = attrs.field(default=0.0, init=False)
    _armed_s: float = attrs.field(default=0.0, init=False)  # the soft limit on CPU time that we set last
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    def kill(self, kind: DeathKind = "crash", detail: str = "replaced") -> None:
        """Kill the process; the first reason given is the one that stands. Never waits."""
        if self.verdict is None:
            self.verdict = Verdict(kind, detail)
        self._send_kill()

    def has_died(self, status: int | None, cpu_s: float) -> None:
        """Note the end, as the zygote reports it. `status` is None when the zygote itself went away."""
        if self.is_dead:
            return
        if status is None:
            self._send_kill()
        self.is_dead = True
        self.status = status
        self._cpu_s = cpu_s
        self._drain()
        trio.lowlevel.notify_closing(self.channel)  # whoever waits for it would wait for good
        self.channel.close()
        os.close(self.descriptor)
        self._ended.set()

    def _drain(self) -> None:
        """Keep what it had sent: its last frame may say why it ended. The kernel bounds how much that is."""
        with contextlib.suppress(OSError):
            while piece := self.channel.recv(_READ_BYTES):
                self.remains += piece

    def _send_kill(self) -> None:
        if not self.is_dead:
            with contextlib.suppress(ProcessLookupError):  # it has ended, and we have not been told yet
                signal.pidfd_send_signal(self.descriptor, signal.SIGKILL)

    async def lost(self) -> WorkerLost:
        """Make sure the process is gone and say why."""
        self._send_kill()
        with trio.move_on_after(_END_S, shield=True):
            await self._ended.wait()
        return explain(self.verdict, self.status, self._cpu_s, self.cpu_life_s)

    async def ended(self) -> int | None:
        """Wait for the process to end, and return its status."""
        await self._ended.wait()
        return self.status

    def cpu_s(self) -> float:
        """CPU time used so far; what was last known when the process is gone."""
        if not self.is_dead and self.pid > 0:
            with contextlib.suppress(OSError):  # it has just ended; the zygote will report the final figure
                self._cpu_s = time.clock_gettime((~self.pid << 3) | _CPU_CLOCK_OF_PROCESS)
        return self._cpu_s

    def allow_cpu(self, until_s: float) -> None:
        """Have the kernel kill the process some seconds past `until_s` of CPU time, should we be stuck.

        The worker cannot move its own limits; we can, from outside. Nothing is done while
        the limit in force is near enough, so short calls one after another cost nothing.
        """
        limit_s = until_s + _CPU_SLACK_S
        if abs(limit_s - self._armed_s) < _CPU_SLACK_S or self.is_dead or self.pid <= 0:
            return
        with contextlib.suppress(OSError):  # it has ended, or we may not (another user's): its timer remains
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_CPU)
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (min(math.ceil(limit_s), hard), hard))
            self._armed_s = limit_s

    def private_bytes(self) -> int:
        """Anonymous memory, which excludes pages of the database."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_bytes().split()
        except OSError:
            return 0
        return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES

    def is_confined(self) -> bool:
        """Whether the kernel says of this process what the process says of itself."""
        try:
            text = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return (
            fields.get("Seccomp", "").strip() == "2"
            and fields.get("NoNewPrivs", "").strip() == "1"
            and int(fields.get("CapEff", "1"), 16) == 0
            and int(fields.get("CapPrm", "1"), 16) == 0
        )


def pid_of(descriptor: int) -> int:
    """Return the number, in this process's view, of the process that a pidfd names; -1 when it has ended."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "Pid":
            return int(value)
    raise OSError(f"descriptor {descriptor} names no process")
