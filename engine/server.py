"""The server: listens, and gives every connection its task and its end.

One port carries the HTTP API, the sockets and the pages. A cancelled `serve`
says goodbye first: it stops accepting, tells the sockets to come back later,
lets running requests finish for `GRACE_S_MAX`, and leaves nothing behind.
"""

from __future__ import annotations

import errno
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import trio

from engine.auth import Authenticator
from engine.backend import Backend
from engine.chance import Chance, SystemChance
from engine.clock import Clock, SystemClock
from engine.commands import SessionLimits
from engine.connection import MESSAGE_BYTES_MAX, Connection, SocketContext, serve_socket
from engine.exchange import Answer, Refused, Request, Response, Upload
from engine.files_api import FilesApi
from engine.heavy import HeavyReader
from engine.http import BODY_BYTES_MAX, ByteBudget, HttpContext, serve_requests
from engine.http_actions import HttpActions, body_bytes_max, is_below
from engine.http_api import HttpApi
from engine.shared_limits import SharedLimits, SharedState
from engine.site import StaticSite
from sandbox.http_actions import BODY_BYTES_MAX as ACTION_BODY_BYTES_MAX

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 20_000
REQUEST_BYTES_MAX: Final = 256 * 1024 * 1024  # of unfinished requests, in all connections together
GRACE_S_MAX: Final = 3.0
# Files the process needs beside its connections: the store, workers, listeners.
_FILES_RESERVED: Final = 128


@attrs.define(eq=False)
class CannotListen(Exception):
    """The address cannot be listened on."""

    host: str
    port: int
    problem: str

    def __str__(self) -> str:
        return f"cannot listen on {self.host} port {self.port}: {self.problem}"


@attrs.define(eq=False)
class PortInUse(CannotListen):
    """Another program listens there already."""

    def __str__(self) -> str:
        return f"port {self.port} on {self.host} is in use; stop the program that uses it, or choose another"


@attrs.frozen
class Address:
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@attrs.frozen
class ServerOptions:
    """What a server may be given beside its backend; the defaults serve one local deployment."""

    site: StaticSite | None = None
    admin: Callable[[Request], Awaitable[Response]] | None = None  # answers what starts with /api/v1/
    http_actions: HttpActions | None = None  # at /http/, and alone on the site's port
    files: FilesApi | None = None
    site_port: int | None = None  # 0 picks a free one; None opens none
    may_move_site: bool = False  # to a free port, when that one is taken
    authenticator: Authenticator = attrs.field(factory=Authenticator)
    clock: Clock = attrs.field(factory=SystemClock)
    chance: Chance = attrs.field(factory=SystemChance)
    instance_name: str = "tidewell"
    version: str = "unknown"
    limits: SessionLimits = attrs.field(factory=SessionLimits)
    shared_limits: SharedLimits = attrs.field(factory=SharedLimits)
    message_bytes_max: int = MESSAGE_BYTES_MAX
    connections_max: int = CONNECTIONS_MAX


