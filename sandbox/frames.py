"""Frames between the engine and its workers: what each may say, and how it is cut.

A frame is a 4-byte big-endian length and one MessagePack map with its `type`.
The engine decodes what a worker sends as hostile bytes: exact types, no unknown
fields, a cap on the length before a byte of the body is read, and nothing that
executes. Values travel as the packed bytes of `tidewell.values.pack`, which the
receiver checks when it unpacks them; read sets and write sets are packed by
`storage` and are opaque here.

The types below carry the caps on what a worker may send. They lie above what the
executor's own limits let through, so that only a forged frame meets them.

One request is outstanding per worker. Between `Run` and its `Ran`, the worker of
an action may ask any number of `Syscall`s, each answered by one `SyscallReply`.
"""

from __future__ import annotations

import struct
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from sandbox.tracing import shape as tracing

FRAME_BYTES_MAX: Final = 64 * 2**20  # 16 MiB of arguments or result, twice that in writes and logs, and room
CALLS_MAX: Final = 256  # in one `Run`
LENGTH: Final = struct.Struct(">I")

Kind = Literal["query", "mutation", "action"]
OutcomeKind = Literal[
    "value",  # returned
    "app_error",  # raised AppError; `error_data` holds its data
    "function",  # any other exception of the guest
    "compile",
    "fuel",
    "depth",
    "memory",
]


