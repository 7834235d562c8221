"""Searches the interleavings of an app's calls for one that breaks an invariant, and shrinks it.

Transactions are serializable, so what calls can do to one another is decided by the
order in which their transactions run; and that is what is searched. At each point one
of the calls under way (a mutation that has not run, an action between two of its
transactions) is moved on by one transaction; then the invariants are looked at.

Hypothesis makes the choices and shrinks them: fewer calls first, and of two orders
the one in which a call that was begun is gone on with. A *session* is one run of
Hypothesis, with a seed of its own; the same seed finds and shrinks the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import attrs
import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from engine.backend import BackendFault
from engine.testing.blocking import BlockingRunning, BlockingTestServer
from engine.testing.explain import explain
from engine.testing.repeatable import drawn_from_the_seed_alone
from engine.testing.rules import InvalidRules, Invariant, Rules, Step
from engine.testing.schedule import Broken, Move, PlannedCall, Schedule, ending, resolve
from engine.testing.server import App
from engine.testing.strategies import Strategy, arguments_of
from sandbox.analysis import FunctionSpec
from tidewell.errors import AppError, FunctionError

SCHEDULES: Final = 100  # tried in a session
CALLS_MAX: Final = 6  # of a schedule; races that need more are rare, and hardly found by chance
MOVES_MAX: Final = 60  # transactions of a schedule; an action may ask for any number


@attrs.frozen
class Session:
    """What came of one run of Hypothesis.

    Attributes:
      schedules: how many were run, those of shrinking included.
      moves: how many transactions they had.
    """

    seed: int
    schedules: int
    moves: int
    broken: Broken | None


class NotRepeatable(Exception):
    """A schedule gave one thing once and another the next time: the rules draw on something of their own."""


class _Break(Exception):
    """Tells Hypothesis that a schedule has broken something."""


@attrs.define
class Search:
    """The app and what is said of it, ready for sessions. Make one with `prepare`."""

    _app: App
    _rules: Rules
    _calls: Strategy
    _watching: Callable[[], None] = lambda: None  # called before each schedule until one breaks something

    @classmethod
    def prepare(cls, app: App, rules: Rules, watching: Callable[[], None] = lambda: None) -> Search:
        """Raises:
        InvalidRules: a step names no function of the app, or there is nothing to do.
        InvalidAppFolder, PushFailed: the app cannot be run.
        """
        with BlockingTestServer(app) as server:
            functions = server.functions
            for prepare in rules.setups:
                prepare(server)
            for check in rules.invariants:
                problem = _problem(server, check)
                if problem is not None:
                    raise InvalidRules(f"{check.__name__} does not hold before anything happens: {problem}")
        steps = rules.steps or _all_steps(functions)
        if not steps:
            raise InvalidRules("the app has no public mutation or action, and no step() is declared")
        return cls(app, rules, st.one_of([_calls_of(step, functions) for step in steps]), watching)

    def run(self, seed: int, schedules: int = SCHEDULES) -> Session:
        """Run one session. Raises `NotRepeatable`, and what `watching` raises."""
        plays: list[_Play] = []
        moves = 0

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=schedules,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @hypothesis.given(st.lists(self._calls, min_size=1, max_size=CALLS_MAX), st.data())
        def explore(calls: list[PlannedCall], data: st.DataObject) -> None:
            nonlocal moves
            if not any(play.broken for play in plays):
                self._watching()
            play = _Play(calls, lambda count: data.draw(st.integers(0, count - 1)))
            plays.append(play)
            with BlockingTestServer(self._app, seed=seed) as server:
                play.run(server, self._rules)
            moves += len(play.moves)
            if play.broken is not None:
                raise _Break

        broken: Broken | None = None
        try:
            with drawn_from_the_seed_alone():
                explore()
        except _Break:
            broken = self._shortened(plays[-1].as_broken(seed))  # Hypothesis runs the smallest one last
        except hypothesis.errors.Flaky as error:
            raise NotRepeatable(
                f"seed {seed}: a schedule broke an invariant once and not when it was repeated; "
                "do the rules draw on something that is not from the test?"
            ) from error
        return Session(seed, len(plays), moves, broken)

    def _shortened(self, broken: Broken) -> Broken:
        """Leave out every call without which the same invariant is broken still.

        Hypothesis tries that too, but a call that is left out takes the choices after it along.
        """
        position = 0
        while position < len(broken.schedule.calls):
            order = [move.call for move in broken.schedule.moves if move.call != position]
            play = self._played(broken, order)
            if play.broken is not None and play.broken[0].__name__ == broken.invariant:
                broken = play.as_broken(broken.seed)
            else:
                position += 1
        return broken

    def replay(self, broken: Broken, folder: Path) -> Broken:
        """Run the schedule once more and keep its data in `folder`, for the tools that look at commits."""
        order = [move.call for move in broken.schedule.moves]
        return self._played(broken, order, folder).as_broken(broken.seed)

    def _played(self, broken: Broken, order: Sequence[int], folder: Path | None = None) -> _Play:
        play = _Play(broken.schedule.calls, None, order)
        with BlockingTestServer(self._app, seed=broken.seed, folder=folder) as server:
            play.run(server, self._rules)
        return play


@attrs.define
class _Play:
    """One schedule as it is run."""

    calls: Sequence[PlannedCall]
    choose: Callable[[int], int] | None  # one of so many; the first is the call that was moved last
    order: Sequence[int] = ()  # in the place of choices: which call is moved each time, if it can be
    moves: list[Move] = attrs.field(factory=list)
    broken: tuple[Invariant, str] | None = None
    _under_way: dict[int, BlockingRunning] = attrs.field(factory=dict)
    _turns: int = 0

    def run(self, server: BlockingTestServer, rules: Rules) -> None:
        for prepare in rules.setups:
            prepare(server)
        waiting = list(range(len(self.calls)))
        unready: list[int] = []  # need a document, and there is none yet
        while len(self.moves) < MOVES_MAX and (call := self._next(waiting)) is not None:
            waiting.remove(call)
            if not self._is_begun(server, call):
                unready.append(call)
                continue
            if not self._advance(call):
                waiting.insert(0, call)
            waiting += unready
            unready.clear()
            for check in rules.invariants:
                problem = _problem(server, check)
                if problem is not None:
                    self.broken = (check, problem)
                    return

    def _next(self, waiting: Sequence[int]) -> int | None:
        """Return the call to move on, None when all is over."""
        if self.choose is not None:
            return waiting[self.choose(len(waiting)) if len(waiting) > 1 else 0] if waiting else None
        left = self.order[self._turns :]
        for turn, call in enumerate(left, self._turns + 1):
            if call in waiting:
                self._turns = turn
                return call
        return None

    def _is_begun(self, server: BlockingTestServer, number: int) -> bool:
        """Begin a call, unless it has begun; return False if it needs a document that is not there."""
        if number in self._under_way:
            return True
        call = self.calls[number]
        try:
            args = resolve(call.args, server.id_of)
        except LookupError:
            return False
        caller = server if call.user is None else server.as_user(call.user)
        self._under_way[number] = caller.start(call.path, args)
        return True

    def _advance(self, number: int) -> bool:
        """Move a call on by one transaction; return whether it has ended."""
        running = self._under_way[number]
        if running.is_over:
            return True  # it asked for nothing
        ran = running.step()
        ended = _ending(running) if running.is_over else None
        self.moves.append(
            Move(number, ran.operation, ran.path, ran.args, ran.value, ran.error, ran.ts, ended)
        )
        return running.is_over

    def as_broken(self, seed: int) -> Broken:
        assert self.broken is not None, "a schedule that broke an invariant does so again"
        check, problem = self.broken
        used = sorted({move.call for move in self.moves})
        places = {call: place for place, call in enumerate(used)}
        moves = [attrs.evolve(move, call=places[move.call]) for move in self.moves]
        return Broken(check.__name__, problem, Schedule([self.calls[call] for call in used], moves), seed)


def _ending(running: BlockingRunning) -> str:
    try:
        return ending(None, running.finish())
    except AppError as error:
        return ending(f"AppError {error.data!r}", None)
    except FunctionError as error:
        return ending(error.message, None)
    except BackendFault as error:
        return ending(error, None)


def _problem(server: BlockingTestServer, check: Invariant) -> str | None:
    """Return why an invariant does not hold, None if it does."""
    try:
        says = server.read(check)
    except Exception as error:  # an assertion, or a mistake in the invariant: both have to be seen
        return explain(check, error)
    return explain(check, None) if says is False else None


def _all_steps(functions: Mapping[str, FunctionSpec]) -> list[Step]:
    return [
        Step(spec.path, {}, (None,))
        for spec in functions.values()
        if spec.visibility == "public" and spec.kind != "query"
    ]


def _calls_of(step: Step, functions: Mapping[str, FunctionSpec]) -> Strategy:
    spec = functions.get(step.path)
    if spec is None:
        near = get_close_matches(step.path, functions, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InvalidRules(f"step({step.path!r}): the app has no such function{hint}")
    validator = spec.arguments_validator()
    unknown = [name for name in step.args if validator is not None and name not in validator.fields]
    if unknown:
        raise InvalidRules(f"step({step.path!r}): the function takes no argument {unknown[0]!r}")
    return st.builds(
        PlannedCall,
        st.just(spec.kind),
        st.just(spec.path),
        arguments_of(validator, step.args),
        st.sampled_from(step.users),
    )
