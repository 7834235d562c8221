"""`tidewell replay`, `what-if` and `capsule`, from a shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from click.testing import CliRunner, Result

from engine.attempts import read_attempts
from engine.cli import main
from engine.conditions import CURRENT, PREFIX, pack_conditions
from engine.records import unpack_record
from storage import Commit, Store

from .deployed import deployed, write_app

ROOT = Path(__file__).parents[2]
APP = {
    "shop.py": """
        from tidewell import mutation


        @mutation
        def stock(ctx, name: str, price: float) -> None:
            ctx.db.insert("goods", {"name": name, "price": price, "sold": 0})


        @mutation
        def sell(ctx, name: str, discount: float) -> float:
            [found] = [each for each in ctx.db.query("goods") if each["name"] == name]
            paid = round(found["price"] * (1 - discount), 2)
            ctx.db.patch(found["_id"], {"sold": found["sold"] + 1, "paid": paid})
            print("sold", name, "for", paid)
            return paid
        """
}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment that has sold two ropes and stopped."""
    folder = tmp_path_factory.mktemp("shop")

    async def live() -> None:
        async with deployed(folder, APP) as it:
            await it.run("shop:stock", name="rope", price=2.5)
            await it.run("shop:sell", name="rope", discount=0.15)
            await it.run("shop:sell", name="rope", discount=0.6)

    trio.run(live)
    return folder / "data"


