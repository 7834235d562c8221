"""A store's folder and file: opening, refusing, growing, surviving faults."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from storage import (
    Buffer,
    Commit,
    CommitLog,
    CommitOutcomeUnknown,
    DiskFull,
    HeadMoved,
    InvalidCommit,
    NewerFormat,
    OutOfRetention,
    RetentionPolicy,
    Store,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreMissing,
    StoreNotWritable,
    Transaction,
    WriteSet,
)
from storage.environment import Writer
from storage.verify import verify

from . import faults
from .harness import add_index, check, commit, documents_at, insert, internal_id, next_ts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as store:
        yield store


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


# ---- opening ------------------------------------------------------------------------


def test_a_new_store_is_empty_and_keeps_its_identity(path: Path) -> None:
    with Store.open(path) as store:
        assert (store.head_ts, store.horizon) == (0, 0)
        identity = store.id
        with store.snapshot() as snapshot:
            assert dict(snapshot.catalog.tables) == {}
    with Store.open(path) as store:
        assert store.id == identity


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
        head = store.head_ts
    with Store.open(path, create=False) as store:
        assert store.head_ts == head
        assert [row["n"] for row in documents_at(store, None, "posts")] == [1]


def test_no_store_is_made_where_none_was_wanted(path: Path) -> None:
    with pytest.raises(StoreMissing, match="no store"):
        Store.open(path, create=False)
    assert not path.exists()


def test_a_second_writer_in_the_same_process_is_refused(store: Store) -> None:
    with pytest.raises(StoreBusy, match=f"in use by process {os.getpid()}"):
        Store.open(store.path)


def test_a_second_writer_in_another_process_is_refused(store: Store) -> None:
    result = run_python("import sys; from storage import Store; Store.open(sys.argv[1])", store.path)
    assert f"StoreBusy: {store.path} is in use by process {os.getpid()}" in result.stderr


def test_a_killed_writer_leaves_no_lock_behind(path: Path) -> None:
    code = """
import os, signal, sys
from storage import Store
store = Store.open(sys.argv[1])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, path).returncode == -signal.SIGKILL
    Store.open(path).close()


def test_closing_lets_the_next_one_in(path: Path) -> None:
    store = Store.open(path)
    store.close()
    with pytest.raises(StoreClosed):
        store.commit([Commit(1)])
    with pytest.raises(StoreClosed):
        store.snapshot()
    Store.open(path).close()


# ---- faults of the folder and the file -------------------------------------------------


def test_a_missing_file_is_not_taken_for_a_new_store(path: Path) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
    kept = (path / "data.mdb").rename(path / "elsewhere")
    with pytest.raises(StoreDamaged, match="missing"):
        Store.open(path)
    assert not (path / "data.mdb").exists()
    kept.rename(path / "data.mdb")
    with Store.open(path) as store:
        check(store)


def test_an_empty_file_is_not_taken_for_a_new_store(path: Path) -> None:
    Store.open(path).close()
    (path / "data.mdb").write_bytes(b"")
    with pytest.raises(StoreDamaged, match="empty"):
        Store.open(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused_in_one_line(path: Path, share: float) -> None:
    with Store.open(path) as store:
        for number in range(20):
            insert(store, "posts", *({"n": number, "text": "x" * 500} for _ in range(20)))
    file = path / "data.mdb"
    whole = file.read_bytes()
    os.truncate(file, int(len(whole) * share) // 4096 * 4096)
    with pytest.raises(StoreDamaged, match="truncated") as caught:
        Store.open(path)
    assert "\n" not in str(caught.value)
    assert not verify(path).is_sound
    file.write_bytes(whole)
    with Store.open(path) as store:
        check(store)


def test_garbage_instead_of_a_file_is_refused(path: Path) -> None:
    Store.open(path).close()
    (path / "data.mdb").write_bytes(os.urandom(50_000))
    with pytest.raises(StoreDamaged, match="cannot be used"):
        Store.open(path)
    assert not verify(path).is_sound


def test_an_unreadable_marker_is_refused(path: Path) -> None:
    Store.open(path).close()
    (path / "store.json").write_text("{")
    with pytest.raises(StoreDamaged, match=r"store\.json is unreadable"):
        Store.open(path)


def test_a_newer_format_is_refused_by_name(path: Path) -> None:
    Store.open(path).close()
    marker = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**marker, "format": 2}))
    with pytest.raises(NewerFormat, match="format 2, and this version reads up to 1"):
        Store.open(path)


