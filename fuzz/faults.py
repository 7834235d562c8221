"""Which faults a run has, and how often: drawn from the seed, so that every run has a mix of its own.

In a swarm each kind of fault is left out of about half of the runs. A run with all
faults at once hides what only shows when everything but one thing goes well.
"""

from __future__ import annotations

from random import Random
from typing import Final

import attrs


@attrs.frozen
class Faults:
    """Rates are per event, intervals in simulated seconds; zero means never."""

    message_delay_s: float = 0.002  # mean
    worker_delay_s: float = 0.001
    sync_delay_s: float = 0.004
    late_reply: float = 0.0  # share of outcomes of mutations that reach their session late
    slow_worker: float = 0.0  # share of requests that take far longer
    worker_death: float = 0.0
    commit_refused: float = 0.0  # share of groups that find the disk full
    disk_full_every_s: float = 0.0  # and stays full for some seconds
    crash_every_s: float = 0.0
    crash_in_commit: float = 0.0  # share of groups in which the power goes, before or after the commit point
    outcome_unknown: float = 0.0
    drop_every_s: float = 0.0  # per client
    black_hole: float = 0.0  # share of drops that neither side notices for a while
    clock_jump_every_s: float = 0.0
    push_every_s: float = 0.0  # the same functions, and one index more or less

    @property
    def names(self) -> list[str]:
        always = ("message_delay_s", "worker_delay_s", "sync_delay_s")
        return [name for name, rate in attrs.asdict(self).items() if rate and name not in always]


QUIET = Faults()
EVERYTHING = Faults(
    late_reply=0.1,
    slow_worker=0.05,
    worker_death=0.01,
    commit_refused=0.01,
    disk_full_every_s=60,
    crash_every_s=25,
    crash_in_commit=0.004,
    outcome_unknown=0.002,
    drop_every_s=15,
    black_hole=0.1,
    clock_jump_every_s=20,
    push_every_s=6,
)

CRASHES = Faults(sync_delay_s=0.05, crash_every_s=3)

MIXES: Final = {"none": QUIET, "all": EVERYTHING, "crashes": CRASHES}


def draw_mix(random: Random) -> Faults:
    """Return a mix for one run of a swarm."""
    delays = {
        "message_delay_s": random.choice([0.0, 0.001, 0.01, 0.1]),
        "worker_delay_s": random.choice([0.0, 0.0005, 0.003, 0.02]),
        "sync_delay_s": random.choice([0.0, 0.002, 0.02, 0.2]),
    }
    kept = {name: getattr(EVERYTHING, name) * random.choice([0, 0, 1, 3]) for name in EVERYTHING.names}
    kept["black_hole"] = min(kept["black_hole"], 0.2)
    for name in kept:  # three times as often is a third of the interval
        if name.endswith("_every_s") and kept[name]:
            kept[name] = getattr(EVERYTHING, name) ** 2 / kept[name]
    return Faults(**delays, **kept)
