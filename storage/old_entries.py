"""Index entries as of long ago: those of `index` that are old enough, and the ended ones of the history.

Each row of the two databases says for itself when its entry was there:

    index            key                   from the timestamp in the value on
    index_history    key + until, 8 bytes  from the timestamp in the value, up to `until`

Both are read in index order, and over what can not have been there `zones.py` leads on. Nothing
reads further than it must: a chunk reaches as far as the first few ended entries do, and the
latest ones are looked for before that.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import attrs

from storage.environment import Cursor, View
from storage.errors import Timestamp
from storage.keys import Interval, successor
from storage.layout import index_prefix, read_ts
from storage.scan import LONG_BYTES, PREFIX_BYTES, RUN_BYTES, key_bounds
from storage.zones import FOREVER, ZONE_ROWS, Track

_UNTIL_BYTES = 8
Row = tuple[bytes, bytes]
Found = tuple[bytes, bytes]  # LMDB key without `until`, full key


@attrs.frozen
class OldScan:
    """A scan of an index as of `ts`, from which chunks are read one after another.

    Args:
      whole: the interval of the whole scan. Where it begins is where the zones are known from.
    """

    index_id: int
    whole: Interval
    ts: Timestamp
    is_reverse: bool

    def chunk(self, view: View, interval: Interval, size: int) -> tuple[list[bytes], Interval, bool]:
        """Return the full keys of about the first `size` entries of `interval`, a rest of `whole`.

        Also how far they reach, and whether there are none behind them.
        """
        ended, rest = self._some(view, "index_history", interval, size)
        reach = interval if rest is None else self._before(interval, rest)
        latest, rest_of_latest = self._some(view, "index", reach, size)
        if rest_of_latest is not None:
            reach = self._before(reach, rest_of_latest)
        keys = [key for key in ended + latest if reach.start <= key < reach.end]
        keys.sort(reverse=self.is_reverse)
        return keys, reach, rest is None and rest_of_latest is None

    def _before(self, interval: Interval, rest: bytes) -> Interval:
        """Return what of an interval lies before `rest`, on the way of the scan."""
        return Interval(rest, interval.end) if self.is_reverse else Interval(interval.start, rest)

    def _some(
        self, view: View, database: str, interval: Interval, size: int
    ) -> tuple[list[bytes], bytes | None]:
        """Return full keys, and where the rest of the interval begins; None if there is nothing more.

        Entries of one run, whose LMDB keys are cut, come together or not at all.
        """
        keys: list[bytes] = []
        run: bytes | None = None  # what has to be finished
        for stem, key in self._there(view, database, interval):
            if run is not None and stem[:RUN_BYTES] != run:
                break
            keys.append(key)
            if len(keys) >= size:
                if len(stem) < LONG_BYTES:
                    break
                run = stem[:RUN_BYTES]
        else:
            return keys, None
        return keys, min(keys) if self.is_reverse else successor(max(keys))

    def _there(self, view: View, database: str, interval: Interval) -> Iterator[Found]:
        """Yield the entries of an interval that were there at `ts`, in the order of their LMDB keys."""
        is_history = database == "index_history"
        low, high = key_bounds(index_prefix(self.index_id), interval)
        whole_low, whole_high = key_bounds(index_prefix(self.index_id), self.whole)
        track = view.zones.track(
            database, whole_high if self.is_reverse else whole_low, reverse=self.is_reverse
        )
        # Where a descending scan begins, rows may stand behind their place (see `_rows_before`).
        is_rest = interval.end != self.whole.end if self.is_reverse else interval.start != self.whole.start
        zone = track.zone_at(high if self.is_reverse else low) if is_rest else 0
        with view.cursor(view.dbs.index_history if is_history else view.dbs.index) as cursor:
            while True:
                zone = track.visible_from(zone, self.ts)
                if self.is_reverse:
                    rows = _rows_before(
                        cursor, track, zone, whole_high, -_UNTIL_BYTES if is_history else None
                    )
                else:
                    rows = _rows_after(cursor, track, zone, whole_low)
                stems = [key[:-_UNTIL_BYTES] if is_history else key for key, _ in rows]
                is_end = len(rows) < ZONE_ROWS or (stems[-1] < low if self.is_reverse else stems[-1] >= high)
                begins = [read_ts(value) for _, value in rows]
                untils = (
                    [read_ts(key, len(key) - _UNTIL_BYTES) for key, _ in rows]
                    if is_history
                    else [FOREVER] * len(rows)
                )
                if zone == len(track.ends) and not is_end:
                    view.zones.add(track, rows[-1][0], (min(begins), max(untils)))
                for stem, (_, value), begin, until in zip(stems, rows, begins, untils, strict=True):
                    if begin <= self.ts < until:
                        key = value[8:] or stem[PREFIX_BYTES:]
                        if low[:PREFIX_BYTES] == stem[:PREFIX_BYTES] and interval.start <= key < interval.end:
                            yield stem, key
                if is_end:
                    return
                zone += 1


def _rows_after(cursor: Cursor, track: Track, zone: int, start: bytes) -> list[Row]:
    """Return the rows of a zone, or of what is to become the next one, in ascending order."""
    found = cursor.set_range(track.ends[zone - 1] + b"\0" if zone else start)
    return list(islice(cursor.iternext(), ZONE_ROWS)) if found else []


def _rows_before(cursor: Cursor, track: Track, zone: int, start: bytes, stem_end: int | None) -> list[Row]:
    """Return the rows of a zone, or of what is to become the next one, in descending order.

    Args:
      stem_end: where the key of an entry ends in the key of its row.
    """
    found = cursor.set_range(track.ends[zone - 1] if zone else start)
    # What follows an entry in the key of its row may put it behind the start, where it does not belong.
    while not zone and found and cursor.key()[:stem_end] < start:
        found = cursor.next()
    found = cursor.prev() if found else cursor.last()
    return list(islice(cursor.iterprev(), ZONE_ROWS)) if found else []
