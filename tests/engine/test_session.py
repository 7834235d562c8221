"""What a session answers, message by message. Section numbers are those of the protocol document."""

from __future__ import annotations

import hashlib
import json

import attrs
import pytest

from engine.backend import BackendFault, Failure, MutationOutcome
from engine.clients import Client
from engine.commands import SessionLimits
from tidewell.protocol import decode_ts, encode_ts

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


def test_only_changed_results_are_sent() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:get"), add(1, "messages:list"), add(2, "counter:parity"))
    driver.take()
    driver.commit(counter=2)
    transition = driver.take()
    assert values(transition) == {0: 2.0}  # the parity was rerun and is the same


def test_rerun_with_equal_result_sends_nothing() -> None:
    driver = SessionDriver()
    driver.modify(0, add(0, "counter:parity"))
    driver.take()
    driver.commit(counter=2)
    assert driver.backend.runs == ["counter:parity"] * 2
    assert not driver.sent
    driver.commit(counter=3)
    assert values(driver.take()) == {0: 1.0}


def test_every_result_of_a_transition_is_of_one_snapshot() -> None:
    driver = SessionDriver(auto=False)
    driver.modify(0, add(0, "counter:get"), add(1, "counter:parity"))
    driver.begin_update()
    driver.commit(counter=1)  # after the update has begun
    driver.finish_update()
    transition = driver.take()
    assert version(transition)[2] == 1000
    assert values(transition) == {0: 0.0, 1: 0.0}
    driver.transition_sent()
    driver.update()
    assert values(driver.take()) == {0: 1.0, 1: 1.0}


def test_invalidations_during_an_update_become_one_later_update() -> None:
    driver = SessionDriver(auto=False)
    driver.modify(0, add(0, "counter:get"))
    driver.begin_update()
    for number in range(5):
        driver.commit(counter=number)
    assert driver.updates == 0
    driver.finish_update()
    driver.take()
    assert driver.updates == 1
    driver.update()
    assert values(driver.take()) == {0: 4.0}
    assert driver.updates == 0


def test_slow_client_skips_states_once_two_transitions_wait() -> None:
    driver = SessionDriver(auto=False)
    driver.modify(0, add(0, "counter:get"))
    driver.update()
    driver.commit(counter=1)
    driver.update()
    assert driver.unsent_transitions == 2
    for number in range(2, 50):
        driver.commit(counter=number)
    assert driver.updates == 0
    driver.transition_sent()
    driver.update()
    assert [values(message)[0] for message in driver.take_all()] == [0.0, 1.0, 49.0]
    assert driver.backend.runs == ["counter:get"] * 3


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


# ---- mutations and actions (5.2, 7) ---------------------------------------------------


def test_mutation_is_answered_before_the_transition_that_shows_it() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.modify(0, add(0, "counter:get"))
    driver.take()
    driver.mutate(0, "counter:add")
    response, transition = driver.take_all()
    assert response["type"] == "MutationResponse"
    assert response["result"] == 1.0
    assert decode_ts(response["ts"]) == 1010
    assert version(transition) == (1, 0, 1010)
    assert values(transition) == {0: 1.0}


def test_mutation_that_changes_nothing_watched_gets_an_empty_transition() -> None:
    driver = SessionDriver()
    driver.connect()
    driver.modify(0, add(0, "counter:get"))
    driver.take()
    driver.mutate(0, "messages:send", body="x")
    _, transition = driver.take_all()
    assert transition["modifications"] == []
    assert version(transition)[2] == 1010


def test_failed_mutation_and_action_get_a_transition_too() -> None:
    driver = SessionDriver()
    driver.connect()
    for request_id, send in enumerate((driver.mutate, driver.act)):
        send(request_id, "errors:fail_mutation" if send == driver.mutate else "values:echo_action")
        kinds = [message["type"] for message in driver.take_all()]
        assert kinds == ["MutationResponse" if send == driver.mutate else "ActionResponse", "Transition"]


def test_effect_is_not_shown_before_the_response() -> None:
    driver = SessionDriver(auto=False)
    driver.connect()
    driver.modify(0, add(0, "counter:get"))
    driver.update()
    driver.transition_sent()
    driver.take()
    driver.mutate(0, "counter:add")
    outcome = driver.run_mutation()  # committed; the doorbell rang; no report yet
    driver.pump()
    assert driver.updates == 1
    driver.update()
    assert not driver.sent
    driver.finish_mutation(outcome)
    response, transition = driver.take_all()
    assert response["type"] == "MutationResponse"
    assert values(transition) == {0: 1.0}
    assert driver.updates == 0  # that transition has settled the mutation as well


