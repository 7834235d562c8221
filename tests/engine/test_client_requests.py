"""Calls of a session: their order, their answers, and what may be shown before these (protocol, 5.2, 7)."""

from __future__ import annotations

import attrs

from engine.backend import MutationOutcome
from engine.commands import SessionLimits
from tidewell.protocol import decode_ts, encode_ts

from .fake_backend import FakeBackend
from .session_driver import NOW_NS, SessionDriver, add, values, version


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


def test_mutation_outcome_of_a_closed_session_is_dropped() -> None:
    driver = SessionDriver(auto=False)
    driver.mutate(0, "counter:add")
    driver.session.close(1012)
    driver.pump()
    driver.session.mutation_done(MutationOutcome(1010, None, b"null", (), None), NOW_NS)
    driver.pump()
    assert not driver.sent
