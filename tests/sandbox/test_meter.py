"""The meter: exact budgets, stickiness, charges, the profile."""

from __future__ import annotations

import random
from itertools import count, islice

import pytest

from sandbox.faults import Terminated
from sandbox.meter import Meter


def test_a_budget_allows_one_step_less_than_itself() -> None:
    meter = Meter(10)
    for _ in range(9):
        meter.step()
    assert (meter.used, meter.left) == (9, 0)
    with pytest.raises(Terminated, match="10 steps"):
        meter.step()
    assert meter.used == 10


def test_exhaustion_is_sticky_in_every_form_of_pull() -> None:
    meter = Meter(5)
    with pytest.raises(Terminated):
        list(meter.items(count()))
    for pull in (
        meter.step,
        lambda: meter.charge(1),
        lambda: next(meter.items([1])),
        lambda: next(meter.units),
    ):
        with pytest.raises(Terminated):
            pull()


@pytest.mark.parametrize("block_steps", [1, 2, 3, 64])
def test_steps_and_charges_agree_with_a_plain_counter(block_steps: int) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    draw = random.Random(seed)
    meter = Meter(1, block_steps=block_steps)
    for _ in range(200):
        budget = draw.randrange(1, 400)
        meter.reset(budget)
        used = 0
        while True:
            amount = draw.choice((0, 1, 1, 1, 2, 5, block_steps, draw.randrange(100)))
            way = draw.randrange(3)
            try:
                if way == 0:
                    amount = 1
                    meter.step()
                elif way == 1:
                    assert len(list(islice(meter.items(range(amount)), amount))) == amount
                else:
                    meter.charge(amount)
            except Terminated:
                assert used + amount >= budget
                assert meter.used == budget
                break
            used += amount
            assert used < budget
            assert (meter.used, meter.left) == (used, budget - 1 - used)


def test_reset_revives_an_exhausted_meter_and_its_callables() -> None:
    meter = Meter(3, block_steps=2)
    step, items = meter.step, meter.items
    with pytest.raises(Terminated):
        list(items(count()))
    meter.reset(100)
    assert list(islice(items(count()), 50)) == list(range(50))
    step()
    assert meter.used == 51


def test_an_item_takes_one_step_and_the_end_takes_none() -> None:
    meter = Meter(100)
    assert list(meter.items([1, 2, 3])) == [1, 2, 3]
    assert meter.used == 3


def test_a_bulk_charge_beyond_the_budget_ends_the_call() -> None:
    meter = Meter(1000, block_steps=10)
    meter.charge(998)
    with pytest.raises(Terminated):
        meter.charge(2)
    assert meter.used == 1000


def test_calls_nested_too_deeply_end_the_call_for_good() -> None:
    meter = Meter(1000, depth=3)
    for _ in range(3):
        next(meter.enter())
    with pytest.raises(Terminated) as ended:
        next(meter.enter())
    assert ended.value.kind == "depth"
    with pytest.raises(Terminated) as again:
        meter.step()
    assert again.value.kind == "depth"