def test_transition_of_an_earlier_snapshot_does_not_wait_for_a_running_mutation() -> None:
    driver = SessionDriver(auto=False)
    driver.connect()
    driver.commit(counter=4)
    driver.modify(0, add(0, "counter:get"))
    driver.mutate(0, "counter:add")
    driver.update()
    assert values(driver.take()) == {0: 4.0}


def test_held_transition_goes_out_between_two_mutations() -> None:
    driver = SessionDriver(auto=False)
    driver.connect()
    driver.modify(0, add(0, "counter:get"))
    driver.update()
    driver.transition_sent()
    driver.take()
    driver.mutate(0, "counter:add")
    driver.mutate(1, "counter:add")
    outcome = driver.run_mutation()
    driver.pump()
    driver.update()
    driver.finish_mutation(outcome)
    response, transition = driver.take_all()
    assert response["requestId"] == 0
    assert values(transition) == {0: 1.0}
    assert len(driver.mutations) == 1


def test_response_newer_than_the_running_update_is_owed_another_transition() -> None:
    driver = SessionDriver(auto=False)
    driver.connect()
    driver.modify(0, add(0, "counter:get"))
    driver.begin_update()  # at 1000
    driver.mutate(0, "messages:send", body="x")
    driver.finish_mutation()  # at 1010, and nothing watched has changed
    assert driver.take()["type"] == "MutationResponse"
    driver.finish_update()
    assert version(driver.take())[2] == 1000
    driver.update()
    transition = driver.take()
    assert version(transition)[2] == 1010
    assert transition["modifications"] == []


def test_mutations_run_one_at_a_time_in_order() -> None:
    driver = SessionDriver(auto=False)
    for request_id in range(10):
        driver.mutate(request_id, "counter:add")
    order = []
    while driver.mutations:
        assert len(driver.mutations) == 1
        driver.finish_mutation()
        order += [message["requestId"] for message in driver.take_all() if "requestId" in message]
    assert order == list(range(10))
    assert driver.backend.cells["counter"][-1] == (1100, 10)


def test_refused_mutation_keeps_its_place_in_the_order() -> None:
    driver = SessionDriver(auto=False)
    driver.mutate(0, "counter:add")
    driver.mutate(1, "no-hyphens:x")
    driver.mutate(2, "counter:add")
    assert not driver.sent
    driver.finish_mutation()
    driver.finish_mutation()
    assert [message["requestId"] for message in driver.take_all()] == [0, 1, 2]


def test_actions_run_beside_mutations_and_each_other() -> None:
    driver = SessionDriver(auto=False)
    driver.mutate(0, "counter:add")
    driver.act(1, "values:echo_action", value="a")
    driver.act(2, "values:echo_action", value="b")
    assert len(driver.actions) == 2
    driver.finish_action(1)
    driver.finish_action(0)
    assert [message["requestId"] for message in driver.take_all()] == [2, 1]


def test_repeated_mutation_is_answered_from_its_record() -> None:
    backend = FakeBackend()
    first = SessionDriver(backend, auto=False)
    first.connect()
    first.mutate(4, "counter:add")
    first.run_mutation()  # committed at 1010, and the socket is lost
    first.session.close(None)
    backend.commit({"messages/a": ["meanwhile"]})

    second = SessionDriver(backend)
    second.connect(count=1, maxObservedTimestamp=encode_ts(1000))
    second.mutate(4, "counter:add")
    response, transition = second.take_all()
    assert decode_ts(response["ts"]) == 1010
    assert response["result"] == 1.0
    assert version(transition)[2] == 1020
    assert backend.cells["counter"] == [(1010, 1)]


def test_repeated_mutations_are_answered_before_the_first_transition() -> None:
    backend = FakeBackend()
    first = SessionDriver(backend)
    first.connect()
    for request_id in range(3):
        first.mutate(request_id, "counter:add")

    second = SessionDriver(backend, auto=False)
    second.connect(count=1)
    second.modify(0, add(0, "counter:get"))
    for request_id in range(3):
        second.mutate(request_id, "counter:add")
    second.update()
    assert not second.sent
    for _ in range(3):
        second.finish_mutation()
    assert [message["type"] for message in second.take_all()] == ["MutationResponse"] * 3 + ["Transition"]


