"""The record of a mutation: what is needed to run it again, exactly, and to compare.

Written in the same storage transaction as the mutation's writes; the fields are
those of `function-semantics.md` 13.6, docs/records.md tells them to users. The log keeps the
bytes and knows nothing of their shape, which carries its own version. What is the same for all
calls between two upgrades is named, not repeated (`conditions.py`), and so are the code and the
claims of the caller (`kept_claims.py`).

The stored form is an array: the version first, then the fields in a fixed order. A later version
adds fields at the end, so that a reader of today's version finds what it knows. What it says in
another way than before, a reader that does not know of it cannot take for something else: version
3 leaves `identity` empty where it names the claims and `result` where that is of None, and has a
number in `nested` for what the record has already. `schedules` is room that is kept: functions
cannot schedule anything yet, and the scheduler will fill it.

Budget: at most 1.5 times the packed arguments and 300 bytes for a small mutation.
`bench/record_sizes.py` prints the figure, `tests/engine/test_records.py` holds it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import attrs
import msgspec

from engine.backend import Call
from engine.code import CodeVersion
from engine.conditions import CURRENT_NAME
from engine.guest_outcomes import GuestOutcome
from engine.kept_claims import KnownClaims, claims_name
from engine.stored_nested import StoredNested, lengthen, shorten
from sandbox import frames
from sandbox.frames import Nested
from sandbox.limits import DEFAULTS
from storage import Timestamp
from tidewell.values import pack

RECORD_VERSION: Final = 3
RECORD_VERSION_MIN: Final = 2  # that can be read
_COUNTERS: Final = tuple(sorted(DEFAULTS))  # the names of the counters, as the stored form orders them


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """The bytes of a record, field by field. Only ever longer."""

    version: int
    execution: bytes
    parent: bytes
    parent_call: int
    request: bytes
    attempt: int
    function: str
    code: bytes
    conditions: bytes
    args: bytes
    identity: bytes
    caller: str
    flags: int
    seed: bytes
    now_ms: float
    begin_ts: int
    duration_us: int
    steps: int
    limits: dict[str, int]
    counters: list[int]
    observed: list[str]
    reads_digest: bytes
    writes_digest: bytes
    result: bytes
    log_lines: list[str]
    nested: list[StoredNested]
    nested_count: int
    trail: bytes
    error: str
    schedules: list[bytes] = []
    claims: bytes = b""


_INTERNAL, _ADMIN, _PRODUCTION = 1, 2, 4

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


@attrs.frozen(kw_only=True)
class Record:
    """See the module's text. Digests are the first 16 bytes of SHA-256."""

    execution: str  # id, 32 hex digits
    parent: str = ""  # execution of the action that called it; empty for other callers
    parent_call: int = 0  # which of the action's calls it was, from 1
    request: str
    attempt: int = 0  # how often it had been overtaken before
    function: str
    code: str  # hash of the version
    conditions: bytes  # name of the conditions, see `conditions.py`
    args: bytes  # packed
    identity: bytes  # packed claims; empty if they were not looked up
    caller: str  # "socket", "http", "internal" or "cli"
    internal: bool  # it could reach internal functions
    admin: bool  # the caller was an admin, acting as `identity`
    production: bool  # errors were told without source text
    seed: bytes
    now_ms: float
    begin_ts: Timestamp  # its snapshot
    duration_us: int  # as its worker took, messages included; the one field that is no fact about the call
    steps: int
    limits: dict[str, int]  # those that were not the ones of `conditions`
    counters: dict[str, int]
    observed: list[str]
    reads_digest: bytes
    writes_digest: bytes
    result: bytes  # digest of the packed result
    log_lines: list[str]
    nested: list[Nested]  # calls of other functions, in the order they began
    nested_count: int  # how many there were; `nested` has the first `frames.NESTED_MAX`
    trail: bytes  # see `sandbox/trail.py`
    error: str = ""  # what the caller was told, of an attempt that failed; empty in the log

    def pack(self, *, names_claims: bool = False) -> bytes:
        """Return the stored form.

        Args:
          names_claims: leave the claims to a row of their own, which whoever says this must write.
        """
        claims = claims_name(self.identity) if names_claims else b""
        flags = _INTERNAL * self.internal | _ADMIN * self.admin | _PRODUCTION * self.production
        return _encoder.encode(
            _Stored(
                version=RECORD_VERSION,
                execution=bytes.fromhex(self.execution),
                parent=bytes.fromhex(self.parent),
                parent_call=self.parent_call,
                request=bytes.fromhex(self.request),
                attempt=self.attempt,
                function=self.function,
                code=bytes.fromhex(self.code),
                conditions=self.conditions,
                args=self.args,
                identity=b"" if claims else self.identity,
                caller=self.caller,
                flags=flags,
                seed=self.seed,
                now_ms=self.now_ms,
                begin_ts=self.begin_ts,
                duration_us=self.duration_us,
                steps=self.steps,
                limits=self.limits,
                counters=[self.counters.get(name, 0) for name in _COUNTERS],
                observed=self.observed,
                reads_digest=self.reads_digest,
                writes_digest=self.writes_digest,
                result=b"" if self.result == _DIGEST_OF_NONE else self.result,
                log_lines=self.log_lines,
                nested=shorten(self.nested, (self.function, self.args, self.result)),
                nested_count=self.nested_count,
                trail=self.trail,
                error=self.error,
                claims=claims,
            )
        )


