"""The query set of one session: what it subscribes to, and what it was last sent.

The session asks it to take in changes as they arrive and to apply them when an
update begins; in between, what is applied stays as it is.

Invariants:

* `received` is the version of the last message taken in, and the changes up to
  it are either applied or pending, in order.
* Every applied subscription has an open watch, or was refused for good.
* `last_sent` is what the client holds for that query; None until it holds anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs

from engine.backend import Call, Failure, Identity, QueryOutcome, Watch
from engine.failures import invalid_arguments, request_id_of, unknown_function
from tidewell.errors import InvalidValue
from tidewell.protocol import Add, ModifyQuerySet, Remove
from tidewell.refs import canonical_path
from tidewell.values import Value, from_wire


class OutOfContract(Exception):
    """The client broke the protocol in a way that it would repeat."""


class QuerySource(Protocol):
    """The part of a backend that a session asks without waiting."""

    @property
    def head_ts(self) -> int: ...

    @property
    def redacted(self) -> bool: ...

    def newest_success(self, session_id: str) -> tuple[int, int] | None: ...

    def watch(
        self, call: Call, journal: str | None, doorbell: Callable[[], None], *, min_interval_s: float = 0.0
    ) -> Watch: ...


def read_call(udf_path: str, args: list[Any], component_path: str | None) -> tuple[str, Value] | Failure:
    """Return canonical path and arguments, or the failure that answers such a call.

    A call that cannot be read is answered like one that threw: `FatalError`
    would end an npm client for good, over one bad argument.
    """
    path = canonical_path(udf_path)
    if path is None or component_path:
        return unknown_function(udf_path)
    read = args if isinstance(args, ReadArgs) else ReadArgs(args)
    return (path, read[0]) if read.problem is None else invalid_arguments(read.problem)


class ReadArgs(list[Any]):
    """The arguments of a call as a canonical value, the only element, or why they are none."""

    def __init__(self, args: list[Any]) -> None:
        super().__init__()
        self.problem: str | None = None
        if len(args) != 1 or type(args[0]) is not dict:
            self.problem = "args: expected an array that holds one object"
            return
        try:
            self.append(from_wire(args[0], "args"))
        except InvalidValue as error:
            self.problem = str(error)


@attrs.define(eq=False)
class Subscription:
    query_id: int
    request_id: str
    target: tuple[str, Value] | Failure
    journal: str | None
    min_interval_s: float = 0.0
    watch: Watch | None = None
    last_sent: tuple[bytes, str | None] | None = None

    @property
    def refused(self) -> Failure | None:
        return self.target if isinstance(self.target, Failure) else None

    @property
    def is_stale(self) -> bool:
        if self.watch is None:
            return self.last_sent is None
        return self.last_sent is None or not self.watch.is_current

    def watch_as(self, identity: Identity, source: QuerySource, doorbell: Callable[[], None]) -> None:
        """Watch the query under `identity`, in place of the former one."""
        if isinstance(self.target, Failure):
            return
        path, args = self.target
        former = self.watch
        call = Call(path, args, identity, self.request_id, "socket")
        self.watch = source.watch(call, self.journal, doorbell, min_interval_s=self.min_interval_s)
        if former is not None:
            former.close()

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None

    def note(self, outcome: QueryOutcome) -> bool:
        """Take in an outcome. True if the client has to be sent it."""
        self.journal = outcome.journal
        sent = (outcome.digest, outcome.journal)
        is_news = sent != self.last_sent
        self.last_sent = sent
        return is_news


@attrs.define(eq=False)
class QuerySet:
    _source: QuerySource
    _doorbell: Callable[[], None]
    _size_max: int
    received: int = attrs.field(default=0, init=False)
    _pending: list[Add | Remove] = attrs.field(factory=list, init=False)
    _ids: set[int] = attrs.field(factory=set, init=False)  # once everything pending is applied
    _applied: dict[int, Subscription] = attrs.field(factory=dict, init=False)

    @property
    def size(self) -> int:
        """Return the number of subscriptions, counting the changes that wait."""
        # Removals wait too: without a limit, adding and removing would pile up.
        return len(self._applied) + len(self._pending)

    def modify(self, message: ModifyQuerySet) -> bool:
        """Take in a change. False if the set would grow past its limit. Raises `OutOfContract`."""
        if message.base_version != self.received:
            raise OutOfContract(
                f"ModifyQuerySet is based on version {message.base_version}, "
                f"the query set is at {self.received}"
            )
        if message.new_version <= message.base_version:
            raise OutOfContract(f"ModifyQuerySet goes from {message.base_version} to {message.new_version}")
        for change in message.modifications:
            if isinstance(change, Remove):
                if change.query_id not in self._ids:
                    raise OutOfContract(f"Remove of unknown query {change.query_id}")
                self._ids.remove(change.query_id)
            else:
                if change.query_id in self._ids:
                    raise OutOfContract(f"Add of query {change.query_id}, which is there already")
                self._ids.add(change.query_id)
        self.received = message.new_version
        self._pending += message.modifications
        return self.size <= self._size_max

    def apply(self, identity: Identity, is_new_identity: bool, session_key: str) -> list[int]:
        """Apply what is pending, under `identity`. Returns the ids that are gone."""
        changes, self._pending = self._pending, []
        if is_new_identity:
            gone = {change.query_id for change in changes if isinstance(change, Remove)}
            for query_id, subscription in self._applied.items():
                if query_id not in gone:
                    subscription.watch_as(identity, self._source, self._doorbell)
        removed = []
        for change in changes:
            if isinstance(change, Remove):
                self._applied.pop(change.query_id).close()
                removed.append(change.query_id)
            else:
                subscription = Subscription(
                    change.query_id,
                    request_id_of(session_key, f"q{change.query_id}"),
                    read_call(change.udf_path, change.args, change.component_path),
                    change.journal,
                    (change.min_interval_ms or 0) / 1000,
                )
                self._applied[change.query_id] = subscription
                subscription.watch_as(identity, self._source, self._doorbell)
        return [query_id for query_id in dict.fromkeys(removed) if query_id not in self._applied]

    def stale(self) -> list[Subscription]:
        """Return the subscriptions whose outcome the client may not hold."""
        return [subscription for subscription in self._applied.values() if subscription.is_stale]

    def close(self) -> None:
        for subscription in self._applied.values():
            subscription.close()
        self._applied.clear()
        self._ids.clear()
        self._pending.clear()
