"""Feeds a target with bytes that Hypothesis makes, and says what is wrong with how it took them."""

from __future__ import annotations

import tracemalloc
from typing import Final

import attrs
import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from engine.testing.repeatable import drawn_from_the_seed_alone
from fuzz.outsiders.mutations import mutated
from fuzz.outsiders.targets import Feed, Target
from fuzz.watchdog import watched

EXAMPLES: Final = 200
HANG_S: Final = 300.0  # of real time for a whole hunt, which takes seconds
MEMORY_BYTES_MAX: Final = 48 * 2**20  # at any moment, besides what follows from the size
MEMORY_PER_BYTE: Final = 200


@attrs.define(eq=False)
class Finding(Exception):
    target: str
    seed: int
    data: bytes
    error: BaseException

    def __str__(self) -> str:
        return f"{self.target}, seed {self.seed}: {self.error!r} from {self.data!r}"


class TooMuchMemory(Exception):
    """A few bytes made the process take far more."""


def hunt(target: Target, seed: int, examples: int = EXAMPLES) -> None:
    """Raises:
    Finding: with the smallest bytes that do it.
    """
    last: list[bytes] = []
    samples = target.samples()

    with watched(HANG_S), drawn_from_the_seed_alone(), target.open() as feed:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )
        @hypothesis.given(st.one_of(mutated(samples), st.binary(max_size=40)))
        def feed_it(data: bytes) -> None:
            last[:] = [data]
            _feed_within_bounds(feed, data)

        for sample in samples:
            _feed_within_bounds(feed, sample)
        try:
            feed_it()
        except Exception as error:  # whatever it is: a parser says no in its own way, or has a bug
            raise Finding(target.name, seed, last[0], error) from error


def _feed_within_bounds(feed: Feed, data: bytes) -> None:
    tracemalloc.start()
    try:
        feed(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if peak > MEMORY_BYTES_MAX + MEMORY_PER_BYTE * len(data):
        raise TooMuchMemory(f"{peak:,} bytes at once for {len(data):,} bytes of input")
