"""What a session keeps in memory for its client: weighed, bounded, given back."""

from __future__ import annotations

import json
import sys

import pytest

from engine.commands import SessionLimits
from engine.held import Held, weigh
from engine.shared_limits import Allowance
from tidewell.protocol import Add, Remove, Uint

from .session_driver import SessionDriver, add, remove

OVERLOAD = (1013, "TooManyConcurrentRequests")
LARGE = "x" * 1000


def added(query_id: int) -> Add:
    return Add(Uint(query_id), "values:echo", [{}])


def removed(query_id: int) -> Remove:
    return Remove(Uint(query_id))


def size_of(tree: object) -> int:
    size = sys.getsizeof(tree)
    if isinstance(tree, dict):
        return size + sum(size_of(value) for value in tree.values())
    return size + sum(map(size_of, tree)) if isinstance(tree, list) else size


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"name": "x" * 100_000}),
        json.dumps([[] for _ in range(10_000)]),
        json.dumps([{"a": {}} for _ in range(1000)]),
        json.dumps([index + 0.5 for index in range(10_000)]),
    ],
)
def test_weight_is_about_what_decoding_takes(text: str) -> None:
    assert 0.4 < weigh(text) / size_of(json.loads(text)) < 2.5


def test_calls_weigh_until_they_are_answered() -> None:
    allowance = Allowance(100)
    held = Held(allowance, 60)
    assert held.add_call(0, 40)
    assert not held.add_call(1, 30), "more than one session may hold"
    assert allowance.left == 60
    held.drop_call(0)
    held.drop_call(0)
    assert held.add_call(2, 70), "one message may be larger, alone"
    assert not Held(allowance, 60).add_call(0, 40), "more than all may hold"
    held.clear()
    assert allowance.left == 100


def test_subscriptions_weigh_until_their_removal_was_applied() -> None:
    allowance = Allowance(100)
    held = Held(allowance, 100)
    assert held.add_changes([added(0), added(1), added(2)], 31)
    held.changes_applied()
    assert held.add_changes([removed(0)], 5)
    assert held.weight == 31, "it is still there"
    held.changes_applied()
    assert held.weight == 20
    assert held.add_changes([added(3), removed(3), added(3)], 10)
    held.changes_applied()
    assert held.weight == 25
    assert held.add_changes([], 50)
    assert held.weight == 25
    held.clear()
    assert allowance.left == 100


def test_large_mutations_that_wait_close_with_overload() -> None:
    allowance = Allowance(1_000_000)
    driver = SessionDriver(limits=SessionLimits(held_bytes_max=6_000), auto=False, held_bytes=allowance)
    for request_id in range(4):
        driver.mutate(request_id, "counter:add", by=LARGE)
        assert driver.closed is None
    driver.mutate(4, "counter:add", by=LARGE)
    assert driver.closed is not None
    assert (driver.closed.code, driver.closed.reason) == OVERLOAD
    assert allowance.left == 1_000_000


def test_mutations_one_after_another_may_be_as_many_as_they_like() -> None:
    allowance = Allowance(5_000)
    driver = SessionDriver(limits=SessionLimits(held_bytes_max=5_000), held_bytes=allowance)
    for request_id in range(50):
        driver.mutate(request_id, "values:echo_mutation", value=LARGE)
        driver.act(1000 + request_id, "values:echo_action", value=LARGE)
    assert driver.closed is None
    assert allowance.left == 5_000


def test_adding_and_removing_large_subscriptions_does_not_pile_up() -> None:
    driver = SessionDriver(limits=SessionLimits(held_bytes_max=5_000), auto=False)
    base = 0
    while driver.closed is None and base < 100:
        driver.modify(base, add(base, "values:echo", value=LARGE))
        if driver.closed is None:
            driver.modify(base + 1, remove(base))
        base += 2
    assert driver.closed is not None
    assert base <= 12
