"""The search for schedules that break an invariant: what it finds, how short, and that a seed repeats it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import strategies as st

from engine.testing.rules import InvalidRules, Rules, Step, find_rules, load_rules, step
from engine.testing.schedule import code_of
from engine.testing.search import NotRepeatable, Search
from tests.engine.testing.shop import APP
from tidewell.testing import BlockingTestServer, documents

ROOT = Path(__file__).resolve().parents[3]
TICKETS = ROOT / "examples" / "tickets"

COUNTERS = {
    "counters.py": """
from tidewell import Id, action, mutation, query

@mutation
def make(ctx, start: int) -> Id["counters"]:
    return ctx.db.insert("counters", {"value": start})

@query
def read(ctx, id: Id["counters"]) -> int:
    return ctx.db.get(id)["value"]

@mutation
def write(ctx, id: Id["counters"], value: int) -> None:
    ctx.db.patch(id, {"value": value})

@action
def grow_slowly(ctx, id: Id["counters"]) -> None:
    ctx.run_mutation("counters:write", {"id": id, "value": ctx.run_query("counters:read", {"id": id}) + 1})

@mutation
def grow_logged(ctx, id: Id["counters"]) -> None:
    grow_by_one(ctx, id)
    ctx.db.insert("grown", {"counter": id})

def grow_by_one(ctx, id):
    ctx.db.patch(id, {"value": ctx.db.get(id)["value"] + 1})

@mutation
def log(ctx, id: Id["counters"]) -> None:
    ctx.db.insert("grown", {"counter": id})

@action
def log_and_grow(ctx, id: Id["counters"]) -> None:
    ctx.run_mutation("counters:log", {"id": id})
    ctx.run_action("counters:grow_slowly", {"id": id})
