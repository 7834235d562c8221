"""A loop whose time is virtual and whose order of tasks a seed decides, instead of nobody knows what.

trio has the switch for Hypothesis's sake and offers no public name for it: with it, the tasks
that are ready are put in the order of their creation and then shuffled by a random
generator of trio's own, which is seeded here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import trio
import trio._core._run
import trio.testing

T = TypeVar("T")
Args = TypeVarTuple("Args")


class NotVirtual(RuntimeError):
    """The loop runs on a clock that cannot be driven."""


def run(main: Callable[[*Args], Awaitable[T]], *args: *Args, seed: int = 0) -> T:
    """Run an async function in virtual time, its tasks in the order of `seed`; return its result."""
    with seeded_order(seed):
        return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def virtual_time() -> Iterator[None]:
    """Have the clock of the loop that is running jump whenever nothing is left to do.

    Raises:
      NotVirtual: it runs on a clock that does not.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        raise NotVirtual(
            "a TestServer needs virtual time: use tidewell.testing.run, or autojump_clock with pytest-trio"
        )
    before, clock.autojump_threshold = clock.autojump_threshold, 0
    try:
        yield
    finally:
        clock.autojump_threshold = before


@contextmanager
def seeded_order(seed: int) -> Iterator[None]:
    """Run what trio runs inside in the order of `seed`."""
    internals: Any = trio._core._run
    before = internals._ALLOW_DETERMINISTIC_SCHEDULING
    state = internals._r.getstate()
    internals._ALLOW_DETERMINISTIC_SCHEDULING = True
    internals._r.seed(seed)
    try:
        yield
    finally:
        internals._ALLOW_DETERMINISTIC_SCHEDULING = before
        internals._r.setstate(state)
