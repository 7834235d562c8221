"""What is asked of a trace, and what it says: plain data, with a cap on everything.

A trace is of one run of one call. It is made of *stops*, numbered from 1: a line
about to run, a function entered, left, paused or resumed, an exception raised. The
same call has the same stops every time, so a trace need not hold all of them: it
holds a *window*, and another window comes from another run. That bounds what a
worker keeps and what a debugger receives, however long the run is.

Invariants:

* stops are numbered without gaps from `first`, and there are `total` in the run;
* `opening` is the stack of calls before the first of them, outermost first, and
  together with the changes of the stops gives the state at each of them;
* a worker's trace is as hostile as everything else a worker says. `decode_trace`
  takes exact types and bounded lengths alone; texts may still hold any character.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

STOPS_MAX: Final = 20_000  # in one window
STOP_BYTES_MAX: Final = 4 * 2**20  # all of them together, packed
TOUCHES_MAX: Final = 1_000  # the latest ones up to the end of the window
TOUCH_BYTES_MAX: Final = 2**20
TEXT_MAX: Final = 240  # characters of a value, unless more are asked for
TEXT_CAP: Final = 16_384
NAME_MAX: Final = 100  # characters of a name; guests may spell longer ones
VARIABLES_MAX: Final = 64  # of one call; how many more there are is said
COSTS_MAX: Final = 500  # lines with what they cost, the costliest first
BREAKS_MAX: Final = 100
TRACE_BYTES_MAX: Final = 8 * 2**20

MORE: Final = "…"  # stands in the place of a name for the variables beyond the cap

StopKind = Literal[
    "line",  # the line is about to run
    "call",  # a function is entered
    "resume",  # a generator goes on
    "yield",  # a generator pauses; `text` is what it yields
    "return",  # `text` is the value
    "raise",  # `text` is the exception, raised in this call or passed on to it
    "leave",  # the call ends by an exception
]

ENTERS: Final = frozenset({"call", "resume"})
LEAVES: Final = frozenset({"return", "yield", "leave"})

_Name = Annotated[str, Meta(max_length=NAME_MAX + 1)]
_File = Annotated[str, Meta(max_length=1_024)]
_Text = Annotated[str, Meta(max_length=TEXT_CAP + 64)]
_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Variables = Annotated[list[tuple[_Name, _Text | None]], Meta(max_length=4 * VARIABLES_MAX)]


class Request(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What to record of a call while it runs.

    Args:
      first, last: the window, both included.
      text_max: characters of each value.
      imports: follow the bodies of modules as well, which run for every call.
      pivot: `found_before` and `found_after` are looked for on both sides of it.
      lines: (file, line) to look for.
      documents: ids or names of tables whose writes to look for.
      depth: look for stops at which no more calls than so many are under way; 0 does not.
    """

    first: Annotated[int, Meta(ge=1)] = 1
    last: Annotated[int, Meta(ge=0)] = STOPS_MAX
    text_max: Annotated[int, Meta(ge=1, le=TEXT_CAP)] = TEXT_MAX
    imports: bool = False
    pivot: int = 0
    lines: Annotated[list[tuple[str, int]], Meta(max_length=BREAKS_MAX)] = []
    documents: Annotated[list[str], Meta(max_length=BREAKS_MAX)] = []
    depth: Annotated[int, Meta(ge=0)] = 0


class Routine(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """One call of a function that a stop belongs to."""

    id: _Count
    name: _Name  # as its author calls it: `like`, `like.rank`, `lambda`
    file: _File
    line: _Count  # of its `def`


class Opened(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A call that is under way when the window begins."""

    routine: _Count
    line: _Count
    variables: _Variables


class Stop(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    kind: StopKind
    routine: _Count
    line: _Count
    steps: _Count  # spent so far by the whole call
    logged: _Count  # lines in the log so far
    changes: _Variables  # since the last stop of the same routine; None for a name that is gone
    text: _Text | None = None


class Touch(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Something done to the documents."""

    stop: _Count  # during which it happened
    kind: Literal["read", "missing", "count", "insert", "replace", "delete", "undo"]
    table: _Count  # its number; 0 where there is none
    name: _Name  # of the table, as far as the call itself has said it
    document: _Name  # its id; empty for a count
    text: _Text  # the document read or written; how many, for `count` and `undo`


class Cost(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What one line took in the whole run: exactly, unlike the samples of the meter."""

    file: _File
    line: _Count
    times: _Count
    steps: _Count


class Trace(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    total: _Count
    first: _Count
    cut: Literal["", "window", "bytes"]  # why it ends before the run does
    fault: Annotated[str, Meta(max_length=1_000)] = ""  # the recorder gave up, with everything it had
    opening: Annotated[list[Opened], Meta(max_length=4_096)]
    routines: Annotated[list[Routine], Meta(max_length=STOPS_MAX + 4_096)]
    stops: Annotated[list[Stop], Meta(max_length=STOPS_MAX)]
    touches: Annotated[list[Touch], Meta(max_length=TOUCHES_MAX)]
    touches_before: _Count  # the first of `touches`, left out because of the cap
    reads: _Count  # documents, in the whole run
    writes: _Count
    costs: Annotated[list[Cost], Meta(max_length=COSTS_MAX)]
    found_before: _Count = 0  # the nearest stops that were looked for, 0 for none
    found_after: _Count = 0


class InvalidTrace(ValueError):
    """A worker sent what no honest recorder makes."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Trace)


def encode_row(row: Opened | Routine | Stop | Touch) -> bytes:
    return _encoder.encode(row)


def join_rows(rows: list[bytes]) -> msgspec.Raw:
    """Return the array of rows that were encoded one by one."""
    return msgspec.Raw(b"\xdd" + len(rows).to_bytes(4, "big") + b"".join(rows))


def encode_parts(parts: dict[str, object]) -> bytes:
    """Encode the fields of a `Trace`, those made with `join_rows` as they are."""
    return _encoder.encode(parts)


def decode_trace(data: bytes) -> Trace:
    """Return the trace in `data`, which an untrusted process has sent. Raises `InvalidTrace`."""
    if len(data) > TRACE_BYTES_MAX:
        raise InvalidTrace(f"a trace of {len(data)} bytes, at most {TRACE_BYTES_MAX}")
    try:
        trace: Trace = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidTrace(f"malformed trace: {error}") from None
    known = {routine.id for routine in trace.routines}
    named = {row.routine for row in trace.opening} | {stop.routine for stop in trace.stops}
    if not named <= known:
        raise InvalidTrace("a stop of a call that is not listed")
    if trace.stops and not 1 <= trace.first <= trace.first + len(trace.stops) - 1 <= trace.total:
        raise InvalidTrace("stops outside of the run")
    depth = len(trace.opening)
    for stop in trace.stops:
        depth += stop.kind in ENTERS
        if depth < 1:
            raise InvalidTrace("a stop outside of every call")
        depth -= stop.kind in LEAVES
    return trace
