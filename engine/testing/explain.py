"""What an invariant that failed has to say: its source line, and what its names stood for."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

TEXT_MAX: Final = 200  # of a value
NAMES_MAX: Final = 5


def explain(check: Callable[..., Any], error: Exception | None) -> str:
    """Return why `check` says no, in a few lines; `error` is None for one that returned False."""
    if error is None:
        return "returned False"
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frame, line = _where(check, error)
    if frame is None:
        return told
    code = frame.f_code
    lines = [told, f"  {_near(code.co_filename)}:{line}: {linecache.getline(code.co_filename, line).strip()}"]
    shown = [(name, value) for name, value in frame.f_locals.items() if _is_worth_showing(name, value)]
    lines += [f"  {name} = {_short(value)}" for name, value in shown[-NAMES_MAX:]]
    return "\n".join(lines)


def _where(check: Callable[..., Any], error: Exception) -> tuple[FrameType | None, int]:
    """Return the innermost frame in the file of `check`, and the line it was at."""
    own = getattr(getattr(check, "__code__", None), "co_filename", None)
    found: tuple[FrameType | None, int] = (None, 0)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == own:
            found = (trace.tb_frame, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _near(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _is_worth_showing(name: str, value: object) -> bool:
    if not name.isidentifier() or name.startswith("_"):  # pytest's own start with @
        return False
    return type(value) in (type(None), bool, int, float, str, bytes, list, dict, set)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 3] + "..."
