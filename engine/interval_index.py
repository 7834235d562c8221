"""Which watched queries does a written key touch? An index of half-open key intervals.

Each committed key is looked up once, however many queries are registered. The
keys of an interval all begin with what its two ends have in common, so an
interval is filed under that common prefix, and a lookup tries the key's prefixes
of the lengths that occur: nearly all real intervals are one document or one
equality, and are found by that hash alone. Intervals that share a prefix stand in
one tree, so wide ranges that overlap cost no more than those that hold the key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Generic, TypeVar

import attrs

from engine.interval_tree import IntervalTree

Owner = TypeVar("Owner")


@attrs.define(eq=False)
class IntervalIndex(Generic[Owner]):
    """A multiset of (index id, start, end) -> owners."""

    _trees: dict[tuple[int, bytes], IntervalTree[Owner]] = attrs.field(factory=dict, init=False)
    _lengths: dict[int, Counter[int]] = attrs.field(
        factory=dict, init=False
    )  # prefix lengths in use, per index

    def add(self, index_id: int, start: bytes, end: bytes, owner: Owner) -> None:
        """Register `owner` for keys in [start, end). Registering twice is the same as once."""
        assert start < end, (start, end)
        prefix = _common_prefix(start, end)
        tree = self._trees.get((index_id, prefix))
        if tree is None:
            tree = self._trees[index_id, prefix] = IntervalTree()
            self._lengths.setdefault(index_id, Counter())[len(prefix)] += 1
        tree.add(start, end, owner)

    def discard(self, index_id: int, start: bytes, end: bytes, owner: Owner) -> None:
        """Take back an `add`. Raises `KeyError` for what was not added."""
        prefix = _common_prefix(start, end)
        tree = self._trees[index_id, prefix]
        tree.discard(start, end, owner)
        if tree:
            return
        del self._trees[index_id, prefix]
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
            tree = self._trees.get((index_id, key[:length]))
            if tree is not None:
                yield from tree.stab(key)

    def __len__(self) -> int:
        """The number of distinct intervals."""
        return sum(map(len, self._trees.values()))


def _common_prefix(start: bytes, end: bytes) -> bytes:
    length = 0
    for a, b in zip(start, end, strict=False):
        if a != b:
            break
        length += 1
    return start[:length]