def after_a_lost_answer(backend: FakeBackend) -> SessionDriver:
    """A socket that follows one on which requests 0 and 1 were run, and only 0 was answered."""
    first = SessionDriver(backend, auto=False)
    first.connect()
    for request_id in range(2):
        first.mutate(request_id, "counter:add")
        first.finish_mutation()
    answer = first.take()
    first.session.close(None)
    driver = SessionDriver(backend, auto=False)
    driver.connect(count=1, maxObservedTimestamp=answer["ts"])
    driver.modify(0, add(0, "counter:get"))
    driver.update()
    return driver


def test_what_the_client_will_repeat_is_awaited_before_its_effect_is_shown() -> None:
    driver = after_a_lost_answer(FakeBackend())
    assert not driver.sent, "the client would show it twice"
    driver.mutate(1, "counter:add")
    driver.finish_mutation()
    response, transition = driver.take_all()
    assert (response["requestId"], response["result"], values(transition)) == (1, 2.0, {0: 2.0})


def test_a_failure_in_front_of_what_is_repeated_lets_nothing_out() -> None:
    driver = after_a_lost_answer(FakeBackend())
    driver.mutate(0, "errors:fail_mutation")
    driver.mutate(1, "counter:add")
    driver.mutations[0] = attrs.evolve(driver.mutations[0], idempotency=("session-1", 99))  # never recorded
    driver.finish_mutation()
    driver.finish_mutation()
    assert [message["type"] for message in driver.take_all()] == ["MutationResponse"] * 2 + ["Transition"]


def test_a_client_that_does_not_repeat_what_it_missed_is_not_awaited_for_ever() -> None:
    driver = after_a_lost_answer(FakeBackend())
    assert driver.is_awaiting_repeats
    driver.session.repeats_awaited(NOW_NS)
    driver.pump()
    assert values(driver.take()) == {0: 2.0}


def test_a_client_that_goes_on_with_something_new_has_nothing_to_repeat() -> None:
    driver = after_a_lost_answer(FakeBackend())
    driver.mutate(2, "counter:add")
    driver.finish_mutation()
    response, transition = driver.take_all()
    assert (response["requestId"], values(transition)) == (2, {0: 2.0})


def test_mutation_that_is_new_does_not_hold_the_first_transition() -> None:
    driver = SessionDriver(auto=False)
    driver.connect(count=1)
    driver.modify(0, add(0, "counter:get"))
    driver.mutate(0, "counter:add")
    driver.mutate(1, "counter:add")
    driver.update()
    driver.finish_mutation()
    assert [message["type"] for message in driver.take_all()] == ["Transition", "MutationResponse"]


def test_failed_mutation_is_not_recorded_and_runs_again() -> None:
    backend = FakeBackend()
    for count in range(2):
        driver = SessionDriver(backend)
        driver.connect(count=count)
        driver.mutate(0, "errors:fail_mutation")
        assert not driver.take()["success"]
    assert backend.runs == ["errors:fail_mutation"] * 2


def test_request_id_is_answered_once_per_socket() -> None:
    driver = SessionDriver()
    driver.connect()
    for _ in range(3):
        driver.mutate(0, "counter:add")
        driver.act(1, "values:echo_action")
    responses = [message for message in driver.take_all() if "requestId" in message]
    assert len(responses) == 2
    assert driver.backend.runs == ["counter:add", "values:echo_action"]


def test_mutation_runs_under_the_identity_at_its_arrival() -> None:
    driver = SessionDriver(auto=False)
    driver.mutate(0, "counter:add")
    driver.mutate(1, "counter:add")
    driver.send({"type": "Authenticate", "baseVersion": 0, "tokenType": "User", "value": "token-A"})
    driver.finish_verify()
    driver.mutate(2, "counter:add")
    identities = []
    while driver.mutations:
        claims = driver.mutations[0].call.identity.claims
        identities.append(claims and claims["subject"])
        driver.finish_mutation()
    assert identities == [None, None, "a"]


def test_json_integers_are_read_as_doubles_and_results_have_a_point() -> None:
    driver = SessionDriver()
    driver.connect()
    sent: list[bytes] = []
    note = driver._note
    driver._note = lambda command: (sent.append(command.data), note(command))[1]  # type: ignore[method-assign]  # keeps the bytes
    driver.send(
        '{"type":"Mutation","requestId":0,"udfPath":"values:echo_mutation","args":[{"value":[3,1e300,-7]}]}'
    )
    assert b'"result":[3.0,1e+300,-7.0]' in sent[0] or b'"result":[3.0,1e300,-7.0]' in sent[0]


