"""Every random draw of a run, derived from its seed.

Each part of a simulation draws from a stream of its own, named after it, so
that one more draw in one place does not move all the others: a seed keeps most of
its meaning while the code around it is worked on.
"""

from __future__ import annotations

import hashlib
from random import Random

import attrs


def stream(seed: int, name: str) -> Random:
    """Return the stream `name` of a run."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return Random(int.from_bytes(digest, "big"))


@attrs.frozen
class SimulatedChance:
    """Implements `engine.chance.Chance`."""

    random: Random

    def token(self, size_bytes: int) -> bytes:
        return self.random.randbytes(size_bytes)

    def uniform(self) -> float:
        return self.random.random()
