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

from bisect import bisect_left
from typing import Final

import attrs

ZONE_ROWS: Final = 16
GROUP_ZONES: Final = 64
ZONES_MAX: Final = 65_536  # of a view, some 10 MiB; beyond it all is learnt anew
FOREVER: Final = 2**64 - 1

Times = tuple[int, int]  # the earliest begin, the latest end


@attrs.define(eq=False)
class Track:
    """The zones of all scans that begin at one place and go one way."""

    is_reverse: bool
    ends: list[bytes] = attrs.field(factory=list, init=False)  # the last row of each zone
    _times: list[Times] = attrs.field(factory=list, init=False)
    _groups: list[Times] = attrs.field(factory=list, init=False)  # of whole groups of zones

    def add(self, end: bytes, times: Times) -> None:
        """Note the zone behind the last one."""
        self.ends.append(end)
        self._times.append(times)
        if len(self._times) % GROUP_ZONES == 0:
            group = self._times[-GROUP_ZONES:]
            self._groups.append((min(begin for begin, _ in group), max(until for _, until in group)))

    def zone_at(self, position: bytes) -> int:
        """Return the first zone that does not end before `position`; one too many if there is none."""
        if not self.is_reverse:
            return bisect_left(self.ends, position)
        return bisect_left(range(len(self.ends)), True, key=lambda place: self.ends[place] <= position)

    def visible_from(self, zone: int, ts: int) -> int:
        """Return the first zone from `zone` on in which a row may be there at `ts`; one too many if none."""
        while zone < len(self._times):
            group, is_inside = divmod(zone, GROUP_ZONES)
            if not is_inside and group < len(self._groups) and not _may_show(self._groups[group], ts):
                zone += GROUP_ZONES
            elif _may_show(self._times[zone], ts):
                return zone
            else:
                zone += 1
        return zone


def _may_show(times: Times, ts: int) -> bool:
    return times[0] <= ts < times[1]


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
