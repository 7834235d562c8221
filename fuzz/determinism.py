"""Makes trio run tasks in an order that a seed decides, instead of one that nobody knows.

trio has the switch for Hypothesis's sake and offers no public name for it: with it, the tasks
that are ready are put in the order of their creation and then shuffled by a random
generator of trio's own, which is seeded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio._core._run


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
