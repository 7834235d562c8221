"""New indexes are filled in small steps while writes go on, and serve only when they are complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Commit, InvalidCommit, Store, Transaction, UniqueConflict
from tidewell.errors import IndexNotReady

from .harness import add_index, check, commit, documents_at, insert, internal_id, next_ts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def enable(store: Store, index_id: int) -> None:
    plan = store.catalog().plan()
    plan.enable_index(index_id)
    store.commit([Commit(next_ts(store), catalog=plan.change())])


def test_writes_during_a_backfill_end_up_in_the_index(store: Store) -> None:
    ids = insert(store, "posts", *({"n": number} for number in range(20)))
    index = add_index(store, "posts", "by_n", "n", ready=False)
    backfill = store.backfill(index.index_id)
    assert backfill.step(5).documents == 5
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        for place, id_ in enumerate(ids):
            if place % 3 == 0:
                transaction.replace(id_, {"n": 100 + place})
            elif place % 3 == 1:
                transaction.delete(id_)
        transaction.insert("posts", {"n": -1}, internal_id(1), 1.0)
        transaction.insert("posts", {"n": -2}, internal_id(2), 1.0)
        commit(store, transaction)
    while not backfill.step(5).is_complete:
        pass
    enable(store, index.index_id)
    expected = sorted([-1, -2, *(100 + place for place in range(0, 20, 3)), *range(2, 20, 3)])
    assert [row["n"] for row in documents_at(store, None, "posts", "by_n")] == expected
    check(store)


def test_an_index_serves_nobody_before_it_is_complete(store: Store) -> None:
    insert(store, "posts", {"n": 1}, {"n": 2})
    index = add_index(store, "posts", "by_n", "n", ready=False)
    backfill = store.backfill(index.index_id)
    assert not backfill.is_complete
    backfill.step(1)
    with pytest.raises(InvalidCommit, match="backfill is not complete"):
        enable(store, index.index_id)
    with store.snapshot() as snapshot, pytest.raises(IndexNotReady):
        Transaction(snapshot).count("posts", "by_n")
    progress = backfill.run()
    assert str(progress) == "by_n: 2 documents, complete"
    assert backfill.is_complete
    enable(store, index.index_id)
    assert backfill.is_complete
    assert len(documents_at(store, None, "posts", "by_n")) == 2


def test_a_killed_backfill_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with Store.open(path) as store:
        insert(store, "posts", *({"n": number} for number in range(50)))
        index = add_index(store, "posts", "by_n", "n", ready=False)
    code = """
import os, signal, sys
from storage import Store
backfill = Store.open(sys.argv[1]).backfill(int(sys.argv[2]))
for _ in range(3):
    backfill.step(10)
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", code, str(path), str(index.index_id)], check=False)
    assert result.returncode == -signal.SIGKILL
    with Store.open(path) as store:
        assert store.backfill(index.index_id).step(10).documents == 40
        store.backfill(index.index_id).run()
        enable(store, index.index_id)
        assert [row["n"] for row in documents_at(store, None, "posts", "by_n")] == list(range(50))
        check(store)
    assert os.path.exists(path)


def test_an_empty_table_is_filled_at_once(store: Store) -> None:
    add_index(store, "posts", "by_n", "n", ready=False)
    plan = store.catalog().plan()
    plan.create_table("users")
    plan.add_index("users", "by_name", ("name",), state="ready")
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    insert(store, "users", {"name": "a"})
    assert len(documents_at(store, None, "users", "by_name")) == 1


def test_an_index_on_a_table_with_documents_cannot_claim_to_be_ready(store: Store) -> None:
    insert(store, "posts", {"n": 1})
    plan = store.catalog().plan()
    plan.add_index("posts", "by_n", ("n",), state="ready")
    with pytest.raises(InvalidCommit, match="its table has documents"):
        store.commit([Commit(next_ts(store), catalog=plan.change())])


def test_a_unique_index_over_duplicates_cannot_be_enabled(store: Store) -> None:
    first, second = insert(store, "users", {"email": "a@x"}, {"email": "a@x"})
    index = add_index(store, "users", "by_email", "email", unique=True, ready=False)
    backfill = store.backfill(index.index_id)
    with pytest.raises(UniqueConflict) as caught:
        backfill.run()
    assert first in str(caught.value)
    assert second in str(caught.value)
    with pytest.raises(InvalidCommit):
        enable(store, index.index_id)
    plan = store.catalog().plan()
    plan.remove_index(index.index_id)
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    with pytest.raises(InvalidCommit, match="does not exist"):
        backfill.step()
    check(store)


def test_duplicates_written_behind_a_backfill_fail_the_index_and_not_the_writer(store: Store) -> None:
    insert(store, "users", {"email": "a@x"})
    index = add_index(store, "users", "by_email", "email", unique=True, ready=False)
    store.backfill(index.index_id).run()
    insert(store, "users", {"email": "a@x"})
    with pytest.raises(UniqueConflict):
        enable(store, index.index_id)
    assert len(documents_at(store, None, "users")) == 2


def test_a_history_from_before_the_index_is_no_part_of_it(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.replace(id_, {"n": 2})
        commit(store, transaction)
    add_index(store, "posts", "by_n", "n")
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.replace(id_, {"n": 3})
        ts = commit(store, transaction)
    assert [row["n"] for row in documents_at(store, ts - 1, "posts", "by_n")] == [2]
    assert [row["n"] for row in documents_at(store, ts, "posts", "by_n")] == [3]
    check(store)
