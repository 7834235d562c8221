"""A whole deployment for tests: real store, real code, and workers whose order a test decides.

`deployed` opens one in a folder and pushes an app. By default the guests run in this
process, through the same frames and the same executor; with `real=True` in confined
processes as they do for users. Either way every request passes `Traffic`, where a
test holds it back before it is run or after, counts it, or lets its worker die.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any, ClassVar, TypeVar, Unpack

import attrs
import trio

from engine.app_folder import read_app_folder
from engine.backend import ANONYMOUS, Call, Identity, MutationOutcome, Origin, QueryOutcome
from engine.chance import SystemChance
from engine.clock import SystemClock
from engine.deployment import Deployment, Seams, open_deployment
from engine.guest import GuestStore
from engine.offload import run_in_thread
from engine.push import PushReport
from engine.testing.passing import PassingPool, PassingWorker
from engine.testing.workers import StoreReader
from sandbox.executor import Executor
from sandbox.frames import FromWorker, Run
from sandbox.pool import InProcessPool, LeasedWorker, Pool, Request, Terms, WorkerLost, WorkerPool
from storage import Store

T = TypeVar("T")


@attrs.define(eq=False)
class Held:
    """Runs of one function that are kept waiting."""

    release: trio.Event = attrs.field(factory=trio.Event)
    _count: int = 0
    _came: trio.Event = attrs.field(factory=trio.Event)

    _all: ClassVar[list[Held]] = []

    def __attrs_post_init__(self) -> None:
        self._all.append(self)

    @classmethod
    def release_all(cls) -> None:
        while cls._all:
            cls._all.pop().release.set()

    async def pass_by(self) -> None:
        self._count += 1
        self._came.set()
        self._came = trio.Event()
        await self.release.wait()

    async def arrivals(self, count: int = 1) -> None:
        """Wait until so many requests were held."""
        while self._count < count:
            await self._came.wait()


@attrs.define(eq=False)
class Traffic:
    """What goes between the engine and its workers."""

    before: dict[str, Held] = attrs.field(factory=dict)  # by path: held before it is run
    after: dict[str, Held] = attrs.field(factory=dict)  # by path: run, and the reply is held
    lose: Callable[[Run], WorkerLost | None] = lambda frame: None  # what the worker of a request dies of
    tamper: Callable[[Run, FromWorker], FromWorker] = lambda frame, reply: reply  # what a hostile one says
    condemned: list[str] = attrs.field(factory=list)  # what was wrong with what workers said
    frames: list[Run] = attrs.field(factory=list)
    runs: Counter[str] = attrs.field(factory=Counter)  # calls by path

    def hold_before(self, path: str) -> Held:
        self.before[path] = Held()
        return self.before[path]

    def hold_after(self, path: str) -> Held:
        self.after[path] = Held()
        return self.after[path]

    async def request(self, worker: LeasedWorker, frame: Request, **options: Any) -> FromWorker:
        if not isinstance(frame, Run):
            return await worker.request(frame, **options)
        paths = [call.path for call in frame.calls]
        self.frames.append(frame)
        self.runs.update(paths)
        for path in paths:
            if path in self.before:
                await self.before[path].pass_by()
        death = self.lose(frame)
        if death is not None:
            worker.retire()
            raise death
        reply = self.tamper(frame, await worker.request(frame, **options))
        for path in paths:
            if path in self.after:
                await self.after[path].pass_by()
        return reply


@attrs.define(eq=False)
class _WatchedWorker(PassingWorker):
    _traffic: Traffic

    async def request(self, frame: Request, **terms: Unpack[Terms]) -> FromWorker:
        return await self._traffic.request(self._inner, frame, **terms)

    def condemn(self, problem: str) -> None:
        self._traffic.condemned.append(problem)
        self._inner.retire()


@attrs.define(eq=False)
class _WatchedPool(PassingPool):
    _traffic: Traffic

    def wrap(self, worker: LeasedWorker) -> LeasedWorker:
        return _WatchedWorker(worker, self._traffic)


@attrs.define(eq=False)
class Deployed:
    deployment: Deployment
    traffic: Traffic
    folder: Path
    executions: list[tuple[str, str, Any]]  # kind, path, how it ended
    _versions: int = 0

    async def push(self, files: Mapping[str, str], progress: Callable[[str], None] = str) -> PushReport:
        self._versions += 1
        app = write_app(self.folder / f"app{self._versions}", files)
        return await self.deployment.push(read_app_folder(app), progress)

    async def mutate(
        self, path: str, *, idempotency: tuple[str, int] | None = None, **args: Any
    ) -> MutationOutcome:
        return await self.deployment.mutate(call(path, **args), idempotency=idempotency)

    async def query(self, path: str, **args: Any) -> QueryOutcome:
        return await self.deployment.query(call(path, **args))

    async def value(self, path: str, **args: Any) -> Any:
        """Return what a query returns. Raises if it fails."""
        outcome = await self.query(path, **args)
        assert outcome.failure is None, outcome.failure
        return outcome.value

    async def run(self, path: str, **args: Any) -> Any:
        """Return what a mutation returns. Raises if it fails."""
        outcome = await self.mutate(path, **args)
        assert outcome.failure is None, outcome.failure
        return outcome.value


def call(
    path: str,
    *,
    identity: Identity = ANONYMOUS,
    origin: Origin = "socket",
    request_id: str = "0" * 16,
    **args: Any,
) -> Call:
    return Call(path, dict(sorted(args.items())), identity, request_id, origin)


def write_app(folder: Path, files: Mapping[str, str]) -> Path:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(source))
    return folder


@attrs.define(eq=False)
class Disk:
    """Stands in for the off-thread runner, and so for the disk: a test holds calls, or has commits fail."""

    gates: dict[str, Held] = attrs.field(factory=dict)  # by the name of the function that is called
    errors: list[Exception] = attrs.field(factory=list)  # of the next commits

    async def __call__(self, call: Callable[..., T], /, *arguments: object) -> T:
        await trio.lowlevel.checkpoint()
        name = getattr(call, "__name__", "")
        if name in self.gates:
            await self.gates[name].pass_by()
        if name == "commit" and self.errors:
            raise self.errors.pop(0)
        return call(*arguments)

    def hold(self, name: str = "commit") -> Held:
        self.gates[name] = Held()
        return self.gates[name]


@asynccontextmanager
async def deployed(
    folder: Path,
    files: Mapping[str, str] | None = None,
    *,
    real: bool = False,
    store_options: Mapping[str, Any] | None = None,
    run_blocking: Any = run_in_thread,
    clock: Any = None,
    chance: Any = None,
    fetch_private: bool = True,
) -> AsyncIterator[Deployed]:
    """Open a deployment, push `files` if there are any, and end in order afterwards."""
    traffic = Traffic()
    stores: list[Store] = []
    executions: list[tuple[str, str, Any]] = []

    def open_store(path: Path) -> Store:
        stores.append(Store.open(path, **(store_options or {})))
        return stores[0]

    def open_pool(argument: str, size: int, clock: Any) -> Pool:
        if real:
            inner: Pool = WorkerPool(
                entry="engine.guest:serve_guest", argument=argument, size=size, clock=clock
            )
        else:
            key = bytes.fromhex(json.loads(argument)["cursor_key"])

            def build() -> Executor:
                return Executor(GuestStore("", StoreReader(stores[0])).begin, cursor_key=key)

            inner = InProcessPool(build_handler=build, size=size)
        return _WatchedPool(inner, traffic)

    deployment = open_deployment(
        folder / "data",
        clock=clock or SystemClock(),
        chance=chance or SystemChance(),
        on_execution=lambda asked, kind, ended, seconds: executions.append((kind, asked.path, ended)),
        fetch_private=fetch_private,
        seams=Seams(open_store, open_pool, run_blocking),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(deployment.run)
        try:
            it = Deployed(deployment, traffic, folder, executions)
            if files is not None:
                await it.push(files)
            yield it
        finally:
            Held.release_all()  # what a failed test still holds
            deployment.close()
