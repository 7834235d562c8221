"""The call that is debugged: what its record and its code say of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from engine.showing import printable
from sandbox.frames import Module
from sandbox.tracing.shape import Touch


def lines_of(modules: Iterable[Module]) -> dict[str, tuple[str, ...]]:
    """Return the lines of each file, printable. The files hold whatever was pushed."""
    return {
        module.path: tuple(_line(line) for line in _text(module.source).split("\n")) for module in modules
    }


def _text(source: bytes) -> str:
    return source.decode(errors="replace").removeprefix("\ufeff").removesuffix("\n")


def _line(line: str) -> str:
    return printable(line.removesuffix("\r").expandtabs(4))


@attrs.frozen
class Subject:
    """See the module's text.

    Args:
      title: which call it is, for people: "commit 1795387315876259692".
      ts: its commit; 0 for an attempt that was not committed.
      steps: spent by the live run.
      lines: of each file, by its path.
      tables: names by number, as of the commit.
    """

    function: str
    title: str
    ts: int
    steps: int
    lines: Mapping[str, tuple[str, ...]]
    tables: Mapping[int, str] = attrs.field(factory=dict)

    def line(self, file: str, number: int) -> str:
        """Return a line of source; empty when there is none."""
        lines = self.lines.get(file, ())
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def describe(self, touch: Touch) -> str:
        """Return what was done to the documents, in words."""
        table = printable(touch.name) or self.tables.get(touch.table, "")
        document, text = printable(touch.document), printable(touch.text)
        where = f"{table} {document}" if table else document
        match touch.kind:
            case "count":
                return f"counted {text} documents of {table}"
            case "undo":
                return f"undid {text} writes, because the call that made them failed"
            case "missing":
                return f"read {where}: there is no such document"
            case "delete":
                return f"deleted {where}"
            case _:
                done = {"read": "read", "insert": "inserted", "replace": "wrote"}[touch.kind]
                return f"{done} {where} {text}"
