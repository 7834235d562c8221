"""Builds of the worker with a bug each, to see whether replays notice. Entries of the pool.

Each is the real worker with one thing swapped before it confines itself, so that the program
itself needs no switch for a bug it does not have.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

import sandbox.sets
from engine.guest import GuestStore, serve_guest
from sandbox.executor import Executor
from sandbox.transaction import PlacedDatabase
from sandbox.zygote import Serve
from storage.commit_log import read_rows


def serve_leaked_clock(argument: str) -> Serve:
    """Guests see the machine's clock."""
    run: Any = Executor._run_call

    def run_leaking(self: Executor, app: Any, frame: Any, call: Any, *rest: Any) -> Any:
        return run(self, app, frame, msgspec.structs.replace(call, now_ms=time.time() * 1000), *rest)

    _swap(Executor, "_run_call", run_leaking)
    return serve_guest(argument)


def serve_leaked_set_order(argument: str) -> Serve:
    """Iterating over a set shows the order of the interpreter's hashes."""

    def iterate(self: Any) -> Iterator[Any]:
        return iter(set(self._items))

    for kind in (sandbox.sets.Set, sandbox.sets.FrozenSet):
        _swap(kind, "__iter__", iterate)
    return serve_guest(argument)


def serve_wrong_snapshot(argument: str) -> Serve:
    """A snapshot shows one commit too many."""
    begin: Any = GuestStore.begin

    def begin_late(self: Any, begin_ts: int, txn_id: int, overlay: Sequence[bytes]) -> PlacedDatabase:
        self._reader.refresh(txn_id)
        with self._reader._environment as view:
            later = next(read_rows(view, begin_ts, view.state.head), None)
        database: PlacedDatabase = begin(self, begin_ts if later is None else later[0], txn_id, overlay)
        return database

    _swap(GuestStore, "begin", begin_late)
    return serve_guest(argument)


def _swap(owner: type, name: str, value: object) -> None:
    setattr(owner, name, value)
