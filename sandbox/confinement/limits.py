"""Resource limits: what a worker may use for the rest of its life, whoever runs in it.

Memory is limited twice, relative to what the process already has when the
limits are set (the database is mapped by then, so its size does not matter):

* the data segment, which is what honest growth runs into;
* the address space, with the same budget and room for the stack. Pages that are
  filled and then made read-only leave the data segment but not memory, so the
  data limit alone could be walked around by native code.

CPU time is watched by the engine, call by call; these are the backstops for an
engine that is stuck. Under the filter a worker can arm nothing again, so what it
arms itself holds for its whole life: a profiling timer whose default action
kills, and two seconds later the hard limit. The pool replaces a worker long before
an honest one gets there. In between the engine moves the soft limit from outside,
before each call that needs it, where it may: for its own user, or with
CAP_SYS_RESOURCE for the unused one (`WorkerProcess.allow_cpu`).
"""

from __future__ import annotations

import resource
import signal

import attrs

STACK_BYTES = 8 * 2**20
_TIMER_LEAD_S = 2

# Each at zero: no processes, no files written, no core, no locked memory, no queues, no priority.
_NONE = (
    "RLIMIT_NPROC",
    "RLIMIT_FSIZE",
    "RLIMIT_CORE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
)


@attrs.frozen
class Budgets:
    """What one worker may use."""

    memory_bytes: int = 128 * 2**20  # beyond what it has when it is confined
    cpu_life_s: int = 600  # CPU time of all its calls together


def _memory_in_use() -> tuple[int, int]:
    """Return the bytes of address space and of data that this process has now."""
    with open("/proc/self/statm", "rb") as file:
        fields = file.read().split()
    page = resource.getpagesize()
    return int(fields[0]) * page, int(fields[5]) * page


def apply(budgets: Budgets) -> None:
    """Set every limit except the one on open files, which `no_more_files` sets last."""
    space, data = _memory_in_use()
    _set(resource.RLIMIT_DATA, data + budgets.memory_bytes)
    _set(resource.RLIMIT_AS, space + budgets.memory_bytes + STACK_BYTES)
    _set(resource.RLIMIT_STACK, STACK_BYTES)
    _set(resource.RLIMIT_CPU, budgets.cpu_life_s + _TIMER_LEAD_S)
    for name in _NONE:
        _set(getattr(resource, name), 0)
    signal.setitimer(signal.ITIMER_PROF, float(budgets.cpu_life_s))


def no_more_files() -> None:
    """Allow no descriptor but number 0, the channel."""
    _set(resource.RLIMIT_NOFILE, 1)


def missing(budgets: Budgets) -> str | None:
    """Return what does not hold although `apply` and `no_more_files` were called, or None."""
    for name in _NONE:
        if resource.getrlimit(getattr(resource, name)) != (0, 0):
            return f"{name} is not 0"
    for number, name in ((resource.RLIMIT_DATA, "data"), (resource.RLIMIT_AS, "address space")):
        if resource.getrlimit(number)[1] == resource.RLIM_INFINITY:
            return f"no limit on {name}"
    if resource.getrlimit(resource.RLIMIT_CPU)[1] > budgets.cpu_life_s + _TIMER_LEAD_S:
        return "the limit on CPU time is too high"
    if resource.getrlimit(resource.RLIMIT_NOFILE) != (1, 1):
        return "more than one descriptor is allowed"
    remaining, _ = signal.getitimer(signal.ITIMER_PROF)
    if remaining <= 0:
        return "the CPU timer is not running"
    return None


def _set(number: int, value: int) -> None:
    """Set soft and hard limit, to less where the hard limit is lower already."""
    _, hard = resource.getrlimit(number)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(number, (value, value))
