"""The log against other code: exactly the calls that would have been different, and no others.

`TIDEWELL_WHAT_IF_CALLS=10000` runs as many calls as the issue asks for; a few hundred by default.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from engine.code import CodeVersion
from engine.replay.what_if import WhatIf, what_if

from ..deployed import Deployed, deployed
from .replaying import replayer

CALLS = int(os.environ.get("TIDEWELL_WHAT_IF_CALLS", "300"))
SEED = 11
SHOP = """
from tidewell import mutation


@mutation
def sell(ctx, cents: int, percent: int) -> int:
    paid = PAID
    ctx.db.insert("sales", {"paid": paid})
    print("sold for", paid)
    return paid


@mutation
def note(ctx, text: str) -> None:
    ctx.db.insert("notes", {"text": text})
"""
HALF_UP = "(cents * (100 - percent) + 50) // 100"
DOWN = "cents * (100 - percent) // 100"


def shop(rule: str) -> dict[str, str]:
    return {"shop.py": SHOP.replace("PAID", rule)}


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    """A deployment that has sold a lot, rounding half up, and what it sold."""
    folder = tmp_path_factory.mktemp("shop")
    chance = random.Random(SEED)
    sales = [(chance.randrange(1, 10_000), chance.randrange(0, 30)) for _ in range(CALLS)]

    async def live() -> None:
        async with deployed(folder, shop(HALF_UP)) as it, trio.open_nursery() as nursery:
            waiting = iter(sales)
            for _ in range(32):
                nursery.start_soon(buy, it, waiting)

    async def buy(it: Deployed, waiting: object) -> None:
        for cents, percent in waiting:  # type: ignore[attr-defined]  # an iterator that many share
            await it.run("shop:sell", cents=cents, percent=percent)
            if not cents % 10:
                await it.run("shop:note", text=f"{cents}")

    trio.run(live)
    return folder / "data", sales


async def code_of(folder: Path, files: dict[str, str]) -> CodeVersion:
    async with deployed(folder, files) as it:
        assert it.deployment.code is not None
        return it.deployment.code


async def compared(data: Path, code: CodeVersion) -> WhatIf:
    async with replayer(data) as it:
        return await what_if(it, code, it.source.recorded(), 2, lambda ts: None)


Lived = tuple[Path, list[tuple[int, int]]]


async def test_changed_rounding_differs_in_exactly_the_calls_it_touches(lived: Lived, tmp_path: Path) -> None:
    data, sales = lived
    touched = [sale for sale in sales if half_up(*sale) != down(*sale)]
    assert 0 < len(touched) < len(sales)
    found = await compared(data, await code_of(tmp_path, shop(DOWN)))
    assert found.calls == len(sales) + sum(not cents % 10 for cents, _ in sales)
    assert found.of("shop:sell").differ == len(touched) == found.differ
    assert found.of("shop:note").differ == 0
    assert found.of("shop:sell").what == {
        "result": len(touched),
        "writes": len(touched),
        "log lines": len(touched),
    }


def half_up(cents: int, percent: int) -> int:
    return math.floor(cents * (100 - percent) / 100 + 0.5)


def down(cents: int, percent: int) -> int:
    return math.floor(cents * (100 - percent) / 100)


async def test_examples_show_both_sides(lived: Lived, tmp_path: Path) -> None:
    found = await compared(lived[0], await code_of(tmp_path, shop(DOWN)))
    examples = found.of("shop:sell").examples
    assert len(examples) == 3
    assert [example.ts for example in examples] == sorted(example.ts for example in examples)
    for example in examples:
        result, paid, line = example.differences
        assert (result.what, line.what) == ("result", "log line 1")
        assert paid.what.endswith(" paid")
        assert int(result.recorded) == int(paid.recorded) == int(result.replayed) + 1
        assert line.recorded == f"[LOG] sold for {result.recorded}"


@pytest.mark.parametrize("change", [lambda text: text, lambda text: f"# a comment\n{text}"])
async def test_code_that_does_the_same_differs_in_none(
    lived: Lived, tmp_path: Path, change: Callable[[str], str]
) -> None:
    same = {"shop.py": change(shop(HALF_UP)["shop.py"])}
    found = await compared(lived[0], await code_of(tmp_path, same))
    assert found.calls > CALLS
    assert (found.differ, found.is_clean) == (0, True)
    assert found.of("shop:sell").cheaper == found.of("shop:sell").dearer == 0


async def test_dearer_code_that_does_the_same_is_no_difference_but_counted(
    lived: Lived, tmp_path: Path
) -> None:
    dearer = shop(f"sum([0 for _ in range(20)]) + {HALF_UP}")
    found = await compared(lived[0], await code_of(tmp_path, dearer))
    report = found.of("shop:sell")
    assert (found.differ, report.dearer, report.cheaper) == (0, CALLS, 0)
    assert report.steps_after > report.steps_before


async def test_function_that_fails_or_is_gone_is_a_difference(lived: Lived, tmp_path: Path) -> None:
    gone = {"shop.py": shop(HALF_UP)["shop.py"].replace("def note", "def remark")}
    found = await compared(lived[0], await code_of(tmp_path, gone))
    report = found.of("shop:note")
    assert report.differ == report.calls > 0
    assert report.what == {"error": report.calls}
    assert "Could not find public function for 'shop:note'" in report.examples[0].differences[0].replayed
    assert found.of("shop:sell").differ == 0
