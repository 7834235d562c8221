"""What the store costs, as ratios to floors measured in the same run: `python bench/storage_costs.py`.

    versions    reading a document's newest version after 1 and after 1,000,000 versions  (goal: 1.2x)
    scan        a range of 100 documents against a raw cursor, get and decode             (goal: 3x)
    group       a group commit of 100 transactions against the same puts in raw LMDB      (goal: 2x)
    conflicts   a conflict check as the write log grows from 10^3 to 10^6 keys            (goal: logarithmic)
    open        opening a store of 10,000,000 documents, and the memory that takes        (goal: 1 s)

Rounds of the two sides are interleaved and medians are compared, because absolute times drift.
`python bench/storage_costs.py scan group` runs some; `--scale=100` divides the large counts.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import lmdb
import msgspec

from storage import Commit, DocumentWrite, Entry, ReadSet, Store, Transaction, WriteLog
from storage.environment import Writer
from storage.keys import EVERYTHING
from tidewell.ids import encode_id
from tidewell.ranges import RangeBuilder
from tidewell.values import pack

ROUNDS = 31


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="bench-storage-", dir=os.environ.get("BENCH_DIR")))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def interleaved(*sides: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Return the median seconds of each side, run in turns."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, taken in zip(sides, times, strict=True):
            start = time.perf_counter()
            side()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def body(number: int) -> dict[str, Any]:
    return {
        "author": f"author{number % 100}",
        "text": f"the text of number {number}, of middling length",
        "likes": number,
        "tags": ["a", "b"],
        "draft": False,
        "score": number / 7,
        "title": f"title {number}",
        "place": {"lat": 1.5, "lon": 2.5},
        "seen": None,
        "kind": "post",
    }


def document(table: int, number: int, **changes: Any) -> DocumentWrite:
    internal_id = random.Random(number).randbytes(16)
    value = {**body(number), **changes, "_id": encode_id(table, internal_id), "_creationTime": number}
    return DocumentWrite(table, internal_id, pack({key: value[key] for key in sorted(value)}))


def make(path: Path, **options: Any) -> tuple[Store, int]:
    store = Store.open(path, **options)
    plan = store.catalog().plan()
    table = plan.create_table("posts")
    plan.add_index("posts", "by_author", ("author", "likes"), state="ready")
    store.commit([Commit(1, catalog=plan.change())])
    return store, table


# ---- versions ----------------------------------------------------------------------------


def bench_versions(scale: int) -> None:
    count = 1_000_000 // scale
    with folder() as path:
        once, table = make(path / "once")
        often, _ = make(path / "often", sync=False)
        for store in (once, often):
            store.commit([Commit(2, tuple(document(table, number) for number in range(100)))])
        target = document(table, 50)
        ts = 2
        while ts < count + 2:
            group = []
            for _ in range(min(1000, count + 2 - ts)):
                ts += 1
                group.append(Commit(ts, (document(table, 50, likes=ts),)))
            often.commit(group)
        with once.snapshot() as a, often.snapshot() as b:

            def gets(snapshot: Any) -> Callable[[], None]:
                def run() -> None:
                    for _ in range(2000):
                        snapshot.get(table, target.internal_id)

                return run

            def scans(snapshot: Any) -> Callable[[], None]:
                transaction = Transaction(snapshot)
                range_ = RangeBuilder("by_author", transaction.index_fields("posts", "by_author")).eq(
                    "author", "author50"
                )
                only = range_.finish()

                def run() -> None:
                    for _ in range(500):
                        assert len(list(transaction.scan("posts", "by_author", only))) == 1

                return run

            get_once, get_often = interleaved(gets(a), gets(b))
            scan_once, scan_often = interleaved(scans(a), scans(b))
        report(
            "versions",
            f"get after 1 version {get_once / 2000 * 1e6:.2f} µs, "
            f"after {count:,} {get_often / 2000 * 1e6:.2f} µs",
            get_often / get_once,
            1.2,
        )
        report(
            "versions",
            f"index scan {scan_once / 500 * 1e6:.1f} µs, after {count:,} {scan_often / 500 * 1e6:.1f} µs",
            scan_often / scan_once,
            1.2,
        )
        once.close()
        often.close()


# ---- scan ----------------------------------------------------------------------------------


def bench_scan(scale: int) -> None:
    with folder() as path:
        store, table = make(path / "store")
        store.commit([Commit(2, tuple(document(table, number) for number in range(10_000)))])
        raw = lmdb.open(str(path / "raw"), map_size=1 << 30, max_dbs=2)
        documents, index = raw.open_db(b"documents"), raw.open_db(b"index")
        with store.snapshot() as snapshot, raw.begin(write=True) as txn:
            info = snapshot.catalog.tables["posts"].index("by_author")
            assert info is not None
            for key, internal_id, packed in snapshot.scan(info, EVERYTHING):
                txn.put(internal_id, packed, db=documents)
                txn.put(key, internal_id, db=index)
        decoder = msgspec.msgpack.Decoder()

        def by_raw_cursor() -> None:
            with raw.begin() as txn, txn.cursor(index) as cursor:
                assert cursor.set_range(b"")
                found = []
                for _, internal_id in cursor.iternext():
                    found.append(decoder.decode(txn.get(internal_id, db=documents)))
                    if len(found) == 100:
                        break

        with store.snapshot() as snapshot:
            prefix = "author42"

            def by_transaction() -> None:
                transaction = Transaction(snapshot)
                builder = RangeBuilder("by_author", transaction.index_fields("posts", "by_author"))
                rows = list(transaction.scan("posts", "by_author", builder.eq("author", prefix).finish()))
                assert len(rows) == 100

            floor, ours = interleaved(by_raw_cursor, by_transaction, rounds=301)
        report(
            "scan",
            f"100 documents by index: raw {floor * 1e6:.0f} µs, transaction {ours * 1e6:.0f} µs",
            ours / floor,
            3,
        )
        raw.close()
        store.close()


# ---- group commit ----------------------------------------------------------------------------


class Recording(Writer):
    """Notes what is put, so that raw LMDB can be given exactly the same."""

    log: ClassVar[list[tuple[str, Any, bytes, bytes]]] = []

    def put(self, db: Any, key: bytes, value: bytes) -> None:
        self.log.append(("put", db, key, value))
        super().put(db, key, value)

    def put_new(self, db: Any, key: bytes, value: bytes) -> bool:
        self.log.append(("put", db, key, value))
        return super().put_new(db, key, value)

    def pop(self, db: Any, key: bytes) -> bytes | None:
        self.log.append(("delete", db, key, b""))
        return super().pop(db, key)

    def delete(self, db: Any, key: bytes) -> bool:
        self.log.append(("delete", db, key, b""))
        return super().delete(db, key)


def bench_group(scale: int) -> None:
    rounds = 41
    with folder() as path:
        store, table = make(path / "store")
        twin, _ = make(path / "twin", writer=Recording)
        first = Commit(2, tuple(document(table, number) for number in range(2000)))
        store.commit([first])
        twin.commit([first])
        raw = lmdb.open(str(path / "raw"), map_size=1 << 30, max_dbs=16)
        names = [
            name.encode()
            for name in (
                "meta",
                "documents",
                "documents_history",
                "index",
                "index_history",
                "log",
                "catalog",
                "private",
                "backfill",
                "garbage",
            )
        ]
        raw_dbs = {name: raw.open_db(name) for name in names}
        theirs = {id(getattr(twin._environment._dbs, name.decode())): db for name, db in raw_dbs.items()}
        source = random.Random(1)
        groups, puts = [], []
        ts = 2
        for _ in range(rounds):
            group = []
            for number in source.sample(range(2000), 100):
                ts += 1
                group.append(Commit(ts, (document(table, number, likes=ts),), record=b"r" * 300))
            groups.append(group)
            Recording.log = []
            twin.commit(group)
            puts.append([(kind, theirs[id(db)], key, value) for kind, db, key, value in Recording.log])
        with raw.begin(write=True) as txn, twin._environment.view() as view:
            for name, db in raw_dbs.items():
                with view.cursor(getattr(view.dbs, name.decode())) as cursor:
                    for key, value in cursor.iternext():
                        txn.put(key, value, db=db)
        ours, floor = [], []
        for group, steps in zip(groups, puts, strict=True):
            start = time.perf_counter()
            store.commit(group)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            with raw.begin(write=True) as txn:
                for kind, db, key, value in steps:
                    if kind == "put":
                        txn.put(key, value, db=db)
                    else:
                        txn.delete(key, db=db)
            floor.append(time.perf_counter() - start)
        mine, base = statistics.median(ours), statistics.median(floor)
        report(
            "group",
            f"100 updates, {len(puts[0])} puts, one sync: raw {base * 1e3:.2f} ms, store {mine * 1e3:.2f} ms",
            mine / base,
            2,
        )
        store.close()
        twin.close()
        raw.close()


# ---- conflicts ---------------------------------------------------------------------------------


def bench_conflicts(scale: int) -> None:
    source = random.Random(1)
    costs: dict[int, float] = {}
    for size in (1000, 10_000, 100_000, 1_000_000):
        log = WriteLog(horizon=0)
        for ts in range(1, size // 4 + 1):
            log.append(Entry(ts, tuple((1, source.randbytes(8)) for _ in range(4))))
        newest = log.newest
        log.append(Entry(newest + 1, ((2, b"elsewhere"),)))
        points = [
            ReadSet.of([(1, key := source.randbytes(8), key + b"\x00") for _ in range(5)]) for _ in range(500)
        ]
        whole = [ReadSet.of([(1, b"", b"\xff" * 9)])] * 500

        def check(log: WriteLog, reads: list[ReadSet], begin: int) -> Callable[[], None]:
            def run() -> None:
                for each in reads:
                    assert log.find_conflict(each, begin) is None

            return run

        # From the oldest snapshot nothing can be skipped by age; from a recent one nearly everything.
        oldest, recent, wide = (
            median / 500 * 1e6
            for median in interleaved(
                check(log, points, 0), check(log, points, newest - 5), check(log, whole, newest)
            )
        )
        costs[size] = oldest
        print(
            f"  conflicts: {size:>9,} keys: 5 points since the oldest snapshot {oldest:.1f} µs, "
            f"since a recent one {recent:.1f} µs; the whole index {wide:.1f} µs"
        )
    growth = costs[1_000_000] / costs[1000]
    report("conflicts", "5 points, 1,000,000 keys against 1,000 (linear is 1000)", growth, 10)


# ---- open -----------------------------------------------------------------------------------------

_OPEN = """
import sys, time
from storage import Store, Transaction
def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20
before = resident_mib()
start = time.perf_counter()
store = Store.open(sys.argv[1], create=False)
taken = time.perf_counter() - start
with store.snapshot() as snapshot:
    transaction = Transaction(snapshot)
    assert len([row for row, _ in zip(transaction.scan("posts"), range(100))]) == 100
