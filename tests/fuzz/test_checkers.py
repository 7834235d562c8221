"""Each checker finds the violation that is planted for it, and has nothing to say without one."""

from __future__ import annotations

import attrs
import pytest

from fuzz.checkers import (
    completeness,
    dependencies,
    durability,
    exactly_once,
    seeds,
    serial,
    sessions,
    snapshots,
)
from fuzz.checkers.dependencies import Transaction
from fuzz.history import Failed
from fuzz.workloads.counter import Counters

from .notes import COUNTER, committed, request, shown

# ---- exactly once ----------------------------------------------------------------


def test_request_committed_once_is_fine() -> None:
    assert exactly_once.check([request()], [committed()]) == []


def test_request_committed_twice_is_found() -> None:
    (problem,) = exactly_once.check([request()], [committed(ts=10), committed(ts=20)])
    assert "committed 2 times" in problem


def test_request_that_failed_and_is_committed_is_found() -> None:
    (problem,) = exactly_once.check([request(ts=None, error="no")], [committed()])
    assert "'no' and is committed" in problem


def test_another_answer_to_the_same_request_is_found() -> None:
    asked = request()
    asked.answers.append((True, 2, 10))
    (problem,) = exactly_once.check([asked], [committed()])
    assert "different answers" in problem


def test_action_that_ran_twice_is_found() -> None:
    assert exactly_once.check([], [committed()], [request()]) == []
    (problem,) = exactly_once.check([], [committed(ts=10), committed(ts=20)], [request()])
    assert "committed 2 times" in problem


def test_commit_that_nobody_asked_for_is_found() -> None:
    (problem,) = exactly_once.check([], [committed()])
    assert "nobody sent" in problem


# ---- durability ------------------------------------------------------------------


def test_acknowledged_commit_in_the_log_is_fine() -> None:
    assert durability.check([request()], [shown(10)], [committed()], head_ts=10) == []


def test_acknowledged_commit_that_is_gone_is_found() -> None:
    (problem,) = durability.check([request()], [], [], head_ts=5)
    assert "not in the log" in problem


def test_commit_at_another_time_than_acknowledged_is_found() -> None:
    (problem,) = durability.check([request()], [], [committed(ts=20)], head_ts=20)
    assert "acknowledged at 10 and committed at 20" in problem


def test_state_that_was_shown_and_never_committed_is_found() -> None:
    (problem,) = durability.check([], [shown(30)], [committed()], head_ts=10)
    assert "shown the state at 30" in problem


def test_request_that_wrote_nothing_needs_no_commit() -> None:
    assert durability.check([request()], [], [], head_ts=10, writes=lambda _: False) == []


# ---- sessions ---------------------------------------------------------------------


def test_session_that_moves_forward_is_fine() -> None:
    seen = [shown(10, step=3), attrs.evolve(shown(20, step=4), start=(1, 0, 10))]
    assert sessions.check([request()], seen) == []


def test_client_taken_back_in_time_is_found() -> None:
    seen = [shown(20, step=3), shown(10, step=4, socket=2)]
    (problem,) = sessions.check([], seen)
    assert "taken back from 20 to 10" in problem


def test_gap_between_transitions_is_found() -> None:
    (problem,) = sessions.check([], [shown(10, step=3), shown(20, step=4)])
    assert "was sent a transition from" in problem


def test_effect_shown_before_the_answer_is_found() -> None:
    (problem,) = sessions.check([request(steps=(1, 5))], [shown(10, step=3)])
    assert "before the answer" in problem


def test_requests_out_of_order_are_found() -> None:
    (problem,) = sessions.check([request(0, ts=20), request(1, ts=10)], [])
    assert "took effect at 10" in problem


# ---- snapshots and completeness ----------------------------------------------------


def test_result_of_another_moment_is_found() -> None:
    assert snapshots.check([shown(10, results={COUNTER: 1})], lambda query, ts: ts / 10) == []
    (problem,) = snapshots.check([shown(20, results={COUNTER: 1})], lambda query, ts: ts / 10)
    assert "was shown 1" in problem


def test_error_in_the_place_of_a_result_is_found() -> None:
    (problem,) = snapshots.check([shown(10, results={COUNTER: Failed("oh")})], lambda query, ts: 1)
    assert "Failed" in problem


