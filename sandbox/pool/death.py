"""How a worker was lost: from the way a process ended to an error of one call."""

from __future__ import annotations

import os
import signal
from typing import Final, Literal

import attrs

from sandbox.worker import STATUS_MEMORY

DeathKind = Literal["memory", "cpu", "wall", "crash", "security", "protocol"]


@attrs.define(eq=False)
class WorkerLost(Exception):
    """The worker of this request is gone, and with it the request. The next one has another worker."""

    kind: DeathKind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@attrs.define(eq=False)
class PoolFailed(Exception):
    """No worker can be had: the wall cannot be put up, or the database cannot be opened."""

    why: str

    def __str__(self) -> str:
        return self.why


@attrs.frozen
class Verdict:
    """Why we killed a worker ourselves."""

    kind: DeathKind
    detail: str


_CPU_SIGNALS: Final = frozenset({signal.SIGPROF, signal.SIGXCPU})


def explain(verdict: Verdict | None, status: int | None, cpu_s: float, cpu_life_s: int) -> WorkerLost:
    """Say how a worker was lost.

    Args:
      verdict: our own reason to kill it, which comes before everything else unless
        the worker had ended by itself first.
      status: as `waitpid` gives it; None when the zygote went away before it could say.
    """
    if status is None:
        return _lost(verdict, "crash", "its zygote ended")
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        if code == STATUS_MEMORY:
            return WorkerLost("memory", "out of memory")
        return _lost(verdict, "crash", f"ended with status {code}")
    number = os.WTERMSIG(status)
    if number == signal.SIGSYS:
        return WorkerLost("security", "made a system call that is not allowed")
    if number in _CPU_SIGNALS:
        return WorkerLost("cpu", "used up its CPU time, and the kernel noticed before we did")
    if number == signal.SIGKILL:
        if verdict is None and cpu_s >= cpu_life_s:
            return WorkerLost("cpu", "used up the CPU time of its whole life")
        return _lost(verdict, "crash", "killed from outside, perhaps for want of memory")
    return _lost(verdict, "crash", signal.Signals(number).name)


def _lost(verdict: Verdict | None, kind: DeathKind, detail: str) -> WorkerLost:
    return WorkerLost(kind, detail) if verdict is None else WorkerLost(verdict.kind, verdict.detail)
