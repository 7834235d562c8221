"""The shape of a workload, and what its check may ask."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, Protocol

import attrs

from fuzz.client import SimulatedClient
from fuzz.history import History, Request


class Model(Protocol):
    """The app in a few lines of plain Python: what one call gives when nothing else runs."""

    def apply(self, path: str, args: Mapping[str, Any]) -> Any:
        """Change the state; return the value, as JSON has it. `Refused` is a mutation that raises."""


class Refused(Exception):
    """A mutation of a model that the app answers with an error."""


class End(Protocol):
    """A run that is over."""

    @property
    def history(self) -> History: ...

    @property
    def committed(self) -> Sequence[Committed]: ...

    def query(self, path: str, ts: int | None = None, /, **args: Any) -> Any:
        """Return what a query gives at `ts`, in the end by default, as JSON has it."""


@attrs.frozen
class Committed:
    """A mutation of the commit log."""

    ts: int
    request_id: str
    path: str
    args: Mapping[str, Any]
    seed: bytes


@attrs.frozen
class Workload:
    """
    Attributes:
      files: the app.
      set_up: called once, with one client, before the faults begin.
      step: one thing that one client does; called again and again.
      check: returns what is wrong when everything is quiet.
      watched: returns the queries that a client watches, as (path, args).
      writes: whether a request that was answered with success has changed anything.
      may_fail: whether the error that a request was answered with is as it should be.
      model: makes the app's model; None when it cannot be told without document ids.
    """

    name: str
    files: Mapping[str, str]
    set_up: Callable[[SimulatedClient], Awaitable[None]]
    step: Callable[[SimulatedClient, Random], Awaitable[None]]
    check: Callable[[End], list[str]]
    watched: Callable[[Random], list[tuple[str, dict[str, Any]]]]
    model: Callable[[], Model] | None = None
    writes: Callable[[Request], bool] = lambda request: True
    may_fail: Callable[[Request], bool] = lambda request: False
