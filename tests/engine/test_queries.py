"""Queries over a small world of versioned keys, with the real write log and interval index."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from engine.backend import ANONYMOUS, BackendFault, Call, Failure, Identity, QueryOutcome
from engine.doorbells import SLICE, SPREAD_ABOVE, SPREAD_S_EACH
from engine.queries import Queries, QueryWatch
from engine.query_entries import Ended, Lookup, QueryKey, QueryRun
from storage import Changes, Entry, ReadSet, WriteLog
from tidewell.values import wire_json

INDEX = 7


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now_ns(self) -> int:
        return int(self.seconds * 1e9)

    def now_ms(self) -> float:
        return self.seconds * 1e3

    def monotonic(self) -> float:
        return self.seconds


def call(*keys: str, path: str = "world:read", flags: str = "") -> Call:
    return Call(path, {"flags": flags, "keys": list(keys)}, ANONYMOUS, "0" * 16, "socket")


@attrs.define
class World:
    """Keys with a history, queries that read a list of them, and a gate in front of every execution."""

    clock: FakeClock = attrs.field(factory=FakeClock)
    head: int = 0
    history: dict[str, list[tuple[int, int]]] = attrs.field(factory=dict)
    log: WriteLog = attrs.field(factory=lambda: WriteLog(horizon=0))
    before_run: Callable[[int], object] | None = None
    ran: list[tuple[str, ...]] = attrs.field(factory=list)
    fault: BackendFault | None = None
    queries: Queries = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.queries = Queries(self.run, self.log, lambda: self.head, self.clock)

    def commit(self, **values: int) -> None:
        ts = self.head + 10
        keys = tuple((INDEX, key.encode()) for key in sorted(values))
        for key, value in values.items():
            self.history.setdefault(key, []).append((ts, value))
        self.log.append(Entry(ts, keys))
        self.head = ts
        self.queries.announce(ts, Changes(keys))

    def value_at(self, key: str, ts: int) -> int:
        return next((value for when, value in reversed(self.history.get(key, [])) if when <= ts), 0)

    def reads_identity(self, asked: Call, ts: int) -> bool:
        flags = asked.args["flags"]
        return "identity" in flags and ("while a is 0" not in flags or self.value_at("a", ts) == 0)

    def result(self, asked: Call, ts: int) -> list[object]:
        value: list[object] = [self.value_at(name, ts) for name in asked.args["keys"]]
        if self.reads_identity(asked, ts):
            value.append(None if asked.identity.claims is None else asked.identity.claims["subject"])
        return value

    async def run(self, asked: Call, key: QueryKey, ts: int) -> QueryRun:
        names = asked.args["keys"]
        now_ms = self.clock.now_ms()
        self.ran.append(tuple(names))
        await trio.lowlevel.checkpoint()
        if self.before_run is not None:
            self.before_run(ts)
        if self.fault is not None:
            raise self.fault
        value = self.result(asked, ts)
        flags = asked.args["flags"]
        failure = Failure("Uncaught ValueError: odd\n") if "fails" in flags else None
        journal = "pinned" if "pages" in flags else None
        outcome = QueryOutcome(ts, value, wire_json(value), (), journal, failure, wire_json(value))
        reads = ReadSet.of([(INDEX, name.encode(), name.encode() + b"\0") for name in names])
        return QueryRun(
            outcome,
            reads,
            identity_read=self.reads_identity(asked, ts),
            clock_read="clock" in flags,
            bucket_ends_ms=now_ms + 10_000 if "bucket" in flags else None,
        )


def counter() -> tuple[list[int], Callable[[], None]]:
    rings: list[int] = []
    return rings, lambda: rings.append(1)


async def test_a_commit_elsewhere_neither_rings_nor_reruns() -> None:
    world = World()
    world.commit(a=1, b=1)
    rings, ring = counter()
    watch = world.queries.watch(call("a"), None, ring)
    await world.queries.evaluate([watch], world.head)
    world.commit(b=2)
    assert watch.is_current
    [outcome] = await world.queries.evaluate([watch], world.head)
    assert (outcome.value, len(world.ran), rings) == ([1], 1, [])


async def test_a_commit_inside_rings_and_many_watches_share_one_rerun() -> None:
    world = World()
    rings, ring = counter()
    watches = [world.queries.watch(call("a"), None, ring) for _ in range(50)]
    await world.queries.evaluate(watches, world.head)
    world.commit(a=5)
    assert len(rings) == 50
    outcomes = await world.queries.evaluate(watches, world.head)
    assert {tuple(outcome.value) for outcome in outcomes} == {(5,)}
    assert len(world.ran) == 2


async def test_a_commit_during_the_run_is_not_missed() -> None:
    world = World()
    rings, ring = counter()
    watch = world.queries.watch(call("a"), None, ring)
    begun = world.head

    def interfere(ts: int) -> None:
        if len(world.ran) == 1:
            world.commit(a=9)

    world.before_run = interfere
    [old] = await world.queries.evaluate([watch], begun)
    assert old.value == [0]
    assert rings
    assert not watch.is_current
    [new] = await world.queries.evaluate([watch], world.head)
    assert new.value == [9]


async def test_an_older_snapshot_can_be_asked_for_without_losing_the_newer_outcome() -> None:
    world = World()
    world.commit(a=1)
    world.commit(a=2)
    assert (await world.queries.query(call("a"), None)).value == [2]
    assert (await world.queries.query(call("a"), 10)).value == [1]
    assert (await world.queries.query(call("a"), None)).value == [2]
    assert len(world.ran) == 2


async def test_simultaneous_callers_share_one_run() -> None:
    world = World()
    values: list[object] = []

    async def ask() -> None:
        values.append((await world.queries.query(call("a"), None)).value)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert values == [[0]] * 20
    assert len(world.ran) == 1


async def test_a_cancelled_runner_leaves_the_work_to_those_who_wait() -> None:
    world = World()
    values: list[object] = []

    async def ask() -> None:
        values.append((await world.queries.query(call("a"), None)).value)

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def ask_and_hang_up() -> None:
            with first:
                await ask()

        world.before_run = lambda ts: first.cancel() if len(world.ran) == 1 else None
        nursery.start_soon(ask_and_hang_up)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(ask)
    assert [0] in values


async def test_a_fault_reaches_every_caller_and_is_not_remembered() -> None:
    world = World()
    world.fault = BackendFault("NoWorker", "none", transient=True)
    watches = [world.queries.watch(call(name), None, lambda: None) for name in ("a", "b")]
    with pytest.raises(BackendFault):
        await world.queries.evaluate(watches, world.head)
    world.fault = None
    outcomes = await world.queries.evaluate(watches, world.head)
    assert [outcome.value for outcome in outcomes] == [[0], [0]]


async def test_an_error_is_not_served_to_the_next_caller_but_stays_with_a_watch() -> None:
    world = World()
    asked = call("a", flags="fails")
    await world.queries.query(asked, None)
    await world.queries.query(asked, None)
    assert len(world.ran) == 2
    watch = world.queries.watch(asked, None, lambda: None)
    await world.queries.evaluate([watch], world.head)
    await world.queries.evaluate([watch], world.head)
    assert len(world.ran) == 3
    assert watch.is_current


async def test_a_result_that_read_the_clock_grows_old_for_newcomers() -> None:
    world = World()
    asked = call("a", flags="clock")
    await world.queries.query(asked, None)
    await world.queries.query(asked, None)
    assert len(world.ran) == 1
    world.clock.seconds += 18
    await world.queries.query(asked, None)
    assert len(world.ran) == 2


async def test_a_time_bucket_reruns_its_watchers_when_it_ends(autojump_clock: trio.testing.MockClock) -> None:
    world = World()
    rung = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.queries.run_timers)
        watch = world.queries.watch(call("a", flags="bucket"), None, rung.set)
        await world.queries.evaluate([watch], world.head)
        started = trio.current_time()
        await rung.wait()
        assert trio.current_time() - started == pytest.approx(10)
        assert not watch.is_current
        nursery.cancel_scope.cancel()


async def test_a_page_is_pinned_for_its_watch_and_fresh_for_newcomers() -> None:
    world = World()
    asked = call("a", flags="pages")
    watch = world.queries.watch(asked, None, lambda: None)
    await world.queries.evaluate([watch], world.head)
    assert watch.entry.key.journal == "pinned"
    assert watch.is_current
    newcomer = world.queries.watch(asked, None, lambda: None)
    assert newcomer.entry is not watch.entry


async def test_other_code_ends_every_outcome() -> None:
    world = World()
    rings, ring = counter()
    watch = world.queries.watch(call("a"), None, ring)
    await world.queries.evaluate([watch], world.head)
    world.head += 10
    world.queries.switch_code(world.head)
    assert rings
    await world.queries.evaluate([watch], world.head)
    assert len(world.ran) == 2


async def test_a_commit_before_other_code_ends_an_outcome_that_was_under_way_for_both() -> None:
    world = World()
    world.commit(a=1)
    before = world.head

    def overtake(_: int) -> None:
        world.before_run = None
        world.commit(a=2)
        world.head += 10
        world.queries.switch_code(world.head)

    world.before_run = overtake
    watch = world.queries.watch(call("a"), None, lambda: None)
    assert (await world.queries.evaluate([watch], before))[0].value == [1]
    assert (await world.queries.evaluate([watch], before + 10))[0].value == [2]


async def test_unwatched_results_stay_within_the_cache_bound() -> None:
    world = World()
    world.queries = Queries(world.run, world.log, lambda: world.head, world.clock, cache_bytes_max=5000)
    for number in range(20):
        await world.queries.query(call(f"key{number}"), None)
    assert len(world.queries._entries) <= 4
    assert len(world.queries._registry) == len(world.queries._entries)


@pytest.mark.parametrize("seed", range(30))
async def test_random_commits_and_watchers_always_agree_with_the_world(seed: int) -> None:
    chance = random.Random(seed)
    world = World()
    names = "abcde"
    world.before_run = lambda ts: (
        world.commit(**{chance.choice(names): chance.randrange(100)}) if chance.random() < 0.3 else None
    )
    watches: list[QueryWatch] = []
    asked: dict[QueryWatch, Call] = {}

    async def session() -> None:
        mine = []
        for _ in range(chance.randrange(1, 4)):
            wanted = call(*sorted(chance.sample(names, chance.randrange(1, 3))))
            watch = world.queries.watch(wanted, None, lambda: None)
            asked[watch] = wanted
            mine.append(watch)
        watches.extend(mine)
        for _ in range(10):
            ts = world.head
            outcomes = await world.queries.evaluate(mine, ts)
            for watch, outcome in zip(mine, outcomes, strict=True):
                truth = [world.value_at(name, ts) for name in asked[watch].args["keys"]]
                assert outcome.value == truth, f"seed {seed}"
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(session)
    world.before_run = None
    for watch in watches:
        if watch.is_current:
            assert watch.seen is not None
            truth = [world.value_at(name, world.head) for name in asked[watch].args["keys"]]
            assert watch.seen.value == truth, f"seed {seed}"
        watch.close()
    world.commit(**dict.fromkeys(names, 1000))
    assert len(world.queries._registry) == 0, f"seed {seed}"


async def test_a_commit_that_touches_very_many_queries_rings_them_by_and_by(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    draws = random.Random(1)
    world.queries = Queries(world.run, world.log, lambda: world.head, world.clock, uniform=draws.random)
    count = SPREAD_ABOVE + 50
    rung: dict[int, float] = {}

    def watch(number: int, query: int) -> QueryWatch:
        def ring() -> None:
            rung.setdefault(number, trio.current_time())

        return world.queries.watch(call("shared", f"own{query}"), None, ring)

    watches = [watch(number, number) for number in range(count)]
    second = watch(count, 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.queries.run_timers)
        await world.queries.evaluate([*watches, second], world.head)
        world.commit(shared=1)
        begun = trio.current_time()
        assert rung == {}
        assert not any(watch.is_current for watch in watches)  # whoever asks before is not told otherwise
        [outcome] = await world.queries.evaluate(watches[:1], world.head)
        assert outcome.value == [1, 0]
        await trio.sleep(count * SPREAD_S_EACH)
        nursery.cancel_scope.cancel()
    assert set(rung) == set(range(1, count + 1))  # not the one that had asked, but the other that shares it
    assert len(set(rung.values())) > count // 2
    assert max(rung.values()) - begun <= count * SPREAD_S_EACH


async def test_a_commit_that_touches_some_queries_rings_them_at_once() -> None:
    world = World()
    rings, ring = counter()
    watches = [world.queries.watch(call("shared", f"own{n}"), None, ring) for n in range(SPREAD_ABOVE)]
    await world.queries.evaluate(watches, world.head)
    world.commit(shared=1)
    assert len(rings) == SPREAD_ABOVE


def asked_by(name: str | None, *keys: str, flags: str = "") -> Call:
    identity = ANONYMOUS if name is None else Identity({"subject": name})
    return Call("world:read", {"flags": flags, "keys": list(keys)}, identity, "0" * 16, "socket")


async def test_callers_share_an_outcome_that_read_no_identity() -> None:
    world = World()
    for name in ("ann", "bob", None):
        await world.queries.query(asked_by(name, "a"), None)
    assert len(world.ran) == 1


async def test_callers_get_outcomes_of_their_own_where_the_identity_was_read() -> None:
    world = World()
    for _ in range(2):
        for name in ("ann", "bob", None):
            outcome = await world.queries.query(asked_by(name, "a", flags="identity"), None)
            assert outcome.value == [0, name]
    assert len(world.ran) == 3


async def test_callers_who_wait_for_a_run_that_read_the_identity_run_their_own() -> None:
    world = World()
    values: dict[str, object] = {}

    async def ask(name: str) -> None:
        values[name] = (await world.queries.query(asked_by(name, "a", flags="identity"), None)).value

    async with trio.open_nursery() as nursery:
        for name in ("ann", "bob", "cem"):
            nursery.start_soon(ask, name)
    assert values == {name: [0, name] for name in ("ann", "bob", "cem")}
    assert len(world.ran) == 3


async def test_a_new_identity_reruns_only_the_queries_that_read_it() -> None:
    world = World()
    before = [
        world.queries.watch(asked_by("ann", "a", flags=f), None, lambda: None) for f in ("", "identity")
    ]
    await world.queries.evaluate(before, world.head)
    after = [world.queries.watch(asked_by("bob", "a", flags=f), None, lambda: None) for f in ("", "identity")]
    for watch in before:
        watch.close()
    world.ran.clear()
    outcomes = await world.queries.evaluate(after, world.head)
    assert [outcome.value for outcome in outcomes] == [[0], [0, "bob"]]
    assert len(world.ran) == 1


async def test_a_query_that_no_longer_reads_the_identity_is_shared_again() -> None:
    world = World()
    flags = "identity while a is 0"
    people = ("ann", "bob", "cem")
    rings, ring = counter()
    watches = [world.queries.watch(asked_by(name, "a", flags=flags), None, ring) for name in people]
    outcomes = await world.queries.evaluate(watches, world.head)
    assert [outcome.value for outcome in outcomes] == [[0, name] for name in people]
    world.commit(a=1)
    assert len(rings) == 3
    world.ran.clear()
    outcomes = await world.queries.evaluate(watches, world.head)
    assert [outcome.value for outcome in outcomes] == [[1]] * 3
    ran = len(world.ran)
    world.commit(a=2)
    await world.queries.evaluate(watches, world.head)
    assert len(world.ran) == ran + 1
    world.commit(a=0)
    outcomes = await world.queries.evaluate(watches, world.head)
    assert [outcome.value for outcome in outcomes] == [[0, name] for name in people]
    assert all(watch.is_current for watch in watches)


async def test_a_page_of_a_query_that_reads_the_identity_is_pinned_for_its_caller_alone() -> None:
    world = World()
    watches = [
        world.queries.watch(asked_by(name, "a", flags="pages identity"), None, lambda: None)
        for name in ("ann", "bob")
    ]
    for _ in range(2):
        outcomes = await world.queries.evaluate(watches, world.head)
        assert [outcome.value for outcome in outcomes] == [[0, "ann"], [0, "bob"]]
        assert all(watch.is_current for watch in watches)
    assert len(world.ran) == 2
    world.commit(a=3)
    outcomes = await world.queries.evaluate(watches, world.head)
    assert [outcome.value for outcome in outcomes] == [[3, "ann"], [3, "bob"]]


@pytest.mark.parametrize("seed", range(30))
async def test_random_callers_never_see_an_outcome_of_another_one(seed: int) -> None:
    chance = random.Random(seed)
    world = World()

    def interfere(ts: int) -> None:
        if chance.random() < 0.4:
            world.commit(a=chance.randrange(2))
        if chance.random() < 0.05:
            world.head += 10
            world.queries.switch_code(world.head)

    world.before_run = interfere
    open_watches: list[tuple[str, QueryWatch]] = []

    async def session(name: str) -> None:
        mine = [
            world.queries.watch(asked_by(name, "a", flags=flags), None, lambda: None)
            for flags in chance.sample(["", "identity", "identity while a is 0"], 2)
        ]
        open_watches.extend((name, watch) for watch in mine)
        for _ in range(10):
            ts = world.head
            for watch, outcome in zip(mine, await world.queries.evaluate(mine, ts), strict=True):
                assert outcome.value == world.result(watch.call, ts), f"seed {seed}"
            if chance.random() < 0.2:
                mine[0].close()
                mine[0] = world.queries.watch(asked_by(name, "a", flags="identity"), None, lambda: None)
            await trio.lowlevel.checkpoint()
        for watch in mine:
            if watch.is_current:
                assert watch.seen is not None
                assert watch.seen.value == world.result(watch.call, world.head), f"seed {seed}"
            watch.close()

    async with trio.open_nursery() as nursery:
        for name in ("ann", "bob", "ann", "cem"):
            nursery.start_soon(session, name)
    world.before_run = None
    world.commit(a=7)
    assert len(world.queries._registry) == 0, f"seed {seed}"


async def test_the_cache_says_hit_miss_or_stale_and_which_commit_it_was() -> None:
    world = World()
    world.commit(a=1)

    async def look(**changes: str) -> tuple[Lookup, bool]:
        _, lookup, is_own = await world.queries.explained(asked_by("ann", "a", **changes), None)
        return lookup, is_own

    assert await look() == (Lookup("miss"), False)
    assert await look() == (Lookup("hit", 10), False)
    assert await look(flags="identity") == (Lookup("miss"), True)
    assert await look(flags="identity") == (Lookup("hit", 10), True)
    world.commit(b=1)
    assert await look() == (Lookup("hit", 10), False)
    world.commit(a=2)
    world.commit(a=3)
    assert await look() == (Lookup("stale", 10, Ended("commit", 30, (INDEX, b"a"))), False)
    assert await look() == (Lookup("hit", 40), False)
    world.head += 10
    world.queries.switch_code(world.head)
    assert await look() == (Lookup("stale", 40, Ended("code", 50)), False)
    assert await look(flags="clock") == (Lookup("miss"), False)
    world.clock.seconds += 18
    assert await look(flags="clock") == (Lookup("stale", 50, Ended("time", 50)), False)
    assert await look(flags="fails") == await look(flags="fails") == (Lookup("miss"), False)


async def test_a_watch_with_an_interval_is_rung_once_for_all_that_happens_in_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    begun = trio.current_time()
    rung: list[float] = []

    def ring() -> None:
        rung.append(trio.current_time() - begun)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.queries.run_timers)
        watch = world.queries.watch(call("a"), None, ring, min_interval_s=10)
        await world.queries.evaluate([watch], world.head)
        for number in range(4):
            await trio.sleep(2)
            world.commit(a=number)
        assert rung == []
        await trio.sleep(4)
        assert rung == [pytest.approx(10)]
        [outcome] = await world.queries.evaluate([watch], world.head)
        assert outcome.value == [3]
        world.commit(a=5)  # at 12: within the interval that this evaluation began
        await world.queries.evaluate([watch], world.head)  # for the sake of another query, say
        await trio.sleep(20)
        assert len(rung) == 1
        world.commit(a=6)
        assert rung[1:] == [pytest.approx(32)]
        await world.queries.evaluate([watch], world.head)
        world.commit(a=7)
        watch.close()
        await trio.sleep(20)
        assert len(rung) == 2
        nursery.cancel_scope.cancel()


async def test_the_first_of_several_time_buckets_ends_the_outcome_even_if_it_did_so_during_the_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    asked = call("a", flags="bucket")
    world.before_run = lambda ts: setattr(world.clock, "seconds", world.clock.seconds + 11)
    rings, ring = counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.queries.run_timers)
        watch = world.queries.watch(asked, None, ring)
        await world.queries.evaluate([watch], world.head)
        await trio.testing.wait_all_tasks_blocked()
        assert not watch.is_current
        assert rings
        nursery.cancel_scope.cancel()


async def test_a_crowd_that_watches_one_query_is_rung_a_part_at_a_time_and_nobody_is_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    rung: set[int] = set()
    count = 3 * SLICE + 5
    watches = [world.queries.watch(call("a"), None, partial(rung.add, number)) for number in range(count)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.queries.run_timers)
        await world.queries.evaluate(watches, world.head)
        world.commit(a=1)
        assert rung == set(range(SLICE))
        assert not any(watch.is_current for watch in watches)
        watches[-1].close()
        await world.queries.evaluate([watches[-2]], world.head)
        await trio.testing.wait_all_tasks_blocked()
        assert rung == set(range(count - 2))  # not those that have gone, or know already
        nursery.cancel_scope.cancel()
    assert len(world.ran) == 2