def unpack_record(data: bytes, known: KnownClaims | None = None) -> Record:
    """Return the record in `data`.

    Args:
      known: of the store that the record is from. Whoever does not ask who called can do without.

    Raises:
      msgspec.DecodeError: it is none, or one of a version that this program does not know.
      LostClaims: it names claims that the store does not have.
    """
    stored = _decoder.decode(data)
    if stored.version < RECORD_VERSION_MIN:
        raise msgspec.DecodeError(
            f"a record of version {stored.version}, at least {RECORD_VERSION_MIN} is known"
        )
    result = stored.result or _DIGEST_OF_NONE
    return Record(
        execution=stored.execution.hex(),
        parent=stored.parent.hex(),
        parent_call=stored.parent_call,
        request=stored.request.hex(),
        attempt=stored.attempt,
        function=stored.function,
        code=stored.code.hex(),
        conditions=stored.conditions,
        args=stored.args,
        identity=known.packed(stored.claims) if known is not None and stored.claims else stored.identity,
        caller=stored.caller,
        internal=bool(stored.flags & _INTERNAL),
        admin=bool(stored.flags & _ADMIN),
        production=bool(stored.flags & _PRODUCTION),
        seed=stored.seed,
        now_ms=stored.now_ms,
        begin_ts=stored.begin_ts,
        duration_us=stored.duration_us,
        steps=stored.steps,
        limits=stored.limits,
        counters=dict(zip(_COUNTERS, stored.counters, strict=False)),
        observed=stored.observed,
        reads_digest=stored.reads_digest,
        writes_digest=stored.writes_digest,
        result=result,
        log_lines=stored.log_lines,
        nested=lengthen(stored.nested, (stored.function, stored.args, result)),
        nested_count=stored.nested_count,
        trail=stored.trail,
        error=stored.error,
    )


@attrs.frozen
class MutationRecord:
    """Everything known about a mutation when it is accepted, but for its timestamps."""

    call: Call
    frame: frames.Call
    guest: GuestOutcome
    code: CodeVersion
    attempt: int
    duration_us: int
    production: bool

    def pack(self, begin_ts: Timestamp, commit_ts: Timestamp) -> bytes:
        return self.at(begin_ts).pack(names_claims=True)

    def at(self, begin_ts: Timestamp) -> Record:
        """Return the record of the call as run on the snapshot at `begin_ts`."""
        return Record(
            execution=self.frame.execution,
            parent=self.call.parent,
            parent_call=self.call.parent_call,
            request=self.call.request_id,
            attempt=self.attempt,
            function=self.call.path,
            code=self.code.hash,
            conditions=CURRENT_NAME,
            args=self.frame.args,
            identity=self.frame.identity,
            caller=self.call.origin,
            internal=self.frame.internal,
            admin=self.call.identity.admin,
            production=self.production,
            seed=self.frame.seed,
            now_ms=self.frame.now_ms,
            begin_ts=begin_ts,
            duration_us=self.duration_us,
            limits={**self.frame.limits, "steps": self.frame.fuel} if self.frame.fuel else self.frame.limits,
            **_outcome(self.guest),
        )


def with_outcome(record: Record, guest: GuestOutcome) -> Record:
    """Return `record` as it would be if its call had ended like `guest`."""
    return attrs.evolve(record, **_outcome(guest))


def _outcome(guest: GuestOutcome) -> dict[str, Any]:
    """Return the fields of a record that say what a call did."""
    raw, failure = guest.raw, guest.failure
    return {
        "steps": guest.steps,
        "counters": guest.counters,
        "observed": sorted(guest.observed),
        "reads_digest": digest(raw.reads),
        "writes_digest": digest(raw.writes),
        "result": digest(raw.value),
        "log_lines": raw.log_lines,
        "nested": raw.nested,
        "nested_count": raw.nested_count,
        "trail": raw.trail,
        "error": "" if failure is None else failure.message,
    }


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


_DIGEST_OF_NONE: Final = digest(pack(None))  # what most mutations return
