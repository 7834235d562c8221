"""From what a worker says of a call to what the engine may use.

A worker's bytes are hostile. Everything in an outcome that is not plain text or a
number is unpacked strictly here, once; what does not unpack condemns the worker,
and its call ends like that of a worker that died.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

from engine.backend import (
    ABSENT,
    Absent,
    ActionOutcome,
    Call,
    Failure,
    Identity,
    MutationOutcome,
    QueryOutcome,
)
from sandbox import frames
from storage import NO_FIELD_READS, FieldReads, ReadSet, Timestamp, WriteSet
from tidewell.errors import InvalidValue
from tidewell.ids import USER_TABLE_FIRST
from tidewell.values import Value, pack, unpack, wire_json

_BUCKET: Final = "bucket:"
_BUCKET_DIGITS_MAX: Final = 9  # some 30 years
_ERROR_CODES: Final = {
    "app_error": "AppError",
    "fuel": "OutOfFuel",
    "depth": "CallDepth",
    "memory": "OutOfMemory",
    "compile": "Compile",
    "function": "Developer",
}


@attrs.frozen
class GuestOutcome:
    """One call as it ended, everything checked."""

    value: Value
    value_json: bytes
    log_lines: tuple[str, ...]
    failure: Failure | None
    reads: ReadSet
    fields: FieldReads  # read besides, some fields of each document
    writes: WriteSet
    journal: str | None
    observed: frozenset[str]
    steps: int
    counters: dict[str, int]
    profile: tuple[tuple[str, int, int], ...]
    raw: frames.Outcome  # as it came, for digests

    @property
    def bucket_sizes_s(self) -> list[int]:
        """The sizes of the time buckets asked for, in seconds."""
        return [_bucket_size(flag) for flag in self.observed if _is_bucket(flag)]

    def failed_with(self, message: str, code: str = "System") -> GuestOutcome:
        """Return the outcome of the same call when its result could not stand."""
        failure = Failure(message, kind=code)
        return attrs.evolve(self, value=None, value_json=b"null", failure=failure, writes=WriteSet())

    def as_query(self, ts: Timestamp) -> QueryOutcome:
        digest = hashlib.sha256(self.value_json)
        for line in self.log_lines:
            digest.update(b"\0log" + line.encode())
        if self.failure is not None:
            digest.update(b"\0failure" + self.failure.message.encode())
            if self.failure.data is not ABSENT:
                digest.update(b"\0data" + pack(self.failure.data))
        return QueryOutcome(
            ts, self.value, self.value_json, self.log_lines, self.journal, self.failure, digest.digest()
        )

    def as_mutation(self, ts: Timestamp) -> MutationOutcome:
        return MutationOutcome(ts, self.value, self.value_json, self.log_lines, self.failure)

    def as_action(self) -> ActionOutcome:
        return ActionOutcome(self.value, self.value_json, self.log_lines, self.failure)


def read_outcome(outcome: frames.Outcome) -> GuestOutcome:
    """Check and unpack `outcome`.

    Raises:
      InvalidValue: the worker is not honest.
    """
    for flag in filter(_is_bucket, outcome.observed):
        if _bucket_size(flag) < 1:
            raise InvalidValue("observed", f"the flag {flag!r}")
    failure: Failure | None = None
    value: Value = None
    if outcome.kind == "value":
        value = unpack(outcome.value)
    else:
        data: Value | Absent = ABSENT
        if outcome.kind == "app_error":
            data = None if outcome.error_data is None else unpack(outcome.error_data)
        failure = Failure(
            f"{outcome.error.rstrip()}\n", data=data, kind=outcome.code or _ERROR_CODES[outcome.kind]
        )
    return GuestOutcome(
        value=value,
        value_json=b"null" if failure is not None else wire_json(value),
        log_lines=tuple(outcome.log_lines),
        failure=failure,
        reads=ReadSet.unpack(outcome.reads) if outcome.reads else ReadSet(),
        fields=FieldReads.unpack(outcome.fields) if outcome.fields else NO_FIELD_READS,
        writes=_read_writes(outcome.writes) if failure is None and outcome.writes else WriteSet(),
        journal=outcome.journal,
        observed=frozenset(outcome.observed),
        steps=outcome.steps,
        counters=dict(outcome.counters),
        profile=tuple(outcome.profile),
        raw=outcome,
    )


def _is_bucket(flag: str) -> bool:
    return flag.startswith(_BUCKET)


def _bucket_size(flag: str) -> int:
    """Return the seconds of a time bucket, 0 for what is none."""
    digits = flag.removeprefix(_BUCKET)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _BUCKET_DIGITS_MAX else 0


def _read_writes(data: bytes) -> WriteSet:
    """Unpack a write set. Guests write to tables of the app alone, whatever a worker says (W4)."""
    writes = WriteSet.unpack(data)
    for write in writes.documents:
        # Which system table a row may be removed from, the runner knows.
        if write.table < USER_TABLE_FIRST and write.body is not None:
            raise InvalidValue("write_set", f"a write to the system table {write.table}")
    for name, number in writes.new_tables:
        if name.startswith("_") or number < USER_TABLE_FIRST:
            raise InvalidValue("write_set", f"a new system table {name!r}")
    return writes


def pack_claims(identity: Identity) -> bytes:
    claims = identity.claims
    return pack(None if claims is None else dict(sorted(claims.items())))


def may_call_internal(call: Call) -> bool:
    """Whether the caller reaches internal functions: other functions, the command line and admins do (F7)."""
    return call.identity.admin or call.origin in ("internal", "cli", "request")
