"""What a worker may read stays as it was: LMDB reuses no page of a pinned state.

A worker reads without LMDB's locks, so LMDB does not know of it. The engine's own
read transaction, the pin, stands for it. Here the pages are looked at themselves:
the meta pages of a state are kept, later put over a copy of the file, and the
copy must still hold exactly what that state held. A control without pins shows
that pages are reused when nothing keeps them, so that the check can fail.

Not checked: that a worker whose map was outgrown is replaced, which is the
store's to notice, and what happens under a map that grows, where pins are lost.
"""

from __future__ import annotations

import random
import resource
import shutil
from pathlib import Path
from typing import Any

import attrs
import lmdb
import trio
from harness import ENTRIES, run_frame

from sandbox.frames import Ran
from sandbox.pool import Worker, WorkerPool
from storage import Commit, Pin, Store, Transaction
from tidewell.values import unpack

MAP_BYTES = 256 * 2**20  # never grows here
STEPS = 250
SEEDS = range(4)

Dump = dict[bytes, list[tuple[bytes, bytes]]]


@attrs.frozen
class Kept:
    """A state as it was: its meta pages, and everything in it."""

    metas: bytes
    content: Dump
    pin: Pin | None


def dump(path: Path) -> Dump:
    """Return everything in a file, by named database."""
    content: Dump = {}
    environment = lmdb.open(str(path), readonly=True, lock=False, max_dbs=32)
    with environment, environment.begin() as txn:
        names = [key for key, _ in txn.cursor()]
        for name in names:
            with txn.cursor(environment.open_db(name, txn, create=False)) as cursor:
                content[name] = list(cursor)
    return content


def keep(store: Store, folder: Path, *, pinned: bool) -> Kept:
    pin = store.pin() if pinned else None
    metas = (store.path / "data.mdb").read_bytes()[: 2 * page_size()]
    return Kept(metas, dump_of(store, metas, folder), pin)


def page_size() -> int:
    return resource.getpagesize()


def dump_of(store: Store, metas: bytes, folder: Path) -> Dump:
    """Return what the file holds now, looked at from the state of some meta pages."""
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    shutil.copyfile(store.path / "data.mdb", copy / "data.mdb")
    with open(copy / "data.mdb", "r+b") as file:
        file.write(metas)
    return dump(copy)


def is_intact(store: Store, kept: Kept, folder: Path) -> bool:
    try:
        return dump_of(store, kept.metas, folder) == kept.content
    except lmdb.Error:
        return False  # pages that are no longer what the tree says they are


def change(store: Store, dice: random.Random) -> None:
    """One commit that rewrites and deletes, so that many pages come free."""
    rows: dict[bytes, bytes | None] = {}
    for _ in range(dice.randint(1, 60)):
        key = f"row{dice.randrange(300):05}".encode()
        rows[key] = None if dice.random() < 0.2 else dice.randbytes(dice.choice((20, 300, 6_000)))
    store.commit([Commit(ts=store.head_ts + 1, private=tuple(sorted(rows.items())))])


def run(path: Path, seed: int, *, pinned: bool) -> int:
    """Keep states while commits go on, and return how many were damaged."""
    dice = random.Random(seed)
    damaged = 0
    kept: list[Kept] = []
    with Store.open(path / "store", map_size=MAP_BYTES, sync=False) as store:
        for step in range(STEPS):
            change(store, dice)
            if len(kept) < 4 and dice.random() < 0.3:
                kept.append(keep(store, path, pinned=pinned))
            if kept and dice.random() < 0.1:
                chosen = kept.pop(dice.randrange(len(kept)))
                if not is_intact(store, chosen, path):
                    damaged += 1
                    assert not pinned, f"seed {seed}, step {step}: a page of a pinned state was reused"
                if chosen.pin is not None:
                    assert not chosen.pin.lost
                    chosen.pin.release()
        for chosen in kept:
            if chosen.pin is not None:
                assert is_intact(store, chosen, path), f"seed {seed}: a page of a pinned state was reused"
                chosen.pin.release()
    return damaged


def test_no_page_of_a_pinned_state_is_reused(tmp_path: Path) -> None:
    for seed in SEEDS:
        run(tmp_path / str(seed), seed, pinned=True)


def test_pages_of_a_state_that_nobody_pinned_are_reused(tmp_path: Path) -> None:
    """The canary: were it not so, the test above would prove nothing."""
    assert run(tmp_path / "0", 0, pinned=False) > 0


# ---- a real worker --------------------------------------------------------------------


def rewrite_posts(store: Store, text: str) -> None:
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        if transaction.table_exists("posts"):
            for post in list(transaction.scan("posts", "by_creation_time")):
                transaction.replace(post["_id"], {"text": text})
        else:
            for number in range(200):
                identity = number.to_bytes(16, "big")
                transaction.insert("posts", {"text": text}, identity, number + 0.5)
        store.commit([transaction.write_set().commit(ts=store.head_ts + 1)])


def churn(store: Store, seed: int) -> None:
    dice = random.Random(seed)
    for number in range(40):
        rewrite_posts(store, f"{seed}-{number:04}" + "y" * 300)
        change(store, dice)


async def ask(worker: Worker, path: str, txn_id: int) -> Any:
    frame = run_frame(path)
    frame.txn_id = txn_id
    reply = await worker.request(frame)
    assert isinstance(reply, Ran), reply
    return unpack(reply.outcomes[0].value)


async def test_worker_reads_the_pinned_state_while_the_engine_commits(tmp_path: Path) -> None:
    with Store.open(tmp_path, map_size=MAP_BYTES, sync=False) as store:
        rewrite_posts(store, "first " + "x" * 300)
        churn(store, 1)
        pool = WorkerPool(
            entry="reader_entry:serve_reader", argument=str(tmp_path), size=1, import_paths=(ENTRIES,)
        )
        with trio.fail_after(60):
            async with pool.running(), pool.lease() as worker:
                with store.pin() as pin:
                    assert await ask(worker, "look", pin.txn_id) >= pin.txn_id
                    before = await ask(worker, "read", pin.txn_id)
                    assert len(before) == 200
                    churn(store, 2)
                    assert await ask(worker, "read", pin.txn_id) == before
                with store.pin() as pin:
                    assert await ask(worker, "look", pin.txn_id) >= pin.txn_id
                    after = await ask(worker, "read", pin.txn_id)
        assert len(after) == 200
        assert after != before


async def test_worker_cannot_write_the_map(tmp_path: Path) -> None:
    """The map is shared and read-only: making it writable is refused by the kernel, and the file keeps."""
    with Store.open(tmp_path, map_size=MAP_BYTES, sync=False) as store:
        rewrite_posts(store, "first")
        content = (tmp_path / "data.mdb").read_bytes()
        pool = WorkerPool(
            entry="reader_entry:serve_reader", argument=str(tmp_path), size=1, import_paths=(ENTRIES,)
        )
        with trio.fail_after(60):
            async with pool.running(), pool.lease() as worker:
                assert await ask(worker, "make the map writable", 0) == "refused"
        assert (tmp_path / "data.mdb").read_bytes() == content
