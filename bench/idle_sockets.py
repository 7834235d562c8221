"""What an idle subscriber costs: memory and processor time per socket, in a real server.

    python bench/idle_sockets.py [SOCKETS] [IDLE_SECONDS]

Starts `tidewell dev` on loopback, opens 10,000 sockets that subscribe to one query, leaves them alone for
a while (they answer the server's probes and nothing else), and commits once at the end. The server's
figures are of its engine process alone. Every socket has to be there from the first transition to the
last, or the run fails.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import trio

SOCKETS = 10_000
IDLE_S = 40  # long enough for each socket to be sent heartbeats and a probe
DEADLINE_S = 240
OPENING_AT_ONCE = 100
APP = """
from tidewell import mutation, query


@query
def count(ctx) -> int:
    row = ctx.db.query("counts").first()
    return row["value"] if row else 0


@mutation
def add(ctx) -> None:
    row = ctx.db.query("counts").first()
    if row:
        ctx.db.patch(row["_id"], {"value": row["value"] + 1})
    else:
        ctx.db.insert("counts", {"value": 1})
"""
UPGRADE = (
    b"GET /api/1.48.0/sync HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
TEXT, PING, PONG = 1, 9, 10


def frame(kind: int, payload: bytes) -> bytes:
    """A client's frame. Its mask is zero, so that the payload stays as it is."""
    assert len(payload) < 65536
    size = len(payload)
    length = bytes([128 | size]) if size < 126 else bytes([128 | 126]) + size.to_bytes(2, "big")
    return bytes([128 | kind]) + length + bytes(4) + payload


def message(**fields: object) -> bytes:
    return frame(TEXT, json.dumps(fields).encode())


def greeting(number: int) -> bytes:
    query = {"type": "Add", "queryId": 0, "udfPath": "counts:count", "args": [{}]}
    return message(
        type="Connect", sessionId=f"bench-{number}", connectionCount=0, lastCloseReason=None
    ) + message(type="ModifyQuerySet", baseVersion=0, newVersion=1, modifications=[query])


async def frames(stream: trio.SocketStream) -> AsyncIterator[tuple[int, bytes]]:
    """The server's frames, from the first one on."""
    held = b""
    while b"\r\n\r\n" not in held:
        held += await received(stream)
    head, _, held = held.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101"), head
    while True:
        size = held[1] if len(held) > 1 else 0
        start = 2 if size < 126 else 4
        if len(held) >= start:
            size = size if size < 126 else int.from_bytes(held[2:4], "big")
            if len(held) >= max(2, start + size) and len(held) > 1:
                yield held[0] & 15, held[start : start + size]
                held = held[start + size :]
                continue
        held += await received(stream)


async def received(stream: trio.SocketStream) -> bytes:
    data = bytes(await stream.receive_some(4096))
    assert data, "the server closed a socket"
    return data


@attrs.define(eq=False)
class Crowd:
    """All the clients, and the values they have been shown."""

    port: int
    shown: dict[float, int] = attrs.field(factory=dict)
    heartbeats: int = 0
    probes: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def until_shown(self, value: float, sockets: int) -> None:
        while self.shown.get(value, 0) < sockets:
            self._changed = trio.Event()
            await self._changed.wait()

    async def one(self, number: int, opening: trio.CapacityLimiter) -> None:
        async with opening:
            stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            await stream.send_all(UPGRADE + greeting(number))
            incoming = frames(stream)
            await self._take(stream, *await anext(incoming))
        async for kind, payload in incoming:
            await self._take(stream, kind, payload)

    async def _take(self, stream: trio.SocketStream, kind: int, payload: bytes) -> None:
        if kind == PING:
            self.probes += 1
            await stream.send_all(frame(PONG, payload))
            return
        assert kind == TEXT, (kind, payload)
        tree = json.loads(payload)
        if tree["type"] == "Ping":
            self.heartbeats += 1
            return
        assert tree["type"] == "Transition", tree
        for change in tree["modifications"]:
            self.shown[change["value"]] = self.shown.get(change["value"], 0) + 1
        self._changed.set()


@attrs.frozen
class Usage:
    memory: int  # bytes that no other process shares, and this one's part of the others
    cpu_s: float

    @classmethod
    def of(cls, pid: int) -> Usage:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        assert found is not None
        return cls(int(found[1]) * 1024, ticks / os.sysconf("SC_CLK_TCK"))


async def measure(pid: int, port: int, sockets: int, idle_s: float) -> None:
    crowd = Crowd(port)
    opening = trio.CapacityLimiter(OPENING_AT_ONCE)
    before, began = Usage.of(pid), time.monotonic()
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            for number in range(sockets):
                nursery.start_soon(crowd.one, number, opening)
            await crowd.until_shown(0.0, sockets)
            opened, now = Usage.of(pid), time.monotonic()
            print(f"{sockets:,} sockets, each subscribed to a query")
            print(f"  opened      {sockets / (now - began):8,.0f} per second")
            print(f"  memory      {(opened.memory - before.memory) / sockets / 1024:8.1f} KiB per socket")
            print(f"  before them {before.memory / 2**20:8.1f} MiB")

            await trio.sleep(idle_s)
            idle, passed = Usage.of(pid), time.monotonic() - now
            print(f"idle for {passed:.0f} s ({crowd.heartbeats:,} heartbeats, {crowd.probes:,} probes)")
            print(f"  processor   {(idle.cpu_s - opened.cpu_s) / passed * 100:8.1f} % of one core")
            print(f"  memory      {(idle.memory - before.memory) / sockets / 1024:8.1f} KiB per socket")

            committed = time.monotonic()
            nursery.start_soon(mutate, port)
            await crowd.until_shown(1.0, sockets)
            shown, now = Usage.of(pid), time.monotonic()
            print("one commit that all of them see")
            print(
                f"  shown to all after {now - committed:.2f} s, {shown.cpu_s - idle.cpu_s:.2f} s of processor"
            )
            nursery.cancel_scope.cancel()


async def mutate(port: int) -> None:
    body = b'{"path": "counts:add", "args": {}}'
    head = f"POST /api/mutation HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(head.encode() + body)
        answer = await received(stream)
        assert answer.startswith(b"HTTP/1.1 200"), answer


def main() -> None:
    sockets = int(sys.argv[1]) if len(sys.argv) > 1 else SOCKETS
    idle_s = float(sys.argv[2]) if len(sys.argv) > 2 else IDLE_S
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "functions"
        app.mkdir()
        (app / "counts.py").write_text(APP)
        command = [sys.executable, "-m", "engine", "dev", str(app), "--port", "0"]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            cwd=Path(__file__).parent.parent,
        ) as server:
            try:
                assert server.stdout is not None
                found = None
                while found is None:
                    found = re.search(r"serving .* at http://\S+:(\d+)", next(server.stdout))
                trio.run(measure, server.pid, int(found[1]), sockets, idle_s)
            finally:
                server.terminate()
                server.communicate()


main()
