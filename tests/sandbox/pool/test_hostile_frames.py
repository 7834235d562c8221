"""What a worker may send: everything else costs its life, and the engine nothing."""

from __future__ import annotations

import os
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from harness import ENTRIES, run_frame
from hypothesis import given
from hypothesis import strategies as st

from sandbox.frames import (
    FRAME_BYTES_MAX,
    LENGTH,
    Broken,
    FromWorker,
    Loaded,
    Outcome,
    Ping,
    Pong,
    ProtocolViolation,
    Ran,
    Ready,
    Refused,
    Syscall,
    decode_from_worker,
    encode,
)
from sandbox.pool import WorkerLost, WorkerPool
from sandbox.pool.exchange import check_reply, check_syscall
from sandbox.pool.process import WorkerProcess
from sandbox.pool.wire import Wire
from tidewell.values import pack


def frame(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def message(**fields: Any) -> bytes:
    return frame(msgspec.msgpack.encode(fields))


def ran(**fields: Any) -> bytes:
    return message(type="ran", outcomes=[{"kind": "value", "value": pack(1), **fields}])


def syscall(number: int) -> Syscall:
    return Syscall(number=number, operation="run_query", path="a:b", args=pack(None))


GOOD = encode(Ran(outcomes=[Outcome(kind="value", value=pack(1))]))

# Bytes that native code sends in place of a reply to one call.
HOSTILE: dict[str, bytes] = {
    "nonsense": b"nonsense",
    "empty frame": frame(b""),
    "huge length": struct.pack(">I", 2**32 - 1) + b"x",
    "length just over the cap": LENGTH.pack(FRAME_BYTES_MAX + 1),
    "no map": frame(msgspec.msgpack.encode([1, 2])),
    "no type": message(outcomes=[]),
    "unknown type": message(type="shutdown"),
    "type is no text": message(type=7, outcomes=[]),
    "a frame of the engine": encode(Ping()),
    "ready again": encode(Ready(layers={}, notes={}, txn_id=0)),
    "pong": encode(Pong()),
    "loaded": encode(Loaded(code="c", analysis=b"")),
    "no outcome": message(type="ran", outcomes=[]),
    "two outcomes": message(type="ran", outcomes=[{"kind": "value", "value": pack(1)}] * 2),
    "unknown field": ran(extra=1),
    "unknown field of the frame": message(type="ran", outcomes=[], extra=1),
    "unknown kind": ran(kind="great"),
    "unknown reason": message(type="refused", reason="tired"),
    "value of no value": ran(kind="function"),
    "no value of a value": ran(value=b""),
    "value as text": ran(value="text"),
    "value as a number": ran(value=3),
    "steps as text": ran(steps="3"),
    "steps as a float": ran(steps=3.0),
    "steps below zero": ran(steps=-1),
    "steps beyond counting": ran(steps=2**60),
    "steps as a flag": ran(steps=True),
    "counter below zero": ran(counters={"bytes_read": -1}),
    "counter name as a number": ran(counters={1: 1}),
    "too many counters": ran(counters={str(number): 1 for number in range(300)}),
    "too many log lines": ran(log_lines=["x"] * 2_000),
    "log line too long": ran(log_lines=["x" * 20_000]),
    "log line as bytes": ran(log_lines=[b"x"]),
    "error too long": ran(kind="function", value=b"", error="x" * 300_000),
    "write set too large": ran(writes=bytes(41 * 2**20)),
    "read set too large": ran(reads=bytes(21 * 2**20)),
    "value too large": ran(value=bytes(21 * 2**20)),
    "text that is not UTF-8": frame(
        GOOD[LENGTH.size :].replace(msgspec.msgpack.encode("value"), b"\xa5\xff\xfe\xfdue", 1)
    ),
    "unpaired surrogate": frame(
        msgspec.msgpack.encode({"type": "ran", "outcomes": [{"kind": "function", "error": "abc"}]}).replace(
            b"\xa3abc", b"\xa3\xed\xa0\x80"
        )
    ),
    "deep nesting": frame(b"\x91" * 100_000 + b"\x00"),
    "endless array": frame(b"\xdd\xff\xff\xff\xff"),
    "endless text": frame(b"\xdb\xff\xff\xff\xff"),
    "extension": frame(b"\xc7\x01\x05\x00"),
    "timestamp": frame(msgspec.msgpack.encode({"type": "ran"})[:-3] + b"\xd6\xff\x00\x00\x00\x00"),
    "bytes after the body": frame(GOOD[LENGTH.size :] + b"\x00"),
    "two replies": GOOD + GOOD,
    "a reply and a piece": GOOD + b"\x00",
    "syscall that is not expected": encode(
        Syscall(number=1, operation="run_query", path="a:b", args=pack(None))
    ),
    "syscall of another number": encode(
        Syscall(number=7, operation="run_query", path="a:b", args=pack(None))
    ),
}


@asynccontextmanager
async def native_pool(**settings: Any) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(entry="native_entry:serve_native", import_paths=(ENTRIES,), size=1, **settings)
    with trio.fail_after(60):
        async with pool.running():
            yield pool


async def outcome_of(pool: WorkerPool, payload: str, args: Any) -> str:
    async with pool.lease() as worker:
        try:
            await worker.request(run_frame(payload, args), wall_s=30.0, cpu_s=10.0)
        except WorkerLost as lost:
            return lost.kind
        return "answered"


async def test_hostile_frames_cost_the_worker_and_nothing_else() -> None:
    async with native_pool() as pool:
        for name, data in HOSTILE.items():
            kind = await outcome_of(pool, "write_raw_and_wait", data)
            # A worker told to write a huge frame may run out of its own memory before all of it is out.
            own_end = {"memory"} if len(data) > 2**20 else set()
            assert kind in {"protocol"} | own_end, (name, kind)
            assert await outcome_of(pool, "facts", None) == "answered", name


async def test_reply_in_pieces_is_a_reply() -> None:
    async with native_pool() as pool:
        assert await outcome_of(pool, "write_raw_and_wait", GOOD) == "answered"


async def drip(data: bytes, piece: int) -> FromWorker | ProtocolViolation:
    """Receive `data` in pieces, each waited for by itself; return the frame or the violation."""
    ours, its = socket.socketpair()
    ours.setblocking(False)
    with ours, its:
        wire = Wire(WorkerProcess(1, ours, -1, -1, 300))

        async def send() -> None:
            for start in range(0, len(data), piece):
                its.send(data[start : start + piece])
                await trio.testing.wait_all_tasks_blocked()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            try:
                received: FromWorker | ProtocolViolation = await wire.receive()
            except ProtocolViolation as violation:
                received = violation
            nursery.cancel_scope.cancel()
    return received


async def test_reply_byte_after_byte_is_cut_off() -> None:
    received = await drip(ran(log_lines=["x" * 200]), piece=1)
    assert isinstance(received, ProtocolViolation)
    assert "pieces" in str(received)


async def test_reply_in_pieces_as_the_kernel_cuts_them_is_taken() -> None:
    assert isinstance(await drip(ran(value=pack("x" * 200_000)), piece=4_096), Ran)


async def test_frame_that_ends_early_is_a_crash() -> None:
    async with native_pool() as pool:
        for size in (1, 3, 4, 5, len(GOOD) - 1):
            assert await outcome_of(pool, "write_raw_and_end", GOOD[:size]) == "crash"
        assert await outcome_of(pool, "facts", None) == "answered"


async def test_reply_repeated_later_is_noticed_before_the_next_request() -> None:
    """The payload's own frame answers the call, and what the loop sends then comes unasked."""
    async with native_pool() as pool:
        async with pool.lease() as worker:
            reply = await worker.request(run_frame("write_raw_and_take_time", GOOD))
            assert isinstance(reply, Ran)
            await trio.lowlevel.wait_readable(worker.process.channel)
            with pytest.raises(WorkerLost) as lost:
                await worker.request(run_frame("facts"))
        assert lost.value.kind == "protocol"
        assert await outcome_of(pool, "facts", None) == "answered"


async def test_flood_takes_no_more_memory_than_one_frame() -> None:
    async with native_pool() as pool:
        before = peak_bytes()
        assert await outcome_of(pool, "flood", None) in ("protocol", "cpu", "wall", "memory")
        assert peak_bytes() - before < 4 * FRAME_BYTES_MAX
        assert await outcome_of(pool, "facts", None) == "answered"


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    "body",
    [
        b"\x82\xa4type\xa3ran\xa8outcomes\xdd\x03\x00\x00\x00" + b"\x80" * 0x300_0000,
        b"\x82\xa4type\xa3ran\xa8outcomes\x91\x81\xa9log_lines\xdd\x03\x00\x00\x00" + b"\xa0" * 0x300_0000,
        b"\x82\xa4type\xa5ready\xa6layers\xdf\x01\x00\x00\x00" + b"\xa1a\xc2" * 0x100_0000,
        b"\x82\xa4type\xa3ran\xa5other\xdd\x03\x00\x00\x00" + b"\x90" * 0x300_0000,
    ],
    ids=["outcomes", "log lines", "layers", "unknown field"],
)
def test_frame_of_many_tiny_things_makes_nothing_of_them(body: bytes) -> None:
    """48 MiB of one-byte objects would be gigabytes of Python's."""
    before = peak_bytes()
    with pytest.raises(ProtocolViolation):
        decode_from_worker(body)
    assert peak_bytes() - before < 2**20


