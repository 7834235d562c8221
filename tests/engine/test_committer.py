"""The committer at its commit point, over a real store and an off-thread runner of the test's choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import attrs
import pytest
import trio
import trio.testing

from engine.backend import BackendFault
from engine.clock import SystemClock
from engine.committer import Committer, Proposal, View
from storage import CommitOutcomeUnknown, DiskFull, ReadSet, Store, WriteLog, WriteSet

from .set_clock import SetClock

T = TypeVar("T")
Args = TypeVarTuple("Args")


@attrs.define
class Disk:
    """Runs what it is given at once, and fails before or after it when told to."""

    before: Exception | None = None
    after: Exception | None = None

    async def run_blocking(self, call: Callable[[*Args], T], /, *args: *Args) -> T:
        await trio.lowlevel.checkpoint()
        if self.before is not None:
            raise self.before
        result = call(*args)
        if self.after is not None:
            raise self.after
        return result


@attrs.define
class Setting:
    store: Store
    disk: Disk = attrs.field(factory=Disk)
    announced: list[int] = attrs.field(factory=list)
    committer: Committer = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        def announce(ts: int, keys: object) -> None:
            self.announced.append(ts)

        self.committer = Committer(
            self.store, WriteLog(self.store.head_ts), SystemClock(), announce, self.disk.run_blocking
        )

    def proposal(self) -> Proposal:
        plan = self.store.catalog().plan()
        plan.create_table(f"table_{self.store.head_ts}")
        return Proposal(View(self.committer.head_ts), ReadSet(), WriteSet(), None, catalog=plan.change())


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with Store.open(tmp_path / "store") as store:
        yield Setting(store)


async def test_accepted_proposal_becomes_durable_and_is_announced(setting: Setting) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.committer.run)
        accepted = setting.committer.accept(setting.proposal())
        assert setting.committer.head_ts == 0
        assert await accepted.durable.wait() == accepted.ts
        assert setting.committer.head_ts == setting.store.head_ts == accepted.ts
        assert setting.announced == [accepted.ts]
        setting.committer.close()


async def test_refused_group_fails_and_the_next_one_goes_on(setting: Setting) -> None:
    setting.disk.before = DiskFull("no room")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.committer.run)
        refused = setting.committer.accept(setting.proposal())
        with pytest.raises(BackendFault, match="no room"):
            await refused.durable.wait()
        setting.disk.before = None
        accepted = setting.committer.accept(setting.proposal())
        await accepted.durable.wait()
        setting.committer.close()
    assert setting.announced == [accepted.ts]


@pytest.mark.parametrize("side", ["before", "after"])
async def test_unknown_outcome_ends_the_engine_and_is_called_unknown(setting: Setting, side: str) -> None:
    """It was once reported as refused, so callers were told that a commit which could well be durable had
    not happened; only recovery knows (T6)."""
    setattr(setting.disk, side, CommitOutcomeUnknown("restart and recover"))
    accepted = setting.committer.accept(setting.proposal())
    with pytest.raises(CommitOutcomeUnknown):
        await setting.committer.run()
    with pytest.raises(BackendFault, match="whether this was committed is not known"):
        await accepted.durable.wait()
    assert setting.committer.head_ts == 0
    assert setting.announced == []


async def test_a_group_is_durable_whatever_is_made_of_the_news(setting: Setting) -> None:
    def fall_over(ts: int) -> None:
        raise ZeroDivisionError

    first = setting.committer.accept(attrs.evolve(setting.proposal(), on_head=fall_over))
    with pytest.raises(ZeroDivisionError):
        await setting.committer.run()
    assert await first.durable.wait() == first.ts == setting.store.head_ts


async def test_nobody_waits_for_a_committer_that_was_cut_off(setting: Setting) -> None:
    """A push waits shielded for its commit; a crash of the engine left it waiting for ever."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setting.committer.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        early = setting.committer.accept(setting.proposal())
    late = setting.committer.accept(setting.proposal())
    for accepted in (early, late):
        with pytest.raises(BackendFault, match="shutting down"):
            await accepted.durable.wait()
    assert setting.committer.overlay() == []


@pytest.mark.parametrize(("bytes_max", "kept_s"), [(50 * 2**20, 60), (1, 30)])
async def test_write_log_keeps_a_minute_and_half_of_it_when_it_is_large(
    setting: Setting, bytes_max: int, kept_s: int
) -> None:
    clock = SetClock()
    log = WriteLog(setting.store.head_ts)
    committer = Committer(
        setting.store,
        log,
        clock,
        lambda ts, keys: None,
        setting.disk.run_blocking,
        write_log_bytes_max=bytes_max,
    )
    setting.committer = committer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(committer.run)
        for _ in range(100):
            clock.ns += 10**9
            await committer.accept(setting.proposal()).durable.wait()
        nursery.cancel_scope.cancel()
    assert len(log) == kept_s
    assert log.horizon == committer.head_ts - kept_s * 10**9
