"""Runs recorded calls again, in the workers of a pool: a run whose commit is a comparison.

Calls travel in batches, each on its own snapshot, so that a message is paid for by many and
a call that comes out differently takes no other along. As many batches are under way as
there are workers, and no more are read from the log than that: memory does not grow with
the log. Results come in the order in which they are ready.

A call that differs is run once more, alone and with its trail in words. The divergence is
that of this second run, because only of that one the words are known; one that comes out as
recorded the second time is told as such, it is the most interesting kind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import groupby
from typing import Final, TypeVar

import attrs
import msgspec
import trio

from engine.backend import BackendFault
from engine.guest_outcomes import GuestOutcome
from engine.replay.compare import aspects, explain
from engine.replay.divergence import Difference, Divergence, Replayed
from engine.replay.recorded import RecordedCall
from engine.replay.source import Source, Unreadable
from engine.runner import OUT_OF_RETENTION, BatchLost, Lost, Runner
from sandbox import frames
from sandbox.pool import Pool

BATCH_MAX: Final = 64  # calls per message, as many as the engine sends at most
BATCH_BYTES_MAX: Final = 4 * 2**20  # of arguments; a frame has room for 64 MiB
CPU_PER_CALL_S: Final = 2.0  # twice what the engine gives: fuel ends the call, not the host
WALL_S: Final = 30.0

T = TypeVar("T")


@attrs.define(eq=False)
class Replayer:
    """The pool is running. `source` stays open for as long as this is used."""

    source: Source
    _pool: Pool

    # ---- one call --------------------------------------------------------------------

    async def replay(self, recorded: RecordedCall) -> Replayed:
        """Run one call again and compare.

        Raises:
          BackendFault: no worker could be had.
        """
        wrong = self._wrong_code(recorded)
        if wrong is not None:
            return wrong
        [replayed] = await self._replay_batch([recorded])
        return replayed

    async def _replay_batch(self, batch: list[RecordedCall]) -> list[Replayed]:
        try:
            guests = await self.run(batch)
        except BackendFault as fault:
            if fault.code == OUT_OF_RETENTION:
                return await self._replay_what_is_left(batch)
            if fault.transient:
                raise
            why = Difference("code", "could be loaded", fault.message)  # by this runtime, it cannot
            return [self._result(each, 0, Divergence("code", (), None, (why,))) for each in batch]
        return [await self._compared(each, guest) for each, guest in zip(batch, guests, strict=True)]

    async def run(self, batch: list[RecordedCall], *, in_words: bool = False) -> list[GuestOutcome | Lost]:
        """Run calls that share a code version, each on its own snapshot, and return what they gave."""
        first = batch[0]
        runner = Runner(self.source, self._pool, first.production, self.source.files_table)
        calls = [calls_own(each, in_words=in_words) for each in batch]
        try:
            return await runner.run(
                first.code,
                calls,
                begin_ts=first.begin_ts,
                cpu_s=CPU_PER_CALL_S * len(batch),
                wall_s=max(WALL_S, CPU_PER_CALL_S * 2 * len(batch)),
            )
        except BatchLost:  # one of them killed the worker: they run one by one
            return [guest for each in batch for guest in await self.run([each], in_words=in_words)]

    async def _compared(self, recorded: RecordedCall, guest: GuestOutcome | Lost) -> Replayed:
        record = recorded.record
        if isinstance(guest, Lost):
            why = Difference("outcome", record.error or "returned", guest.message)
            return self._result(recorded, 0, Divergence("lost", (), None, (why,)))
        found = aspects(record, guest)
        if not found:
            return self._result(recorded, guest.steps, None)
        [again] = await self.run([recorded], in_words=True)
        is_steady = True
        if isinstance(again, GuestOutcome):
            found_again = aspects(record, again)
            is_steady = bool(found_again)
            if is_steady:
                guest, found = again, found_again
        written = None
        if recorded.entry is not None:
            written = self.source.documents(recorded.entry)
            guest = attrs.evolve(guest, writes=guest.writes.stamped(recorded.entry.ts))
        divergence = explain(record, recorded.conditions, guest, found, written)
        return self._result(recorded, guest.steps, attrs.evolve(divergence, is_steady=is_steady))

    async def _replay_what_is_left(self, batch: list[RecordedCall]) -> list[Replayed]:
        """Run a batch some of whose snapshots are gone: a server beside us moves its horizon."""
        if len(batch) == 1:
            return [self._result(batch[0], 0, Divergence("gone", (), None))]
        return [each for recorded in batch for each in await self._replay_batch([recorded])]

    def _wrong_code(self, recorded: RecordedCall) -> Replayed | None:
        if recorded.code.hash == recorded.record.code:
            return None
        difference = Difference("code", recorded.record.code, recorded.code.hash)
        return self._result(recorded, 0, Divergence("code", (), None, (difference,)))

    @staticmethod
    def _result(recorded: RecordedCall, steps: int, divergence: Divergence | None) -> Replayed:
        return Replayed(recorded.ts, recorded.record.function, steps, divergence)

    # ---- many calls ------------------------------------------------------------------

    async def replay_all(
        self,
        calls: Iterable[RecordedCall | Unreadable],
        workers: int,
        on_replayed: Callable[[Replayed], None],
    ) -> None:
        """Run calls again, `workers` batches at a time, and tell of each.

        Raises:
          BackendFault: no worker could be had.
        """

        async def replay_batch(batch: list[RecordedCall]) -> None:
            for replayed in await self._replay_batch(batch):
                on_replayed(replayed)

        def readable() -> Iterator[RecordedCall]:
            for each in calls:
                if isinstance(each, Unreadable):
                    why = Difference("record", "could be read", each.problem)
                    on_replayed(Replayed(each.ts, each.function, 0, Divergence("code", (), None, (why,))))
                elif (wrong := self._wrong_code(each)) is not None:
                    on_replayed(wrong)
                else:
                    yield each

        await side_by_side(batches(readable()), workers, replay_batch)


def calls_own(recorded: RecordedCall, *, in_words: bool = False) -> frames.Call:
    """Return the call with the snapshot it is to be run on."""
    return msgspec.structs.replace(recorded.call, begin_ts=recorded.begin_ts, in_words=in_words)


def batches(calls: Iterable[RecordedCall], *, of_one_code: bool = True) -> Iterator[list[RecordedCall]]:
    """Cut calls into batches that may share a message: neighbours, if need be of one code version."""

    def kind(recorded: RecordedCall) -> tuple[str, bool]:
        return recorded.record.code if of_one_code else "", recorded.production

    for _, neighbours in groupby(calls, key=kind):
        batch: list[RecordedCall] = []
        size = 0
        for recorded in neighbours:
            batch.append(recorded)
            size += len(recorded.record.args)
            if len(batch) == BATCH_MAX or size > BATCH_BYTES_MAX:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


async def side_by_side(items: Iterable[T], workers: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Work on `workers` items at a time; the next one is taken when somebody is free for it.

    Raises what `work` raises, the first of it.
    """
    waiting = iter(items)

    async def take_turns() -> None:
        for item in waiting:  # shared by all: each item goes to one of them
            await work(item)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(take_turns)
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        inner = inner.exceptions[0]
    return inner