def test_subscription_that_missed_the_last_change_is_found() -> None:
    assert completeness.check({"c": [COUNTER]}, {"c": {COUNTER: 2}}, lambda query: 2) == []
    (problem,) = completeness.check({"c": [COUNTER]}, {"c": {COUNTER: 1}}, lambda query: 2)
    assert "still shows 1" in problem


def test_subscription_that_shows_nothing_is_found() -> None:
    (problem,) = completeness.check({"c": [COUNTER]}, {"c": {}}, lambda query: 2)
    assert "shows nothing" in problem


# ---- seeds, and order by the log ------------------------------------------------------


def test_seed_used_twice_is_found() -> None:
    assert seeds.check([committed(0, 10), committed(1, 20)]) == []
    (problem,) = seeds.check([committed(0, 10), attrs.evolve(committed(0), ts=20)])
    assert "same seed" in problem


def test_lost_update_is_found_by_the_model() -> None:
    log = [committed(0, 10), committed(1, 20)]
    assert serial.check([request(0, value=1), request(1, ts=20, value=2)], log, Counters()) == []
    (problem,) = serial.check([request(0, value=1), request(1, ts=20, value=1)], log, Counters())
    assert "one at a time it gives 2" in problem


# ---- dependencies ----------------------------------------------------------------------


def transaction(
    name: str,
    steps: tuple[int, int | None],
    reads: dict[str, str] | None = None,
    appends: str = "",
    status: str = "ok",
) -> Transaction:
    """Items are letters: `reads={"x": "ab"}`; the transaction's own item is its name."""
    return Transaction(
        name,
        steps[0],
        steps[1],
        status,
        {key: tuple(items) for key, items in (reads or {}).items()},
        dict.fromkeys(appends, name),
    )


def test_serial_history_is_fine() -> None:
    history = [
        transaction("a", (1, 2), {"x": ""}, "x"),
        transaction("b", (3, 4), {"x": "a"}, "xy"),
        transaction("c", (5, 6), {"x": "ab", "y": "b"}),
    ]
    assert dependencies.check(history) == []


def test_concurrent_transactions_in_either_order_are_fine() -> None:
    history = [
        transaction("a", (1, 10), {"x": ""}, "y"),
        transaction("b", (2, 9), {"y": "a"}, "x"),
        transaction("c", (3, None), {}, "x", status="pending"),
    ]
    assert dependencies.check(history) == []


def test_anomaly_write_skew() -> None:
    history = [
        transaction("a", (1, 10), {"x": "", "y": ""}, "x"),
        transaction("b", (2, 9), {"x": "", "y": ""}, "y"),
        transaction("c", (11, 12), {"x": "a", "y": "b"}),
    ]
    (problem,) = dependencies.check(history)
    assert "rw x" in problem
    assert "rw y" in problem


def test_anomaly_lost_update() -> None:
    history = [
        transaction("a", (1, 10), {"x": ""}, "x"),
        transaction("b", (2, 9), {"x": ""}, "x"),
        transaction("c", (11, 12), {"x": "ab"}),
    ]
    (problem,) = dependencies.check(history)
    assert "a cycle of dependencies" in problem


def test_anomaly_stale_read_after_an_answer() -> None:
    """Serializable, and yet wrong: b was asked after a was answered, and did not see it."""
    history = [transaction("a", (1, 2), {}, "x"), transaction("b", (3, 4), {"x": ""})]
    assert dependencies.check(history) == []  # nobody ever saw a's item: nothing says that it is there
    (problem,) = dependencies.check([*history, transaction("c", (5, 6), {"x": "a"})])
    assert "rt" in problem


@pytest.mark.parametrize("seen", ["ba", "b"])
def test_lists_that_disagree_are_found(seen: str) -> None:
    history = [
        transaction("a", (1, 2), {}, "x"),
        transaction("b", (1, 2), {}, "x"),
        transaction("c", (3, 4), {"x": "ab"}),
        transaction("d", (3, 4), {"x": seen}),
    ]
    assert "somebody else as" in dependencies.check(history)[0]


def test_anomaly_aborted_read() -> None:
    history = [transaction("a", (1, None), {}, "x", status="failed"), transaction("b", (3, 4), {"x": "a"})]
    (problem,) = dependencies.check(history)
    assert "its writer failed" in problem


def test_item_that_is_there_twice_is_found() -> None:
    history = [transaction("a", (1, 2), {}, "x"), transaction("b", (3, 4), {"x": "aa"})]
    assert "twice" in dependencies.check(history)[0]
