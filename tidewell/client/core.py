"""The client's side of the sync protocol without any I/O.

It is told what a caller wants and what the server says; it answers with messages to
send (`take_outgoing`) and with `Event`s. The socket is someone else's. A broken
socket is a `lost()`, the next one an `opened()`.

Invariants:

* One `session_id` for life, and request ids that only rise: a mutation sent again
  has the ids it had, so the server knows whether it has run it (protocol, 7.3).
* A mutation that succeeded settles with the first transition, received after its
  response, that reaches its commit: what a caller reads next shows its effect.
* An action is sent once. If the connection breaks after that, it fails.
* Queries are subscribed once per path and arguments, however many watch.
* While there is no socket nothing is queued to be sent: `opened` derives all of it
  from what is wanted then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from tidewell.client.outcomes import LOST, Failed, Outcome, failure, success
from tidewell.errors import InvalidValue
from tidewell.protocol import (
    Action,
    ActionResponse,
    Add,
    Authenticate,
    AuthError,
    ClientMessage,
    Connect,
    FatalError,
    JsonArray,
    JsonObject,
    MalformedMessage,
    ModifyQuerySet,
    Mutation,
    MutationResponse,
    Ping,
    QueryFailed,
    QueryRemoved,
    QueryUpdated,
    Remove,
    Transition,
    Ts,
    Uint,
    Version,
    decode_server_message,
    encode_client_message,
)
from tidewell.values import canonical_text, normalize, object_of, to_wire


class ServerMisbehaved(Exception):
    """A message that a server must not send. The socket is of no use any more; the next one may be."""


@attrs.frozen
class Credentials:
    """Who is calling: a user's token, or the admin key, with an identity to act as or not."""

    kind: Literal["User", "Admin"]
    value: str = attrs.field(repr=False)
    acting_as: Mapping[str, Any] | None = None


@attrs.frozen
class QueryChanged:
    query_id: int
    outcome: Outcome


@attrs.frozen
class RequestSettled:
    request_id: int
    outcome: Outcome


@attrs.frozen
class AuthAccepted:
    """Results are computed under the credentials given last."""


@attrs.frozen
class AuthRefused:
    """The credentials are refused, or no longer accepted. The server closes the socket next."""

    error: str


@attrs.frozen
class Refused:
    """The server will not have this client again."""

    error: str


Event: TypeAlias = QueryChanged | RequestSettled | AuthAccepted | AuthRefused | Refused


@attrs.define
class _Query:
    path: str
    args: JsonArray
    key: tuple[str, str, int]
    watchers: int = 1
    journal: str | None = None
    seen: bytes | None = None  # the last result as it came, to tell whether the next one is another
    outcome: Outcome | None = None
    is_fresh: bool = False  # whether this socket has brought a result


@attrs.define
class _Request:
    kind: Literal["mutation", "action"]
    path: str
    args: JsonArray
    is_sent: bool = False  # on this socket or an earlier one
    answer: tuple[Outcome, Ts] | None = None  # of a mutation that waits for its transition


