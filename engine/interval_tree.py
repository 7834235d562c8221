"""Intervals of keys that overlap at will, and which of them hold a key.

A balanced search tree over (start, end) in which every node knows the largest end
below it, so that a lookup passes over what ends too early: logarithmic, plus what it
finds. A treap, because taking out is as short as putting in; its priorities come from a
fixed sequence, so the same operations build the same tree.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

Owner = TypeVar("Owner")

# Priorities are steps of the golden ratio around a circle, their bits mixed: spread evenly, and in an
# order that has nothing to do with keys.
_STEP: Final = 0x9E3779B97F4A7C15
_MIX: Final = 0xBF58476D1CE4E5B9
_ALL: Final = 2**64 - 1


class _Node(Generic[Owner]):
    __slots__ = ("end", "furthest", "left", "owners", "priority", "right", "start")

    def __init__(self, start: bytes, end: bytes, priority: int) -> None:
        self.start = start
        self.end = end
        self.furthest = end  # the largest end in this node and below
        self.priority = priority  # not above that of the parent
        self.owners: dict[Owner, None] = {}  # a set in a reproducible order
        self.left: _Node[Owner] | None = None
        self.right: _Node[Owner] | None = None

    def look_below(self) -> None:
        furthest = self.end
        if self.left is not None and self.left.furthest > furthest:
            furthest = self.left.furthest
        if self.right is not None and self.right.furthest > furthest:
            furthest = self.right.furthest
        self.furthest = furthest


class IntervalTree(Generic[Owner]):
    """A multiset of [start, end) -> owners. False when it is empty."""

    __slots__ = ("_drawn", "_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[Owner] | None = None
        self._size = 0
        self._drawn = 0

    def __len__(self) -> int:
        """The number of distinct intervals."""
        return self._size

    def add(self, start: bytes, end: bytes, owner: Owner) -> None:
        self._root = self._added(self._root, start, end, owner)

    def discard(self, start: bytes, end: bytes, owner: Owner) -> None:
        """Take back an `add`. Raises `KeyError` for what was not added."""
        self._root = self._removed(self._root, start, end, owner)

    def stab(self, key: bytes) -> list[Owner]:
        """Return the owners of the intervals that hold `key`; one of several comes several times."""
        found: list[Owner] = []
        _collect(self._root, key, found)
        return found

    def _added(self, node: _Node[Owner] | None, start: bytes, end: bytes, owner: Owner) -> _Node[Owner]:
        if node is None:
            node = _Node(start, end, self._priority())
            node.owners[owner] = None
            self._size += 1
            return node
        if start == node.start and end == node.end:
            node.owners[owner] = None
            return node
        if (start, end) < (node.start, node.end):
            child = node.left = self._added(node.left, start, end, owner)
            if child.priority > node.priority:
                node.left, child.right = child.right, node
                node.look_below()
                node = child
        else:
            child = node.right = self._added(node.right, start, end, owner)
            if child.priority > node.priority:
                node.right, child.left = child.left, node
                node.look_below()
                node = child
        node.look_below()
        return node

    def _priority(self) -> int:
        self._drawn = (self._drawn + _STEP) & _ALL
        return ((self._drawn ^ (self._drawn >> 30)) * _MIX & _ALL) ^ (self._drawn >> 31)

    def _removed(
        self, node: _Node[Owner] | None, start: bytes, end: bytes, owner: Owner
    ) -> _Node[Owner] | None:
        if node is None:
            raise KeyError((start, end))
        if start == node.start and end == node.end:
            del node.owners[owner]
            if node.owners:
                return node
            self._size -= 1
            return _merged(node.left, node.right)
        if (start, end) < (node.start, node.end):
            node.left = self._removed(node.left, start, end, owner)
        else:
            node.right = self._removed(node.right, start, end, owner)
        node.look_below()
        return node


def _merged(left: _Node[Owner] | None, right: _Node[Owner] | None) -> _Node[Owner] | None:
    """Join two trees, all of `left` before all of `right`."""
    if left is None:
        return right
    if right is None:
        return left
    if left.priority >= right.priority:
        left.right = _merged(left.right, right)
        left.look_below()
        return left
    right.left = _merged(left, right.left)
    right.look_below()
    return right


def _collect(node: _Node[Owner] | None, key: bytes, found: list[Owner]) -> None:
    while node is not None and key < node.furthest:
        _collect(node.left, key, found)
        if key < node.start:
            return
        if key < node.end:
            found += node.owners
        node = node.right
