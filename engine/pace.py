"""Which functions are quick enough to travel together.

The reply to a message comes when its last call has ended, so a slow call holds up
its neighbours. The lanes ask here before they put calls into one message. The
answer is learned from steps, which the meter counts: unlike time they do not
depend on what else the machine does, and a simulation sees the same ones.

A function that has not run yet counts as slow, so its first call travels alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import attrs

from engine.code import CodeVersion
from sandbox.meter import FUEL_DEFAULT

QUICK_STEPS_MAX: Final = FUEL_DEFAULT // 200  # some 5 ms (function-semantics 13.8, G4)
_WEIGHT: Final = 0.2  # of the newest call in the moving average


@attrs.define(eq=False)
class Pace:
    """Average steps of the functions of the active code version. Bounded by their number."""

    _code: Callable[[], CodeVersion | None]
    _known_for: str = attrs.field(default="", init=False)  # the version that the averages belong to
    _steps: dict[str, float] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """Return how many functions are known."""
        return len(self._steps)

    def is_quick(self, path: str) -> bool:
        code = self._code()
        if code is None or path not in code.functions:
            return True  # it is answered without running anything
        return code.hash == self._known_for and self._steps.get(path, FUEL_DEFAULT) <= QUICK_STEPS_MAX

    def note(self, path: str, steps: int) -> None:
        """Take in what a call of a function took."""
        code = self._code()
        if code is None or path not in code.functions:
            return  # callers make up paths as they like
        if code.hash != self._known_for:
            self._known_for = code.hash
            self._steps.clear()
        average = self._steps.get(path, float(steps))
        self._steps[path] = (1 - _WEIGHT) * average + _WEIGHT * steps

    def note_lost(self, path: str) -> None:
        """A call of the function cost its worker's life: keep the next ones from sharing a message."""
        self.note(path, FUEL_DEFAULT)
