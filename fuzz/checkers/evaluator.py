"""Runs functions of an app one at a time over a store at rest: the meaning concurrency must not change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

from fuzz.history import Failed
from sandbox.executor import Executor
from sandbox.frames import Call, Load, Loaded, LoadFailed, Module, Outcome, Ran, Run, Syscall, SyscallReply
from sandbox.guest import prepare_process
from sandbox.transaction import OpenedDatabase
from storage import Snapshot, Store, Transaction
from tidewell.values import normalize, pack, unpack, wire_json

_CODE: Final = "evaluated"
_SEED: Final = bytes(32)


@attrs.define(eq=False)
class Evaluator:
    store: Store
    cursor_key: bytes
    _executor: Executor = attrs.field(init=False)
    _snapshot: Snapshot | None = None

    @classmethod
    def load(
        cls, store: Store, cursor_key: bytes, modules: list[Module], now_ms: int, seed: bytes
    ) -> Evaluator:
        """Load the app as it was when it was pushed: with the clock and the seed of its import phase."""
        prepare_process()
        evaluator = cls(store, cursor_key)
        evaluator._executor = Executor(evaluator._begin, cursor_key=cursor_key)
        frame = Load(code=_CODE, modules=modules, analyse=True, now_ms=now_ms, seed=seed)
        reply: Loaded | LoadFailed = evaluator._executor.load(frame)
        assert isinstance(reply, Loaded), reply
        return evaluator

    def _begin(self, begin_ts: int, txn_id: int, overlay: list[bytes]) -> OpenedDatabase:
        assert not overlay
        if self._snapshot is not None:
            self._snapshot.close()
        self._snapshot = self.store.snapshot(begin_ts)
        return Transaction(self._snapshot)

    def close(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()
            self._snapshot = None

    def run(self, call: Call, ts: int) -> Outcome:
        frame = Run(code=_CODE, begin_ts=ts, txn_id=0, overlay=[], calls=[call], production=False)
        reply = self._executor.run(frame, _no_syscalls)
        assert isinstance(reply, Ran), reply
        return reply.outcomes[0]

    def query(self, path: str, args: Mapping[str, Any], ts: int) -> Any:
        """Return what a query gives on the snapshot at `ts`, as JSON has it, or `Failed`."""
        outcome = self.run(
            Call(
                execution="0",
                kind="query",
                path=path,
                args=pack(normalize(dict(args))),
                identity=pack(None),
                seed=_SEED,
                now_ms=0.0,
            ),
            ts,
        )
        if outcome.kind != "value":
            return Failed(outcome.error)
        return json.loads(wire_json(unpack(outcome.value)))


def _no_syscalls(syscall: Syscall) -> SyscallReply:
    raise AssertionError(f"a transaction asked for {syscall}")
