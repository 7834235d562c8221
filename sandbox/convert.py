"""Values on their way from a guest to the host: paid for, capped, copied.

What a guest hands over may share substructure, nest without end or contain
itself. The walk here charges every node at its expanded size and stops at a cap,
before `normalize` makes the canonical copy that the host goes on with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox.costs import COPY_BYTES
from tidewell.errors import InvalidValue
from tidewell.values import DEPTH_MAX, MISSING, Value, normalize

Charge = Callable[[int], None]

VALUE_BYTES_MAX: Final = 16 * 2**20  # arguments and results (function-semantics 19.2)
DOCUMENT_BYTES_MAX: Final = 2**20


def take_in(
    value: object,
    path: str,
    charge: Charge,
    *,
    bytes_max: int = VALUE_BYTES_MAX,
    depth_max: int = DEPTH_MAX,
) -> Value:
    """Return the canonical copy of a guest's value.

    Raises:
      InvalidValue: it is no value, nests too deeply, or is larger than `bytes_max`.
    """
    _pay(value, path, charge, bytes_max, depth_max)
    return normalize(value, path, depth_max)


def _pay(value: object, path: str, charge: Charge, bytes_max: int, depth_max: int) -> None:
    """Walk level by level, without recursion; a level that is over the cap ends the walk."""
    size = 0
    level: list[Any] = [value]
    for _ in range(depth_max + 1):
        charge(len(level))
        below: list[Any] = []
        text_bytes = 0
        for item in level:
            kind = type(item)
            if kind is str or kind is bytes:
                text_bytes += len(item)
            elif kind is list or kind is tuple:
                below.extend(item)
            elif kind is dict:
                below.extend(item.values())
                text_bytes += sum(len(key) for key in item if type(key) is str)
            elif hasattr(kind, "__dataclass_fields__"):
                below.extend(getattr(item, name, MISSING) for name in kind.__dataclass_fields__)
            if len(below) > bytes_max:
                break
        charge(text_bytes // COPY_BYTES)
        size += text_bytes + len(level)
        if size + len(below) > bytes_max:
            raise InvalidValue(path, f"larger than {bytes_max} bytes")
        if not below:
            return
        level = below
