"""The real engine, everything below it simulated: lives that end in crashes, clients that outlast them.

A *life* is the engine from its start to its end. Between two lives only the folder
remains. A crash is the end of everything in one instant: the disk stops, all lines
are cut, and only then do the engine's tasks unwind, into the void.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from pathlib import Path
from random import Random
from typing import Any, Final

import attrs
import trio

from engine.auth import Authenticator
from engine.backend import ANONYMOUS, BackendFault, Call, MutationOutcome
from engine.chance import Chance
from engine.clients import Client
from engine.clock import Clock
from engine.connection import SocketContext, serve_socket
from engine.deployment import Deployment, Seams, open_deployment
from engine.exchange import Upgrade
from engine.guest_outcomes import GuestOutcome
from engine.push import PushFailed
from engine.runner import Lost
from engine.testing.chance import SimulatedChance, stream
from engine.testing.clock import SimulatedClock
from fuzz.client import SimulatedClient
from fuzz.disk import Disk, PowerLost
from fuzz.faults import QUIET, Faults
from fuzz.history import Failed, History, Query, Shown, Trace
from fuzz.network import Line
from fuzz.plants import NO_PLANT, Plant
from fuzz.workers import SimulatedPool
from fuzz.workloads.base import Workload
from sandbox import frames
from sandbox.frames import Module
from sandbox.pool import Pool
from storage import CommitOutcomeUnknown, Store
from tidewell.values import object_of

CLIENT: Final = Client("npm", (1, 48, 0))
VISIT_S: Final = 0.4  # mean time between two visitors
STUCK_S: Final = 600.0  # of simulated time; nobody has to wait that long once faults are over
QUIET_S: Final = 130.0  # longer than any patience with a dead line


@attrs.define(eq=False)
class World:
    seed: int
    workload: Workload
    folder: Path
    faults: Faults = QUIET
    clients_count: int = 3
    duration_s: float = 20.0
    plant: Plant = NO_PLANT
    trace: Trace = attrs.field(factory=Trace)
    history: History = attrs.field(factory=History)
    clock: SimulatedClock = attrs.field(factory=SimulatedClock)
    clients: list[SimulatedClient] = attrs.field(factory=list)
    is_faulty: bool = False
    simulated_s: float = 0.0
    _life: trio.Nursery | None = None
    _deployment: Deployment | None = None
    _disk: Disk | None = None
    _lines: list[Line] = attrs.field(factory=list)
    _lines_count: int = 0
    is_pushed: bool = False
    _is_over: bool = False
    _up: trio.Event = attrs.field(factory=trio.Event)
    _ended: trio.Event = attrs.field(factory=trio.Event)

    def stream(self, name: str) -> Random:
        return stream(self.seed, name)

    def fault(self, what: str) -> None:
        self.history.count(what)
        self.trace.note("fault", what)

    # ---- the run -----------------------------------------------------------------------

    async def run(self) -> None:
        """Set up, let clients and faults loose, come to rest, shut down."""
        try:
            with self._listening_to_log():
                async with trio.open_nursery() as everything:
                    everything.start_soon(self._lives)
                    with trio.move_on_after(self.duration_s + STUCK_S) as limit:
                        await self._play(everything)
                    if limit.cancelled_caught:
                        self.history.complaints.append(f"stuck: {self._outstanding()}")
                    everything.cancel_scope.cancel()
        finally:
            self.simulated_s = trio.current_time()

    async def _play(self, everything: trio.Nursery) -> None:
        await self._up.wait()
        await self._set_up()
        for index in range(self.clients_count):
            self.clients.append(self._client(f"c{index}"))
        for client in self.clients:
            random = self.stream(f"steps of {client.name}")
            for path, args in self.workload.watched(random):
                client.watch(path, **args)
            everything.start_soon(client.run)
        async with trio.open_nursery() as nemesis:
            self._start_faults(nemesis)
            async with trio.open_nursery() as players:
                for client in self.clients:
                    players.start_soon(self._drive, client)
                players.start_soon(self._visit)
                await trio.sleep(self.duration_s)
                self._heal()
            nemesis.cancel_scope.cancel()
        while not all(client.is_settled for client in self.clients):
            await trio.sleep(1)
        await trio.sleep(QUIET_S)
        while not all(client.is_settled for client in self.clients):
            await trio.sleep(1)
        self._is_over = True
        if self._deployment is not None:
            self._deployment.close()
            await self._ended.wait()

    async def _set_up(self) -> None:
        async with trio.open_nursery() as nursery:
            client = self._client("set-up")
            nursery.start_soon(client.run)
            await self.workload.set_up(client)
            nursery.cancel_scope.cancel()

    async def _drive(self, client: SimulatedClient) -> None:
        random = self.stream(f"steps of {client.name}")
        pause_s = random.choice([0.02, 0.1, 0.4])
        end = trio.current_time() + self.duration_s
        while trio.current_time() < end:
            await trio.sleep(pause_s * random.expovariate(1))
            if random.random() < 0.05:
                self._change_mind(client, random)
            await self.workload.step(client, random)

    async def _visit(self) -> None:
        """Ask single questions, of now and of a little while ago, as callers without a socket do."""
        random = self.stream("visitors")
        end = trio.current_time() + self.duration_s
        heads: list[int] = []
        visits = 0
        while trio.current_time() < end:
            await trio.sleep(VISIT_S * random.expovariate(1))
            if self._life is None or self._deployment is None:
                continue
            heads = [*heads[-9:], self._deployment.head_ts]
            ts = random.choice([None, None, random.choice(heads)])
            path, args = random.choice(self.workload.watched(random))
            visits += 1
            self._life.start_soon(self._ask, self._deployment, f"visitor {visits}", ts, path, args)

    async def _ask(
        self, deployment: Deployment, name: str, ts: int | None, path: str, args: dict[str, Any]
    ) -> None:
        call = Call(path, object_of(args), ANONYMOUS, "0" * 16, "http")
        asked_ts = deployment.head_ts if ts is None else ts
        try:
            outcome = await deployment.query(call, ts=ts)
        except BackendFault as fault:
            self.history.count(f"visit failed: {fault.code}")
            return
        if outcome.failure is not None and outcome.failure.kind == "System":
            return  # its worker died
        value = Failed(outcome.failure.message) if outcome.failure else json.loads(outcome.value_json)
        self.history.count("visit")
        self.trace.note("visit", name, path, args, asked_ts, value)
        version = (0, 0, asked_ts)
        results = {Query.of(path, args): value}
        self.history.shown.append(Shown(self.history.step(), name, 0, version, version, results))

    def _change_mind(self, client: SimulatedClient, random: Random) -> None:
        """Stop watching something, and watch something, perhaps the same."""
        if client.queries:
            client.unwatch(random.choice(list(client.queries)))
        path, args = random.choice(self.workload.watched(random))
        client.watch(path, **args)

    def _client(self, name: str) -> SimulatedClient:
        return SimulatedClient(name, self, self.history, self.trace, self.stream(f"client {name}"))

    def _outstanding(self) -> str:
        waiting = [str(request) for request in self.history.requests if request.status == "pending"]
        unsettled = [client.name for client in self.clients if not client.is_settled]
        return f"{len(waiting)} requests without an answer {waiting[:3]}, unsettled clients {unsettled}"

    # ---- lives ----------------------------------------------------------------------------

    async def _lives(self) -> None:
        random = self.stream("downtime")
        while not self._is_over:
            await self._one_life()
            await trio.sleep(random.expovariate(1) * 0.5)
        self._ended.set()

    async def _one_life(self) -> None:
        disk = self._disk = Disk(
            self.folder / "store",
            self.faults,
            self.stream(f"disk {self._lines_count}"),
            self.fault,
            self.crash,
        )
        disk.is_faulty = self.is_faulty
        disk.replies_before_sync = self.plant.replies_before_sync
        try:
            deployment = self._open(disk)
            async with trio.open_nursery() as life:
                self.trace.note("life", deployment.head_ts)
                await life.start(self._run_engine, deployment, life)
                if not self.is_pushed:
                    await deployment.push(modules_of(self.workload, 0), _ignore)
                    self.is_pushed = True
                self._life, self._deployment = life, deployment
                self._up.set()
        except BaseExceptionGroup as group:
            _, rest = group.split((PowerLost, CommitOutcomeUnknown))
            if rest is not None:
                if rest.split(trio.Cancelled)[1] is None:
                    raise
                self._fell_over(rest)
        finally:
            self._life = self._deployment = None
            self._cut_all_lines()
            disk.power_off()
        disk.settle()

    async def _run_engine(
        self, deployment: Deployment, life: trio.Nursery, task_status: trio.TaskStatus[None]
    ) -> None:
        await deployment.run(task_status)
        life.cancel_scope.cancel()

    def _fell_over(self, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        self.history.complaints.append(f"the engine fell over: {text}")

    def _open(self, disk: Disk) -> Deployment:
        life = self.history.counts.get("life", 0)
        self.history.count("life")
        store_of: list[Store] = []

        def open_store(path: Path) -> Store:
            store_of.append(Store.open(path, sync=False))
            return store_of[0]

        def open_pool(argument: str, size: int, clock: Clock) -> Pool:
            return SimulatedPool.build(
                store_of[0],
                argument,
                size,
                self.faults,
                self.stream(f"workers {life} {size}"),
                lambda: self.is_faulty,
                self.fault,
                self.plant.handler,
            )

        self._keep_secrets()
        chance: Chance = SimulatedChance(self.stream(f"engine {life}"))
        deployment = open_deployment(
            self.folder,
            clock=self.clock,
            chance=self.plant.chance(chance),
            on_execution=self._on_execution,
            seams=Seams(open_store, open_pool, disk.run_blocking),
        )
        self.plant.deployment(deployment)
        return deployment

    def _keep_secrets(self) -> None:
        """Put the deployment's keys in their files, before it would draw them from the system."""
        random = self.stream("secrets")
        for name in ("admin-key", "cursor-key"):
            (self.folder / name).write_text(random.randbytes(32).hex())

    def _on_execution(
        self, call: Call, kind: frames.Kind, ended: GuestOutcome | Lost, seconds: float
    ) -> None:
        how = ended.kind if isinstance(ended, Lost) else ended.steps
        self.history.count(kind)
        self.trace.note("execution", kind, call.path, call.request_id, how)

    # ---- what goes wrong -----------------------------------------------------------------------

    def crash(self, what: str = "crash") -> None:
        if self._disk is not None and not self._disk.is_off:
            self.fault(what)
            self._disk.power_off()
            self._cut_all_lines()
            if self._life is not None:
                self._life.cancel_scope.cancel()

    def _cut_all_lines(self) -> None:
        for line in self._lines:
            line.cut()
        self._lines.clear()

    def _start_faults(self, nursery: trio.Nursery) -> None:
        self.is_faulty = True
        if self._disk is not None:
            self._disk.is_faulty = True
        kinds = (
            (self.faults.crash_every_s, self.crash),
            (self.faults.disk_full_every_s, self._fill_disk),
            (self.faults.clock_jump_every_s, self._jump),
            (self.faults.push_every_s, self._push),
            (self.faults.drop_every_s / self.clients_count, self._drop),
        )
        for every_s, strike in kinds:
            if every_s:
                nursery.start_soon(self._strike_again, every_s, strike, self.stream(strike.__name__))

    async def _strike_again(self, every_s: float, strike: object, random: Random) -> None:
        assert callable(strike)
        while True:
            await trio.sleep(every_s * random.expovariate(1))
            strike()

    def _heal(self) -> None:
        """End all faults. What they did is left as it is."""
        self.is_faulty = False
        if self._disk is not None:
            self._disk.is_faulty = self._disk.is_full = False
        self.trace.note("healed")

    def _fill_disk(self) -> None:
        if self._disk is not None:
            self._disk.is_full = not self._disk.is_full
            self.fault("disk full" if self._disk.is_full else "room on the disk")

    def _jump(self) -> None:
        random = self.stream(f"jump at {trio.current_time()}")
        self.clock.jump(random.choice([-3600, -5, -0.3, 0.3, 5, 90, 3600]))
        self.fault("clock jump")

    def _push(self) -> None:
        if self._life is not None and self._deployment is not None:
            random = self.stream(f"push at {trio.current_time()}")
            self._life.start_soon(self._push_to, self._deployment, random)

    async def _push_to(self, deployment: Deployment, random: Random) -> None:
        variant = random.randrange(3)
        self.fault("push")
        try:
            report = await deployment.push(modules_of(self.workload, variant), _ignore)
            self.trace.note("pushed", variant, report.changed)
        except PushFailed as failed:
            self.fault("push failed")
            self.trace.note("push failed", failed)

    def _drop(self) -> None:
        random = self.stream(f"drop at {trio.current_time()}")
        lines = [client.line for client in self.clients if client.is_connected and client.line is not None]
        if not lines or not self.is_faulty:
            return
        line = random.choice(lines)
        if random.random() < self.faults.black_hole:
            self.fault("black hole")
            line.fall_into_hole()
        else:
            self.fault("line cut")
            line.cut()

    # ---- the network ----------------------------------------------------------------------------

    def dial(self) -> Line | None:
        """Implements `fuzz.client.Network`."""
        if self._life is None or self._deployment is None or self._is_over:
            return None
        self._lines_count += 1
        random = self.stream(f"line {self._lines_count}")
        line = Line.open(self._lines_count, lambda: self.faults.message_delay_s * random.expovariate(1))
        self._lines.append(line)
        self._life.start_soon(self._serve, line, self._deployment)
        return line

    async def _serve(self, line: Line, deployment: Deployment) -> None:
        nonces = self.stream(f"nonce {line.number}")
        backend: Any = _Hesitant(deployment, self.faults, self.stream(f"hesitation {line.number}"))
        context = SocketContext(backend, Authenticator(None), self.clock, lambda: nonces.randbytes(8).hex())
        try:
            head = b""
            while b"\r\n\r\n" not in head:
                piece = await line.server.receive_some()
                if not piece:
                    return
                head += piece
            await serve_socket(line.server, Upgrade(CLIENT, head), context, self.plant.connection)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # cut before the socket was one

    # ---- the log ----------------------------------------------------------------------------------

    def _listening_to_log(self) -> _Listening:
        return _Listening(self.history.complaints)


