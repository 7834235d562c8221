"""Parsers of strangers' bytes, each with valid samples and the way in which it refuses what is not."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import attrs

from engine.guest_outcomes import read_outcome
from engine.jwks import InvalidKeySet, InvalidToken, peek, read_key_set
from engine.replay.capsule import MAGIC, Capsule, InvalidCapsule, gather
from engine.replay.recorded import RecordedCall
from engine.replay.source import Source
from engine.testing.blocking import BlockingTestServer
from fuzz.outsiders.serving import (
    APP,
    HANDSHAKE,
    frame,
    serving_http,
    serving_sockets,
    serving_websocket_bytes,
)
from sandbox.analysis import Analysis, FunctionSpec, InvalidAnalysis, decode_analysis, encode_analysis
from sandbox.cursors import CursorCodec, InvalidCursor, Journal
from sandbox.frames import (
    LENGTH,
    Outcome,
    Pong,
    ProtocolViolation,
    Ran,
    Refused,
    Syscall,
    decode_from_worker,
    encode,
)
from storage import (
    Commit,
    DocumentWrite,
    FieldReads,
    ReadSet,
    Store,
    StoreError,
    WriteSet,
)
from storage.places import Places, WritePlace
from storage.transfer import MANIFEST, export_store, import_store
from storage.verify import verify_folder
from tidewell import Schema, table, v
from tidewell.errors import InvalidId, InvalidValue, TidewellError
from tidewell.ids import decode_id, encode_id
from tidewell.protocol import MalformedMessage, decode_client_message
from tidewell.schema import to_json as schema_json
from tidewell.validator_json import to_json
from tidewell.values import Int64, from_wire, object_of, pack, parse_json, unpack, wire_json

Feed = Callable[[bytes], object]
EPOCH_NS: Final = 1_800_000_000 * 10**9
MEMORY: Final = Path("/dev/shm")


@attrs.frozen
class Target:
    """
    Attributes:
      samples: valid bytes.
      open: sets up what takes bytes, for as long as it is open.
    """

    name: str
    samples: Callable[[], Sequence[bytes]]
    open: Callable[[], AbstractContextManager[Feed]]


def _pure(name: str, feed: Feed, samples: Sequence[bytes]) -> Target:
    @contextmanager
    def nothing_to_open() -> Iterator[Feed]:
        yield feed

    return Target(name, lambda: samples, nothing_to_open)


# ---- values and names ------------------------------------------------------------------------

VALUES: Final[list[Any]] = [
    None,
    {"a": [1, 2.5, -0.0, True, "é\U0001f600"], "b": {"c": b"\x00\xff", "d": Int64(-(2**63))}},
    [[[]], {}, "", 2**53, float("inf"), float("nan")],
]
AN_ID: Final = encode_id(10001, bytes(range(16)))


def _json_values(data: bytes) -> None:
    try:
        value = from_wire(parse_json(data), "value")
    except InvalidValue:
        return
    assert pack(from_wire(parse_json(wire_json(value)), "value")) == pack(value)


def _packed_values(data: bytes) -> None:
    try:
        value = unpack(data)
    except InvalidValue:
        return
    assert pack(unpack(pack(value))) == pack(value), "what is packed again stays as it is"


def _ids(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        number, internal = decode_id(text)
    except InvalidId:
        return
    assert encode_id(number, internal) == text, "an id has one spelling"


_CURSORS: Final = CursorCodec(bytes(32))
_FINGERPRINT: Final = bytes(8)


def _cursors(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidCursor):
        position = _CURSORS.open(text, _FINGERPRINT)
        assert position == b"key", "a cursor cannot be made by a stranger"
    with suppress(InvalidCursor):
        journal = Journal(text)
        while journal.next_end() is not None:
            journal.add(None)


# ---- messages ------------------------------------------------------------------------------------

MESSAGES: Final[list[dict[str, Any]]] = [
    {"type": "Connect", "sessionId": "s", "connectionCount": 0, "lastCloseReason": None, "clientTs": 0},
    {
        "type": "ModifyQuerySet",
        "baseVersion": 0,
        "newVersion": 1,
        "modifications": [
            {"type": "Add", "queryId": 0, "udfPath": "shop:left", "args": [{"name": "tea"}]},
            {"type": "Remove", "queryId": 0},
        ],
    },
    {"type": "Mutation", "requestId": 0, "udfPath": "shop:take", "args": [{"name": "tea"}]},
    {"type": "Action", "requestId": 1, "udfPath": "shop:buy", "args": [{"name": "tea"}]},
    {"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "a.b.c"},
    {
        "type": "Authenticate",
        "baseVersion": 0,
        "tokenType": "Admin",
        "value": "k",
        "impersonating": {"subject": "x"},
    },
    {"type": "Event", "eventType": "ClientConnect", "event": {"a": 1}},
]


def _client_messages(data: bytes) -> None:
    with suppress(MalformedMessage):
        decode_client_message(data)


INTERNAL_ID: Final = bytes(range(16))
_BODY: Final = pack(object_of({"_creationTime": 1.5, "_id": encode_id(10001, INTERNAL_ID), "likes": 3}))
NAMED_FIELDS: Final = FieldReads(((frozenset({"likes", "text"}), ReadSet.of([(1, b"a", b"b")])),)).pack()
WHERE: Final = Places(
    ((1, b"a", b"b", ("shop.py", 3)),), (WritePlace(10001, INTERNAL_ID, ("likes",), ("shop.py", 4)),)
).pack()
READS: Final = ReadSet.of([(1, b"a", b"b"), (2, b"", b"\xff")]).pack()
WRITES: Final = WriteSet((DocumentWrite(10001, INTERNAL_ID, _BODY),), (("posts", 10001),)).pack()
OUTCOMES: Final = (
    Outcome(
        kind="value",
        value=pack([1]),
        log_lines=["[LOG] a"],
        reads=READS,
        writes=WRITES,
        observed=["time", "bucket:5"],
        steps=12,
        counters={"documents_read": 1},
    ),
    Outcome(kind="app_error", code="AppError", error="Uncaught ConvexError: x\n", error_data=pack({"a": 1})),
)
FRAMES: Final = (
    Ran(outcomes=list(OUTCOMES)),
    Refused(reason="unknown_code"),
    Syscall(number=1, operation="run_query", path="shop:left", args=pack({"name": "tea"})),
    Pong(),
)


def _frames(data: bytes) -> None:
    try:
        frame = decode_from_worker(data)
    except ProtocolViolation:
        return
    if isinstance(frame, Ran):
        for outcome in frame.outcomes:
            with suppress(TidewellError, StoreError):
                read_outcome(outcome)


def _read_sets(data: bytes) -> None:
    for kind in (ReadSet, WriteSet, FieldReads, Places):
        with suppress(InvalidValue, StoreError):
            kind.unpack(data)


ANALYSIS: Final = Analysis(
    functions=[
        FunctionSpec(
            module="shop",
            name="left",
            handler="left",
            kind="query",
            visibility="public",
            file="shop.py",
            line=3,
            args=to_json(v.object({"name": v.string(), "more": v.optional(v.array(v.id("posts")))})),
        )
    ],
    schema=schema_json(Schema(posts=table(likes=int).index("by_likes", "likes"))),
)


def _analyses(data: bytes) -> None:
    with suppress(InvalidAnalysis):
        decode_analysis(data)


TOKEN: Final = b"eyJhbGciOiJSUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJpIiwic3ViIjoicyJ9.c2ln"
KEYS: Final = json.dumps(
    {"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "a", "alg": "ES256"}]}
).encode()


def _tokens(data: bytes) -> None:
    with suppress(InvalidToken):
        peek(data.decode("utf-8", "replace"))
    with suppress(InvalidKeySet):
        read_key_set(data, ["RS256", "ES256", "EdDSA"])


# ---- import files ----------------------------------------------------------------------------------


@contextmanager
def _importing() -> Iterator[Feed]:
    """Takes the name of a file of an export, a newline, and what the file holds instead."""
    with tempfile.TemporaryDirectory(
        prefix="tidewell-fuzz-", dir=MEMORY if MEMORY.is_dir() else None
    ) as root:
        exported = Path(root) / "exported"
        _write_files(exported, _export())

        def feed(data: bytes) -> None:
            name, _, content = data.partition(b"\n")
            replaced = name.decode("ascii", "replace")
            _write_files(exported, {**_export(), replaced if replaced in _export() else MANIFEST: content})
            imported = Path(root) / "imported"
            try:
                with Store.open(imported, sync=False) as store:
                    import_store(store, exported, now_ns=EPOCH_NS)
            except StoreError:
                pass
            else:
                report = verify_folder(imported, lambda *_: None)
                assert report.is_sound, str(report)
            finally:
                shutil.rmtree(imported)

        yield feed


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@functools.cache
def _export() -> dict[str, bytes]:
    """Return the files of an export of a small store."""
    with tempfile.TemporaryDirectory(prefix="tidewell-fuzz-") as root:
        source, exported = Path(root) / "store", Path(root) / "exported"
        with Store.open(source, sync=False) as store:
            plan = store.catalog().plan()
            plan.create_table("posts", 10001)
            plan.add_index("posts", "by_likes", ("likes",))
            writes = (DocumentWrite(10001, INTERNAL_ID, _BODY),)
            store.commit([Commit(EPOCH_NS, catalog=plan.change(), private=((b"code/a", b"\x00"),))])
            store.commit([Commit(EPOCH_NS + 1, writes)])
        export_store(source, exported, private=[b"code/"])
        files = sorted(file for file in exported.rglob("*") if file.is_file())
        return {file.relative_to(exported).as_posix(): file.read_bytes() for file in files}


def _import_samples() -> list[bytes]:
    return [name.encode() + b"\n" + content for name, content in _export().items()]


# ---- capsules ------------------------------------------------------------------------------------------


def _capsules(data: bytes) -> None:
    """Take a capsule as it is, and what a capsule has inside; open one that can be opened."""
    for packed in (data, MAGIC + zlib.compress(data)):
        with suppress(InvalidCapsule), Capsule.unpack(packed).opened():
            pass


@functools.cache
def _capsule_samples() -> list[bytes]:
    with tempfile.TemporaryDirectory(prefix="tidewell-fuzz-") as folder:
        with BlockingTestServer(APP, folder=Path(folder)) as server:
            for name in ("tea", "milk"):
                server.mutation("shop:take", {"name": name})
        with Source.open(Path(folder)) as source:
            recorded = [call for call in source.recorded() if isinstance(call, RecordedCall)]
            packed = gather(source.store, recorded[-1], ReadSet()).pack()
    return [packed, zlib.decompress(packed[len(MAGIC) :])]


@contextmanager
def _opening_capsules() -> Iterator[Feed]:
    yield _capsules


# ---- all of them -------------------------------------------------------------------------------------


def _request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _call(path: str, **more: Any) -> bytes:
    return json.dumps({"path": path, "args": {"name": "tea"}, "format": "json", **more}).encode()


REQUESTS: Final = (
    _request("POST", "/api/query", _call("shop:left")),
    _request("POST", "/api/mutation", _call("shop:take"), "Authorization: Bearer a.b.c"),
    _request("POST", "/api/action", _call("shop:buy"), "Convex-Client: npm-1.48.0"),
    _request("POST", "/api/query_at_ts", _call("shop:left", ts="AAAAAAAAAAA=")),
    _request("GET", "/version"),
    _request("OPTIONS", "/api/query", b"", "Origin: http://x", "Access-Control-Request-Method: POST"),
    _request("POST", "/api/query", b"", "Transfer-Encoding: chunked") + b"5\r\n{}   \r\n0\r\n\r\n",
    HANDSHAKE,
)
_LINES: Final = [json.dumps(message).encode() for message in MESSAGES]
CONVERSATIONS: Final = (b"\n".join(_LINES[:3]), b"\n".join([_LINES[0], *_LINES[3:]]))
SOCKET_BYTES: Final = (frame(_LINES[0]) + frame(_LINES[1]), frame(b"", 9) + frame(b"x", 8))

TARGETS: Final = (
    _pure("json-values", _json_values, [wire_json(value) for value in VALUES]),
    _pure("packed-values", _packed_values, [pack(value) for value in VALUES]),
    _pure("ids", _ids, [AN_ID.encode()]),
    _pure("cursors", _cursors, [_CURSORS.seal(_FINGERPRINT, b"key").encode(), b"abc.def."]),
    _pure("client-messages", _client_messages, _LINES),
    _pure("worker-frames", _frames, [encode(each)[LENGTH.size :] for each in FRAMES]),
    _pure("read-and-write-sets", _read_sets, [READS, WRITES, NAMED_FIELDS, WHERE]),
    _pure("analyses", _analyses, [encode_analysis(ANALYSIS)]),
    _pure("tokens", _tokens, [TOKEN, KEYS]),
    Target("capsules", _capsule_samples, _opening_capsules),
    Target("imports", _import_samples, _importing),
    Target("http", lambda: REQUESTS, serving_http),
    Target("sockets", lambda: CONVERSATIONS, serving_sockets),
    Target("websocket-bytes", lambda: SOCKET_BYTES, serving_websocket_bytes),
)
