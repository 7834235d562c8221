"""What happened in a run, as its clients saw it, in one order.

The checkers read this and the store, and nothing of the engine's. A *step* is a
number that rises with everything noted, so "before" can be asked about any two
notes. The trace is everything that happened, the engine's side included, reduced
to a digest: two runs of one seed are the same when their digests are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

import attrs
import trio

Status = Literal["pending", "ok", "failed"]


@attrs.define(eq=False)
class Request:
    """One mutation of one client, however often it was sent; or one action, which is sent once."""

    client: str
    number: int
    request_id: str  # as records name it
    path: str
    args: dict[str, Any]
    invoked: int  # step
    status: Status = "pending"
    value: Any = None
    error: str = ""
    ts: int | None = None
    answered: int | None = None  # step of the first answer
    sockets: list[int] = attrs.field(factory=list)  # it was sent over
    answers: list[tuple[bool, Any, int | None]] = attrs.field(factory=list)

    def __str__(self) -> str:
        return f"{self.client}#{self.number} {self.path}({self.args})"


@attrs.frozen
class Query:
    path: str
    args: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, path: str, args: Mapping[str, Any]) -> Query:
        return cls(path, tuple(sorted(args.items())))


@attrs.frozen
class Shown:
    """What a client showed after one transition."""

    step: int
    client: str
    socket: int  # number of the connection it came over
    start: tuple[int, int, int]  # version: query set, identity, ts
    end: tuple[int, int, int]
    results: Mapping[Query, Any]  # value, or `Failed`

    @property
    def ts(self) -> int:
        return self.end[2]


@attrs.frozen
class Failed:
    """A query that ended in an error."""

    error: str


@attrs.define(eq=False)
class History:
    requests: list[Request] = attrs.field(factory=list)
    actions: list[Request] = attrs.field(factory=list)
    shown: list[Shown] = attrs.field(factory=list)
    complaints: list[str] = attrs.field(factory=list)  # what no run may contain, noted where it was seen
    counts: dict[str, int] = attrs.field(factory=dict)  # of faults and of what came of them
    _step: int = 0

    def step(self) -> int:
        self._step += 1
        return self._step

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


class Trace:
    """A digest of all that happened; the text as well when `path` is given."""

    def __init__(self, path: Path | None = None) -> None:
        self._hash = hashlib.sha256()
        self._file: IO[str] | None = None if path is None else path.open("w")
        self.events = 0

    def note(self, kind: str, *what: object) -> None:
        line = f"{trio.current_time():.6f} {kind} {' '.join(map(str, what))}\n"
        self._hash.update(line.encode(errors="backslashreplace"))
        self.events += 1
        if self._file is not None:
            self._file.write(line)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
