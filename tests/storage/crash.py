"""Kills a writer, again and again, and sees what is left: `python crash.py FOLDER KILLS LOSSES SEED`.

A process of its own that forks: one child commits until it is killed, the next one verifies and
reopens what the first has left. Three ways to die, in turn:

* at a random moment, by a signal from outside;
* at a given step of the write path, by its own hand, before or after every put;
* inside LMDB's commit, by the kernel, at its write of data pages, its sync or its meta page.

A killed process loses nothing that it has handed to the kernel; a machine without power does. So
a writer is also killed at its sync, and the pages it had written since the one before are kept or
lost at random, as a disk may do.

What must hold each time: the store verifies; every commit that was acknowledged is there; no
commit is there by half (the accounts of each add up, its private row and its log row agree);
and the next writer goes on from there.
"""

from __future__ import annotations

import mmap
import os
import random
import select
import signal
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import faults

from storage import Buffer, Commit, RetentionPolicy, Store, Transaction
from storage.environment import Writer
from storage.verify import verify_folder

ACCOUNTS = 8
TOTAL = 100 * ACCOUNTS
STEPS_MAX = 120  # more than a group of the workload has


class Dying(Writer):
    """Counts steps, and dies at one of them."""

    left = 0

    def step(self) -> None:
        Dying.left -= 1
        if Dying.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def put(self, db: Any, key: bytes, value: bytes) -> None:
        self.step()
        super().put(db, key, value)
        self.step()

    def delete(self, db: Any, key: bytes) -> bool:
        self.step()
        return super().delete(db, key)

    def pop(self, db: Any, key: bytes) -> bytes | None:
        self.step()
        return super().pop(db, key)

    def before_commit(self) -> None:
        self.step()

    def after_commit(self) -> None:
        self.step()


def prepare(folder: Path) -> None:
    with Store.open(folder, map_size=1 << 18) as store:
        plan = store.catalog().plan()
        plan.create_table("accounts")
        plan.add_index("accounts", "by_balance", ("balance",), state="ready")
        store.commit([Commit(1, catalog=plan.change())])
        with store.snapshot() as snapshot:
            transaction = Transaction(snapshot)
            for number in range(ACCOUNTS):
                transaction.insert(
                    "accounts", {"n": number, "balance": 100}, number.to_bytes(16), float(number)
                )
            store.commit([transaction.write_set().commit(2, private=[(b"ts", struct.pack(">Q", 2))])])


def work(folder: Path, acknowledge: int, seed: int, die: str) -> None:
    """Commit groups of transfers until killed, and say of each group that it is durable."""
    source = random.Random(seed)
    store = Store.open(folder, map_size=1 << 18, writer=Dying, create=False)
    if die == "step":
        Dying.left = source.randrange(1, STEPS_MAX)
    elif die in ("data", "sync", "meta"):
        data, meta = faults.descriptors_of(folder / "data.mdb")
        calls = {"data": ["pwrite64", "writev"], "sync": ["fdatasync", "fsync"], "meta": ["pwrite64"]}[die]
        for _ in range(source.randrange(3)):
            commit_group(store, source, acknowledge)
        faults.fail(calls, faults.KILL, meta if die == "meta" else data)
    while True:
        commit_group(store, source, acknowledge)
        if source.random() < 0.4:
            store.retain(RetentionPolicy(age_ns=15), now_ns=store.head_ts, rows_max=200)
        if source.random() < 0.05:
            churn_index(store)


def commit_group(store: Store, source: random.Random, acknowledge: int) -> None:
    commits, layers = [], []
    ts = store.head_ts
    with store.snapshot() as snapshot:
        for _ in range(source.randrange(1, 4)):
            transaction = Transaction(Buffer.overlay(snapshot, layers))
            accounts = list(transaction.scan("accounts", "by_balance"))
            giver, taker = source.sample(accounts, 2)
            amount = source.randrange(1, 10)
            note = "x" * source.choice([0, 10, 3000])
            transaction.replace(giver["_id"], {**giver, "balance": giver["balance"] - amount, "note": note})
            transaction.replace(taker["_id"], {**taker, "balance": taker["balance"] + amount, "note": note})
            ts += 1
            layers.append(transaction.write_set())
            commits.append(
                layers[-1].commit(ts, record=note.encode(), private=[(b"ts", struct.pack(">Q", ts))])
            )
    store.commit(commits)
    os.write(acknowledge, struct.pack(">Q", ts))


def churn_index(store: Store) -> None:
    """Add an index, fill it, and enable it; remove the one before. A kill may come anywhere in between."""
    table = store.catalog().tables["accounts"]
    plan = store.catalog().plan()
    for index in table.indexes:
        if index.name != "by_balance":
            plan.remove_index(index.index_id)
    made = plan.add_index("accounts", f"by_n_{table.indexes_made}", ("n",))
    store.commit([Commit(store.head_ts + 1, catalog=plan.change())])
    store.backfill(made.index_id).run(7)
    plan = store.catalog().plan()
    plan.enable_index(made.index_id)
    store.commit([Commit(store.head_ts + 1, catalog=plan.change())])


