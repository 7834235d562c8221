"""Moments as people write and read them: commit timestamps, times of day, and how long ago.

Everything is UTC, as it is for functions. A commit's timestamp is nanoseconds since the
epoch, so every timestamp names a moment; the other way round, a moment means the
newest commit that is not after it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from storage import Timestamp

_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)(?:\s+ago)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NS_DIGITS_MIN: Final = 17  # shorter numbers are no timestamps of this century
HELP: Final = 'a commit\'s timestamp, how long ago ("10m", "2h", "3d"), or a time in UTC ("2026-11-22T21:55")'


class InvalidMoment(ValueError):
    """A text that is no moment. The message says what would be one."""


def read_moment(text: str, now_ns: int) -> Timestamp:
    """Return the moment that `text` names, in nanoseconds since the epoch. Raises `InvalidMoment`."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) >= _NS_DIGITS_MIN:
        return int(text)
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return max(0, now_ns - int(float(ago[1]) * _SECONDS[ago[2]] * 1e9))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidMoment(f"{text!r} is no moment; give {HELP}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * 10**9 + since.microseconds * 1000


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def write_moment(ts: Timestamp) -> str:
    """Return a timestamp as a person reads it, to the millisecond."""
    try:
        moment = _EPOCH + timedelta(microseconds=ts // 1000)
    except OverflowError:
        return "far away"
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{ts // 10**6 % 1000:03}"
