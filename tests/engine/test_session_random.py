"""A session under random interleavings of everything that can happen to it.

Hypothesis plays client, backend and socket; `ModelClient` is what an official
client keeps. The rules of section 5.2 are checked at every step, and at the end,
when everything has been carried out, client and database must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tidewell.protocol import decode_ts

from .fake_backend import FakeBackend
from .session_driver import SessionDriver, add, remove

QUERIES = (
    "counter:get",
    "counter:parity",
    "messages:list",
    "values:who",
    "counter:fail_when_odd",
    "no-such:x",
)
MUTATIONS = ("counter:add", "messages:send", "values:echo_mutation", "errors:fail_mutation", "no-such:x")
SUBJECTS = {"token-A": "i|a", "token-B": "i|a", "token-D": "i|d"}


class ModelClient:
    """Results and promises, as the clients keep them (7.2, 7.4)."""

    def __init__(self, driver: SessionDriver) -> None:
        self.driver = driver
        self.results: dict[int, Any] = {}
        self.subscribed: dict[int, str] = {}
        self.ts = 0
        self.unanswered: list[int] = []  # mutations
        self.unsettled: dict[int, int] = {}  # by request id, the ts that a transition has to reach
        self.commits: dict[int, int] = {}  # commit ts by request id, from the backend

    def hear_all(self) -> None:
        for message in self.driver.take_all():
            if message["type"] == "Transition":
                self.hear_transition(message)
            elif message["type"] == "MutationResponse":
                assert message["requestId"] == self.unanswered.pop(0), "answered out of order"
                if message["success"]:
                    self.unsettled[message["requestId"]] = decode_ts(message["ts"])

    def hear_transition(self, message: dict[str, Any]) -> None:
        self.ts = decode_ts(message["endVersion"]["ts"])
        for request_id, ts in self.commits.items():
            assert request_id not in self.unanswered or ts > self.ts, "effect shown before the response"
        for change in message["modifications"]:
            number = change["queryId"]
            if change["type"] == "QueryRemoved":
                self.results.pop(number, None)
            else:
                self.results[number] = change.get("value", change.get("errorMessage"))
        self.unsettled = {number: ts for number, ts in self.unsettled.items() if ts > self.ts}


class SessionMachine(RuleBasedStateMachine):
    @initialize(count=st.integers(0, 1), does_connect=st.booleans())
    def start(self, count: int, does_connect: bool) -> None:
        self.backend = FakeBackend()
        self.driver = SessionDriver(self.backend, auto=False)
        self.client = ModelClient(self.driver)
        self.query_version = self.identity_version = self.next_query = self.next_request = 0
        self.identity: str | None = None
        self.outcome: Any = None
        if does_connect:
            self.driver.connect(count=count)
        self.modify(["counter:get", "counter:fail_when_odd"], drop=False)

    # ---- the client ----

    @rule()
    def add_one(self) -> None:
        self.mutate("counter:add")

    @rule(paths=st.lists(st.sampled_from(QUERIES), max_size=3), drop=st.booleans())
    def modify(self, paths: list[str], drop: bool) -> None:
        changes = []
        if drop and self.client.subscribed:
            number = min(self.client.subscribed)
            del self.client.subscribed[number]
            changes.append(remove(number))
        for path in paths:
            changes.append(add(self.next_query, path))
            self.client.subscribed[self.next_query] = path
            self.next_query += 1
        self.driver.modify(self.query_version, *changes)
        self.query_version += 1

    @rule(path=st.sampled_from(MUTATIONS))
    def mutate(self, path: str) -> None:
        self.client.unanswered.append(self.next_request)
        args = {"body": "x"} if path == "messages:send" else {}
        self.driver.mutate(self.next_request, path, **args)
        self.next_request += 1

    @rule()
    def act(self) -> None:
        self.driver.act(self.next_request, "values:echo_action")
        self.next_request += 1

    @rule(token=st.sampled_from(sorted(SUBJECTS)))
    def authenticate(self, token: str) -> None:
        message = {"type": "Authenticate", "baseVersion": self.identity_version, "tokenType": "User"}
        self.driver.send({**message, "value": token})
        self.driver.finish_verify()
        self.identity, self.identity_version = SUBJECTS[token], self.identity_version + 1

    @rule()
    def sign_out(self) -> None:
        self.driver.send({"type": "Authenticate", "baseVersion": self.identity_version, "tokenType": "None"})
        self.identity, self.identity_version = None, self.identity_version + 1

    # ---- the world ----

    @rule(value=st.integers(0, 4))
    def commit(self, value: int) -> None:
        self.driver.commit(counter=value)

    @rule(choice=st.integers(0, 4))
    def go_on(self, choice: int) -> None:
        """Carry out one of the things that are under way, whichever."""
        steps = self._possible_steps()
        if steps:
            steps[choice % len(steps)]()

    def _possible_steps(self) -> list[Callable[[], None]]:
        driver = self.driver
        steps = (
            (self.outcome is not None, self._report_mutation),
            (bool(driver.mutations) and self.outcome is None, self._run_mutation),
            (bool(driver.actions), driver.finish_action),
            (driver.unsent_transitions > 0, driver.transition_sent),
            (driver.job is not None, driver.finish_update),
            (driver.updates > 0, driver.begin_update),
        )
        return [step for is_possible, step in steps if is_possible]

    def _run_mutation(self) -> None:
        before = self.backend.head_ts
        self.outcome = self.driver.run_mutation()
        if self.outcome.failure is None and self.outcome.ts > before:
            self.client.commits[self.client.unanswered[0]] = self.outcome.ts
        self.driver.pump()

    def _report_mutation(self) -> None:
        outcome, self.outcome = self.outcome, None
        self.driver.finish_mutation(outcome)

    # ---- what holds ----

    @invariant()
    def client_hears_everything_in_order(self) -> None:
        if hasattr(self, "client"):
            self.client.hear_all()
            assert self.driver.closed is None
            assert self.driver.unsent_transitions <= 2

    @rule()
    def let_everything_settle(self) -> None:
        self._carry_out_everything()
        self._check_agreement()

    def teardown(self) -> None:
        if hasattr(self, "client"):
            self.let_everything_settle()

    def _check_agreement(self) -> None:
        client = self.client
        assert not client.unanswered
        assert not client.unsettled, "a promise would wait for ever"
        assert client.results.keys() == client.subscribed.keys()
        assert len(self.backend.watches) == sum(path != "no-such:x" for path in client.subscribed.values())
        counter = (self.backend.cells.get("counter") or [(0, 0)])[-1][1]
        messages = (self.backend.cells.get("messages/a") or [(0, [])])[-1][1]
        for number, path in client.subscribed.items():
            expected = {
                "counter:get": float(counter),
                "counter:parity": float(counter % 2),
                "messages:list": messages,
                "values:who": {"admin": False, "name": self.identity},
            }.get(path)
            found = client.results[number]
            if path == "counter:fail_when_odd":
                assert ("odd" in found) if counter % 2 else found == "even"
            elif path == "no-such:x":
                assert "Could not find public function" in found
            else:
                assert found == expected, (path, found, expected)

    def _carry_out_everything(self) -> None:
        for _ in range(10_000):
            steps = self._possible_steps()
            if not steps:
                return
            steps[0]()
            self.client.hear_all()
        raise AssertionError("the session never comes to rest")


TestSession = SessionMachine.TestCase
TestSession.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
