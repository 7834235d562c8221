"""Runs hostile programs, each in a process of its own with outer limits, and says how each ended.

`python tests/sandbox/attack_runner.py FILE` prints one JSON line per payload. The
parent only forks and waits; whatever a child does, the next one starts clean. With
`--traced` each runs under the debugger's recorder, and must end as it ends without.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).parent / "attacks"
FUEL = 2_000_000
CPU_S = 5
WALL_S = 60
DATA_BYTES = 512 * 2**20
SEED = bytes(range(32))


@attrs.frozen
class Attack:
    attack_class: str
    title: str
    allowed: tuple[str, ...]  # compile, error, fuel, depth, memory, same, or `value <repr>`
    source: Any


def read_attacks(path: Path) -> list[Attack]:
    found = []
    attack_class = ""
    block: list[str] = []

    def finish() -> None:
        if block:
            title, _, allowed = block[0].removeprefix("== ").rpartition(": ")
            source: Any = "\n".join(block[1:]) + "\n"
            if source.startswith("EVAL "):
                source = eval(source.removeprefix("EVAL "), {})  # our own payload, too large to write out
            choices = tuple(choice.strip() for choice in allowed.split("|"))
            found.append(Attack(attack_class, title, choices, source))
            block.clear()

    for line in path.read_text().splitlines():
        if line.startswith("# ") and (not block or block[-1] == ""):
            finish()
            attack_class = line.removeprefix("# ")
        elif line.startswith("== "):
            finish()
            block.append(line)
        elif block:
            block.append(line)
    finish()
    return found


def outcome(attack: Attack, traced: bool = False) -> str:
    """Run one payload in this process."""
    from sandbox.compiler import CompileError, compile_module
    from sandbox.faults import Terminated
    from sandbox.guest import GuestRuntime, prepare_process
    from sandbox.log_lines import LogLines
    from sandbox.traces import describe
    from sandbox.tracing.recorder import Recorder
    from sandbox.tracing.shape import Request, decode_trace

    prepare_process()
    runtime = GuestRuntime(extra_bases=())
    runtime.reset(seed=SEED, now_ms=0.0, fuel=FUEL)
    gc.disable()
    try:
        compiled = compile_module(attack.source, "attack.py", "attack")
    except CompileError as error:
        return "compile" if error.message else "compile without a message"
    results = []
    for _ in range(2 if "same" in attack.allowed else 1):
        runtime.reset(seed=SEED, now_ms=0.0, fuel=FUEL)
        namespace = runtime.namespace("attack")
        recorder = Recorder(Request(imports=True), runtime.meter, LogLines())
        try:
            with recorder.running() if traced else nullcontext():
                runtime.run(compiled, namespace)
                value = runtime.call(namespace["attack"]) if "attack" in namespace else namespace.get("x")
            results.append(f"value {runtime.texts.repr(value)[:200]}")
        except Terminated as ended:
            results.append(ended.kind)
        except Exception as error:
            described = describe(error, {}, runtime.texts)
            leaks = str(ROOT) in described.text() or "0x7f" in described.text()
            results.append("error that shows the host" if leaks else "error")
        if traced:
            trace = decode_trace(recorder.pack())
            if trace.fault and "RecursionError" not in trace.fault:
                results.append(trace.fault)
            if any("0x7f" in (text or "") for stop in trace.stops for _, text in stop.changes):
                results.append("a trace that shows the host")
    runtime.close()
    if len(results) == 2:
        return "same" if results[0] == results[1] else f"differs: {results}"
    return results[0]


def confined(attack: Attack, traced: bool = False) -> tuple[str, float]:
    """Fork, run, wait. Returns how the child ended, and its CPU seconds."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            text = outcome(attack, traced)
        except MemoryError:
            text = "memory"
        except BaseException as error:
            text = f"runner: {type(error).__name__}: {error}"
        os.write(write_end, text.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(write_end)
    deadline = time.monotonic() + WALL_S
    received = b""
    while True:
        ready, _, _ = select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            os.kill(child, signal.SIGKILL)
            break
        chunk = os.read(read_end, 8192)
        if not chunk:
            break
        received += chunk
    os.close(read_end)
    _, status, usage = os.wait4(child, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"SIGXCPU": "cpu", "SIGKILL": "wall"}.get(name, f"crash {name}"), cpu_s
    return received.decode(), cpu_s


def main(names: list[str], traced: bool = False) -> None:
    sys.path.insert(0, str(ROOT))
    import sandbox.guest

    assert sandbox.guest
    for name in names:
        for attack in read_attacks(FOLDER / name):
            if traced and attack.allowed == ("compile",):
                continue  # nothing of it runs
            ended, cpu_s = confined(attack, traced)
            row = {
                "class": attack.attack_class,
                "title": attack.title,
                "ended": ended,
                "cpu_s": round(cpu_s, 2),
            }
            print(json.dumps({**row, "allowed": attack.allowed}), flush=True)


if __name__ == "__main__":
    files = [name for name in sys.argv[1:] if name != "--traced"]
    main(files or [path.name for path in sorted(FOLDER.glob("*.txt"))], "--traced" in sys.argv)
