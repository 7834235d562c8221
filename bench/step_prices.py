"""What a step of each operation takes: `python bench/step_prices.py [FILTER] [--over 20]`.

Fuel bounds a call only as far as no operation does much work for a step. Each row is a
loop over one operation on large operands, run until its budget ends, in a process of
its own: the processor's time divided by the steps charged, beside that of a plain loop.
The rows are sorted, the dearest step first; exit status 1 says that one took more than
`--over` times a step of the plain loop. The corpus is `step_prices.txt`: a title, what
is made ready, a line of dashes, and the body of the loop.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import attrs

from sandbox.compiler import compile_module
from sandbox.faults import Terminated
from sandbox.guest import GuestRuntime, prepare_process

CORPUS = Path(__file__).with_name("step_prices.txt")
FUEL = 100_000
SETUP_FUEL = 200_000_000
CPU_S = 3
PLAIN = "a plain loop"


@attrs.frozen
class Operation:
    title: str
    ready: str
    body: str

    def source(self) -> str:
        body = "".join(f"        {line}\n" for line in self.body.splitlines())
        return f"{self.ready}\ndef work():\n    while True:\n{body}"


def operations() -> list[Operation]:
    found = []
    for block in ("\n" + CORPUS.read_text()).split("\n== ")[1:]:
        title, _, program = block.partition("\n")
        ready, _, body = ("\n" + program).rpartition("\n--\n")
        found.append(Operation(title, ready.strip("\n"), body.strip("\n")))
    return found


def nanoseconds_per_step(operation: Operation, fuel: int) -> float:
    """Run the loop in this process until its steps are used up."""
    prepare_process()
    runtime = GuestRuntime(fuel=SETUP_FUEL)
    runtime.reset(seed=bytes(32), now_ms=0.0, fuel=SETUP_FUEL)
    namespace = runtime.namespace("work")
    runtime.run(compile_module(operation.source(), "work.py", "work"), namespace)
    gc.collect()
    gc.disable()
    runtime.meter.reset(fuel)
    begun = time.process_time()
    with suppress(Terminated):
        runtime.call(namespace["work"])
    return (time.process_time() - begun) / runtime.steps_used * 1e9


def measured(operation: Operation, fuel: int) -> str:
    """Return the nanoseconds as text, or how the child ended."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        try:
            text = f"{nanoseconds_per_step(operation, fuel):.1f}"
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write_end, text.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as reader:
        text = reader.read()
    os.waitpid(child, 0)
    return text or f"more than {CPU_S} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("filter", nargs="?", default="", help="a part of the titles to run")
    parser.add_argument("--over", type=float, default=20.0)
    parser.add_argument("--fuel", type=int, default=FUEL)
    options = parser.parse_args()
    corpus = operations()
    plain = min(
        float(measured(operation, options.fuel))
        for operation in corpus
        for _ in range(3)
        if operation.title == PLAIN
    )
    rows = []
    for operation in corpus:
        if options.filter in operation.title:
            text = measured(operation, options.fuel)
            is_number = text.replace(".", "").isdigit()
            rows.append((float(text) / plain if is_number else float("inf"), text, operation.title))
    for ratio, text, title in sorted(rows, reverse=True):
        print(f"{title:52}{text:>14} ns{ratio:9.1f}{'   over' if ratio > options.over else ''}")
    return int(any(ratio > options.over for ratio, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
