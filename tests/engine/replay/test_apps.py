"""Every mutation of every app that we have, and the workloads of the fuzzer, come out again.

The first run is in this process, the replay in confined processes with other hash seeds.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.app_folder import read_app_folder
from engine.backend import Call, Identity
from fuzz.faults import EVERYTHING
from fuzz.simulation import simulate
from fuzz.workloads import NAMES, workload_of
from fuzz.world import World
from storage import Store
from tidewell.values import Int64

from ..deployed import Deployed, call, deployed
from .replaying import divergences, replay_all

ROOT = Path(__file__).parents[3]
EXAMPLES, APPS = ROOT / "examples", ROOT / "tests" / "end_to_end" / "apps"
SEED = 3


async def mutate(it: Deployed, asked: Call) -> Any:
    outcome = await it.deployment.mutate(asked)
    assert outcome.failure is None, outcome.failure
    return outcome.value


async def waypoint(it: Deployed) -> None:
    ann, ben = [await it.run("users:sign_in", name=name) for name in ("Ann", "Ben")]
    posts = [
        await it.run("posts:create_post", author=ann, place=place, text="so green")
        for place in ("Bay", "Hill")
    ]
    for user in (ann, ben):
        for post in posts:
            await it.run("posts:like", post_id=post, user_id=user)
    await it.run("posts:unlike", post_id=posts[0], user_id=ann)
    outcome = await it.deployment.act(call("welcome:send_welcome", user_id=ben))
    assert outcome.failure is None


async def chat(it: Deployed) -> None:
    channel = await it.run("channels:create", name="general")
    await it.run("channels:set_topic", channel=channel, topic="all of it")
    messages = [
        await it.run("messages:send", channel=channel, author="ann", text=f"line {n}") for n in range(5)
    ]
    await it.run("messages:edit", message=messages[0], author="ann", text="line zero")
    await it.run("messages:remove", message=messages[1], author="ann")
    await mutate(it, call("channels:remove", origin="cli", channel=channel))


async def bank(it: Deployed) -> None:
    ann, ben = [await it.run("accounts:open", owner=owner) for owner in ("ann", "ben")]
    await it.run("accounts:deposit", account=ann, amount=100)
    await it.run("accounts:transfer", source=ann, target=ben, amount=30)
    await it.run("accounts:withdraw", account=ben, amount=5)


async def tickets(it: Deployed) -> None:
    seat = await it.run("box_office:add_seat", name="A1")
    order = await mutate(it, call("box_office:open_order", origin="cli", seat=seat, buyer="ann"))
    await mutate(it, call("box_office:settle", origin="cli", order=order))


async def accounts(it: Deployed) -> None:
    await it.run("accounts:open_both")
    await it.run("accounts:transfer", source="left", target="right", amount=5)


async def counter(it: Deployed) -> None:
    for _ in range(3):
        await it.run("counters:increment", name="a")
        await it.run("counters:increment_and_note", name="a", client="one", number=1)


async def shapes(it: Deployed) -> None:
    await it.run("shapes:send_message", author="ann", body="hello")
    await it.run("shapes:add_rows", numbers=[1.5, 2, 3])
    await it.run("shapes:remove_rows", numbers=[2])
    await it.run("shapes:increment", by=2)
    await mutate(it, call("shapes:keep_secret", identity=Identity({"subject": "ann"}), text="hush"))


async def shelves(it: Deployed) -> None:
    await it.run("books:put", shelf="a", title="Tides")


async def site(it: Deployed) -> None:
    for text in ("one", "two"):
        await it.run("inbox:add", text=text)
    outcome = await it.deployment.act(call("pictures:make", size=10))
    assert outcome.failure is None, outcome.failure
    await it.run("pictures:remove", picture=outcome.value)


async def values(it: Deployed) -> None:
    everything = [None, True, 1, -0.0, 1.5, float("inf"), Int64(2**60), "é☃", b"\x00\xff", {"a": [[]]}]
    for value in everything:
        await it.run("values:keep", value=value)


@pytest.mark.parametrize(
    ("folder", "live", "never_commit"),
    [
        (EXAMPLES / "waypoint" / "functions", waypoint, set()),
        (EXAMPLES / "chat" / "functions", chat, set()),
        (EXAMPLES / "bank" / "functions", bank, set()),
        (EXAMPLES / "tickets" / "functions", tickets, set()),
        (APPS / "accounts", accounts, set()),
        (APPS / "counter", counter, set()),
        (APPS / "shapes", shapes, set()),
        (APPS / "shelves", shelves, {"books:say"}),
        (APPS / "site", site, {"pictures:upload_url"}),
        (APPS / "values", values, {"values:refuse", "values:fail"}),
    ],
    ids=lambda each: each.parent.name if isinstance(each, Path) and each.name == "functions" else None,
)
async def test_every_mutation_of_an_app_comes_out_again(
    folder: Path, live: Callable[[Deployed], Awaitable[None]], never_commit: set[str], tmp_path: Path
) -> None:
    async with deployed(tmp_path) as it:
        pushed = await it.deployment.push(read_app_folder(folder), str)
        await live(it)
        mutations = {spec.path for spec in pushed.code.described.functions if spec.kind == "mutation"}
    done = await replay_all(tmp_path / "data", hash_seed=random.Random(folder.name).randrange(2**32))
    assert divergences(done) == []
    assert {replayed.function for replayed in done} == mutations - never_commit


@pytest.mark.parametrize("name", NAMES)
def test_fuzz_workload_under_all_faults_comes_out_again(name: str, tmp_path: Path) -> None:
    """With crashes and restarts, conflicts, pushes under way and a clock that jumps."""
    world = World(SEED, workload_of(name, SEED), folder=tmp_path, faults=EVERYTHING, duration_s=2)
    simulate(world)
    with Store.open(tmp_path / "store") as store:
        recorded = sum(bool(entry.record) for entry in store.log(store.horizon))

    async def replay() -> Any:
        return await replay_all(tmp_path, hash_seed=SEED)

    done = trio.run(replay)
    assert divergences(done) == []
    assert len(done) == recorded > 10
