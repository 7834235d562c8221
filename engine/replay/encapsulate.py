"""Making a capsule: replay the call, gather what it read, and see that the capsule replays too.

Nothing leaves this file that has not been opened and replayed. The deployment's key, which seals the
cursors and links that a result may show, never goes along: whoever has it can make links. A
call whose result shows something sealed is recorded anew with the capsule's own key.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import attrs

from engine.records import Record, with_outcome
from engine.replay.capsule import Capsule, gather
from engine.replay.compare import aspects
from engine.replay.divergence import Replayed
from engine.replay.recorded import RecordedCall, read_recorded
from engine.replay.redaction import Redaction, redact_capsule
from engine.replay.replayer import Replayer
from engine.replay.source import Source
from engine.runner import Lost
from storage import StoreError

Replaying = Callable[[Source], AbstractAsyncContextManager[Replayer]]


class CannotEncapsulate(StoreError):
    """The call does not come out as recorded, so a capsule of it would prove nothing."""


@attrs.frozen
class Made:
    capsule: Capsule
    replayed: Replayed  # the capsule itself, opened and run
    redaction: Redaction | None
    is_resealed: bool  # the record is of a run with the capsule's own key


async def encapsulate(source: Source, recorded: RecordedCall, replaying: Replaying, *, redact: bool) -> Made:
    """Return a capsule of a committed call.

    Raises:
      CannotEncapsulate: with what is in the way.
    """
    async with replaying(source) as replayer:
        [guest] = await replayer.run([recorded])
    if isinstance(guest, Lost) or aspects(recorded.record, guest):
        raise CannotEncapsulate(
            f"{recorded.ts} does not come out as recorded, so it cannot be put into a capsule; "
            f"`tidewell replay {recorded.ts}` shows how it differs"
        )
    capsule = gather(source.store, recorded, guest.reads)
    replayed = await replay_capsule(capsule, replaying)
    is_resealed = replayed.divergence is not None
    if is_resealed:
        resealed = await _recorded_anew(capsule, replaying)
        replayed = await replay_capsule(resealed, replaying)
        if replayed.divergence is not None or not _is_same_way(capsule.record, resealed.record):
            raise CannotEncapsulate(
                f"{recorded.ts} does not come out as recorded without its database; please report this"
            )
        capsule = resealed
    if not redact:
        return Made(capsule, replayed, None, is_resealed)
    redacted, redaction = redact_capsule(capsule)
    redacted = await _recorded_anew(redacted, replaying)
    return Made(redacted, await replay_capsule(redacted, replaying), redaction, is_resealed)


def _is_same_way(one: Record, other: Record) -> bool:
    """Whether two runs read the same and did as much, whatever they returned."""
    return (one.reads_digest, one.steps, one.counters, one.observed) == (
        other.reads_digest,
        other.steps,
        other.counters,
        other.observed,
    )


async def replay_capsule(capsule: Capsule, replaying: Replaying) -> Replayed:
    """Run the call of a capsule again and compare."""
    with capsule.opened() as data, Source.open(data) as source:
        async with replaying(source) as replayer:
            return await replayer.replay(read_recorded(source.store, capsule.ts, source.versions))


async def _recorded_anew(capsule: Capsule, replaying: Replaying) -> Capsule:
    """Return a capsule whose call is another one by now, with a record of that.

    Raises:
      CannotEncapsulate: it fails.
    """
    before_call = attrs.evolve(capsule, written=(), change=None)
    with before_call.opened() as data, Source.open(data) as source:
        async with replaying(source) as replayer:
            [guest] = await replayer.run([read_recorded(source.store, capsule.ts, source.versions)])
    if isinstance(guest, Lost) or guest.failure is not None:
        why = guest.message if isinstance(guest, Lost) else guest.failure.message if guest.failure else ""
        hint = "with --redact, text it takes apart is gone"
        raise CannotEncapsulate(f"the call fails on what the capsule holds; {hint}: {why.strip()}")
    return attrs.evolve(
        capsule,
        record=with_outcome(capsule.record, guest),
        written=guest.writes.stamped(capsule.ts).documents,
        change=guest.writes.catalog_change,
    )
