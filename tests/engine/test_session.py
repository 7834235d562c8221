"""What a session answers, message by message. Section numbers are those of the protocol document."""

from __future__ import annotations

import hashlib

import pytest

from engine.backend import BackendFault, Failure
from engine.commands import SessionLimits
from tidewell.protocol import encode_ts

from .fake_backend import FakeBackend
from .session_driver import NOW_NS, SessionDriver, add, remove, values, version

# ---- versions and the query set (5, 6) ---------------------------------------------


def test_first_transition_starts_at_zero_and_holds_every_query() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.modify(0, add(0, "messages:list"), add(7, "counter:get"))
    transition = driver.take()
    assert transition["startVersion"] == {"querySet": 0, "identity": 0, "ts": "AAAAAAAAAAA="}
    assert version(transition) == (1, 0, 1000)
    assert values(transition) == {0: [], 7: 0.0}
    assert not driver.sent


def test_a_session_without_connect_is_served() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:get"))
    driver.mutate(0, "counter:add")
    assert [message["type"] for message in driver.take_all()] == [
        "Transition",
        "MutationResponse",
        "Transition",
    ]
    assert driver.backend.recorded == {}  # without a session there is no key


def test_empty_query_set_change_is_acknowledged() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.modify(0)
    transition = driver.take()
    assert version(transition) == (1, 0, 1000)
    assert transition["modifications"] == []


def test_one_transition_covers_many_changes_of_versions() -> None:
    driver = SessionDriver(auto=False)
    driver.connect()
    driver.modify(0, add(0, "counter:get"))
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "None"})
    driver.modify(1, add(1, "messages:list"))
    assert driver.updates == 1
    driver.update()
    assert version(driver.take()) == (2, 1, 1000)


def test_query_set_version_may_jump() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:get"), new=5)
    assert version(driver.take()) == (5, 0, 1000)
    driver.modify(5, remove(0))
    assert version(driver.take())[0] == 6


def test_removed_query_is_acknowledged_once_and_not_watched() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:get"), add(1, "messages:list"))
    driver.take()
    driver.modify(1, remove(0))
    transition = driver.take()
    assert transition["modifications"] == [{"type": "QueryRemoved", "queryId": 0}]
    assert len(driver.backend.watches) == 1
    driver.commit(counter=3)
    assert not driver.sent


def test_query_added_and_removed_before_its_result_never_runs() -> None:
    driver = SessionDriver(auto=False)
    driver.modify(0, add(0, "counter:get"))
    driver.modify(1, remove(0))
    driver.update()
    transition = driver.take()
    assert transition["modifications"] == [{"type": "QueryRemoved", "queryId": 0}]
    assert driver.backend.runs == []
    assert not driver.backend.watches


def test_query_removed_and_added_again_is_not_reported_as_removed() -> None:
    driver = SessionDriver(auto=False)
    driver.modify(0, add(0, "counter:get"))
    driver.update()
    driver.take()
    driver.transition_sent()
    driver.modify(1, remove(0), add(0, "messages:list"))
    driver.update()
    assert [change["type"] for change in driver.take()["modifications"]] == ["QueryUpdated"]


def test_arguments_that_differ_in_key_order_are_the_same_call() -> None:
    driver = SessionDriver(auto=False)
    driver.send(
        '{"type":"ModifyQuerySet","baseVersion":0,"newVersion":1,"modifications":['
        '{"type":"Add","queryId":0,"udfPath":"values:echo","args":[{"value":{"a":1,"b":2}}]},'
        '{"type":"Add","queryId":1,"udfPath":"values.js:echo","args":[{"value":{"b":2,"a":1}}]}]}'
    )
    driver.begin_update()
    assert driver.job is not None
    first, second = (watch.call for watch in driver.job.watches)
    assert first.args == second.args
    assert list(first.args["value"]) == list(second.args["value"])


def test_absent_args_are_an_empty_call() -> None:
    driver = SessionDriver()
    change = {"type": "Add", "queryId": 0, "udfPath": "counter:get"}
    driver.modify(0, change)
    assert values(driver.take()) == {0: 0.0}


def test_log_lines_and_journal_are_always_there() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "values:echo", value=1.0), add(1, "errors:fail"), add(2, "messages:page"))
    updated, failed, page = driver.take()["modifications"]
    assert updated["logLines"] == ["[LOG] echo"]
    assert updated["journal"] is None
    assert failed["type"] == "QueryFailed"
    assert failed["logLines"] == []
    assert failed["journal"] is None
    assert page["journal"] == "0"


def test_a_subscription_may_ask_for_a_least_interval_between_its_updates() -> None:
    driver = SessionDriver()
    driver.modify(0, {**add(0, "counter:get"), "minIntervalMs": 1500}, add(1, "counter:get"))
    driver.take()
    assert driver.backend.min_intervals_s == [1.5, 0.0]


