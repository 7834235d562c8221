"""What a user is told about his exception: his own files and lines, and nothing of the host.

No method of the guest is called: the message comes from the exception's plain
arguments, through the host's text routine.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Final

import attrs

from sandbox.classes import arguments_of
from sandbox.compiler import FILENAME_PREFIX
from sandbox.faults import Terminated
from sandbox.text import Texts, scrub

FRAMES_MAX: Final = 50
REPEATS_MAX: Final = 3  # equal frames shown of a recursion
MESSAGE_MAX: Final = 10_000
NAME_MAX: Final = 500  # of a class, a function, a source line: fifty frames fit into the frame of a reply
PLAIN_MAX: Final = 20  # arguments shown of an error that has no text of its own
_NAMES: Final = {"AppError": "ConvexError"}


@attrs.frozen
class Frame:
    filename: str
    line: int
    function: str
    text: str  # the source line, stripped; empty when it is withheld or unknown


@attrs.frozen
class GuestError:
    """An exception as plain data.

    Args:
      kind: name of the class.
      frames: outermost first, user code only.
    """

    kind: str
    message: str
    frames: tuple[Frame, ...]

    def text(self, *, source: bool = True) -> str:
        """Return what follows the request line: the error, then a line per frame, innermost first."""
        head = f"Uncaught {self.kind}: {self.message}" if self.message else f"Uncaught {self.kind}"
        lines = [head]
        repeats = 0
        previous: Frame | None = None
        for frame in reversed(self.frames):
            repeats = repeats + 1 if frame == previous else 0
            previous = frame
            if repeats >= REPEATS_MAX:
                continue
            lines.append(f"    at {frame.function} ({frame.filename}:{frame.line})")
            if source and frame.text:
                lines.append(f"        {frame.text}")
        return "\n".join(lines) + "\n"


def describe(error: BaseException, sources: Mapping[str, str], texts: Texts | None = None) -> GuestError:
    """Return `error` as plain data.

    Args:
      sources: text of each file by the name its author knows; pass {} to withhold source lines.
      texts: the runtime's routine. Without it only arguments that are text are shown.
    """
    kind = _kind(error)
    if isinstance(error, Terminated):
        message = error.message
    else:
        try:
            message = texts.exception(error) if texts is not None else _plain(error)
        except (Terminated, Exception):
            message = _plain(error)
    message = scrub(message)[:MESSAGE_MAX].encode(errors="replace").decode()  # half letters cannot be sent
    return GuestError(kind[:NAME_MAX], message, _frames(error.__traceback__, sources))


def _kind(error: BaseException) -> str:
    if isinstance(error, Terminated):
        return {"fuel": "OutOfFuel", "depth": "CallDepth", "memory": "OutOfMemory"}[error.kind]
    for cls in type(error).__mro__:
        if cls.__name__ in _NAMES and cls.__module__ == "tidewell.errors":
            return _NAMES[cls.__name__]
    return type(error).__name__


def _plain(error: BaseException) -> str:
    shown = arguments_of(error)[:PLAIN_MAX]
    return ", ".join(arg[:MESSAGE_MAX] if type(arg) is str else type(arg).__name__ for arg in shown)


def _frames(traceback: TracebackType | None, sources: Mapping[str, str]) -> tuple[Frame, ...]:
    found: list[Frame] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(FILENAME_PREFIX):
            filename = code.co_filename.removeprefix(FILENAME_PREFIX)
            line = traceback.tb_lineno
            lines = sources.get(filename, "").splitlines()
            text = lines[line - 1].strip()[:NAME_MAX] if 0 < line <= len(lines) else ""
            found.append(Frame(filename, line, _function(code.co_name)[:NAME_MAX], text))
        traceback = traceback.tb_next
    if len(found) > FRAMES_MAX:
        half = FRAMES_MAX // 2
        found = found[:half] + found[-half:]
    return tuple(found)


def _function(name: str) -> str:
    return name.strip("<>")
