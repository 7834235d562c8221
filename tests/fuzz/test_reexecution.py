"""Running the log again finds a log that does not follow from itself."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from engine.push import load_active
from fuzz.checkers import reexecution
from fuzz.history import Query
from fuzz.simulation import simulate
from fuzz.workloads import WORKLOADS
from fuzz.world import World
from storage import Commit, DocumentWrite, Store
from tidewell.values import pack, unpack

SEED = 5


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A short run of the counters, without faults."""
    return simulate(World(SEED, WORKLOADS["counter"], folder=tmp_path_factory.mktemp("world"), duration_s=2))


def code_of(store: Store, world: World) -> reexecution.Code:
    code = load_active(store)
    assert code is not None
    key = bytes.fromhex((world.folder / "cursor-key").read_text())
    return reexecution.Code(code.modules, code.now_ms, code.seed, key)


def test_log_explains_itself(world: World, tmp_path: Path) -> None:
    with Store.open(world.folder / "store") as store:
        query = Query.of("counters:total", {})
        done = reexecution.replay(store, code_of(store, world), tmp_path / "again", [(query, store.head_ts)])
        assert done.problems == []
        assert done.results == {(query, store.head_ts): sum(counters_of(world).values())}


def counters_of(world: World) -> dict[str, float]:
    counters: dict[str, float] = {}
    for request in world.history.requests:
        counters[request.args["name"]] = counters.get(request.args["name"], 0) + request.args["amount"]
    return counters


def test_write_that_its_call_does_not_explain_is_found(world: World, tmp_path: Path) -> None:
    """The last commit is repeated in a copy of the log with a counter that is off by one."""
    with Store.open(world.folder / "store") as store, Store.open(tmp_path / "forged") as forged:
        commits = list(store.read(0))
        forged.commit([*commits[:-1], off_by_one(commits[-1])])
        done = reexecution.replay(forged, code_of(store, world), tmp_path / "again")
    (problem,) = done.problems
    assert "run again it writes" in problem


def off_by_one(commit: Commit) -> Commit:
    (write,) = commit.writes
    assert write.body is not None
    document = unpack(write.body)
    assert type(document) is dict
    forged = pack({**document, "n": document["n"] + 1})
    return attrs.evolve(commit, writes=(DocumentWrite(write.table, write.internal_id, forged),))
