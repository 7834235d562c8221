"""What a session tells its connection to do, and the bounds it keeps.

Commands are carried out in the order given. `Send` and `Close` are done when
the next one begins; the others run beside it, and their end is reported back.
"""

from __future__ import annotations

import attrs

from engine.backend import Call
from tidewell.protocol import Authenticate


@attrs.frozen
class SessionLimits:
    mutations_queued_max: int = 1000
    actions_running_max: int = 1000
    # Counts changes that wait as well. A page watches tens of queries.
    subscriptions_max: int = 10_000
    # Memory for the arguments of calls without an answer and of subscriptions (`held`).
    held_bytes_max: int = 256 * 1024 * 1024
    transitions_unsent_max: int = 2
    # A transition above this size is cut for clients that can put it together
    # again, so that each part resets their timer of 60 s on a slow line.
    chunk_above_bytes: int = 5_000_000
    chunk_bytes: int = 1_000_000


@attrs.frozen
class Send:
    """Send one message. `ends_transition` asks for `transition_sent` once it is out."""

    data: bytes
    ends_transition: bool = False


@attrs.frozen
class RunMutation:
    call: Call
    idempotency: tuple[str, int] | None


@attrs.frozen
class RunAction:
    request_id: int
    call: Call


@attrs.frozen
class Verify:
    """Check a token and come back with `token_accepted` or `token_refused` before the next message."""

    message: Authenticate


@attrs.frozen
class Update:
    """Call `begin_update`, evaluate, call `finish_update`."""


@attrs.frozen
class AwaitRepeats:
    """Come back with `repeats_awaited` once a reconnecting client has had its time to repeat its calls."""


@attrs.frozen
class Close:
    """Close the socket, the last command of all; without a code if `code` is None.

    `reason` is a short CamelCase code for the client, `detail` is for the log.
    """

    code: int | None
    reason: str = ""
    detail: str = ""


class GiveUp(Exception):
    """A session cannot go on. What `Close` says of it."""

    def __init__(self, code: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.reason = reason
        self.detail = detail

    @classmethod
    def short_of_memory(cls) -> GiveUp:
        return cls(1013, "TooManyConcurrentRequests", "memory for arguments is short")


Command = Send | RunMutation | RunAction | Verify | Update | AwaitRepeats | Close
