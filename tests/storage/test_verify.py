"""verify finds each kind of damage, and a flipped bit anywhere is found or does no harm."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from storage import Commit, Store, StoreMissing, Transaction
from storage.environment import Writer
from storage.layout import document_key, index_prefix, pack_ts
from storage.report import NOT_CHECKED
from storage.verify import verify
from tidewell.ids import decode_id

from .harness import add_index, commit, documents_at, insert, next_ts


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a bit of everything."""
    path = tmp_path_factory.mktemp("verify") / "store"
    with Store.open(path) as store:
        add_index(store, "posts", "by_n", "n")
        add_index(store, "posts", "by_text", "text", unique=True)
        ids = insert(store, "posts", *({"n": number % 3, "text": f"{number}" * 300} for number in range(40)))
        with store.snapshot() as snapshot:
            transaction = Transaction(snapshot)
            for id_ in ids[:10]:
                transaction.replace(id_, {"n": 9, "text": id_})
            for id_ in ids[10:15]:
                transaction.delete(id_)
            commit(store, transaction, record=b"record", private=[(b"k", b"v")])
        insert(store, "users", {"name": "a"})
        insert(store, "dropped", {"name": "a"})
        plan = store.catalog().plan()
        plan.drop_table("dropped")
        plan.add_index("users", "by_name", ("name",))
        store.commit([Commit(next_ts(store), catalog=plan.change())])
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "store")
    return tmp_path / "store"


def test_a_sound_store_is_called_sound_and_what_was_not_checked_is_said(path: Path) -> None:
    seen: list[str] = []
    report = verify(path, lambda stage, done: seen.append(stage))
    assert report.is_sound, str(report)
    assert report.checked["documents"] == 41 + 1 - 1
    assert report.checked["log rows"] == 9
    assert {"documents", "log", "indexes"} <= set(seen)
    text = str(report)
    assert text.endswith("\nsound")
    assert all(each in text for each in NOT_CHECKED)
    assert report.to_json()["sound"] is True


def test_a_store_in_use_can_be_checked(path: Path) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"text": "new"})
        assert verify(path).is_sound


def test_where_there_is_no_store_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        verify(tmp_path)


def first_key(writer: Writer, name: str) -> bytes:
    with writer.cursor(getattr(writer.dbs, name)) as cursor:
        assert cursor.first()
        return cursor.key()


def drop_first(name: str) -> Callable[[Writer], None]:
    return lambda writer: _keep(writer.delete(getattr(writer.dbs, name), first_key(writer, name)))


def _keep(done: bool) -> None:
    assert done


def damage_body(writer: Writer) -> None:
    key = first_key(writer, "documents")
    row = writer.get(writer.dbs.documents, key)
    assert row is not None
    writer.put(writer.dbs.documents, key, row[:-1] + bytes([row[-1] ^ 1]))


def swap_documents(writer: Writer) -> None:
    with writer.cursor(writer.dbs.documents) as cursor:
        (first, a), (second, b), *_ = list(cursor.iternext())
    writer.put(writer.dbs.documents, first, b)
    writer.put(writer.dbs.documents, second, a)


def forge_entry(writer: Writer) -> None:
    with writer.cursor(writer.dbs.index) as cursor:
        assert cursor.first()
        key, value = cursor.item()
    writer.put(writer.dbs.index, key[:-1] + bytes([key[-1] ^ 1]), value)


def backdate_entry(writer: Writer) -> None:
    key = first_key(writer, "index")
    writer.put(writer.dbs.index, key, pack_ts(1))


def move_catalog(writer: Writer) -> None:
    """A catalog that stands where a search by its timestamp does not find it, or finds it too late."""
    with writer.cursor(writer.dbs.catalog) as cursor:
        assert cursor.first()
        assert cursor.next()
        key, value = cursor.item()
    writer.delete(writer.dbs.catalog, key)
    writer.put(writer.dbs.catalog, pack_ts(int.from_bytes(key, "big") + 1), value)


def change_catalog(writer: Writer) -> None:
    with writer.cursor(writer.dbs.catalog) as cursor:
        assert cursor.first()
        key, value = cursor.item()
    assert b"posts" in value
    writer.put(writer.dbs.catalog, key, value.replace(b"posts", b"paste"))


def cut_log(writer: Writer) -> None:
    with writer.cursor(writer.dbs.log) as cursor:
        assert cursor.first()
        assert cursor.next()
        key = cursor.key()
    writer.delete(writer.dbs.log, key)


