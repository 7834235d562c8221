"""Snapshots show exactly the commits at or below their timestamp, however far the file has moved on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Commit, NotYetCommitted, OutOfRetention, RetentionPolicy, Store, Transaction
from storage import snapshot as module
from storage.keys import id_interval
from tidewell.errors import UnknownIndex
from tidewell.ids import decode_id
from tidewell.ranges import WHOLE
from tidewell.values import unpack_trusted

from .harness import add_index, change, documents_at, insert, next_ts
from .strategies import LONG_PREFIX


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        yield store


@pytest.fixture(params=["latest", "near", "far"])
def behind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a range is read depends on how far the file is ahead; these tests hold for every way."""
    if request.param == "far":
        monkeypatch.setattr(module, "_NEAR_COMMITS", 0)
    return str(request.param)


def test_a_scan_sees_nothing_newer_than_its_snapshot(store: Store, behind: str) -> None:
    add_index(store, "posts", "by_n", "n")
    ids = insert(store, "posts", *({"n": number} for number in range(5)))
    ts = store.head_ts
    with store.snapshot() as held:
        if behind != "latest":
            change(store, ids[0], {"n": 100})
            change(store, ids[1], None)
            insert(store, "posts", {"n": 2.5})
            change(store, ids[0], {"n": 0})
            change(store, ids[3], {"n": 3, "other": True})
        for index in ("by_n", "by_creation_time"):
            assert [row["n"] for row in Transaction(held).scan("posts", index)] == [0, 1, 2, 3, 4]
            assert [row["n"] for row in documents_at(store, ts, "posts", index)] == [0, 1, 2, 3, 4]
        assert sorted(row["n"] for row in documents_at(store, ts, "posts", "by_id")) == [0, 1, 2, 3, 4]
        for id_, number in zip(ids, range(5), strict=True):
            document = Transaction(held).get(id_)
            assert document is not None
            assert (document["n"], "other" in document) == (number, False)


def test_each_document_comes_once_whatever_its_history(
    store: Store, behind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that ended at a document with a history once gave it again in the next one, in id order."""
    monkeypatch.setattr(module, "_CHUNK_SIZES", (1,))
    ids = insert(store, "posts", *({"n": number} for number in range(4)))
    ts = store.head_ts
    if behind != "latest":
        for id_ in ids:
            change(store, id_, {"n": -1})
    for reverse in (False, True):
        with store.snapshot(ts) as snapshot:
            found = [row["_id"] for row in Transaction(snapshot).scan("posts", "by_id", reverse=reverse)]
        assert found == sorted(ids, reverse=reverse)


def test_exact_order_among_keys_longer_than_lmdb_allows(store: Store, behind: str) -> None:
    add_index(store, "posts", "by_text", "text")
    texts = [LONG_PREFIX + f"{number:03}" for number in range(60)]
    shuffled = sorted(texts, key=lambda text: text[::-1])
    ids = insert(store, "posts", {"text": LONG_PREFIX}, {"text": "x"}, *({"text": text} for text in shuffled))
    ts = store.head_ts
    if behind != "latest":
        for id_ in ids[10:20]:
            change(store, id_, {"text": "elsewhere"})
    expected = ["x", LONG_PREFIX, *texts]
    assert [row["text"] for row in documents_at(store, ts, "posts", "by_text")] == expected
    with store.snapshot(ts) as snapshot:
        transaction = Transaction(snapshot)
        backwards = [row["text"] for row in transaction.scan("posts", "by_text", reverse=True)]
        assert backwards == expected[::-1]
        assert transaction.count("posts", "by_text") == 62
        keys = [key for key, _ in transaction.scan_rows("posts", "by_text")]
        for place in (0, 1, 2, 30, 61):
            after = transaction.scan_rows("posts", "by_text", start_after=keys[place])
            before = transaction.scan_rows("posts", "by_text", stop_at=keys[place], reverse=True)
            assert [row["text"] for _, row in after] == expected[place + 1 :]
            assert [row["text"] for _, row in before] == expected[: place - 1 if place else None : -1]


def test_the_catalog_is_that_of_the_snapshot(store: Store) -> None:
    insert(store, "posts", {"n": 1})
    before = store.head_ts
    add_index(store, "posts", "by_n", "n")
    plan = store.catalog().plan()
    plan.set_schema("new")
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    with store.snapshot(before) as snapshot:
        assert snapshot.catalog.schema == ""
        with pytest.raises(UnknownIndex):
            Transaction(snapshot).scan("posts", "by_n")
    with store.snapshot() as snapshot:
        assert snapshot.catalog.schema == "new"
        assert len(list(Transaction(snapshot).scan("posts", "by_n"))) == 1


def test_a_dropped_table_is_still_there_in_the_past(store: Store) -> None:
    add_index(store, "posts", "by_n", "n")
    ids = insert(store, "posts", {"n": 2}, {"n": 1})
    ts = store.head_ts
    plan = store.catalog().plan()
    plan.drop_table("posts")
    store.commit([Commit(next_ts(store), catalog=plan.change())])
    assert documents_at(store, None, "posts") == []
    assert [row["n"] for row in documents_at(store, ts, "posts", "by_n")] == [1, 2]
    with store.snapshot() as snapshot:
        assert Transaction(snapshot).get(ids[0]) is None


def test_only_the_readable_past_can_be_asked_for(store: Store) -> None:
    ids = insert(store, "posts", {"n": 1})
    change(store, ids[0], {"n": 2})
    change(store, ids[0], {"n": 3})
    with pytest.raises(NotYetCommitted, match="asked about 31, the newest commit is 30"):
        store.snapshot(31)
    held = store.snapshot(20)
    store.retain(RetentionPolicy(age_ns=0), now_ns=30)
    assert store.horizon == 20, "an open snapshot is still readable"
    held.close()
    store.retain(RetentionPolicy(age_ns=0), now_ns=30)
    with pytest.raises(OutOfRetention):
        store.snapshot(20)


def test_version_names_the_commit_that_wrote_a_document(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    change(store, id_, {"n": 2})
    with store.snapshot(15) as snapshot:
        assert snapshot.version(*decode_id(id_)) == 10
    with store.snapshot() as snapshot:
        assert snapshot.version(*decode_id(id_)) == 20
        assert snapshot.version(decode_id(id_)[0], bytes(16)) is None


def test_all_documents_of_a_table_and_the_one_under_a_key(store: Store) -> None:
    add_index(store, "posts", "by_n", "n")
    insert(store, "posts", *({"n": number} for number in range(50)))
    with store.snapshot() as snapshot:
        table = snapshot.catalog.tables["posts"]
        assert sorted(unpack_trusted(body)["n"] for body in snapshot.documents(table.number)) == list(
            range(50)
        )
        index = table.index("by_n")
        assert index is not None
        rows = Transaction(snapshot).scan_rows("posts", "by_n")
        for key, document in rows:
            body = snapshot.document_under(index.index_id, key)
            assert body is not None
            assert unpack_trusted(body) == document
        assert snapshot.document_under(index.index_id, b"nothing") is None
        assert not id_interval(table.number, WHOLE).is_empty
