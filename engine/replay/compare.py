"""The comparison that takes the place of a commit.

`aspects` is asked for every replay and looks at digests; `explain` is asked for the few that
differ, with the trail of the replay in words, and says what kind of difference it is and
where it began. Pure: no store, no worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import attrs

from engine.conditions import CURRENT, Conditions
from engine.guest_outcomes import GuestOutcome
from engine.records import Record, digest
from engine.replay.divergence import Aspect, Difference, Divergence, Kind, Place
from sandbox.frames import Seen
from sandbox.trail import first_difference
from storage import DocumentWrite
from tidewell.values import canonical_text, unpack_trusted

TEXT_MAX: Final = 300  # of one side of a difference
DIFFERENCES_MAX: Final = 5  # told of one aspect
_READS: Final = frozenset({"get", "scan", "count"})


def aspects(record: Record, guest: GuestOutcome) -> tuple[Aspect, ...]:
    """Return everything in which a run differs from its record; nothing for a match."""
    raw = guest.raw
    found: list[Aspect] = []
    if (guest.failure.message if guest.failure is not None else "") != record.error:
        found.append("error")
    if digest(raw.value) != record.result:
        found.append("result")
    if digest(raw.writes) != record.writes_digest:
        found.append("writes")
    if digest(raw.reads) != record.reads_digest:
        found.append("reads")
    if raw.log_lines != record.log_lines:
        found.append("log lines")
    if raw.nested != record.nested or raw.nested_count != record.nested_count:
        found.append("nested calls")
    if raw.steps != record.steps:
        found.append("steps")
    if raw.counters != record.counters:
        found.append("counters")
    if sorted(raw.observed) != record.observed:
        found.append("observed")
    if raw.trail != record.trail:
        found.append("trail")
    return tuple(found)


@attrs.frozen
class Documents:
    """What the commit of the record wrote, for comparing it in words."""

    writes: Mapping[tuple[int, bytes], DocumentWrite]

    @classmethod
    def of(cls, writes: Iterable[DocumentWrite]) -> Documents:
        return cls({(write.table, write.internal_id): write for write in writes})


def explain(
    record: Record,
    conditions: Conditions,
    guest: GuestOutcome,
    found: tuple[Aspect, ...],
    written: Documents | None,
) -> Divergence:
    """Return the divergence of a run that differs in `found`.

    Args:
      guest: of a call that was `in_words`.
      written: what was committed; None for an attempt that was not.
    """
    kind, place = _kind_and_place(record, guest, found)
    if conditions.platform != CURRENT.platform and kind == "branch":
        kind = "platform"
    return Divergence(kind, found, place, tuple(_differences(record, guest, found, written)))


def _kind_and_place(
    record: Record, guest: GuestOutcome, found: tuple[Aspect, ...]
) -> tuple[Kind, Place | None]:
    seen = guest.raw.seen
    parted = first_difference(record.trail, guest.raw.trail)
    only_steps = set(found) <= {"steps", "trail"} and (parted is None or parted[1] == "steps")
    if parted is None:
        return ("steps" if only_steps else "branch"), _last(seen)
    number, part = parted
    if only_steps:
        return "steps", _at(seen, number)
    if part == "answer":
        event = seen[number] if number < len(seen) else None
        # What a write or a call answers is made of what the function did, not of what the store has.
        return ("read" if event is None or event.operation in _READS else "branch"), _at(seen, number)
    if part == "later":
        return "branch", attrs.evolve(_at(seen, number), is_after=True)
    if part == "end" and number >= len(seen):
        return "branch", attrs.evolve(_at(seen, number - 1), is_after=True)
    return "branch", _at(seen, number)


def _at(seen: list[Seen], number: int) -> Place:
    if number < 0:
        return Place(0, is_after=True)
    if number >= len(seen):
        return Place(number + 1)
    event = seen[number]
    return Place(number + 1, event.text, event.file, event.line)


def _last(seen: list[Seen]) -> Place:
    """Return the place of a difference that shows in no event: it began after the last one."""
    return attrs.evolve(_at(seen, len(seen) - 1), is_after=True)


def _differences(
    record: Record, guest: GuestOutcome, found: tuple[Aspect, ...], written: Documents | None
) -> Iterable[Difference]:
    raw = guest.raw
    if "error" in found:
        now = guest.failure.message if guest.failure is not None else "returned"
        yield Difference("outcome", cut(record.error or "returned"), cut(now))
    elif "result" in found:
        yield Difference("result", f"digest {record.result.hex()}", cut(canonical_text(guest.value)))
    if "writes" in found and written is not None:
        yield from write_differences(written, Documents.of(guest.writes.documents))
    if "log lines" in found:
        yield from line_differences(record.log_lines, raw.log_lines)
    if "nested calls" in found:
        yield from line_differences(
            [f"{call.path} -> {call.error or call.result.hex()}" for call in record.nested],
            [f"{call.path} -> {call.error or call.result.hex()}" for call in raw.nested],
            "nested call",
        )
    if "steps" in found:
        yield Difference("steps", str(record.steps), str(raw.steps))
    for name in sorted(record.counters) if "counters" in found else ():
        if record.counters[name] != raw.counters.get(name, 0):
            yield Difference(name, str(record.counters[name]), str(raw.counters.get(name, 0)))
    if "observed" in found:
        yield Difference("looked at", ", ".join(record.observed), ", ".join(sorted(raw.observed)))


def write_differences(written: Documents, now: Documents) -> Iterable[Difference]:
    told = 0
    for key in sorted({*written.writes, *now.writes}):
        one, other = written.writes.get(key), now.writes.get(key)
        if one == other or told == DIFFERENCES_MAX:
            continue
        told += 1
        named = one or other
        assert named is not None
        if one is None or other is None or one.body is None or other.body is None:
            yield Difference(f"write of {named.id}", _body(one), _body(other))
            continue
        before, after = unpack_trusted(one.body), unpack_trusted(other.body)
        for name in sorted({*before, *after}):
            sides = [canonical_text(side[name]) if name in side else "missing" for side in (before, after)]
            if sides[0] != sides[1]:
                yield Difference(f"{named.id} {name}", *map(cut, sides))


def _body(write: DocumentWrite | None) -> str:
    if write is None:
        return "not written"
    return "deleted" if write.body is None else cut(canonical_text(unpack_trusted(write.body)))


def line_differences(before: list[str], after: list[str], what: str = "log line") -> Iterable[Difference]:
    """Yield the first line that differs."""
    for number in range(max(len(before), len(after))):
        sides = [lines[number] if number < len(lines) else "none" for lines in (before, after)]
        if sides[0] != sides[1]:
            yield Difference(f"{what} {number + 1}", cut(sides[0]), cut(sides[1]))
            return


def cut(text: str) -> str:
    text = text.strip()
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"
