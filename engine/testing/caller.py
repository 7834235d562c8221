"""Who calls the functions of a `TestServer`: direct calls, with the identity of one person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs

from engine.backend import ABSENT, ActionOutcome, Call, Identity, MutationOutcome, QueryOutcome
from engine.testing.stepping import Running
from engine.testing.subscription import TestSubscription
from tidewell.errors import AppError, FunctionError
from tidewell.refs import path_of
from tidewell.values import Value, normalize

if TYPE_CHECKING:  # a server is a caller itself
    from engine.testing.server import TestServer


@attrs.define(eq=False)
class Caller:
    """Calls functions as one person. `TestServer` itself is one: nobody in particular."""

    _server: TestServer
    _identity: Identity

    async def query(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a query and return its result. Raises `AppError` and `FunctionError`, as clients do."""
        call = self._call(function, args)
        return value_of(call, await self._server._bounded(call, self._server.deployment.query(call)))

    async def mutation(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run a mutation to its durable commit and return its result. Raises what `query` raises."""
        call = self._call(function, args)
        return value_of(call, await self._server._bounded(call, self._server.deployment.mutate(call)))

    async def action(self, function: object, args: Mapping[str, Any] | None = None) -> Value:
        """Run an action and return its result. Raises what `query` raises."""
        call = self._call(function, args)
        return value_of(call, await self._server._bounded(call, self._server.deployment.act(call)))

    async def start(self, function: object, args: Mapping[str, Any] | None = None) -> Running:
        """Begin any call and stop before its first transaction; `step` and `finish` move it on."""
        return await self._server._start(self._call(function, args))

    @asynccontextmanager
    async def subscribe(
        self, function: object, args: Mapping[str, Any] | None = None
    ) -> AsyncIterator[TestSubscription]:
        """Watch a query: `anext` gives its result, and each one after a change."""
        subscription = self.watch(function, args)
        try:
            yield subscription
        finally:
            self._server._end_watch(subscription)

    def watch(self, function: object, args: Mapping[str, Any] | None = None) -> TestSubscription:
        """`subscribe` for the rest of the server's life."""
        call = self._call(function, args)
        return self._server._watch(call, lambda outcome: value_of(call, outcome))

    def _call(self, function: object, args: Mapping[str, Any] | None) -> Call:
        path = path_named(function)
        packed: Any = normalize(dict(args or {}), "args")
        return Call(path, packed, self._identity, self._server._next_request_id(), "socket")


def path_named(function: object) -> str:
    path = path_of(function)
    if path is None:
        raise ValueError(f"{function!r} is no path of a function, as 'posts:list' is")
    return path


def value_of(call: Call, outcome: QueryOutcome | MutationOutcome | ActionOutcome) -> Value:
    failure = outcome.failure
    if failure is None:
        return outcome.value
    if failure.data is ABSENT:
        raise FunctionError(call.path, failure.message.rstrip("\n"))
    error = AppError(failure.data)
    error.add_note(f"{call.path}: {failure.message}")
    raise error
