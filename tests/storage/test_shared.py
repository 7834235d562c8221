"""A store read from another process, beside the one that writes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import OutOfRetention, RetentionPolicy, SharedStore, Store, StoreMissing, Transaction
from tidewell.ids import encode_id

ID = encode_id(10001, bytes(16))

READ = """
import sys
from storage import SharedStore
with SharedStore.open(sys.argv[1]) as shared:
    for _ in sys.stdin:
        head = shared.refresh()
        print(head, [entry.ts for entry in shared.log_backwards()], flush=True)
"""


def write(store: Store, ts: int, number: int | None) -> None:
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        if number is None:
            transaction.delete(ID)
        elif transaction.table_exists("notes") and transaction.get(ID) is not None:
            transaction.replace(ID, {"number": number})
        else:
            transaction.insert("notes", {"number": number}, bytes(16), 1.0)
        store.commit([transaction.write_set().commit(ts, record=str(ts).encode())])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "store") as store:
        for ts, number in ((10, 1), (20, 2), (30, None), (40, 4)):
            write(store, ts, number)
    return tmp_path / "store"


def test_log_is_read_in_both_directions(folder: Path) -> None:
    with SharedStore.open(folder) as shared:
        assert [entry.ts for entry in shared.log(0)] == [10, 20, 30, 40]
        assert [entry.ts for entry in shared.log(10, 30)] == [20, 30]
        assert [entry.ts for entry in shared.log_backwards()] == [40, 30, 20, 10]
        assert [entry.ts for entry in shared.log_backwards(29)] == [20, 10]
        assert list(shared.log_backwards(9)) == list(shared.log_backwards(-1)) == []
        entry = shared.log_entry(20)
        assert entry is not None
        assert (entry.record, entry.writes[0].kind) == (b"20", "update")
        assert shared.log_entry(21) is shared.log_entry(-1) is shared.log_entry(1 << 70) is None
        assert (shared.commit_before(20), shared.commit_before(10)) == (10, None)
        assert (shared.commit_after(20), shared.commit_after(40)) == (30, None)
        assert (shared.commit_before(1 << 70), shared.commit_after(1 << 70)) == (40, None)


def test_versions_and_snapshots_are_those_of_the_store(folder: Path) -> None:
    with SharedStore.open(folder) as shared:
        found = [(version.ts, version.until, version.document["number"]) for version in shared.versions(ID)]
        assert found == [(10, 20, 1), (20, 30, 2), (40, None, 4)]
        assert Transaction(shared.snapshot(25)).get(ID) == {"_creationTime": 1, "_id": ID, "number": 2}
        assert Transaction(shared.snapshot(35)).get(ID) is None
        assert list(shared.catalog().tables) == ["notes"]


def test_what_retention_took_is_refused_in_one_line(folder: Path) -> None:
    with Store.open(folder) as store:
        assert store.retain(RetentionPolicy(age_ns=10), now_ns=35).is_done
    with SharedStore.open(folder) as shared:
        assert shared.horizon == 20
        with pytest.raises(OutOfRetention):
            list(shared.log(10))
        assert [entry.ts for entry in shared.log_backwards()] == [40, 30]


def test_folder_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match="no store"):
        SharedStore.open(tmp_path)


def test_reader_beside_a_writer_follows_it(folder: Path) -> None:
    command = [sys.executable, "-c", READ, str(folder)]
    with (
        Store.open(folder) as store,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
    ):
        assert reader.stdin is not None
        assert reader.stdout is not None
        for ts in (50, 60):
            write(store, ts, ts)
            reader.stdin.write("look\n")
            reader.stdin.flush()
            head, rest = reader.stdout.readline().split(" ", 1)
            assert (int(head), rest.strip()) == (ts, str([*range(ts, 0, -10)]))
        reader.stdin.close()
