"""Chance: the one place where the engine draws random bits.

Handed in beside the clock, so that a simulation can derive every seed, id and
back-off from one seed of its own. User code never draws from here: each attempt
is given 32 bytes, and its streams derive from them.
"""

from __future__ import annotations

import os
import random
from typing import Protocol


class Chance(Protocol):
    def token(self, size_bytes: int) -> bytes:
        """Unpredictable bytes, for seeds, ids and keys."""

    def uniform(self) -> float:
        """A float in [0, 1), for jitter."""


class SystemChance:
    """The operating system's entropy."""

    def __init__(self) -> None:
        self._jitter = random.SystemRandom()

    def token(self, size_bytes: int) -> bytes:
        return os.urandom(size_bytes)

    def uniform(self) -> float:
        return self._jitter.random()
