"""Which watched queries does a written key touch? An index of half-open key intervals.

Each committed key is looked up once, however many queries are registered. The
keys of an interval all begin with what its two ends have in common, so an
interval is filed under that common prefix, and a lookup tries the key's prefixes
of the lengths that occur: nearly all real intervals are one document or one
equality, and are found by that hash alone. Intervals that share a prefix stand in
a sorted list by their start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs
from sortedcontainers import SortedDict

Owner = TypeVar("Owner")


@attrs.define(eq=False)
class IntervalIndex(Generic[Owner]):
    """A multiset of (index id, start, end) -> owners."""

    _buckets: dict[tuple[int, bytes], SortedDict] = attrs.field(factory=dict, init=False)
    _lengths: dict[int, Counter[int]] = attrs.field(
        factory=dict, init=False
    )  # prefix lengths in use, per index

    def add(self, index_id: int, start: bytes, end: bytes, owner: Owner) -> None:
        """Register `owner` for keys in [start, end). Registering twice is the same as once."""
        assert start < end, (start, end)
        prefix = _common_prefix(start, end)
        bucket = self._buckets.get((index_id, prefix))
        if bucket is None:
            bucket = self._buckets[index_id, prefix] = SortedDict()
            self._lengths.setdefault(index_id, Counter())[len(prefix)] += 1
        bucket.setdefault(start, {}).setdefault(end, {})[owner] = None  # in a reproducible order

    def discard(self, index_id: int, start: bytes, end: bytes, owner: Owner) -> None:
        """Take back an `add`. Raises `KeyError` for what was not added."""
        prefix = _common_prefix(start, end)
        bucket = self._buckets[index_id, prefix]
        ends = bucket[start]
        owners = ends[end]
        del owners[owner]
        if owners:
            return
        del ends[end]
        if ends:
            return
        del bucket[start]
        if bucket:
            return
        del self._buckets[index_id, prefix]
        lengths = self._lengths[index_id]
        lengths[len(prefix)] -= 1
        if not lengths[len(prefix)]:
            del lengths[len(prefix)]
        if not lengths:
            del self._lengths[index_id]

    def stab(self, index_id: int, key: bytes) -> Iterator[Owner]:
        """Yield the owners of every interval that holds `key`; an owner of several may come several times."""
        for length in self._lengths.get(index_id, ()):
            if length > len(key):
                continue
            bucket = self._buckets.get((index_id, key[:length]))
            if bucket is None:
                continue
            for start in bucket.irange(maximum=key):
                for end, owners in bucket[start].items():
                    if key < end:
                        yield from owners

    def __len__(self) -> int:
        """The number of distinct intervals."""
        return sum(len(ends) for bucket in self._buckets.values() for ends in bucket.values())


def _common_prefix(start: bytes, end: bytes) -> bytes:
    length = 0
    for a, b in zip(start, end, strict=False):
        if a != b:
            break
        length += 1
    return start[:length]