@attrs.define(eq=False)
class ClientCore:
    session_id: str
    _queries: dict[int, _Query] = attrs.field(factory=dict, init=False)
    _ids: dict[tuple[str, str, int], int] = attrs.field(factory=dict, init=False)
    _requests: dict[int, _Request] = attrs.field(factory=dict, init=False)  # by id, so in order of the calls
    _credentials: Credentials | None = attrs.field(default=None, init=False)
    _next_query: int = attrs.field(default=0, init=False)
    _next_request: int = attrs.field(default=0, init=False)
    _max_observed: Ts | None = attrs.field(default=None, init=False)
    _connections: int = attrs.field(default=0, init=False)
    _close_reason: str = attrs.field(default="InitialConnect", init=False)
    # Of the present socket alone.
    _is_open: bool = attrs.field(default=False, init=False)
    _outgoing: deque[bytes] = attrs.field(factory=deque, init=False)
    _version: Version = attrs.field(factory=Version, init=False)
    _query_set: int = attrs.field(default=0, init=False)
    _identity: int = attrs.field(default=0, init=False)
    _owed: set[int] = attrs.field(factory=set, init=False)  # requests made before this socket

    # ---- what the caller wants --------------------------------------------------------

    def subscribe(self, path: str, args: Mapping[str, Any], min_interval_ms: int = 0) -> int:
        """Watch a query; return the id that its `QueryChanged` events carry. Raises `InvalidValue`."""
        canonical = object_of(normalize(dict(args), "args"))
        key = (path, canonical_text(canonical), min_interval_ms)
        query_id = self._ids.get(key)
        if query_id is not None:
            self._queries[query_id].watchers += 1
            return query_id
        query_id, self._next_query = self._next_query, self._next_query + 1
        self._ids[key] = query_id
        query = self._queries[query_id] = _Query(path, JsonArray([to_wire(canonical)]), key)
        self._modify(self._add(query_id, query))
        return query_id

    def unsubscribe(self, query_id: int) -> None:
        """Give back one `subscribe`."""
        query = self._queries[query_id]
        query.watchers -= 1
        if query.watchers == 0:
            del self._queries[query_id], self._ids[query.key]
            self._modify(Remove(Uint(query_id)))

    def outcome(self, query_id: int) -> Outcome | None:
        """Return the newest outcome of a watched query; None before the first."""
        return self._queries[query_id].outcome

    def call(self, kind: Literal["mutation", "action"], path: str, args: Mapping[str, Any]) -> int:
        """Call a function; return the id that its `RequestSettled` carries. Raises `InvalidValue`."""
        canonical = normalize(dict(args), "args")
        request_id, self._next_request = self._next_request, self._next_request + 1
        request = self._requests[request_id] = _Request(kind, path, JsonArray([to_wire(canonical)]))
        if self._is_open:
            self._send_request(request_id, request)
        return request_id

    def abandon(self, request_id: int) -> None:
        """Nobody waits for this request any more: it is not sent again, and its answer is ignored."""
        self._requests.pop(request_id, None)
        self._owed.discard(request_id)

    def authenticate(self, credentials: Credentials | None) -> None:
        """Make all that follows under these credentials, on this socket and later ones."""
        changed, self._credentials = credentials != self._credentials, credentials
        if self._is_open and changed:
            self._send_credentials()

    # ---- what happens to the socket ---------------------------------------------------

    def opened(self, now_ms: float) -> None:
        """A socket is open: say who we are, and everything that is wanted (protocol, 8.1)."""
        assert not self._is_open
        self._is_open = True
        connect = Connect(
            session_id=self.session_id,
            connection_count=Uint(self._connections),
            last_close_reason=self._close_reason,
            max_observed_timestamp=self._max_observed,
            client_ts=int(now_ms),
        )
        self._connections += 1
        self._send(connect)
        if self._credentials is not None:
            self._send_credentials()
        self._modify(*(self._add(query_id, query) for query_id, query in self._queries.items()))
        self._owed = set(self._requests)
        for request_id, request in self._requests.items():
            self._send_request(request_id, request)

    def lost(self, reason: str) -> list[Event]:
        """The socket is gone. Actions that were under way have failed; mutations will be sent again."""
        self._is_open = False
        self._close_reason = reason
        self._outgoing.clear()
        self._version, self._query_set, self._identity = Version(), 0, 0
        for query in self._queries.values():
            query.is_fresh = False
        broken = [
            request_id
            for request_id, request in self._requests.items()
            if request.kind == "action" and request.is_sent
        ]
        return [self._settle(request_id, LOST) for request_id in broken]

    @property
    def has_caught_up(self) -> bool:
        """Whether this socket has made good what the last one left: results, and requests made before it."""
        return (
            self._is_open
            and self._version.query_set > 0
            and not self._owed
            and all(query.is_fresh for query in self._queries.values())
        )

    def take_outgoing(self) -> list[bytes]:
        """Return the messages to be sent now, in order."""
        taken = list(self._outgoing)
        self._outgoing.clear()
        return taken

    # ---- what the server says -----------------------------------------------------------

    def receive(self, data: str | bytes) -> list[Event]:
        """Return what a message of the server means.

        Raises:
          ServerMisbehaved: give this socket up, and call `lost`.
        """
        try:
            message = decode_server_message(data)
            match message:
                case Transition():
                    return self._transition(message)
                case MutationResponse():
                    return self._mutation_response(message)
                case ActionResponse():
                    return self._action_response(message)
                case AuthError():
                    is_stale = message.auth_update_attempted and message.base_version + 1 < self._identity
                    return [] if is_stale else [AuthRefused(message.error)]
                case FatalError():
                    return [Refused(message.error)]
                case Ping():
                    return []
        except (MalformedMessage, InvalidValue) as error:
            raise ServerMisbehaved(str(error)) from None
        raise ServerMisbehaved(f"unexpected {type(message).__name__}")

    def _transition(self, message: Transition) -> list[Event]:
        if message.start_version != self._version:
            raise ServerMisbehaved(
                f"StartVersionMismatch: at {self._version}, the transition starts at {message.start_version}"
            )
        before, self._version = self._version, message.end_version
        self._observe(message.end_version.ts)
        events: list[Event] = []
        for change in message.modifications:
            query = self._queries.get(change.query_id)
            if query is None or isinstance(change, QueryRemoved):
                continue
            query.journal, query.is_fresh = change.journal, True
            outcome, seen = _read(query.path, change)
            if seen != query.seen:
                query.outcome, query.seen = outcome, seen
                events.append(QueryChanged(change.query_id, outcome))
        for request_id, request in list(self._requests.items()):
            if request.answer is not None and request.answer[1] <= message.end_version.ts:
                events.append(self._settle(request_id, request.answer[0]))
        if before.identity < message.end_version.identity == self._identity:
            events.append(AuthAccepted())
        return events

    def _mutation_response(self, message: MutationResponse) -> list[Event]:
        request = self._requests.get(message.request_id)
        if request is None or request.kind != "mutation" or request.answer is not None:
            return []
        if not message.success:
            return [self._settle(message.request_id, _failure(request.path, message))]
        if message.ts is None:
            raise ServerMisbehaved("a mutation that succeeded has no timestamp")
        request.answer = (success(message.result), message.ts)
        self._observe(message.ts)
        return []

    def _action_response(self, message: ActionResponse) -> list[Event]:
        request = self._requests.get(message.request_id)
        if request is None or request.kind != "action":
            return []
        outcome = success(message.result) if message.success else _failure(request.path, message)
        return [self._settle(message.request_id, outcome)]

    # ---- helpers ----------------------------------------------------------------------

    def _settle(self, request_id: int, outcome: Outcome) -> Event:
        self.abandon(request_id)
        return RequestSettled(request_id, outcome)

    def _observe(self, ts: Ts) -> None:
        self._max_observed = ts if self._max_observed is None else max(ts, self._max_observed)

    def _send(self, message: ClientMessage) -> None:
        self._outgoing.append(encode_client_message(message))

    def _add(self, query_id: int, query: _Query) -> Add:
        *_, min_interval_ms = query.key
        interval = Uint(min_interval_ms) if min_interval_ms else None
        return Add(Uint(query_id), query.path, query.args, query.journal, min_interval_ms=interval)

    def _modify(self, *changes: Add | Remove) -> None:
        if self._is_open:
            base, self._query_set = self._query_set, self._query_set + 1
            self._send(ModifyQuerySet(Uint(base), Uint(self._query_set), list(changes)))

    def _send_request(self, request_id: int, request: _Request) -> None:
        request.is_sent, request.answer = True, None
        message = Mutation if request.kind == "mutation" else Action
        self._send(message(Uint(request_id), request.path, request.args))

    def _send_credentials(self) -> None:
        base, self._identity = Uint(self._identity), self._identity + 1
        who = self._credentials
        if who is None:
            self._send(Authenticate(base, "None"))
            return
        acting_as = None if who.acting_as is None else JsonObject(dict(who.acting_as))
        self._send(Authenticate(base, who.kind, who.value, acting_as))


def _read(path: str, change: QueryUpdated | QueryFailed) -> tuple[Outcome, bytes]:
    """Return the outcome, and bytes that differ whenever it does."""
    if isinstance(change, QueryUpdated):
        return success(change.value), b"=" + change.value
    # The first line names the request, which is another one every time it fails.
    text = change.error_message.partition("\n")[2] or change.error_message
    seen = b"!" + msgspec.json.encode(text) + change.error_data
    return failure(path, change.error_message, change.error_data), seen


def _failure(path: str, message: MutationResponse | ActionResponse) -> Failed:
    text = msgspec.json.decode(message.result)
    if type(text) is not str:
        raise ServerMisbehaved("the error of a failed call is no text")
    return failure(path, text, message.error_data)