def test_a_newer_format_inside_the_file_is_refused_by_name(path: Path) -> None:
    with Store.open(path) as store:
        store._environment.write(_write_format_9)
    with pytest.raises(NewerFormat, match="format 9"):
        Store.open(path)


def _write_format_9(writer: Writer) -> None:
    writer.put(writer.dbs.meta, b"format", (9).to_bytes(4, "big"))


def test_a_crash_while_the_store_is_made_is_made_up_for(path: Path) -> None:
    Store.open(path).close()
    (path / "store.json").unlink()
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
    assert (path / "store.json").exists()


def test_a_read_only_folder_is_refused_in_one_line(path: Path) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
    code = """
import os, sys
from storage import Store
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
Store.open(sys.argv[1])
"""
    for folder in (path, *path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(0o755)
    path.chmod(0o555)
    try:
        result = run_python(code, path)
    finally:
        path.chmod(0o755)
    assert "storage.errors.StoreNotWritable: cannot write in" in result.stderr, result.stderr
    with Store.open(path) as store:
        check(store)


def test_path_where_no_folder_can_be_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "store", Path("/proc/nothing")):
        with pytest.raises(StoreNotWritable, match=f"at {path}: .*; choose another path"):
            Store.open(path)


def test_a_flipped_bit_in_a_document_is_noticed_when_it_is_read(path: Path) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"text": "find me here"})
    file = path / "data.mdb"
    data = bytearray(file.read_bytes())
    place = data.index(b"find me here")
    while place >= 0:
        data[place] ^= 1
        place = data.find(b"find me here", place + 1)
    file.write_bytes(data)
    with Store.open(path) as store, pytest.raises(StoreDamaged, match="does not match its checksum"):
        documents_at(store, None, "posts")
    report = verify(path)
    assert any("checksum" in problem for problem in report.problems)


# ---- no room -------------------------------------------------------------------------------

_FILL = """
import os, resource, signal, sys
from storage import DiskFull, Store, Transaction
store = Store.open(sys.argv[1], map_size=1 << 20)
if len(sys.argv) > 2:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
acknowledged = 0
try:
    while True:
        with store.snapshot() as snapshot:
            transaction = Transaction(snapshot)
            body = {"n": acknowledged, "text": "x" * 3000}
            transaction.insert("posts", body, os.urandom(16), float(acknowledged + 1))
            store.commit([transaction.write_set().commit(store.head_ts + 1)])
        acknowledged += 1
except DiskFull as error:
    print("full:", error)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
else:
    os.unlink(os.path.join(os.path.dirname(sys.argv[1]), "ballast"))
with store.snapshot() as snapshot:
    transaction = Transaction(snapshot)
    transaction.insert("posts", {"n": acknowledged}, os.urandom(16), float(acknowledged + 1))
    store.commit([transaction.write_set().commit(store.head_ts + 1)])
print(acknowledged + 1)
"""