Name = Annotated[str, Meta(max_length=1_024)]  # a path, a code, a flag
Text = Annotated[str, Meta(max_length=256 * 1024)]  # an error, a journal
LogLines = Annotated[list[Annotated[str, Meta(max_length=16 * 1024)]], Meta(max_length=1_024)]
Packed = Annotated[bytes, Meta(max_length=20 * 2**20)]  # arguments, a result, a read set
PackedWrites = Annotated[bytes, Meta(max_length=40 * 2**20)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Position = Annotated[int, Meta(ge=0, le=2**31)]  # of a line or a column
TraceBytes = Annotated[bytes, Meta(max_length=tracing.TRACE_BYTES_MAX)]
Digest = Annotated[bytes, Meta(max_length=16)]

PLACES_BYTES_MAX: Final = 256 * 1024
NESTED_MAX: Final = 256  # nested calls of one call that are told one by one
NESTED_ARGS_MAX: Final = 256  # bytes of arguments told of a nested call; of more, only the digest
NESTED_ERROR_MAX: Final = 200
TRAIL_BYTES_MAX: Final = 1_024
TRAIL_TEXT_MAX: Final = 1_024


class ProtocolViolation(Exception):
    """A worker sent what no honest worker sends. It is killed, and the event is logged."""


class _Frame(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    pass


# ---- engine to worker -----------------------------------------------------------


class Module(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    path: str  # "admin/reports.py", as the user's messages name it
    source: bytes  # the file as it is; the engine looks at nothing but its size


class Load(_Frame, tag="load"):
    """Compile a version of the app. With `analyse`, also run its import phase and describe it."""

    code: str  # the version's hash
    modules: list[Module]
    analyse: bool
    now_ms: int  # the clock and the seed of the import phase (7.3), kept with the version
    seed: bytes
    analysis: bytes = b""  # what `Loaded` said of this version when it was pushed; empty with `analyse`


class Call(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    execution: str  # execution id
    kind: Kind
    path: str  # canonical "dir/module:function"
    args: bytes  # packed dict
    identity: bytes  # packed dict of claims, or packed None
    seed: bytes  # 32 bytes
    now_ms: float  # the frozen clock, with its fraction: ctx.now() is its floor, _creationTime starts from it
    journal: str | None = None  # end positions of the pages of an earlier run (14.3 of the sync protocol)
    internal: bool = False  # the caller may reach internal functions
    fuel: int = 0  # budget in steps; 0 is the default of the cost table
    request: bytes = b""  # packed dict for ctx.meta.request(), mutations and actions
    env: bytes = b""  # packed dict of the environment, actions only (others read rows)
    # What the counters may reach, by the names of function-semantics 19.2; the default where one is missing.
    limits: dict[str, int] = {}
    # A snapshot of its own, for calls that have nothing to do with each other: without the frame's overlay
    # and without the writes of the calls before it.
    begin_ts: int | None = None
    in_words: bool = False  # tell what each event of the trail was, for whoever looks for a difference
    trace: tracing.Request | None = None  # record the run, stop by stop, for a debugger


class Run(_Frame, tag="run"):
    """Run calls one after another, each in a fresh namespace, mutations seeing those before them."""

    code: str
    begin_ts: int
    txn_id: int  # LMDB transaction that the engine has pinned; the worker's must not be older
    overlay: list[bytes]  # packed write sets accepted and not yet durable, oldest first
    calls: list[Call]
    production: bool = False  # omit source text in traces
    places: bool = False  # say which source line each read and each write came from


class SyscallReply(_Frame, tag="syscall_reply"):
    number: int
    ok: bool
    value: bytes  # packed value, or packed {"kind", "path", "message", "data"?} of the failure
    now_ms: float = 0.0  # the engine's clock: an action sees the time pass from call to call


class Ping(_Frame, tag="ping"):
    """Answered by `Pong`: the worker is there, and between requests."""


# ---- worker to engine -----------------------------------------------------------


class Ready(_Frame, tag="ready"):
    layers: Annotated[dict[Name, bool], Meta(max_length=64)]  # confinement layer: in force
    notes: Annotated[dict[Name, Text], Meta(max_length=64)]  # why a layer is not in force
    txn_id: int


class Loaded(_Frame, tag="loaded"):
    code: Name
    analysis: Packed  # packed dict: functions, schema, notes; checked by the engine before use


class SourceError(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    path: Name
    line: Position  # 0 when the whole file is meant
    column: Position
    message: Text


class LoadFailed(_Frame, tag="load_failed"):
    code: Name
    errors: Annotated[list[SourceError], Meta(min_length=1, max_length=10_000)]


class Nested(msgspec.Struct, array_like=True, frozen=True):
    """A call of another function inside a mutation, in the order they began. Digests are SHA-256, cut."""

    depth: Position  # 2 for what the function at the top calls
    path: Name
    args: Annotated[bytes, Meta(max_length=NESTED_ARGS_MAX)]  # packed; empty when longer than that
    args_digest: Digest  # empty when the arguments are here
    result: Digest  # of the packed result; empty when it failed
    error: Annotated[str, Meta(max_length=NESTED_ERROR_MAX)]  # what the caller saw; empty when it returned
    event: Count  # how many reads, writes and calls came before it


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """One event of a trail in words."""

    operation: Name
    text: Annotated[str, Meta(max_length=TRAIL_TEXT_MAX)]
    file: Name
    line: Position


class Outcome(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    kind: OutcomeKind
    value: Packed = b""  # packed result, when kind is "value"
    code: Name = ""  # error code of function-semantics 20, E5
    error: Text = ""  # all lines after the request line: "Uncaught ...", then the frames
    error_data: Packed | None = None  # packed data of an AppError
    log_lines: LogLines = []
    journal: Text | None = None
    reads: Packed = b""  # packed read set
    fields: Packed = b""  # packed reads besides it, of queries that looked at some fields of documents only
    writes: PackedWrites = b""  # packed write set; empty when nothing was written or the call failed
    # Packed lines that reads and writes came from, when asked for and not too many.
    places: Annotated[bytes, Meta(max_length=PLACES_BYTES_MAX)] = b""
    observed: Annotated[
        list[Name], Meta(max_length=256)
    ] = []  # of "identity", "time", "random", "bucket:<seconds>"
    steps: Count = 0
    counters: Annotated[dict[Name, Count], Meta(max_length=256)] = {}  # keys of function-semantics 19.2
    # (file, line, steps), the costliest first, on a limit error
    profile: Annotated[list[tuple[Name, Position, Count]], Meta(max_length=256)] = []
    # Of mutations: the nested calls, the first `NESTED_MAX` of them, and how many there were.
    nested: Annotated[list[Nested], Meta(max_length=NESTED_MAX)] = []
    nested_count: Count = 0
    trail: Annotated[bytes, Meta(max_length=TRAIL_BYTES_MAX)] = b""  # see `sandbox/trail.py`
    seen: Annotated[list[Seen], Meta(max_length=4_096)] = []  # the trail in words, if that was asked for
    trace: TraceBytes = b""  # what `Call.trace` asked for; `sandbox.tracing.shape` reads it


class Ran(_Frame, tag="ran"):
    # One per call, in order. The codec looks at the length of an array before it makes anything of
    # it, so that a frame of millions of tiny outcomes costs the engine nothing.
    outcomes: Annotated[list[Outcome], Meta(max_length=CALLS_MAX)]


class Refused(_Frame, tag="refused"):
    """The worker cannot serve this request and says why; it serves the next one."""

    reason: Literal["map_outgrown", "stale_snapshot", "out_of_retention", "unknown_code"]


class Syscall(_Frame, tag="syscall"):
    number: Count  # counts up within the call, from 1
    # "stream" is a piece of an HTTP action's answer: its head, then bytes (`sandbox/http_actions.py`).
    # "files" is an operation of `ctx.storage`, which `path` names (`engine/files.py`).
    # "fetch" is an exchange with the outside (`sandbox/fetching.py`), "parallel" several of these at once.
    operation: Literal["run_query", "run_mutation", "run_action", "stream", "files", "fetch", "parallel"]
    path: Name
    args: Packed
    log_lines: LogLines = []  # printed since the last frame, so that a long action's log is live


class Pong(_Frame, tag="pong"):
    pass  # no figures: the engine asks the kernel about a worker's memory, not the worker


class Broken(_Frame, tag="broken"):
    """The last frame of a worker that cannot go on: a layer is missing, or our own code failed in it."""

    where: Literal["database", "confinement", "request"]
    message: Text


ToWorker = Load | Run | SyscallReply | Ping
FromWorker = Ready | Loaded | LoadFailed | Ran | Refused | Syscall | Pong | Broken

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode(frame: ToWorker | FromWorker) -> bytes:
    """Return the bytes of a frame, length included."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolViolation(f"a frame of {len(body)} bytes, at most {FRAME_BYTES_MAX}")
    return LENGTH.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Return the length that a frame's first 4 bytes announce. Raises `ProtocolViolation` over the cap."""
    (length,) = LENGTH.unpack(header)
    if length > FRAME_BYTES_MAX:
        raise ProtocolViolation(f"a frame of {length} bytes, at most {FRAME_BYTES_MAX}")
    return int(length)


def decode_from_worker(body: bytes | bytearray) -> FromWorker:
    """Return the frame in `body`, which an untrusted process has sent."""
    try:
        frame: FromWorker = _from_worker.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolViolation(f"malformed frame: {error}") from None
    return frame


def decode_to_worker(body: bytes | bytearray) -> ToWorker:
    frame: ToWorker = _to_worker.decode(body)
    return frame