def inspect(folder: Path, acknowledged: int) -> None:
    report = verify_folder(folder, lambda stage, done: None)
    assert report.is_sound, str(report)
    with Store.open(folder, map_size=1 << 18, create=False) as store:
        assert store.head_ts >= acknowledged, (
            f"commit {acknowledged} was acknowledged, the head is {store.head_ts}"
        )
        for ts in {store.horizon, (store.horizon + store.head_ts) // 2, store.head_ts}:
            if ts < 2:
                continue
            with store.snapshot(ts) as snapshot:
                transaction = Transaction(snapshot)
                for index in ("by_creation_time", "by_balance", "by_id"):
                    total = sum(account["balance"] for account in transaction.scan("accounts", index))
                    assert total == TOTAL, (ts, index, total)
        row = store.private_get(b"ts")
        assert row is not None
        newest = [entry.ts for entry in store.log(store.horizon) if entry.catalog is None][-1:]
        assert newest in ([], [struct.unpack(">Q", row)[0]]), "private rows and log are of different commits"


def fork(task: Any, *arguments: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        task(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def run_child(task: Any, *arguments: Any) -> None:
    _, status = os.waitpid(fork(task, *arguments), 0)
    if status:
        raise SystemExit(f"{task.__name__} failed: {os.waitstatus_to_exitcode(status)}")


def kill_once(folder: Path, source: random.Random, die: str) -> int:
    """Let a writer work until it dies; return the newest commit that it acknowledged, or 0."""
    receive, send = os.pipe()
    pid = fork(work, folder, send, source.randrange(2**32), die)
    os.close(send)
    if die == "signal":
        select.select([receive], [], [], 10)  # it is at work now
        time.sleep(source.random() * 0.02)  # the moment is meant to be random
        os.kill(pid, signal.SIGKILL)
    acknowledged = b""
    while chunk := os.read(receive, 1 << 16):
        acknowledged += chunk
    os.close(receive)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (-signal.SIGKILL, -signal.SIGSYS):
        raise SystemExit(f"the writer ended by itself with {code}, it was to die by {die}")
    return struct.unpack(">Q", acknowledged[-8:])[0] if acknowledged else 0


def lose_power(folder: Path, source: random.Random) -> None:
    """Let a writer die at a sync, and keep only some of the pages it has written since the last one."""
    before = (folder / "data.mdb").read_bytes()
    with_head = fork(die_at_next_sync, folder, source.randrange(2**32))
    _, status = os.waitpid(with_head, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGSYS, status
    after = (folder / "data.mdb").read_bytes()
    size = mmap.PAGESIZE
    assert before != after, "the writer has written nothing before its sync"
    for _ in range(3):
        kept = source.random()
        pages = [
            after[place : place + size]
            if place >= len(before) or source.random() < kept
            else before[place : place + size]
            for place in range(0, len(after), size)
        ]
        # Pages beyond the old end may be missing too: they are zeros then, or the file is as short as it was.
        pages = [
            page if place * size < len(before) or source.random() < kept else bytes(size)
            for place, page in enumerate(pages)
        ]
        data = b"".join(pages)
        (folder / "data.mdb").write_bytes(data[: len(before)] if source.random() < 0.3 else data)
        run_child(inspect, folder, struct.unpack(">Q", head_of(folder))[0])
    (folder / "data.mdb").write_bytes(before)
    run_child(go_on, folder, source.randrange(2**32))


def die_at_next_sync(folder: Path, seed: int) -> None:
    source = random.Random(seed)
    store = Store.open(folder, map_size=1 << 18, create=False)
    (folder / "head").write_bytes(struct.pack(">Q", store.head_ts))
    data, _ = faults.descriptors_of(folder / "data.mdb")
    faults.fail(["fdatasync", "fsync"], faults.KILL, data)
    commit_group(store, source, os.open("/dev/null", os.O_WRONLY))


def head_of(folder: Path) -> bytes:
    return (folder / "head").read_bytes()


def go_on(folder: Path, seed: int) -> None:
    source = random.Random(seed)
    with Store.open(folder, map_size=1 << 18, create=False) as store:
        for _ in range(source.randrange(3)):
            commit_group(store, source, os.open("/dev/null", os.O_WRONLY))


def main(folder: Path, kills: int, losses: int, seed: int) -> None:
    print(f"seed {seed}", flush=True)
    source = random.Random(seed)
    ways = ["signal", "step", "step"] + (["data", "sync", "meta"] if faults.IS_POSSIBLE else [])
    run_child(prepare, folder)
    acknowledged = 2
    for number in range(kills):
        die = ways[number % len(ways)]
        acknowledged = max(acknowledged, kill_once(folder, source, die))
        run_child(inspect, folder, acknowledged)
    for _ in range(losses if faults.IS_POSSIBLE else 0):
        lose_power(folder, source)
    print(f"{kills} kills, {losses} losses of power, {acknowledged} commits acknowledged, none lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
