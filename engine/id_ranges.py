"""A set of integers that mostly arrive in order, kept as the ranges they form.

A session remembers every request it has taken on, so that none is answered
twice on one socket. Clients count up by one, so this is one range for the life
of the socket, however many requests there were.
"""

from __future__ import annotations

from bisect import bisect_right

import attrs


@attrs.define
class IdRanges:
    _starts: list[int] = attrs.field(factory=list, init=False)
    _ends: list[int] = attrs.field(factory=list, init=False)  # exclusive; ranges neither touch nor overlap

    def __len__(self) -> int:
        """Return the number of ranges."""
        return len(self._starts)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._ends[place]

    def add(self, number: int) -> bool:
        """Add `number`. False if it was there already."""
        after = bisect_right(self._starts, number)
        before = after - 1
        if before >= 0 and number < self._ends[before]:
            return False
        extends = before >= 0 and self._ends[before] == number
        meets = after < len(self._starts) and self._starts[after] == number + 1
        if extends and meets:
            self._ends[before] = self._ends.pop(after)
            del self._starts[after]
        elif extends:
            self._ends[before] = number + 1
        elif meets:
            self._starts[after] = number
        else:
            self._starts.insert(after, number)
            self._ends.insert(after, number + 1)
        return True
