"""The client on trio: one task keeps a socket, callers wait for what the core tells them.

All decisions about the protocol are `core.py`'s, and the socket is `transport.py`'s.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Literal, Protocol

import attrs
import trio

from tidewell.client.backoff import delay_s
from tidewell.client.core import (
    AuthAccepted,
    AuthRefused,
    ClientCore,
    Credentials,
    Event,
    QueryChanged,
    Refused,
    RequestSettled,
    ServerMisbehaved,
)
from tidewell.client.outcomes import CannotConnect, ClientClosed, ClientRefused, Outcome, unwrap
from tidewell.client.transport import Socket, SocketEnded, sync_url, use_socket
from tidewell.refs import path_of
from tidewell.values import Value

MIN_INTERVAL_S_MAX: Final = 86_400
FRESH_TOKENS_MAX: Final = 2  # asked for in a row when tokens are refused; then the client goes on without


class FetchToken(Protocol):
    """Returns a JWT for the person who is signed in, or None when nobody is.

    With `force_refresh` the last one was refused or has expired: it must be a new one.
    """

    def __call__(self, *, force_refresh: bool) -> Awaitable[str | None]: ...


@attrs.define(eq=False)
class _Waiter:
    event: trio.Event = attrs.field(factory=trio.Event)
    outcome: Outcome | None = None


class Subscription:
    """The results of one query as they change: iterate, or read `latest`.

    A reader that is slow misses results in between, never the newest. An error of the query
    is raised once, where its result would have been; iteration may go on after it.
    """

    def __init__(self, client: Client, query_id: int) -> None:
        self._client = client
        self._query_id = query_id
        self._changed = trio.Event()
        self._is_new = client._core.outcome(query_id) is not None

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Value:
        """Wait for a result that this iterator has not given yet."""
        await trio.lowlevel.checkpoint()
        while not self._is_new:
            self._client._check()
            self._changed = trio.Event()
            await self._changed.wait()
        self._client._check()
        self._is_new = False
        return self.latest

    @property
    def latest(self) -> Value:
        """The newest result; None before the first. Raises the query's error if that is newer."""
        self._client._check()
        outcome = self._client._core.outcome(self._query_id)
        return None if outcome is None else unwrap(outcome)

    def _ring(self) -> None:
        self._is_new = True
        self._changed.set()


