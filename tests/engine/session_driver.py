"""Runs a session without any I/O: hands it messages, does what it commands, at once or when told.

Time stands still unless a test moves it. Everything a session sends is checked
on the way out against the rules that hold on every socket (versions in one
chain, no second answer, no response after the transition that shows it).
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import attrs

from engine.auth import Authenticator, Grant, TokenRefused
from engine.backend import ActionOutcome, BackendFault, Identity, MutationOutcome
from engine.clients import Client
from engine.commands import AwaitRepeats, Close, RunAction, RunMutation, Send, SessionLimits, Update, Verify
from engine.session import Session
from engine.shared_limits import Allowance
from engine.transitions import Job
from tidewell.protocol import decode_ts

from .fake_backend import FakeBackend

NOW_NS = 1_795_360_169_955_000_000
NPM = Client("npm", (1, 48, 0))
TOKENS = {
    "token-A": Grant(Identity({"issuer": "i", "subject": "a", "tokenIdentifier": "i|a"})),
    "token-B": Grant(Identity({"issuer": "i", "subject": "a", "tokenIdentifier": "i|a"})),
    "token-D": Grant(Identity({"issuer": "i", "subject": "d", "tokenIdentifier": "i|d"})),
    "token-short": Grant(
        Identity({"issuer": "i", "subject": "s", "tokenIdentifier": "i|s"}), expires_ms=NOW_NS / 1e6 + 5000
    ),
}


@attrs.frozen
class FakeAuthenticator(Authenticator):
    """Knows four user tokens."""

    admin_key: str | None = "the-admin-key"

    async def user(self, token: str) -> Grant:
        return self.user_now(token)

    def user_now(self, token: str) -> Grant:
        if token not in TOKENS:
            raise TokenRefused("Unauthenticated", f"the token {token!r} is not known")
        return TOKENS[token]


class SessionDriver:
    """One socket. With `auto` every command is done as soon as it is given."""

    def __init__(
        self,
        backend: FakeBackend | None = None,
        *,
        client: Client = NPM,
        limits: SessionLimits | None = None,
        auto: bool = True,
        held_bytes: Allowance | None = None,
    ) -> None:
        self.backend = backend or FakeBackend()
        self.session = Session(self.backend, client, "nonce", limits, held_bytes=held_bytes)
        self.auto = auto
        self.now_ns = NOW_NS
        self.sent: deque[dict[str, Any]] = deque()  # what a test has not looked at
        self.closed: Close | None = None
        self.updates = 0  # commanded, not begun
        self.job: Job | None = None  # begun, not finished
        self.mutations: deque[RunMutation] = deque()
        self.actions: deque[RunAction] = deque()
        self.verify: Verify | None = None
        self.is_awaiting_repeats = False
        self.unsent_transitions = 0  # handed out, and not reported as sent unless `auto`
        self.raw_sizes: list[int] = []
        self._version: dict[str, Any] = {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
        self._answered: set[int] = set()

    # ---- the client --------------------------------------------------------------

    def send(self, message: dict[str, Any] | str | bytes) -> None:
        self.session.receive(json.dumps(message) if isinstance(message, dict) else message, self.now_ns)
        self.pump()

    def connect(self, count: int = 0, **fields: Any) -> None:
        self.send({"type": "Connect", "sessionId": "session-1", "connectionCount": count, **fields})

    def modify(self, base: int, *changes: dict[str, Any], new: int | None = None) -> None:
        new_version = base + 1 if new is None else new
        self.send(
            {
                "type": "ModifyQuerySet",
                "baseVersion": base,
                "newVersion": new_version,
                "modifications": list(changes),
            }
        )

    def mutate(self, request_id: int, path: str, **args: Any) -> None:
        self.send({"type": "Mutation", "requestId": request_id, "udfPath": path, "args": [args]})

    def act(self, request_id: int, path: str, **args: Any) -> None:
        self.send({"type": "Action", "requestId": request_id, "udfPath": path, "args": [args]})

    def take(self) -> dict[str, Any]:
        assert self.sent, "nothing was sent"
        return self.sent.popleft()

    def take_all(self) -> list[dict[str, Any]]:
        messages = list(self.sent)
        self.sent.clear()
        return messages

    # ---- the world ---------------------------------------------------------------

    def commit(self, **cells: Any) -> int:
        ts = self.backend.commit({name.replace("__", "/"): value for name, value in cells.items()})
        self.pump()
        return ts

    def pump(self) -> None:
        """Take the session's commands, and do them if `auto`."""
        while self.session.commands:
            command = self.session.commands.popleft()
            assert self.closed is None, f"{command} after the end"
            match command:
                case Send():
                    self._note(command)
                case Close():
                    self.closed = command
                case Update():
                    self.updates += 1
                    assert self.updates == 1
                    assert self.job is None
                case RunMutation():
                    self.mutations.append(command)
                    assert len(self.mutations) == 1, "two mutations at once"
                case RunAction():
                    self.actions.append(command)
                case AwaitRepeats():
                    assert not self.is_awaiting_repeats
                    self.is_awaiting_repeats = True
                case Verify():
                    self.verify = command
            if self.auto:
                self._do_everything()

    def _do_everything(self) -> None:
        while self.closed is None and not self.session.commands:
            if self.verify is not None:
                self.finish_verify()
            elif self.unsent_transitions:
                self.transition_sent()
            elif self.mutations:
                self.finish_mutation()
            elif self.actions:
                self.finish_action()
            elif self.updates:
                self.begin_update()
                if self.job is not None:
                    self.finish_update()
            else:
                break

    def begin_update(self) -> None:
        self.updates -= 1
        self.job = self.session.begin_update(self.now_ns)

    def finish_update(self) -> None:
        job, self.job = self.job, None
        assert job is not None
        outcomes = [self.backend.evaluate_now(watch, job.ts) for watch in job.watches]
        self.session.finish_update(outcomes, self.now_ns)
        if not self.auto:
            self.pump()

    def update(self) -> None:
        self.begin_update()
        self.finish_update()

    def run_mutation(self) -> MutationOutcome:
        """Run the mutation without reporting its outcome."""
        command = self.mutations[0]
        return self.backend.mutate_now(command.call, command.idempotency)

    def finish_mutation(self, outcome: MutationOutcome | None = None) -> None:
        try:
            outcome = outcome or self.run_mutation()
        except BackendFault as fault:
            self.mutations.popleft()
            self.session.faulted(fault)
        else:
            self.mutations.popleft()
            self.session.mutation_done(outcome, self.now_ns)
        if not self.auto:
            self.pump()

    def finish_action(self, place: int = 0) -> None:
        command = self.actions[place]
        del self.actions[place]
        outcome: ActionOutcome = self.backend.act_now(command.call)
        self.session.action_done(command.request_id, outcome)
        if not self.auto:
            self.pump()

    def finish_verify(self) -> None:
        verify, self.verify = self.verify, None
        assert verify is not None
        assert verify.message.value is not None
        try:
            if verify.message.token_type == "Admin":
                grant = Grant(Identity(admin=True))
            else:
                grant = FakeAuthenticator().user_now(verify.message.value)
        except TokenRefused as refusal:
            self.session.token_refused(refusal)
        else:
            self.session.token_accepted(grant)
        if not self.auto:
            self.pump()

    def transition_sent(self) -> None:
        self.unsent_transitions -= 1
        self.session.transition_sent()
        if not self.auto:
            self.pump()

    # ---- what holds for every message -------------------------------------------------

    def _note(self, command: Send) -> None:
        message = json.loads(command.data)
        self.raw_sizes.append(len(command.data))
        self.unsent_transitions += command.ends_transition
        if message["type"] == "Transition":
            start, end = message["startVersion"], message["endVersion"]
            assert start == self._version, (start, self._version)
            assert end["querySet"] >= start["querySet"]
            assert end["identity"] >= start["identity"]
            assert decode_ts(end["ts"]) >= decode_ts(start["ts"])
            numbers = [change["queryId"] for change in message["modifications"]]
            assert len(numbers) == len(set(numbers)), numbers
            self._version = end
        elif message["type"] in ("MutationResponse", "ActionResponse"):
            assert message["requestId"] not in self._answered, message
            self._answered.add(message["requestId"])
        self.sent.append(message)


def add(query_id: int, path: str, journal: str | None = None, **args: Any) -> dict[str, Any]:
    change = {"type": "Add", "queryId": query_id, "udfPath": path, "args": [args]}
    return change if journal is None else {**change, "journal": journal}


def remove(query_id: int) -> dict[str, Any]:
    return {"type": "Remove", "queryId": query_id}


def version(message: dict[str, Any]) -> tuple[int, int, int]:
    end = message["endVersion"]
    return end["querySet"], end["identity"], decode_ts(end["ts"])


def values(message: dict[str, Any]) -> dict[int, Any]:
    """The values that a transition brings, by query id."""
    return {
        change["queryId"]: change["value"]
        for change in message["modifications"]
        if change["type"] == "QueryUpdated"
    }
