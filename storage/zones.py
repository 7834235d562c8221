"""Zones: what is known of the rows of a view, so that old snapshots need not read all of them.

A snapshot from long ago reads an index among entries that had ended before it and entries
that came after it. The head of a queue as of last week lies behind everything that had been
taken out by then; the newest posts of last week lie behind all later ones. Whoever replays a
log asks for thousands of such heads, one snapshot after another.

So what a scan reads is noted, sixteen rows at a time: when the first of them began and when
the last of them ended. That is true of the rows whatever the snapshot, for as long as the view
lives. A later scan passes over the zones in which nothing can have been there:

    rows            ended by 20   ended by 40   there since 5   begun at 60
    snapshot(50)    passed over   passed over   read            passed over

Invariants:

* The zones of a track lie side by side, in the order of its scans, from its beginning on.
* No row of a zone began before `begin`, and none ended after `until`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

import attrs

ZONE_ROWS: Final = 16
GROUP_ZONES: Final = 64
ZONES_MAX: Final = 65_536  # of a view, some 6 MiB, which a guest has not; beyond it all is learnt anew
FOREVER: Final = 2**64 - 1

Times = tuple[int, int]  # the earliest begin, the latest end


def _timestamps() -> array[int]:
    return array("Q")


@attrs.define(eq=False)
class Track:
    """The zones of all scans that begin at one place and go one way."""

    is_reverse: bool
    ends: list[bytes] = attrs.field(factory=list, init=False)  # the last row of each zone
    _begins: array[int] = attrs.field(factory=_timestamps, init=False)
    _untils: array[int] = attrs.field(factory=_timestamps, init=False)
    _groups: list[Times] = attrs.field(factory=list, init=False)  # of whole groups of zones

    def add(self, end: bytes, times: Times) -> None:
        """Note the zone behind the last one."""
        self.ends.append(end)
        self._begins.append(times[0])
        self._untils.append(times[1])
        if len(self.ends) % GROUP_ZONES == 0:
            self._groups.append((min(self._begins[-GROUP_ZONES:]), max(self._untils[-GROUP_ZONES:])))

    def zone_at(self, position: bytes) -> int:
        """Return the first zone that does not end before `position`; one too many if there is none."""
        if not self.is_reverse:
            return bisect_left(self.ends, position)
        return bisect_left(range(len(self.ends)), True, key=lambda place: self.ends[place] <= position)

    def visible_from(self, zone: int, ts: int) -> int:
        """Return the first zone from `zone` on in which a row may be there at `ts`; one too many if none."""
        while zone < len(self.ends):
            group, is_inside = divmod(zone, GROUP_ZONES)
            if not is_inside and group < len(self._groups):
                begin, until = self._groups[group]
                if not begin <= ts < until:
                    zone += GROUP_ZONES
                    continue
            if self._begins[zone] <= ts < self._untils[zone]:
                return zone
            zone += 1
        return zone


@attrs.define(eq=False)
class Zones:
    """All tracks of a view."""

    _tracks: dict[tuple[str, bytes, bool], Track] = attrs.field(factory=dict, init=False)
    _count: int = attrs.field(default=0, init=False)

    def track(self, database: str, start: bytes, *, reverse: bool) -> Track:
        """Return the track of scans that begin at `start`."""
        key = database, start, reverse
        found = self._tracks.get(key)
        if found is None:
            self._note_growth()
            found = self._tracks[key] = Track(reverse)
        return found

    def add(self, track: Track, end: bytes, times: Times) -> None:
        self._note_growth()
        track.add(end, times)

    def _note_growth(self) -> None:
        self._count += 1
        if self._count > ZONES_MAX:
            # A scan that is under way goes on with its track, which nobody else will find.
            self._tracks.clear()
            self._count = 0