after = resident_mib()
store.close()
print(taken, after - before)
"""


def bench_open(scale: int) -> None:
    with folder() as path:
        results = {}
        for count in (100_000 // scale, 10_000_000 // scale):
            place = path / str(count)
            store, table = make(place, sync=False)
            start = time.perf_counter()
            ts = 1
            for first in range(0, count, 10_000):
                ts += 1
                writes = []
                for number in range(first, min(first + 10_000, count)):
                    internal_id = number.to_bytes(8, "big") + bytes(8)
                    value = {
                        "_creationTime": number,
                        "_id": encode_id(table, internal_id),
                        "author": f"a{number % 1000}",
                        "likes": 1,
                    }
                    writes.append(DocumentWrite(table, internal_id, pack(value)))
                store.commit([Commit(ts, tuple(writes))])
            store.close()
            size = (place / "data.mdb").stat().st_size
            print(
                f"  open: wrote {count:,} documents in {time.perf_counter() - start:.0f} s, "
                f"{size / 2**30:.2f} GiB",
                flush=True,
            )
            runs = []
            for _ in range(5):
                result = subprocess.run(
                    [sys.executable, "-c", _OPEN, str(place)], capture_output=True, text=True, check=True
                )
                runs.append([float(each) for each in result.stdout.split()])
            results[count] = [statistics.median(column) for column in zip(*runs, strict=True)]
        (small, small_mib), (large, large_mib) = results.values()
        print(
            f"  open: {small * 1e3:.1f} ms and {small_mib:.1f} MiB, "
            f"against {large * 1e3:.1f} ms and {large_mib:.1f} MiB"
        )
        report("open", f"seconds to open {10_000_000 // scale:,} documents", large, 1)
        report("open", "MiB more than a store of a hundredth", large_mib - small_mib, 4)


def report(name: str, text: str, figure: float, goal: float) -> None:
    verdict = "ok" if figure <= goal else "MISSED"
    print(f"{name}: {text}: {figure:.2f} (goal {goal:g}) {verdict}", flush=True)


BENCHES = {
    "versions": bench_versions,
    "scan": bench_scan,
    "group": bench_group,
    "conflicts": bench_conflicts,
    "open": bench_open,
}


def main() -> None:
    chosen = [each for each in sys.argv[1:] if not each.startswith("--")] or list(BENCHES)
    scale = next((int(each[8:]) for each in sys.argv if each.startswith("--scale=")), 1)
    for name in chosen:
        BENCHES[name](scale)


if __name__ == "__main__":
    main()