class Client:
    """A connection to a deployment that mends itself. Made by `connect`."""

    def __init__(self, url: str) -> None:
        self._url = sync_url(url)
        self._core = ClientCore(str(uuid.uuid4()))
        self._waiters: dict[int, _Waiter] = {}
        self._subscriptions: dict[int, list[Subscription]] = {}
        self._end: Exception | None = None  # why no call can be made any more
        self._to_send = trio.Event()
        self._has_tried = trio.Event()
        self._first_failure: str | None = None
        self._fetch: FetchToken | None = None
        self._on_auth: Callable[[bool], object] = lambda _: None
        self._refused_tokens = 0
        self._was_refused = False

    # ---- calls ------------------------------------------------------------------------

    async def query(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a query and return its result.

        Args:
          function: a path (`"posts:list"`) or a reference (`api.posts.list`).
          args: the arguments by name; `int` and `float` are numbers, `Int64` is an int64.

        Raises:
          AppError: raised by the function itself, with its data.
          FunctionError: any other failure of the function; `.message` is what the server tells of it.
          ClientError: the call could not be made.
        """
        async with self.subscribe(function, args) as results:
            return await anext(results)

    async def mutation(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a mutation, and return its result once all subscriptions show its effect.

        It is run exactly once, over lost connections and restarts of the server. A caller that is
        cancelled meanwhile cannot know whether it was. Raises what `query` raises.
        """
        return await self._call("mutation", function, args)

    async def action(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run an action and return its result.

        Raises what `query` raises, and `ConnectionLost` when the connection breaks meanwhile: an
        action may not be repeated without asking whoever wrote it.
        """
        return await self._call("action", function, args)

    @asynccontextmanager
    async def subscribe(
        self, function: object, args: Mapping[str, Any] | None = None, *, min_interval_s: float = 0.0
    ) -> AsyncIterator[Subscription]:
        """Watch a query: `async for value in results` gives its result, and each one after a change.

        Args:
          min_interval_s: the server merges changes that come closer together. A result may come sooner
            all the same, along with one that was due: all results of a client are of one moment.
        """
        self._check()
        if not 0 <= min_interval_s <= MIN_INTERVAL_S_MAX:
            raise ValueError(f"min_interval_s is from 0 to {MIN_INTERVAL_S_MAX} seconds")
        query_id = self._core.subscribe(_path(function), args or {}, round(min_interval_s * 1000))
        subscription = Subscription(self, query_id)
        self._subscriptions.setdefault(query_id, []).append(subscription)
        self._to_send.set()
        try:
            yield subscription
        finally:
            self._subscriptions[query_id].remove(subscription)
            if not self._subscriptions[query_id]:
                del self._subscriptions[query_id]
            self._core.unsubscribe(query_id)
            self._to_send.set()

    async def _call(
        self, kind: Literal["mutation", "action"], function: object, args: Mapping[str, Any] | None
    ) -> Value:
        self._check()
        request_id = self._core.call(kind, _path(function), args or {})
        waiter = self._waiters[request_id] = _Waiter()
        self._to_send.set()
        try:
            await waiter.event.wait()
        finally:
            del self._waiters[request_id]
            self._core.abandon(request_id)
        if waiter.outcome is None:
            self._check()
        assert waiter.outcome is not None, request_id
        return unwrap(waiter.outcome)

    # ---- who is calling ---------------------------------------------------------------

    async def set_auth(
        self, fetch_token: FetchToken, on_change: Callable[[bool], object] = lambda _: None
    ) -> None:
        """Call as the person whose tokens `fetch_token` gives, from now on.

        It is asked now, and with `force_refresh=True` whenever a token is refused or has expired.

        Args:
          on_change: told True when the server has accepted a token, False when the client goes on
            without one, because there is none or new ones were refused as well.
        """
        self._check()
        self._fetch, self._on_auth, self._refused_tokens = fetch_token, on_change, 0
        self._take_token(await fetch_token(force_refresh=False))

    def clear_auth(self) -> None:
        """Call as nobody, from now on."""
        self._fetch, self._on_auth = None, lambda _: None
        self._authenticate(None)

    def set_admin_auth(self, admin_key: str, acting_as: Mapping[str, Any] | None = None) -> None:
        """Call as an admin, who may call internal functions too, or as the person with these claims."""
        self._fetch, self._on_auth = None, lambda _: None
        self._authenticate(Credentials("Admin", admin_key, acting_as))

    def _authenticate(self, credentials: Credentials | None) -> None:
        self._core.authenticate(credentials)
        self._to_send.set()

    def _take_token(self, token: str | None) -> None:
        self._authenticate(None if token is None else Credentials("User", token))
        if token is None:
            self._on_auth(False)

    async def _replace_credentials(self) -> bool:
        """The server does not take our credentials: get others, or go on without. False after too many."""
        self._was_refused = False
        self._refused_tokens += 1
        fetch = self._fetch
        if fetch is None:  # replaced since by others, which nobody has refused yet
            return True
        if self._refused_tokens > FRESH_TOKENS_MAX:
            self._take_token(None)
            return False
        self._take_token(await fetch(force_refresh=True))
        return True

    # ---- the socket -------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep a socket until cancelled."""
        failures = 0
        try:
            while self._end is None:
                reason = await use_socket(self._url, self._use_socket)
                has_caught_up = self._core.has_caught_up
                self._deliver(self._core.lost(reason))
                failures = 1 if has_caught_up else failures + 1
                if not self._has_tried.is_set():
                    self._first_failure = reason
                    self._has_tried.set()
                    return
                if self._was_refused and await self._replace_credentials():
                    continue  # with others there is nothing to wait for
                await trio.sleep(delay_s(failures, reason, random.uniform))
        except Exception as error:  # of a hook: nothing would answer the callers any more
            self._finish(_first(error))
        finally:
            self._has_tried.set()

    async def _use_socket(self, socket: Socket) -> str:
        self._core.opened(time.time() * 1000)
        self._has_tried.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_all, socket)
            reason = await self._receive_all(socket)
            nursery.cancel_scope.cancel()
        return reason

    async def _send_all(self, socket: Socket) -> None:
        with suppress(SocketEnded):  # the receiver meets the same, and knows more
            while True:
                self._to_send = trio.Event()
                for message in self._core.take_outgoing():
                    await socket.send(message)
                await self._to_send.wait()

    async def _receive_all(self, socket: Socket) -> str:
        try:
            while self._end is None:
                self._deliver(self._core.receive(await socket.receive()))
        except (SocketEnded, ServerMisbehaved) as error:
            return str(error)
        return "Finished"

    # ---- events -----------------------------------------------------------------------

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case QueryChanged():
                    for subscription in self._subscriptions.get(event.query_id, ()):
                        subscription._ring()
                case RequestSettled():
                    if (waiter := self._waiters.get(event.request_id)) is not None:
                        waiter.outcome = event.outcome
                        waiter.event.set()
                case AuthAccepted():
                    self._refused_tokens = 0
                    if self._fetch is not None:
                        self._on_auth(True)
                case AuthRefused():
                    if self._fetch is None:
                        self._finish(ClientRefused(event.error))
                    self._was_refused = True
                case Refused():
                    self._finish(ClientRefused(event.error))

    def _finish(self, error: Exception) -> None:
        """Nothing can be called any more; whoever waits is told."""
        self._end = self._end or error
        for waiter in self._waiters.values():
            waiter.event.set()
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription._changed.set()

    def _check(self) -> None:
        if self._end is not None:
            raise self._end


@asynccontextmanager
async def _connect(url: str) -> AsyncIterator[Client]:
    client = Client(url)
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client._run)
        await client._has_tried.wait()
        try:
            if client._first_failure is not None:
                raise CannotConnect(f"{url}: {client._first_failure}")
            yield client
        except Exception as error:
            raised = error  # the nursery would hand it on in a group
        finally:
            client._finish(ClientClosed("the client is closed"))
            nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


def connect(url: str) -> AbstractAsyncContextManager[Client]:
    """Connect to the deployment at `url`: `async with connect("http://127.0.0.1:3210") as client:`.

    The first connection has to succeed; a later one that breaks is made again, for as long as it takes.

    Raises:
      CannotConnect: nobody answers there, or it is no deployment.
      ValueError: that is no URL of a deployment.
    """
    return _connect(url)


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _path(function: object) -> str:
    path = path_of(function)
    if path is not None:
        return path
    if isinstance(function, str):
        return function  # the server knows best what to say about it
    raise TypeError(f"a function is named by its path or by api.module.function, not by {function!r}")
