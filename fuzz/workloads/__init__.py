"""What the clients of a run do. A workload is three functions, set up, step and check, and the app they use.

Each file has its invariant as one line at its top.
"""

from __future__ import annotations

from typing import Final

from fuzz.workloads import bank, counter, cycle, inbox, lists, traps
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
