"""A recorded mutation, ready to be run again: its code version, its call, its snapshot.

Start here to run a logged mutation for whatever purpose:

    with SharedStore.open(data / "store") as store:
        recorded = read_recorded(store, ts)
        recorded.code        the `CodeVersion` it ran; `code.load_frame()` loads it
        recorded.call        the `frames.Call` to put into a `frames.Run`, the same as then
        recorded.begin_ts    the snapshot to run it on; nothing lies over it, the overlay is empty
        recorded.production  goes into the `Run` too: it decides what error texts show

Run so in a worker, it reads, writes, logs and returns what it did, step for step. `evolve`
the call with `in_words=True` to have the trail told.

Whoever reads many commits keeps one `CodeVersions`, which decodes each version once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Protocol

import attrs
import msgspec

from engine.attempts import Attempt
from engine.code import CodeVersion
from engine.conditions import Conditions, read_conditions
from engine.kept_claims import KnownClaims
from engine.push import load_version
from engine.records import Record, unpack_record
from sandbox import frames
from storage import LogEntry, StoreError, Timestamp
from tidewell.values import pack

VERSIONS_KEPT: Final = 8  # decoded code versions; a log changes from one to the next and rarely back


class NoRecord(StoreError):
    """There is no mutation to run again at that timestamp."""


class Log(Protocol):
    """What is needed of a store: `storage.SharedStore` has it, and so has `storage.Store`."""

    @property
    def horizon(self) -> Timestamp: ...
    def log_entry(self, ts: Timestamp) -> LogEntry | None: ...
    def private_get(self, key: bytes) -> bytes | None: ...


@attrs.frozen
class RecordedCall:
    ts: Timestamp  # of the commit; 0 for an attempt that was not committed
    entry: LogEntry | None  # None for an attempt
    record: Record
    code: CodeVersion
    conditions: Conditions

    @property
    def begin_ts(self) -> Timestamp:
        return self.record.begin_ts

    @property
    def production(self) -> bool:
        return self.record.production

    @property
    def call(self) -> frames.Call:
        return call_of(self.record, self.conditions)


@attrs.define(eq=False)
class CodeVersions:
    """The code, the conditions and the claims that records name, each decoded once."""

    _log: Log
    claims: KnownClaims = attrs.field(init=False)
    _versions: OrderedDict[str, CodeVersion] = attrs.field(factory=OrderedDict, init=False)
    _conditions: dict[bytes, Conditions] = attrs.field(factory=dict, init=False)

    @claims.default
    def _claims_of_the_log(self) -> KnownClaims:
        return KnownClaims(self._log)

    def code(self, name: str) -> CodeVersion:
        """Raises `UnknownVersion`."""
        found = self._versions.get(name)
        if found is None:
            found = self._versions[name] = load_version(self._log, name)
            if len(self._versions) > VERSIONS_KEPT:
                self._versions.popitem(last=False)
        self._versions.move_to_end(name)
        return found

    def conditions(self, name: bytes) -> Conditions:
        """Raises `StoreError`."""
        if name not in self._conditions:
            self._conditions[name] = read_conditions(self._log, name)
        return self._conditions[name]

    def recorded(self, entry: LogEntry, record: Record) -> RecordedCall:
        return RecordedCall(
            entry.ts, entry, record, self.code(record.code), self.conditions(record.conditions)
        )


def read_recorded(log: Log, ts: Timestamp, versions: CodeVersions | None = None) -> RecordedCall:
    """Return the mutation that commit `ts` made.

    Raises:
      NoRecord: there is no such commit, its history is gone, or it is one of the engine's own.
      StoreError: the store cannot be read, or has lost the code or the claims.
    """
    entry = log.log_entry(ts)
    if entry is None:
        why = (
            f"history begins at {log.horizon}" if ts <= log.horizon else "`tidewell log` lists what there is"
        )
        raise NoRecord(f"there is no commit {ts}; {why}")
    if not entry.record:
        raise NoRecord(
            f"commit {ts} is no mutation but a push, housekeeping or an edit by hand, and has no call; "
            "`tidewell log` lists those that have one"
        )
    versions = versions or CodeVersions(log)
    try:
        record = unpack_record(entry.record, versions.claims)
    except msgspec.DecodeError as error:
        raise NoRecord(f"the record of commit {ts} cannot be read by this version: {error}") from None
    return versions.recorded(entry, record)


def read_attempt(log: Log, attempt: Attempt, versions: CodeVersions | None = None) -> RecordedCall:
    """Return an attempt that was not committed, ready to be run again."""
    known = versions or CodeVersions(log)
    record = attempt.record
    return RecordedCall(0, None, record, known.code(record.code), known.conditions(record.conditions))


def call_of(record: Record, conditions: Conditions) -> frames.Call:
    """Return the call of a record as its worker got it, under the limits that were in force."""
    limits = {**conditions.limits, **record.limits}
    fuel = limits.pop("steps")
    del limits["recursion"], limits["nested_calls"]  # fixed by the runtime, which the conditions name
    return frames.Call(
        execution=record.execution,
        kind="mutation",
        path=record.function,
        args=record.args,
        identity=record.identity,
        seed=record.seed,
        now_ms=record.now_ms,
        internal=record.internal,
        fuel=fuel,
        limits=limits,
        request=pack({"requestId": record.request}),
    )
