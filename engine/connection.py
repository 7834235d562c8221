"""One WebSocket: carries out what its session commands, and reports back.

trio-websocket enters here and nowhere else in the engine. All that a socket
needs lives in one nursery, which ends with it: a reader, a writer that also
keeps the heartbeat, and a task for each call that is under way.

Bounds, so that no client costs more than its share:

* the reader stops while too much waits to be sent, so a client that does not
  read is not listened to either;
* a message that cannot be sent within `WRITE_S_MAX` ends the socket;
* frames, messages per second, queued mutations, running actions and
  subscriptions are limited here and in the session; `engine/shared_limits.py`
  limits what all sockets take together.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from engine.auth import Authenticator, Grant, TokenRefused
from engine.backend import Backend, BackendFault
from engine.clients import Client
from engine.clock import Clock
from engine.commands import AwaitRepeats, Close, RunAction, RunMutation, Send, SessionLimits, Update, Verify
from engine.exchange import Upgrade
from engine.heavy import HeavyReader, is_heavy, is_too_heavy, read_message
from engine.pacing import Heartbeat, TokenBucket
from engine.receiving import Unread
from engine.session import Session
from engine.shared_limits import Share, SharedState
from engine.socket_stream import SocketStream
from engine.transitions import Job

log = logging.getLogger(__name__)

# Arguments may have 16 MiB (protocol, 13.3); the rest is JSON around them.
MESSAGE_BYTES_MAX: Final = 20 * 1024 * 1024
RECEIVE_BYTES: Final = 16 * 1024
# What may wait to be sent before the reader stops. One large transition may
# always wait, so this bounds what comes on top of it.
UNSENT_BYTES_MAX: Final = 1024 * 1024
UNSENT_MESSAGES_MAX: Final = 256
WRITE_BYTES: Final = 64 * 1024  # small messages are sent together up to this size
HANDSHAKE_S_MAX: Final = 10.0
# 5 MB in this time is 83 kB/s; what is larger is cut up for clients that can take it.
WRITE_S_MAX: Final = 60.0
GOODBYE_S_MAX: Final = 2.0
# Clients repeat everything right behind their `Connect`: a slow line has brought it by then.
REPEATS_AWAITED_S: Final = 1.0
# A page that was offline may bring a thousand mutations at once.
MESSAGES_PER_S: Final = 1000.0
MESSAGES_BURST: Final = 4000.0

_BROKEN: Final = (trio.BrokenResourceError, trio.ClosedResourceError)


@attrs.frozen
class SocketContext:
    """What every socket of a server shares."""

    backend: Backend
    authenticator: Authenticator
    clock: Clock
    make_nonce: Callable[[], str]
    limits: SessionLimits = attrs.field(factory=SessionLimits)
    shared: SharedState = attrs.field(factory=SharedState)
    message_bytes_max: int = MESSAGE_BYTES_MAX
    heavy: HeavyReader = attrs.field(factory=HeavyReader)


async def serve_socket(
    stream: trio.abc.Stream,
    upgrade: Upgrade,
    context: SocketContext,
    on_open: Callable[[Connection], None],
) -> None:
    """Serve one socket from its upgrade request to its end.

    Args:
      on_open: is told of the connection once it is open, to be able to end it.
    """
    connection = Connection(upgrade.client, context)
    prefixed = SocketStream(upgrade, stream, connection.heard, connection.unread)
    share = Share(context.shared.sockets)
    try:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(HANDSHAKE_S_MAX) as handshake:
                request = await wrap_server_stream(
                    nursery,
                    prefixed,
                    max_message_size=context.message_bytes_max,
                    receive_buffer_size=RECEIVE_BYTES,
                )
                with contextlib.suppress(ConnectionClosed):  # gone before it began
                    ws = await request.accept()
                    prefixed.accepted.set()
                    handshake.deadline = math.inf
                    on_open(connection)
                    if not share.resize(1):  # only now, for a page is told nothing of a failed upgrade
                        connection.end(1013, "TooManyConcurrentRequests", "too many sockets")
                    await connection.run(ws, prefixed)
            nursery.cancel_scope.cancel()
    finally:
        share.resize(0)
        connection.unread.close()
    await trio.aclose_forcefully(stream)


class Connection:
    """Drives one session over one socket."""

    def __init__(self, client: Client, context: SocketContext) -> None:
        self._backend = context.backend
        self._authenticator = context.authenticator
        self._clock = context.clock
        self._session = Session(
            context.backend,
            client,
            context.make_nonce(),
            context.limits,
            doorbell=self._ring,
            subscriptions=context.shared.subscriptions,
            held_bytes=context.shared.held_bytes,
        )
        self._shared_rate = context.shared.messages
        self._heavy = context.heavy
        self.unread = Unread(context.shared.unread, self._evict)
        self._heartbeat = Heartbeat.starting(context.clock.monotonic())
        self._rate = TokenBucket(MESSAGES_PER_S, MESSAGES_BURST)
        self._unsent: deque[Send | Close] = deque()
        self._unsent_bytes = 0
        self._has_work = trio.Event()  # for the writer; replaced each time it is used up
        self._has_room = trio.Event()  # for the reader, while it waits for the writer
        self._is_probing = False
        self._lifetime = trio.CancelScope()

    def heard(self) -> None:
        self._heartbeat.last_heard = self._clock.monotonic()

    async def run(self, ws: WebSocketConnection, stream: SocketStream) -> None:
        """Serve until either side ends it."""
        self._ws = ws
        self._stream = stream
        with self._lifetime:
            await self._run()

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._write_all)
            try:
                await self._guarded(self._read_all)
            finally:
                # Before the nursery can end, for a doorbell that still rang would
                # find no place for what it starts.
                self._session.close(None)

    def _ring(self) -> None:
        self._session.invalidate()
        self._carry_out()

    def end(self, code: int, reason: str, detail: str = "") -> None:
        """Have the socket closed, after what is waiting to be sent."""
        self._session.close(code, reason, detail)
        self._carry_out()

    def _evict(self) -> None:
        """Have the socket closed soon, even if the client takes nothing of what is waiting to be sent."""
        self.end(1013, "TooManyConcurrentRequests", "its message arrives while memory for messages is short")
        self._lifetime.deadline = trio.current_time() + GOODBYE_S_MAX

    # ---- reading ------------------------------------------------------------------------

    async def _read_all(self) -> None:
        session = self._session
        try:
            while not session.is_closed:
                data = await self._ws.get_message()
                self.unread.take()
                now = self._clock.monotonic()
                if not self._rate.take(now):
                    session.close(1013, "TooManyConcurrentRequests", "too many messages per second")
                elif not self._shared_rate.take(now):
                    session.close(1013, "TooManyConcurrentRequests", "too many messages on all sockets")
                else:
                    await self._take_in(data)
                await self._carry_out_and_verify()
                while self._is_full() and not session.is_closed:
                    self._has_room = trio.Event()
                    await self._has_room.wait()
        except ConnectionClosed:
            if not session.is_closed:  # else the writer is saying goodbye, and must not be cut short
                self._nursery.cancel_scope.cancel()

    async def _take_in(self, data: str | bytes) -> None:
        if isinstance(data, bytes) or not is_heavy(data):
            self._session.receive(data, self._clock.now_ns())
        elif is_too_heavy(data):
            self._session.close(1009, "MessageTooLarge", "a message of too many values")
        else:
            read = await self._heavy.read(read_message, data)
            self._session.receive(data, self._clock.now_ns(), read)

    async def _carry_out_and_verify(self) -> None:
        verify = self._carry_out()
        while verify is not None:
            # Later messages wait, since they run under the identity that comes of this.
            try:
                grant = await self._verified(verify)
            except TokenRefused as refusal:
                self._session.token_refused(refusal)
            except BackendFault as fault:
                self._session.faulted(fault)
            else:
                self._session.token_accepted(grant)
            verify = self._carry_out()

    async def _verified(self, verify: Verify) -> Grant:
        message = verify.message
        assert message.value is not None
        if message.token_type == "Admin":
            return await self._authenticator.admin(message.value, message.impersonating or message.acting_as)
        return await self._authenticator.user(message.value)

    # ---- commands -------------------------------------------------------------------------

    def _carry_out(self) -> Verify | None:
        """Carry out the session's commands. A `Verify` is returned: only the reader can wait for it."""
        commands = self._session.commands
        verify = None
        while commands:
            command = commands.popleft()
            match command:
                case Send():
                    self._unsent.append(command)
                    self._unsent_bytes += len(command.data)
                    self._has_work.set()
                case Close():
                    if command.detail:
                        log.info("closing a socket: %s", command.detail)
                    self._unsent.append(command)
                    self._has_work.set()
                    self._has_room.set()
                case Update():
                    self._nursery.start_soon(self._guarded, self._update)
                case RunMutation():
                    self._nursery.start_soon(self._guarded, self._mutate, command)
                case RunAction():
                    self._nursery.start_soon(self._guarded, self._act, command)
                case AwaitRepeats():
                    self._nursery.start_soon(self._guarded, self._await_repeats)
                case Verify():
                    verify = command
        return verify

    async def _guarded(self, call: Callable[..., Awaitable[None]], *args: object) -> None:
        """Run a call; whatever it raises ends this socket and no other."""
        try:
            await call(*args)
        except BackendFault as fault:
            self._session.faulted(fault)
        except Exception as error:
            log.exception("a call on a socket failed")
            self._session.faulted(BackendFault("InternalServerError", repr(error), transient=False))
        self._carry_out()

    async def _update(self) -> None:
        job = self._session.begin_update(self._clock.now_ns())
        if job is not None:
            await self._finish(job)

    async def _finish(self, job: Job) -> None:
        outcomes = await self._backend.evaluate(job.watches, job.ts) if job.watches else []
        self._session.finish_update(outcomes, self._clock.now_ns())

    async def _mutate(self, command: RunMutation) -> None:
        outcome = await self._backend.mutate(command.call, idempotency=command.idempotency)
        self._session.mutation_done(outcome, self._clock.now_ns())
        self._update_at_once()

    async def _act(self, command: RunAction) -> None:
        outcome = await self._backend.act(command.call)
        self._session.action_done(command.request_id, outcome)
        self._update_at_once()

    async def _await_repeats(self) -> None:
        await trio.sleep(REPEATS_AWAITED_S)
        self._session.repeats_awaited(self._clock.now_ns())

    def _update_at_once(self) -> None:
        """Begin the update that a response asks for here and now: with nothing to run, both leave together.

        A doorbell's update has to wait for a task of its own, since the backend
        may have more to ring about the same commit.
        """
        commands = self._session.commands
        if not commands or not isinstance(commands[-1], Update):
            return
        commands.pop()
        job = self._session.begin_update(self._clock.now_ns())
        if job is None:
            return
        if job.watches:
            self._nursery.start_soon(self._guarded, self._finish, job)
        else:
            self._session.finish_update([], self._clock.now_ns())

    # ---- writing --------------------------------------------------------------------------

    def _is_full(self) -> bool:
        return len(self._unsent) > UNSENT_MESSAGES_MAX or self._unsent_bytes > UNSENT_BYTES_MAX

    async def _write_all(self) -> None:
        try:
            while True:
                if not self._unsent:
                    await self._wait_for_work()
                    continue
                if isinstance(self._unsent[0], Close):
                    await self._say_goodbye(self._unsent[0])
                    break
                with trio.fail_after(WRITE_S_MAX):
                    transitions = await self._write_some()
                self._heartbeat.last_sent = self._clock.monotonic()
                if not self._is_full():
                    self._has_room.set()
                for _ in range(transitions):
                    self._session.transition_sent()
                self._carry_out()
        except (ConnectionClosed, LocalProtocolError, trio.TooSlowError, *_BROKEN):
            log.debug("a socket ended while something was sent")
        self._nursery.cancel_scope.cancel()

    async def _write_some(self) -> int:
        """Send what waits, at most some 64 KiB of small messages at once. The number of transitions in it."""
        transitions = 0
        self._stream.cork()
        while self._unsent and self._stream.held_bytes < WRITE_BYTES:
            command = self._unsent[0]
            if isinstance(command, Close):
                break
            del self._unsent[0]
            await self._ws.send_message(command.data.decode())
            self._unsent_bytes -= len(command.data)
            transitions += command.ends_transition
        await self._stream.uncork()
        return transitions

    async def _wait_for_work(self) -> None:
        """Wait until there is something to send, and keep the heartbeat meanwhile."""
        self._has_work = trio.Event()
        wait_s = max(0.0, self._heartbeat.next_due() - self._clock.monotonic())
        with trio.move_on_after(wait_s):
            await self._has_work.wait()
        now = self._clock.monotonic()
        if self._heartbeat.is_peer_dead(now):
            self._session.close(1000, "ClientSilent", "nothing was heard for too long")
            self._carry_out()
        elif self._heartbeat.is_ping_due(now):
            self._session.ping()
            self._carry_out()
        if self._heartbeat.is_probe_due(now):
            self._heartbeat.last_probe = now
            if not self._is_probing:
                self._is_probing = True
                self._nursery.start_soon(self._probe)

    async def _probe(self) -> None:
        """Ask for a sign of life. What comes back is noticed where bytes are heard."""
        try:
            await self._ws.ping()
        except (ConnectionClosed, LocalProtocolError):
            return
        self._is_probing = False

    async def _say_goodbye(self, command: Close) -> None:
        # A client that takes no part in the closing handshake is left alone soon.
        code = CloseReason.NO_STATUS_RCVD if command.code is None else command.code
        with trio.move_on_after(GOODBYE_S_MAX):
            await self._ws.aclose(code, command.reason or None)
