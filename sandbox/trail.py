"""The trail of a mutation: a few bytes for each thing it did with its database, in order.

What a record compares when a call is run again. Digests of the read set and of the
result say *that* two runs differ; the trail says *where* that began. An event is what
was asked (a read, a write, a call of another function), what had been answered when
the next one was asked, and the step at which it was asked, five bytes in all:

    request:2   CRC of the operation and its arguments, cut
    answer:2    CRC of all documents handed out so far, cut: the database keeps it running
    step:1      the steps used so far, cut

Equal requests with another answer are another read; another request after equal
answers is another branch. One event in 65,536 is taken for its like by accident, and then
the next one gives it away, since answers are summed up.

The first `EVENTS_WHOLE` events are kept as they are. After that a sum of all later ones is
kept whenever their number has doubled: a trail stays small, and a place in a long run is
known to within a factor of two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final
from zlib import crc32

from sandbox.compiler import FILENAME_PREFIX
from sandbox.frames import TRAIL_TEXT_MAX, Seen
from sandbox.passing import PassingDatabase
from sandbox.transaction import Database, Document, Usage
from tidewell.ranges import IndexRange

EVENT_BYTES: Final = 5
EVENTS_WHOLE: Final = 64
SEEN_MAX: Final = 4_096  # events told in words, when they are asked for


class Trail:
    """Collects the events of one call.

    Args:
      steps: how many steps the call has used.
      in_words: keep what each event was and where in the guest's source, too.
    """

    def __init__(self, usage: Usage, steps: Callable[[], int], *, in_words: bool) -> None:
        self._usage = usage
        self._steps = steps
        self._answers = 0  # of answers that are no documents
        self._pending: bytes | None = None  # the last event, still without its answer
        self._kept = bytearray()
        self._sum = 0
        self._seen: list[Seen] | None = [] if in_words else None
        self.count = 0

    def begin(self, operation: str, *arguments: object) -> None:
        """Note that something is asked for."""
        self._settle()
        self.count += 1
        text = repr(arguments)
        request = crc32(text.encode(errors="backslashreplace"), crc32(operation.encode()))
        self._pending = bytes((request & 0xFF, request >> 8 & 0xFF, self._steps() & 0xFF))
        if self._seen is not None and len(self._seen) < SEEN_MAX:
            file, line = _guest_line()
            shown = f"{operation}{text}".replace(",)", ")")[:TRAIL_TEXT_MAX]
            self._seen.append(Seen(operation=operation, text=shown, file=file, line=line))

    def answer(self, data: bytes) -> None:
        """Note an answer that is no document."""
        self._answers = crc32(data, self._answers)

    def _settle(self) -> None:
        if self._pending is None:
            return
        seen = self._usage.contents + self._answers
        event = self._pending[:2] + bytes((seen & 0xFF, seen >> 8 & 0xFF)) + self._pending[2:]
        self._pending = None
        if self.count <= EVENTS_WHOLE:
            self._kept += event
            return
        self._sum = crc32(event, self._sum)
        if self.count & (self.count - 1) == 0:
            self._keep_sum()

    def _keep_sum(self) -> None:
        self._kept += self._sum.to_bytes(4, "big") + b"\0"

    def finish(self) -> bytes:
        """Return the trail of a call that has ended."""
        self._settle()
        if self.count > EVENTS_WHOLE and self.count & (self.count - 1):
            self._keep_sum()
        return bytes(self._kept)

    def in_words(self) -> list[Seen]:
        return self._seen or []


class TrackedDatabase(PassingDatabase):
    """A database whose every use leaves an event."""

    __slots__ = ("_trail",)

    def __init__(self, inner: Database, trail: Trail) -> None:
        super().__init__(inner)
        self._trail = trail

    def get(self, id: str, *, for_write: bool = False) -> Document | None:  # noqa: A002  # the name in ctx.db
        self._trail.begin("get", id)
        document = self._inner.get(id, for_write=for_write)
        if document is None:
            self._trail.answer(b"none")
        return document

    def scan_rows(
        self,
        table: str,
        index: str,
        range: IndexRange,  # noqa: A002  # the field's word
        *,
        reverse: bool = False,
        start_after: bytes | None = None,
        stop_at: bytes | None = None,
    ) -> Iterator[tuple[bytes, Document]]:
        page = (start_after, stop_at) if start_after is not None or stop_at is not None else ()
        self._trail.begin("scan", table, index, range, "desc" if reverse else "asc", *page)
        return self._inner.scan_rows(
            table, index, range, reverse=reverse, start_after=start_after, stop_at=stop_at
        )

    def count(self, table: str, index: str, range: IndexRange) -> int:  # noqa: A002  # as above
        self._trail.begin("count", table, index, range)
        count = self._inner.count(table, index, range)
        self._trail.answer(b"%d" % count)
        return count

    def insert(self, table: str, body: Document, internal_id: bytes, creation_time: float) -> str:
        self._trail.begin("insert", table, body)
        document_id = self._inner.insert(table, body, internal_id, creation_time)
        self._trail.answer(f"{document_id} {creation_time}".encode())
        return document_id

    def replace(self, id: str, body: Document) -> None:  # noqa: A002  # as above
        self._trail.begin("replace", id, body)
        self._inner.replace(id, body)

    def delete(self, id: str) -> None:  # noqa: A002  # as above
        self._trail.begin("delete", id)
        self._inner.delete(id)


def _guest_line() -> tuple[str, int]:
    """Return where in the guest's source the host was called from; only host code may run in between."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        filename: str = frame.f_code.co_filename
        if filename.startswith(FILENAME_PREFIX):
            return filename.removeprefix(FILENAME_PREFIX), frame.f_lineno
        frame = frame.f_back
    return "", 0


def first_difference(recorded: bytes, now: bytes) -> tuple[int, str] | None:
    """Return where two trails part: the number of the event, from 0, and which part of it differs.

    The part is "request", "answer" or "steps"; "later" when it is in the summed part of a long
    trail, in which case the number is that of the last event known to be equal plus one; "end"
    when one of them is shorter.
    """
    whole = EVENTS_WHOLE * EVENT_BYTES
    size = min(len(recorded), len(now))
    steps: tuple[int, str] | None = None
    for start in range(0, min(size, whole), EVENT_BYTES):
        one, other = recorded[start : start + EVENT_BYTES], now[start : start + EVENT_BYTES]
        if one == other:
            continue
        number = start // EVENT_BYTES
        if one[:2] != other[:2]:
            return number, "request"
        if one[2:4] != other[2:4]:
            return number, "answer"
        steps = steps or (number, "steps")
    if steps is not None and recorded[whole:] == now[whole:] and len(recorded) == len(now):
        return steps
    if min(len(recorded), len(now)) > whole and recorded[whole:] != now[whole:]:
        doublings = next(
            place
            for place, start in enumerate(range(whole, size + EVENT_BYTES, EVENT_BYTES))
            if recorded[start : start + EVENT_BYTES] != now[start : start + EVENT_BYTES]
        )
        return EVENTS_WHOLE << doublings, "later"
    if len(recorded) != len(now):
        return min(size, whole) // EVENT_BYTES, "end"
    return steps
