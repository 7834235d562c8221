"""The query cache under random interleavings of all that can happen to it.

Hypothesis plays the committer, the workers and the sessions that watch, and draws the order
of trio's tasks as well. What a query gives is known from a history of all values, so every
outcome and every silent doorbell can be judged. A failure shrinks to a few lines, one per event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs
import pytest
import trio
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trio.testing import wait_all_tasks_blocked

from engine.backend import ANONYMOUS, Call, Failure, Identity, QueryOutcome
from engine.queries import LOST_RETRY_S, Queries, QueryWatch
from engine.query_entries import QueryKey, QueryRun
from engine.testing.clock import SimulatedClock
from engine.testing.turns import Turns
from storage import Changes, Entry, ReadSet, WriteLog
from tidewell.values import Value, wire_json

INDEX: Final = 7
KEYS: Final = "ab"
QUERIES: Final = ("a", "ab", "?a")  # keys that are read; "?" reads the identity as well
SESSIONS: Final = (ANONYMOUS, Identity({"subject": "ada"}), ANONYMOUS)
LOST: Final = "the worker died"


@attrs.define(eq=False)
class Run:
    """An execution that a worker is busy with."""

    call: Call
    ts: int
    ends: trio.Event = attrs.field(factory=trio.Event)
    is_lost: bool = False


@attrs.define(eq=False)
class Watching:
    query: str
    watch: QueryWatch
    rings: int = 0


@attrs.define(eq=False)
class Session:
    """Asks for all it watches at once, one time after the other, as sessions of clients do."""

    identity: Identity
    watching: list[Watching] = attrs.field(factory=list)
    asking: trio.CancelScope | None = None


class CacheMachine(RuleBasedStateMachine):
    @initialize(order=st.integers(0, 9), queries=st.lists(st.sampled_from(QUERIES), max_size=3))
    def begin(self, order: int, queries: Sequence[str]) -> None:
        """
        Args:
          queries: what the sessions watch to begin with, one each.
        """
        self.turns = Turns(order)
        self.turns.start()
        self.history: dict[str, list[tuple[int, int]]] = {key: [] for key in KEYS}
        self.head = self.newest = 10
        self.accepted: list[tuple[int, tuple[tuple[int, bytes], ...]]] = []  # in the write log, not durable
        self.runs: list[Run] = []
        self.sessions = [Session(identity) for identity in SESSIONS]
        self.problems: list[str] = []
        self.do(self.open)
        for number, query in enumerate(queries):
            self.watch(number, query)
            self.ask(number)

    async def open(self) -> None:
        self.log = WriteLog(horizon=0)
        self.clock = SimulatedClock()
        self.queries = Queries(self.run, self.log, lambda: self.head, self.clock)
        self.tasks: Any = trio.open_nursery()
        self.nursery: trio.Nursery = await self.tasks.__aenter__()
        self.nursery.start_soon(self.queries.run_timers)

    def do(self, what: Callable[[], Any]) -> None:
        async def act() -> None:
            done = what()
            if done is not None:
                await done
            await wait_all_tasks_blocked()

        self.turns(act)

    # ---- the world below the cache -----------------------------------------------------------

    def value_at(self, query: str, identity: Identity, ts: int) -> Value:
        found: list[Value] = [self.at(key, ts) for key in query if key != "?"]
        if "?" in query and self.at("a", ts) % 2:  # whether the identity is read depends on what is stored
            found.append(None if identity.claims is None else identity.claims["subject"])
        return found

    def at(self, key: str, ts: int) -> int:
        return next((value for when, value in reversed(self.history[key]) if when <= ts), 0)

    async def run(self, call: Call, key: QueryKey, ts: int) -> QueryRun:
        run = Run(call, ts)
        self.runs.append(run)
        try:
            await run.ends.wait()
        finally:
            self.runs.remove(run)
        query = str(call.args["query"])
        if run.is_lost:
            failure = Failure(LOST, kind="System")
            return QueryRun(QueryOutcome(ts, None, b"null", (), None, failure, b"lost"), None)
        value = self.value_at(query, call.identity, ts)
        reads = ReadSet.of((INDEX, key.encode(), key.encode() + b"\0") for key in query if key != "?")
        outcome = QueryOutcome(ts, value, wire_json(value), (), None, None, wire_json(value))
        return QueryRun(outcome, reads, identity_read="?" in query and bool(self.at("a", ts) % 2))

    # ---- what can happen -----------------------------------------------------------------------

    @rule(keys=st.sampled_from(["a", "b", "ab"]), value=st.integers(1, 3), at_once=st.booleans())
    def accept(self, keys: str, value: int, at_once: bool) -> None:
        """A commit enters the write log; it is on its way to the disk, or there `at_once`."""
        self.newest += 10
        written = tuple((INDEX, key.encode()) for key in keys)
        for key in keys:
            self.history[key].append((self.newest, value))
        self.do(lambda: self.log.append(Entry(self.newest, written)))
        self.accepted.append((self.newest, written))
        while at_once and self.accepted:
            self.make_durable()

    @precondition(lambda self: self.accepted)
    @rule()
    def make_durable(self) -> None:
        ts, written = self.accepted.pop(0)

        def announce() -> None:
            self.head = ts
            self.queries.announce(ts, Changes(written))

        self.do(announce)

    @rule(session=st.integers(0, 2), query=st.sampled_from(QUERIES))
    def watch(self, session: int, query: str) -> None:
        asking = self.sessions[session]
        if asking.asking is None and len(asking.watching) < 3:
            self.do(lambda: asking.watching.append(self.watching(query, asking.identity)))

    def watching(self, query: str, identity: Identity) -> Watching:
        def ring() -> None:
            mine.rings += 1

        mine = Watching(query, self.queries.watch(self.call(query, identity), None, ring))
        return mine

    def call(self, query: str, identity: Identity) -> Call:
        return Call("world:read", {"query": query}, identity, "0" * 16, "socket")

    @rule(session=st.integers(0, 2))
    def unwatch(self, session: int) -> None:
        watching = self.sessions[session].watching
        if watching and self.sessions[session].asking is None:
            self.do(watching.pop().watch.close)

    @rule(session=st.integers(0, 2))
    def ask(self, session: int) -> None:
        asking = self.sessions[session]
        if asking.asking is None and asking.watching:
            asking.asking = trio.CancelScope()
            self.do(lambda: self.nursery.start_soon(self.evaluate, asking, self.head, asking.asking))

    async def evaluate(self, asking: Session, ts: int, scope: trio.CancelScope) -> None:
        for mine in asking.watching:
            mine.rings = 0
        with scope:
            outcomes = await self.queries.evaluate([mine.watch for mine in asking.watching], ts)
            self.judge(asking, ts, outcomes)
        asking.asking = None
        if scope.cancelled_caught:  # what a session that ends leaves
            while asking.watching:
                asking.watching.pop().watch.close()

    def judge(self, asking: Session, ts: int, outcomes: Sequence[QueryOutcome]) -> None:
        for mine, outcome in zip(asking.watching, outcomes, strict=True):
            expected = self.value_at(mine.query, asking.identity, ts)
            if outcome.failure is None and outcome.value != expected:
                self.problems.append(f"{mine.query} at {ts} is {expected}, and was given as {outcome.value}")

    @rule(session=st.integers(0, 2))
    def leave(self, session: int) -> None:
        """A session ends in the middle of asking."""
        scope = self.sessions[session].asking
        if scope is not None:
            self.do(scope.cancel)

    @precondition(lambda self: self.runs)
    @rule(which=st.integers(0, 5), is_lost=st.booleans())
    def end_run(self, which: int, is_lost: bool) -> None:
        run = self.runs[which % len(self.runs)]
        run.is_lost = is_lost
        self.do(run.ends.set)

    @rule(query=st.sampled_from(QUERIES), back=st.integers(0, 2), session=st.integers(0, 1))
    def glance(self, query: str, back: int, session: int) -> None:
        """Somebody without a subscription asks, of now or of a while ago."""
        identity, ts = SESSIONS[session], max(10, self.head - 10 * back)
        self.do(lambda: self.nursery.start_soon(self.answer, query, identity, ts))

    async def answer(self, query: str, identity: Identity, ts: int) -> None:
        outcome = await self.queries.query(self.call(query, identity), ts)
        expected = self.value_at(query, identity, ts)
        if outcome.failure is None and outcome.value != expected:
            self.problems.append(f"{query} at {ts} is {expected}, and was answered with {outcome.value}")

    @rule()
    def switch_code(self) -> None:
        """A push: it waits until everything accepted is durable."""
        while self.accepted:
            self.make_durable()
        self.newest += 10

        def switch() -> None:
            self.head = self.newest
            self.log.append(Entry(self.newest, ((INDEX, b"code"),)))
            self.queries.announce(self.newest, Changes(((INDEX, b"code"),)))
            self.queries.switch_code(self.newest)

        self.do(switch)

    # ---- what must hold ---------------------------------------------------------------------------

    @invariant()
    def outcomes_are_right(self) -> None:
        assert not self.problems, self.problems

    @invariant()
    def silence_means_that_nothing_has_changed(self) -> None:
        for session in self.sessions:
            for mine in session.watching if session.asking is None else ():
                seen = mine.watch.seen
                if seen is None or mine.rings or seen.failure is not None:
                    continue
                expected = self.value_at(mine.query, session.identity, self.head)
                assert mine.watch.is_current, f"{mine.query} is not current and nobody rang"
                assert seen.value == expected, f"{mine.query} is {expected}, {seen.value} is shown in silence"

    def teardown(self) -> None:
        """All comes to rest: then everybody has been shown what there is."""
        try:
            while self.accepted:
                self.make_durable()
            for _ in range(4):
                self.finish_all()
                self.do(lambda: trio.sleep(LOST_RETRY_S + 1))
                for number, session in enumerate(self.sessions):
                    if any(mine.rings or mine.watch.seen is None for mine in session.watching):
                        self.ask(number)
            self.finish_all()
            self.outcomes_are_right()
            for session in self.sessions:
                for mine in session.watching:
                    expected = self.value_at(mine.query, session.identity, self.head)
                    shown = (
                        None if mine.watch.seen is None else (mine.watch.seen.failure, mine.watch.seen.value)
                    )
                    assert shown == (None, expected), f"{mine.query} is {expected} in the end, not {shown}"
        finally:
            self.do(self.close)
            self.turns.stop()

    def finish_all(self) -> None:
        while self.runs:
            self.end_run(0, False)

    async def close(self) -> None:
        self.nursery.cancel_scope.cancel()
        await self.tasks.__aexit__(None, None, None)


@pytest.mark.parametrize("forgotten", ["engine.queries.overtaken", "engine.queries.Queries._end"])
def test_a_cache_that_forgets_something_is_found(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """Commits between snapshot and outcome, and the ends of outcomes: what would pass unnoticed."""
    monkeypatch.setattr(forgotten, lambda *_, **__: None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            CacheMachine,
            settings=settings(QUICK, phases=(Phase.generate,), derandomize=True, max_examples=300),
        )


QUICK = settings(max_examples=80, stateful_step_count=30, deadline=None, database=None)
TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = QUICK
