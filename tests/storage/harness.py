"""Small helpers that the tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from storage import Commit, IndexInfo, Snapshot, Store, Timestamp, Transaction
from storage.keys import interval_of
from storage.report import Report
from storage.verify import verify_view
from tidewell.ranges import WHOLE, IndexRange, RangeBuilder
from tidewell.values import unpack_trusted

Document = dict[str, Any]


def internal_id(number: int) -> bytes:
    """Return an id that sorts in an order of its own, unlike the order of insertion."""
    return (number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") + number.to_bytes(8, "big")


def next_ts(store: Store) -> Timestamp:
    return store.head_ts + 10


def commit(store: Store, transaction: Transaction, **extra: Any) -> Timestamp:
    ts = next_ts(store)
    store.commit([transaction.write_set().commit(ts, **extra)])
    return ts


def insert(store: Store, table: str, *documents: Document, start: int = 0) -> list[str]:
    """Insert documents in one commit; return their ids."""
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        ids = [
            transaction.insert(
                table, document, internal_id((store.head_ts + 1) * 1000 + start + number), float(number + 1)
            )
            for number, document in enumerate(documents)
        ]
        commit(store, transaction)
    return ids


def change(store: Store, id_: str, body: Document | None) -> Timestamp:
    """Replace a document in a commit of its own, or delete it."""
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        if body is None:
            transaction.delete(id_)
        else:
            transaction.replace(id_, body)
        return commit(store, transaction)


def add_index(
    store: Store, table: str, name: str, *fields: str, unique: bool = False, ready: bool = True
) -> IndexInfo:
    """Declare an index, fill it and enable it."""
    plan = store.catalog().plan()
    if table not in plan.catalog.tables:
        plan.create_table(table)
    index = plan.add_index(table, name, fields, unique=unique)
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    if ready:
        store.backfill(index.index_id).run()
        plan = store.catalog().plan()
        plan.enable_index(index.index_id)
        store.commit([Commit(next_ts(store), catalog=plan.change())])
    return index


def range_on(transaction: Transaction, table: str, index: str, **bounds: Any) -> IndexRange:
    """Return a range: `range_on(t, "posts", "by_likes", eq=("author", "a"), gte=("likes", 3))`."""
    builder = RangeBuilder(index, transaction.index_fields(table, index))
    for name, (field, value) in bounds.items():
        getattr(builder, name)(field, value)
    return builder.finish()


def documents_at(
    store: Store, ts: Timestamp | None, table: str, index: str = "by_creation_time"
) -> list[Document]:
    with store.snapshot(ts) as snapshot:
        return list(Transaction(snapshot).scan(table, index))


def rows(snapshot: Snapshot, table: str, index: str, range_: IndexRange = WHOLE) -> Iterator[Document]:
    info = snapshot.catalog.tables[table].index(index)
    assert info is not None
    return (unpack_trusted(body) for _, _, body in snapshot.scan(info, interval_of(range_)))


def check(store: Store) -> Report:
    """Verify an open store and insist that it is sound."""
    report = Report()
    with store._environment.view() as view:
        verify_view(view, report, lambda stage, done: None)
    assert report.is_sound, str(report)
    return report
