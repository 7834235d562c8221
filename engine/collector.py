"""How often the engine's process looks for garbage in cycles.

A full collection stops the event loop for as long as it takes to visit every object, half a
second with three thousand idle sockets. Python's own limits are made for small programs: they
look again whenever a quarter has been added, and a commit that reaches many sockets at once
adds that in passing. So look less often. What closed sockets leave behind waits a little
longer: at most `YOUNG * 100` objects, some hundred megabytes, or a quarter of all there is.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 20_000  # objects that are added between two looks at the youngest


def spare_the_event_loop() -> None:
    """Set this process up for serving. What is there already counts as being there for good."""
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
