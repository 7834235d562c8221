"""Two accounts whose sum never changes, moved by some and watched by others, through lost
connections and a restart of the server: no client ever sees a broken sum, and time never
goes backwards for it. The seed is in the name of the test.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import wsproto

from tidewell.protocol import decode_ts, encode_ts

from ..engine.raw_socket import RawSocket, Served, running_server
from ..engine.session_driver import add, values
from .deployment import as_backend, running_deployment

WATCHERS = 12
MOVERS = 4
TRANSFERS = 25  # by each mover, in each half


@attrs.define
class Watcher:
    """Keeps what it has seen over all its sockets."""

    state: dict[int, float] = attrs.field(factory=dict)
    ts: int = 0
    transitions: int = 0
    connections: int = 0
    _heard: trio.Event = attrs.field(factory=trio.Event)

    async def reach(self, ts: int) -> None:
        """Wait until a transition has reached `ts`."""
        while self.ts < ts:
            self._heard = trio.Event()
            await self._heard.wait()

    async def watch(self, served: Served, chance: random.Random) -> None:
        """Watch until cancelled, over sockets that it drops now and then."""
        while True:
            try:
                await self._one_socket(served, chance.randrange(3, 15))
            except (trio.BrokenResourceError, OSError, wsproto.utilities.RemoteProtocolError):
                await trio.lowlevel.checkpoint()

    async def _one_socket(self, served: Served, transitions: int) -> None:
        socket = await served.open()
        self.connections += 1
        observed = {"maxObservedTimestamp": encode_ts(self.ts)} if self.ts else {}
        await socket.send(
            {"type": "Connect", "sessionId": "watcher", "connectionCount": self.connections - 1, **observed}
        )
        watched = [add(0, "accounts:balance", name="left"), add(1, "accounts:balance", name="right")]
        await socket.send(
            {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": watched}
        )
        self.state.clear()
        for _ in range(transitions):
            message = await socket.hear()
            if message["type"] == "Transition":
                self._take(message)
        await socket.abort()

    def _take(self, message: dict[str, Any]) -> None:
        ts = decode_ts(message["endVersion"]["ts"])
        assert ts >= self.ts, "time went backwards"
        self.ts = ts
        self.transitions += 1
        self.state.update(values(message))
        assert sum(self.state.values()) == 200, self.state
        self._heard.set()


async def move(served: Served, session: str, chance: random.Random) -> int:
    """Transfer one after the other; the last commit timestamp."""
    socket: RawSocket = await served.open()
    await socket.send({"type": "Connect", "sessionId": session, "connectionCount": 0})
    ts = 0
    for number in range(TRANSFERS):
        source, target = chance.sample(["left", "right"], 2)
        args = {"source": source, "target": target, "amount": chance.randrange(1, 20)}
        await socket.send(
            {"type": "Mutation", "requestId": number, "udfPath": "accounts:transfer", "args": [args]}
        )
        response = await socket.hear()
        while response["type"] != "MutationResponse":
            response = await socket.hear()
        assert response["success"], response
        assert decode_ts(response["ts"]) > ts, "a commit is not later than the one before"
        ts = decode_ts(response["ts"])
    return ts


async def move_all(served: Served, seed: str) -> list[int]:
    """Let all movers transfer at once; the last commit timestamp of each."""
    ends = []

    async def run(name: str) -> None:
        ends.append(await move(served, f"{seed}/{name}", random.Random(f"{seed}/{name}")))

    async with trio.open_nursery() as moving:
        for number in range(MOVERS):
            moving.start_soon(run, f"mover-{number}")
    return ends


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_client_sees_a_broken_sum_through_reconnects_and_a_restart(
    seed: int, tmp_path: Path
) -> None:
    watchers = [Watcher() for _ in range(WATCHERS)]
    latest = 0
    for half in range(2):  # the server is stopped and started again between the two
        async with (
            running_deployment(tmp_path) as deployment,
            running_server(as_backend(deployment)) as served,
            trio.open_nursery() as watching,
        ):
            assert deployment.head_ts >= latest, "a restart has lost commits"
            for number, watcher in enumerate(watchers):
                watching.start_soon(watcher.watch, served, random.Random(f"{seed}/{half}/{number}"))
            ends = await move_all(served, f"{seed}/{half}")
            assert min(ends) > latest, "a commit after the restart is older than one before it"
            latest = max(ends)
            with trio.fail_after(20):
                for watcher in watchers:
                    await watcher.reach(latest)
            watching.cancel_scope.cancel()
    assert all(watcher.transitions > 10 for watcher in watchers)
    assert all(watcher.connections > 2 for watcher in watchers)
