"""Runs an app through the executor, the way a worker does, over a database of the test's choice."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from sandbox.analysis import Analysis, decode_analysis
from sandbox.executor import Executor
from sandbox.frames import Call, Load, Loaded, LoadFailed, Module, Outcome, Ran, Run, Syscall, SyscallReply
from sandbox.transaction import Database
from tidewell.schema import Schema
from tidewell.values import Value, normalize, object_of, pack, unpack

from .memory_database import MemoryBacking

NOW_MS = 1_800_000_000_000.25


def modules_of(files: Mapping[str, str]) -> list[Module]:
    return [Module(path=path, source=textwrap.dedent(text).encode()) for path, text in files.items()]


class CallFailed(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(f"{outcome.kind} {outcome.code}: {outcome.error}")
        self.outcome = outcome


class Backing(Protocol):
    """Where the documents are."""

    def prepare(self, schema: Schema) -> None: ...
    def open(self, overlay: list[bytes]) -> Database: ...
    def commit(self, writes: bytes) -> None: ...


@attrs.define
class GuestApp:
    """One deployment in miniature: an executor, its code, and documents that mutations commit to."""

    files: Mapping[str, str]
    backing: Backing = attrs.field(factory=MemoryBacking)
    now_ms: float = NOW_MS
    elapsed_ms: float = 0  # how long the engine takes to answer a syscall
    syscalls: list[Syscall] = attrs.field(factory=list)
    analysis: Analysis = attrs.field(init=False)
    executor: Executor = attrs.field(init=False)
    _calls: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.executor = Executor(self._open, cursor_key=b"a key of sixteen or more bytes")
        reply = self.push(self.files)
        assert isinstance(reply, Loaded), reply
        self.analysis = decode_analysis(reply.analysis)
        schema = self.analysis.read_schema()
        if schema is not None:
            self.backing.prepare(schema)

    def push(self, files: Mapping[str, str]) -> Loaded | LoadFailed:
        return self.executor.load(
            Load(code="v1", modules=modules_of(files), analyse=True, now_ms=int(self.now_ms), seed=bytes(32))
        )

    def _open(self, begin_ts: int, txn_id: int, overlay: list[bytes]) -> Database:
        return self.backing.open(list(overlay))

    # ---- calls ---------------------------------------------------------------------

    def call(self, kind: Any, path: str, args: Mapping[str, Any] | None = None, **options: Any) -> Call:
        self._calls += 1
        options.setdefault("seed", self._calls.to_bytes(32, "big"))
        options.setdefault("now_ms", self.now_ms)
        identity = options.pop("identity", None)
        return Call(
            execution=f"e{self._calls}",
            kind=kind,
            path=path,
            args=pack(normalize(dict(args or {}))),
            identity=pack(normalize(identity)),
            **options,
        )

    def outcomes(
        self, *calls: Call, overlay: list[bytes] | None = None, production: bool = False
    ) -> list[Outcome]:
        frame = Run(
            code="v1", begin_ts=1, txn_id=1, overlay=overlay or [], calls=list(calls), production=production
        )
        reply = self.executor.run(frame, self.answer)
        assert isinstance(reply, Ran), reply
        return reply.outcomes

    def outcome(self, kind: Any, path: str, args: Mapping[str, Any] | None = None, **options: Any) -> Outcome:
        """Run one call and, if it is a mutation that succeeded, commit it."""
        (outcome,) = self.outcomes(self.call(kind, path, args, **options))
        if outcome.writes:
            self.backing.commit(outcome.writes)
        return outcome

    def query(self, path: str, /, **args: Any) -> Value:
        return self._value(self.outcome("query", path, args))

    def mutate(self, path: str, /, **args: Any) -> Value:
        return self._value(self.outcome("mutation", path, args))

    def act(self, path: str, /, **args: Any) -> Value:
        return self._value(self.outcome("action", path, args))

    def _value(self, outcome: Outcome) -> Value:
        if outcome.kind != "value":
            raise CallFailed(outcome)
        return unpack(outcome.value)

    def answer(self, syscall: Syscall) -> SyscallReply:
        """Answer an action like the engine does: a transaction of its own for each call."""
        self.syscalls.append(syscall)
        kind = syscall.operation.removeprefix("run_")
        executor = Executor(self._open, cursor_key=b"a key of sixteen or more bytes")
        before, self.executor = self.executor, executor
        try:
            self.push(self.files)
            outcome = self.outcome(
                kind, syscall.path, unpack(syscall.args), internal=True, seed=os.urandom(32)
            )
        finally:
            self.executor = before
        later = self.now_ms + self.elapsed_ms
        if outcome.kind == "value":
            return SyscallReply(number=syscall.number, ok=True, value=outcome.value, now_ms=later)
        told = {"kind": outcome.code, "message": outcome.error, "path": syscall.path}
        if outcome.error_data is not None:
            told["data"] = unpack(outcome.error_data)
        return SyscallReply(number=syscall.number, ok=False, value=pack(object_of(told)), now_ms=later)
