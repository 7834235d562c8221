"""Which file builds which facade."""

from __future__ import annotations

from typing import Final

from sandbox.facades import math_, random_, time_
from sandbox.facades.base import Builder

BUILDERS: Final[dict[str, Builder]] = {
    "math": math_.build,
    "random": random_.build,
    "time": time_.build,
}
