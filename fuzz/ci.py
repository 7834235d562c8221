"""What has to hold for a change to land: every planted bug is found, and a short swarm finds no other.

    python -m fuzz.ci --seconds 120

The seeds of the swarm are new ones each time, and printed; `--first` repeats them.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import click

from fuzz import canaries
from fuzz.canaries import CANARIES, Canary, Found, hunt
from fuzz.simulation import Plan, Result, describe, run_seed
from fuzz.watchdog import HANG_S, watched

SWARM: Plan = Plan()


def _run_watched(seed: int) -> Result:
    with watched():
        return run_seed(seed, SWARM)


def _hunt_watched(canary: Canary) -> Found:
    with watched():
        return hunt(canary)


def _swarm(pool: ProcessPoolExecutor, first: int, jobs: int, end: float) -> Iterator[Result]:
    """Run seeds from `first` on until the time is up; yield each result as it comes."""
    seed = first
    running: dict[Future[Result], int] = {}
    while running or time.monotonic() < end:
        while len(running) < jobs and time.monotonic() < end:
            running[pool.submit(_run_watched, seed)] = seed
            seed += 1
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                yield future.result()
            except BrokenProcessPool:
                under_way = ", ".join(map(str, sorted(running.values())))
                raise click.ClickException(
                    f"a process hung for {HANG_S:.0f} s or crashed (its traceback is above); under way were "
                    f"the seeds {under_way}: python -m fuzz.simulation --seed SEED --faults swarm"
                ) from None
            del running[future]


@click.command()
@click.option("--seconds", default=120.0, help="Of real time, for canaries and swarm together.")
@click.option("--first", type=int, help="The first seed of the swarm; drawn by default.")
@click.option("--jobs", default=os.cpu_count() or 1, help="Processes.")
def main(seconds: float, first: int | None, jobs: int) -> None:
    """End with status 1 if the swarm finds something, or a canary is not found."""
    started = time.monotonic()
    if first is None:
        first = random.SystemRandom().randrange(10**9)
    is_good = True
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(_hunt_watched, CANARIES):
            is_good = is_good and found.problem is not None
            print(canaries.describe(found), flush=True)
        canaries_s = time.monotonic() - started
        print(f"canaries took {canaries_s:.0f} s; swarm from seed {first}", flush=True)
        results = []
        # At least one seed per process, however slow the machine.
        for result in _swarm(pool, first, jobs, max(started + seconds, time.monotonic() + 1)):
            results.append(result)
            is_good = is_good and not result.problems
            print(describe(result, SWARM), flush=True)
    swarm_s = time.monotonic() - started - canaries_s
    print(
        f"{len(results)} seeds from {first} on, {sum(result.simulated_s for result in results) / 3600:.2f} "
        f"simulated hours, {len(results) / swarm_s * 3600:.0f} seeds per hour; "
        f"{'nothing found' if is_good else 'FAILED'}"
    )
    sys.exit(not is_good)


if __name__ == "__main__":
    main()
