"""What the wire sees of a deployment: the calls it can make and how they end.

The sessions and the HTTP API are written against `Backend` and nothing else,
so they can be run on a fake deployment and the deployment without a socket.

Invariants a backend keeps:

* A developer's error never raises: it is the `failure` of an outcome. What
  raises is `BackendFault`, and then the call has no outcome at all.
* `head_ts` never falls, and every snapshot up to it that is still retained can
  be read. When `mutate` returns, `head_ts` has reached the outcome's `ts`.
* A doorbell that rang says "perhaps", one that did not says "certainly not":
  while it stays silent, the watch's last outcome is the outcome at `head_ts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, Protocol

import attrs

from tidewell.values import Value

if TYPE_CHECKING:
    from engine.explain import Explained

Origin = Literal["socket", "http", "internal", "cli", "request"]  # the last is of HTTP actions
Kind = Literal["query", "mutation", "action"]


class Absent(Enum):
    """The type of `ABSENT`: no data at all, where None would be data."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = Absent.ABSENT


@attrs.frozen
class Identity:
    """Who calls. `claims` are the keys of `get_user_identity()`; None is anonymous.

    `admin` may call internal functions, and with claims it acts as that user.
    """

    claims: Mapping[str, Value] | None = None
    admin: bool = False


ANONYMOUS: Final = Identity()


@attrs.frozen
class Call:
    """One call of one function, as the engine runs it."""

    path: str  # canonical: "dir/module:function"
    args: dict[str, Value]  # canonical values
    identity: Identity
    request_id: str  # 16 lower-case hex digits
    origin: Origin
    parent: str = ""  # execution id of the action that makes the call
    parent_call: int = 0  # which of the action's calls this is, from 1


@attrs.frozen
class Failure:
    """An error that the caller is told about.

    `message` is what follows line 1 of the error text: the message line and one
    line per frame, each ended by a newline. `data` is the payload of an
    application error, and ABSENT for every other one.
    """

    message: str
    data: Value | Absent = ABSENT
    kind: str = "Developer"  # an error code (`ArgumentValidation`, ...) or "System"
    transient: bool = False  # nothing was done, and trying again may succeed


@attrs.frozen
class QueryOutcome:
    """A query's result at `ts`. Equal digests mean there is nothing new to send.

    `value_json` is the value as wire JSON, encoded once for all who watch; it is
    b"null" beside a failure. The digest covers value, log lines and failure.
    """

    ts: int
    value: Value
    value_json: bytes
    log_lines: tuple[str, ...]
    journal: str | None
    failure: Failure | None
    digest: bytes


@attrs.frozen
class MutationOutcome:
    ts: int  # of the commit; of the snapshot when nothing was written
    value: Value
    value_json: bytes
    log_lines: tuple[str, ...]
    failure: Failure | None


@attrs.frozen
class ActionOutcome:
    value: Value
    value_json: bytes
    log_lines: tuple[str, ...]
    failure: Failure | None


@attrs.define(eq=False)
class BackendFault(Exception):
    """The engine could not give an outcome. `code` is short CamelCase, fit for a close reason."""

    code: str
    message: str
    transient: bool

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Watch(Protocol):
    """One subscription's interest in one query, with the journal of its last outcome."""

    @property
    def is_current(self) -> bool:
        """Whether the last outcome is known to be the outcome at `head_ts`; False before the first."""

    def close(self) -> None:
        """End the interest. The doorbell does not ring again."""


class Backend(Protocol):
    """A deployment."""

    @property
    def head_ts(self) -> int:
        """The newest durable commit; 0 when there is none."""

    @property
    def redacted(self) -> bool:
        """Whether error texts and log lines are kept from clients (production)."""

    def kind_of(self, path: str) -> Kind | None:
        """The kind of the function at a canonical path, public or internal; None if there is none."""

    async def query(self, call: Call, *, ts: int | None = None) -> QueryOutcome:
        """Run a query at `ts`, or at the newest snapshot."""

    async def explain(self, call: Call) -> Explained:
        """Run a query at the newest snapshot, and say what the cache had for it."""

    async def mutate(self, call: Call, *, idempotency: tuple[str, int] | None = None) -> MutationOutcome:
        """Run a mutation to its durable commit.

        `idempotency` is (session id, request id); under a key that has a recorded
        success nothing runs, and the recorded outcome is returned with its own `ts`.
        """

    def newest_success(self, session_id: str) -> tuple[int, int] | None:
        """The newest request of a session with a recorded success: its id and its `ts`."""

    async def act(self, call: Call) -> ActionOutcome:
        """Run an action."""

    def watch(
        self, call: Call, journal: str | None, doorbell: Callable[[], None], *, min_interval_s: float = 0.0
    ) -> Watch:
        """Register an interest, without waiting.

        `doorbell` is called whenever a commit may have changed the outcome, from
        the event loop; it returns at once and never raises. Not within `min_interval_s`
        after an evaluation, though: what happens in it is rung for once, when it is over.
        """

    async def evaluate(self, watches: Sequence[Watch], ts: int) -> list[QueryOutcome]:
        """The outcomes of `watches`, in their order, all as of `ts`.

        What did not change is not run again, and a query that many watch runs once.
        Each outcome's journal becomes its watch's.
        """
