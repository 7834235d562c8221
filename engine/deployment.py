"""A deployment: one folder, one store, its code, its workers. What `engine.backend.Backend` describes.

This file puts the parts together and owns their lives; each decision is in the part.

Folder:

    store/        the LMDB environment
    admin-key     the key that makes a caller an admin (mode 600)
    cursor-key    the key that authenticates page cursors and URLs of files (mode 600)
    files/        what is in files, by internal id; made when there are any

Shutdown: no new mutations; those under way settle; everything accepted becomes
durable; workers end; the store closes.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from engine.actions import ACTIONS_MAX, Actions, OnPiece
from engine.actions import DEPTH_MAX as ACTION_DEPTH_MAX
from engine.attempts import Attempts
from engine.auth_config import Provider
from engine.backend import ActionOutcome, Call, Failure, Kind, MutationOutcome, QueryOutcome, Watch
from engine.chance import Chance
from engine.clock import Clock
from engine.code import CodeVersion
from engine.committer import Committer
from engine.conditions import keep_current
from engine.conflicts import Conflicts
from engine.environment import Environment
from engine.explain import Explained, explain
from engine.fetches import Fetches
from engine.files import Files
from engine.housekeeping import Housekeeping
from engine.idempotency import Idempotency
from engine.kept_claims import KeptClaims
from engine.mutation_queue import LANES as MUTATION_LANES
from engine.mutations import Mutations
from engine.offload import RunBlocking, run_in_thread
from engine.own_writes import OwnWrites
from engine.push import OnProgress, Pusher, PushReport, load_active
from engine.queries import Queries, QueryWatch
from engine.query_lanes import LANES as QUERY_LANES
from engine.query_lanes import QueryLanes
from engine.runner import OnExecution, Runner
from sandbox.file_links import FileLinks
from sandbox.frames import Module
from sandbox.pool import Pool, WorkerPool
from storage import Store, Timestamp, WriteLog

WORKER_ENTRY: Final = "engine.guest:serve_guest"
WORKERS: Final = MUTATION_LANES + QUERY_LANES + 1  # and one for a push
ACTION_WORKERS: Final = ACTIONS_MAX * ACTION_DEPTH_MAX  # a bound, not a number that is started


def _worker_pool(argument: str, size: int, clock: Clock) -> Pool:
    return WorkerPool(entry=WORKER_ENTRY, argument=argument, size=size, clock=clock)


@attrs.frozen
class Seams:
    """What a simulation puts in the place of the operating system, besides clock and chance."""

    open_store: Callable[[Path], Store] = Store.open
    open_pool: Callable[[str, int, Clock], Pool] = _worker_pool  # argument of the workers' entry, size
    run_blocking: RunBlocking = run_in_thread


REAL: Final = Seams()


@attrs.define(eq=False)
class Deployment:
    """Implements `engine.backend.Backend`. Make one with `open_deployment`, then keep `run` running."""

    store: Store
    admin_key: str
    redacted: bool
    _pools: tuple[Pool, ...]
    committer: Committer
    mutations: Mutations
    attempts: Attempts
    queries: Queries
    _query_lanes: QueryLanes
    _actions: Actions
    _pusher: Pusher
    _housekeeping: Housekeeping
    conflicts: Conflicts
    own_writes: OwnWrites
    environment: Environment
    files: Files
    code: CodeVersion | None

    # ---- as a backend ---------------------------------------------------------------

    @property
    def head_ts(self) -> Timestamp:
        return self.committer.head_ts

    def kind_of(self, path: str) -> Kind | None:
        spec = None if self.code is None else self.code.functions.get(path)
        return None if spec is None else spec.kind

    async def query(self, call: Call, *, ts: Timestamp | None = None) -> QueryOutcome:
        horizon = self.store.horizon
        if ts is not None and ts < horizon:
            problem = f"OutOfRetention: asked about {ts}, and history begins at {horizon}\n"
            return QueryOutcome(ts, None, b"null", (), None, Failure(problem, kind="OutOfRetention"), b"")
        return await self.queries.query(call, ts)

    async def explain(self, call: Call) -> Explained:
        outcome, lookup, is_own = await self.queries.explained(call, None)
        return explain(outcome, lookup, is_own, self.committer.catalog(), self.committer.record_of)

    async def mutate(self, call: Call, *, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        return await self.mutations.mutate(call, idempotency)

    def newest_success(self, session_id: str) -> tuple[int, Timestamp] | None:
        return self.mutations.newest_success(session_id)

    async def act(self, call: Call) -> ActionOutcome:
        return await self._actions.act(call)

    async def answer(self, call: Call, stream: OnPiece) -> ActionOutcome:
        """Run an HTTP action on the request in `call`; `stream` takes the pieces of its answer."""
        return await self._actions.act(call, stream=stream)

    def watch(
        self, call: Call, journal: str | None, doorbell: Callable[[], None], *, min_interval_s: float = 0.0
    ) -> QueryWatch:
        return self.queries.watch(call, journal, doorbell, min_interval_s=min_interval_s)

    async def evaluate(self, watches: Sequence[Watch], ts: Timestamp) -> list[QueryOutcome]:
        ours = [watch for watch in watches if isinstance(watch, QueryWatch)]
        assert len(ours) == len(watches), watches
        return await self.queries.evaluate(ours, ts)

    # ---- as a thing with a life --------------------------------------------------------

    async def push(
        self, modules: Sequence[Module], on_progress: OnProgress, auth: bytes = b"", settings: bytes = b""
    ) -> PushReport:
        """Make `modules` the active code, with the token providers in `auth` and the app's `settings`.

        Raises:
          PushFailed: the version before stays in force.
        """
        return await self._pusher.push(modules, on_progress, auth, settings)

    def providers(self) -> Sequence[Provider]:
        """The token providers in force."""
        return () if self.code is None else self.code.providers

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `close` has been called and everything has settled, then close the store."""
        try:
            async with trio.open_nursery() as helpers:
                async with trio.open_nursery() as starting:
                    for pool in self._pools:
                        starting.start_soon(helpers.start, pool.run)
                helpers.start_soon(self._query_lanes.run)
                helpers.start_soon(self.queries.run_timers)
                helpers.start_soon(self._housekeeping.run)
                helpers.start_soon(self._pusher.staged.run)
                helpers.start_soon(self.attempts.run)
                helpers.start_soon(self.conflicts.run)
                helpers.start_soon(self.files.run)
                async with trio.open_nursery() as writers:
                    writers.start_soon(self.committer.run)
                    task_status.started()
                    await self.mutations.run()
                    await self.attempts.flush()
                    await self.conflicts.flush()
                    self.committer.close()
                helpers.cancel_scope.cancel()
        finally:
            self.store.close()

    def close(self) -> None:
        """Begin the end: `run` returns when what is under way has settled."""
        self.mutations.close()

    def _activate(self, code: CodeVersion, ts: Timestamp) -> None:
        self.code = code
        self.committer.active_code = code.hash
        for pool in self._pools:
            pool.retire_all()
        self.queries.switch_code(ts)


