"""What a session keeps of the messages it has taken in, by weight: what they take as objects in memory.

Counts alone bound nothing where one argument may have megabytes. Calls weigh from
their message to their answer, subscriptions from their message until their removal
was applied, so that whatever a client piles up is counted while it is there.

Invariant: what is taken from the allowance of all sockets is the sum of what is
kept here, and nothing after `clear`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from engine.shared_limits import Allowance, Share
from tidewell.protocol import Add, Remove

# Beside the text: what an array or an object takes, and a place in one with what stands there.
_CONTAINER_BYTES: Final = 56
_PLACE_BYTES: Final = 32


def weigh(text: str | bytes) -> int:
    """Return about what the JSON `text` takes once it is decoded; thirty times its length at worst."""
    if isinstance(text, str):
        containers, places = text.count("[") + text.count("{"), text.count(",")
    else:
        containers, places = text.count(b"[") + text.count(b"{"), text.count(b",")
    return len(text) + _CONTAINER_BYTES * containers + _PLACE_BYTES * places


@attrs.define(eq=False)
class Held:
    """Args:
    allowance: what all sessions together may hold.
    weight_max: of this session. One message may weigh more, if it is all that is held.
    """

    allowance: Allowance
    weight_max: int
    weight: int = attrs.field(default=0, init=False)
    _share: Share = attrs.field(init=False)
    _calls: dict[int, int] = attrs.field(factory=dict, init=False)
    _queries: dict[int, int] = attrs.field(factory=dict, init=False)
    # Changes that were not applied yet, in order; a removal has no weight.
    _pending: list[tuple[int, int | None]] = attrs.field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._share = Share(self.allowance)

    def add_call(self, request_id: int, weight: int) -> bool:
        """Keep a call. False if it is too much, and then nothing is kept."""
        if not self._grow(weight):
            return False
        self._calls[request_id] = weight
        return True

    def drop_call(self, request_id: int) -> None:
        """A call was answered."""
        self._shrink(self._calls.pop(request_id, 0))

    def add_changes(self, changes: Iterable[Add | Remove], weight: int) -> bool:
        """Keep the changes of one message, of `weight` together. False if it is too much."""
        if not self._grow(weight):
            return False
        changes = list(changes)
        added = max(1, sum(1 for change in changes if isinstance(change, Add)))
        each, rest = divmod(weight, added)
        for change in changes:
            if isinstance(change, Remove):
                self._pending.append((change.query_id, None))
            else:
                self._pending.append((change.query_id, each + rest))
                rest = 0
        if not any(isinstance(change, Add) for change in changes):
            self._shrink(weight)
        return True

    def changes_applied(self) -> None:
        """The changes kept so far are in force: what they removed is gone."""
        for query_id, weight in self._pending:
            if weight is None:
                self._shrink(self._queries.pop(query_id))
            else:
                self._queries[query_id] = weight
        self._pending.clear()

    def clear(self) -> None:
        """Nothing is kept any more."""
        self._calls.clear()
        self._queries.clear()
        self._pending.clear()
        self._shrink(self.weight)

    def _grow(self, weight: int) -> bool:
        if self.weight and self.weight + weight > self.weight_max:
            return False
        if not self._share.resize(self.weight + weight):
            return False
        self.weight += weight
        return True

    def _shrink(self, weight: int) -> None:
        self.weight -= weight
        assert self.weight >= 0, self.weight
        self._share.resize(self.weight)
