"""The record of a committed mutation: what is needed to run it again, exactly.

Written in the same storage transaction as the mutation's writes; the fields are
those of `function-semantics.md` 13.6. The log keeps the bytes and knows nothing of
their shape, which carries its own version.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from typing import Final

import attrs
import msgspec

from engine.backend import Call
from engine.code import CodeVersion
from engine.guest_outcomes import GuestOutcome
from sandbox import determinism, frames, policy
from sandbox.meter import COST_VERSION
from storage import Timestamp

RECORD_VERSION: Final = 1
_RUNTIME: Final = (
    f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}"
    f"/policy-{policy.VERSION}-{policy.DIGEST[:12]}/costs-{COST_VERSION}"
)
_PLATFORM: Final = "-".join((platform.system(), platform.machine(), *platform.libc_ver())).lower()


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """See the module's text. Digests are the first 16 bytes of SHA-256."""

    version: int = RECORD_VERSION
    execution: str
    request: str
    attempt: int = 0
    function: str
    code: str
    runtime: str
    generator: int
    platform: str
    args: bytes  # packed
    identity: bytes  # packed claims
    caller: str
    seed: bytes
    now_ms: float
    begin_ts: int
    steps: int
    fuel: int = 0  # the budget, when it was not the default
    counters: dict[str, int]
    observed: list[str] = []
    reads_digest: bytes
    writes_digest: bytes
    result: bytes  # digest of the packed result
    log_lines: list[str] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


@attrs.frozen
class MutationRecord:
    """Everything known about a mutation when it is accepted, but for its timestamps."""

    call: Call
    frame: frames.Call
    guest: GuestOutcome
    code: CodeVersion
    attempt: int

    def pack(self, begin_ts: Timestamp, commit_ts: Timestamp) -> bytes:
        return _encoder.encode(
            Record(
                execution=self.frame.execution,
                request=self.call.request_id,
                attempt=self.attempt,
                function=self.call.path,
                code=self.code.hash,
                runtime=_RUNTIME,
                generator=determinism.VERSION,
                platform=_PLATFORM,
                args=self.frame.args,
                identity=self.frame.identity,
                caller=self.call.origin,
                seed=self.frame.seed,
                now_ms=self.frame.now_ms,
                begin_ts=begin_ts,
                steps=self.guest.steps,
                fuel=self.frame.fuel,
                counters=self.guest.counters,
                observed=sorted(self.guest.observed),
                reads_digest=_digest(self.guest.raw.reads),
                writes_digest=_digest(self.guest.raw.writes),
                result=_digest(self.guest.raw.value),
                log_lines=self.guest.raw.log_lines,
            )
        )


def unpack_record(data: bytes) -> Record:
    """Return the record in `data`. Raises `msgspec.DecodeError` for anything else."""
    return _decoder.decode(data)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]
