"""Transitions of a session: each of one snapshot, no faster than they leave, in parts if large (4 to 6)."""

from __future__ import annotations

import json

import pytest

from engine.clients import Client
from engine.commands import SessionLimits

from .session_driver import NOW_NS, SessionDriver, add, values, version


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
