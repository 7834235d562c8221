"""The nested calls of a mutation, told in the order in which they began, for its record.

Of the first `NESTED_MAX` everything is told that a person asks for: which function, with
what, how it ended, and where in the trail. Later ones are counted.
"""

from __future__ import annotations

import hashlib

from sandbox.frames import NESTED_ARGS_MAX, NESTED_ERROR_MAX, NESTED_MAX, Nested
from sandbox.trail import Trail
from tidewell.errors import AppError
from tidewell.values import Value, canonical_text, pack


class NestedCalls:
    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._told: list[Nested] = []
        self.count = 0

    def begin(self, depth: int, path: str, args: dict[str, Value]) -> int | None:
        """Note that a call begins; return what to end it with."""
        event = self._trail.count
        packed = pack(args)
        self._trail.begin("call", path, _digest(packed))
        self.count += 1
        if len(self._told) == NESTED_MAX:
            return None
        fits = len(packed) <= NESTED_ARGS_MAX
        kept, digest = (packed, b"") if fits else (b"", _digest(packed))
        self._told.append(Nested(depth, path, kept, digest, b"", "", event))
        return len(self._told) - 1

    def end(self, number: int | None, value: Value) -> None:
        digest = _digest(pack(value))
        self._trail.answer(digest)
        if number is not None:
            begun = self._told[number]
            self._told[number] = Nested(
                begun.depth, begun.path, begun.args, begun.args_digest, digest, "", begun.event
            )

    def fail(self, number: int | None, error: Exception) -> None:
        text = _text(error)
        self._trail.answer(text.encode(errors="backslashreplace"))
        if number is not None:
            begun = self._told[number]
            self._told[number] = Nested(
                begun.depth, begun.path, begun.args, begun.args_digest, b"", text, begun.event
            )

    def told(self) -> list[Nested]:
        return self._told


def _text(error: Exception) -> str:
    """Return the error as the caller saw it, never empty. Runs nothing of the guest's."""
    if isinstance(error, AppError):
        data = getattr(error, "data", None)
        return f"AppError: {data if type(data) is str else canonical_text(data)}"[:NESTED_ERROR_MAX]
    return f"{type(error).__name__}: {error}"[:NESTED_ERROR_MAX]


def _digest(packed: bytes) -> bytes:
    return hashlib.sha256(packed).digest()[:16]
