"""What goes wrong in a test: by chance, at the rates of `Faults`, or once, because the test says so."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final

import attrs


@attrs.frozen
class Faults:
    """How often things go wrong by themselves. Delays are means, in virtual seconds.

    Attributes:
      worker_delay_s: for a call to reach its worker, and for its outcome to come back.
      worker_death: the share of calls whose worker dies before it runs them.
      sync_delay_s: for a commit to become durable.
      commit_refused: the share of commits that find the disk full.
    """

    worker_delay_s: float = 0.0
    worker_death: float = 0.0
    sync_delay_s: float = 0.0
    commit_refused: float = 0.0


NO_FAULTS: Final = Faults()


@attrs.define(eq=False)
class Fate:
    """Decides what fails. Everything by chance comes from one stream of the seed.

    Nothing fails by chance while `is_quiet`, as it is until the app has been pushed.
    """

    faults: Faults
    _random: Random
    is_quiet: bool = True
    _deaths: Counter[str] = attrs.field(factory=Counter)  # ordered by the test, by path
    _refusals: int = 0

    def order_deaths(self, path: str, times: int) -> None:
        self._deaths[path] += times

    def order_refusals(self, times: int) -> None:
        self._refusals += times

    def kills_worker_of(self, path: str) -> bool:
        if self._deaths[path]:
            self._deaths[path] -= 1
            return True
        return self._happens(self.faults.worker_death)

    def refuses_commit(self) -> bool:
        if self._refusals:
            self._refusals -= 1
            return True
        return self._happens(self.faults.commit_refused)

    def delay(self, mean_s: float) -> float:
        return mean_s * self._random.expovariate(1) if mean_s else 0.0

    def _happens(self, share: float) -> bool:
        return not self.is_quiet and bool(share) and self._random.random() < share
