"""The calls of one session: which wait, which run, which were answered, and what may be shown meanwhile.

The session hands over the requests of its client and the outcomes of its calls;
commands and answers go where those of the session go.

Invariants (protocol, section 5 and 6):

* Mutations run one at a time, in the order received.
* No request id is answered twice.
* Each answer is owed a transition, at its `ts` or later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import attrs

from engine import answers
from engine.backend import ActionOutcome, Call, Failure, Identity, MutationOutcome
from engine.commands import AwaitRepeats, Command, GiveUp, RunAction, RunMutation, Send, SessionLimits
from engine.failures import request_id_of
from engine.held import Held
from engine.id_ranges import IdRanges
from engine.query_set import OutOfContract, QuerySource, read_call
from tidewell import protocol

_REQUEST_GAPS_MAX: Final = 1000  # requests arrive in order but for what an earlier socket answered


@attrs.frozen
class _Request:
    request_id: int
    call_id: str
    call: Call | Failure


@attrs.define(eq=False)
class ClientRequests:
    _source: QuerySource
    _commands: deque[Command]
    _memory: Held
    _limits: SessionLimits
    _nonce: str  # names a session that does not name itself
    _owe_transition: Callable[[int], None]  # at this timestamp or later, once an answer has left
    session_id: str | None = attrs.field(default=None, init=False)  # from `Connect`, if that ever comes

    _seen: IdRanges = attrs.field(factory=IdRanges, init=False)
    _mutations: deque[_Request] = attrs.field(factory=deque, init=False)
    _running: _Request | None = attrs.field(default=None, init=False)
    _running_floor: int = attrs.field(default=0, init=False)  # it commits after this, if at all
    _actions: dict[int, str] = attrs.field(factory=dict, init=False)
    # A reconnecting client first repeats what it has no answer to; see `_owes_answer`.
    _may_repeat: bool = attrs.field(default=False, init=False)
    _observed_ts: int | None = attrs.field(default=None, init=False)  # the newest the client knew by then
    _is_awaiting: bool = attrs.field(default=False, init=False)
    _answered: int = attrs.field(default=-1, init=False)  # the newest mutation

    @property
    def session_key(self) -> str:
        return self.session_id or self._nonce

    def connect(self, session_id: str, observed_ts: int | None, *, may_repeat: bool) -> None:
        """Learn whose session it is, and what the client knows from former sockets."""
        self.session_id = session_id
        self._observed_ts = observed_ts
        self._may_repeat = may_repeat

    def end_awaiting(self) -> None:
        """What the client was going to repeat has come, if it was."""
        self._observed_ts = None

    def add_mutation(self, message: protocol.Mutation, weight: int, identity: Identity) -> None:
        """Run a mutation after those before it. Raises `OutOfContract`, `GiveUp`."""
        if not self._take(message.request_id, weight):
            return
        if len(self._mutations) >= self._limits.mutations_queued_max:
            raise GiveUp(1013, "TooManyConcurrentRequests", "too many queued mutations")
        self._mutations.append(self._request(message, identity))
        self._run_next_mutation()

    def add_action(self, message: protocol.Action, weight: int, identity: Identity) -> None:
        """Run an action. Raises `OutOfContract`, `GiveUp`."""
        if not self._take(message.request_id, weight):
            return
        if len(self._actions) >= self._limits.actions_running_max:
            raise GiveUp(1013, "TooManyConcurrentRequests", "too many running actions")
        request = self._request(message, identity)
        self._actions[request.request_id] = request.call_id
        if isinstance(request.call, Failure):
            self.finish_action(request.request_id, ActionOutcome(None, b"null", (), request.call))
        else:
            self._commands.append(RunAction(request.request_id, request.call))

    def finish_mutation(self, outcome: MutationOutcome) -> None:
        """Answer the mutation that runs, and run the next one."""
        request, self._running = self._running, None
        assert request is not None
        if outcome.failure is None:
            assert outcome.ts <= self._source.head_ts, (outcome.ts, self._source.head_ts)
        self._answer_mutation(request, outcome)
        self._run_next_mutation()

    def finish_action(self, request_id: int, outcome: ActionOutcome) -> None:
        call_id = self._actions.pop(request_id)
        self._memory.drop_call(request_id)
        self._send(answers.action_response(request_id, call_id, outcome, redacted=self._source.redacted))
        self._owe_transition(0)

    def may_show(self, ts: int) -> bool:
        """Whether the state at `ts` may be shown before the running mutation's response.

        Its effect may be visible at every timestamp after the one at which it
        was started.
        """
        return (self._running is None or ts <= self._running_floor) and not self._owes_answer()

    def end(self) -> None:
        """Run nothing more."""
        self._mutations.clear()

    def _take(self, request_id: int, weight: int) -> bool:
        """Note that a request came; False if it has been here before."""
        if not self._seen.add(request_id):
            return False
        if len(self._seen) > _REQUEST_GAPS_MAX:
            raise OutOfContract("request ids do not count up")
        if not self._memory.add_call(request_id, weight):
            raise GiveUp.short_of_memory()
        return True

    def _request(self, message: protocol.Mutation | protocol.Action, identity: Identity) -> _Request:
        call_id = request_id_of(self.session_key, message.request_id)
        read = read_call(message.udf_path, message.args, message.component_path)
        if isinstance(read, Failure):
            return _Request(message.request_id, call_id, read)
        path, args = read
        return _Request(message.request_id, call_id, Call(path, args, identity, call_id, "socket"))

    def _run_next_mutation(self) -> None:
        while self._mutations and self._running is None:
            request = self._mutations.popleft()
            if isinstance(request.call, Failure):
                self._answer_mutation(request, MutationOutcome(0, None, b"null", (), request.call))
                continue
            self._running = request
            self._running_floor = self._source.head_ts
            key = None if self.session_id is None else (self.session_id, request.request_id)
            self._commands.append(RunMutation(request.call, key))

    def _answer_mutation(self, request: _Request, outcome: MutationOutcome) -> None:
        self._answered = max(self._answered, request.request_id)
        self._memory.drop_call(request.request_id)
        redacted = self._source.redacted
        self._send(answers.mutation_response(request.request_id, request.call_id, outcome, redacted=redacted))
        self._owe_transition(outcome.ts if outcome.failure is None else 0)

    def _owes_answer(self) -> bool:
        """Whether something took effect, on a former socket, that the client is still to hear of.

        It is going to repeat that if it has not done so yet. Seeing the effect before
        the answer, it would show it twice: the real one, and its optimistic update.
        """
        if not self._may_repeat or self.session_id is None:
            return False
        newest = self._source.newest_success(self.session_id)
        if newest is None:
            return False
        request_id, ts = newest
        if request_id <= self._answered:
            return False
        if request_id in self._seen:
            return True
        if self._observed_ts is None or ts <= self._observed_ts:
            return False
        if not self._is_awaiting:  # not for ever: a client may not care any more
            self._is_awaiting = True
            self._commands.append(AwaitRepeats())
        return True

    def _send(self, message: protocol.ServerMessage) -> None:
        self._commands.append(Send(protocol.encode_server_message(message)))
