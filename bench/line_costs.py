"""What it costs to know the lines that reads and writes come from: `python bench/line_costs.py`.

Development always asks workers for them (`Run.places`), production for functions that conflict.
Each row is a mutation run over a real store in this process, with lines and without, in turn; the
time is that of the processor, the best of many rounds, so that a busy machine matters
little. Steps, read sets and write sets are compared on the way and are the same.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from sandbox.executor import Executor
from sandbox.frames import Call, Load, Loaded, Module, Outcome, Ran, Run, Syscall
from sandbox.guest import prepare_process
from storage import Store, Transaction, WriteSet
from tidewell.values import pack

APP = b"""
from tidewell import mutation

@mutation
def fill(ctx):
    for number in range(20):
        ctx.db.insert("posts", {"likes": number})

@mutation
def like(ctx):
    post = ctx.db.query("posts").order("desc").first()
    ctx.db.patch(post["_id"], {"likes": post["likes"] + 1})

@mutation
def like_all(ctx):
    for post in ctx.db.query("posts").take(20):
        ctx.db.patch(post["_id"], {"likes": ctx.db.get(post["_id"])["likes"] + 1})
"""
ROUNDS = 40
CALLS = 50  # in one message


def no_syscalls(call: Syscall) -> NoReturn:
    raise AssertionError(call)


def call(path: str) -> Call:
    return Call(
        execution="0" * 32,
        kind="mutation",
        path=path,
        args=pack({}),
        identity=pack(None),
        seed=bytes(32),
        now_ms=1e12,
    )


def run(executor: Executor, store: Store, calls: list[Call], places: bool) -> tuple[list[Outcome], float]:
    frame = Run(code="bench", begin_ts=store.head_ts, txn_id=0, overlay=[], calls=calls, places=places)
    started = time.process_time()
    reply = executor.run(frame, no_syscalls)
    seconds = time.process_time() - started
    assert isinstance(reply, Ran), reply
    return reply.outcomes, seconds


def facts(outcome: Outcome) -> list[Any]:
    return [getattr(outcome, name) for name in outcome.__struct_fields__ if name != "places"]


def main() -> None:
    prepare_process()
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder)) as store:
        executor = Executor(lambda *_: Transaction(store.snapshot()), cursor_key=bytes(32))
        load = Load(code="bench", modules=[Module("posts.py", APP)], analyse=True, now_ms=0, seed=bytes(32))
        assert isinstance(executor.load(load), Loaded)
        [filled], _ = run(executor, store, [call("posts:fill")], False)
        store.commit([WriteSet.unpack(filled.writes).commit(1)])
        print(f"{'mutation':<16} {'without':>10} {'with':>10} {'more':>7} {'bytes':>7}")
        for path in ("posts:like", "posts:like_all"):
            best = {False: float("inf"), True: float("inf")}
            for _ in range(ROUNDS):
                outcomes = {}
                for places in best:
                    [outcomes[places], *_], seconds = run(executor, store, [call(path)] * CALLS, places)
                    best[places] = min(best[places], seconds / CALLS)
                assert facts(outcomes[False]) == facts(outcomes[True])
            without, lines = best[False] * 1e6, best[True] * 1e6
            size = len(outcomes[True].places)
            print(f"{path:<16} {without:>7.0f} µs {lines:>7.0f} µs {lines / without - 1:>7.0%} {size:>7}")


if __name__ == "__main__":
    main()
