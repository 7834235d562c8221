"""`tidewell.toml`: what an app declares of its environment holds at the push and at every change."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.app_folder import InvalidAppFolder, read_app_folder, read_app_settings
from engine.environment import InvalidEnvironment
from engine.push import PushFailed, PushReport

from .deployed import Deployed, deployed, write_app

CODE = """
from tidewell import query


@query
def mode(ctx) -> str:
    return ctx.env["MODE"]
"""
SETTINGS = """
[env]
KEY = "required"
MODE = ["test", "live"]
GREETING = "optional"
"""


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Deployed]:
    async with deployed(tmp_path) as it:
        yield it


async def push(it: Deployed, settings: str, code: str = CODE) -> PushReport:
    app = write_app(it.folder / "app", {"env.py": code, "tidewell.toml": settings})
    return await it.deployment.push(read_app_folder(app), str, b"", read_app_settings(app))


async def test_a_push_needs_the_variables_that_the_app_declares(it: Deployed) -> None:
    change = it.deployment.environment.change
    with pytest.raises(PushFailed) as failed:
        await push(it, SETTINGS)
    assert len(failed.value.problems) == 2
    assert "KEY is not set" in failed.value.problems[0]
    assert "`tidewell env set KEY VALUE`" in failed.value.problems[0]
    await change({"KEY": "k", "MODE": "neither"})
    with pytest.raises(PushFailed, match="MODE must be one of test, live"):
        await push(it, SETTINGS)
    assert it.deployment.code is None
    await change({"MODE": "test"})
    assert (await push(it, SETTINGS)).changed
    assert await it.value("env:mode") == "test"


async def test_a_change_keeps_to_what_the_active_app_declares(it: Deployed) -> None:
    change = it.deployment.environment.change
    await change({"KEY": "k", "MODE": "test", "GREETING": "hello"})
    await push(it, SETTINGS)
    with pytest.raises(InvalidEnvironment, match="MODE must be one of test, live"):
        await change({"MODE": "neither"})
    with pytest.raises(InvalidEnvironment, match="KEY is not set"):
        await change({"KEY": None})
    await change({"MODE": "live", "GREETING": None, "UNDECLARED": "fine"})
    assert await it.value("env:mode") == "live"
    assert (await push(it, "")).changed  # other settings make another version
    await change({"KEY": None})
    with pytest.raises(PushFailed, match="KEY is not set"):
        await push(it, SETTINGS)  # also of a version that was pushed before


async def test_declarations_outlive_a_restart(tmp_path: Path) -> None:
    async with deployed(tmp_path) as it:
        await it.deployment.environment.change({"KEY": "k", "MODE": "test"})
        await push(it, SETTINGS)
    async with deployed(tmp_path) as it:
        with pytest.raises(InvalidEnvironment, match="KEY is not set"):
            await it.deployment.environment.change({"KEY": None})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("[env\n", "tidewell.toml: "),
        ("env = 3", "env: expected a table"),
        ("[limits]\na = 1", "limits: is not a setting of this version"),
        ("[env]\nA = 1", 'env.A: expected "required", "optional" or a list'),
        ("[env]\nA = []", "env.A: expected"),
        ('[env]\nA = ["x", 1]', "env.A: expected"),
        ("[env]\nA = 1979-05-27", "env.A: expected"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path: Path, settings: str, told: str) -> None:
    (tmp_path / "tidewell.toml").write_text(settings)
    with pytest.raises(InvalidAppFolder) as failed:
        read_app_settings(tmp_path)
    assert told in str(failed.value)
    assert "\n" not in str(failed.value)


async def test_settings_that_came_another_way_are_not_trusted(it: Deployed) -> None:
    modules = read_app_folder(write_app(it.folder / "app", {"env.py": CODE}))
    for settings in (b"{", b"[]", b'{"env": {"A": 1}}', b'{"other": {}}'):
        with pytest.raises(PushFailed, match=r"tidewell\.toml"):
            await it.deployment.push(modules, str, b"", settings)
