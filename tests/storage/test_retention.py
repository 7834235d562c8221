"""The horizon moves, and what nobody can read any more goes, a little at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Commit, OutOfRetention, RetentionPolicy, Store, Transaction

from .harness import add_index, check, commit, documents_at, insert, next_ts

AT_ONCE = RetentionPolicy(age_ns=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


def update(store: Store, id_: str, number: int) -> int:
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.replace(id_, {"n": number, "text": "x" * 1000})
        return commit(store, transaction)


def rows(store: Store, name: str) -> int:
    with store._environment.view() as view:
        return int(view.txn.stat(getattr(view.dbs, name))["entries"])


def test_versions_by_age(store: Store) -> None:
    add_index(store, "posts", "by_n", "n")
    (id_,) = insert(store, "posts", {"n": 0})
    stamps = [update(store, id_, number) for number in range(1, 21)]
    step = store.retain(RetentionPolicy(age_ns=100), now_ns=stamps[-1])
    assert step.is_done
    assert step.horizon == store.horizon == stamps[-1] - 100
    for ts in stamps:
        if ts >= store.horizon:
            assert [row["n"] for row in documents_at(store, ts, "posts", "by_n")] == [stamps.index(ts) + 1]
        else:
            with pytest.raises(OutOfRetention):
                store.snapshot(ts)
    assert rows(store, "documents_history") == 10
    assert rows(store, "index_history") == 10
    check(store)


def test_versions_by_size(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 0})
    for number in range(300):
        update(store, id_, number)
    names = ("documents_history", "index_history", "log")
    limit = 100_000
    assert sum(store.sizes_bytes()[name] for name in names) > limit
    while not store.retain(RetentionPolicy(size_bytes=limit), now_ns=store.head_ts, rows_max=20).is_done:
        pass
    size = sum(store.sizes_bytes()[name] for name in names)
    assert limit // 2 < size <= limit, "as much as allowed is kept"
    check(store)


def test_a_step_is_small_whatever_there_is_to_do(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 0})
    for number in range(50):
        update(store, id_, number)
    steps = []
    while not (step := store.retain(AT_ONCE, now_ns=store.head_ts, rows_max=10)).is_done:
        steps.append(step)
        check(store)
    assert len(steps) >= 9
    assert all(step.rows <= 12 for step in steps)
    assert rows(store, "documents_history") == 0
    assert rows(store, "log") == 0


def test_what_somebody_reads_is_kept(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 0})
    stamps = [update(store, id_, number) for number in range(5)]
    with store.snapshot(stamps[2]) as held:
        assert store.retain(AT_ONCE, now_ns=store.head_ts).horizon == stamps[2]
        document = Transaction(held).get(id_)
        assert document is not None
        assert document["n"] == 2
        assert store.retain(AT_ONCE, now_ns=store.head_ts, keep_from=stamps[1]).horizon == stamps[2]
    assert store.retain(AT_ONCE, now_ns=store.head_ts, keep_from=stamps[3]).horizon == stamps[3]


def test_the_horizon_never_moves_back(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 0})
    stamps = [update(store, id_, number) for number in range(5)]
    store.retain(AT_ONCE, now_ns=stamps[3])
    assert store.retain(AT_ONCE, now_ns=stamps[1]).horizon == stamps[3]


def test_rows_of_removed_indexes_and_dropped_tables_are_cleared(store: Store) -> None:
    index = add_index(store, "posts", "by_n", "n")
    insert(store, "posts", *({"n": number} for number in range(30)))
    insert(store, "kept", {"n": 1})
    plan = store.catalog().plan()
    plan.remove_index(index.index_id)
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    while not store.retain(AT_ONCE, now_ns=store.head_ts, rows_max=7).is_done:
        check(store)
    assert rows(store, "index") == 31
    plan = store.catalog().plan()
    plan.drop_table("posts")
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    while not store.retain(AT_ONCE, now_ns=store.head_ts, rows_max=7).is_done:
        check(store)
    assert rows(store, "index") == 1
    assert rows(store, "documents") == 1
    assert rows(store, "garbage") == 0
    assert rows(store, "catalog") == 1 or store.catalog().tables.keys() == {"kept"}
    assert documents_at(store, None, "kept")


def test_space_is_used_again(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 0})
    pages = 0
    for round_ in range(6):
        for number in range(200):
            update(store, id_, number)
        while not store.retain(AT_ONCE, now_ns=store.head_ts).is_done:
            pass
        if round_ == 2:
            pages = store._environment.last_page()
    assert store._environment.last_page() <= pages * 1.1
