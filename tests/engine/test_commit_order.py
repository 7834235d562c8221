"""The order of commits over a real store: what is accepted against what, and what it is made durable with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest
import trio

from engine.backend import BackendFault
from engine.committer import WRITE_LOG_SPAN_NS, Accepted, Committer, Overtaken, Proposal, View
from storage import Changes, Commit, DiskFull, DocumentWrite, ReadSet, Store, Timestamp, WriteLog, WriteSet
from tidewell.ids import encode_id
from tidewell.values import pack, unpack

from .deployed import Disk
from .set_clock import SetClock

S = 10**9


@attrs.define
class Setting:
    """A committer with one table, whose documents are named by one byte."""

    store: Store
    table: int
    clock: SetClock = attrs.field(factory=SetClock)
    disk: Disk = attrs.field(factory=Disk)
    announced: list[tuple[Timestamp, Timestamp, int]] = attrs.field(factory=list)  # ts, head then, keys
    committer: Committer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        def announce(ts: Timestamp, changes: Changes) -> None:
            self.announced.append((ts, self.committer.head_ts, len(changes.keys)))

        log = WriteLog(horizon=self.store.head_ts)
        self.committer = Committer(self.store, log, self.clock, announce, self.disk)

    def write(self, name: int, n: int = 0) -> WriteSet:
        internal_id = bytes([name]) * 16
        body = pack({"_creationTime": 1, "_id": encode_id(self.table, internal_id), "n": n})
        return WriteSet((DocumentWrite(self.table, internal_id, body),))

    def read(self, *names: int) -> ReadSet:
        by_id = self.store.catalog().tables["things"].by_id.index_id
        return ReadSet.of([(by_id, bytes([name]) * 16, bytes([name]) * 16 + b"\0") for name in names])

    def accept(self, writes: WriteSet, reads: ReadSet | None = None, view: View | None = None) -> Accepted:
        return self.committer.accept(
            Proposal(view or self.committer.view(), reads or ReadSet(), writes, None)
        )

    def stored(self, name: int) -> int | None:
        with self.store.snapshot() as snapshot:
            body = snapshot.get(self.table, bytes([name]) * 16)
        return None if body is None else unpack(body)["n"]


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Setting]:
    with Store.open(tmp_path / "store") as store:
        plan = store.catalog().plan()
        number = plan.create_table("things")
        store.commit([Commit(1, catalog=plan.change())])
        setting = Setting(store, number)
        async with trio.open_nursery() as running:
            running.start_soon(setting.committer.run)
            yield setting
            for gate in setting.disk.gates.values():
                gate.release.set()
            setting.committer.close()


async def test_head_moves_only_when_durable_and_is_announced_in_the_same_step(it: Setting) -> None:
    gate = it.disk.hold()
    accepted = it.accept(it.write(1, 10))
    await gate.arrivals()
    assert (it.committer.head_ts, it.committer.accepted_ts) == (1, accepted.ts)
    assert not accepted.durable.is_settled
    gate.release.set()
    assert await accepted.durable.wait() == accepted.ts
    assert it.announced == [(accepted.ts, accepted.ts, len(accepted.changes.keys))]
    assert it.stored(1) == 10


async def test_what_is_accepted_during_a_sync_shares_the_next_one(it: Setting) -> None:
    gate = it.disk.hold()
    first = it.accept(it.write(1))
    await gate.arrivals()
    others = [it.accept(it.write(name)) for name in range(2, 52)]
    gate.release.set()
    for accepted in (first, *others):
        await accepted.durable.wait()
    assert (it.committer.syncs, it.committer.commits) == (2, 51)


async def test_timestamps_rise_when_the_clock_stands_still_and_when_it_goes_back(it: Setting) -> None:
    stamps = [it.accept(it.write(1, n)).ts for n in range(3)]
    it.clock.ns -= 100 * S
    stamps.append(it.accept(it.write(1, 4)).ts)
    assert stamps == sorted(set(stamps))


async def test_a_read_that_a_commit_wrote_is_refused_with_the_evidence(it: Setting) -> None:
    view = it.committer.view()
    other = it.accept(it.write(1))
    with pytest.raises(Overtaken) as overtaken:
        it.accept(it.write(2), it.read(1), view)
    assert overtaken.value.conflict is not None
    assert (overtaken.value.conflict_ts, overtaken.value.conflict.key) == (other.ts, bytes([1]) * 16)
    await other.durable.wait()
    with pytest.raises(Overtaken):
        it.committer.check(view, it.read(1), None)
    it.committer.check(view, it.read(2), None)


async def test_what_a_view_shows_is_no_conflict_and_what_came_later_is(it: Setting) -> None:
    gate = it.disk.hold()
    it.accept(it.write(1))
    view = it.committer.view()
    it.committer.check(view, it.read(1), None)
    second = it.accept(it.write(1, 2), it.read(1))
    with pytest.raises(Overtaken) as overtaken:
        it.committer.check(view, it.read(1), None)
    assert overtaken.value.conflict_ts == second.ts
    gate.release.set()


async def test_a_chain_has_seen_itself_and_nobody_else(it: Setting) -> None:
    """Also when the other one commits before the chain is judged, in the middle of it, and after."""
    view = it.committer.view()
    it.accept(it.write(7))
    for n in range(3):
        view.follow(it.accept(it.write(1, n), it.read(1), view).ts)
        with pytest.raises(Overtaken):
            it.committer.check(view, it.read(1, 7), None)
    foreign = it.accept(it.write(1, 9), it.read(1))
    with pytest.raises(Overtaken) as overtaken:
        it.accept(it.write(1, 4), it.read(1), view)
    assert overtaken.value.conflict_ts == foreign.ts
    it.accept(it.write(2), it.read(2), view)


async def test_refused_group_is_taken_back_with_all_that_may_have_seen_it(it: Setting) -> None:
    gate = it.disk.hold()
    it.disk.errors.append(DiskFull("no room"))
    first = it.accept(it.write(1, 1))
    await gate.arrivals()
    view = it.committer.view()
    second = it.accept(it.write(2, 2), it.read(1), view)
    gate.release.set()
    for accepted in (first, second):
        with pytest.raises(BackendFault, match="no room"):
            await accepted.durable.wait()
    assert it.announced == []
    assert it.committer.head_ts == 1
    assert (it.stored(1), it.stored(2)) == (None, None)
    with pytest.raises(Overtaken):  # it has seen what never happened
        it.committer.check(view, ReadSet(), None)
    it.disk.gates.clear()
    again = it.accept(it.write(1, 3), it.read(1))  # not in its own way
    assert again.ts > second.ts
    await again.durable.wait()
    assert it.stored(1) == 3


async def test_a_snapshot_is_not_too_old_because_nothing_happened_for_an_hour(it: Setting) -> None:
    await it.accept(it.write(1)).durable.wait()
    view = it.committer.view()
    it.clock.ns += 3600 * S
    await it.accept(it.write(2)).durable.wait()
    it.committer.check(view, it.read(1), None)


async def test_the_write_log_forgets_and_then_refuses_to_vouch(it: Setting) -> None:
    view = it.committer.view()
    for n in range(10):
        it.clock.ns += WRITE_LOG_SPAN_NS // 4
        await it.accept(it.write(1, n)).durable.wait()
    assert len(it.committer.write_log) <= 5
    with pytest.raises(Overtaken) as overtaken:
        it.committer.check(view, it.read(2), None)
    assert overtaken.value.conflict is None


async def test_other_code_than_the_active_one_commits_nothing(it: Setting) -> None:
    it.committer.active_code = "new"
    with pytest.raises(Overtaken):
        it.committer.accept(Proposal(it.committer.view(), ReadSet(), it.write(1), "old"))
    assert it.committer.overlay() == []


async def test_rows_and_record_are_written_with_the_commit_and_told_its_timestamps(it: Setting) -> None:
    first = it.accept(it.write(1))
    accepted = it.committer.accept(
        Proposal(
            it.committer.view(),
            ReadSet(),
            it.write(2),
            None,
            record=lambda begin_ts, commit_ts: b"%d %d" % (begin_ts, commit_ts),
            rows=lambda begin_ts, commit_ts: [(b"row", b"%d" % commit_ts)],
        )
    )
    await accepted.durable.wait()
    entry = it.store.log_entry(accepted.ts)
    assert entry is not None
    assert entry.record == b"%d %d" % (first.ts, accepted.ts)
    assert it.store.private_get(b"row") == b"%d" % accepted.ts


async def test_a_commit_under_way_is_not_cancelled_with_the_committer(it: Setting) -> None:
    gate = it.disk.hold()
    committer = Committer(it.store, WriteLog(it.store.head_ts), it.clock, lambda ts, keys: None, it.disk)
    async with trio.open_nursery() as running:
        running.start_soon(committer.run)
        accepted = committer.accept(Proposal(committer.view(), ReadSet(), it.write(1, 1), None))
        await gate.arrivals()
        running.cancel_scope.cancel()
        gate.release.set()
    assert accepted.durable.is_settled
    assert it.stored(1) == 1
