"""Actions on a whole deployment: no transaction, no retry, and everything they ask is a call of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from engine.actions import TOGETHER_MAX
from engine.backend import ActionOutcome, Identity
from sandbox.pool import WorkerLost

from .deployed import Deployed, Traffic, call, deployed

APP = {
    "jobs.py": """
        from typing import Any

        from tidewell import AppError, action, internal_mutation, mutation, query


        @internal_mutation
        def add(ctx, by: int = 1) -> int:
            found = ctx.db.query("counters").first()
            if found is None:
                ctx.db.insert("counters", {"n": by})
                return by
            ctx.db.patch(found["_id"], {"n": found["n"] + by})
            return found["n"] + by


        @mutation
        def refuse(ctx, data: Any) -> None:
            raise AppError(data)


        @query
        def value(ctx) -> int:
            found = ctx.db.query("counters").first()
            return 0 if found is None else found["n"]


        @query
        def who(ctx) -> Any:
            identity = ctx.auth.get_user_identity()
            return None if identity is None else identity["subject"]


        @action
        def add_twice(ctx) -> list[int]:
            before = ctx.run_query("jobs:value")
            ctx.run_mutation("jobs:add")
            between = ctx.run_query("jobs:value")
            ctx.run_mutation("jobs:add", {"by": 10})
            return [before, between, ctx.run_query("jobs:value")]


        @action
        def ask_who(ctx) -> Any:
            return [ctx.run_query("jobs:who"), ctx.run_action("jobs:ask_who_too")]


        @action
        def ask_who_too(ctx) -> Any:
            return ctx.run_query("jobs:who")


        @action
        def catch(ctx) -> Any:
            try:
                ctx.run_mutation("jobs:refuse", {"data": {"code": 7}})
            except AppError as error:
                return error.data


        @action
        def let_through(ctx) -> None:
            ctx.run_mutation("jobs:refuse", {"data": {"code": 7}})


        @action
        def nest(ctx, depth: int = 0) -> int:
            return ctx.run_action("jobs:nest", {"depth": depth + 1})
        """
}


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP) as it:
        yield it


async def act(it: Deployed, path: str, identity: Identity | None = None) -> ActionOutcome:
    return await it.deployment.act(call(path, identity=identity or Identity()))


async def test_each_call_of_an_action_is_a_transaction_of_its_own(it: Deployed) -> None:
    outcome = await act(it, "jobs:add_twice")
    assert outcome.failure is None, outcome.failure
    assert outcome.value == [0, 1, 11]
    assert await it.value("jobs:value") == 11


async def test_identity_flows_into_nested_calls(it: Deployed) -> None:
    outcome = await act(it, "jobs:ask_who", Identity({"subject": "ann"}))
    assert outcome.value == ["ann", "ann"], outcome.failure


async def test_data_of_an_app_error_arrives_unchanged(it: Deployed) -> None:
    assert (await act(it, "jobs:catch")).value == {"code": 7}
    failure = (await act(it, "jobs:let_through")).failure
    assert failure is not None
    assert failure.data == {"code": 7}


async def test_actions_that_call_actions_have_a_bottom(it: Deployed) -> None:
    failure = (await act(it, "jobs:nest")).failure
    assert failure is not None
    assert "nested deeper than 8" in failure.message


async def test_lost_action_is_not_run_again_and_what_it_committed_stays(it: Deployed) -> None:
    died: list[Any] = []

    def lose(frame: Any) -> WorkerLost | None:
        if frame.calls[0].path == "jobs:ask_who":
            died.append(frame)
            return WorkerLost("crash", "as the test wants")
        return None

    it.traffic.lose = lose
    failure = (await act(it, "jobs:ask_who")).failure
    assert failure is not None
    assert failure.kind == "System"
    assert len(died) == 1
    assert (await act(it, "jobs:add_twice")).value == [0, 1, 11]


async def test_action_that_waits_keeps_no_page_of_the_store(it: Deployed) -> None:
    held = it.traffic.hold_before("jobs:value")
    store: Any = it.deployment.store
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act, it, "jobs:add_twice")
        await held.arrivals()
        assert len(store._environment._pins) == 1  # of the query; none of the action that waits for it
        held.release.set()


async def test_actions_run_beside_mutations_and_each_other(it: Deployed) -> None:
    held = it.traffic.hold_before("jobs:who")
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(act, it, "jobs:ask_who")
        await held.arrivals()
        assert (await act(it, "jobs:add_twice")).value == [0, 1, 11]
        held.release.set()


async def test_cancelled_caller_ends_the_action_and_not_the_mutation_it_asked_for(it: Deployed) -> None:
    held = it.traffic.hold_before("jobs:add")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(act, it, "jobs:add_twice")
        await held.arrivals()
        nursery.cancel_scope.cancel()
    held.release.set()
    while it.deployment.mutations.unsettled:
        await trio.testing.wait_all_tasks_blocked()
    assert await it.value("jobs:value") == 1


async def test_mutations_of_an_action_are_recorded_under_its_execution_and_their_number(it: Deployed) -> None:
    assert (await act(it, "jobs:add_twice")).value == [0, 1, 11]
    [execution] = [frame.calls[0].execution for frame in it.traffic.frames if frame.calls[0].kind == "action"]
    found = it.deployment.newest_success(f"→{execution}")
    assert found is not None
    number, ts = found
    assert number // TOGETHER_MAX == 4  # a query, a mutation, a query, and this
    assert ts == it.deployment.head_ts


async def test_an_action_has_ten_minutes(it: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    request = Traffic.request

    async def look(traffic: Traffic, worker: Any, frame: Any, **options: Any) -> Any:
        given.append(options["wall_s"])
        return await request(traffic, worker, frame, **options)

    monkeypatch.setattr(Traffic, "request", look)
    await act(it, "jobs:ask_who_too")
    assert max(given) == 600
