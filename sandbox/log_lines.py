"""The log lines of one execution, in the form of the wire, with their caps."""

from __future__ import annotations

from typing import Final

LINES_MAX: Final = 256
LINE_BYTES_MAX: Final = 4096

_LINES_DROPPED: Final = f"[WARN] more than {LINES_MAX} log lines; the rest is left out"
_CUT: Final = "... (cut)"


class LogLines:
    def __init__(self) -> None:
        self._lines: list[str] = []
        self._count = 0

    @property
    def count(self) -> int:
        """How many lines the log has so far, those that were drained included."""
        return min(self._count, LINES_MAX + 1)

    def print(self, text: str) -> None:
        self.add("LOG", text)

    def add(self, level: str, text: str) -> None:
        self._count += 1
        if self._count > LINES_MAX:
            if self._count == LINES_MAX + 1:
                self._lines.append(_LINES_DROPPED)
            return
        line = f"[{level}] {text}"
        if len(line) > LINE_BYTES_MAX // 4 and len(encoded := line.encode(errors="replace")) > LINE_BYTES_MAX:
            line = encoded[: LINE_BYTES_MAX - len(_CUT)].decode(errors="ignore") + _CUT
        elif not line.isascii():
            line = line.encode(errors="replace").decode()
        self._lines.append(line)

    def drain(self) -> list[str]:
        """Return the lines since the last time."""
        lines, self._lines = self._lines, []
        return lines
