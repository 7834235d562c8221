"""The decisions of a pool that need no process."""

from __future__ import annotations

import pytest

from sandbox.frames import Loaded, LoadFailed, Outcome, Pong, Ran, Refused, SourceError
from sandbox.pool.rules import StartLimiter, is_ordinary


@pytest.mark.parametrize("kind", ["app_error", "function", "compile"])
def test_errors_of_the_guest_are_ordinary(kind: str) -> None:
    assert is_ordinary(Ran(outcomes=[Outcome(kind=kind)]))  # type: ignore[arg-type]  # a literal of the list above


@pytest.mark.parametrize("kind", ["fuel", "depth", "memory"])
def test_limits_are_not_ordinary_wherever_they_stand_in_a_batch(kind: str) -> None:
    good = Outcome(kind="value", value=b"\xc0")
    limit = Outcome(kind=kind)  # type: ignore[arg-type]  # a literal of the list above
    assert not is_ordinary(Ran(outcomes=[good, limit, good]))


def test_other_replies() -> None:
    assert is_ordinary(Pong())
    assert is_ordinary(Loaded(code="c", analysis=b""))
    assert is_ordinary(Refused(reason="stale_snapshot"))
    assert not is_ordinary(Refused(reason="map_outgrown"))
    error = SourceError(path="a.py", line=1, column=0, message="no")
    assert not is_ordinary(LoadFailed(code="c", errors=[error]))


def test_burst_starts_at_once_and_the_rest_at_the_rate() -> None:
    limiter = StartLimiter(burst=3, per_s=10.0)
    assert [limiter.delay_s(0.0) for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2])


def test_tokens_come_back_up_to_the_burst() -> None:
    limiter = StartLimiter(burst=2, per_s=10.0)
    for _ in range(4):
        limiter.delay_s(0.0)
    assert limiter.delay_s(0.3) == 0.0
    assert [limiter.delay_s(100.0) for _ in range(3)] == pytest.approx([0, 0, 0.1])
