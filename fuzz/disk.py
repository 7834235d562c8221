"""The off-thread runner of a simulation: where the disk is slow, full, or loses its power.

A blocking call runs on the event loop, between two pauses. What is *synced* is
durable; between the writing and the end of the sync stands an image of the file
as it was before, and a crash in that time goes back to the image. The engine as it is
never lets anybody see the difference. One that replies before the sync does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TypeVar, TypeVarTuple

import attrs
import trio

from fuzz.faults import Faults
from storage import CommitOutcomeUnknown, DiskFull, Store
from storage.environment import DATA_FILE

T = TypeVar("T")
Args = TypeVarTuple("Args")


class PowerLost(Exception):
    """The machine stopped in the middle of a call."""


@attrs.define(eq=False)
class Disk:
    """The disk of one life of the engine, from its start to its crash."""

    folder: Path  # of the store
    _faults: Faults
    _random: Random
    _on_fault: Callable[[str], None]
    _lose_power: Callable[[], None]  # called for a crash that begins here
    replies_before_sync: bool = False  # a planted bug
    is_full: bool = False
    is_faulty: bool = True  # False once faults are over
    _unsynced: list[Path] = attrs.field(factory=list)  # images, oldest first
    _images: int = 0
    _off: trio.Event = attrs.field(factory=trio.Event)

    @property
    def is_off(self) -> bool:
        return self._off.is_set()

    def power_off(self) -> None:
        """Stop everything that is under way here; nothing is written from now on."""
        self._off.set()

    def settle(self) -> None:
        """After a crash and the closing of the file: go back to what was synced."""
        if self._unsynced:
            shutil.copyfile(self._unsynced[0], self.folder / DATA_FILE)
        for image in self._unsynced:
            image.unlink()
        self._unsynced.clear()

    async def run_blocking(self, call: Callable[[*Args], T], /, *args: *Args) -> T:
        """Implements `engine.offload.RunBlocking`."""
        is_commit = isinstance(getattr(call, "__self__", None), Store)
        await self._pause(0.3)
        if is_commit:
            self._maybe_refuse()
            if self._happens(self._faults.crash_in_commit):
                self._crash("crash before the commit point")
            if self._happens(self._faults.outcome_unknown):
                self._unknown("and the commit did not happen")
        image = self._take_image() if is_commit else None
        result = call(*args)
        if image is not None and self.replies_before_sync:
            trio.lowlevel.spawn_system_task(self._sync_later, image)
            return result
        if image is not None:
            self._drop(image)
        if is_commit and self._happens(self._faults.crash_in_commit):
            self._crash("crash after the commit point")
        if is_commit and self._happens(self._faults.outcome_unknown):
            self._unknown("and the commit did happen")
        await self._pause(0.7)
        return result

    async def _pause(self, share: float) -> None:
        if self.is_off:
            raise PowerLost
        delay_s = self._faults.sync_delay_s * share * self._random.expovariate(1)
        with trio.move_on_after(delay_s):
            await self._off.wait()
            raise PowerLost

    async def _sync_later(self, image: Path) -> None:
        with trio.move_on_after(self._faults.sync_delay_s * self._random.expovariate(1)):
            await self._off.wait()
            return
        self._drop(image)

    def _happens(self, share: float) -> bool:
        return self.is_faulty and self._random.random() < share

    def _maybe_refuse(self) -> None:
        if self.is_full and self.is_faulty:
            self._on_fault("commit refused, disk full")
            raise DiskFull("no room to write on the simulated disk; free some and retry")
        if self._happens(self._faults.commit_refused):
            self._on_fault("commit refused once")
            raise DiskFull("no room to write on the simulated disk; free some and retry")

    def _crash(self, what: str) -> None:
        self._on_fault(what)
        self._lose_power()
        raise PowerLost

    def _unknown(self, what: str) -> None:
        self._on_fault(f"commit outcome unknown, {what}")
        raise CommitOutcomeUnknown(f"the outcome of a commit is unknown; restart and recover ({what})")

    def _take_image(self) -> Path | None:
        if not self.replies_before_sync:
            return None  # the pauses before and after a commit stand for its sync; no image can be seen
        self._images += 1
        image = self.folder / f"image-{self._images}"
        shutil.copyfile(self.folder / DATA_FILE, image)
        self._unsynced.append(image)
        return image

    def _drop(self, image: Path) -> None:
        if image in self._unsynced:
            # A sync makes everything written before it durable too.
            place = self._unsynced.index(image)
            for older in self._unsynced[: place + 1]:
                older.unlink()
            del self._unsynced[: place + 1]
