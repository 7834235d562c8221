"""Handles: how a snapshot gets at a view, which may be another one each time."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import attrs

from storage.environment import Environment, ReaderEnvironment, View, retell


class Handle(Protocol):
    """Gives a view that is valid inside a `with` block, each time the newest the handle has."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def close(self) -> None: ...


@attrs.define(eq=False)
class LocalHandle:
    """A long-lived read transaction inside the writer's process, begun anew when the map moves."""

    _environment: Environment
    _view: View | None = None
    _generation: int = -1

    def __enter__(self) -> View:
        environment = self._environment
        environment.gate.acquire()
        try:
            if self._view is None or self._generation != environment.generation:
                self._view = environment.begin()
                self._generation = environment.generation
            return self._view
        except BaseException:
            environment.gate.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environment.gate.release()
        retell(self._environment.path, error)

    def close(self) -> None:
        with self._environment.gate:
            if self._view is not None and self._generation == self._environment.generation:
                self._view.txn.abort()
            self._view = None


class Shared:
    """The reader's own view as a snapshot's handle. Closing a snapshot leaves the view alone."""

    __slots__ = ("__weakref__", "_environment")

    def __init__(self, environment: ReaderEnvironment) -> None:
        self._environment = environment

    def __enter__(self) -> View:
        return self._environment.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environment.__exit__(kind, error, trace)

    def close(self) -> None:
        """Nothing to end: the next snapshot reads from the same view."""
