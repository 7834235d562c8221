"""What the clients of a run do. A workload is three functions, set up, step and check, and the app they use.

Each file has its invariant as one line at its top.
"""

from __future__ import annotations

from typing import Final

from fuzz.workloads import bank, counter, cycle, drawn, inbox, lists, traps
from fuzz.workloads.base import Workload

WORKLOADS: Final[dict[str, Workload]] = {
    workload.name: workload
    for workload in (
        counter.WORKLOAD,
        bank.WORKLOAD,
        cycle.WORKLOAD,
        inbox.WORKLOAD,
        traps.WORKLOAD,
        lists.WORKLOAD,
    )
}
DRAWN: Final = "drawn"  # another app for each seed
NAMES: Final = sorted([*WORKLOADS, DRAWN])


def workload_of(name: str, seed: int) -> Workload:
    """Return the workload of a run."""
    return drawn.workload_of(seed) if name == DRAWN else WORKLOADS[name]
