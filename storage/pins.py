"""Pins: how the writer's process protects readers that take no part in LMDB's locks."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

import attrs

from storage.errors import Timestamp

if TYPE_CHECKING:
    from storage.environment import Environment, View


@attrs.define(eq=False)
class Pin:
    """Keeps the pages of one LMDB transaction, and of all later ones, from being reused.

    If the map has to grow while a pin is held, the pin is `lost`: what an unlocked reader read
    under it since then may be garbage, so its reply must be thrown away and the reader replaced.
    """

    txn_id: int
    head_ts: Timestamp
    _environment: Environment
    view: View | None  # never read from, so that it may outlive a move of the map
    lost: bool = False

    def release(self) -> None:
        if self.view is not None:
            self._environment.release(self)

    def __enter__(self) -> Pin:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
