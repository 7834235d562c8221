"""A backup is one moment of a live store, or is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import Store, StoreError, StoreMissing, Transaction, backup, verify

from .harness import commit, documents_at, insert

_BACKUP = "import sys; from storage import backup; print(backup(sys.argv[1], sys.argv[2]).head)"


def run_backup(path: Path, destination: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _BACKUP, str(path), str(destination)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_backup_taken_while_transfers_go_on_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.open(path, map_size=1 << 18) as store:
        ids = insert(store, "accounts", *({"n": 100, "text": "x" * 2000} for _ in range(200)))
        process = subprocess.Popen(
            [sys.executable, "-c", _BACKUP, path, tmp_path / "copy"],
            stdout=subprocess.PIPE,
            text=True,
        )
        number = 0
        while process.poll() is None:
            number += 1
            with store.snapshot() as snapshot:
                transaction = Transaction(snapshot)
                for id_, change in ((ids[number % 200], 1), (ids[(number + 7) % 200], -1)):
                    body = transaction.get(id_)
                    assert body is not None
                    transaction.replace(id_, {**body, "n": body["n"] + change})
                commit(store, transaction)
        assert process.stdout is not None
        with process:
            head = int(process.stdout.read())
        assert 0 < head <= store.head_ts
        expected = documents_at(store, head, "accounts")
    assert verify(tmp_path / "copy").is_sound
    with Store.open(tmp_path / "copy", create=False) as copy:
        assert copy.head_ts == head
        assert copy.id == store.id
        assert documents_at(copy, None, "accounts") == expected
        assert sum(row["n"] for row in expected) == 20_000
        assert documents_at(copy, 10, "accounts")[0]["n"] == 100
    assert not (tmp_path / "copy.partial").exists()


def test_a_backup_overwrites_nothing(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    (tmp_path / "copy").mkdir()
    result = run_backup(tmp_path / "store", tmp_path / "copy")
    assert "exists already; choose another folder" in result.stderr


def test_there_is_nothing_to_back_up_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        backup(tmp_path / "nothing", tmp_path / "copy")
    assert issubclass(StoreMissing, StoreError)


def test_a_backup_without_room_leaves_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        insert(store, "posts", *({"text": "x" * 10_000} for _ in range(100)))
    code = """
import resource, signal, sys
from storage import backup
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
backup(sys.argv[1], sys.argv[2])
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "copy")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "storage.errors.DiskFull: no room to write" in result.stderr, result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["store"]
    assert run_backup(tmp_path / "store", tmp_path / "copy").returncode == 0
