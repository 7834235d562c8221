"""`tidewell.testing`, as the tests of an app use it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.engine.testing.shop import APP
from tidewell.testing import (
    AppError,
    BackendFault,
    BlockingTestServer,
    CallEnded,
    Faults,
    FunctionError,
    Line,
    NotVirtual,
    PushFailed,
    TestServer,
    run,
    server_fixture,
)

server = server_fixture(APP, seed=5)
TEA = {"name": "tea"}


def stocked(server: BlockingTestServer, count: int = 1) -> None:
    server.mutation("shop:stock", {"name": "tea", "count": count})


def test_calls_are_direct_and_their_errors_are_those_of_clients(server: BlockingTestServer) -> None:
    stocked(server, 2)
    assert server.query("shop:left", TEA) == 2
    assert server.action("shop:buy", TEA) is True
    assert server.query("shop:left", TEA) == 1
    with pytest.raises(AppError) as refused:
        server.mutation("shop:take", {"name": "milk"})
    assert refused.value.data == {"no such thing": "milk"}
    with pytest.raises(FunctionError, match="Could not find public function"):
        server.query("shop:lsit")
    assert server.lines == [Line("shop:stock", "[LOG] stocked tea")]


def test_subscriptions_see_each_change_and_time_costs_nothing(server: BlockingTestServer) -> None:
    stocked(server, 2)
    with server.subscribe("shop:left", TEA) as left:
        assert next(left) == 2
        server.mutation("shop:take", TEA)
        assert next(left) == 1
        with pytest.raises(TimeoutError):
            left.next(within_s=3600)
        assert server.now_ms == pytest.approx(1_800_003_600_000)
        server.crash()
        server.mutation("shop:take", TEA)
        assert next(left) == 0


def test_a_subscription_outlives_the_death_of_its_worker(server: BlockingTestServer) -> None:
    """It used to show the error for ever: no commit could end an outcome that had not said what it read."""
    stocked(server, 2)
    with server.subscribe("shop:left", TEA) as left:
        server.lose_worker("shop:left")
        with pytest.raises(FunctionError, match="worker"):
            next(left)
        server.mutation("shop:take", TEA)
        assert next(left) == 1


def test_callers_are_people_and_admins(server: BlockingTestServer) -> None:
    server.as_user("ada").mutation("shop:stock", {"name": "tea", "count": 1})
    assert server.read(lambda db: [item["by"] for item in db.query("items")]) == ["ada"]
    with pytest.raises(FunctionError):
        server.mutation("shop:clear")
    server.as_admin().mutation("shop:clear")
    assert server.read(lambda db: db.query("items").first()) is None


def test_a_started_call_stops_before_each_of_its_transactions(server: BlockingTestServer) -> None:
    stocked(server)
    ada, bob = server.start("shop:buy", TEA), server.start("shop:buy", TEA)
    looked = ada.step()
    assert (looked.operation, looked.path, looked.value, looked.ts) == ("query", "shop:left", 1, None)
    assert bob.step().value == 1
    assert server.query("shop:left", TEA) == 1
    took = ada.step()
    assert (took.operation, took.value, took.ts) == ("mutation", 0, server.head_ts)
    assert ada.is_over
    assert ada.finish() is True
    assert bob.finish() is True
    assert server.query("shop:left", TEA) == -1
    with pytest.raises(CallEnded):
        ada.step()


def test_a_started_mutation_is_one_transaction_and_may_fail(server: BlockingTestServer) -> None:
    taking = server.start("shop:take", TEA)
    stocked(server)
    assert taking.step().value == 0
    failing = server.start("shop:take", {"name": "milk"})
    assert failing.step().error is not None
    with pytest.raises(AppError):
        failing.finish()


def test_a_server_ends_though_a_call_is_still_stopped(server: BlockingTestServer) -> None:
    stocked(server)
    buying = server.start("shop:buy", TEA)
    buying.step()
    server.restart()
    with pytest.raises(CallEnded):
        buying.finish()
    assert server.query("shop:left", TEA) == 1


def test_functions_find_the_environment_that_a_test_sets() -> None:
    app = {"env.py": "from tidewell import query\n\n@query\ndef name(ctx):\n    return ctx.env.get('NAME')\n"}
    with BlockingTestServer(app, env={"NAME": "ada"}) as server, server.subscribe("env:name") as name:
        assert next(name) == "ada"
        server.set_env({"NAME": None})
        assert next(name) is None


def test_faults_come_when_they_are_ordered(server: BlockingTestServer) -> None:
    stocked(server)
    server.lose_worker("shop:take")
    with pytest.raises(FunctionError, match="worker"):
        server.mutation("shop:take", TEA)
    server.refuse_commits()
    with pytest.raises(BackendFault) as refused:
        server.mutation("shop:take", TEA)
    assert refused.value.transient
    assert server.query("shop:left", TEA) == 1
    server.jump(-3600)
    server.restart()
    assert server.mutation("shop:take", TEA) == 0


def drawn(seed: int, faults: Faults) -> tuple[Any, ...]:
    async def main() -> tuple[Any, ...]:
        async with TestServer(APP, seed=seed, faults=faults) as server:
            values: list[Any] = []

            async def note(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
                try:
                    values.append(await call(*args))
                except (BackendFault, FunctionError) as error:
                    values.append(str(error))

            await note(server.mutation, "shop:stock", {"name": "tea", "count": 20})
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(note, server.mutation, "shop:draw")
                    nursery.start_soon(note, server.action, "shop:buy", TEA)
            ids = server.read(lambda db: [item["_id"] for item in db.query("items")])
            return (*values, ids, server.head_ts, server.now_ms)

    return run(main, seed=seed)


def test_one_seed_is_one_run_and_another_seed_another() -> None:
    faults = Faults(worker_delay_s=0.01, worker_death=0.1, sync_delay_s=0.02, commit_refused=0.1)
    assert drawn(1, faults) == drawn(1, faults)
    assert drawn(1, faults) != drawn(2, faults)


async def test_it_runs_in_an_async_test_with_a_clock_that_jumps(autojump_clock: object) -> None:
    async with TestServer(APP) as server, server.subscribe("shop:left", TEA) as left:
        with pytest.raises(FunctionError):  # nothing is called tea yet
            await anext(left)
        await server.mutation("shop:stock", {"name": "tea", "count": 3})
        assert await anext(left) == 3
        await server.sleep(10_000)


async def test_it_refuses_a_clock_that_cannot_be_driven() -> None:
    with pytest.raises(NotVirtual, match="autojump_clock"):
        async with TestServer(APP):
            pass


async def fail_in_the_middle() -> None:
    async with TestServer(APP) as server:
        await server.start("shop:take", TEA)
        raise AssertionError("mine")


async def test_the_error_of_a_test_leaves_as_it_is(autojump_clock: object) -> None:
    with pytest.raises(AssertionError, match="mine"):
        await fail_in_the_middle()


def test_another_version_is_pushed_and_a_broken_one_refused(server: BlockingTestServer) -> None:
    stocked(server)
    changed = APP["shop.py"].replace('["count"]\n\n@mutation', '["count"] * 10\n\n@mutation')
    server.push({**APP, "shop.py": changed})
    assert server.query("shop:left", TEA) == 10
    with pytest.raises(PushFailed):
        server.push({"shop.py": "def"})
    assert server.query("shop:left", TEA) == 10


def test_an_app_is_a_folder_and_data_may_be_kept(tmp_path: Path) -> None:
    app, data = tmp_path / "app", tmp_path / "data"
    app.mkdir()
    for name, text in APP.items():
        (app / name).write_text(text)
    with BlockingTestServer(app, folder=data) as server:
        stocked(server)
    with BlockingTestServer(app, folder=data, seed=2) as server:
        assert server.query("shop:left", TEA) == 1


def test_a_broken_app_is_told_when_the_server_starts() -> None:
    with pytest.raises(PushFailed), BlockingTestServer({"shop.py": "def"}):
        pass
