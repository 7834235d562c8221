"""The page about subscriptions: its functions run again exactly as its table says."""

from __future__ import annotations

import re
from pathlib import Path

from engine.backend import Identity

from .deployed import Deployed, call, deployed

PAGE = (Path(__file__).parents[2] / "docs" / "subscriptions.md").read_text()
PEOPLE = (Identity(), Identity({"name": "Ann", "subject": "ann"}))


def source() -> str:
    found = re.search(r"```python\n# posts.py\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def table() -> dict[str, list[bool]]:
    """Return for each query whether it runs again after each of the three events."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", PAGE, re.MULTILINE)
    return {name: ["runs" in cell for cell in cells] for name, *cells in rows}


async def reruns(it: Deployed, person: Identity = PEOPLE[0]) -> set[str]:
    """Return the queries that run when everything is asked for anew."""
    before = it.traffic.runs.copy()
    watches = [
        it.deployment.watch(call(f"posts:{name}", identity=person), None, lambda: None) for name in table()
    ]
    await it.deployment.evaluate(watches, it.deployment.head_ts)
    for watch in watches:
        watch.close()
    return {path.removeprefix("posts:") for path in (it.traffic.runs - before)}


async def test_queries_run_again_as_the_page_says(tmp_path: Path) -> None:
    async with deployed(tmp_path, {"posts.py": source()}) as it:
        oldest = await it.run("posts:add", author="ann", title="a")
        await it.run("posts:add", author="ann", title="b")
        assert await reruns(it) == set(table())
        assert await reruns(it) == set()
        await it.run("posts:like", id=oldest)
        found = [await reruns(it)]
        await it.run("posts:add", author="ann", title="c")
        found.append(await reruns(it))
        found.append(await reruns(it, PEOPLE[1]))
        for place, ran in enumerate(found):
            assert ran == {name for name, cells in table().items() if cells[place]}
