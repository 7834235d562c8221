"""What all sockets of a deployment may take together.

The limits of one socket keep one client in bounds; these keep a crowd in
bounds, of clients that are each well within theirs. Connections and sessions
take from here, and give back what they took when they end.
"""

from __future__ import annotations

from typing import Final

import attrs

from engine.pacing import TokenBucket
from engine.receiving import ReceiveBudget

MIB: Final = 1024 * 1024


@attrs.frozen
class SharedLimits:
    """The defaults serve ten thousand clients: connected, mostly idle, and all back after a restart."""

    # Half as many again as that: a client that lost its line opens the next
    # socket up to two minutes before the old one counts as dead. Below the limit
    # of connections, so that the HTTP API answers when all of these are taken.
    sockets_max: int = 15_000
    # Some 25 for each of ten thousand clients.
    subscriptions_max: int = 250_000
    # One process decodes about as many. A restart brings ten thousand clients
    # back at once, each with a `Connect`, a token, its queries and some calls.
    messages_per_s: float = 10_000.0
    messages_burst: float = 100_000.0
    # Beyond the first bytes of each socket: a dozen of the largest messages.
    unread_bytes_max: int = 256 * MIB
    unread_bytes_of_one_max: int = 64 * MIB
    # For arguments that wait and that are watched: some 100 KiB for each of ten thousand clients.
    held_bytes_max: int = 1024 * MIB


@attrs.define
class Allowance:
    """A number of things that may exist at once."""

    left: int

    def take(self, count: int) -> bool:
        if count > self.left:
            return False
        self.left -= count
        return True

    def give_back(self, count: int) -> None:
        self.left += count


@attrs.define
class Share:
    """What one of many has taken from an allowance."""

    _allowance: Allowance
    _taken: int = attrs.field(default=0, init=False)

    def resize(self, count: int) -> bool:
        """Have `count` from now on. False if there are not so many left, and nothing changes."""
        if not self._allowance.take(count - self._taken):
            return False
        self._taken = count
        return True


@attrs.define(eq=False)
class SharedState:
    """How much of the limits is in use."""

    limits: SharedLimits = attrs.field(factory=SharedLimits)
    sockets: Allowance = attrs.field(init=False)
    subscriptions: Allowance = attrs.field(init=False)
    held_bytes: Allowance = attrs.field(init=False)
    messages: TokenBucket = attrs.field(init=False)
    unread: ReceiveBudget = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        limits = self.limits
        self.sockets = Allowance(limits.sockets_max)
        self.subscriptions = Allowance(limits.subscriptions_max)
        self.held_bytes = Allowance(limits.held_bytes_max)
        self.messages = TokenBucket(limits.messages_per_s, limits.messages_burst)
        self.unread = ReceiveBudget(limits.unread_bytes_max, limits.unread_bytes_of_one_max)