""",
}


def one_cup(server: BlockingTestServer) -> None:
    server.mutation("shop:stock", {"name": "tea", "count": 1})


def nothing_is_sold_twice(db: Any) -> None:
    for item in db.query("items"):
        assert item["count"] >= 0


def one_counter(server: BlockingTestServer) -> None:
    server.mutation("counters:make", {"start": 0})


def growth_lost(db: Any) -> int:
    return int(db.query("grown").count() - sum(row["value"] for row in db.query("counters")))


def no_growth_is_lost(db: Any) -> bool:
    return growth_lost(db) == 0


@pytest.fixture
def rules_module() -> Iterator[ModuleType]:
    """This file, under the name that readable code imports rules from."""
    sys.modules["fuzz_rules"] = sys.modules[__name__]
    yield sys.modules[__name__]
    del sys.modules["fuzz_rules"]


def test_a_race_of_two_actions_is_found_and_shown_as_the_shortest_test(rules_module: ModuleType) -> None:
    rules = Rules([nothing_is_sold_twice], [step("shop:buy", {"name": "tea"})], [one_cup])
    session = Search.prepare(APP, rules).run(seed=1)
    assert session.broken is not None
    assert [(move.call, move.path) for move in session.broken.schedule.moves] in (
        [(0, "shop:left"), (1, "shop:left"), (1, "shop:take"), (0, "shop:take")],
        [(0, "shop:left"), (1, "shop:left"), (0, "shop:take"), (1, "shop:take")],
    )
    assert 'assert item["count"] >= 0' in session.broken.problem
    assert "'count': -1" in session.broken.problem
    code = code_of(session.broken, "the app", "fuzz_rules", ["one_cup"])
    assert code.count(".step()") <= 4
    names: dict[str, Any] = {}
    exec(code.replace('"the app"', "APP"), {"APP": APP}, names)
    with pytest.raises(AssertionError):
        run_in_own_globals(names["test_nothing_is_sold_twice"], names)


def run_in_own_globals(function: Any, names: dict[str, Any]) -> None:
    function.__globals__.update(names)
    function()


def test_one_seed_finds_and_shortens_the_same() -> None:
    rules = Rules([nothing_is_sold_twice], [step("shop:buy", {"name": "tea"})], [one_cup])
    search = Search.prepare(APP, rules)
    assert search.run(seed=3) == search.run(seed=3)


def test_transactions_alone_never_break_what_each_of_them_keeps() -> None:
    rules = Rules(
        [no_growth_is_lost],
        [step("counters:grow_logged", {"id": documents("counters")})],
        [one_counter],
    )
    session = Search.prepare(COUNTERS, rules).run(seed=1, schedules=25)
    assert session.broken is None
    assert session.schedules >= 25


def test_the_steps_of_an_action_called_by_an_action_are_interleaved_too() -> None:
    def two_at_most_are_under_way(db: Any) -> bool:
        return growth_lost(db) <= 2

    rules = Rules(
        [two_at_most_are_under_way],
        [step("counters:log_and_grow", {"id": documents("counters")})],
        [one_counter],
    )
    session = Search.prepare(COUNTERS, rules).run(seed=1)
    assert session.broken is not None
    assert session.broken.problem == "returned False"
    assert len(session.broken.schedule.calls) == 3


def test_without_steps_every_public_mutation_and_action_may_happen_with_arguments_of_their_validators() -> (
    None
):
    def no_counter_is_three(db: Any) -> None:
        assert all(row["value"] != 3 for row in db.query("counters"))

    session = Search.prepare(COUNTERS, Rules([no_counter_is_three])).run(seed=2)
    assert session.broken is not None
    assert len(session.broken.schedule.moves) <= 2


def test_a_call_that_needs_a_document_waits_until_there_is_one() -> None:
    def nothing_grows(db: Any) -> bool:
        return db.query("grown").first() is None

    rules = Rules(
        [nothing_grows],
        [
            step("counters:grow_logged", {"id": documents("counters")}),
            step("counters:make", {"start": 0}),
        ],
    )
    session = Search.prepare(COUNTERS, rules).run(seed=1)
    assert session.broken is not None
    assert [move.path for move in session.broken.schedule.moves] == ["counters:make", "counters:grow_logged"]


def test_calls_are_made_by_the_people_who_may_make_them() -> None:
    def ada_stocks_nothing(db: Any) -> None:
        assert all(item["by"] != "ada" for item in db.query("items"))

    rules = Rules([ada_stocks_nothing], [step("shop:stock", {"name": "tea"}, users=[None, "bob", "ada"])])
    broken = Search.prepare(APP, rules).run(seed=1).broken
    assert broken is not None
    assert len(broken.schedule.moves) == 1
    assert 'server.as_user("ada").mutation("shop:stock"' in code_of(broken, "app", "fuzz", [])


def test_the_data_of_a_schedule_is_kept_for_tools_that_look_at_commits(tmp_path: Path) -> None:
    rules = Rules([nothing_is_sold_twice], [step("shop:buy", {"name": "tea"})], [one_cup])
    search = Search.prepare(APP, rules)
    broken = search.run(seed=1).broken
    assert broken is not None
    again = search.replay(broken, tmp_path / "data")
    assert again == broken
    with BlockingTestServer(APP, folder=tmp_path / "data") as server:
        assert server.query("shop:left", {"name": "tea"}) == -1
        assert broken.schedule.commits()[-1] <= server.head_ts


def test_rules_that_change_their_mind_are_told_of() -> None:
    rounds: list[int] = []

    def mood(db: Any) -> bool:
        rounds.append(0)
        return len(rounds) != 10

    with pytest.raises(NotRepeatable, match="seed 1"):
        Search.prepare(APP, Rules([mood], [step("shop:draw")])).run(seed=1)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (Rules([nothing_is_sold_twice], [step("shop:bye")]), "did you mean 'shop:buy'"),
        (Rules([nothing_is_sold_twice], [step("shop:buy", {"nam": "tea"})]), "takes no argument 'nam'"),
        (Rules([lambda db: False], [step("shop:draw")]), "before anything happens: returned False"),
    ],
)
def test_rules_that_cannot_be_used_are_told_of(rules: Rules, told: str) -> None:
    with pytest.raises(InvalidRules, match=told):
        Search.prepare(APP, rules)


def test_the_rules_of_an_app_are_beside_it_or_among_its_tests(tmp_path: Path) -> None:
    app = tmp_path / "app"
    (app / "tests").mkdir(parents=True)
    with pytest.raises(InvalidRules, match=r"fuzz\.py"):
        find_rules(app)
    (app / "tests" / "fuzz.py").write_text("")
    assert find_rules(app) == app / "tests" / "fuzz.py"
    (tmp_path / "fuzz.py").write_text("")
    assert find_rules(app) == tmp_path / "fuzz.py"
    with pytest.raises(InvalidRules, match="declares no @invariant"):
        load_rules(tmp_path / "fuzz.py")


def test_a_file_of_rules_declares_and_what_is_declared_elsewhere_stays_there() -> None:
    rules = load_rules(TICKETS / "fuzz.py")
    assert [check.__name__ for check in rules.invariants] == ["no_seat_is_sold_twice"]
    assert [prepare.__name__ for prepare in rules.setups] == ["two_seats"]
    assert rules.steps == [Step("box_office:buy", {}, (None,))]
    step("box_office:add_seat", {"name": st.text()})
    assert len(rules.steps) == 1