def see_that_nothing_was_lost(path: Path, result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stderr
    message, acknowledged = result.stdout.splitlines()
    assert message.startswith("full: no room to write")
    with Store.open(path) as store:
        check(store)
        assert [row["n"] for row in documents_at(store, None, "posts")] == list(range(int(acknowledged)))


def test_a_limit_on_the_file_is_a_clean_refusal_that_ends_with_the_limit(path: Path) -> None:
    see_that_nothing_was_lost(path, run_python(_FILL, path, 3 << 20))


def test_a_full_disk_is_a_clean_refusal_that_ends_with_the_shortage(tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    if (
        os.getuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mounted)], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small tmpfs needs privileges; the limit on file size stands in for it")
    try:
        (mounted / "ballast").write_bytes(bytes(2 << 20))
        see_that_nothing_was_lost(mounted / "store", run_python(_FILL, mounted / "store"))
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


_FAULT = """
import errno, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import faults
from storage import Commit, Store, StoreError
path, step = Path(sys.argv[1]), sys.argv[3]
store = Store.open(path)
store.commit([Commit(10, private=((b"k", b"10"),))])
data, meta = faults.descriptors_of(path / "data.mdb")
assert data >= 0 and meta >= 0, (data, meta)
calls = {"data": ["pwrite64", "writev"], "sync": ["fdatasync", "fsync"], "meta": ["pwrite64"]}[step]
faults.fail(calls, errno.EIO, meta if step == "meta" else data)
errors = []
for ts in (20, 30):
    try:
        store.commit([Commit(ts, private=((b"k", str(ts).encode()),))])
    except StoreError as error:
        errors.append([type(error).__name__, str(error)])
print(json.dumps(errors))
"""


@pytest.mark.skipif(not faults.IS_POSSIBLE, reason="the filter knows other machines' calls")
@pytest.mark.parametrize("step", ["data", "sync", "meta"])
def test_a_failing_disk_stops_the_store_because_the_outcome_is_unknown(path: Path, step: str) -> None:
    result = run_python(_FAULT, path, Path(__file__).parent, step)
    assert result.returncode == 0, result.stderr
    first, second = json.loads(result.stdout)
    assert first[0] == CommitOutcomeUnknown.__name__
    assert "restart and recover" in first[1]
    assert second[0] == StoreClosed.__name__
    assert verify(path).is_sound
    with Store.open(path) as store:
        assert store.head_ts in (10, 20)
        assert store.private_get(b"k") == b"%d" % store.head_ts
        store.commit([Commit(40)])


# ---- growth ---------------------------------------------------------------------------------


def test_the_map_grows_while_pins_and_snapshots_are_open(path: Path) -> None:
    with Store.open(path, map_size=1 << 17) as store:
        (first,) = insert(store, "posts", {"n": 0, "text": ""})
        old = store.snapshot()
        pin = store.pin()
        scan = Transaction(old).scan("posts")
        for number in range(1, 60):
            insert(store, "posts", {"n": number, "text": "x" * 5000})
        assert store._environment.map_size() > 1 << 17
        assert pin.lost
        pin.release()
        assert [row["_id"] for row in scan] == [first]
        assert Transaction(old).count("posts") == 1
        old.close()
        with store.pin() as fresh:
            assert not fresh.lost
        check(store)


def test_one_commit_larger_than_the_map_fits(path: Path) -> None:
    with Store.open(path, map_size=1 << 17) as store:
        insert(store, "posts", *({"text": "x" * 10_000} for _ in range(300)))
        assert len(documents_at(store, None, "posts")) == 300


def test_the_map_grows_ahead_of_need_while_nobody_holds_a_pin(path: Path) -> None:
    with Store.open(path, map_size=1 << 20) as store:
        while store._environment.generation == 0:
            insert(store, "posts", {"text": "x" * 10_000})
        assert store._environment.last_page() * 4096 < 0.9 * (1 << 20)


def test_other_threads_read_while_one_commits_and_grows(path: Path) -> None:
    with Store.open(path, map_size=1 << 17) as store:
        insert(store, "posts", {"n": 0})
        failures: list[BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                while not done.is_set():
                    with store.pin() as pin, store.snapshot() as snapshot:
                        rows = list(Transaction(snapshot).scan("posts"))
                        assert [row["n"] for row in rows] == list(range(len(rows)))
                        assert pin.head_ts <= snapshot.ts
            except BaseException as error:
                failures.append(error)

        readers = [threading.Thread(target=read) for _ in range(3)]
        for reader in readers:
            reader.start()
        with store.snapshot() as base:
            table = base.catalog.tables["posts"].number
        for number in range(1, 150):
            with store.snapshot() as snapshot:
                transaction = Transaction(snapshot)
                transaction.insert(
                    "posts", {"n": number, "t": "x" * 3000}, internal_id(number + 5), float(number + 1)
                )
                commit(store, transaction)
        done.set()
        for reader in readers:
            reader.join()
        assert failures == []
        assert store._environment.generation > 0
        assert table in store.catalog().by_number


# ---- commits -----------------------------------------------------------------------------------


def test_a_group_is_one_transaction_and_each_commit_readable_by_itself(store: Store) -> None:
    with store.snapshot() as snapshot:
        first = Transaction(snapshot)
        id_ = first.insert("posts", {"n": 1}, internal_id(1), 1.0)
    with store.snapshot() as snapshot:
        second = Transaction(Buffer.overlay(snapshot, [first.write_set()]))
        second.replace(id_, {"n": 2})
        before = store._environment.state().txn_id
        store.commit([first.write_set().commit(10), second.write_set().commit(20)])
    assert store._environment.state().txn_id == before + 1
    assert [documents_at(store, ts, "posts")[0]["n"] for ts in (10, 15, 20)] == [1, 1, 2]


@pytest.mark.parametrize(
    "bad",
    [
        lambda ok: Commit(ok.ts),
        lambda ok: Commit(ok.ts - 1),
        lambda ok: attrs.evolve(ok, ts=99, writes=ok.writes * 2),
        lambda ok: attrs.evolve(ok, ts=99, writes=(attrs.evolve(ok.writes[0], table=77777),)),
        lambda ok: attrs.evolve(
            ok, ts=99, writes=(attrs.evolve(ok.writes[0], internal_id=bytes(16), body=None),)
        ),
        lambda ok: attrs.evolve(
            ok, ts=99, catalog=None, writes=(attrs.evolve(ok.writes[0], internal_id=b"x"),)
        ),
        lambda ok: attrs.evolve(ok, ts=99, writes=()),
        lambda ok: Commit(99, private=((b"k" * 512, b""),)),
        lambda ok: Commit(99, private=((b"", b""),)),
    ],
)
def test_one_bad_commit_refuses_its_whole_group(store: Store, bad: Any) -> None:
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.insert("posts", {"n": 1}, internal_id(1), 1.0)
    good = transaction.write_set().commit(10, private=[(b"k", b"v")])
    with pytest.raises(InvalidCommit):
        store.commit([good, bad(good)])
    assert store.head_ts == 0
    assert store.private_get(b"k") is None
    store.commit([good])
    assert store.head_ts == 10


def test_private_rows_come_with_their_commit(store: Store) -> None:
    store.commit([Commit(10, private=((b"a1", b"x"), (b"a2", b"y"), (b"b1", b"z")))])
    assert store.private_items(b"a") == [(b"a1", b"x"), (b"a2", b"y")]
    assert store.private_items(b"a", limit=1) == [(b"a1", b"x")]
    store.commit([Commit(20, private=((b"a1", None), (b"a2", b"new")))])
    assert store.private_items(b"") == [(b"a2", b"new"), (b"b1", b"z")]
    store.write_private([(b"c", b"1")])
    assert store.private_get(b"c") == b"1"


def test_the_last_of_the_private_rows_with_a_prefix(store: Store) -> None:
    assert store.private_last(b"a/") is None
    store.commit([Commit(10, private=((b"a/1", b"x"), (b"a/2", b"y"), (b"b/1", b"z")))])
    assert store.private_last(b"a/") == (b"a/2", b"y")
    assert store.private_last(b"b/") == (b"b/1", b"z")
    assert store.private_last(b"a") == (b"a/2", b"y")
    assert store.private_last(b"0/") is store.private_last(b"aa/") is store.private_last(b"c/") is None


# ---- the log ------------------------------------------------------------------------------------


def test_the_log_tells_every_commit_by_timestamp_and_by_range(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.replace(id_, {"n": 2})
        commit(store, transaction, record=b"the record")
    store.commit([Commit(30)])
    entries = list(store.log(0))
    assert [(entry.ts, entry.previous_ts) for entry in entries] == [(10, 0), (20, 10), (30, 20)]
    assert [[(write.id, write.kind) for write in entry.writes] for entry in entries] == [
        [(id_, "insert")],
        [(id_, "update")],
        [],
    ]
    assert [entry.ts for entry in store.log(10, 20)] == [20]
    entry = store.log_entry(20)
    assert entry is not None
    assert entry.record == b"the record"
    assert store.log_entry(15) is None


def test_every_version_points_at_the_commit_that_wrote_it(store: Store) -> None:
    (id_,) = insert(store, "posts", {"n": 1})
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.replace(id_, {"n": 2})
        commit(store, transaction)
    versions = store.versions(id_)
    assert [(each.ts, each.until, each.document["n"]) for each in versions] == [(10, 20, 1), (20, None, 2)]
    for each in versions:
        entry = store.log_entry(each.ts)
        assert entry is not None
        assert [write.id for write in entry.writes] == [id_]


def test_the_log_of_one_store_makes_another_like_it(store: Store, tmp_path: Path) -> None:
    log: CommitLog = store
    seen: list[int] = []
    stop = log.watch(seen.append)
    (id_,) = insert(store, "posts", {"n": 1}, {"n": 2})[:1]
    add_index(store, "users", "by_name", "name")
    with store.snapshot() as snapshot:
        transaction = Transaction(snapshot)
        transaction.delete(id_)
        commit(store, transaction)
    stop()
    store.commit([Commit(next_ts(store))])
    assert seen == [10, 20, 30, 40]
    with Store.open(tmp_path / "copy") as copy:
        for each in log.read(0):
            copy.append([attrs.evolve(each, catalog=_without_backfill(each.catalog))], after=copy.head_ts)
        assert copy.head_ts == store.head_ts
        for ts in (10, 40, 50):
            assert documents_at(copy, ts, "posts") == documents_at(store, ts, "posts")


def _without_backfill(change: Any) -> Any:
    """Indexes of a table without documents need no backfill, which is local to a store."""
    if change is None:
        return None
    ready = tuple(attrs.evolve(index, state="ready") for index in change.add_indexes)
    return attrs.evolve(change, add_indexes=ready, enable_indexes=())


def test_appending_after_another_head_is_refused(store: Store) -> None:
    store.append([Commit(10)], after=0)
    with pytest.raises(HeadMoved, match="expected the log to end at 0, it ends at 10"):
        store.append([Commit(20)], after=0)
    assert store.head_ts == 10


def test_the_log_below_the_horizon_is_out_of_retention(store: Store) -> None:
    for ts in (10, 20, 30):
        store.commit([Commit(ts)])
    store.retain(RetentionPolicy(age_ns=0), now_ns=20)
    with pytest.raises(OutOfRetention):
        list(store.log(10))
    assert [entry.ts for entry in store.log(20)] == [30]


def test_all_errors_of_a_store_have_one_base() -> None:
    for kind in (DiskFull, StoreBusy, StoreMissing, StoreNotWritable, InvalidCommit, CommitOutcomeUnknown):
        assert issubclass(kind, StoreError)


# ---- steps that fail --------------------------------------------------------------------------------


def test_a_failure_at_any_step_of_the_write_path_leaves_nothing_behind(path: Path) -> None:
    steps = {"left": 10**9}

    class Failing(Writer):
        def put(self, db: Any, key: bytes, value: bytes) -> None:
            self.step()
            super().put(db, key, value)

        def pop(self, db: Any, key: bytes) -> bytes | None:
            self.step()
            return super().pop(db, key)

        def before_commit(self) -> None:
            self.step()

        def step(self) -> None:
            steps["left"] -= 1
            if steps["left"] == 0:
                raise OSError(errno.EIO, "a failing disk")

    with Store.open(path, writer=Failing) as store:
        add_index(store, "posts", "by_n", "n")
        ids = insert(store, "posts", {"n": 1}, {"n": 2})
        for fail_at in range(1, 100):
            before = documents_at(store, None, "posts", "by_n")
            head = store.head_ts
            with store.snapshot() as snapshot:
                transaction = Transaction(snapshot)
                transaction.replace(ids[0], {"n": 10 + fail_at})
                transaction.insert("posts", {"n": 0}, internal_id(9000 + fail_at), 1.0)
                steps["left"] = fail_at
                try:
                    commit(store, transaction)
                except StoreError:
                    assert store.head_ts == head
                    assert documents_at(store, None, "posts", "by_n") == before
                    check(store)
                    continue
            assert fail_at > 5, "so few steps cannot be all of them"
            break
        else:
            pytest.fail("no attempt went through")
        steps["left"] = 10**9
        check(store)


def test_a_write_set_without_writes_commits_nothing_but_its_record(store: Store) -> None:
    store.commit([WriteSet().commit(10, record=b"r")])
    assert [entry.record for entry in store.log(0)] == [b"r"]


def test_a_store_can_be_copied_as_a_folder_while_closed(path: Path, tmp_path: Path) -> None:
    with Store.open(path) as store:
        insert(store, "posts", {"n": 1})
    shutil.copytree(path, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        check(copy)
