"""A worker's side of the store: another process, no locks, no system calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import attrs
import pytest

from storage import RetentionPolicy, Store, Transaction

from . import strict
from .harness import add_index, insert

_WORKER = """
import json, sys
from storage import *
from storage.errors import *
reader = SnapshotReader.open(sys.argv[1], map_size=int(sys.argv[2]))
sys.stdout.write(json.dumps("ready") + "\\n"); sys.stdout.flush()
if sys.argv[3]:
    sys.path.insert(0, sys.argv[3])
    import ctypes, struct  # nothing can be imported once no file can be opened
    import strict
    strict.confine()
for line in sys.stdin:
    ask = json.loads(line)
    try:
        if ask["do"] == "refresh":
            answer = reader.refresh(ask["at_least"])
        elif ask["do"] == "read":
            transaction = Transaction(reader.snapshot(ask["ts"]))
            answer = [row["n"] for row in transaction.scan("posts", ask["index"], reverse=ask["reverse"])]
            assert transaction.count("posts", ask["index"]) == len(answer)
            transaction.read_set().pack()
        elif ask["do"] == "check":
            transaction = Transaction(reader.snapshot())
            rows = list(transaction.scan("posts"))
            answer = sum(row["n"] for row in rows), reader.head_ts
    except (StoreError, OutOfRetention) as error:
        answer = type(error).__name__
    sys.stdout.write(json.dumps(answer) + "\\n"); sys.stdout.flush()
"""


@attrs.define
class Worker:
    process: subprocess.Popen[str]
    to: IO[str]
    answers: IO[str]

    def ask(self, do: str, **arguments: Any) -> Any:
        self.to.write(json.dumps({"do": do, **arguments}) + "\n")
        self.to.flush()
        return json.loads(self.answers.readline() or '"gone"')

    def read(self, ts: int | None = None, index: str = "by_creation_time", *, reverse: bool = False) -> Any:
        return self.ask("read", ts=ts, index=index, reverse=reverse)

    def refresh(self, at_least: int = 0) -> Any:
        return self.ask("refresh", at_least=at_least)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def start(path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(*, map_size: int = 0, confined: bool = False) -> Worker:
        place = str(Path(__file__).parent) if confined else ""
        process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(path), str(map_size), place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        worker = Worker(process, process.stdin, process.stdout)
        assert json.loads(worker.answers.readline()) == "ready"
        return worker

    yield start
    for process in started:
        with process:
            process.kill()


def test_a_worker_reads_what_is_committed_after_it_has_refreshed(path: Path, start: Any) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
        worker = start()
        insert(store, "posts", {"n": 2})
        assert worker.read() == [1]
        with store.pin() as pin:
            assert worker.refresh(pin.txn_id) >= pin.txn_id
            assert worker.read() == [1, 2]
            assert worker.read(ts=10) == [1]
            assert worker.read(ts=99) == "NotYetCommitted"


def test_a_worker_says_so_when_the_pinned_state_is_not_visible(path: Path, start: Any) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
        worker = start()
        with store.pin() as pin:
            assert worker.refresh(pin.txn_id + 1) == "ReaderStale"
            assert worker.refresh(pin.txn_id) == pin.txn_id


def test_a_worker_says_so_when_the_file_has_outgrown_its_map(path: Path, start: Any) -> None:
    with Store.open(path, map_size=1 << 17) as store:
        insert(store, "posts", {"n": 1})
        worker, roomy = start(map_size=1 << 18), start()
        insert(store, "posts", *({"n": 0, "text": "x" * 5000} for _ in range(200)))
        with store.pin() as pin:
            assert worker.refresh(pin.txn_id) == "MapOutgrown"
            assert roomy.refresh(pin.txn_id) >= pin.txn_id
            assert sum(roomy.read()) == 1


def test_a_worker_sees_the_horizon(path: Path, start: Any) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
        insert(store, "posts", {"n": 2})
        worker = start()
        store.retain(RetentionPolicy(age_ns=0), now_ns=20)
        assert worker.read(ts=10) == [1]
        worker.refresh()
        assert worker.read(ts=10) == "OutOfRetention"


def test_a_pinned_worker_never_sees_a_page_reused(path: Path, start: Any) -> None:
    """The sum over all documents is kept by every commit; a reused page would break it, or the checksums."""
    with Store.open(path) as store:
        add_index(store, "posts", "by_n", "n")
        ids = insert(store, "posts", *({"n": 10, "t": "x" * 200} for _ in range(100)))
        workers = [start(), start()]
        for round_ in range(60):
            with store.pin() as pin:
                for worker in workers:
                    assert worker.refresh(pin.txn_id) >= pin.txn_id
                for step in range(3):
                    with store.snapshot() as snapshot:
                        transaction = Transaction(snapshot)
                        pair = ids[round_ % 99], ids[round_ % 99 + 1]
                        for id_, change in zip(pair, (step + 1, -step - 1), strict=True):
                            body = transaction.get(id_)
                            assert body is not None
                            transaction.replace(id_, {"n": body["n"] + change, "t": os.urandom(100).hex()})
                        store.commit([transaction.write_set().commit(store.head_ts + 1)])
                    store.retain(RetentionPolicy(age_ns=0), now_ns=store.head_ts)
                for worker in workers:
                    total, head = worker.ask("check")
                    assert total == 1000
                    assert pin.head_ts <= head


def test_a_worker_makes_no_system_call_but_read_and_write(path: Path, start: Any) -> None:
    """The kernel kills the worker at any other call, memory apart."""
    if not strict.IS_POSSIBLE:
        pytest.skip("the filter knows other machines' calls")
    with Store.open(path) as store:
        add_index(store, "posts", "by_n", "n")
        insert(store, "posts", *({"n": number} for number in range(300)))
        worker = start(confined=True)
        for _ in range(5):
            insert(store, "posts", {"n": -1})
            with store.pin() as pin:
                assert worker.refresh(pin.txn_id) >= pin.txn_id
                assert len(worker.read()) == store.head_ts // 10 + 300 - 3
                assert len(worker.read(index="by_n", reverse=True)) == store.head_ts // 10 + 300 - 3
                assert len(worker.read(ts=30)) == 300
                assert len(worker.read(ts=30, index="by_id")) == 300
        assert worker.process.poll() is None


def test_the_filter_of_that_test_does_kill(path: Path, start: Any) -> None:
    if not strict.IS_POSSIBLE:
        pytest.skip("the filter knows other machines' calls")
    code = "import os, sys; sys.path.insert(0, sys.argv[1]); import strict; strict.confine(); os.stat('/')"
    result = subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent)], check=False)
    assert result.returncode < 0
