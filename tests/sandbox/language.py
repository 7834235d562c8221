"""The language tour: snippets that must work, read from `tour/*.txt`, and how to run one.

A file is a heading and snippets. A snippet is a title after `== ` and a program whose
last expression is its result. Plain CPython is the oracle: it runs the same text, with
the real modules, and must show the same result.

As a program it prints, for every snippet, what the sandbox gives: `python
tests/sandbox/language.py` writes JSON, and is run under several versions and hash seeds.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import attrs

FOLDER = Path(__file__).parent
SEED = bytes(range(32))
NOW_MS = 1_700_000_000_123.5


@attrs.frozen
class Snippet:
    topic: str
    title: str
    source: str


@attrs.frozen
class Outcome:
    result: str
    log: tuple[str, ...]
    steps: int


def read_tour() -> list[Snippet]:
    found = []
    for path in sorted((FOLDER / "tour").glob("*.txt")):
        topic = ""
        for block in ("\n" + path.read_text()).split("\n== "):
            title, _, source = block.partition("\n")
            if block.startswith("\n# "):
                topic = source.splitlines()[0].removeprefix("# ")
            else:
                found.append(Snippet(topic, title, source.strip("\n") + "\n"))
    return found


def with_result(source: str) -> str:
    """Return the program with its last expression assigned to `result`, line for line."""
    last = ast.parse(source).body[-1]
    assert isinstance(last, ast.Expr), source
    lines = source.splitlines(keepends=True)
    assert last.col_offset == 0
    lines[last.lineno - 1] = "result = " + lines[last.lineno - 1]
    return "".join(lines)


def run_in_sandbox(source: str, *, fuel: int = 1_000_000) -> Outcome:
    from sandbox.compiler import compile_module
    from sandbox.guest import GuestRuntime

    log: list[str] = []
    runtime = GuestRuntime()
    runtime.reset(seed=SEED, now_ms=NOW_MS, fuel=fuel, log=log.append)
    namespace = runtime.namespace("tour")
    runtime.run(compile_module(with_result(source), "tour.py", "tour"), namespace)
    steps = runtime.steps_used
    return Outcome(runtime.texts.repr(namespace["result"]), tuple(log), steps)


def run_in_python(source: str) -> str:
    namespace: dict[str, Any] = {"__name__": "tour"}
    exec(compile(with_result(source), "tour.py", "exec", dont_inherit=True), namespace)
    return repr(namespace["result"])


def everything() -> dict[str, list[Any]]:
    """Return result, log and steps of every snippet, by topic and title."""
    report: dict[str, list[Any]] = {}
    for snippet in read_tour():
        outcome = run_in_sandbox(snippet.source)
        report[f"{snippet.topic}: {snippet.title}"] = [outcome.result, list(outcome.log), outcome.steps]
    return report


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parents[1]))
    from sandbox.guest import prepare_process

    prepare_process()
    json.dump(everything(), sys.stdout, indent=1)