async def test_announced_length_alone_takes_no_memory() -> None:
    async with native_pool() as pool:
        before = peak_bytes()
        for _ in range(3):
            data = LENGTH.pack(FRAME_BYTES_MAX)
            assert await outcome_of(pool, "write_raw_and_end", data) == "crash"
        assert peak_bytes() - before < FRAME_BYTES_MAX // 4


async def test_descriptors_cannot_be_smuggled_into_the_engine() -> None:
    """The worker cannot attach any; what is attached on the channel anyway is dropped by the kernel."""
    ours, its = socket.socketpair()
    with ours, its:
        count = len(os.listdir("/proc/self/fd"))
        socket.send_fds(its, [GOOD], [its.fileno(), its.fileno()])
        assert ours.recv(4096) == GOOD
        assert len(os.listdir("/proc/self/fd")) == count


# ---- the decoder alone ---------------------------------------------------------------


@given(st.binary(max_size=200))
def test_decoder_takes_any_bytes(body: bytes) -> None:
    try:
        decoded = decode_from_worker(body)
    except ProtocolViolation:
        return
    assert isinstance(decoded, Ran | Ready | Refused | Pong | Loaded | Syscall | Broken)


@given(st.integers(0, 2**32))
def test_decoder_takes_mutated_frames(seed: int) -> None:
    dice = random.Random(seed)
    body = bytearray(
        encode(
            Ran(
                outcomes=[
                    Outcome(
                        kind="value",
                        value=pack({"a": [1, "b"]}),
                        log_lines=["one", "two"],
                        counters={"documents_read": 3},
                        profile=[("a.py", 1, 2)],
                    )
                ]
            )
        )[LENGTH.size :]
    )
    for _ in range(dice.randint(1, 6)):
        body[dice.randrange(len(body))] = dice.randrange(256)
    try:
        reply = decode_from_worker(bytes(body))
        check_reply(run_frame("a"), reply)
    except ProtocolViolation:
        return
    assert isinstance(reply, Ran | Refused)


def test_syscall_is_only_part_of_a_run() -> None:
    asked = syscall(1)
    check_syscall(run_frame("a"), asked, 1)
    with pytest.raises(ProtocolViolation):
        check_syscall(run_frame("a"), asked, 2)
    with pytest.raises(ProtocolViolation):
        check_syscall(Ping(), asked, 1)


def test_reply_must_fit_its_request() -> None:
    check_reply(Ping(), Pong())
    check_reply(run_frame("a"), Refused(reason="stale_snapshot"))
    for reply in (Pong(), Loaded(code="c", analysis=b""), Ready(layers={}, notes={}, txn_id=0)):
        with pytest.raises(ProtocolViolation):
            check_reply(run_frame("a"), reply)
