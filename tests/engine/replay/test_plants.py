"""Planted nondeterminism is caught: which calls, what kind of difference, and where it began."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from engine.replay.divergence import Place, Replayed

from ..deployed import deployed
from .replaying import replay_all

APP = {
    "shop.py": """
        from tidewell import mutation


        @mutation
        def stock(ctx, name: str) -> None:
            ctx.db.insert("goods", {"name": name, "left": 3})


        @mutation
        def order(ctx, name: str) -> int:
            goods = ctx.db.query("goods").collect()
            [found] = [each for each in goods if each["name"] == name]
            ctx.db.patch(found["_id"], {"left": found["left"] - 1})
            return found["left"] - 1


        @mutation
        def stamp(ctx, name: str) -> None:
            ctx.db.query("goods").first()
            at = ctx.now()
            ctx.db.insert("stamps", {"name": name, "at": at})


        @mutation
        def tag(ctx, tags: list[str]) -> None:
            seen = {tag.upper() for tag in tags}
            for tag in seen:
                ctx.db.insert("tags", {"tag": tag})
        """
}
TAGS = ["ebb", "flow", "tide", "well", "sea", "salt", "brine", "gull"]


def line_of(text: str) -> int:
    """Return the line of the app that has `text`."""
    lines = APP["shop.py"].strip("\n").splitlines()
    [found] = [number for number, line in enumerate(lines, start=2) if text in line]
    return found


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    async with deployed(tmp_path, APP) as it:
        await it.run("shop:stock", name="rope")
        await it.run("shop:order", name="rope")
        await it.run("shop:stamp", name="letter")
        await it.run("shop:tag", tags=TAGS)
        await it.run("shop:order", name="rope")
    return tmp_path / "data"


@attrs.frozen
class Found:
    function: str
    kind: str
    place: Place


def found(done: list[Replayed]) -> list[Found]:
    return [
        Found(each.function, each.divergence.kind, each.divergence.place)
        for each in done
        if each.divergence is not None and each.divergence.place is not None
    ]


async def test_honest_build_has_nothing_to_be_found(data: Path) -> None:
    done = await replay_all(data)
    assert (len(done), found(done)) == (5, [])


async def test_leaked_clock_is_another_way_after_equal_reads(data: Path) -> None:
    done = await replay_all(data, entry="plants:serve_leaked_clock")
    stamped = next(each for each in found(done) if each.function == "shop:stamp")
    assert stamped.kind == "branch"
    # The first event, a read, is as recorded; the insert has another time in it.
    assert stamped.place.event == 2
    assert stamped.place.text.startswith("insert('stamps'")
    assert (stamped.place.file, stamped.place.line) == ("shop.py", line_of('insert("stamps"'))
    # Creation times come from the clock too; what neither asks for it nor inserts is unharmed.
    assert {each.function for each in found(done)} == {"shop:stock", "shop:stamp", "shop:tag"}


async def test_leaked_set_order_is_another_way_after_equal_reads(data: Path) -> None:
    done = await replay_all(data, entry="plants:serve_leaked_set_order", hash_seed=7)
    [tagged] = found(done)
    assert (tagged.function, tagged.kind) == ("shop:tag", "branch")
    assert tagged.place.text.startswith("insert('tags'")
    assert (tagged.place.file, tagged.place.line) == ("shop.py", line_of('insert("tags"'))
    [divergence] = [each.divergence for each in done if each.divergence is not None]
    assert divergence.is_steady
    assert "writes" in divergence.aspects


async def test_wrong_snapshot_is_another_read(data: Path) -> None:
    done = await replay_all(data, entry="plants:serve_wrong_snapshot")
    orders = [each for each in found(done) if each.function == "shop:order"]
    assert [each.kind for each in orders] == ["read", "read"]
    for each in orders:
        assert each.place.event == 1
        assert each.place.text.startswith("scan('goods', 'by_creation_time'")
        assert (each.place.file, each.place.line) == ("shop.py", line_of("collect()"))