async def serve(
    backend: Backend,
    host: str,
    port: int,
    options: ServerOptions | None = None,
    *,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `backend` until cancelled.

    Args:
      port: 0 picks a free one.
      task_status: is given the addresses, the site's last, once connections are accepted.

    Raises:
      PortInUse, CannotListen: before anything was served.
    """
    options = options or ServerOptions()
    listeners = await _listen(host, port)
    site_listeners = await _listen_as_site(host, options)
    server = _Server(backend, options)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run, listeners, site_listeners)
        task_status.started([_address_of(listener) for listener in [*listeners, *site_listeners]])
        try:
            await trio.sleep_forever()
        finally:
            server.stop()


class _Server:
    def __init__(self, backend: Backend, options: ServerOptions) -> None:
        chance = options.chance

        def make_nonce() -> str:
            return chance.token(16).hex()

        self._site = options.site
        self._http_actions = options.http_actions
        self._files = options.files
        self._connections_max = max(1, min(options.connections_max, _file_limit() - _FILES_RESERVED))
        self._connections = 0
        self._sockets: set[Connection] = set()
        self._accepting = trio.CancelScope()
        self._is_stopping = False
        heavy = HeavyReader()
        self._api = HttpApi(
            backend,
            options.authenticator,
            instance_name=options.instance_name,
            version=options.version,
            make_nonce=make_nonce,
            admin=options.admin,
            heavy=heavy,
        )
        self._http = HttpContext(
            respond=self._respond,
            budget=ByteBudget(REQUEST_BYTES_MAX),
            clock=options.clock,
            is_stopping=lambda: self._is_stopping,
            idle=set(),
            body_bytes_max=lambda path: body_bytes_max(path) or BODY_BYTES_MAX,
            open_upload=self._open_upload,
        )
        self._site_http = attrs.evolve(
            self._http,
            respond=self._respond_as_site,
            body_bytes_max=lambda _: ACTION_BODY_BYTES_MAX,
            open_upload=lambda _: None,
        )
        self._socket_context = SocketContext(
            backend,
            options.authenticator,
            options.clock,
            make_nonce,
            options.limits,
            SharedState(options.shared_limits),
            options.message_bytes_max,
            heavy,
        )

    async def run(
        self, listeners: list[trio.SocketListener], site_listeners: list[trio.SocketListener]
    ) -> None:
        # Cancellation from outside must not reach the connections before they
        # were told goodbye; it comes as `stop`.
        with trio.CancelScope(shield=True) as everything:
            async with trio.open_nursery() as connections:
                with self._accepting:
                    async with trio.open_nursery() as ports:
                        for handler, some in (
                            (self._serve_connection, listeners),
                            (self._serve_site_connection, site_listeners),
                        ):
                            if some:
                                ports.start_soon(
                                    partial(trio.serve_listeners, handler_nursery=connections), handler, some
                                )
                everything.deadline = trio.current_time() + GRACE_S_MAX
                for scope in list(self._http.idle):
                    scope.cancel()
                for connection in list(self._sockets):
                    connection.end(1012, "ServerShutdown")

    def stop(self) -> None:
        """Begin the end."""
        self._is_stopping = True
        self._accepting.cancel()

    async def _serve_connection(self, stream: trio.SocketStream) -> None:
        await self._counted(stream, self._serve_stream)

    async def _serve_site_connection(self, stream: trio.SocketStream) -> None:
        await self._counted(stream, self._serve_site_stream)

    async def _counted(
        self, stream: trio.SocketStream, serve: Callable[[trio.SocketStream], Awaitable[None]]
    ) -> None:
        self._connections += 1
        try:
            # Over the limit, being closed at once costs both sides least, and clients come back.
            if self._connections <= self._connections_max:
                await serve(stream)
        except Exception:
            log.exception("a connection failed")
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        upgrade = await serve_requests(stream, self._http)
        if upgrade is None or self._is_stopping:
            return
        opened: list[Connection] = []

        def on_open(connection: Connection) -> None:
            opened.append(connection)
            self._sockets.add(connection)

        try:
            await serve_socket(stream, upgrade, self._socket_context, on_open)
        finally:
            self._sockets.difference_update(opened)

    async def _serve_site_stream(self, stream: trio.SocketStream) -> None:
        await serve_requests(stream, self._site_http)  # an upgrade is no business of this port

    async def _respond_as_site(self, request: Request) -> Answer:
        assert self._http_actions is not None
        return await self._http_actions.respond(request)

    def _open_upload(self, request: Request) -> Upload | None:
        return None if self._files is None else self._files.open_upload(request)

    async def _respond(self, request: Request) -> Answer:
        if self._files is not None and self._files.serves(request):
            return await self._files.respond(request)
        if self._api.owns(request.path):
            return await self._api.respond(request)
        if self._http_actions is not None and is_below(request.path):
            return await self._http_actions.below_prefix(request)
        if self._site is not None:
            return await self._site.respond(request)
        raise Refused(404, "NotFound", f"nothing is served at {request.path}")


async def _listen_as_site(host: str, options: ServerOptions) -> list[trio.SocketListener]:
    if options.site_port is None:
        return []
    try:
        return await _listen(host, options.site_port)
    except PortInUse:
        if not options.may_move_site:
            raise
        return await _listen(host, 0)


async def _listen(host: str, port: int) -> list[trio.SocketListener]:
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except socket.gaierror as error:
        raise CannotListen(host, port, f"the host is not known ({error.strerror})") from None
    except OSError as error:
        # trio gathers the errors of several addresses under one of its own.
        numbers = {error.errno} | {cause.errno for cause in _causes(error)}
        if errno.EADDRINUSE in numbers:
            raise PortInUse(host, port, "the port is in use") from None
        raise CannotListen(host, port, error.strerror or str(error)) from None


def _causes(error: BaseException) -> list[OSError]:
    cause = error.__cause__
    if isinstance(cause, BaseExceptionGroup):
        return [inner for inner in cause.exceptions if isinstance(inner, OSError)]
    return [cause] if isinstance(cause, OSError) else []


def _address_of(listener: trio.SocketListener) -> Address:
    host, port, *_ = listener.socket.getsockname()
    return Address(host, port)


def _file_limit() -> int:
    """Raise the number of files this process may open as far as it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS_MAX + _FILES_RESERVED
    reachable = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if soft != resource.RLIM_INFINITY and soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return max(soft, reachable)
