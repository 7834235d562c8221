"""Real zygotes and workers for tests that need no pool: start, say, hear, see off. Blocking.

Tests import this by its name; `conftest.py` puts this folder on the path.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from sandbox import control
from sandbox.confinement.limits import Budgets
from sandbox.frames import (
    LENGTH,
    Call,
    FromWorker,
    Ping,
    Ran,
    Ready,
    Run,
    body_length,
    decode_from_worker,
    encode,
)
from sandbox.launch import Settings, start_zygote
from sandbox.pool.death import explain
from tidewell.values import pack, unpack

ENTRIES = str(Path(__file__).parent / "entries")
PATIENCE_S = 30.0  # an outer limit, so that the suite survives; nothing waits this long


def settings(entry: str, **changes: Any) -> Settings:
    return attrs.evolve(Settings(entry=entry, import_paths=(ENTRIES,)), **changes)


def run_frame(path: str, args: Any = None, *, count: int = 1) -> Run:
    call = Call(
        execution="1", kind="query", path=path, args=pack(args), identity=pack(None), seed=b"", now_ms=0
    )
    return Run(code="c", begin_ts=0, txn_id=0, overlay=[], calls=[call] * count)


@attrs.define
class RawWorker:
    """A worker with a blocking channel, as a zygote has forked it."""

    channel: socket.socket
    zygote: RawZygote
    serial: int

    def hear(self) -> FromWorker | None:
        """Return the next frame, None when the worker has ended."""
        header = self._take(LENGTH.size)
        if header is None:
            return None
        body = self._take(body_length(header))
        return None if body is None else decode_from_worker(body)

    def _take(self, count: int) -> bytes | None:
        taken = b""
        while len(taken) < count:
            try:
                piece = self.channel.recv(count - len(taken))
            except ConnectionResetError:
                return None
            if not piece:
                return None
            taken += piece
        return taken

    def ready(self) -> Ready:
        frame = self.hear()
        assert isinstance(frame, Ready), frame
        return frame

    def ask(self, frame: Run | Ping) -> FromWorker | None:
        self.channel.sendall(encode(frame))
        return self.hear()

    def value(self, path: str, args: Any = None) -> Any:
        """Return the value of one call, which must have one."""
        reply = self.ask(run_frame(path, args))
        assert isinstance(reply, Ran), (reply, self.end())
        return unpack(reply.outcomes[0].value)

    def end(self) -> str:
        """Wait for the end and return its kind; close the channel, which ends a healthy worker."""
        self.channel.close()
        status = self.zygote.status_of(self.serial)
        return explain(None, status, 0.0, 600).kind if status else "ordinary"


@attrs.define
class RawZygote:
    link: socket.socket
    statuses: dict[int, int] = attrs.field(factory=dict)
    last: int = 0

    def spawn(self, attempt: str = "") -> RawWorker:
        self.last += 1
        ours, its = socket.socketpair()
        ours.settimeout(PATIENCE_S)
        with its:
            packet = control.encode(control.Spawn(serial=self.last, attempt=attempt))
            socket.send_fds(self.link, [packet], [its.fileno()])
        return RawWorker(ours, self, self.last)

    def status_of(self, serial: int) -> int:
        while serial not in self.statuses:
            self.hear()
        return self.statuses.pop(serial)

    def hear(self) -> control.FromZygote:
        assert select.select([self.link], [], [], PATIENCE_S)[0], "the zygote says nothing"
        packet, descriptors, _, _ = socket.recv_fds(self.link, control.PACKET_BYTES_MAX, 1)
        for descriptor in descriptors:
            os.close(descriptor)
        message = control.decode_from_zygote(packet)
        if isinstance(message, control.Died):
            self.statuses[message.serial] = message.status
        return message


@contextmanager
def zygote_of(entry: str, **changes: Any) -> Iterator[RawZygote]:
    process, link = start_zygote(settings(entry, **changes))
    try:
        zygote = RawZygote(link)
        first = zygote.hear()
        assert isinstance(first, control.Warm), first
        yield zygote
    finally:
        link.close()
        process.wait(PATIENCE_S)


SMALL = Budgets(memory_bytes=32 * 2**20, cpu_life_s=600)