def forget_last_commit(writer: Writer) -> None:
    with writer.cursor(writer.dbs.log) as cursor:
        assert cursor.last()
        cursor.delete()


def damage_log(writer: Writer) -> None:
    key = first_key(writer, "log")
    row = writer.get(writer.dbs.log, key)
    assert row is not None
    writer.put(writer.dbs.log, key, row[:-1] + bytes([row[-1] ^ 1]))


def move_head(writer: Writer) -> None:
    writer.state = attrs.evolve(writer.state, head=writer.state.head + 5)


def strange_table(writer: Writer) -> None:
    row = writer.get(writer.dbs.documents, first_key(writer, "documents"))
    assert row is not None
    writer.put(writer.dbs.documents, document_key(77777, bytes(16)), row)


def strange_index(writer: Writer) -> None:
    writer.put(writer.dbs.index, index_prefix(77777 << 24) + b"key", pack_ts(1))


def overlap_versions(writer: Writer) -> None:
    key = first_key(writer, "documents_history")
    row = writer.get(writer.dbs.documents_history, key)
    assert row is not None
    writer.put(writer.dbs.documents_history, key[:-8] + pack_ts(10**6), row)


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (damage_body, "checksum"),
        (swap_documents, "checksum"),
        (drop_first("documents"), "is missing"),
        (drop_first("documents_history"), "missing from the history"),
        (drop_first("index"), "has no entry as of"),
        (drop_first("index_history"), "has no entry as of"),
        (drop_first("catalog"), "a change to none"),
        (drop_first("log"), "the log has a gap"),
        (forge_entry, "entries for"),
        (backdate_entry, "shows"),
        (cut_log, "the log has a gap"),
        (forget_last_commit, "the log ends at"),
        (damage_log, "does not match its digest"),
        (move_head, "the log ends at"),
        (strange_table, "rows of table 77777, which does not exist"),
        (strange_index, "which does not exist"),
        (overlap_versions, "are valid at"),
        (move_catalog, "is not the one that the log tells of"),
        (move_catalog, "and the log tells of none"),
        (change_catalog, "is not the one that the log tells of"),
    ],
)
def test_each_kind_of_damage_is_found(path: Path, damage: Callable[[Writer], None], finding: str) -> None:
    with Store.open(path) as store:
        store._environment.write(damage)
    report = verify(path)
    assert not report.is_sound
    assert any(finding in problem for problem in report.problems), str(report)


_READ_ALL = """
import sys
from storage import Store, Transaction
with Store.open(sys.argv[1], create=False) as store:
    for ts in range(store.horizon, store.head_ts + 1, 10):
        with store.snapshot(ts) as snapshot:
            transaction = Transaction(snapshot)
            for table in snapshot.catalog.tables.values():
                for index in table.kept:
                    if index.is_ready:
                        print(ts, table.name, index.name, list(transaction.scan(table.name, index.name)))
"""


def read_all(path: Path) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-c", _READ_ALL, str(path)], capture_output=True, text=True, check=False
    )
    return result.returncode, result.stdout


def test_a_flipped_bit_is_found_or_does_no_harm(path: Path) -> None:
    """Whatever bit flips: if verify calls the file sound, it reads as it did before."""
    seed = random.randrange(2**32)
    print("seed", seed)
    source = random.Random(seed)
    _, expected = read_all(path)
    assert expected
    original = (path / "data.mdb").read_bytes()
    found = 0
    for _ in range(20):
        place = source.randrange(len(original))
        data = bytearray(original)
        data[place] ^= 1 << source.randrange(8)
        (path / "data.mdb").write_bytes(data)
        report = verify(path)
        if report.is_sound:
            assert read_all(path) == (0, expected), f"byte {place}"
        else:
            found += 1
    assert found, "no flip at all was found, so the check does not check"
    (path / "data.mdb").write_bytes(original)
    assert verify(path).is_sound


def test_a_check_that_dies_is_a_finding(path: Path) -> None:
    with Store.open(path) as store:
        (id_,) = insert(store, "posts", {"text": "x"})
        assert documents_at(store, None, "posts")
        assert decode_id(id_)
    os.truncate(path / "data.mdb", 3 * 4096)
    report = verify(path)
    assert not report.is_sound
    assert "could not be read to its end" in report.problems[0] or "cannot be used" in report.problems[0]