# ---- failing queries (6.2, 10) ------------------------------------------------------


def test_query_that_throws_stays_subscribed() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:fail_when_odd"))
    assert values(driver.take()) == {0: "even"}
    driver.commit(counter=1)
    (failed,) = driver.take()["modifications"]
    assert failed["type"] == "QueryFailed"
    assert "errorData" not in failed
    driver.commit(counter=2)
    assert values(driver.take()) == {0: "even"}


def test_error_text_begins_with_the_request_id() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.mutate(3, "errors:fail_mutation")
    response = driver.take()
    expected = hashlib.sha256(b"session-1|3").hexdigest()[:16]
    assert response["result"] == (
        f"[Request ID: {expected}] Server Error\nUncaught ValueError: no such channel\n"
        "    at handler (fake.py:1)\n"
    )
    assert response["success"] is False
    assert response["ts"] is None
    assert "errorData" not in response


@pytest.mark.parametrize("data", [None, "full", {"code": "FULL"}, [1.5, True]])
def test_application_error_carries_its_data_even_when_null(data: object) -> None:
    driver = SessionDriver()
    driver.mutate(0, "errors:refuse_mutation", data=data)
    driver.act(1, "errors:refuse_action", data=data)
    driver.modify(0, add(0, "errors:refuse", data=data))
    messages = driver.take_all()
    assert [message["errorData"] for message in messages if "errorData" in message] == [data, data]
    (failed,) = messages[-1]["modifications"]
    assert failed["errorData"] == data


def test_error_data_is_in_the_wire_encoding() -> None:
    driver = SessionDriver()
    driver.mutate(0, "errors:refuse_mutation", data={"n": {"$integer": "AQAAAAAAAAA="}})
    assert driver.take()["errorData"] == {"n": {"$integer": "AQAAAAAAAAA="}}


def test_redaction_keeps_line_one_and_error_data() -> None:
    driver = SessionDriver(FakeBackend(redacted=True))
    driver.mutate(0, "errors:refuse_mutation", data="secret reason")
    driver.modify(0, add(0, "errors:fail"), add(1, "values:echo", value="x"))
    response, _, transition = driver.take_all()
    assert response["errorData"] == "secret reason"
    assert response["result"].startswith("[Request ID: ")
    assert response["result"].endswith("] Server Error")
    failed, echoed = transition["modifications"]
    assert failed["errorMessage"].endswith("] Server Error")
    assert echoed["logLines"] == []


@pytest.mark.parametrize("path", ["messages:nope", "hidden:who", "no-hyphens:x", "a/../b:c", "", "\ud800:x"])
def test_function_that_cannot_be_called_fails_like_any_other(path: str) -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, path))
    driver.mutate(0, path)
    driver.act(1, path)
    (failed,) = driver.take()["modifications"]
    shown = path.encode(errors="replace").decode()
    assert failed["errorMessage"].endswith(f"Could not find public function for '{shown}'.\n")
    for message in driver.take_all():
        if message["type"] != "Transition":
            assert message["result"].endswith(f"Could not find public function for '{shown}'.\n")
    assert driver.closed is None


@pytest.mark.parametrize(
    "args",
    [
        "[]",
        "[{},{}]",
        "[3]",
        '[{"value":"\\ud800"}]',
        '[{"value":{"$foo":1}}]',
        '[{"value":{"$integer":"AQAAAAAAAAA=","b":1}}]',
        '[{"value":{"$float":"AAAAAAAA8D8="}}]',
        '[{"value":{"$set":[]}}]',
        '[{"value":{"$undefined":null}}]',
        '[{"value":{"a\\u0007":1}}]',
        '[{"nope":1}]',
    ],
)
def test_bad_arguments_fail_the_call_and_not_the_socket(args: str) -> None:
    driver = SessionDriver()
    driver.send(f'{{"type":"Mutation","requestId":0,"udfPath":"values:echo_mutation","args":{args}}}')
    response = driver.take()
    assert "\nArgumentValidationError: " in response["result"]
    driver.mutate(1, "values:echo_mutation", value="fine")
    assert next(message for message in driver.take_all() if "requestId" in message)["success"]


def test_component_path_names_no_function_here() -> None:
    driver = SessionDriver()
    message = {"type": "Mutation", "requestId": 0, "udfPath": "counter:add", "args": [{}]}
    driver.send({**message, "componentPath": "lib"})
    assert not driver.take()["success"]
    driver.send({**message, "requestId": 1, "componentPath": ""})
    driver.take()
    assert driver.take()["success"]


# ---- limits and faults (8.4) -------------------------------------------------------------


