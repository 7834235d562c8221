"""From the end of a process to the kind of error."""

from __future__ import annotations

import signal

import pytest

from sandbox.pool.death import Verdict, explain

LIFE_S = 300
WALL = Verdict("wall", "too long")


def exited(status: int) -> int:
    return status << 8


@pytest.mark.parametrize(
    ("verdict", "status", "cpu_s", "kind"),
    [
        (None, exited(0), 0.0, "crash"),
        (None, exited(3), 0.0, "crash"),
        (None, exited(70), 0.0, "memory"),
        (None, exited(71), 0.0, "crash"),
        (WALL, exited(0), 0.0, "wall"),
        (WALL, exited(70), 0.0, "memory"),  # it had ended by itself before we killed it
        (None, signal.SIGSYS, 0.0, "security"),
        (WALL, signal.SIGSYS, 0.0, "security"),
        (None, signal.SIGSYS | 0x80, 0.0, "security"),
        (None, signal.SIGSEGV, 0.0, "crash"),
        (None, signal.SIGBUS, 0.0, "crash"),
        (None, signal.SIGABRT, 0.0, "crash"),
        (None, signal.SIGILL, 0.0, "crash"),
        (None, signal.SIGPROF, 0.0, "cpu"),
        (None, signal.SIGXCPU, 0.0, "cpu"),
        (None, signal.SIGKILL, LIFE_S + 2.0, "cpu"),
        (None, signal.SIGKILL, 1.0, "crash"),
        (WALL, signal.SIGKILL, 1.0, "wall"),
        (WALL, signal.SIGKILL, LIFE_S + 2.0, "wall"),
        (None, None, 0.0, "crash"),
        (WALL, None, 0.0, "wall"),
    ],
)
def test_end_of_a_process_has_a_kind(
    verdict: Verdict | None, status: int | None, cpu_s: float, kind: str
) -> None:
    assert explain(verdict, status, cpu_s, LIFE_S).kind == kind
