"""Moments as people write them, and as they read them."""

from __future__ import annotations

import pytest

from engine.moments import InvalidMoment, read_moment, write_moment

NOW = 1_795_384_541_123_456_789  # 2026-11-22 21:55:41


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (str(NOW), NOW),
        ("10m", NOW - 600 * 10**9),
        ("1.5h ago", NOW - 5400 * 10**9),
        ("3d", NOW - 3 * 86_400 * 10**9),
        ("99999d", 0),
        ("2026-11-22", 1_795_305_600 * 10**9),
        ("2026-11-22T21:55:41.123", NOW // 10**6 * 10**6),
        ("2026-11-22 22:55:41+01:00", NOW // 10**9 * 10**9),
    ],
)
def test_moment_is_read(text: str, moment: int) -> None:
    assert read_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "5", "10 parsecs", "2026-13-01"])
def test_what_is_no_moment_says_what_is_one(text: str) -> None:
    with pytest.raises(InvalidMoment, match="how long ago"):
        read_moment(text, NOW)


def test_moment_is_written_to_the_millisecond() -> None:
    assert write_moment(NOW) == "2026-11-22 21:55:41.123"
    assert write_moment(1 << 80) == "far away"