def open_deployment(
    folder: Path,
    *,
    clock: Clock,
    chance: Chance,
    on_execution: OnExecution,
    production: bool = False,
    fetch_private: bool = True,
    seams: Seams = REAL,
) -> Deployment:
    """Open the deployment in `folder`, made if need be.

    Args:
      fetch_private: whether actions may fetch from addresses that are not public.

    Raises:
      StoreError: the folder cannot be used; one line says why and what to do.
    """
    store = seams.open_store(folder / "store")
    try:
        fetches = Fetches(fetch_private)
        return _assemble(folder, store, clock, chance, on_execution, production, fetches, seams)
    except BaseException:
        store.close()
        raise


def _assemble(
    folder: Path,
    store: Store,
    clock: Clock,
    chance: Chance,
    on_execution: OnExecution,
    production: bool,
    fetches: Fetches,
    seams: Seams,
) -> Deployment:
    cursor_key = kept_secret(folder / "cursor-key")
    # Workers look for it from another folder.
    argument = json.dumps({"store": str((folder / "store").resolve()), "cursor_key": cursor_key})
    pool = seams.open_pool(argument, WORKERS, clock)
    # An action holds its worker while it waits for the calls it makes, so it must not take one of theirs.
    action_pool = seams.open_pool(argument, ACTION_WORKERS, clock)
    links = FileLinks(bytes.fromhex(cursor_key))

    def files_table() -> int | None:
        return files.table

    runner = Runner(store, pool, production, files_table)
    write_log = WriteLog(horizon=store.head_ts)
    code = load_active(store)

    def current_code() -> CodeVersion | None:
        return deployment.code

    query_lanes = QueryLanes(runner, clock, chance, current_code, on_execution)
    queries = Queries(
        query_lanes.run_query, write_log, lambda: committer.head_ts, clock, uniform=chance.uniform
    )
    committer = Committer(
        store, write_log, clock, queries.announce, seams.run_blocking, code.hash if code else None
    )
    idempotency = Idempotency(store)
    keep_current(store)
    attempts = Attempts(store, clock, seams.run_blocking)
    claims = KeptClaims(store)
    committer.on_take_back = claims.forget_stamps
    mutations = Mutations(
        runner, committer, idempotency, claims, clock, chance, current_code, on_execution, attempts
    )
    conflicts = Conflicts(store, committer, clock, chance)
    mutations.on_conflict = conflicts.note
    own_writes = OwnWrites(store, committer, mutations.hold)
    environment = Environment(
        store, own_writes, clock, chance, lambda: {} if deployment.code is None else deployment.code.declared
    )
    files = Files(folder / "files", store, own_writes, clock, chance, links, seams.run_blocking)
    actions = Actions(
        Runner(store, action_pool, production, files_table),
        clock,
        chance,
        current_code,
        lambda call: queries.query(call, None),
        mutations.mutate,
        on_execution,
        lambda: environment.variables,
        files,
        fetches,
    )
    pusher = Pusher(
        store,
        pool,
        committer,
        clock,
        chance,
        current_code,
        lambda version, ts: deployment._activate(version, ts),
        mutations.hold,
        seams.run_blocking,
        lambda: environment.variables,
    )
    deployment = Deployment(
        store=store,
        admin_key=kept_secret(folder / "admin-key"),
        redacted=production,
        pools=(pool, action_pool),
        committer=committer,
        mutations=mutations,
        attempts=attempts,
        queries=queries,
        query_lanes=query_lanes,
        actions=actions,
        pusher=pusher,
        housekeeping=Housekeeping(store, committer, idempotency, claims, clock, seams.run_blocking),
        conflicts=conflicts,
        own_writes=own_writes,
        environment=environment,
        files=files,
        code=code,
    )
    return deployment


def kept_secret(path: Path) -> str:
    """Return the secret in `path`, drawn and written on first use, readable by its owner alone."""
    try:
        secret = path.read_text().strip()
    except FileNotFoundError:
        secret = ""
    if secret:
        return secret
    # Complete or not there at all: an empty key would be one that anybody knows.
    drawn = secrets.token_hex(32)
    unfinished = path.with_name(f"{path.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(drawn + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return drawn
