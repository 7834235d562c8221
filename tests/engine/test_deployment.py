"""A deployment's life: opened, cut off, ended in order; its keys; and how much work a group of calls is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from engine.backend import BackendFault
from storage import RetentionPolicy, StoreBusy

from .deployed import Deployed, Disk, call, deployed

APP = {
    "counters.py": """
        from tidewell import mutation, query


        @mutation
        def add(ctx, name: str = "x") -> int:
            found = ctx.db.query("counters").filter(lambda q: q.eq(q.field("name"), name)).first()
            if found is None:
                ctx.db.insert("counters", {"name": name, "n": 1})
                return 1
            ctx.db.patch(found["_id"], {"n": found["n"] + 1})
            return found["n"] + 1


        @query
        def value(ctx) -> int:
            return sum(counter["n"] for counter in ctx.db.query("counters").collect())


        @query
        def elsewhere(ctx, n: int) -> int:
            return len(ctx.db.query("others").collect()) + n
        """
}
CLIENTS = 64


async def clients_add(it: Deployed, rounds: int = 5) -> None:
    async def add() -> None:
        for _ in range(rounds):
            await it.run("counters:add")

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(add)


async def test_keys_are_for_their_owner_alone_and_stay(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        key = it.deployment.admin_key
    for name in ("admin-key", "cursor-key"):
        path = tmp_path / "data" / name
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_text().strip()) == 64
    async with deployed(tmp_path) as it:
        assert it.deployment.admin_key == key


async def test_key_file_that_was_cut_short_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin-key").write_text("")
    async with deployed(tmp_path) as it:
        assert len(it.deployment.admin_key) == 64


async def test_second_deployment_in_a_folder_is_refused(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP):
        with pytest.raises(StoreBusy):
            async with deployed(tmp_path):
                pass


async def test_calls_before_the_first_push_are_told_so(tmp_path: Path) -> None:
    async with deployed(tmp_path) as it:
        with pytest.raises(BackendFault, match="no code has been pushed"):
            await it.run("counters:add")
        failure = (await it.query("counters:value")).failure
        assert failure is not None
        assert "no code has been pushed" in failure.message


async def test_cut_off_answers_everybody_and_closes_the_store(tmp_path: Path) -> None:
    faults: list[str] = []

    async def ask(it: Deployed, path: str) -> None:
        try:
            await (it.mutate(path) if path.endswith("add") else it.query(path))
        except BackendFault as fault:
            faults.append(fault.code)

    async with trio.open_nursery() as callers:
        with trio.CancelScope() as everything:
            async with deployed(tmp_path, APP) as it:
                holds = [it.traffic.hold_before(path) for path in ("counters:add", "counters:value")]
                for path in ("counters:add", "counters:add", "counters:value"):
                    callers.start_soon(ask, it, path)
                for held in holds:
                    await held.arrivals()
                everything.cancel()
                await trio.lowlevel.checkpoint()
    assert faults == ["ShuttingDown"] * 3
    async with deployed(tmp_path) as it:
        assert await it.value("counters:value") == 0


async def test_what_was_accepted_is_durable_when_it_has_ended(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(it.run, "counters:add")
        await trio.testing.wait_all_tasks_blocked()
        it.deployment.close()
    async with deployed(tmp_path) as it:
        assert await it.value("counters:value") == 10


async def test_folder_may_be_named_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers stand somewhere else, and once looked for `--data data` there."""
    monkeypatch.chdir(tmp_path)
    async with deployed(Path("here"), APP, real=True) as it:
        await it.run("counters:add")
        assert await it.value("counters:value") == 1


# ---- counted, not timed ------------------------------------------------------------


async def test_sixty_four_clients_make_one_message_for_four_calls_at_most(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP, real=True) as it:
        await it.run("counters:add")
        before, jobs = it.deployment.mutations.batches, it.deployment.mutations.jobs
        await clients_add(it)
        calls = it.deployment.mutations.jobs - jobs
        assert calls == CLIENTS * 5
        assert (it.deployment.mutations.batches - before) * 4 <= calls
        assert await it.value("counters:value") == calls + 1


async def test_a_group_of_commits_is_one_sync(tmp_path: Path) -> None:
    disk = Disk()
    async with deployed(tmp_path, APP, run_blocking=disk) as it:
        await it.run("counters:add")
        syncs = it.deployment.committer.syncs
        gate = disk.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.run, "counters:add")
            await gate.arrivals()
            for _ in range(CLIENTS):
                nursery.start_soon(it.run, "counters:add")
            await trio.testing.wait_all_tasks_blocked()
            gate.release.set()
        assert it.deployment.committer.syncs - syncs == 2  # the first one alone, and the rest


async def test_a_distinct_result_is_run_and_encoded_once_however_many_watch(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        deployment = it.deployment
        watches = [deployment.watch(call("counters:value"), None, lambda: None) for _ in range(100)]
        await deployment.evaluate(watches, deployment.head_ts)
        await it.run("counters:add")
        it.traffic.runs.clear()
        outcomes = await deployment.evaluate(watches, deployment.head_ts)
        assert it.traffic.runs["counters:value"] == 1
        assert len({id(outcome.value_json) for outcome in outcomes}) == 1


async def test_idle_subscriptions_are_not_touched_by_commits_elsewhere(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        deployment = it.deployment
        rings: list[int] = []
        watches = [
            deployment.watch(call("counters:elsewhere", n=n), None, lambda: rings.append(1))
            for n in range(1000)
        ]
        await deployment.evaluate(watches, deployment.head_ts)
        executions = deployment.queries.executions
        for _ in range(20):
            await it.run("counters:add")
        assert rings == []
        assert all(watch.is_current for watch in watches)
        assert deployment.queries.executions == executions


async def test_a_query_below_the_horizon_is_told_where_history_begins(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        store = it.deployment.store
        begun = store.head_ts
        for _ in range(3):
            await it.run("counters:add")
        horizon = store.head_ts
        policy = RetentionPolicy(age_ns=0)
        while not store.retain(policy, now_ns=horizon + 1, keep_from=horizon).is_done:
            pass
        assert store.horizon > begun
        outcome = await it.deployment.query(call("counters:value"), ts=begun)
        assert outcome.failure is not None
        assert outcome.failure.kind == "OutOfRetention"
        assert str(store.horizon) in outcome.failure.message
        assert (await it.deployment.query(call("counters:value"), ts=horizon)).value == 3