def test_too_many_subscriptions_close_with_overload() -> None:
    driver = SessionDriver(limits=SessionLimits(subscriptions_max=5))
    driver.modify(0, *(add(number, "counter:get") for number in range(6)))
    assert driver.closed is not None
    assert driver.closed.code == 1013


def test_changes_that_wait_count_as_subscriptions() -> None:
    """Adding and removing without end, while nothing is sent, must not pile up."""
    driver = SessionDriver(limits=SessionLimits(subscriptions_max=20), auto=False)
    version_now = 0
    while driver.closed is None and version_now < 100:
        driver.modify(version_now, add(version_now, "counter:get"))
        if driver.closed is None:
            driver.modify(version_now + 1, remove(version_now))
        version_now += 2
    assert driver.closed is not None
    assert version_now < 30


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (Failure("x\n", kind="Conflict", transient=True), 1013, "OptimisticConcurrencyControlFailure"),
        (Failure("x\n", kind="Overloaded", transient=True), 1013, "TooManyConcurrentRequests"),
        (Failure("x\n", kind="System"), 1011, "InternalServerError"),
    ],
)
def test_failure_that_is_no_answer_closes_the_socket(failure: Failure, code: int, reason: str) -> None:
    for start in (
        lambda driver: driver.mutate(0, "counter:add"),
        lambda driver: driver.act(0, "values:echo_action"),
        lambda driver: driver.modify(0, add(0, "counter:get")),
    ):
        driver = SessionDriver(FakeBackend(next_failure=failure))
        start(driver)
        assert not driver.sent
        assert driver.closed is not None
        assert (driver.closed.code, driver.closed.reason) == (code, reason)


def test_backend_fault_closes_the_socket_and_ends_every_watch() -> None:
    backend = FakeBackend()
    driver = SessionDriver(backend)
    driver.modify(0, add(0, "counter:get"))
    driver.take()
    backend.fault = BackendFault("StoreBroken", "the disk is full", transient=False)
    driver.mutate(0, "counter:add")
    assert driver.closed is not None
    assert (driver.closed.code, driver.closed.reason) == (1011, "InternalServerError")
    assert not backend.watches


def test_client_that_has_seen_the_future_is_refused() -> None:
    driver = SessionDriver()
    driver.connect(count=3, maxObservedTimestamp=encode_ts(1001))
    assert driver.closed is not None
    assert (driver.closed.code, driver.closed.reason) == (1011, "InternalServerError")


def test_client_that_has_seen_the_present_is_served() -> None:
    driver = SessionDriver()
    driver.connect(count=3, maxObservedTimestamp=encode_ts(1000))
    assert driver.closed is None


def test_close_reasons_fit_into_a_frame() -> None:
    driver = SessionDriver()
    driver.send("x" * 10_000)
    assert driver.closed is not None
    assert len(driver.closed.reason.encode()) <= 123


# ---- clients that break the contract (4.6, 8.4) -------------------------------------------

MODIFY = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []}


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "[]",
        "NaN",
        '"Connect"',
        "\ud800",
        "[" * 100_000,
        "{}",
        {"type": "Nope"},
        {"type": ["Connect"]},
        {"type": "Connect", "sessionId": 3, "connectionCount": 0},
        {"type": "Connect", "sessionId": "x" * 1000, "connectionCount": 0},
        {"type": "Connect", "sessionId": "x", "connectionCount": -1},
        {"type": "Connect", "sessionId": "x", "connectionCount": 0, "maxObservedTimestamp": "zz"},
        {"type": "Mutation", "requestId": "0", "udfPath": "a", "args": [{}]},
        {"type": "Mutation", "requestId": 2**32, "udfPath": "a", "args": [{}]},
        {"type": "Mutation", "requestId": True, "udfPath": "a", "args": [{}]},
        {"type": "Mutation", "requestId": 0, "udfPath": None, "args": [{}]},
        {"type": "Mutation", "requestId": 0, "udfPath": "a", "args": {}},
        {**MODIFY, "baseVersion": 1, "newVersion": 2},
        {**MODIFY, "newVersion": 0},
        {**MODIFY, "modifications": [add(0, "counter:get"), add(0, "counter:get")]},
        {**MODIFY, "modifications": [remove(0)]},
        {**MODIFY, "modifications": [{"type": "Change", "queryId": 0}]},
        {**MODIFY, "modifications": {}},
        {"type": "Authenticate", "baseVersion": 1, "tokenType": "None"},
        {"type": "Authenticate", "baseVersion": 0, "tokenType": "User"},
        {"type": "Authenticate", "baseVersion": 0, "tokenType": "Root", "value": "x"},
        b"\x00\x01",
    ],
    ids=lambda message: str(message)[:60],
)
def test_broken_message_is_fatal_and_closes_without_a_code(message: dict[str, object] | str | bytes) -> None:
    driver = SessionDriver()
    driver.send(message)
    fatal = driver.take()
    assert fatal["type"] == "FatalError"
    assert fatal["error"]
    assert driver.closed is not None
    assert driver.closed.code is None
    driver.mutate(0, "counter:add")
    assert not driver.sent
    assert not driver.backend.runs


