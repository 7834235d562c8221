"""What has to hold for a change to land: every planted bug is found, and a short swarm finds no other.

    python -m fuzz.ci --seconds 180 --seeds 150 --first 7

The seeds of the swarm are new ones each time, and printed; `--first` repeats them. CI takes the
first seed from the commit that it judges and a fixed number of seeds from there: every commit
is shown seeds of its own, and running CI for it again asks the same question again.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterable, Iterator
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


def _swarm(pool: ProcessPoolExecutor, seeds: Iterable[int], jobs: int, end: float) -> Iterator[Result]:
    """Run `seeds` until the time is up; yield each result as it comes."""
    coming = iter(seeds)
    running: dict[Future[Result], int] = {}
    while True:
        while len(running) < jobs and time.monotonic() < end and (seed := next(coming, None)) is not None:
            running[pool.submit(_run_watched, seed)] = seed
        if not running:
            return
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
@click.option("--seeds", type=int, help="Run no more seeds than this, even if there is time.")
@click.option("--jobs", default=os.cpu_count() or 1, help="Processes.")
@click.option(
    "--canaries/--no-canaries", "hunts", default=True, help="Whether to look for planted bugs first."
)
def main(seconds: float, first: int | None, seeds: int | None, jobs: int, hunts: bool) -> None:
    """End with status 1 if the swarm finds something, or a canary is not found."""
    started = time.monotonic()
    if first is None:
        first = random.SystemRandom().randrange(10**9)
    is_good = True
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(_hunt_watched, CANARIES if hunts else ()):
            is_good = is_good and found.problem is not None
            print(canaries.describe(found), flush=True)
        canaries_s = time.monotonic() - started
        told = f"canaries took {canaries_s:.0f} s; " if hunts else ""
        print(f"{told}swarm from seed {first}", flush=True)
        results = []
        # At least one seed per process, however slow the machine.
        swarm = itertools.count(first) if seeds is None else range(first, first + seeds)
        for result in _swarm(pool, swarm, jobs, max(started + seconds, time.monotonic() + 1)):
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
