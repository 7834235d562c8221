"""What a read of an index selects: an interval of keys, and what is left to be asked of each document.

Transactions ask. A range on `by_id` is the one that an interval of keys cannot say
whole: its keys are bare ids, so what it says of `_creationTime` is for the documents.
"""

from __future__ import annotations

from collections.abc import Callable

from storage.catalog import IndexInfo
from storage.keys import Interval, encode, id_interval, interval_of, successor
from tidewell.ranges import IndexRange
from tidewell.values import Value


def selected(index: IndexInfo, range_: IndexRange) -> Interval:
    """Return the keys of an index that a range selects."""
    return id_interval(index.table, range_) if index.name == "by_id" else interval_of(range_)


def page_of(
    interval: Interval, start_after: bytes | None, stop_at: bytes | None, *, reverse: bool
) -> Interval:
    """Return the part of an interval behind one key and up to another, in the direction of a scan."""
    start, end = interval.start, interval.end
    if reverse:
        if start_after is not None:
            end = min(end, start_after)
        if stop_at is not None:
            start = max(start, stop_at)
    else:
        if start_after is not None:
            start = max(start, successor(start_after))
        if stop_at is not None:
            end = min(end, successor(stop_at))
    return Interval(start, end)


def creation_time_filter(index: IndexInfo, range_: IndexRange) -> Callable[[dict[str, Value]], bool] | None:
    """Return what a range on `by_id` says of `_creationTime` once `_id` is fixed; None if nothing."""
    if index.name != "by_id":
        return None
    if len(range_.equal) == 0 or (len(range_.equal) == 1 and not (range_.lower or range_.upper)):
        return None
    wanted = interval_of(IndexRange(range_.equal[1:], range_.lower, range_.upper))
    return lambda document: wanted.start <= encode(document["_creationTime"]) + b"\x00" < wanted.end
