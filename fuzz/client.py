"""A client: keeps a socket, repeats what was not answered, and notes all it sees.

It does what the official clients do (sync-protocol 7 and 8): one session id for its
life, requests numbered from zero, the whole query set and every unanswered mutation
again on each new socket, in order. It judges nothing but the form of messages;
what they say is left to the checkers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any, Final, Protocol

import attrs
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, wrap_client_stream

from engine.failures import request_id_of
from fuzz.history import Failed, History, Query, Request, Shown, Trace
from fuzz.network import Line
from tidewell.protocol import decode_ts, encode_ts

LOST: Final = "connection lost"
PATIENCE_S: Final = 60.0  # of silence, as npm's client has
RETRY_S: Final = 0.3  # mean pause before the next socket, doubled for each that came to nothing
RETRY_S_MAX: Final = 16.0


class Network(Protocol):
    def dial(self) -> Line | None:
        """Return a line to the server, or None when nobody answers."""


class ServerSilent(Exception):
    pass


@attrs.define(eq=False)
class SimulatedClient:
    name: str
    _network: Network
    _history: History
    _trace: Trace
    _random: Random
    observed_ts: int = 0  # the newest of a transition or an answer, as the protocol's section 8.3 counts it
    shown_ts: int = 0  # the newest of a transition
    shown: dict[int, Any] = attrs.field(factory=dict)  # results by query id, as the page would show them
    queries: dict[int, Query] = attrs.field(factory=dict)  # what it wants to watch
    line: Line | None = None
    sockets: int = 0
    is_connected: bool = False
    _requests: int = 0
    _fruitless: int = 0  # sockets since the last one that brought a transition
    _next_query: int = 0
    _query_version: int = 0
    _version: tuple[int, int, int] = (0, 0, 0)
    _unanswered: dict[int, Request] = attrs.field(factory=dict)
    _actions: dict[int, Request] = attrs.field(factory=dict)
    _changed: trio.Event = attrs.field(factory=trio.Event)
    _outbox: list[dict[str, Any]] = attrs.field(factory=list)
    _has_mail: trio.Event = attrs.field(factory=trio.Event)

    # ---- for workloads ---------------------------------------------------------------

    async def mutate(self, path: str, **args: Any) -> Request:
        """Send a mutation and wait for its answer, over as many sockets as it takes."""
        request = self.start(path, **args)
        await self.settled(request)
        return request

    def start(self, path: str, **args: Any) -> Request:
        """Send a mutation without waiting."""
        request = self._request(path, args)
        self._history.requests.append(request)
        self._unanswered[request.number] = request
        self._trace.note("invoke", request)
        self._send_request(request)
        return request

    async def act(self, path: str, **args: Any) -> Request:
        """Run an action; it fails if the socket ends first, and nobody knows what it has done."""
        request = self._request(path, args)
        self._history.actions.append(request)
        self._trace.note("act", request)
        if self.is_connected:
            self._actions[request.number] = request
            self._send_request(request, "Action")
        else:
            request.status, request.error = "failed", LOST
        await self.settled(request)
        return request

    def _request(self, path: str, args: dict[str, Any]) -> Request:
        number, self._requests = self._requests, self._requests + 1
        return Request(
            client=self.name,
            number=number,
            request_id=request_id_of(self.session_id, number),
            path=path,
            args=args,
            invoked=self._history.step(),
        )

    async def settled(self, request: Request) -> None:
        while request.status == "pending":
            await self._changed.wait()

    async def caught_up(self, request: Request) -> None:
        """Wait until what is shown includes the effect of an answered mutation."""
        await self.settled(request)
        while request.ts is not None and self.shown_ts < request.ts:
            await self._changed.wait()

    def watch(self, path: str, **args: Any) -> int:
        number, self._next_query = self._next_query, self._next_query + 1
        self.queries[number] = Query.of(path, args)
        self._modify(_add(number, self.queries[number]))
        return number

    def unwatch(self, number: int) -> None:
        del self.queries[number]
        self._modify({"type": "Remove", "queryId": number})

    @property
    def is_settled(self) -> bool:
        """Whether nothing is outstanding: requests answered, every query shown."""
        return self.is_connected and not self._unanswered and self.shown.keys() == self.queries.keys()

    @property
    def session_id(self) -> str:
        return f"session-of-{self.name}"

    # ---- the socket --------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a socket until cancelled."""
        while True:
            line = self._network.dial()
            if line is not None:
                self.line = line
                try:
                    await self._talk(line)
                except (
                    ConnectionClosed,
                    HandshakeError,
                    trio.BrokenResourceError,
                    trio.ClosedResourceError,
                ) as end:
                    reason = getattr(getattr(end, "reason", None), "reason", None)
                    self._trace.note("lost", self.name, type(end).__name__, reason)
                    self._history.count(f"socket ended: {reason or 'cut'}")
                except ServerSilent:
                    self._trace.note("silence", self.name)
                    self._history.count("socket ended: silence")
                finally:
                    self.is_connected = False
                    self._lose_actions()
                    line.cut()
            pause_s = min(RETRY_S * 2**self._fruitless, RETRY_S_MAX)
            self._fruitless += line is not None
            await trio.sleep(pause_s * self._random.expovariate(1))

    def _lose_actions(self) -> None:
        for request in self._actions.values():
            request.status, request.error = "failed", LOST
        self._actions.clear()
        self._notify()

    async def _talk(self, line: Line) -> None:
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(10) as handshake:
                stream: Any = line.client  # any stream will do, though trio-websocket names two kinds
                ws = await wrap_client_stream(nursery, stream, "simulated", "/api/1.48.0/sync")
            if handshake.cancelled_caught:
                failure = ServerSilent()
            else:
                try:
                    await self._converse(nursery, ws)
                except (ConnectionClosed, ServerSilent, trio.BrokenResourceError) as end:
                    failure = end
            nursery.cancel_scope.cancel()
        assert failure is not None
        raise failure

    async def _converse(self, nursery: trio.Nursery, ws: WebSocketConnection) -> None:
        self._greet()
        nursery.start_soon(self._write_all, ws)
        while True:
            with trio.move_on_after(PATIENCE_S) as patience:
                text = await ws.get_message()
            if patience.cancelled_caught:
                raise ServerSilent
            self._hear(json.loads(text))

    async def _write_all(self, ws: WebSocketConnection) -> None:
        try:
            while True:
                while self._outbox:
                    await ws.send_message(json.dumps(self._outbox.pop(0)))
                self._has_mail = trio.Event()
                await self._has_mail.wait()
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the reader notices as well

    def _greet(self) -> None:
        self._outbox.clear()
        self._version = (0, 0, 0)
        self.is_connected = True
        connect = {"type": "Connect", "sessionId": self.session_id, "connectionCount": self.sockets}
        if self.observed_ts:
            connect["maxObservedTimestamp"] = encode_ts(self.observed_ts)
        self.sockets += 1
        self._trace.note("connect", self.name, self.sockets)
        self._send(connect)
        self._query_version = 0
        self.shown = {}
        self._modify(*(_add(number, query) for number, query in self.queries.items()))
        for request in self._unanswered.values():
            self._send_request(request)

    def _send(self, message: dict[str, Any]) -> None:
        if self.is_connected:
            self._outbox.append(message)
            self._has_mail.set()

    def _modify(self, *changes: dict[str, Any]) -> None:
        if self.is_connected:
            base, self._query_version = self._query_version, self._query_version + 1
            self._send(
                {
                    "type": "ModifyQuerySet",
                    "baseVersion": base,
                    "newVersion": base + 1,
                    "modifications": list(changes),
                }
            )

    def _send_request(self, request: Request, kind: str = "Mutation") -> None:
        if self.is_connected:
            request.sockets.append(self.sockets)
        self._send(
            {
                "type": kind,
                "requestId": request.number,
                "udfPath": request.path,
                "args": [request.args],
            }
        )

    # ---- what it hears -----------------------------------------------------------------

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "Transition":
            self._hear_transition(message)
        elif kind == "MutationResponse":
            self._hear_response(message)
        elif kind == "ActionResponse":
            self._hear_action(message)
        elif kind != "Ping":
            self._history.complaints.append(f"{self.name} was sent {message}")
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _hear_response(self, message: Mapping[str, Any]) -> None:
        number, ok = message["requestId"], message["success"]
        ts = decode_ts(message["ts"]) if ok else None
        request = self._unanswered.pop(number, None)
        self._trace.note("answer", self.name, number, ok, message["result"], ts)
        if request is None:
            self._history.complaints.append(f"{self.name}: request {number} was answered twice on one socket")
            return
        request.answers.append((ok, message["result"], ts))
        request.answered = self._history.step()
        request.ts = ts
        if ts is not None:
            self.observed_ts = max(self.observed_ts, ts)
        if ok:
            request.status, request.value = "ok", message["result"]
        else:
            request.status, request.error = "failed", message["result"]

    def _hear_action(self, message: Mapping[str, Any]) -> None:
        number, ok = message["requestId"], message["success"]
        self._trace.note("action", self.name, number, ok, message["result"])
        request = self._actions.pop(number)
        request.status = "ok" if ok else "failed"
        request.value, request.error = (message["result"], "") if ok else (None, message["result"])

    def _hear_transition(self, message: Mapping[str, Any]) -> None:
        start, end = _version(message["startVersion"]), _version(message["endVersion"])
        for change in message["modifications"]:
            number = change["queryId"]
            if change["type"] == "QueryUpdated":
                self.shown[number] = change["value"]
            elif change["type"] == "QueryFailed":
                self.shown[number] = Failed(change["errorMessage"])
            else:
                self.shown.pop(number, None)
        self._trace.note("transition", self.name, start, end, json.dumps(message["modifications"]))
        if start != self._version:
            self._history.complaints.append(
                f"{self.name} is at {self._version} and was sent {start} -> {end}"
            )
        self._version = end
        self._fruitless = 0
        self.shown_ts = max(self.shown_ts, end[2])
        self.observed_ts = max(self.observed_ts, end[2])
        results = {
            self.queries[number]: value for number, value in self.shown.items() if number in self.queries
        }
        self._history.shown.append(Shown(self._history.step(), self.name, self.sockets, start, end, results))


def _add(number: int, query: Query) -> dict[str, Any]:
    return {"type": "Add", "queryId": number, "udfPath": query.path, "args": [dict(query.args)]}


def _version(version: Mapping[str, Any]) -> tuple[int, int, int]:
    return version["querySet"], version["identity"], decode_ts(version["ts"])
