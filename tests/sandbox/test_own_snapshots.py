"""Calls of one frame that have nothing to do with each other: each on a snapshot of its own."""

from __future__ import annotations

from sandbox.executor import Executor
from sandbox.frames import Call, Load, Ran, Run
from sandbox.transaction import Database
from tidewell.values import pack, unpack

from .guest_app import modules_of
from .memory_database import MemoryBacking

APP = {
    "counter.py": """
        from tidewell import mutation

        @mutation
        def add(ctx):
            ctx.db.insert("counters", {"n": 1})
            return len(ctx.db.query("counters").collect())
    """
}


def call(number: int, begin_ts: int | None) -> Call:
    return Call(
        execution="1", kind="mutation", path="counter:add", args=pack({}), identity=pack(None),
        seed=bytes([number]) * 32, now_ms=1.0, begin_ts=begin_ts,
    )  # fmt: skip


def test_call_with_its_own_snapshot_sees_neither_the_overlay_nor_its_neighbours() -> None:
    backing, opened = MemoryBacking(), []

    def open_database(begin_ts: int, txn_id: int, overlay: list[bytes]) -> Database:
        opened.append((begin_ts, len(overlay)))
        return backing.open(list(overlay))

    executor = Executor(open_database, cursor_key=b"a key of sixteen or more bytes")
    executor.load(Load(code="v1", modules=modules_of(APP), analyse=True, now_ms=1, seed=bytes(32)))
    calls = [call(1, None), call(2, 5), call(3, 7), call(4, None)]
    reply = executor.run(
        Run(code="v1", begin_ts=9, txn_id=0, overlay=[], calls=calls),
        lambda syscall: (_ for _ in ()).throw(AssertionError(syscall)),
    )
    assert isinstance(reply, Ran)
    assert [unpack(outcome.value) for outcome in reply.outcomes] == [1, 1, 1, 2]
    assert opened == [(9, 0), (5, 0), (7, 0), (9, 1)]
