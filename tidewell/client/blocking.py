"""The client for code without async: trio runs in a thread of its own.

Any thread may use one `BlockingClient`; each call blocks its own caller alone.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import trio

from tidewell.client.connection import Client, Subscription, connect
from tidewell.client.outcomes import ClientClosed
from tidewell.values import Value

T = TypeVar("T")


class BlockingSubscription:
    """The results of one query as they change: iterate, or read `latest`. See `Subscription`."""

    def __init__(self, client: BlockingClient, subscription: Subscription) -> None:
        self._client = client
        self._subscription = subscription

    def __iter__(self) -> Iterator[Value]:
        return self

    def __next__(self) -> Value:
        return self.next()

    def next(self, timeout_s: float | None = None) -> Value:
        """Wait for a result that this iterator has not given yet. Raises `TimeoutError` after `timeout_s`."""

        async def wait() -> Value:
            if timeout_s is None:
                return await anext(self._subscription)
            try:
                with trio.fail_after(timeout_s):
                    return await anext(self._subscription)
            except trio.TooSlowError:
                raise TimeoutError(f"no new result for {timeout_s} s") from None

        return self._client._run(wait)

    @property
    def latest(self) -> Value:
        """The newest result; None before the first. Raises the query's error if that is newer."""

        async def read() -> Value:
            return self._subscription.latest

        return self._client._run(read)


class BlockingClient:
    """`Client` without async: `with BlockingClient("http://127.0.0.1:3210") as client:`.

    Raises, when it is entered, what `connect` raises.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._thread: threading.Thread | None = None
        self._is_ready = threading.Event()
        self._failure: BaseException | None = None
        self._client: Client | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._is_over: trio.Event | None = None

    def __enter__(self) -> Self:
        assert self._thread is None, "a BlockingClient is entered once"
        self._thread = threading.Thread(target=self._keep, name="tidewell client", daemon=True)
        self._thread.start()
        self._is_ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None, "not entered"
        if self._token is not None and self._is_over is not None:
            trio.from_thread.run_sync(self._is_over.set, trio_token=self._token)
        self._thread.join()
        self._client = None

    def _keep(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:  # raised again in the thread that waits for us to be ready
            self._failure = error
        finally:
            self._is_ready.set()

    async def _serve(self) -> None:
        async with connect(self._url) as client:
            self._client, self._token = client, trio.lowlevel.current_trio_token()
            self._is_over = trio.Event()
            self._is_ready.set()
            await self._is_over.wait()

    def _run(self, call: Callable[[], Awaitable[T]]) -> T:
        if self._client is None:
            raise ClientClosed("the client is closed")
        return trio.from_thread.run(call, trio_token=self._token)

    @property
    def _open(self) -> Client:
        if self._client is None:
            raise ClientClosed("the client is closed")
        return self._client

    # ---- calls ------------------------------------------------------------------------

    def query(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a query and return its result. See `Client.query`."""
        return self._run(lambda: self._open.query(function, args))

    def mutation(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a mutation, exactly once, and return its result. See `Client.mutation`."""
        return self._run(lambda: self._open.mutation(function, args))

    def action(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run an action and return its result. See `Client.action`."""
        return self._run(lambda: self._open.action(function, args))

    @contextmanager
    def subscribe(
        self, function: object, args: Mapping[str, Any] | None = None, *, min_interval_s: float = 0.0
    ) -> Iterator[BlockingSubscription]:
        """Watch a query: `for value in results` gives its result, and each one after a change.

        Changes that come closer together than `min_interval_s` are merged. See `Client.subscribe`.
        """
        watching = self._open.subscribe(function, args, min_interval_s=min_interval_s)
        subscription = self._run(watching.__aenter__)
        try:
            yield BlockingSubscription(self, subscription)
        finally:
            self._run(lambda: watching.__aexit__(None, None, None))

    def set_auth(
        self,
        fetch_token: Callable[[bool], str | None],
        on_change: Callable[[bool], object] = lambda _: None,
    ) -> None:
        """Call as the person whose tokens `fetch_token(force_refresh)` gives. See `Client.set_auth`.

        Both functions are called on threads of the client.
        """

        async def fetch(*, force_refresh: bool) -> str | None:
            return await trio.to_thread.run_sync(fetch_token, force_refresh)

        self._run(lambda: self._open.set_auth(fetch, on_change))

    def clear_auth(self) -> None:
        """Call as nobody, from now on."""
        self._run(self._soon(lambda: self._open.clear_auth()))

    def set_admin_auth(self, admin_key: str, acting_as: Mapping[str, Any] | None = None) -> None:
        """Call as an admin, or as the person with these claims. See `Client.set_admin_auth`."""
        self._run(self._soon(lambda: self._open.set_admin_auth(admin_key, acting_as)))

    @staticmethod
    def _soon(call: Callable[[], None]) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            call()

        return run
