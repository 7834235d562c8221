"""`TestServer` for code without async.

Its loop has a thread of its own and runs only while a call waits for it: between two
calls time stands still, so the order of everything is that of the calls and of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from engine.testing.caller import Caller
from engine.testing.faults import NO_FAULTS, Faults
from engine.testing.server import NO_VARIABLES, App, Line, TestServer
from engine.testing.stepping import Running, Transaction
from engine.testing.subscription import WITHIN_S, TestSubscription
from engine.testing.turns import Turns
from sandbox.analysis import FunctionSpec
from sandbox.database import DatabaseReader
from tidewell.values import Value

T = TypeVar("T")


@attrs.define(eq=False)
class BlockingRunning:
    """`Running` without async."""

    _run: Turns
    _inner: Running

    @property
    def next(self) -> Transaction | None:
        """The transaction that runs next; None when the call has ended."""
        return self._inner.next

    @property
    def is_over(self) -> bool:
        return self._inner.is_over

    def step(self) -> Transaction:
        """Run the next transaction. See `Running.step`."""
        return self._run(self._inner.step)

    def finish(self) -> Value:
        """Run what is left and return the result. See `Running.finish`."""
        return self._run(self._inner.finish)


@attrs.define(eq=False)
class BlockingTestSubscription:
    """`TestSubscription` without async."""

    _run: Turns
    _inner: TestSubscription

    def __iter__(self) -> Iterator[Value]:
        return self

    def __next__(self) -> Value:
        return self.next()

    def next(self, within_s: float = WITHIN_S) -> Value:
        """Wait for the next new result. See `TestSubscription.next`."""
        return self._run(lambda: self._inner.next(within_s))


@attrs.define(eq=False)
class BlockingCaller:
    """`Caller` without async."""

    _run: Turns
    _caller: Caller

    def query(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a query. See `Caller.query`."""
        return self._run(lambda: self._caller.query(function, args))

    def mutation(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a mutation. See `Caller.mutation`."""
        return self._run(lambda: self._caller.mutation(function, args))

    def action(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run an action. See `Caller.action`."""
        return self._run(lambda: self._caller.action(function, args))

    def start(self, function: object, args: Mapping[str, Any] | None = None) -> BlockingRunning:
        """Begin a call and stop before its first transaction. See `Caller.start`."""
        return BlockingRunning(self._run, self._run(lambda: self._caller.start(function, args)))

    @contextmanager
    def subscribe(
        self, function: object, args: Mapping[str, Any] | None = None
    ) -> Iterator[BlockingTestSubscription]:
        """Watch a query. See `Caller.subscribe`."""
        watching = self._caller.subscribe(function, args)
        inner = self._run(watching.__aenter__)
        try:
            yield BlockingTestSubscription(self._run, inner)
        finally:
            self._run(lambda: watching.__aexit__(None, None, None))


class BlockingTestServer(BlockingCaller):
    """`TestServer` without async: `with BlockingTestServer("functions", seed=7) as server:`."""

    __test__ = False  # no class of tests

    def __init__(
        self,
        app: App,
        *,
        seed: int = 0,
        faults: Faults = NO_FAULTS,
        env: Mapping[str, str] = NO_VARIABLES,
        folder: Path | None = None,
    ) -> None:
        self._server = TestServer(app, seed=seed, faults=faults, env=env, folder=folder)
        super().__init__(Turns(seed), self._server)
        self.seed = seed

    def __enter__(self) -> Self:
        self._run.start()
        try:
            self._run(self._server.__aenter__)
        except BaseException:
            self._run.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(lambda: self._server.__aexit__(kind, error, trace))
        finally:
            self._run.stop()

    @property
    def lines(self) -> list[Line]:
        """What functions have logged."""
        return self._server.lines

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self._server.folder

    @property
    def now_ms(self) -> float:
        """The virtual time."""
        return self._run(self._now_ms)

    async def _now_ms(self) -> float:
        return self._server.now_ms

    @property
    def head_ts(self) -> int:
        """The newest commit."""
        return self._server.head_ts

    def as_user(self, subject: str = "user", /, **claims: Any) -> BlockingCaller:
        """Return who calls as a signed-in person. See `TestServer.as_user`."""
        return BlockingCaller(self._run, self._server.as_user(subject, **claims))

    def as_admin(self) -> BlockingCaller:
        """Return who may call internal functions too."""
        return BlockingCaller(self._run, self._server.as_admin())

    def read(self, look: Callable[[DatabaseReader], T]) -> T:
        """Return what `look` finds in the database. See `TestServer.read`."""

        async def read() -> T:
            return self._server.read(look)

        return self._run(read)

    def id_of(self, table: str, index: int) -> str | None:
        """Return the id of one of a table's documents. See `TestServer.id_of`."""

        async def find() -> str | None:
            return self._server.id_of(table, index)

        return self._run(find)

    @property
    def functions(self) -> Mapping[str, FunctionSpec]:
        """The functions of the app, by path."""
        return self._server.functions

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        self._run(lambda: self._server.sleep(seconds))

    def push(self, app: App) -> None:
        """Make another version of the app the active one."""
        self._run(lambda: self._server.push(app))

    def set_env(self, changes: Mapping[str, str | None]) -> None:
        """Set environment variables, or remove those that are None."""
        self._run(lambda: self._server.set_env(changes))

    def lose_worker(self, function: object, times: int = 1) -> None:
        """Let the next worker that is to run `function` die of it."""
        self._server.lose_worker(function, times)

    def refuse_commits(self, times: int = 1) -> None:
        """Let the next commit find the disk full."""
        self._server.refuse_commits(times)

    def jump(self, seconds: float) -> None:
        """Let the wall clock jump."""
        self._server.jump(seconds)

    def restart(self) -> None:
        """End the server in order, and start it again on the same data."""
        self._run(self._server.restart)

    def crash(self) -> None:
        """End the server in the middle of whatever it does, and start it again on the same data."""
        self._run(self._server.crash)
