"""Trails: where two runs part, from five bytes for each thing they did."""

from __future__ import annotations

import pytest

from sandbox.trail import EVENT_BYTES, EVENTS_WHOLE, Trail, first_difference

from .guest_app import GuestApp
from .memory_database import MemoryUsage

APP = {
    "notes.py": """
        from tidewell import mutation, query

        @mutation
        def write(ctx, text: str):
            first = ctx.db.query("notes").first()
            ctx.run_query("notes:count", {})
            return ctx.db.insert("notes", {"text": text, "first": first is None})

        @query
        def count(ctx):
            return ctx.db.query("notes").count()

        @mutation
        def write_many(ctx, count: int):
            for number in range(count):
                ctx.db.insert("many", {"number": number})
    """
}


def trail_of(events: list[tuple[str, int, int]]) -> bytes:
    """Return the trail of events: what was asked, the documents' checksum after it, the steps before it."""
    usage, steps = MemoryUsage(), [0]
    trail = Trail(usage, lambda: steps[0], in_words=False)
    for asked, contents, taken in events:
        steps[0] = taken
        trail.begin("get", asked)
        usage.contents = contents
    return trail.finish()


EVENTS = [(f"id {number}", 1_000 + number, 10 * number) for number in range(6)]


def changed(place: int, asked: str = "", contents: int = 0, steps: int = 0) -> list[tuple[str, int, int]]:
    was = EVENTS[place]
    event = (asked or was[0], contents or was[1], steps or was[2])
    return [*EVENTS[:place], event, *EVENTS[place + 1 :]]


def test_equal_runs_have_equal_trails() -> None:
    assert trail_of(EVENTS) == trail_of(list(EVENTS))
    assert len(trail_of(EVENTS)) == EVENT_BYTES * len(EVENTS)
    assert first_difference(trail_of(EVENTS), trail_of(EVENTS)) is None


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (changed(3, asked="another id"), (3, "request")),
        (changed(2, contents=7), (2, "answer")),
        (changed(4, steps=41), (4, "steps")),
        (EVENTS[:4], (4, "end")),
        (EVENTS[:0], (0, "end")),
        ([*EVENTS, ("more", 9, 90)], (6, "end")),
    ],
)
def test_first_event_that_differs_is_found_and_how(
    other: list[tuple[str, int, int]], expected: tuple[int, str]
) -> None:
    assert first_difference(trail_of(EVENTS), trail_of(other)) == expected
    assert first_difference(trail_of(other), trail_of(EVENTS)) == expected


def test_other_steps_before_another_question_are_not_what_began_it() -> None:
    other = changed(1, steps=11)
    other[3] = ("another id", 1_003, 31)
    assert first_difference(trail_of(EVENTS), trail_of(other)) == (3, "request")


@pytest.mark.parametrize("place", [EVENTS_WHOLE, EVENTS_WHOLE + 7, 200, 999])
def test_difference_late_in_a_long_run_is_found_to_within_a_factor_of_two(place: int) -> None:
    events = [(f"id {number}", number, number) for number in range(1_000)]
    other = list(events)
    other[place] = ("another id", place, place)
    recorded, now = trail_of(events), trail_of(other)
    assert len(recorded) < 400
    found = first_difference(recorded, now)
    assert found is not None
    number, part = found
    assert part == "later"
    assert number <= place < 2 * number
    assert first_difference(trail_of(events), trail_of(events[:place])) is not None


def test_trail_of_a_mutation_is_told_in_words_with_its_lines() -> None:
    app = GuestApp(APP)
    app.mutate("notes:write", text="so that there is a table")
    args = {"text": "hello"}
    plain, told = app.outcomes(
        app.call("mutation", "notes:write", args, seed=bytes(32), begin_ts=1),
        app.call("mutation", "notes:write", args, seed=bytes(32), begin_ts=1, in_words=True),
    )
    assert plain.trail == told.trail != b""
    assert plain.steps == told.steps
    assert plain.seen == []
    assert [seen.operation for seen in told.seen] == ["scan", "call", "count", "insert"]
    lines = [(seen.file, seen.line) for seen in told.seen]
    assert lines == [("notes.py", line_of(text)) for text in ("first()", "run_query", ".count()", "insert")]
    assert told.seen[3].text.startswith("insert('notes', {'first': ")


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(APP["notes.py"].splitlines(), 1) if text in line)


def test_trail_of_a_long_mutation_stays_small() -> None:
    app = GuestApp(APP)
    outcome = app.outcome("mutation", "notes:write_many", {"count": 2_000})
    assert len(outcome.trail) < 400


def test_queries_leave_no_trail() -> None:
    assert GuestApp(APP).outcome("query", "notes:count").trail == b""
