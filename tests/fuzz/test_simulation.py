"""One seed, one run: in this process, in another one, and whatever strings hash to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.testing.chance import stream
from fuzz.faults import EVERYTHING, QUIET, draw_mix
from fuzz.simulation import Plan, run_seed
from fuzz.workloads import NAMES
from fuzz.workloads.drawn import program_of

ROOT = Path(__file__).resolve().parents[2]
SHORT = Plan("bank", "all", duration_s=5)


def test_same_seed_gives_the_same_trace() -> None:
    one, two, other = run_seed(1, SHORT), run_seed(1, SHORT), run_seed(2, SHORT)
    assert (one.digest, one.events) == (two.digest, two.events)
    assert one.digest != other.digest
    assert not one.problems, SHORT.command(1)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_same_seed_gives_the_same_trace_in_any_process(hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, *SHORT.command(1).split()[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"digest (\w+)", done.stdout)
    assert found, done.stdout
    assert run_seed(1, SHORT).digest.startswith(found[1])


def test_the_app_of_a_seed_is_the_same_whatever_else_is_loaded() -> None:
    ask = "from fuzz.workloads.drawn import program_of; print(program_of(3).source, end='')"
    drawn = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert drawn.stdout == program_of(3).source


@pytest.mark.parametrize("workload", NAMES)
def test_workload_holds_under_all_faults(workload: str) -> None:
    plan = Plan(workload, "all", duration_s=5)
    result = run_seed(7, plan)
    assert not result.problems, plan.command(7)
    assert result.counts["mutation"] > 20


def test_faults_happen() -> None:
    """What a run is said to survive has to be there: a fault that never strikes would pass unnoticed."""
    counts: dict[str, int] = {}
    for seed in (1, 2):
        for what, count in run_seed(seed, Plan("counter", "all", duration_s=15)).counts.items():
            counts[what] = counts.get(what, 0) + count
    expected = {"crash", "line cut", "worker death", "commit refused once", "clock jump"}
    assert expected <= counts.keys(), sorted(counts)
    assert counts["life"] > 3


def test_every_seed_has_an_app_of_its_own_to_draw() -> None:
    programs = [program_of(seed) for seed in range(8)]
    assert len({program.source for program in programs}) == 8
    assert any(".gte(" in program.source for program in programs)
    assert any("ctx.run_mutation(" in program.source for program in programs)
    assert {len(program.tables) for program in programs} == {1, 2, 3}


def test_mixes_differ_and_stay_within_sense() -> None:
    mixes = [draw_mix(stream(seed, "faults")) for seed in range(50)]
    assert len({tuple(mix.names) for mix in mixes}) > 20
    assert {name for mix in mixes for name in mix.names} == set(EVERYTHING.names)
    assert QUIET.names == []
    assert all(0 <= mix.black_hole <= 0.2 for mix in mixes)