# ---- limits and faults (8.4) -------------------------------------------------------------


def test_too_many_queued_mutations_close_with_overload() -> None:
    driver = SessionDriver(limits=SessionLimits(mutations_queued_max=3), auto=False)
    for request_id in range(4):
        driver.mutate(request_id, "counter:add")  # one runs, three wait
    assert driver.closed is None
    driver.mutate(4, "counter:add")
    assert driver.closed is not None
    assert (driver.closed.code, driver.closed.reason) == (1013, "TooManyConcurrentRequests")


def test_too_many_running_actions_close_with_overload() -> None:
    driver = SessionDriver(limits=SessionLimits(actions_running_max=2), auto=False)
    for request_id in range(3):
        driver.act(request_id, "values:echo_action")
    assert driver.closed is not None
    assert driver.closed.code == 1013


def test_a_thousand_mutations_and_actions_may_wait() -> None:
    driver = SessionDriver(auto=False)
    for request_id in range(2000):
        (driver.mutate if request_id % 2 else driver.act)(request_id, "counter:add")
    assert driver.closed is None


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


# ---- clocks and chunks (4.1, 4.2) -----------------------------------------------------------------


def test_clock_fields_are_numbers_or_absent() -> None:
    driver = SessionDriver()
    driver.connect(clientTs=NOW_NS // 10**6 + 12)
    driver.modify(0)
    transition = driver.take()
    assert transition["clientClockSkew"] == pytest.approx(12)
    assert transition["serverTs"] == NOW_NS
    assert type(transition["serverTs"]) is int

    for client_ts in ({}, {"clientTs": 0}, {"clientTs": None}):
        driver = SessionDriver()
        driver.connect(**client_ts)
        driver.modify(0)
        transition = driver.take()
        assert "clientClockSkew" not in transition
        assert "serverTs" not in transition


def test_large_transition_is_cut_for_clients_that_take_it() -> None:
    limits = SessionLimits(chunk_above_bytes=1000, chunk_bytes=300)
    driver = SessionDriver(limits=limits, client=Client("npm", (1, 28, 0)))
    driver.modify(0, add(0, "values:big", size=700))
    chunks = driver.take_all()
    assert {chunk["type"] for chunk in chunks} == {"TransitionChunk"}
    assert [chunk["partNumber"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["totalParts"] for chunk in chunks} == {len(chunks)}
    assert len({chunk["transitionId"] for chunk in chunks}) == 1
    assert all(len(chunk["chunk"].encode()) <= 300 for chunk in chunks)
    transition = json.loads("".join(chunk["chunk"] for chunk in chunks))
    assert values(transition) == {0: "é" * 700 + "0"}
    assert driver.unsent_transitions == 0  # the parts count as one


@pytest.mark.parametrize(
    "client", [Client("npm", (1, 27, 9)), Client("rust", (9, 0, 0)), Client("python", (2, 0, 0)), Client()]
)
def test_large_transition_is_whole_for_all_others(client: Client) -> None:
    limits = SessionLimits(chunk_above_bytes=1000, chunk_bytes=300)
    driver = SessionDriver(limits=limits, client=client)
    driver.modify(0, add(0, "values:big", size=700))
    (transition,) = driver.take_all()
    assert transition["type"] == "Transition"


def test_small_transition_is_whole_for_everybody() -> None:
    driver = SessionDriver(client=Client("npm", (1, 48, 0)))
    driver.modify(0, add(0, "values:big", size=100_000))
    assert driver.take()["type"] == "Transition"


def test_mutation_outcome_of_a_closed_session_is_dropped() -> None:
    driver = SessionDriver(auto=False)
    driver.mutate(0, "counter:add")
    driver.session.close(1012)
    driver.pump()
    driver.session.mutation_done(MutationOutcome(1010, None, b"null", (), None), NOW_NS)
    driver.pump()
    assert not driver.sent


def test_a_subscription_may_ask_for_a_least_interval_between_its_updates() -> None:
    driver = SessionDriver()
    driver.modify(0, {**add(0, "counter:get"), "minIntervalMs": 1500}, add(1, "counter:get"))
    driver.take()
    assert driver.backend.min_intervals_s == [1.5, 0.0]
