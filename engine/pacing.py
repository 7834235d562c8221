"""When to speak up, when to give up on a silent peer, and how fast a peer may talk.

Pure: the time is handed in, in seconds of one monotonic clock.
"""

from __future__ import annotations

from typing import Final

import attrs

# The Rust client gives up after 30 s without any frame and npm's after 60 s
# without a message, so a message within 15 s keeps both (protocol, 8.5).
PING_AFTER_S: Final = 15.0
# A WebSocket ping asks for a sign of life, which a `Ping` message does not.
# Four of them fit into the silence after which the peer counts as dead.
PROBE_AFTER_S: Final = 30.0
SILENCE_S_MAX: Final = 120.0


@attrs.define
class Heartbeat:
    """The silence in both directions of one socket."""

    last_sent: float
    last_heard: float
    last_probe: float

    @classmethod
    def starting(cls, now: float) -> Heartbeat:
        return cls(now, now, now)

    def next_due(self) -> float:
        """Return when to look again."""
        return min(
            self.last_sent + PING_AFTER_S,
            self.last_heard + SILENCE_S_MAX,
            max(self.last_probe, self.last_heard) + PROBE_AFTER_S,
        )

    def is_ping_due(self, now: float) -> bool:
        return now >= self.last_sent + PING_AFTER_S

    def is_probe_due(self, now: float) -> bool:
        return now >= max(self.last_probe, self.last_heard) + PROBE_AFTER_S

    def is_peer_dead(self, now: float) -> bool:
        return now >= self.last_heard + SILENCE_S_MAX


@attrs.define
class TokenBucket:
    """A rate with room for a burst: `burst` at once, then `per_second`."""

    per_second: float
    burst: float
    _level: float = attrs.field(init=False)
    _filled_at: float | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._level = self.burst

    def take(self, now: float) -> bool:
        """Take one; False if there is none left."""
        if self._filled_at is not None:
            gained = max(0.0, now - self._filled_at) * self.per_second
            self._level = min(self.burst, self._level + gained)
        self._filled_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
