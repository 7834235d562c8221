"""What the engine takes for a trace: only what an honest recorder makes, however it is bent."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from sandbox.tracing.shape import (
    STOPS_MAX,
    TOUCHES_MAX,
    TRACE_BYTES_MAX,
    InvalidTrace,
    Request,
    Trace,
    decode_trace,
)

from ..guest_app import GuestApp

APP = {
    "posts.py": """
        from tidewell import mutation

        @mutation
        def add(ctx, n: int):
            for i in range(n):
                ctx.db.insert("posts", {"n": i})
            return n
    """
}


@pytest.fixture(scope="module")
def honest() -> bytes:
    app = GuestApp(APP)
    (outcome,) = app.outcomes(app.call("mutation", "posts:add", {"n": 3}, trace=Request()))
    return outcome.trace


def bent(honest: bytes, **changes: Any) -> bytes:
    fields: dict[str, Any] = msgspec.msgpack.decode(honest)
    fields.update(changes)
    return msgspec.msgpack.encode(fields)


def test_an_honest_trace_is_read(honest: bytes) -> None:
    trace = decode_trace(honest)
    assert isinstance(trace, Trace)
    assert (trace.total, len(trace.stops), len(trace.touches)) == (10, 10, 3)


STOP = ["line", 1, 1, 0, 0, [], None]


@pytest.mark.parametrize(
    "changes",
    [
        {"stops": [STOP] * (STOPS_MAX + 1)},
        {"touches": [[1, "read", 1, "", "", ""]] * (TOUCHES_MAX + 1)},
        {"stops": [["jump", *STOP[1:]]]},
        {"stops": [[*STOP[:1], 77, *STOP[2:]]]},
        {"stops": [[*STOP[:3], -1, *STOP[4:]]]},
        {"stops": [[*STOP[:5], [["n" * 200, "1"]], None]]},
        {"stops": [[*STOP[:5], [["n", "x" * 100_000]], None]]},
        {"stops": [[*STOP[:5], [["n", 1]], None]]},
        {"stops": [[*STOP, "more"]]},
        {"stops": [STOP]},
        {"stops": [["call", *STOP[1:]], ["leave", *STOP[1:]], STOP]},
        {"total": 3},
        {"first": 0},
        {"first": 2**60},
        {"routines": []},
        {"costs": [["posts.py", 1, 1, 1]] * 501},
        {"fault": "x" * 2_000},
        {"cut": "because"},
        {"more": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_dishonest_one_is_refused(honest: bytes, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidTrace):
        decode_trace(bent(honest, **changes))


def test_a_large_one_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(InvalidTrace, match="bytes"):
        decode_trace(b"\xc1" * (TRACE_BYTES_MAX + 1))


def test_random_damage_is_refused_or_read_and_nothing_else(honest: bytes) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    for _ in range(2_000):
        data = bytearray(honest)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            trace = decode_trace(
                bytes(data[: chance.randint(1, len(data))] if chance.random() < 0.2 else data)
            )
        except InvalidTrace:
            continue
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error
        assert len(trace.stops) <= STOPS_MAX
