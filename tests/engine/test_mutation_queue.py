"""Who travels with whom: decisions about queued mutations, without any of them running."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from engine.mutation_queue import (
    ATTEMPTS,
    BATCH_MAX,
    HOT_FOR_S,
    LANES,
    QUICK_LANE,
    SLOW_LANE,
    Job,
    MutationQueue,
)
from engine.pace import QUICK_STEPS_MAX
from engine.promise import Promise

from .deployed import call

MIDDLE = 1


@attrs.define
class World:
    seconds: float = 0.0
    code: Any = attrs.field(
        factory=lambda: SimpleNamespace(
            hash="one",
            functions={
                "a:quick": SimpleNamespace(retries=None),
                "a:other": SimpleNamespace(retries=None),
                "a:slow": SimpleNamespace(retries=None),
                "a:once": SimpleNamespace(retries=0),
            },
        )
    )
    jobs: int = 0
    queue: MutationQueue = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        clock: Any = SimpleNamespace(monotonic=lambda: self.seconds)
        self.queue = MutationQueue(clock, lambda: self.code)
        for path in ("a:quick", "a:other", "a:once"):
            self.queue.pace.note(path, 10)
        self.queue.pace.note("a:slow", QUICK_STEPS_MAX + 1)

    def put(self, path: str, attempt: int = 0) -> Job:
        self.jobs += 1
        job = Job(call(path), None, Promise(), "", self.jobs, attempt)
        self.queue.put(job)
        return job


@pytest.fixture
def world() -> World:
    return World()


def test_quick_calls_travel_together_in_order_of_arrival(world: World) -> None:
    jobs = [world.put(path) for path in ("a:quick", "a:other", "a:quick")]
    assert world.queue.take(QUICK_LANE, 0) == jobs
    assert world.queue.take(MIDDLE, 1) == []


def test_a_message_has_a_bounded_number_of_calls(world: World) -> None:
    for _ in range(BATCH_MAX + 1):
        world.put("a:quick")
    assert [len(world.queue.take(lane, lane)) for lane in range(LANES)] == [BATCH_MAX, 1, 0]


def test_slow_calls_travel_alone_and_never_in_the_quick_lane(world: World) -> None:
    slow = [world.put("a:slow") for _ in range(3)]
    quick = world.put("a:quick")
    assert world.queue.take(QUICK_LANE, 0) == [quick]
    assert world.queue.take(QUICK_LANE, 0) == []
    assert world.queue.take(MIDDLE, 1) == [slow[0]]
    assert world.queue.take(SLOW_LANE, 2) == [slow[1]]


def test_quick_calls_are_not_taken_by_the_slow_lane(world: World) -> None:
    world.put("a:quick")
    assert world.queue.take(SLOW_LANE, 0) == []


def test_hot_functions_keep_to_the_quick_lane_for_a_while(world: World) -> None:
    came_before = world.put("a:quick")
    world.queue.mark_hot("a:quick")
    world.put("a:quick")
    other = world.put("a:other")
    assert world.queue.take(MIDDLE, 0) == [other]
    assert came_before in world.queue.take(QUICK_LANE, 1)
    world.seconds += HOT_FOR_S
    later = world.put("a:quick")
    assert world.queue.take(MIDDLE, 1) == [later]


def test_exclusive_jobs_wait_for_the_lanes_to_run_dry_and_then_run_alone_together(world: World) -> None:
    exclusive = [world.put("a:quick", ATTEMPTS - 1), world.put("a:other", ATTEMPTS - 1)]
    ordinary = world.put("a:other")
    assert world.queue.take(QUICK_LANE, 1) == []
    assert world.queue.take(MIDDLE, 0) == exclusive
    assert world.queue.take(QUICK_LANE, 1) == []
    assert world.queue.take(QUICK_LANE, 0) == [ordinary]
    assert world.queue.take(MIDDLE, 1) == []


def test_a_function_without_retries_is_exclusive_from_the_start(world: World) -> None:
    job = world.put("a:once")
    world.put("a:quick")
    assert world.queue.is_exclusive(job)
    assert world.queue.take(QUICK_LANE, 0) == [job]


def test_jobs_put_back_come_first_in_their_order(world: World) -> None:
    jobs = [world.put("a:quick") for _ in range(3)]
    assert world.queue.take(QUICK_LANE, 0) == jobs
    late = world.put("a:quick")
    world.queue.put_back(jobs[1:])
    assert world.queue.take(QUICK_LANE, 0) == [*jobs[1:], late]


def test_a_function_that_has_not_run_travels_alone_until_it_is_known(world: World) -> None:
    world.code.functions["a:new"] = SimpleNamespace(retries=None)
    new = [world.put("a:new"), world.put("a:new")]
    assert world.queue.take(MIDDLE, 0) == [new[0]]
    world.queue.pace.note("a:new", 10)
    assert world.queue.pace.is_quick("a:new")


def test_a_function_that_is_slow_once_in_a_while_stays_quick(world: World) -> None:
    for _ in range(50):
        world.queue.pace.note("a:quick", 10)
    world.queue.pace.note("a:quick", QUICK_STEPS_MAX * 3)
    assert world.queue.pace.is_quick("a:quick")
    world.queue.pace.note_lost("a:quick")
    assert not world.queue.pace.is_quick("a:quick")


def test_another_code_version_is_measured_anew(world: World) -> None:
    world.code.hash = "two"
    assert not world.queue.pace.is_quick("a:quick")
    world.queue.pace.note("a:slow", 10)
    assert world.queue.pace.is_quick("a:slow")
    assert not world.queue.pace.is_quick("a:quick")


def test_paths_that_callers_make_up_leave_nothing_behind(world: World) -> None:
    before = len(world.queue.pace)
    for number in range(1000):
        world.queue.pace.note(f"made:up{number}", 1)
    assert len(world.queue.pace) == before
    assert world.queue.pace.is_quick("made:up")
