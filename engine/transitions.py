"""The transitions of one session: when the next one is due, and how it leaves.

The session says what has changed, what an update found, and when a finished
transition may be seen; this says when to begin an update, and keeps the versions.

Invariants (protocol, section 5 and 6):

* A transition starts where the last one ended, and no component falls.
* One update at a time. It begins only when fewer than `transitions_unsent_max`
  transitions wait to be sent; whatever happens meanwhile is one later update.
* An update is asked for whenever one is due and may begin.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs

from engine.backend import Watch
from engine.clients import Client
from engine.commands import Command, Send, SessionLimits, Update
from engine.query_set import Subscription
from tidewell import protocol
from tidewell.protocol import Version


@attrs.define(eq=False)
class Job:
    """One update: the outcomes of `watches` are wanted, all as of `ts`."""

    target: Version
    watches: tuple[Watch, ...]
    subscriptions: tuple[Subscription, ...]  # that the watches belong to, in their order
    changes: list[protocol.QueryChange]  # so far: what was removed or refused

    @property
    def ts(self) -> int:
        return self.target.ts


@attrs.define(eq=False)
class Transitions:
    _commands: deque[Command]
    _client: Client
    _nonce: str  # unique among sessions
    _limits: SessionLimits
    current: Version = attrs.field(factory=Version, init=False)
    client_clock_skew: float | None = attrs.field(default=None, init=False)
    job: Job | None = attrs.field(default=None, init=False)  # from its update's begin until it has left
    _is_finished: bool = attrs.field(default=False, init=False)  # the job, which waits for a response
    _is_dirty: bool = attrs.field(default=False, init=False)
    _is_owed: bool = attrs.field(default=False, init=False)  # even an empty one: a promise waits for it
    _is_asked: bool = attrs.field(default=False, init=False)
    _unsent: int = attrs.field(default=0, init=False)
    _is_over: bool = attrs.field(default=False, init=False)

    def invalidate(self) -> None:
        """What is watched, or who watches, may have changed."""
        self._is_dirty = True
        self.ask()

    def owe(self, ts: int) -> None:
        """See that a transition at `ts` or later leaves from now on, even an empty one."""
        self._is_owed = True
        if self.job is None or self.job.ts < ts:
            self._is_dirty = True

    def ask(self) -> None:
        """Ask for an update, if one is due and may begin."""
        if (
            self._is_dirty
            and not self._is_asked
            and self.job is None
            and self._unsent < self._limits.transitions_unsent_max
            and not self._is_over
        ):
            self._is_asked = True
            self._commands.append(Update())

    def postpone(self) -> None:
        """The update that was asked for does not begin; something that happens soon asks for it again."""
        self._is_asked = False

    def clean(self) -> None:
        """An update looks at everything now. What changes from here on is for the next one."""
        assert self.job is None
        self._is_dirty = False

    def begin(self, job: Job) -> None:
        """The update that was asked for has begun."""
        self._is_asked = False  # not earlier: a new watch may ring at once
        self.job = job

    def finish(self) -> None:
        """The job has all its changes."""
        self._is_finished = True

    def emit(self, now_ns: int, may_show: Callable[[int], bool]) -> None:
        """Let a finished transition leave, if its state may be shown."""
        job = self.job
        if job is None or not self._is_finished or not may_show(job.ts):
            return
        self.job, self._is_finished = None, False
        target, current = job.target, self.current
        is_version_new = (target.query_set, target.identity) != (current.query_set, current.identity)
        # A response that came after this job's snapshot is owed a later transition.
        is_owed = self._is_owed
        self._is_owed = self._is_dirty and is_owed
        if job.changes or is_version_new or is_owed:
            self._send(protocol.Transition(current, target, job.changes), now_ns)
            self.current = target
        self.ask()

    def sent(self) -> None:
        """A transition that was handed out has left."""
        assert self._unsent > 0
        self._unsent -= 1
        self.ask()

    def end(self) -> None:
        """Nothing leaves any more."""
        self._is_over = True
        self._is_finished = False

    def _send(self, transition: protocol.Transition, now_ns: int) -> None:
        if self.client_clock_skew is not None:
            transition = attrs.evolve(transition, client_clock_skew=self.client_clock_skew, server_ts=now_ns)
        self._unsent += 1
        data = protocol.encode_server_message(transition)
        parts = [data]
        if len(data) > self._limits.chunk_above_bytes and self._client.takes_chunks:
            name = f"{self._nonce}-{transition.end_version.ts}-{now_ns}"
            parts = protocol.split_transition(data, name, self._limits.chunk_bytes)
        for part in parts[:-1]:
            self._commands.append(Send(part))
        self._commands.append(Send(parts[-1], ends_transition=True))
