"""Where a bug can be planted: the seams of a simulated engine, left alone by default.

A plant is how a canary gets in (`fuzz/canaries.py`), so that the engine needs no
switches for bugs it does not have.
"""

from __future__ import annotations

from engine.chance import Chance
from engine.connection import Connection
from engine.deployment import Deployment
from sandbox.worker import RequestHandler


class Plant:
    """No bug at all."""

    replies_before_sync = False

    def handler(self, handler: RequestHandler) -> RequestHandler:
        """Return what runs guests in a worker."""
        return handler

    def chance(self, chance: Chance) -> Chance:
        """Return what the engine draws from."""
        return chance

    def deployment(self, deployment: Deployment) -> None:
        """Change a deployment that was put together and does not run yet."""

    def connection(self, connection: Connection) -> None:
        """Change a connection that was just opened."""


NO_PLANT = Plant()
