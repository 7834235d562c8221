"""Places: which line of somebody's code each read and each write of a transaction came from.

Kept only when asked for (`Transaction.trace_places`), for reports on conflicts and for
following a value back to the line that wrote it. What a place is, the caller says:
a file and a line. Nothing else of a transaction depends on it; its reads, writes and
usage are the same with it and without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import attrs
import msgspec

from storage.keys import Interval
from storage.layout import BY_ID, index_id_of
from storage.read_set import IndexKey, OpenInterval, Recorder
from tidewell.errors import InvalidValue

Place = tuple[str, int]  # file, line
Locate = Callable[[], Place | None]  # None: no code of the caller's is running

PLACES_MAX: Final = 2_000  # reads, and writes, that are kept of one transaction; the first ones


_DOCUMENTS_FIRST: Final = index_id_of(1, BY_ID)


@attrs.frozen
class WritePlace:
    table: int
    internal_id: bytes
    fields: tuple[str, ...]  # at the top of the document, that it changed; all of them for an insert
    place: Place


@attrs.frozen
class Places:
    """Where reads and writes came from, each in the order in which they happened."""

    reads: tuple[tuple[int, bytes, bytes, Place], ...] = ()  # index id, start, end of the interval
    writes: tuple[WritePlace, ...] = ()

    def of_read(self, index_id: int, key: bytes) -> Place | None:
        """Return where a key was read first."""
        for read_id, start, end, place in self.reads:
            if read_id == index_id and start <= key < end:
                return place
        return None

    def of_write(self, table: int, internal_id: bytes, field: str | None = None) -> Place | None:
        """Return where a document, or a field of it, was written last."""
        for write in reversed(self.writes):
            if (write.table, write.internal_id) == (table, internal_id) and (
                field is None or field in write.fields
            ):
                return write.place
        return None

    def pack(self) -> bytes:
        numbers: dict[Place, int] = {}

        def number_of(place: Place) -> int:
            return numbers.setdefault(place, len(numbers))

        reads = [(index_id, start, end, number_of(place)) for index_id, start, end, place in self.reads]
        writes = [
            (write.table, write.internal_id, write.fields, number_of(write.place)) for write in self.writes
        ]
        return _packer.encode((list(numbers), reads, writes))

    @classmethod
    def unpack(cls, data: bytes) -> Places:
        """Return the places in `data`, which may come from an untrusted process.

        Raises:
          InvalidValue: malformed.
        """
        try:
            places, reads, writes = _unpacker.decode(data)
            return cls(
                tuple((index_id, start, end, places[number]) for index_id, start, end, number in reads),
                tuple(
                    WritePlace(table, name, fields, places[number]) for table, name, fields, number in writes
                ),
            )
        except (msgspec.DecodeError, UnicodeError, RecursionError, IndexError) as error:
            raise InvalidValue("places", f"malformed bytes: {error}") from None


_Name = Annotated[str, msgspec.Meta(max_length=1_024)]
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**31)]
_Bounded = msgspec.Meta(max_length=PLACES_MAX)
_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(
    tuple[
        Annotated[list[tuple[_Name, _Number]], msgspec.Meta(max_length=2 * PLACES_MAX)],
        Annotated[list[tuple[int, bytes, bytes, _Number]], _Bounded],
        Annotated[list[tuple[int, bytes, tuple[_Name, ...], _Number]], _Bounded],
    ]
)


@attrs.define
class PlacedRecorder(Recorder):
    """A recorder that remembers for each read of documents where it was asked for first."""

    locate: Locate = attrs.field(kw_only=True)
    _placed_points: set[IndexKey] = attrs.field(factory=set, init=False)
    _placed: list[tuple[OpenInterval | None, IndexKey, Place]] = attrs.field(factory=list, init=False)

    def add_point(self, index_id: int, key: bytes) -> None:
        self._points.add((index_id, key))
        # Table 0 is the catalog, which every read and write looks at; its changes are pushes.
        if index_id < _DOCUMENTS_FIRST or (index_id, key) in self._placed_points:
            return
        if len(self._placed) < PLACES_MAX and (place := self.locate()) is not None:
            self._placed_points.add((index_id, key))
            self._placed.append((None, (index_id, key), place))

    def add(self, index_id: int, interval: Interval) -> None:
        Recorder.add(self, index_id, interval)
        self._note(self._intervals[-1])

    def open(self, index_id: int, at: bytes) -> OpenInterval:
        interval = Recorder.open(self, index_id, at)
        self._note(interval)
        return interval

    def _note(self, interval: OpenInterval) -> None:
        if interval.index_id >= _DOCUMENTS_FIRST and len(self._placed) < PLACES_MAX:
            place = self.locate()
            if place is not None:
                self._placed.append((interval, (interval.index_id, b""), place))

    def places(self) -> tuple[tuple[int, bytes, bytes, Place], ...]:
        return tuple(
            (key[0], key[1], key[1] + b"\x00", place)
            if interval is None
            else (interval.index_id, interval.start, interval.end, place)
            for interval, key, place in self._placed
        )
