"""The sync session of one socket: messages in, commands out, and no I/O.

The connection hands over what arrived and what came of the work it was told to
do; the session answers with commands, which it leaves in `commands` in the
order in which they must be carried out. Time and outcomes are passed in.

Invariants (protocol, section 5 and 6):

* A transition starts where the last one ended, and no component falls.
* One update at a time. It begins only when fewer than `transitions_unsent_max`
  transitions wait to be sent; whatever happens meanwhile is one later update.
* Mutations run one at a time, in the order received.
* A mutation's response leaves before any transition that may show its effect,
  and a transition at its `ts` or later leaves after it, whatever changed.
* No request id is answered twice.
* After `Close` there is no further command, and every watch is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from engine import answers
from engine.auth import Grant, TokenRefused
from engine.backend import (
    ANONYMOUS,
    ActionOutcome,
    BackendFault,
    Call,
    Failure,
    MutationOutcome,
    QueryOutcome,
    Watch,
)
from engine.clients import Client
from engine.commands import Close, Command, RunAction, RunMutation, Send, SessionLimits, Update, Verify
from engine.failures import Trouble, request_id_of, trouble_of, trouble_of_fault
from engine.held import Held, weigh
from engine.id_ranges import IdRanges
from engine.query_set import OutOfContract, QuerySet, QuerySource, Subscription, read_call
from engine.shared_limits import Allowance, Share
from tidewell import protocol
from tidewell.protocol import Ts, Uint, Version

_SESSION_ID_LENGTH_MAX: Final = 128  # a UUID has 36; some tools make up their own
_TOO_LARGE: Final = "memory for arguments is short"
_REQUEST_GAPS_MAX: Final = 1000  # requests arrive in order but for what an earlier socket answered


@attrs.define(eq=False)
class Job:
    """One update: the outcomes of `watches` are wanted, all as of `ts`."""

    ts: int
    watches: tuple[Watch, ...]
    _target: Version
    _subscriptions: tuple[Subscription, ...]
    _changes: list[protocol.QueryChange]  # so far: what was removed or refused


@attrs.frozen
class _Request:
    request_id: int
    call_id: str
    call: Call | Failure


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
        self._client = client
        self._limits = limits or SessionLimits()
        self._session_id: str | None = None  # from `Connect`, if that ever comes
        self._nonce = nonce
        self._client_clock_skew: float | None = None

        self._grant = Grant(ANONYMOUS)
        self._identity_received = 0
        self._verifying: protocol.Authenticate | None = None
        self._queries = QuerySet(source, doorbell or self.invalidate, self._limits.subscriptions_max)
        self._subscriptions = Share(subscriptions or Allowance(self._limits.subscriptions_max))
        most = self._limits.held_bytes_max
        self._memory = Held(held_bytes or Allowance(most), most)

        self._seen = IdRanges()
        self._mutations: deque[_Request] = deque()
        self._running: _Request | None = None
        self._running_floor = 0  # the running mutation commits after this, if it commits
        self._actions: dict[int, str] = {}
        # A reconnecting client first repeats what it has no answer to; see `_owes_answer`.
        self._may_repeat = False
        self._observed_ts: int | None = None  # the newest that the client knew when it connected
        self._answered = -1  # the newest mutation

        self._current = Version()
        self._is_dirty = False
        self._owes_transition = False  # even an empty one: somebody's promise waits for it
        self._update_asked = False
        self._job: Job | None = None
        self._held: tuple[Job, list[protocol.QueryChange]] | None = None  # finished, waits for a response
        self._transitions_unsent = 0

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

    def invalidate(self) -> None:
        """The doorbell: something that is watched may have changed."""
        self._is_dirty = True
        self._ask_for_update()

    def begin_update(self, now_ns: int) -> Job | None:
        """Answer an `Update`; None if it is not wanted any more."""
        if self._verifying is not None and self._is_expired(now_ns):
            self._update_asked = False  # the client is renewing its token, and the update comes of that
            return None
        if self.is_closed or self._expire(now_ns):
            return None
        assert self._job is None
        self._is_dirty = False
        target = Version(
            query_set=Uint(self._queries.received),
            identity=Uint(self._identity_received),
            ts=Ts(max(self._source.head_ts, self._current.ts)),
        )
        removed = self._queries.apply(
            self._grant.identity, target.identity != self._current.identity, self._session_key
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
        self._update_asked = False  # not earlier: a new watch may ring at once
        self._job = Job(target.ts, watches, target, asked, changes)
        return self._job

    def finish_update(self, outcomes: list[QueryOutcome], now_ns: int) -> None:
        """Hand over the outcomes of the job's watches, in their order."""
        if self.is_closed:
            return
        job = self._job
        assert job is not None
        assert len(outcomes) == len(job.watches), (len(outcomes), len(job.watches))
        changes = job._changes
        for subscription, outcome in zip(job._subscriptions, outcomes, strict=True):
            trouble = trouble_of(outcome.failure)
            if trouble is not None:
                self._give_up(trouble)
                return
            if subscription.note(outcome):
                changes.append(
                    answers.query_change(
                        subscription.query_id,
                        subscription.request_id,
                        outcome,
                        redacted=self._source.redacted,
                    )
                )
        self._held = (job, changes)
        self._emit_held(now_ns)

    def mutation_done(self, outcome: MutationOutcome, now_ns: int) -> None:
        """The outcome of the mutation that runs."""
        request, self._running = self._running, None
        if self.is_closed:
            return
        assert request is not None
        trouble = trouble_of(outcome.failure)
        if trouble is not None:
            self._give_up(trouble)
            return
        if outcome.failure is None:
            assert outcome.ts <= self._source.head_ts, (outcome.ts, self._source.head_ts)
        self._answer_mutation(request, outcome)
        self._run_next_mutation()
        self._emit_held(now_ns)
        self._ask_for_update()

    def action_done(self, request_id: int, outcome: ActionOutcome) -> None:
        call_id = self._actions.pop(request_id)
        if self.is_closed:
            return
        trouble = trouble_of(outcome.failure)
        if trouble is not None:
            self._give_up(trouble)
            return
        self._memory.drop_call(request_id)
        self._send(answers.action_response(request_id, call_id, outcome, redacted=self._source.redacted))
        self._owe_transition(0)
        self._ask_for_update()

    def token_accepted(self, grant: Grant) -> None:
        self._verifying = None
        if self.is_closed:
            return
        self._grant = grant
        self._identity_received += 1
        self._is_dirty = True
        self._ask_for_update()

    def token_refused(self, refusal: TokenRefused) -> None:
        self._verifying = None
        self._end_auth(refusal.message, attempted=True)

    def transition_sent(self) -> None:
        """A transition that was handed out has left."""
        assert self._transitions_unsent > 0
        self._transitions_unsent -= 1
        self._ask_for_update()

    def ping(self, now_ns: int) -> None:
        """Nothing was sent for a while: say that the server is there."""
        if not self.is_closed:
            self._send(protocol.Ping())
            self._may_repeat = False  # a client that repeats does so at once
            self._emit_held(now_ns)

    def faulted(self, fault: BackendFault) -> None:
        """A call ended without an outcome."""
        self._give_up(trouble_of_fault(fault))

    def close(self, code: int | None, reason: str = "", detail: str = "") -> None:
        """End the session; `Close` is its last command."""
        if not self.is_closed:
            self.is_closed = True
            self._queries.close()
            self._subscriptions.resize(0)
            self._mutations.clear()
            self._memory.clear()
            self._held = None
            self.commands.append(Close(code, reason, detail))

    # ---- messages ---------------------------------------------------------------------

    def _dispatch(self, message: protocol.ClientMessage, text: str, now_ns: int) -> None:
        match message:
            case protocol.Mutation():
                self._receive_mutation(message, text, now_ns)
            case protocol.Action():
                self._receive_action(message, text, now_ns)
            case protocol.ModifyQuerySet():
                if not self._queries.modify(message):
                    self.close(1013, "TooManySubscriptions", f"more than {self._limits.subscriptions_max}")
                    return
                if not self._subscriptions.resize(self._queries.size):
                    self.close(1013, "SubscriptionsWorkerFullError", "too many subscriptions on all sockets")
                    return
                if not self._memory.add_changes(message.modifications, weigh(text)):
                    self.close(1013, "TooManyConcurrentRequests", _TOO_LARGE)
                    return
                self._is_dirty = True
                self._ask_for_update()
            case protocol.Authenticate():
                self._receive_authenticate(message)
            case protocol.Connect():
                self._receive_connect(message, now_ns)
            case protocol.Event():
                pass  # telemetry, of kinds that may be invented at any time

    def _receive_connect(self, message: protocol.Connect, now_ns: int) -> None:
        if self._session_id is not None:
            raise OutOfContract("Connect came twice")
        if len(message.session_id) > _SESSION_ID_LENGTH_MAX or not message.session_id.isascii():
            raise OutOfContract("the sessionId is not a UUID")
        self._session_id = message.session_id
        self._may_repeat = message.connection_count > 0
        if message.client_ts:  # the Rust client sends 0, having no clock to speak of
            self._client_clock_skew = message.client_ts - now_ns / 1e6
        observed = self._observed_ts = message.max_observed_timestamp
        if observed is not None and observed > self._source.head_ts:
            self.close(
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

    def _receive_mutation(self, message: protocol.Mutation, text: str, now_ns: int) -> None:
        if not self._take_request(message.request_id, text, now_ns):
            return
        if len(self._mutations) >= self._limits.mutations_queued_max:
            self.close(1013, "TooManyConcurrentRequests", "too many queued mutations")
            return
        self._mutations.append(self._request(message))
        self._run_next_mutation()
        self._ask_for_update()

    def _receive_action(self, message: protocol.Action, text: str, now_ns: int) -> None:
        if not self._take_request(message.request_id, text, now_ns):
            return
        if len(self._actions) >= self._limits.actions_running_max:
            self.close(1013, "TooManyConcurrentRequests", "too many running actions")
            return
        request = self._request(message)
        self._actions[request.request_id] = request.call_id
        if isinstance(request.call, Failure):
            self.action_done(request.request_id, ActionOutcome(None, b"null", (), request.call))
        else:
            self.commands.append(RunAction(request.request_id, request.call))

    def _take_request(self, request_id: int, text: str, now_ns: int) -> bool:
        """Note that a request came; False if it has been here before, or may not run."""
        if self._expire(now_ns) or not self._seen.add(request_id):
            return False
        if len(self._seen) > _REQUEST_GAPS_MAX:
            raise OutOfContract("request ids do not count up")
        if not self._memory.add_call(request_id, weigh(text)):
            self.close(1013, "TooManyConcurrentRequests", _TOO_LARGE)
            return False
        return True

    def _request(self, message: protocol.Mutation | protocol.Action) -> _Request:
        call_id = request_id_of(self._session_key, message.request_id)
        read = read_call(message.udf_path, message.args, message.component_path)
        if isinstance(read, Failure):
            return _Request(message.request_id, call_id, read)
        path, args = read
        return _Request(
            message.request_id, call_id, Call(path, args, self._grant.identity, call_id, "socket")
        )

    def _run_next_mutation(self) -> None:
        while self._mutations and self._running is None:
            request = self._mutations.popleft()
            if isinstance(request.call, Failure):
                self._answer_mutation(request, MutationOutcome(0, None, b"null", (), request.call))
                continue
            self._running = request
            self._running_floor = self._source.head_ts
            key = None if self._session_id is None else (self._session_id, request.request_id)
            self.commands.append(RunMutation(request.call, key))

    def _answer_mutation(self, request: _Request, outcome: MutationOutcome) -> None:
        self._answered = max(self._answered, request.request_id)
        self._memory.drop_call(request.request_id)
        redacted = self._source.redacted
        self._send(answers.mutation_response(request.request_id, request.call_id, outcome, redacted=redacted))
        self._owe_transition(outcome.ts if outcome.failure is None else 0)

    # ---- transitions --------------------------------------------------------------------

    def _owe_transition(self, ts: int) -> None:
        """See that a transition at `ts` or later leaves from now on, even an empty one."""
        self._owes_transition = True
        if self._job is None or self._job.ts < ts:
            self._is_dirty = True

    def _ask_for_update(self) -> None:
        if (
            self._is_dirty
            and not self._update_asked
            and self._job is None
            and self._transitions_unsent < self._limits.transitions_unsent_max
            and not self.is_closed
        ):
            self._update_asked = True
            self.commands.append(Update())

    def _may_emit(self, job: Job) -> bool:
        """Whether a finished transition may leave before the running mutation's response.

        Its effect may be visible at every timestamp after the one at which it
        was started.
        """
        return (self._running is None or job.ts <= self._running_floor) and not self._owes_answer()

    def _owes_answer(self) -> bool:
        """Whether something took effect, on a former socket, that the client is still to hear of.

        It is going to repeat that if it has not done so yet. Seeing the effect before
        the answer, it would show it twice: the real one, and its optimistic update.
        """
        if not self._may_repeat or self._session_id is None:
            return False
        newest = self._source.newest_success(self._session_id)
        if newest is None:
            return False
        request_id, ts = newest
        is_unheard = self._observed_ts is not None and ts > self._observed_ts
        return request_id > self._answered and (is_unheard or request_id in self._seen)

    def _emit_held(self, now_ns: int) -> None:
        if self._held is None or not self._may_emit(self._held[0]):
            return
        (job, changes), self._held, self._job = self._held, None, None
        target = job._target
        is_version_new = (target.query_set, target.identity) != (
            self._current.query_set,
            self._current.identity,
        )
        # A response that came after this job's snapshot is owed a later transition.
        is_owed = self._owes_transition
        self._owes_transition = self._is_dirty and is_owed
        if changes or is_version_new or is_owed:
            self._emit(protocol.Transition(self._current, target, changes), now_ns)
            self._current = target
        self._ask_for_update()

    def _emit(self, transition: protocol.Transition, now_ns: int) -> None:
        if self._client_clock_skew is not None:
            transition = attrs.evolve(transition, client_clock_skew=self._client_clock_skew, server_ts=now_ns)
        self._transitions_unsent += 1
        data = protocol.encode_server_message(transition)
        parts = [data]
        if len(data) > self._limits.chunk_above_bytes and self._client.takes_chunks:
            name = f"{self._nonce}-{transition.end_version.ts}-{now_ns}"
            parts = protocol.split_transition(data, name, self._limits.chunk_bytes)
        for part in parts[:-1]:
            self.commands.append(Send(part))
        self.commands.append(Send(parts[-1], ends_transition=True))

    # ---- the rest -------------------------------------------------------------------------

    @property
    def _session_key(self) -> str:
        return self._session_id or self._nonce

    def _send(self, message: protocol.ServerMessage) -> None:
        self.commands.append(Send(protocol.encode_server_message(message)))

    def _fail(self, problem: str) -> None:
        if not self.is_closed:
            self._send(protocol.FatalError(problem.encode(errors="replace").decode()))
            self.close(None, detail=problem)

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
