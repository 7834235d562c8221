"""The sync session of one socket: messages in, commands out, and no I/O.

The connection hands over what arrived and what came of the work it was told to
do; the session answers with commands, which it leaves in `commands` in the
order in which they must be carried out. Time and outcomes are passed in.

Who calls and what is watched is here; `client_requests` has the calls, and
`transitions` the pace at which results leave. What holds between the two:

* A mutation's response leaves before any transition that may show its effect,
  and a transition at its `ts` or later leaves after it, whatever changed.
* After `Close` there is no further command, and every watch is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from engine import answers
from engine.auth import Grant, TokenRefused
from engine.backend import ANONYMOUS, ActionOutcome, BackendFault, Failure, MutationOutcome, QueryOutcome
from engine.client_requests import ClientRequests
from engine.clients import Client
from engine.commands import Close, Command, GiveUp, Send, SessionLimits, Verify
from engine.failures import Trouble, trouble_of, trouble_of_fault
from engine.held import Held, weigh
from engine.query_set import OutOfContract, QuerySet, QuerySource
from engine.shared_limits import Allowance, Share
from engine.transitions import Job, Transitions
from tidewell import protocol
from tidewell.protocol import Ts, Uint, Version

_SESSION_ID_LENGTH_MAX: Final = 128  # a UUID has 36; some tools make up their own


class Session:
    def __init__(
        self,
        source: QuerySource,
        client: Client,
        nonce: str,
        limits: SessionLimits | None = None,
        doorbell: Callable[[], None] | None = None,
        subscriptions: Allowance | None = None,
        held_bytes: Allowance | None = None,
    ) -> None:
        """Begin a session.

        Args:
          nonce: names a session that does not name itself; must be unique.
          doorbell: rung by the source in place of `invalidate`, which it has to call.
          subscriptions, held_bytes: what all sessions together may have; default: as much as this one may.
        """
        self.commands: deque[Command] = deque()
        self.is_closed = False
        self._source = source
        self._limits = limits = limits or SessionLimits()
        self._grant = Grant(ANONYMOUS)
        self._identity_received = 0
        self._verifying: protocol.Authenticate | None = None
        self._queries = QuerySet(source, doorbell or self.invalidate, limits.subscriptions_max)
        self._subscriptions = Share(subscriptions or Allowance(limits.subscriptions_max))
        most = limits.held_bytes_max
        self._memory = Held(held_bytes or Allowance(most), most)
        self._transitions = Transitions(self.commands, client, nonce, limits)
        self._requests = ClientRequests(
            source, self.commands, self._memory, limits, nonce, self._transitions.owe
        )

    # ---- what the connection reports ------------------------------------------------

    def receive(
        self,
        data: str | bytes,
        now_ns: int,
        read: protocol.ClientMessage | protocol.MalformedMessage | None = None,
    ) -> None:
        """Take in one frame. Not while a `Verify` is outstanding.

        Args:
          read: what the frame says, if it was read already (`heavy`).
        """
        assert self._verifying is None
        if self.is_closed:
            return
        if isinstance(data, bytes):
            self._fail("binary frames are not part of the protocol")
            return
        try:
            message = protocol.decode_client_message(data) if read is None else read
            if isinstance(message, protocol.MalformedMessage):
                raise message
            self._dispatch(message, data, now_ns)
        except (protocol.MalformedMessage, OutOfContract) as error:
            self._fail(str(error))
        except GiveUp as end:
            self.close(end.code, end.reason, end.detail)

    def invalidate(self) -> None:
        """The doorbell: something that is watched may have changed."""
        self._transitions.invalidate()

    def begin_update(self, now_ns: int) -> Job | None:
        """Answer an `Update`; None if it is not wanted any more."""
        if self._verifying is not None and self._is_expired(now_ns):
            self._transitions.postpone()  # the client is renewing its token, and the update comes of that
            return None
        if self.is_closed or self._expire(now_ns):
            return None
        self._transitions.clean()
        current = self._transitions.current
        target = Version(
            query_set=Uint(self._queries.received),
            identity=Uint(self._identity_received),
            ts=Ts(max(self._source.head_ts, current.ts)),
        )
        removed = self._queries.apply(
            self._grant.identity, target.identity != current.identity, self._requests.session_key
        )
        self._subscriptions.resize(self._queries.size)
        self._memory.changes_applied()
        changes: list[protocol.QueryChange] = [protocol.QueryRemoved(Uint(number)) for number in removed]
        stale = self._queries.stale()
        asked = tuple(subscription for subscription in stale if subscription.watch is not None)
        for subscription in stale:
            if subscription.refused is not None:
                changes.append(
                    answers.query_refused(
                        subscription.query_id,
                        subscription.request_id,
                        subscription.refused,
                        redacted=self._source.redacted,
                    )
                )
                subscription.last_sent = (b"", None)
        watches = tuple(subscription.watch for subscription in asked if subscription.watch is not None)
        job = Job(target, watches, asked, changes)
        self._transitions.begin(job)
        return job

    def finish_update(self, outcomes: list[QueryOutcome], now_ns: int) -> None:
        """Hand over the outcomes of the job's watches, in their order."""
        if self.is_closed:
            return
        job = self._transitions.job
        assert job is not None
        assert len(outcomes) == len(job.watches), (len(outcomes), len(job.watches))
        for subscription, outcome in zip(job.subscriptions, outcomes, strict=True):
            trouble = trouble_of(outcome.failure)
            if trouble is not None:
                self._give_up(trouble)
                return
            if subscription.note(outcome):
                job.changes.append(
                    answers.query_change(
                        subscription.query_id,
                        subscription.request_id,
                        outcome,
                        redacted=self._source.redacted,
                    )
                )
        self._transitions.finish()
        self._transitions.emit(now_ns, self._requests.may_show)

    def mutation_done(self, outcome: MutationOutcome, now_ns: int) -> None:
        """The outcome of the mutation that runs."""
        if self._can_answer(outcome.failure):
            self._requests.finish_mutation(outcome)
            self._transitions.emit(now_ns, self._requests.may_show)
            self._transitions.ask()

    def action_done(self, request_id: int, outcome: ActionOutcome) -> None:
        if self._can_answer(outcome.failure):
            self._requests.finish_action(request_id, outcome)
            self._transitions.ask()

    def token_accepted(self, grant: Grant) -> None:
        self._verifying = None
        if self.is_closed:
            return
        self._grant = grant
        self._identity_received += 1
        self._transitions.invalidate()

    def token_refused(self, refusal: TokenRefused) -> None:
        self._verifying = None
        self._end_auth(refusal.message, attempted=True)

    def transition_sent(self) -> None:
        """A transition that was handed out has left."""
        self._transitions.sent()

    def repeats_awaited(self, now_ns: int) -> None:
        """The time is over in which a client repeats what it has no answer to."""
        if not self.is_closed:
            self._requests.end_awaiting()
            self._transitions.emit(now_ns, self._requests.may_show)

    def ping(self) -> None:
        """Nothing was sent for a while: say that the server is there."""
        if not self.is_closed:
            self._send(protocol.Ping())

    def faulted(self, fault: BackendFault) -> None:
        """A call ended without an outcome."""
        self._give_up(trouble_of_fault(fault))

    def close(self, code: int | None, reason: str = "", detail: str = "") -> None:
        """End the session; `Close` is its last command."""
        if not self.is_closed:
            self.is_closed = True
            self._queries.close()
            self._subscriptions.resize(0)
            self._requests.end()
            self._transitions.end()
            self._memory.clear()
            self.commands.append(Close(code, reason, detail))

    # ---- messages ---------------------------------------------------------------------

    def _dispatch(self, message: protocol.ClientMessage, text: str, now_ns: int) -> None:
        match message:
            case protocol.Mutation():
                if not self._expire(now_ns):
                    self._requests.add_mutation(message, weigh(text), self._grant.identity)
                    self._transitions.ask()
            case protocol.Action():
                if not self._expire(now_ns):
                    self._requests.add_action(message, weigh(text), self._grant.identity)
                    self._transitions.ask()
            case protocol.ModifyQuerySet():
                self._modify(message, weigh(text))
            case protocol.Authenticate():
                self._receive_authenticate(message)
            case protocol.Connect():
                self._receive_connect(message, now_ns)
            case protocol.Event():
                pass  # telemetry, of kinds that may be invented at any time

    def _modify(self, message: protocol.ModifyQuerySet, weight: int) -> None:
        if not self._queries.modify(message):
            raise GiveUp(1013, "TooManySubscriptions", f"more than {self._limits.subscriptions_max}")
        if not self._subscriptions.resize(self._queries.size):
            raise GiveUp(1013, "SubscriptionsWorkerFullError", "too many subscriptions on all sockets")
        if not self._memory.add_changes(message.modifications, weight):
            raise GiveUp.short_of_memory()
        self._transitions.invalidate()

    def _receive_connect(self, message: protocol.Connect, now_ns: int) -> None:
        if self._requests.session_id is not None:
            raise OutOfContract("Connect came twice")
        if len(message.session_id) > _SESSION_ID_LENGTH_MAX or not message.session_id.isascii():
            raise OutOfContract("the sessionId is not a UUID")
        observed = message.max_observed_timestamp
        self._requests.connect(message.session_id, observed, may_repeat=message.connection_count > 0)
        if message.client_ts:  # the Rust client sends 0, having no clock to speak of
            self._transitions.client_clock_skew = message.client_ts - now_ns / 1e6
        if observed is not None and observed > self._source.head_ts:
            raise GiveUp(
                1011,
                "InternalServerError",
                f"the client has seen timestamp {observed}, the newest here is {self._source.head_ts}",
            )

    def _receive_authenticate(self, message: protocol.Authenticate) -> None:
        if message.base_version != self._identity_received:
            raise OutOfContract(
                f"Authenticate is based on version {message.base_version}, "
                f"the identity is at {self._identity_received}"
            )
        if message.token_type == "None":
            self.token_accepted(Grant(ANONYMOUS))
        elif message.token_type in ("User", "Admin"):
            if message.value is None:
                raise OutOfContract(f"Authenticate {message.token_type} without a value")
            self._verifying = message
            self.commands.append(Verify(message))
        else:
            raise OutOfContract(f"unknown tokenType {message.token_type!r}")

    # ---- the rest -------------------------------------------------------------------------

    def _send(self, message: protocol.ServerMessage) -> None:
        self.commands.append(Send(protocol.encode_server_message(message)))

    def _fail(self, problem: str) -> None:
        if not self.is_closed:
            self._send(protocol.FatalError(problem.encode(errors="replace").decode()))
            self.close(None, detail=problem)

    def _can_answer(self, failure: Failure | None) -> bool:
        """Whether an outcome is for the client. A failure that is no answer ends the session."""
        trouble = trouble_of(failure)
        if trouble is not None and not self.is_closed:
            self._give_up(trouble)
        return not self.is_closed

    def _give_up(self, trouble: Trouble) -> None:
        self.close(trouble.close_code, trouble.code, trouble.message)

    def _expire(self, now_ns: int) -> bool:
        """End the session if its token has expired."""
        if not self._is_expired(now_ns):
            return False
        self._end_auth("the token has expired", attempted=False)
        return True

    def _is_expired(self, now_ns: int) -> bool:
        expires_ms = self._grant.expires_ms
        return expires_ms is not None and now_ns >= expires_ms * 1e6

    def _end_auth(self, problem: str, *, attempted: bool) -> None:
        if not self.is_closed:
            self._send(protocol.AuthError(problem, Uint(self._identity_received), attempted))
            self.close(None, detail=problem)
