"""Runs the engine from seeds: one seed, a range of them, or a swarm with a mix of faults for each.

    python -m fuzz.simulation --seed 7 --workload bank
    python -m fuzz.simulation --seeds 1..200 --jobs 2 --swarm

Everything in a run derives from its seed and the options that are printed with it: the
same command gives the same trace, byte for byte, in any process.
"""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import attrs
import click
import trio
import trio.testing

from engine.testing.chance import stream
from engine.testing.loop import seeded_order
from fuzz.faults import MIXES, Faults, draw_mix
from fuzz.history import Trace
from fuzz.judge import judge
from fuzz.plants import NO_PLANT, Plant
from fuzz.watchdog import watched
from fuzz.workloads import NAMES, workload_of
from fuzz.world import World

DURATION_S: Final = 20.0
_MEMORY: Final = Path("/dev/shm")


@attrs.frozen
class Plan:
    """What a run is made of, besides its seed."""

    workload: str | None = None  # None: drawn from the seed
    faults: str = "swarm"  # a mix for each seed; or the name of one of `MIXES`
    duration_s: float = DURATION_S
    clients: int = 3

    def command(self, seed: int) -> str:
        words = ["python -m fuzz.simulation", f"--seed {seed}", f"--faults {self.faults}"]
        if self.workload is not None:
            words.append(f"--workload {self.workload}")
        if self.duration_s != DURATION_S:
            words.append(f"--duration {self.duration_s:g}")
        if self.clients != 3:
            words.append(f"--clients {self.clients}")
        return " ".join(words)


@attrs.frozen
class Result:
    seed: int
    workload: str
    faults: tuple[str, ...]
    digest: str
    events: int
    simulated_s: float
    real_s: float
    counts: dict[str, int]
    problems: list[str]


def run_seed(seed: int, plan: Plan, plant: Plant = NO_PLANT, trace_path: Path | None = None) -> Result:
    """Run one simulation and judge it."""
    random = stream(seed, "plan")
    drawn = random.choice(NAMES)
    workload = workload_of(plan.workload or drawn, seed)
    faults = _faults(plan, seed)
    folder = Path(tempfile.mkdtemp(prefix="tidewell-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
    trace = Trace(trace_path)
    started = time.monotonic()
    try:
        world = World(seed, workload, folder, faults, plan.clients, plan.duration_s, plant, trace)
        simulate(world)
        problems = judge(world)
    finally:
        trace.close()
        shutil.rmtree(folder, ignore_errors=True)
    return Result(
        seed,
        workload.name,
        tuple(faults.names),
        trace.digest(),
        trace.events,
        world.simulated_s,
        time.monotonic() - started,
        world.history.counts,
        problems,
    )


def simulate(world: World) -> World:
    """Run a world to its end; return it, its history complete."""
    with seeded_order(world.seed):
        trio.run(world.run, clock=trio.testing.MockClock(autojump_threshold=0))
    return world


def _faults(plan: Plan, seed: int) -> Faults:
    if plan.faults == "swarm":
        return draw_mix(stream(seed, "faults"))
    return MIXES[plan.faults]


def run_seeds(seeds: range, plan: Plan, jobs: int) -> Iterator[Result]:
    """Run all seeds, `jobs` at a time; yield results in the order of the seeds."""
    if jobs == 1:
        for seed in seeds:
            yield _run_watched(seed, plan)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from pool.map(_run_watched, seeds, [plan] * len(seeds))


def _run_watched(seed: int, plan: Plan) -> Result:
    with watched():
        return run_seed(seed, plan)


def describe(result: Result, plan: Plan) -> str:
    speed = result.simulated_s / result.real_s
    commits = result.counts.get("mutation", 0)
    text = (
        f"seed {result.seed} {result.workload}: {result.simulated_s:.0f} s simulated, {speed:.0f}x, "
        f"{commits} mutations run, {result.events} events, digest {result.digest[:16]}"
    )
    if result.problems:
        text = f"FAILED {text}\n  repeat: {plan.command(result.seed)}\n  faults: {', '.join(result.faults)}"
        text += "".join(f"\n  - {problem}" for problem in result.problems)
    return text


def _seeds(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


@click.command()
@click.option("--seed", type=int, help="Run this one seed.")
@click.option("--seeds", type=_seeds, help="Run a range, such as 1..100.")
@click.option("--jobs", default=1, help="Processes.")
@click.option("--swarm", is_flag=True, help="Draw a mix of faults for each seed; the default.")
@click.option("--faults", type=click.Choice(["swarm", *MIXES]), default="swarm")
@click.option("--workload", type=click.Choice(NAMES))
@click.option("--duration", default=DURATION_S, help="Simulated seconds with faults.")
@click.option("--clients", default=3)
@click.option("--trace", type=click.Path(path_type=Path), help="Write the trace of --seed to a file.")
def main(
    seed: int | None,
    seeds: range | None,
    jobs: int,
    swarm: bool,
    faults: str,
    workload: str | None,
    duration: float,
    clients: int,
    trace: Path | None,
) -> None:
    """Run simulations; end with status 1 if one of them finds something."""
    plan = Plan(workload, "swarm" if swarm else faults, duration, clients)
    if seed is not None:
        with watched():
            result = run_seed(seed, plan, trace_path=trace)
        print(describe(result, plan))
        for what, count in sorted(result.counts.items()):
            print(f"  {count:6} {what}")
        sys.exit(bool(result.problems))
    started = time.monotonic()
    results = []
    for result in run_seeds(seeds or range(1, 11), plan, jobs):
        results.append(result)
        print(describe(result, plan), flush=True)
    real_s = time.monotonic() - started
    simulated_s = sum(result.simulated_s for result in results)
    failed = [result.seed for result in results if result.problems]
    print(
        f"{len(results)} seeds, {len(failed)} failed {failed or ''}; "
        f"{simulated_s / 3600:.2f} simulated hours in {real_s:.0f} s: "
        f"{len(results) / real_s * 3600:.0f} seeds per hour, "
        f"{simulated_s / real_s:.0f} simulated seconds per second"
    )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