@pytest.fixture
def data(lived: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt."""
    shutil.copytree(lived, tmp_path / "data")
    return tmp_path / "data"


def tidewell(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def timestamps(data: Path) -> list[int]:
    with Store.open(data / "store") as store:
        return [entry.ts for entry in store.log(0) if entry.record]


def forge_record(data: Path, number: int, **changes: Any) -> None:
    """Replace the record of a commit in a copy of the log that takes the place of the original."""
    forged = data.parent / "forged"
    with Store.open(data / "store") as store, Store.open(forged) as copy:
        commits, code = list(store.read(0)), store.private_items(b"")
        recorded = [place for place, commit in enumerate(commits) if commit.record]
        place = recorded[number]
        record = attrs.evolve(unpack_record(commits[place].record), **changes)
        old: Commit = commits[place]
        commits[place] = attrs.evolve(old, record=record.pack())
        copy.commit(commits)
        copy.write_private(code)
    shutil.rmtree(data / "store")
    forged.rename(data / "store")


def test_replaying_the_log_says_that_all_is_as_recorded(data: Path) -> None:
    result = tidewell("replay", "--all", "--data", data)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("3 mutations replayed, all as recorded")


def test_replaying_a_part_of_the_log(data: Path) -> None:
    second = timestamps(data)[1]
    result = tidewell("replay", "--all", "--since", second, "--json", "--data", data)
    assert json.loads(result.stdout)["replayed"] == 2
    result = tidewell("replay", "--all", "--until", second, "--json", "--data", data)
    assert json.loads(result.stdout)["replayed"] == 2


def test_log_without_mutations_has_nothing_to_be_replayed(tmp_path: Path) -> None:
    """It was told to be as recorded, at 0 a second."""

    async def live() -> None:
        async with deployed(tmp_path, APP):
            pass

    trio.run(live)
    result = tidewell("replay", "--all", "--data", tmp_path / "data")
    assert (result.exit_code, result.stdout) == (0, "There is no mutation to replay.\n"), result.output


def test_replaying_single_commits_by_name(data: Path) -> None:
    first, *_ = timestamps(data)
    result = tidewell("replay", first, "latest", "--data", data)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.fullmatch(rf"{first} shop:stock: as recorded, \d+ steps", lines[0])
    assert "shop:sell: as recorded" in lines[1]


def test_divergence_is_told_with_its_kind_place_and_sides_and_ends_with_status_1(data: Path) -> None:
    forge_record(data, 1, now_ms=1_700_000_000_000.0, log_lines=["[LOG] sold rope for 9.99"])
    ts = timestamps(data)[1]
    result = tidewell("replay", ts, "--data", data)
    assert result.exit_code == 1
    assert f"{ts} shop:sell: diverged (branch)" in result.stdout
    assert "it began after event" in result.stdout
    assert "log line 1: recorded [LOG] sold rope for 9.99, now [LOG] sold rope for 2.12" in result.stdout
    told = json.loads(tidewell("replay", ts, "--json", "--data", data).stdout)[0]
    assert (told["matches"], told["divergence"]["kind"]) == (False, "branch")
    assert told["divergence"]["differs"] == ["log lines"]
    assert told["divergence"]["place"]["file"] == "shop.py"


def test_divergences_of_a_log_are_counted_and_the_first_are_told(data: Path) -> None:
    forge_record(data, 2, steps=9)
    result = tidewell("replay", "--all", "--data", data)
    assert result.exit_code == 1
    assert "shop:sell: diverged (steps)" in result.stdout
    assert "2 as recorded, 1 diverged, 0 may differ" in result.stdout


def test_record_of_another_platform_may_differ_and_is_no_fault(data: Path) -> None:
    elsewhere = msgspec.structs.replace(CURRENT, platform="plan9-mips")
    with Store.open(data / "store") as store:
        store.write_private([(PREFIX + elsewhere.name, pack_conditions(elsewhere))])
    forge_record(data, 1, conditions=elsewhere.name, result=bytes(16))
    result = tidewell("replay", "--all", "--data", data)
    assert result.exit_code == 0, result.output
    assert "may differ (platform)" in result.stdout


def test_code_that_is_missing_is_told_as_such(data: Path) -> None:
    forge_record(data, 1, code="ab" * 32)
    result = tidewell("replay", "--all", "--data", data)
    assert result.exit_code == 1
    assert "(code)" in result.stdout
    assert "the store has no code version abab" in result.stdout


def test_backup_is_replayed_like_the_original(data: Path, tmp_path: Path) -> None:
    assert tidewell("backup", tmp_path / "copy", "--data", data).exit_code == 0
    result = tidewell("replay", "--all", "--data", tmp_path / "copy")
    assert result.stdout.startswith("3 mutations replayed, all as recorded")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "name some commits"),
        (("--all", "latest"), "or give --all, not both"),
        (("latest", "--since", "1h"), "--since and --until go with --all"),
        (("12",), "there is no commit 12"),
    ],
)
def test_wrong_use_is_one_line(data: Path, arguments: tuple[str, ...], problem: str) -> None:
    result = tidewell("replay", *arguments, "--data", data)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_folder_without_a_deployment_is_one_line(tmp_path: Path) -> None:
    result = tidewell("replay", "--all", "--data", tmp_path / "nothing")
    assert result.exit_code == 1
    assert "there is no store" in result.stderr


# ---- what-if -----------------------------------------------------------------------------


def app_with(folder: Path, old: str, new: str) -> Path:
    return write_app(folder / "other", {"shop.py": APP["shop.py"].replace(old, new)})


def test_what_if_of_unchanged_functions_finds_nothing(data: Path, tmp_path: Path) -> None:
    result = tidewell("what-if", app_with(tmp_path, "", ""), "--data", data)
    assert result.exit_code == 0, result.output
    assert result.stdout == "3 calls, none would have been different.\n"


def test_what_if_groups_differences_by_function_with_examples(data: Path, tmp_path: Path) -> None:
    before = sorted((data / "store").iterdir())
    app = app_with(tmp_path, "(1 - discount), 2)", "(1 - discount), 1)")
    result = tidewell("what-if", app, "--data", data)
    assert result.exit_code == 1, result.output
    assert "shop:sell: 1 of 2 calls would have been different" in result.stdout
    assert "result: was 2.12, would be 2.1" in result.stdout
    assert "shop:stock" not in result.stdout
    told = json.loads(tidewell("what-if", app, "--json", "--data", data).stdout)
    assert (told["calls"], told["differ"]) == (3, 1)
    assert told["functions"]["shop:sell"]["what"] == {"log lines": 1, "result": 1, "writes": 1}
    assert sorted((data / "store").iterdir()) == before


def test_what_if_of_no_calls_does_not_pass_for_a_comparison(data: Path, tmp_path: Path) -> None:
    app = app_with(tmp_path, "", "")
    result = tidewell("what-if", app, "--since", "2100-01-01", "--data", data)
    assert (result.exit_code, result.stdout) == (0, "There is no mutation to run.\n"), result.output


def test_what_if_of_functions_that_do_not_compile_is_told(data: Path, tmp_path: Path) -> None:
    result = tidewell("what-if", app_with(tmp_path, "def sell", "def se ll"), "--data", data)
    assert result.exit_code == 1
    assert "shop.py:" in result.stderr


# ---- what is no mutation -----------------------------------------------------------------


def test_execution_that_was_not_committed_is_told_with_what_can_be_done_about_it(tmp_path: Path) -> None:
    async def live() -> str:
        async with deployed(tmp_path, APP) as it:
            outcome = await it.mutate("shop:sell", name="nothing", discount=0.1)
            assert outcome.failure is not None
            await it.deployment.attempts.flush()
            [attempt] = read_attempts(it.deployment.store)
            return attempt.record.execution[:12]

    name = trio.run(live)
    for command in (["replay"], ["capsule", "-o", tmp_path / "x"], ["fork", "--without"]):
        result = tidewell(*command, name, "--data", tmp_path / "data")
        assert result.exit_code == 1
        assert f"the execution {name} was not committed; `tidewell show {name}` says why" in result.stderr


def test_commit_without_a_call_is_told_as_such(data: Path) -> None:
    with Store.open(data / "store") as store:
        [push] = [entry.ts for entry in store.log(0) if entry.catalog is not None and entry.catalog.schema]
    result = tidewell("replay", push, "--data", data)
    assert f"commit {push} is no mutation but a push, housekeeping or an edit by hand" in result.stderr


# ---- capsule -----------------------------------------------------------------------------


def test_capsule_is_written_and_replayed_without_the_deployment(data: Path, tmp_path: Path) -> None:
    capsule = tmp_path / "sold.capsule"
    result = tidewell("capsule", "latest", "-o", capsule, "--data", data)
    assert result.exit_code == 0, result.output
    assert f"Wrote shop:sell at {timestamps(data)[-1]} with 1 document to " in result.stdout
    shutil.rmtree(data)
    result = tidewell("replay", capsule, "--data", data)
    assert result.exit_code == 0, result.output
    assert "shop:sell: as recorded" in result.stdout


def test_redacting_says_how_much_was_replaced(data: Path, tmp_path: Path) -> None:
    capsule = tmp_path / "sold.capsule"
    result = tidewell("capsule", "latest", "-o", capsule, "--redact", "--json", "--data", data)
    told = json.loads(result.stdout)
    assert (told["redacted"], told["documents"], told["bytes"]) == (1, 1, capsule.stat().st_size)
    assert tidewell("replay", capsule).exit_code == 0


def test_file_that_is_no_capsule_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear all")
    for command in (["replay"], ["debug", "--trace"]):
        result = tidewell(*command, tmp_path / "letter")
        assert result.exit_code == 1
        assert f"{tmp_path / 'letter'}: this is no capsule" in result.stderr


# ---- beside a server ---------------------------------------------------------------------


async def test_log_of_a_deployment_that_is_serving_is_replayed_beside_it(tmp_path: Path) -> None:
    """And in a process with another hash seed."""
    async with deployed(tmp_path, APP) as it, trio.open_nursery() as nursery:
        await it.run("shop:stock", name="rope", price=2.5)
        for _ in range(20):
            await it.run("shop:sell", name="rope", discount=0.25)

        async def sell_on() -> None:
            while True:
                await it.run("shop:sell", name="rope", discount=0.25)

        nursery.start_soon(sell_on)
        done = await trio.run_process(
            [sys.executable, "-m", "engine", "replay", "--all", "--data", str(tmp_path / "data")],
            env={**os.environ, "PYTHONHASHSEED": "99"},
            cwd=ROOT,
            capture_stdout=True,
        )
        nursery.cancel_scope.cancel()
    told = done.stdout.decode()
    assert "all as recorded" in told
    assert int(told.split()[0].replace(",", "")) >= 21
