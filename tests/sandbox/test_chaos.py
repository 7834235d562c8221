"""Ten thousand calls, good and hostile, while workers are killed and frames are broken.

What must hold: every good call is answered correctly, in the end and whatever
happened beside it; what the good mutations wrote is there, once; a hostile call
is an error of its kind; the engine's memory is flat, and no process is left.

The guest, the store and the pins are the real ones. Hostile calls are of two
sorts: functions of the app, and native code in the worker (`chaos_entry.py`).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from harness import ENTRIES
from test_hostile_frames import HOSTILE

from sandbox.frames import Call, Kind, Load, Loaded, Module, Ran, Run
from sandbox.pool import Rules, Worker, WorkerLost, WorkerPool
from storage import Store, Transaction, WriteSet
from tidewell.values import pack, unpack

CALLS = 10_000
TASKS = 4
SEED = int(os.environ.get("CHAOS_SEED", "1"))
KILL_EVERY_S = 0.15
GROWTH_BYTES_MAX = 24 * 2**20

APP = b"""
from tidewell import AppError, mutation, query

@query
def total(ctx, n: int) -> int:
    total = 0
    for number in range(n):
        total += number
    return total

@query
def words(ctx, text: str):
    counts = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return {word: counts[word] for word in sorted(counts)}

@query
def has(ctx, text: str) -> bool:
    return any(post["text"] == text for post in ctx.db.query("posts").order("desc").take(50))

@mutation
def add(ctx, text: str) -> str:
    ctx.db.insert("posts", {"text": text})
    print("added", text)
    return text

@query
def forever(ctx):
    while True:
        pass

@query
def deep(ctx):
    def down(n):
        return down(n + 1)
    return down(0)

@query
def double(ctx):
    text = "x"
    while True:
        text = text + text

@query
def hoard(ctx):
    kept = []
    while True:
        kept.append(list(range(1000)))

@mutation
def half_done(ctx):
    ctx.db.insert("posts", {"text": "never"})
    raise AppError("no")

@query
def wrong(ctx):
    return {}["missing"]

@query
def chatty(ctx):
    for number in range(100000):
        print("x" * 1000)
