"""The zygote: what it passes on, what it does not, and that nothing outlives it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ENTRIES, PATIENCE_S, RawZygote, run_frame, settings, zygote_of

from sandbox import control
from sandbox.confinement.limits import Budgets
from sandbox.frames import encode
from sandbox.launch import start_zygote


def facts(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in children for each in (int(child), *descendants(int(child)))]


def wait_for_end_of(pids: list[int]) -> None:
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended = select.select([descriptor], [], [], PATIENCE_S)[0]
        os.close(descriptor)
        assert ended, f"process {pid} lives"


@pytest.mark.parametrize("with_namespaces", [True, False])
def test_closing_the_socket_ends_zygote_and_workers(with_namespaces: bool) -> None:
    process, link = start_zygote(settings("toy_entry:serve_toy", with_namespaces=with_namespaces))
    zygote = RawZygote(link)
    zygote.hear()
    workers = [zygote.spawn() for _ in range(3)]
    for worker in workers:
        worker.ready()
    family = descendants(process.pid)
    assert len(family) == 3 + with_namespaces
    link.close()
    process.wait(PATIENCE_S)
    wait_for_end_of(family)
    for worker in workers:
        worker.channel.close()


@pytest.mark.parametrize("with_namespaces", [True, False])
def test_killing_the_zygote_ends_its_workers(with_namespaces: bool) -> None:
    """Even one that spins and would never look at its channel."""
    process, link = start_zygote(settings("toy_entry:serve_toy", with_namespaces=with_namespaces))
    zygote = RawZygote(link)
    zygote.hear()
    worker = zygote.spawn()
    worker.ready()
    worker.channel.sendall(encode(run_frame("spin")))
    family = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE_S)
    wait_for_end_of(family)
    worker.channel.close()
    link.close()


def test_death_of_the_engine_ends_everything(tmp_path: Path) -> None:
    """The engine here is a process that starts a zygote and a spinning worker, and is killed."""
    program = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent), ENTRIES]!r}
from harness import *
with zygote_of("toy_entry:serve_toy") as zygote:
    worker = zygote.spawn()
    worker.ready()
    worker.channel.sendall(encode(run_frame("spin")))
    print("up", flush=True)
    time.sleep(60)
"""
    engine = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert engine.stdout is not None
    assert engine.stdout.readline() == b"up\n"
    family = descendants(engine.pid)
    assert len(family) >= 2
    engine.kill()
    engine.wait()
    engine.stdout.close()
    wait_for_end_of(family)


def test_worker_has_one_descriptor_and_an_empty_root() -> None:
    with zygote_of("broken_walls:serve_with_open_files") as zygote:
        worker = zygote.spawn()
        worker.ready()
        pid = pid_of_newest()
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0"]
        assert os.listdir(f"/proc/{pid}/root") == [] or os.geteuid() != 0
        worker.end()


def pid_of_newest() -> int:
    """The worker started last, in the test's own view."""
    return max(pid for pid in descendants(os.getpid()) if facts(pid)["Seccomp"] == "2")


def test_kernel_confirms_what_the_worker_says_of_itself() -> None:
    with zygote_of("toy_entry:serve_toy") as zygote:
        worker = zygote.spawn()
        ready = worker.ready()
        status = facts(pid_of_newest())
        worker.end()
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    if ready.layers["ids"]:
        assert int(status["CapBnd"], 16) == 0
        assert "0" not in status["Uid"].split()
        assert "0" not in status["Gid"].split()
        assert status["Groups"] == ""
    assert status["Threads"] == "1"


def test_workers_of_one_zygote_share_its_hash_seed_and_those_of_another_do_not() -> None:
    seen = []
    for seed in (5, 5, None):
        with zygote_of("toy_entry:serve_toy", hash_seed=seed) as zygote:
            for _ in range(2):
                worker = zygote.spawn()
                worker.ready()
                seen.append(worker.value("hash", "text"))
                worker.end()
    assert len(set(seen[:4])) == 1
    assert seen[4] == seen[5] != seen[0]


def test_cpu_time_of_a_whole_life_is_limited_without_the_engine() -> None:
    """Nobody watches here: the worker's own timer ends it."""
    with zygote_of("toy_entry:serve_toy", budgets=Budgets(cpu_life_s=1)) as zygote:
        worker = zygote.spawn()
        worker.ready()
        assert worker.ask(run_frame("spin")) is None
        worker.channel.close()
        assert os.WTERMSIG(zygote.status_of(worker.serial)) == signal.SIGPROF


def test_entry_that_cannot_be_imported_is_named() -> None:
    process, link = start_zygote(settings("toy_entry:no_such_function"))
    message = control.decode_from_zygote(link.recv(control.PACKET_BYTES_MAX))
    assert isinstance(message, control.Failed)
    assert "no_such_function" in message.why
    link.close()
    process.wait(PATIENCE_S)