class _Hesitant:
    """A deployment whose answers to mutations take their time on the way to the session."""

    def __init__(self, inner: Deployment, faults: Faults, random: Random) -> None:
        self._inner, self._faults, self._random = inner, faults, random

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def mutate(self, call: Call, *, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        outcome = await self._inner.mutate(call, idempotency=idempotency)
        if self._random.random() < self._faults.late_reply:
            await trio.sleep(self._random.expovariate(50))
        return outcome


class _Listening(logging.Handler):
    """What the engine logs as an error is a fault of its own: connections survive it, runs must not."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._complaints = complaints
        self._logger = logging.getLogger("engine")

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info is not None and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        self._complaints.append(f"logged by {record.name}: {text}")

    def __enter__(self) -> None:
        self._propagates = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagates


def modules_of(workload: Workload, variant: int) -> list[Module]:
    """Return the app's files; each variant but the first has an index of its own on every table."""
    files = dict(workload.files)
    if variant:
        files["schema.py"] = re.sub(
            r"\.index\(\"(\w+)\", \"(\w+)\"",
            lambda found: f'.index("{found[1]}_{variant}", "{found[2]}"){found[0]}',
            files["schema.py"],
        )
    return [Module(path, text.encode()) for path, text in sorted(files.items())]


def _ignore(_: str) -> None:
    pass
