"""Has Hypothesis draw the same from one seed in every process.

By itself it mixes into what it draws the constants of all modules of one's own that happen
to be loaded at the time. So a seed would mean one thing in the process that found something
and another in the one that is to repeat it. There is no public switch for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis.internal.conjecture.providers


@contextmanager
def drawn_from_the_seed_alone() -> Iterator[None]:
    """Let what is drawn inside depend on no module that is loaded."""
    providers: Any = hypothesis.internal.conjecture.providers
    before = providers._get_local_constants
    nothing = providers.Constants()
    providers._get_local_constants = lambda: nothing
    providers.CONSTANTS_CACHE.cache.clear()
    try:
        yield
    finally:
        providers._get_local_constants = before
        providers.CONSTANTS_CACHE.cache.clear()
