"""Pauses between attempts: they grow, they end, and no two clients keep step."""

from __future__ import annotations

import pytest

from tidewell.client.backoff import DELAY_S_MAX, delay_s


def middle(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.mark.parametrize(
    ("reason", "base"),
    [("ConnectionLost", 0.1), ("InternalServerError: x", 1.0), ("TooManyConcurrentRequests", 3.0)],
)
def test_pauses_double_from_a_base_that_the_reason_chooses_to_a_limit(reason: str, base: float) -> None:
    pauses = [delay_s(failures, reason, middle) for failures in range(1, 4)]
    assert pauses == [pytest.approx(base * factor) for factor in (1, 2, 4)]
    assert delay_s(1000, reason, middle) == DELAY_S_MAX


def test_jitter_moves_a_pause_by_half_of_it() -> None:
    assert delay_s(1, "", lambda low, _: low) == pytest.approx(0.05)
    assert delay_s(1, "", lambda _, high: high) == pytest.approx(0.15)
