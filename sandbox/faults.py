"""How guest code fails on the language side: refused before it runs, or ended by a budget.

`CompileError` is the author's mistake and always carries a place. `Terminated`
is no `Exception` on purpose: a guest can name nothing above `Exception`, so no
handler of his catches it, and the meter raises it again on every further pull.
"""

from __future__ import annotations

from typing import Final, Literal

import attrs

MESSAGE_MAX: Final = 2_000
TerminationKind = Literal["fuel", "depth", "memory"]


@attrs.define(eq=False)
class CompileError(Exception):
    """Source that is not part of the language of functions.

    Args:
      message: names the construct and what to write instead.
      filename: as the author knows the file.
      line: counted from 1; 0 when the whole file is meant.
      column: counted from 1; 0 when unknown.
    """

    message: str
    filename: str
    line: int
    column: int

    def __attrs_post_init__(self) -> None:
        self.message = self.message[:MESSAGE_MAX]  # names may be as long as the file

    def __str__(self) -> str:
        return f"{self.filename}:{self.line}: {self.message}"


class Terminated(BaseException):
    """A budget is used up. The call's outcome is this, whatever the guest does with it."""

    def __init__(self, kind: TerminationKind, message: str) -> None:
        super().__init__(message)
        self.kind: TerminationKind = kind
        self.message = message
