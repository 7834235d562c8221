"""What a transaction records, what it writes, and which histories can not happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage import Entry, IdCollision, OutOfRetention, Store, Transaction, UniqueConflict, WriteLog, WriteSet
from storage.layout import BY_CREATION_TIME, BY_ID, index_id_of
from tidewell.errors import IndexNotReady, InvalidId, InvalidValue, NotFound, UniqueViolated, UnknownIndex
from tidewell.ids import decode_id, encode_id
from tidewell.values import MISSING, pack

from .harness import add_index, commit, documents_at, insert, internal_id, next_ts, range_on


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


@pytest.fixture
def begin(store: Store) -> Iterator[Callable[[], Transaction]]:
    snapshots = []

    def begin() -> Transaction:
        snapshots.append(store.snapshot())
        return Transaction(snapshots[-1])

    yield begin
    for snapshot in snapshots:
        snapshot.close()


Begin = Callable[[], Transaction]


def conflicts(store: Store, writer: Transaction, reader: Transaction) -> bool:
    """Whether `writer`, committing first, is in the way of `reader`."""
    log = WriteLog(horizon=reader.begin_ts)
    log.append(Entry(next_ts(store), store.changes(writer.write_set()).keys))
    return log.find_conflict(reader.read_set(), reader.begin_ts) is not None


# ---- the textbook ---------------------------------------------------------------------


def test_anomaly_lost_update(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "counters", {"n": 1})
    first, second = begin(), begin()
    for transaction in (first, second):
        document = transaction.get(id_)
        assert document is not None
        transaction.replace(id_, {"n": document["n"] + 1})
    assert conflicts(store, first, second)


def test_anomaly_write_skew(store: Store, begin: Begin) -> None:
    alice, bob = insert(store, "doctors", {"on_call": True}, {"on_call": True})
    add_index(store, "doctors", "by_on_call", "on_call")
    first, second = begin(), begin()
    for transaction, leaver in ((first, alice), (second, bob)):
        on_call = range_on(transaction, "doctors", "by_on_call", eq=("on_call", True))
        assert transaction.count("doctors", "by_on_call", on_call) == 2
        transaction.replace(leaver, {"on_call": False})
    assert conflicts(store, first, second)
    assert conflicts(store, second, first)


def test_anomaly_phantom_read(store: Store, begin: Begin) -> None:
    insert(store, "posts", {"author": "a"})
    add_index(store, "posts", "by_author", "author")
    reader, writer = begin(), begin()
    nothing = range_on(reader, "posts", "by_author", eq=("author", "b"))
    assert list(reader.scan("posts", "by_author", nothing)) == []
    writer.insert("posts", {"author": "b"}, internal_id(99), 1.0)
    assert conflicts(store, writer, reader)


def test_anomaly_read_skew_is_impossible_on_one_snapshot(store: Store, begin: Begin) -> None:
    a, b = insert(store, "accounts", {"n": 50}, {"n": 50})
    reader, writer = begin(), begin()
    assert reader.get(a) is not None
    writer.replace(a, {"n": 0})
    writer.replace(b, {"n": 100})
    commit(store, writer)
    document = reader.get(b)
    assert document is not None
    assert document["n"] == 50


def test_anomaly_read_only_sees_no_state_between_commits(store: Store, begin: Begin) -> None:
    checking, savings = insert(store, "accounts", {"n": 0}, {"n": 0})
    withdrawal = begin()
    assert {withdrawal.get(checking)["n"], withdrawal.get(savings)["n"]} == {0}  # type: ignore[index]  # they exist
    deposit = begin()
    deposit.replace(savings, {"n": 20})
    commit(store, deposit)
    report = begin()
    assert report.get(savings)["n"] == 20  # type: ignore[index]  # it exists
    withdrawal.replace(checking, {"n": -11})
    assert conflicts(store, deposit, withdrawal), "else the report has seen what no serial order gives"


def test_a_missing_document_is_a_read(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    deleter = begin()
    deleter.delete(id_)
    commit(store, deleter)
    reader = begin()
    assert reader.get(id_) is None
    assert reader.read_set().covers(index_id_of(decode_id(id_)[0], BY_ID), decode_id(id_)[1])


def test_a_table_that_does_not_exist_is_a_read(store: Store, begin: Begin) -> None:
    reader, writer = begin(), begin()
    assert list(reader.scan("posts")) == []
    assert not reader.table_exists("posts")
    writer.insert("posts", {}, internal_id(1), 1.0)
    assert conflicts(store, writer, reader)


def test_two_transactions_cannot_create_tables_under_one_number(store: Store, begin: Begin) -> None:
    first, second = begin(), begin()
    first.insert("cats", {}, internal_id(1), 1.0)
    second.insert("dogs", {}, internal_id(2), 1.0)
    assert first.write_set().new_tables[0][1] == second.write_set().new_tables[0][1]
    assert conflicts(store, first, second)


# ---- exactly the consumed prefix ------------------------------------------------------


def consumed(store: Store, begin: Begin, rows: int | None, reverse: bool, inserted_at: float) -> bool:
    """Whether a document created at `inserted_at` is in the way of one that took `rows` of five."""
    insert(store, "posts", *({"n": number} for number in range(5)))
    reader, writer = begin(), begin()
    list(islice(reader.scan("posts", reverse=reverse), rows))
    writer.insert("posts", {}, internal_id(77), inserted_at)
    return conflicts(store, writer, reader)


@pytest.mark.parametrize(
    ("rows", "reverse", "inserted_at", "expected"),
    [
        (0, False, 0.5, False),
        (1, False, 0.5, True),
        (1, False, 1.5, False),
        (3, False, 2.5, True),
        (3, False, 3.5, False),
        (5, False, 9.0, False),
        (None, False, 9.0, True),
        (0, True, 9.0, False),
        (1, True, 9.0, True),
        (1, True, 4.5, False),
        (3, True, 3.5, True),
        (3, True, 2.5, False),
        (5, True, 0.5, False),
        (None, True, 0.5, True),
    ],
)
def test_a_scan_is_in_the_way_of_exactly_what_it_consumed(
    store: Store, begin: Begin, rows: int | None, reverse: bool, inserted_at: float, expected: bool
) -> None:
    assert consumed(store, begin, rows, reverse, inserted_at) == expected


def test_a_row_is_recorded_before_it_is_handed_out(store: Store, begin: Begin) -> None:
    insert(store, "posts", {"n": 1})
    reader = begin()
    scan = reader.scan_rows("posts")
    key, document = next(scan)
    index_id = index_id_of(decode_id(document["_id"])[0], BY_CREATION_TIME)
    assert reader.read_set().covers(index_id, key)
    assert not reader.read_set().covers(index_id, key + b"\x00")


def test_usage_counts_what_was_handed_out(store: Store, begin: Begin) -> None:
    ids = insert(store, "posts", *({"n": number} for number in range(50)))
    reader = begin()
    list(islice(reader.scan("posts"), 2))
    assert (reader.usage.intervals, reader.usage.documents_read) == (1, 2)
    reader.get(ids[0])
    reader.count("posts")
    assert (reader.usage.intervals, reader.usage.documents_read) == (3, 3)
    first, second = documents_at(store, None, "posts")[:2]
    assert reader.usage.bytes_read == len(pack(first)) * 2 + len(pack(second))


def test_a_contradictory_range_records_nothing(store: Store, begin: Begin) -> None:
    insert(store, "posts", {"n": 1})
    reader = begin()
    empty = range_on(reader, "posts", "by_creation_time", gt=("_creationTime", 5), lt=("_creationTime", 3))
    before = len(reader.read_set())
    assert list(reader.scan("posts", "by_creation_time", empty)) == []
    assert reader.count("posts", "by_creation_time", empty) == 0
    assert len(reader.read_set()) == before
    assert reader.usage.intervals == 0


def test_counting_reads_no_documents(store: Store, begin: Begin) -> None:
    insert(store, "posts", *({"n": number} for number in range(10)))
    reader, writer = begin(), begin()
    assert reader.count("posts") == 10
    assert reader.usage.documents_read == 0
    writer.insert("posts", {}, internal_id(5), 3.5)
    assert conflicts(store, writer, reader)


# ---- writing ----------------------------------------------------------------------------


def test_a_write_that_changes_nothing_writes_nothing(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    transaction = begin()
    transaction.replace(id_, {"n": 1})
    assert not transaction.write_set()
    transaction.replace(id_, {"n": 2})
    transaction.replace(id_, {"n": 1})
    assert not transaction.write_set()
    new = transaction.insert("posts", {}, internal_id(9), 1.0)
    transaction.delete(new)
    assert not transaction.write_set()


def test_several_writes_of_a_document_become_one(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    transaction = begin()
    for number in range(2, 5):
        transaction.replace(id_, {"n": number})
    (write,) = transaction.write_set().documents
    assert write.id == id_
    assert transaction.usage.documents_written == 3


def test_own_writes_show_in_index_order(store: Store, begin: Begin) -> None:
    ids = insert(store, "posts", *({"n": number} for number in (10, 20, 30)))
    add_index(store, "posts", "by_n", "n")
    transaction = begin()
    transaction.replace(ids[0], {"n": 25})
    transaction.delete(ids[1])
    transaction.insert("posts", {"n": 5}, internal_id(8), 1.0)
    assert [row["n"] for row in transaction.scan("posts", "by_n")] == [5, 25, 30]
    assert [row["n"] for row in transaction.scan("posts", "by_n", reverse=True)] == [30, 25, 5]
    some = range_on(transaction, "posts", "by_n", gte=("n", 5), lt=("n", 30))
    assert transaction.count("posts", "by_n", some) == 2


def test_writes_during_a_scan_show_in_what_is_still_to_come(store: Store, begin: Begin) -> None:
    ids = insert(store, "posts", *({"n": number} for number in (10, 20, 30)))
    add_index(store, "posts", "by_n", "n")
    transaction = begin()
    seen = []
    for row in transaction.scan("posts", "by_n"):
        seen.append(row["n"])
        if row["n"] == 10:
            transaction.delete(row["_id"])
            transaction.delete(ids[1])
            transaction.insert("posts", {"n": 5}, internal_id(8), 1.0)
            transaction.insert("posts", {"n": 15}, internal_id(9), 1.0)
            transaction.replace(ids[2], {"n": 12})
    assert seen == [10, 12, 15]


def test_deleting_each_row_while_iterating_meets_each_row(store: Store, begin: Begin) -> None:
    insert(store, "posts", *({"n": number} for number in range(100)))
    transaction = begin()
    for row in transaction.scan("posts"):
        transaction.delete(row["_id"])
    assert transaction.count("posts") == 0
    commit(store, transaction)
    assert documents_at(store, None, "posts") == []


def test_rolling_back_takes_back_writes_and_keeps_reads_and_usage(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    transaction = begin()
    transaction.replace(id_, {"n": 2})
    transaction.push_savepoint()
    transaction.replace(id_, {"n": 3})
    transaction.insert("fresh", {}, internal_id(4), 1.0)
    list(transaction.scan("posts"))
    reads, usage = transaction.read_set(), transaction.usage.documents_written
    transaction.rollback_savepoint()
    document = transaction.get(id_)
    assert document is not None
    assert document["n"] == 2
    assert not transaction.table_exists("fresh")
    assert transaction.write_set().new_tables == ()
    assert transaction.usage.documents_written == usage
    for index_id, start, _ in reads.intervals():
        assert transaction.read_set().covers(index_id, start)


def test_savepoints_nest(store: Store, begin: Begin) -> None:
    transaction = begin()
    transaction.push_savepoint()
    transaction.insert("a", {}, internal_id(1), 1.0)
    transaction.push_savepoint()
    transaction.insert("b", {}, internal_id(2), 1.0)
    transaction.release_savepoint()
    transaction.rollback_savepoint()
    assert not transaction.write_set()


def test_a_handed_out_document_is_the_callers_own(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"tags": ["a"]})
    transaction = begin()
    document = transaction.get(id_)
    assert document is not None
    document["tags"].append("b")
    assert transaction.get(id_) != document


def test_system_fields_stay_what_they_are(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    transaction = begin()
    transaction.replace(id_, {"n": 2, "_id": "other", "_creationTime": 99})
    document = transaction.get(id_)
    assert document == {"n": 2, "_id": id_, "_creationTime": 1}


def test_errors_name_what_is_wrong(store: Store, begin: Begin) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    add_index(store, "posts", "by_n", "n", ready=False)
    transaction = begin()
    with pytest.raises(UnknownIndex, match="only by_id, by_creation_time, by_n"):
        transaction.scan("posts", "by_x")
    with pytest.raises(IndexNotReady, match="still being filled"):
        transaction.scan("posts", "by_n")
    with pytest.raises(InvalidId):
        transaction.get("posts1")
    transaction.delete(id_)
    with pytest.raises(NotFound, match=id_):
        transaction.delete(id_)
    with pytest.raises(NotFound, match=id_):
        transaction.replace(id_, {})


def test_an_id_is_not_given_twice(store: Store, begin: Begin) -> None:
    transaction = begin()
    transaction.insert("posts", {}, internal_id(1), 1.0)
    with pytest.raises(IdCollision):
        transaction.insert("posts", {}, internal_id(1), 1.0)


# ---- unique indexes ---------------------------------------------------------------------


def test_a_unique_index_refuses_a_second_document_and_names_both(store: Store, begin: Begin) -> None:
    add_index(store, "users", "by_email", "email", unique=True)
    (first,) = insert(store, "users", {"email": "a@x"})
    transaction = begin()
    with pytest.raises(UniqueViolated, match=first):
        transaction.insert("users", {"email": "a@x"}, internal_id(5), 1.0)
    other = transaction.insert("users", {"email": "b@x"}, internal_id(6), 1.0)
    with pytest.raises(UniqueViolated, match=f"{first} already has the key of {other}"):
        transaction.replace(other, {"email": "a@x"})
    transaction.delete(first)
    transaction.replace(other, {"email": "a@x"})


@pytest.mark.parametrize("value", [None, MISSING])
def test_documents_without_a_value_do_not_collide(store: Store, begin: Begin, value: Any) -> None:
    add_index(store, "users", "by_email", "email", unique=True)
    body = {} if value is MISSING else {"email": value}
    insert(store, "users", body, body)
    assert len(documents_at(store, None, "users")) == 2


def test_a_unique_check_is_a_read(store: Store, begin: Begin) -> None:
    add_index(store, "users", "by_email", "email", unique=True)
    first, second = begin(), begin()
    first.insert("users", {"email": "a@x"}, internal_id(5), 1.0)
    second.insert("users", {"email": "a@x"}, internal_id(6), 1.0)
    assert conflicts(store, first, second)


def test_the_store_checks_uniqueness_again(store: Store, begin: Begin) -> None:
    add_index(store, "users", "by_email", "email", unique=True)
    first, second = begin(), begin()
    id_ = first.insert("users", {"email": "a@x"}, internal_id(5), 1.0)
    second.insert("users", {"email": "a@x"}, internal_id(6), 1.0)
    with pytest.raises(UniqueConflict, match=id_):
        store.changes(second.write_set(), [(next_ts(store), first.write_set())])
    ts = next_ts(store)
    with pytest.raises(UniqueConflict, match=id_):
        store.commit([first.write_set().commit(ts), second.write_set().commit(ts + 1)])
    assert documents_at(store, None, "users") == []


def test_two_documents_may_swap_a_unique_value(store: Store, begin: Begin) -> None:
    add_index(store, "users", "by_email", "email", unique=True)
    a, b = insert(store, "users", {"email": "a@x"}, {"email": "b@x"})
    transaction = begin()
    transaction.replace(a, {"email": "c@x"})
    transaction.replace(b, {"email": "a@x"})
    transaction.replace(a, {"email": "b@x"})
    store.changes(transaction.write_set())
    commit(store, transaction)
    assert [row["email"] for row in documents_at(store, None, "users", "by_email")] == ["a@x", "b@x"]


# ---- write sets of workers that are not trusted -----------------------------------------------


def hostile(mangle: Callable[[list[Any]], Any]) -> bytes:
    document = {"_creationTime": 1, "_id": encode_id(10001, bytes(16)), "n": 1}
    return msgspec.msgpack.encode((mangle([10001, bytes(16), document]), ()))


@pytest.mark.parametrize(
    "mangle",
    [
        lambda row: [(row[0], row[1], pack(row[2])), (row[0], row[1], None)],
        lambda row: [(row[0], b"short", pack(row[2]))],
        lambda row: [(0, row[1], pack(row[2]))],
        lambda row: [(2**40, row[1], pack(row[2]))],
        lambda row: [(row[0] + 1, row[1], pack(row[2]))],
        lambda row: [(row[0], row[1], pack({**row[2], "_id": "x"}))],
        lambda row: [(row[0], row[1], pack([1]))],
        lambda row: [(row[0], row[1], pack({"_id": row[2]["_id"]}))],
        lambda row: [(row[0], row[1], b"\xc1")],
        lambda row: [(row[0], row[1], pack(row[2]) + b"x")],
        lambda row: [(row[0], row[1], pack({"n": 1, **row[2]}))],
        lambda row: "nonsense",
    ],
)
def test_a_malformed_write_set_is_refused(mangle: Callable[[list[Any]], Any]) -> None:
    with pytest.raises(InvalidValue):
        WriteSet.unpack(hostile(mangle))


def test_a_well_formed_write_set_is_not() -> None:
    writes = WriteSet.unpack(hostile(lambda row: [(row[0], row[1], pack(row[2]))]))
    assert WriteSet.unpack(writes.pack()) == writes
    assert len(writes.digest()) == 16


def test_reading_below_the_horizon_says_so() -> None:
    assert "asked about 5, what is kept begins at 7" in str(OutOfRetention(asked=5, horizon=7))
