"""The client's protocol without a socket: what it sends, when calls settle, what a lost socket costs."""

from __future__ import annotations

import json
from typing import Any

import pytest

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
from tidewell.client.outcomes import LOST, Failed, Succeeded, unwrap
from tidewell.errors import AppError, FunctionError, InvalidValue
from tidewell.protocol import encode_ts
from tidewell.values import MISSING, Int64


class Script:
    """A core on an open socket, and a server that a test plays."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.core = ClientCore("session")
        self.version = [0, 0, 0]
        if is_open:
            self.open()

    def open(self) -> list[dict[str, Any]]:
        self.version = [0, 0, 0]
        self.core.opened(1000.4)
        return self.sent()

    def has_caught_up(self) -> bool:
        return self.core.has_caught_up

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.core.take_outgoing()]

    def say(self, **message: Any) -> list[Event]:
        return self.core.receive(json.dumps(message))

    def transition(
        self, *changes: dict[str, Any], query_set: int = 1, identity: int = 0, ts: int
    ) -> list[Event]:
        start, self.version = self.version, [query_set, identity, ts]
        names = ("querySet", "identity", "ts")
        ends = [dict(zip(names, (*v[:2], encode_ts(v[2])), strict=True)) for v in (start, self.version)]
        return self.say(
            type="Transition", startVersion=ends[0], endVersion=ends[1], modifications=list(changes)
        )

    def respond(self, kind: str, request_id: int, result: Any, **fields: Any) -> list[Event]:
        if "ts" in fields:
            fields["ts"] = encode_ts(fields["ts"])
        fields = {"success": True, "logLines": [], **fields}
        return self.say(type=f"{kind}Response", requestId=request_id, result=result, **fields)


def updated(query_id: int, value: Any, journal: str | None = None) -> dict[str, Any]:
    fields = {"queryId": query_id, "value": value, "logLines": [], "journal": journal}
    return {"type": "QueryUpdated", **fields}


def failed(query_id: int, message: str, **fields: Any) -> dict[str, Any]:
    fields = {"queryId": query_id, "errorMessage": message, "logLines": [], "journal": None, **fields}
    return {"type": "QueryFailed", **fields}


def types(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


# ---- opening ------------------------------------------------------------------------------


def test_a_socket_begins_with_connect_and_the_query_set_even_if_it_is_empty() -> None:
    connect, queries = Script(is_open=False).open()
    assert connect == {
        "type": "Connect",
        "sessionId": "session",
        "connectionCount": 0,
        "lastCloseReason": "InitialConnect",
        "clientTs": 1000,
    }
    assert queries == {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []}


def test_what_is_wanted_before_the_socket_is_sent_in_order_when_it_opens() -> None:
    script = Script(is_open=False)
    script.core.authenticate(Credentials("User", "jwt"))
    script.core.call("action", "a:act", {})
    script.core.subscribe("a:list", {"n": 3})
    script.core.call("mutation", "a:add", {"x": Int64(1)})
    assert script.sent() == []
    _, authenticate, queries, action, mutation = script.open()
    assert (authenticate["baseVersion"], authenticate["tokenType"], authenticate["value"]) == (
        0,
        "User",
        "jwt",
    )
    assert [change["udfPath"] for change in queries["modifications"]] == ["a:list"]
    assert (action["type"], action["requestId"]) == ("Action", 0)
    assert (mutation["type"], mutation["requestId"]) == ("Mutation", 1)
    assert mutation["args"] == [{"x": {"$integer": "AQAAAAAAAAA="}}]


def test_arguments_that_are_no_values_are_refused_before_anything_is_sent() -> None:
    script = Script()
    for call in (script.core.subscribe, lambda *args: script.core.call("mutation", *args)):
        with pytest.raises(InvalidValue, match=r"args\.x"):
            call("a:f", {"x": object()})
    assert script.sent() == []


# ---- queries ------------------------------------------------------------------------------


def test_equal_queries_are_subscribed_once_and_removed_with_their_last_watcher() -> None:
    script = Script()
    first = script.core.subscribe("a:list", {"b": 1, "a": 2})
    assert script.core.subscribe("a:list", {"a": 2.0, "b": 1.0}) == first
    assert types(script.sent()) == ["ModifyQuerySet"]
    script.core.unsubscribe(first)
    assert script.sent() == []
    script.core.unsubscribe(first)
    [removal] = script.sent()
    assert removal["modifications"] == [{"type": "Remove", "queryId": first}]
    assert (removal["baseVersion"], removal["newVersion"]) == (2, 3)
    assert script.core.subscribe("a:list", {"a": 2, "b": 1}) != first


def test_an_int64_and_a_number_are_different_arguments() -> None:
    script = Script()
    assert script.core.subscribe("a:f", {"x": 1}) != script.core.subscribe("a:f", {"x": Int64(1)})


def test_results_become_values_and_errors_become_errors() -> None:
    script = Script()
    good, bad, app = (script.core.subscribe(f"a:{name}", {}) for name in ("good", "bad", "app"))
    events = script.transition(
        updated(good, [1.0, {"$integer": "BQAAAAAAAAA="}]),
        failed(bad, "[Request ID: 0] Server Error\nUncaught ValueError: no\n"),
        failed(app, "[Request ID: 0] Server Error\nUncaught ConvexError: null\n", errorData=None),
        query_set=4,
        ts=5,
    )
    assert events[0] == QueryChanged(good, Succeeded([1, Int64(5)]))
    outcomes = [event.outcome for event in events if isinstance(event, QueryChanged)]
    with pytest.raises(FunctionError, match="Uncaught ValueError: no") as caught:
        unwrap(outcomes[1])
    assert caught.value.path == "a:bad"
    with pytest.raises(AppError) as caught_app:
        unwrap(outcomes[2])
    assert caught_app.value.data is None
    assert script.core.outcome(good) == Succeeded([1, Int64(5)])


def test_a_result_that_came_before_is_no_change_also_over_a_lost_socket() -> None:
    script = Script()
    query = script.core.subscribe("a:list", {})
    assert script.transition(updated(query, 1), query_set=2, ts=5) == [QueryChanged(query, Succeeded(1))]
    assert script.transition(updated(query, 1), query_set=2, ts=6) == []
    script.core.lost("gone")
    script.open()
    assert script.transition(updated(query, 1), ts=7) == []
    failure = "[Request ID: {}] Server Error\nUncaught ValueError: no\n"
    assert len(script.transition(failed(query, failure.format("a")), ts=8)) == 1
    assert script.transition(failed(query, failure.format("b")), ts=9) == []


def test_the_journal_goes_back_to_the_server() -> None:
    script = Script()
    query = script.core.subscribe("a:page", {})
    script.transition(updated(query, 1, journal="J1"), query_set=2, ts=5)
    script.core.lost("gone")
    connect, queries = script.open()
    assert queries["modifications"][0]["journal"] == "J1"
    assert (connect["connectionCount"], connect["lastCloseReason"]) == (1, "gone")
    assert connect["maxObservedTimestamp"] == encode_ts(5)


def test_results_of_queries_that_nobody_watches_are_ignored() -> None:
    script = Script()
    query = script.core.subscribe("a:list", {})
    script.core.unsubscribe(query)
    removed = {"type": "QueryRemoved", "queryId": query}
    assert script.transition(updated(query, 1), updated(77, 1), removed, query_set=2, ts=5) == []


# ---- mutations and actions ----------------------------------------------------------------


def test_a_mutation_settles_with_the_transition_that_reaches_its_commit() -> None:
    script = Script()
    query = script.core.subscribe("a:count", {})
    request = script.core.call("mutation", "a:add", {})
    assert script.transition(query_set=2, ts=20) == []
    assert script.respond("Mutation", request, 7, ts=10) == []
    # The very same timestamp again: only transitions after the response count.
    assert script.transition(updated(query, 1), query_set=2, ts=20) == [
        QueryChanged(query, Succeeded(1)),
        RequestSettled(request, Succeeded(7)),
    ]
    assert script.respond("Mutation", request, 8, ts=30) == []


def test_a_transition_before_the_commit_does_not_settle_it() -> None:
    script = Script()
    request = script.core.call("mutation", "a:add", {})
    script.respond("Mutation", request, 7, ts=10)
    assert script.transition(ts=9) == []
    assert script.transition(ts=10) == [RequestSettled(request, Succeeded(7))]


def test_failures_and_actions_settle_at_their_response() -> None:
    script = Script()
    failing, acting = script.core.call("mutation", "a:m", {}), script.core.call("action", "a:a", {})
    assert script.respond("Mutation", failing, "text\n", success=False, errorData={"code": 1.0}) == [
        RequestSettled(failing, Failed("a:m", "text", {"code": 1}))
    ]
    assert script.respond("Action", acting, None) == [RequestSettled(acting, Succeeded(None))]
    plain = script.core.call("action", "a:a", {})
    assert script.respond("Action", plain, "text", success=False) == [
        RequestSettled(plain, Failed("a:a", "text", MISSING))
    ]


def test_a_lost_socket_repeats_mutations_under_their_ids_and_fails_actions() -> None:
    script = Script()
    answered = script.core.call("mutation", "a:one", {})
    settled = script.core.call("mutation", "a:two", {})
    acting = script.core.call("action", "a:act", {})
    waiting = script.core.call("mutation", "a:three", {})
    script.respond("Mutation", settled, 1, ts=3)
    script.transition(ts=3)
    script.respond("Mutation", answered, 1, ts=5)
    assert script.core.lost("gone") == [RequestSettled(acting, LOST)]
    later = script.core.call("action", "a:act", {})
    connect, _, *requests = script.open()
    assert connect["sessionId"] == "session"
    assert [(message["type"], message["requestId"]) for message in requests] == [
        ("Mutation", answered),
        ("Mutation", waiting),
        ("Action", later),
    ]
    script.respond("Mutation", answered, 1, ts=5)
    assert script.transition(ts=6) == [RequestSettled(answered, Succeeded(1))]


def test_what_nobody_waits_for_is_not_sent_again() -> None:
    script = Script()
    request = script.core.call("mutation", "a:add", {})
    script.core.abandon(request)
    script.core.lost("gone")
    assert types(script.open()) == ["Connect", "ModifyQuerySet"]
    assert script.respond("Mutation", request, 1, ts=5) == []


def test_it_has_caught_up_when_results_and_older_requests_are_there() -> None:
    script = Script()
    query = script.core.subscribe("a:list", {})
    request = script.core.call("mutation", "a:add", {})
    assert not script.has_caught_up()
    script.transition(updated(query, 1), query_set=2, ts=5)
    assert script.has_caught_up()  # the request is not older than this socket
    script.core.lost("gone")
    assert not script.has_caught_up()
    script.open()
    script.transition(updated(query, 1), ts=6)
    assert not script.has_caught_up()
    script.respond("Mutation", request, 1, ts=6)
    script.transition(ts=6)
    assert script.has_caught_up()


# ---- identity -----------------------------------------------------------------------------


def test_credentials_are_counted_per_socket_and_confirmed_by_a_transition() -> None:
    script = Script()
    script.core.authenticate(Credentials("Admin", "key", {"subject": "ada", "issuer": "i"}))
    script.core.authenticate(Credentials("User", "jwt"))
    admin, user = script.sent()
    assert (admin["baseVersion"], admin["impersonating"]) == (0, {"subject": "ada", "issuer": "i"})
    assert (user["baseVersion"], user["tokenType"]) == (1, "User")
    assert script.transition(identity=1, ts=5) == []
    assert script.transition(identity=2, ts=6) == [AuthAccepted()]
    script.core.authenticate(Credentials("User", "jwt"))
    assert script.sent() == []
    script.core.authenticate(None)
    assert script.sent() == [{"type": "Authenticate", "baseVersion": 2, "tokenType": "None", "value": None}]


def test_a_refusal_counts_unless_it_answers_an_earlier_attempt() -> None:
    script = Script()
    script.core.authenticate(Credentials("User", "old"))
    script.core.authenticate(Credentials("User", "new"))
    refusal = {"type": "AuthError", "error": "no", "authUpdateAttempted": True}
    assert script.say(**refusal, baseVersion=0) == []
    assert script.say(**refusal, baseVersion=1) == [AuthRefused("no")]
    expiry = {"type": "AuthError", "error": "expired", "authUpdateAttempted": False}
    assert script.say(**expiry, baseVersion=0) == [AuthRefused("expired")]


# ---- what a server must not do --------------------------------------------------------------


def test_a_ping_means_nothing_and_a_fatal_error_the_end() -> None:
    script = Script()
    assert script.say(type="Ping") == []
    assert script.say(type="FatalError", error="you are wrong") == [Refused("you are wrong")]


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"type": "Surprise"}',
        '{"type": "TransitionChunk", "chunk": "", "partNumber": 0, "totalParts": 1, "transitionId": "t"}',
        '{"type": "MutationResponse", "requestId": 0, "success": true, "result": 1, "logLines": []}',
        '{"type": "MutationResponse", "requestId": 0, "success": false, "result": 1, "logLines": []}',
        '{"type": "MutationResponse", "requestId": 0, "success": true, "result": {"$x": 1},'
        ' "ts": "AQAAAAAAAAA=", "logLines": []}',
        '{"type": "Transition", "startVersion": {"querySet": 1, "identity": 0, "ts": "AAAAAAAAAAA="},'
        ' "endVersion": {"querySet": 1, "identity": 0, "ts": "AQAAAAAAAAA="}, "modifications": []}',
    ],
)
def test_a_server_that_misbehaves_loses_the_socket(message: str) -> None:
    script = Script()
    script.core.call("mutation", "a:add", {})
    with pytest.raises(ServerMisbehaved):
        script.core.receive(message)


def test_subscriptions_with_other_intervals_are_other_subscriptions() -> None:
    script = Script()
    ids = [script.core.subscribe("a:b", {}, interval) for interval in (0, 500, 500)]
    assert ids == [0, 1, 1]
    added = [change for message in script.sent() for change in message.get("modifications", [])]
    assert [change.get("minIntervalMs", "absent") for change in added] == ["absent", 500]