"""

# The kinds of outcome that each hostile function may have.
FUNCTIONS: dict[str, set[str]] = {
    "forever": {"fuel"},
    "deep": {"depth", "fuel"},
    "double": {"function", "fuel", "memory"},
    "hoard": {"fuel", "memory", "lost memory"},
    "half_done": {"app_error"},
    "wrong": {"function"},
    "chatty": {"fuel", "value", "function"},
}

# Native payloads, their argument, and the ways in which the worker may be lost.
NATIVE: list[tuple[str, Any, set[str]]] = [
    ("spin", None, {"cpu", "wall"}),
    ("wait_for_more", None, {"wall"}),
    ("end", 0, {"crash"}),
    ("end", 3, {"crash"}),
    ("read_memory_of_nobody", None, {"crash"}),
    ("syscall", ["57"], {"security"}),
    ("syscall", ["41", "2", "2", "0"], {"security"}),
    ("python_call", ["listdir", "/"], {"security"}),
    ("hoard_in_python", None, {"memory", "wall", "cpu"}),
    ("write_raw_and_end", HOSTILE["two replies"][:9], {"crash"}),
    *(
        ("write_raw_and_wait", HOSTILE[name], {"protocol"})
        for name in (
            "nonsense",
            "huge length",
            "no map",
            "unknown field",
            "two outcomes",
            "deep nesting",
            "pong",
        )
    ),
]


@attrs.define
class Chaos:
    pool: WorkerPool
    store: Store
    load: Load
    dice: random.Random
    calls: int = 0
    answered: int = 0
    hostile: int = 0
    killed: set[int] = attrs.field(factory=set)  # process ids
    lost_to_kills: int = 0
    added: set[str] = attrs.field(factory=set)
    faults: list[str] = attrs.field(factory=list)

    def call(self, path: str, kind: Kind, **args: Any) -> Call:
        self.calls += 1
        return Call(
            execution=str(self.calls),
            kind=kind,
            path=path,
            args=pack(args),
            identity=pack(None),
            seed=self.calls.to_bytes(32, "big"),
            now_ms=1_800_000_000_000,
            fuel=20_000,
        )

    async def run(self, calls: list[Call], **budgets: float) -> Ran:
        """Run a batch as the engine would: lease, load, pin, request. What we killed is begun again."""
        while True:
            async with self.pool.lease(self.load.code) as worker:
                try:
                    await self.give_code(worker)
                    with self.store.pin() as pin:
                        frame = Run(
                            code=self.load.code,
                            begin_ts=self.store.head_ts,
                            txn_id=pin.txn_id,
                            overlay=[],
                            calls=calls,
                        )
                        reply = await worker.request(frame, **budgets)
                except WorkerLost:
                    if worker.process.pid not in self.killed:
                        raise
                    self.lost_to_kills += 1
                else:
                    assert isinstance(reply, Ran), reply
                    return reply

    async def give_code(self, worker: Worker) -> None:
        if worker.loaded_code is None:
            reply = await worker.request(self.load, wall_s=10.0)
            assert isinstance(reply, Loaded), reply

    async def good(self) -> None:
        """A batch whose answers are known. Nothing but a kill of ours may lose it."""
        calls, expected = [], []
        for _ in range(self.dice.choice((1, 1, 2, 4, 16))):
            which = self.dice.randrange(4)
            if which == 0:
                n = self.dice.randrange(200)
                calls.append(self.call("app:total", "query", n=n))
                expected.append(sum(range(n)))
            elif which == 1:
                calls.append(self.call("app:words", "query", text="b a b"))
                expected.append({"a": 1, "b": 2})
            elif which == 2:
                calls.append(self.call("app:has", "query", text="never"))
                expected.append(False)
            else:
                text = f"post {self.calls}"
                calls.append(self.call("app:add", "mutation", text=text))
                expected.append(text)
        try:
            reply = await self.run(calls)
        except WorkerLost as lost:
            self.faults.append(f"good calls lost their worker: {lost}")
            return
        for call, outcome, value in zip(calls, reply.outcomes, expected, strict=True):
            if outcome.kind != "value" or unpack(outcome.value) != value:
                self.faults.append(f"{call.path} {unpack(call.args)}: {outcome}")
            elif outcome.writes:
                ts = self.store.head_ts + 1
                self.store.commit([WriteSet.unpack(outcome.writes).commit(ts)])
                self.added.add(str(value))
            self.answered += 1

    async def bad_function(self) -> None:
        name = self.dice.choice(sorted(FUNCTIONS))
        try:
            reply = await self.run([self.call(f"app:{name}", "mutation" if name == "half_done" else "query")])
            seen = reply.outcomes[0].kind
        except WorkerLost as lost:
            seen = f"lost {lost.kind}"
        self.judge(name, str(seen), FUNCTIONS[name])

    async def native(self) -> None:
        name, argument, allowed = self.dice.choice(NATIVE)
        try:
            await self.run([self.call(f"chaos/{name}", "query", argument=argument)], wall_s=0.3, cpu_s=0.1)
            seen = "answered"
        except WorkerLost as lost:
            seen = lost.kind
        self.judge(name, seen, allowed)

    def judge(self, name: str, seen: str, allowed: set[str]) -> None:
        self.hostile += 1
        if seen not in allowed:
            self.faults.append(f"{name}: {seen}, expected one of {sorted(allowed)}")

    async def task(self) -> None:
        while self.calls < CALLS and not self.faults:
            fate = self.dice.random()
            if fate < 0.80:
                await self.good()
            elif fate < 0.90:
                await self.bad_function()
            else:
                await self.native()

    async def killer(self) -> None:
        """Kill a worker now and then, whatever it is doing."""
        while True:
            await trio.sleep(self.dice.uniform(0, 2 * KILL_EVERY_S))
            if self.pool.pids:
                pid = self.dice.choice(self.pool.pids)
                self.killed.add(pid)
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pid, signal.SIGKILL)


def private_bytes() -> int:
    gc.collect()
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in children for each in (int(child), *descendants(int(child)))]


async def test_good_calls_are_answered_whatever_happens_beside_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("CRITICAL", logger="tidewell.sandbox")  # thousands of events are expected
    before = set(descendants(os.getpid()))
    descriptors = len(os.listdir("/proc/self/fd"))
    with Store.open(tmp_path / "store", sync=False) as store:
        pool = WorkerPool(
            entry="chaos_entry:serve_chaos",
            argument=json.dumps({"store": str(store.path), "cursor_key": "00" * 32}),
            size=TASKS,
            import_paths=(ENTRIES,),
            rules=Rules(starts_per_s=500.0, zygote_starts_max=100),
        )
        load = Load(
            code="v1", modules=[Module(path="app.py", source=APP)], analyse=True, now_ms=0, seed=bytes(32)
        )
        chaos = Chaos(pool, store, load, random.Random(SEED))
        with trio.fail_after(240):
            async with pool.running():
                for _ in range(20):
                    await chaos.good()
                memory = private_bytes()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(chaos.killer)
                    async with trio.open_nursery() as tasks:
                        for _ in range(TASKS):
                            tasks.start_soon(chaos.task)
                    nursery.cancel_scope.cancel()
                assert not chaos.faults, f"seed {SEED}: {chaos.faults[:5]}"
                await chaos.good()  # G6
                grown = private_bytes() - memory
        assert not chaos.faults, f"seed {SEED}: {chaos.faults[:5]}"
        with store.snapshot() as snapshot:
            texts = [post["text"] for post in Transaction(snapshot).scan("posts", "by_creation_time")]
    assert sorted(texts) == sorted(chaos.added)
    assert chaos.calls >= CALLS
    assert chaos.lost_to_kills > 0
    assert chaos.hostile > 100
    assert grown < GROWTH_BYTES_MAX, f"the engine grew by {grown} bytes"
    assert set(descendants(os.getpid())) <= before
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    print(
        f"{chaos.calls} calls, {chaos.answered} of good functions answered, {chaos.hostile} hostile, "
        f"{len(chaos.killed)} workers killed and {chaos.lost_to_kills} requests with them, "
        f"{pool.started} workers started, engine grown by {grown // 1024} KiB"
    )
