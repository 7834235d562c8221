"""Environment variables on a whole deployment: rows that functions read, and that only the engine writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.environment import TOTAL_BYTES_MAX, VALUE_BYTES_MAX, VARIABLES_MAX, InvalidEnvironment
from storage import DiskFull

from .deployed import Deployed, Disk, call, deployed

APP = {
    "env.py": """
        from typing import Any

        from tidewell import action, mutation, query


        @query
        def one(ctx, name: str) -> Any:
            return ctx.env.get(name)


        @query
        def strict(ctx, name: str) -> Any:
            return ctx.env[name]


        @query
        def nothing(ctx) -> str:
            return "the same"


        @mutation
        def keep(ctx, name: str) -> str:
            return ctx.db.insert("kept", {"value": ctx.env.get(name, "unset")})


        @action
        def act(ctx, name: str) -> Any:
            return [ctx.env.get(name), ctx.run_query("env:one", {"name": name})]


        @query
        def rows(ctx) -> Any:
            return ctx.db.system.query("_environment_variables").collect()


        @mutation
        def write(ctx) -> Any:
            return ctx.db.insert("_environment_variables", {"name": "A", "value": "mine"})
    """
}


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def it(tmp_path: Path, disk: Disk) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path, APP, run_blocking=disk) as it:
        yield it


async def test_every_kind_of_function_sees_a_variable(it: Deployed) -> None:
    assert await it.value("env:one", name="A") is None
    await it.deployment.environment.change({"A": "first", "B": "other"})
    assert await it.value("env:one", name="A") == "first"
    assert await it.value("env:strict", name="B") == "other"
    await it.run("env:keep", name="A")
    acted = await it.deployment.act(call("env:act", name="A"))
    assert acted.value == ["first", "first"]
    await it.deployment.environment.change({"A": "second", "B": None})
    assert await it.value("env:one", name="A") == "second"
    failed = await it.query("env:strict", name="B")
    assert failed.failure is not None
    assert "KeyError" in failed.failure.message


async def test_a_change_runs_again_exactly_the_queries_that_read_the_name(it: Deployed) -> None:
    rung: list[str] = []
    watches = {
        key: it.deployment.watch(asked, None, lambda key=key: rung.append(key))  # type: ignore[misc]  # bound now
        for key, asked in {
            "A": call("env:one", name="A"),
            "B": call("env:one", name="B"),
            "none": call("env:nothing"),
        }.items()
    }

    async def evaluate() -> None:
        await it.deployment.evaluate(list(watches.values()), it.deployment.head_ts)
        rung.clear()

    await evaluate()
    await it.deployment.environment.change({"C": "makes the table"})  # whose absence A and B had read
    await evaluate()
    before = dict(it.traffic.runs)
    await it.deployment.environment.change({"A": "1"})
    assert rung == ["A"]
    await evaluate()
    assert it.traffic.runs["env:one"] == before["env:one"] + 1
    assert it.traffic.runs["env:nothing"] == before["env:nothing"]
    await it.deployment.environment.change({"B": "1"})
    assert rung == ["B"]
    await evaluate()
    await it.deployment.environment.change({"B": "1"})  # to what it is
    assert rung == []
    for watch in watches.values():
        watch.close()


async def test_guests_reach_the_rows_through_ctx_env_alone(it: Deployed) -> None:
    await it.deployment.environment.change({"A": "secret"})
    read = await it.query("env:rows")
    assert read.failure is not None
    assert "there is no such system table" in read.failure.message
    written = await it.mutate("env:write")
    assert written.failure is not None
    assert "cannot be written" in written.failure.message


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("1A", "x", "'1A' is not a name for an environment variable"),
        ("A-B", "x", "'A-B' is not a name"),
        ("", "x", "'' is not a name"),
        ("A" * 257, "x", "has 257 characters, at most 256"),
        ("CONVEX_SITE_URL", "x", "begin with CONVEX_ are set by the server itself"),
        ("A", "é" * (VALUE_BYTES_MAX // 2 + 1), "the value of A has 8,194 bytes, at most 8,192"),
        ("A", "\ud800", "holds a lone surrogate"),
        ("NOT_THERE", None, "there is no environment variable 'NOT_THERE' to remove"),
    ],
)
async def test_what_cannot_be_a_variable_is_refused(
    it: Deployed, name: str, value: str | None, told: str
) -> None:
    with pytest.raises(InvalidEnvironment, match=told.replace("(", "\\(")):
        await it.deployment.environment.change({"GOOD": "1", name: value})
    assert it.deployment.environment.variables == {}
    assert await it.value("env:one", name="GOOD") is None


async def test_there_are_at_most_so_many_variables_and_bytes(it: Deployed) -> None:
    change = it.deployment.environment.change
    await change({f"V{number}": "" for number in range(VARIABLES_MAX)})
    with pytest.raises(InvalidEnvironment, match="513 environment variables, at most 512"):
        await change({"ONE_MORE": ""})
    await change({"CONVEX_CLOUD_URL": "http://here"}, by_server=True)  # does not count
    with pytest.raises(InvalidEnvironment, match="bytes together, at most 524,288"):
        await change(
            {f"V{number}": "x" * VALUE_BYTES_MAX for number in range(TOTAL_BYTES_MAX // VALUE_BYTES_MAX)}
        )


async def test_a_full_disk_changes_nothing(it: Deployed, disk: Disk) -> None:
    await it.deployment.environment.change({"A": "1"})
    disk.errors.append(DiskFull("the disk is full"))
    with pytest.raises(Exception, match="the disk is full"):
        await it.deployment.environment.change({"A": "2"})
    assert it.deployment.environment.variables == {"A": "1"}
    assert await it.value("env:one", name="A") == "1"


async def test_a_push_leaves_the_variables_and_their_index(it: Deployed) -> None:
    await it.deployment.environment.change({"A": "1"})
    await it.push({"env.py": APP["env.py"].replace("the same", "another")})
    assert await it.value("env:one", name="A") == "1"
    await it.deployment.environment.change({"A": "2"})
    assert await it.value("env:one", name="A") == "2"


async def test_variables_outlive_a_restart(tmp_path: Path) -> None:
    async with deployed(tmp_path, APP) as it:
        await it.deployment.environment.change({"A": "kept"})
    async with deployed(tmp_path) as it:
        assert it.deployment.environment.variables == {"A": "kept"}
        assert await it.value("env:one", name="A") == "kept"
