"""A program cannot tell that it is followed: the language tour and attacks, with a recorder and without."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest
from language import SEED, Snippet, read_tour, with_result

from sandbox.compiler import compile_module
from sandbox.guest import GuestRuntime
from sandbox.log_lines import LogLines
from sandbox.tracing.recorder import Recorder
from sandbox.tracing.shape import Request, Trace, decode_trace

HERE = Path(__file__).resolve().parent


def run(source: str, *, traced: bool) -> tuple[str, list[str], int, Trace | None]:
    """Return the result, the log and the steps of a program, and its trace if it was traced."""
    log: list[str] = []
    runtime = GuestRuntime()
    runtime.reset(seed=SEED, now_ms=1_700_000_000_123.5, fuel=1_000_000, log=log.append)
    namespace = runtime.namespace("tour")
    compiled = compile_module(source, "tour.py", "tour")
    recorder = Recorder(Request(imports=True), runtime.meter, LogLines())
    if traced:
        with recorder.running():
            runtime.run(compiled, namespace)
    else:
        runtime.run(compiled, namespace)
    steps = runtime.steps_used
    trace = decode_trace(recorder.pack()) if traced else None
    return runtime.texts.repr(namespace["result"]), log, steps, trace


@pytest.mark.parametrize("snippet", read_tour(), ids=lambda snippet: f"{snippet.topic}-{snippet.title}")
def test_a_snippet_comes_to_the_same_under_a_recorder(snippet: Snippet) -> None:
    source = with_result(snippet.source)
    live, traced = run(source, traced=False), run(source, traced=True)
    assert traced[:3] == live[:3]
    trace = traced[3]
    assert trace is not None
    assert trace.fault == ""
    lines = set(range(1, len(source.splitlines()) + 1))
    assert {stop.line for stop in trace.stops} <= lines
    names = {name for stop in trace.stops for name, _ in stop.changes}
    assert all(name == "_" or not name.startswith("_") for name in names)
    assert [stop.steps for stop in trace.stops] == sorted(stop.steps for stop in trace.stops)
    depth = 0
    for stop in trace.stops:
        depth += stop.kind in ("call", "resume")
        assert depth > 0
        depth -= stop.kind in ("return", "yield", "leave")
    assert depth == 0


def test_a_function_with_every_kind_of_statement_stops_on_its_own_lines_alone() -> None:
    source = textwrap.dedent(
        """
        def every(values):
            total = 0
            for value in values:
                if value == 1:
                    continue
                try:
                    total += 10 // value
                except ZeroDivisionError:
                    total -= 1
                else:
                    total += 1
                finally:
                    total *= 2
            while total > 5:
                total -= 3
                if total == 7:
                    break
            match values:
                case [first, *rest]:
                    total += first
                case _:
                    total = -1
            ordered = sorted(values, key=lambda value: -value)
            pairs = {value: [value] * 2 for value in ordered}
            pairs[0] += [total]
            del pairs[2]
            return (
                total,
                pairs,
            )

        result = every([2, 1, 0, 3])
        """
    )
    *_, trace = run(source, traced=True)
    assert trace is not None
    routine = next(row.id for row in trace.routines if row.name == "every")
    shown = source.splitlines()
    lines = [stop.line for stop in trace.stops if stop.routine == routine and stop.kind == "line"]
    seen = {shown[line - 1].strip() for line in lines}
    assert "def every(values):" not in seen
    assert {"continue", "total -= 1", "total += 1", "total *= 2", "break", "del pairs[2]"} <= seen
    repeated = {shown[line - 1].strip() for line, after in pairwise(lines) if line == after}
    assert "return (" not in repeated


def test_attacks_end_under_a_recorder_as_they_end_without() -> None:
    command = [sys.executable, str(HERE.parent / "attack_runner.py"), "reach.txt", "--traced"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 40
    assert [row for row in rows if row["ended"] not in row["allowed"]] == []