def test_connect_may_come_once() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.connect()
    assert driver.take()["type"] == "FatalError"


def test_unknown_fields_and_events_are_ignored() -> None:
    driver = SessionDriver()
    driver.connect(shoeSize=43, lastCloseReason=None)
    driver.send({"type": "Event", "eventType": "Anything", "event": {"deep": [1, None]}, "more": 1})
    driver.send({"type": "Event", "eventType": "ClientConnect"})
    driver.modify(0, {**add(0, "counter:get"), "colour": "red"})
    assert values(driver.take()) == {0: 0.0}


# ---- authentication (9) ----------------------------------------------------------------------


def test_each_accepted_token_advances_the_identity_by_one() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.modify(0, add(0, "values:who"))
    driver.take()
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "token-A"})
    transition = driver.take()
    assert version(transition)[1] == 1
    assert values(transition) == {0: {"admin": False, "name": "i|a"}}
    driver.send({"type": "Authenticate", "baseVersion": 1, "tokenType": "User", "value": "token-B"})
    transition = driver.take()
    assert version(transition)[1] == 2
    assert transition["modifications"] == []
    driver.send({"type": "Authenticate", "baseVersion": 2, "tokenType": "None"})
    transition = driver.take()
    assert version(transition)[1] == 3
    assert values(transition) == {0: {"admin": False, "name": None}}


def test_refused_token_is_an_auth_error_and_the_end() -> None:
    driver = SessionDriver()
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "token-A"})
    driver.take()
    driver.send({"type": "Authenticate", "baseVersion": 1, "tokenType": "User", "value": "token-C"})
    error = driver.take()
    assert error["type"] == "AuthError"
    assert error["baseVersion"] == 1
    assert error["authUpdateAttempted"] is True
    assert driver.closed is not None
    assert driver.closed.code is None


@pytest.mark.parametrize(
    "use",
    [
        lambda driver: driver.mutate(0, "counter:add"),
        lambda driver: driver.act(0, "values:echo_action"),
        lambda driver: driver.commit(counter=5),
    ],
)
def test_expired_token_is_noticed_at_the_next_use(use) -> None:  # type: ignore[no-untyped-def]  # a lambda
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:get"))
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "token-short"})
    driver.take_all()
    driver.now_ns = NOW_NS + 6_000_000_000
    driver.backend.runs.clear()
    use(driver)
    error = driver.take()
    assert error["type"] == "AuthError"
    assert error["baseVersion"] == 1
    assert error["authUpdateAttempted"] is False
    assert driver.closed is not None
    assert driver.closed.code is None
    assert driver.backend.runs == []


def test_expired_token_that_is_being_renewed_ends_nothing() -> None:
    driver = SessionDriver(auto=False)
    driver.modify(0, add(0, "counter:get"))
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "token-short"})
    driver.finish_verify()
    driver.update()
    driver.transition_sent()
    driver.take_all()
    driver.now_ns = NOW_NS + 6_000_000_000
    driver.send({"type": "Authenticate", "baseVersion": 1, "tokenType": "User", "value": "token-A"})
    driver.commit(counter=7)
    driver.begin_update()
    assert driver.closed is None
    assert driver.job is None
    driver.finish_verify()
    driver.update()
    assert values(driver.take()) == {0: 7}


def test_admin_may_call_internal_functions() -> None:
    driver = SessionDriver()
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "Admin", "value": "the-admin-key"})
    driver.modify(0, add(0, "hidden:who"))
    assert values(driver.take_all()[-1]) == {0: {"admin": True, "name": None}}


def test_identity_change_keeps_the_journal() -> None:
    driver = SessionDriver()
    driver.commit(messages__a=["x", "y"])
    driver.modify(0, add(0, "messages:page"))
    assert driver.take()["modifications"][0]["journal"] == "2"
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "None"})
    driver.commit(messages__a=["x", "y", "z"])
    driver.take_all()
    (watch,) = driver.backend.watches
    assert watch.journal == "2"


# ---- journals (14.3) ---------------------------------------------------------------------------


def test_journal_of_add_is_honoured() -> None:
    driver = SessionDriver()
    driver.commit(messages__a=["x", "y", "z"])
    driver.modify(0, add(0, "messages:page", journal="1"))
    (change,) = driver.take()["modifications"]
    assert change["value"] == ["x"]
    assert change["journal"] == "1"
