"""`TestServer`: a deployment of one's own app in the process of the test, a function of its seed.

Everything above the operating system is real: the commit path with its conflicts and
retries, the query cache, subscriptions, the store. Time is virtual and waits for
nobody, chance comes from the seed, guests run in this process, and what goes wrong
is decided by the test. Calls are made directly, without a socket.

A *life* is the deployment from its start to its end; `restart` and `crash` begin the
next one, and between two lives only the folder remains.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import attrs
import trio

from engine.app_folder import read_app_folder
from engine.backend import ANONYMOUS, Call, Identity, QueryOutcome
from engine.clock import Clock
from engine.deployment import Deployment, Seams, open_deployment
from engine.guest_outcomes import GuestOutcome
from engine.runner import Lost
from engine.testing.caller import Caller, path_named, value_of
from engine.testing.chance import SimulatedChance, stream
from engine.testing.clock import SimulatedClock
from engine.testing.compiled import ThriftyHandler
from engine.testing.disk import TestDisk
from engine.testing.faults import NO_FAULTS, Fate, Faults
from engine.testing.loop import seeded_order, virtual_time
from engine.testing.reader import open_reader
from engine.testing.stepping import TICK_S, Running
from engine.testing.subscription import TestSubscription
from engine.testing.workers import TestPool, make_handler
from sandbox import frames
from sandbox.analysis import FunctionSpec
from sandbox.database import DatabaseReader
from sandbox.frames import Module
from sandbox.pool import Pool
from storage import Store
from tidewell.values import Value, normalize

T = TypeVar("T")

MEMORY: Final = Path("/dev/shm")
ISSUER: Final = "https://tests.example"
SETTLE_S_MAX: Final = 600.0  # of virtual time, for one direct call

NO_VARIABLES: Final[Mapping[str, str]] = {}

App = str | Path | Mapping[str, str]  # a folder, or files by name


@attrs.frozen
class Line:
    """A line that a function has logged."""

    path: str
    text: str


class TestServer(Caller):
    """The real engine in process: `async with TestServer("functions", seed=7) as server:`.

    Runs under a trio whose clock is virtual: `tidewell.testing.run`, or pytest-trio with `autojump_clock`.

    Args:
      app: the folder of an app, or its files by name.
      seed: decides everything that is left to chance. The same seed gives the same run.
      faults: what goes wrong by itself, and how often.
      env: environment variables that functions find in `ctx.env`.
      folder: where the data is kept; by default in memory, and gone afterwards.

    Attributes:
      lines: what functions have logged, in order.
    """

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
        super().__init__(self, ANONYMOUS)
        self.seed = seed
        self.clock = SimulatedClock()
        self.lines: list[Line] = []
        self._app = app
        self._fate = Fate(faults, stream(seed, "faults"))
        self._env = env
        self._folder = folder
        self._lives = 0
        self._requests = 0
        self._stepped: dict[str, Running] = {}
        self._watches: dict[TestSubscription, None] = {}
        self._handlers: list[ThriftyHandler] = []  # of the workers, those that are gone included
        self._deployment: Deployment | None = None
        self._life: trio.Nursery | None = None
        self._stack = ExitStack()
        self._everything: Any = None
        self._nursery: trio.Nursery | None = None
        self._life_over = trio.Event()

    # ---- its life --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            self._stack.enter_context(virtual_time())
            self._stack.enter_context(seeded_order(self.seed))
            if self._folder is None:
                parent = MEMORY if MEMORY.is_dir() else None
                self._folder = Path(tempfile.mkdtemp(prefix="tidewell-test-", dir=parent))
                self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._keep_secrets(self._folder)
            self._everything = trio.open_nursery()
            self._nursery = await self._everything.__aenter__()
            await self._begin_life()
            if self.deployment.code is None:
                await self.push(self._app)
            if self._env:
                await self.set_env(self._env)
            self._fate.is_quiet = False
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._nursery is not None:
                # The error of the test goes its own way: in a group with ours it would be hard to read.
                with trio.CancelScope(shield=True):
                    if kind is None:
                        await self._end_life()
                self._nursery.cancel_scope.cancel()
                await self._everything.__aexit__(None, None, None)
            for handler in self._handlers:
                handler.give_back()
        finally:
            self._stack.close()

    @property
    def deployment(self) -> Deployment:
        """The engine itself, for what has no word here."""
        assert self._deployment is not None, "the server is not running; use `async with`"
        return self._deployment

    @property
    def folder(self) -> Path:
        """The data folder of the deployment, as `--data` of the command line takes it."""
        assert self._folder is not None, "the server is not running; use `async with`"
        return self._folder

    async def _begin_life(self) -> None:
        assert self._nursery is not None
        self._deployment = self._open()
        self._life_over = trio.Event()
        await self._nursery.start(self._live, self._deployment)
        for subscription in self._watches:
            subscription.move_to(self._deployment)

    async def _live(
        self, deployment: Deployment, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            async with trio.open_nursery() as self._life:
                await deployment.run(task_status)
                self._life.cancel_scope.cancel()
        finally:
            self._life_over.set()

    async def _end_life(self) -> None:
        if self._deployment is not None:
            self._deployment.close()
            await self._life_over.wait()

    def _open(self) -> Deployment:
        self._lives += 1
        stores: list[Store] = []

        def open_store(path: Path) -> Store:
            stores.append(Store.open(path, sync=False))
            return stores[0]

        def open_pool(argument: str, size: int, clock: Clock) -> Pool:
            def build() -> ThriftyHandler:
                self._handlers.append(make_handler(stores[0], argument))
                return self._handlers[-1]

            return TestPool.build(build, size, self._fate, self._stepped)

        return open_deployment(
            self.folder,
            clock=self.clock,
            chance=SimulatedChance(stream(self.seed, f"engine {self._lives}")),
            on_execution=self._on_execution,
            seams=Seams(open_store, open_pool, TestDisk(self._fate).run_blocking),
        )

    def _keep_secrets(self, folder: Path) -> None:
        """Put the deployment's keys in their files, before it would draw them from the system."""
        folder.mkdir(parents=True, exist_ok=True)
        random = stream(self.seed, "secrets")
        for name in ("admin-key", "cursor-key"):
            (folder / name).write_text(random.randbytes(32).hex())

    def _on_execution(
        self, call: Call, kind: frames.Kind, ended: GuestOutcome | Lost, seconds: float
    ) -> None:
        if isinstance(ended, GuestOutcome):
            self.lines += [Line(call.path, text) for text in ended.log_lines]

    # ---- what a test does with it --------------------------------------------------------------

    def as_user(self, subject: str = "user", /, **claims: Any) -> Caller:
        """Return who calls as a signed-in person; `claims` are further keys of `get_user_identity()`."""
        known = {"issuer": ISSUER, "subject": subject, "tokenIdentifier": f"{ISSUER}|{subject}", **claims}
        identity: Any = normalize(known, "claims")
        return Caller(self, Identity(identity))

    def as_admin(self) -> Caller:
        """Return who may call internal functions too."""
        return Caller(self, Identity(admin=True))

    def read(self, look: Callable[[DatabaseReader], T]) -> T:
        """Return what `look` finds in the newest state of the database, which it is given as `ctx.db`."""
        deployment = self.deployment
        with deployment.store.snapshot(deployment.head_ts) as snapshot:
            return look(open_reader(snapshot, self.clock.now_ms()))

    def id_of(self, table: str, index: int) -> str | None:
        """Return the id of one of a table's documents, counted round by creation; None without any."""
        ids = self.read(lambda db: [row["_id"] for row in db.query(table)])
        return str(ids[index % len(ids)]) if ids else None

    @property
    def functions(self) -> Mapping[str, FunctionSpec]:
        """The functions of the app, by path."""
        code = self.deployment.code
        assert code is not None, "a server that has started has an app"
        return code.functions

    @property
    def now_ms(self) -> float:
        """The virtual time."""
        return self.clock.now_ms()

    @property
    def head_ts(self) -> int:
        """The newest commit."""
        return self.deployment.head_ts

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass, and all that is due in it happen."""
        await trio.sleep(seconds)

    async def push(self, app: App) -> None:
        """Make another version of the app the active one. Raises `PushFailed`."""
        await self.deployment.push(_modules(app), lambda _: None)

    async def set_env(self, changes: Mapping[str, str | None]) -> None:
        """Set environment variables, or remove those that are None. Raises `InvalidEnvironment`."""
        await self.deployment.environment.change(changes)

    # ---- faults ----------------------------------------------------------------------------------

    def lose_worker(self, function: object, times: int = 1) -> None:
        """Let the next worker that is to run `function` die of it."""
        self._fate.order_deaths(path_named(function), times)

    def refuse_commits(self, times: int = 1) -> None:
        """Let the next commit find the disk full; every mutation in it fails as transient."""
        self._fate.order_refusals(times)

    def jump(self, seconds: float) -> None:
        """Let the wall clock jump, forwards or backwards."""
        self.clock.jump(seconds)

    async def restart(self) -> None:
        """End the server in order, and start it again on the same data."""
        await self._end_life()
        await self._begin_life()

    async def crash(self) -> None:
        """End the server in the middle of whatever it does, and start it again on the same data."""
        assert self._life is not None
        self._life.cancel_scope.cancel()
        await self._life_over.wait()
        await self._begin_life()

    # ---- for callers -----------------------------------------------------------------------------

    def _next_request_id(self) -> str:
        self._requests += 1
        return f"{self._requests:016x}"

    async def _bounded(self, call: Call, running: Any) -> Any:
        with trio.move_on_after(SETTLE_S_MAX):
            outcome = await running
            await trio.sleep(TICK_S)
            return outcome
        raise TimeoutError(f"{call.path} has no outcome after {SETTLE_S_MAX:g} virtual seconds")

    async def _start(self, call: Call) -> Running:
        deployment = self.deployment
        kind = deployment.kind_of(call.path)
        running = Running(call.path, call.args, lambda: deployment.head_ts)
        self._stepped[call.request_id] = running

        async def run() -> Value:
            if kind == "mutation":
                return value_of(call, await deployment.mutate(call))
            if kind == "action":
                return value_of(call, await deployment.act(call))
            return value_of(call, await deployment.query(call))

        async def run_in_one() -> Value:
            return await running.run_in_one(kind or "query", run)

        assert self._life is not None
        self._life.start_soon(running.run, run if kind == "action" else run_in_one)
        await running.halted()
        return running

    def _watch(self, call: Call, value_of: Callable[[QueryOutcome], Value]) -> TestSubscription:
        subscription = TestSubscription(call, value_of, self.deployment)
        self._watches[subscription] = None
        return subscription

    def _end_watch(self, subscription: TestSubscription) -> None:
        subscription.close()
        self._watches.pop(subscription, None)


def _modules(app: App) -> list[Module]:
    if isinstance(app, Mapping):
        return [Module(path, text.encode()) for path, text in sorted(app.items())]
    return read_app_folder(Path(app))
